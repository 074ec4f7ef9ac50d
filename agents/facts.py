"""What each branch is told: frozen records, given to a model as one canonical JSON block inside a data fence.

Text that came from systems, people or other models is only ever inside the fence. The fence is closed by a line that
carries the SHA-256 of what it holds, and inside it `<`, `>` and every invisible character are written as JSON escapes:
no text can close the fence, open another, or hide from a reader.
"""

import re
import unicodedata
from typing import Annotated, Final, Literal

from pydantic import BaseModel, BeforeValidator, Field

from operations.canonical import Digest, JsonObject, Record, canonical_record, sha256
from operations.errors import InvalidRequest
from operations.evidence import Effect
from operations.model import Direction, OperationId, PlaybookName, Request, Ruling, Words
from operations.systems import Environment, SystemKind, SystemName

TEXT_LIMIT: Final = 8000
"""Most characters of one text from a system that a model is shown; what is over is cut, and said to be."""

_UNSAFE: Final = re.compile("[\x00\ud800-\udfff]")
_FENCE: Final = re.compile(r"<data sha256=([0-9a-f]{64})>\n([^\n]*)\n</data sha256=\1>")


def _presentable(value: object) -> object:
    if not isinstance(value, str):
        return value
    text = _UNSAFE.sub("\ufffd", value)
    return text if len(text) <= TEXT_LIMIT else text[: TEXT_LIMIT - 10] + " [... cut]"


SystemText = Annotated[str, BeforeValidator(_presentable)]
"""Text from a system, a person or a model: U+0000 and lone surrogates are replaced, over 8,000 characters are cut."""


def _escaped(character: str) -> str:
    return "".join(f"\\u{unit:04x}" for unit in _utf16(character))


def _utf16(character: str) -> tuple[int, ...]:
    data = character.encode("utf-16-be")
    return tuple(int.from_bytes(data[at : at + 2], "big") for at in range(0, len(data), 2))


def _conspicuous(text: str) -> str:
    if text.isascii():
        return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("\x7f", "\\u007f")
    hidden = {"Cf", "Cc", "Co", "Cn", "Zl", "Zp"}
    return "".join(_escaped(c) if c in "<>" or unicodedata.category(c) in hidden else c for c in text)


def fenced(record: BaseModel) -> str:
    """`record` as one line of canonical JSON between data fences.

    The digest in the fence is over the canonical bytes; `<`, `>` and invisible characters are then escaped, which
    leaves the JSON value the same.

    Raises:
        ValueError: the record has no canonical form.
    """
    body = canonical_record(record)
    digest = sha256(body)
    return f"<data sha256={digest}>\n{_conspicuous(body.decode())}\n</data sha256={digest}>"


def unfenced(text: str) -> str:
    """The JSON inside the first data fence in `text`.

    Raises:
        InvalidRequest: `facts-missing`.
    """
    found = _FENCE.search(text)
    if found is None:
        raise InvalidRequest("facts-missing", "The message holds no facts.")
    return found.group(2)


class SystemFact(Record):
    """One system of the inventory, without its path, address or credentials."""

    name: SystemName
    kind: SystemKind
    environment: Environment
    tier_floor: int
    description: SystemText = ""
    part_of: SystemName | None = Field(default=None, description="the system it serves: a backup folder's database")


class PlaybookFact(Record):
    """One playbook of the catalogue, as the planner chooses among them."""

    name: PlaybookName
    summary: str
    keywords: tuple[str, ...]
    fits: tuple[SystemKind, ...]
    tier: int
    effect: Effect
    reversible: bool
    emergency: bool
    arguments_schema: JsonObject


class SopFact(Record):
    """A standard operating procedure: `id` is what a plan cites."""

    id: str
    title: str
    text: str


class ObservationFact(Record):
    """Something that was read from a system."""

    source: str
    text: SystemText


class PlannerFacts(Record):
    """What the planner is told. Only systems that the request names may be acted on."""

    branch: Literal["planner"] = "planner"
    operation: OperationId
    request: Request
    constitution: Digest
    systems: tuple[SystemFact, ...]
    playbooks: tuple[PlaybookFact, ...]
    sops: tuple[SopFact, ...] = ()
    observations: tuple[ObservationFact, ...] = ()
    history: tuple[SystemText, ...] = ()
    corrections: tuple[SystemText, ...] = Field(default=(), description="why earlier plans were sent back")


