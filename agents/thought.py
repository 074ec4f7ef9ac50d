"""What comes back from a branch: its answer, and who answered.

A branch whose model fails is answered by its fallback, visibly: `Thought.degraded` says so and triad lowers the run
mode. Without a fallback it raises `MindUnavailable`, and nothing happens.
"""

from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from operations.canonical import Digest, Record
from operations.errors import TriadError
from operations.model import Tokens

FailureCode = Literal["provider-error", "provider-timeout", "rate-limited", "invalid-output", "usage-limit"]
"""Why a model could not answer."""

T_co = TypeVar("T_co", covariant=True)


class MindUnavailable(TriadError):
    """A branch's model gave no usable answer and there was no fallback, or the fallback failed too.

    Attributes:
        model: name of the model that failed.
        code: why.
    """

    def __init__(self, model: str, code: FailureCode) -> None:
        super().__init__(f"{model} gave no usable answer: {code}")
        self.model = model
        self.code: FailureCode = code


class Degraded(Record):
    """`model` failed for the reason `code`, and `fallback` answered instead."""

    model: str
    fallback: str
    code: FailureCode


@dataclass(frozen=True, slots=True)
class Thought(Generic[T_co]):
    """One answer of one branch.

    Attributes:
        output: the form the model filled in.
        model: name of the model that answered.
        prompt: SHA-256 of the branch's prompt file.
        tokens: what all requests together used, the failed model's included; zero for the offline rules.
        degraded: set when the branch's own model failed.
    """

    output: T_co
    model: str
    prompt: Digest
    tokens: Tokens
    degraded: Degraded | None = None