StepState = Literal["pending", "done", "failed", "skipped", "in_doubt"]


class StepFact(Record):
    """One step of the approved plan, as the executor is told."""

    number: int
    playbook: PlaybookName
    system: SystemName
    arguments: JsonObject
    why: SystemText
    optional: bool
    state: StepState = "pending"


class ExecutorFacts(Record):
    """What the executor is told."""

    branch: Literal["executor"] = "executor"
    operation: OperationId
    plan_summary: SystemText
    steps: tuple[StepFact, ...]


class StepResult(Record):
    """What came of one call of a step's tool.

    `refused`: the gate said no and nothing was done. `halted`: the crown's halt stopped everything.
    """

    step: int
    status: Literal["done", "failed", "refused", "skipped", "halted", "in_doubt"]
    summary: SystemText
    retryable: bool = False


class OutcomeFact(Record):
    """What came of one step, as the evaluator and the crown are told. `changed` is from the record, never a claim."""

    number: int
    playbook: PlaybookName
    system: SystemName
    state: StepState
    changed: bool
    reversible: bool
    summary: SystemText = ""


class CheckFact(Record):
    """One post-condition that code has evaluated."""

    step: int
    direction: Direction = Direction.DO
    name: str
    passed: bool
    expected: SystemText
    observed: SystemText


class EvaluatorFacts(Record):
    """What the evaluator is told. `execution` and `report` are the executor's outcome and account."""

    branch: Literal["evaluator"] = "evaluator"
    operation: OperationId
    request: Request
    criteria: tuple[Words, ...] = ()
    steps: tuple[OutcomeFact, ...]
    checks: tuple[CheckFact, ...]
    execution: Literal["finished", "stopped", "failed"] = "finished"
    report: SystemText = ""


class CrownStepFact(Record):
    """One step, as the crown is told: typed facts from the catalogue and the inventory."""

    number: int
    playbook: PlaybookName
    system: SystemName
    tier: int
    effect: Effect
    reversible: bool
    emergency: bool = Field(description="whether break-glass may use this playbook")
    protects: SystemName | None = Field(
        default=None, description="the system whose restorable copy this step makes, where it makes one"
    )
    optional: bool = Field(default=False, description="whether the executor may leave the step out")
    why: SystemText = ""
    blast_radius: SystemText = ""
    undo: SystemText = ""


class VerdictFact(Record):
    """The verdict as recorded."""

    passed: bool
    checks_passed: bool
    judged_passed: bool
    rollback: bool
    reasons: tuple[SystemText, ...]


class ArticleFact(Record):
    """One article of the constitution that binds the crown."""

    id: str
    title: str
    text: str


class CrownFacts(Record):
    """What the crown is told, before a plan runs (`assent`) and after it was judged (`ruling`)."""

    branch: Literal["crown"] = "crown"
    moment: Literal["assent", "ruling"]
    operation: OperationId
    request: Request
    plan_summary: SystemText
    tier: int
    steps: tuple[CrownStepFact, ...]
    outcomes: tuple[OutcomeFact, ...] = ()
    verdict: VerdictFact | None = None
    execution: Literal["finished", "stopped", "failed"] | None = None
    articles: tuple[ArticleFact, ...] = ()


def rulings(facts: CrownFacts) -> tuple[Ruling, ...]:
    """The rulings that are open to the crown now.

    Before a run: assent, veto, escalate. After it: complete only what passed, roll back only what changed and can be
    undone, else fail or escalate.
    """
    if facts.moment == "assent":
        return (Ruling.ASSENT, Ruling.VETO, Ruling.ESCALATE)
    allowed = [Ruling.FAIL, Ruling.ESCALATE]
    if facts.verdict is not None and facts.verdict.passed:
        allowed.insert(0, Ruling.COMPLETE)
    changed = [outcome for outcome in facts.outcomes if outcome.changed]
    if changed and any(outcome.reversible for outcome in changed):
        allowed.insert(0, Ruling.ROLLBACK)
    return tuple(allowed)
