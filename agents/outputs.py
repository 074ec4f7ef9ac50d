"""What each branch's model may answer: forms with words and choices, never identity, risk, time or digests.

A form has no field for what code decides. A model that claims a lower tier, another approver or a target of its own
sends an unknown field, and the form refuses it.
"""

from typing import Annotated

from pydantic import AfterValidator, ConfigDict, Field, StringConstraints

from operations.canonical import JsonObject, Record, canonical
from operations.model import PlaybookName, Ruling, Words
from operations.systems import SystemName

ARGUMENT_BYTES = 8192
"""Most bytes of canonical JSON that one step's arguments may take."""


def _bounded(value: JsonObject) -> JsonObject:
    if len(canonical(value)) > ARGUMENT_BYTES:
        raise ValueError("the arguments are too large")
    return value


Reason = Annotated[str, StringConstraints(min_length=1, max_length=500, strip_whitespace=True)]
"""One sentence for people: one to 500 characters."""
Reasons = Annotated[tuple[Reason, ...], Field(min_length=1, max_length=20, strict=False)]
"""One to twenty reasons."""
Playbooks = Annotated[tuple[PlaybookName, ...], Field(max_length=10, strict=False)]


class Form(Record):
    """Base of the forms: unknown fields are refused, scalars are not coerced, lists are accepted for tuples."""

    model_config = ConfigDict(str_max_length=4000)


class DraftStep(Form):
    """One step of a proposed plan."""

    playbook: PlaybookName = Field(description="Name of a playbook from the facts.")
    system: SystemName = Field(description="Name of a system from the facts, of a kind that the playbook fits.")
    arguments: Annotated[JsonObject, AfterValidator(_bounded)] = Field(
        default_factory=dict, description="Arguments for the playbook, by its arguments_schema. Left out: its defaults."
    )
    why: Words = Field(description="Why this step, in one sentence.")
    expected_effect: Words = Field(description="What will be true afterwards, in one sentence.")
    optional: bool = Field(default=False, description="Whether the operation still succeeds without this step.")


class PlanDraft(Form):
    """A proposed plan: steps in the order they are to run."""

    summary: Words = Field(description="What the plan does, in one sentence.")
    sop: Annotated[str, StringConstraints(max_length=100)] | None = Field(
        default=None, description="Id of the SOP that was followed, from the facts."
    )
    steps: Annotated[tuple[DraftStep, ...], Field(min_length=1, max_length=50, strict=False)]


class PlanRefusal(Form):
    """No plan: the catalogue cannot do what is asked, or the constitution forbids it."""

    reasons: Reasons = Field(description="Why no plan is proposed, one sentence each.")
    nearest: Playbooks = Field(default=(), description="Playbooks from the facts that come close, nearest first.")


class ExecutionReport(Form):
    """The executor's account of a run."""

    summary: Words = Field(description="What was done and what came of it.")
    stopped: bool = Field(description="True when the plan was not carried out to its end.")
    reasons: Annotated[tuple[Reason, ...], Field(max_length=20, strict=False)] = Field(
        default=(), description="Why it was stopped, or what the evaluator should know."
    )


class Judgement(Form):
    """The evaluator's judgment of the evidence."""

    passed: bool = Field(description="True only when every check passed and the criteria are met by the evidence.")
    rollback: bool = Field(description="True when what was changed should be undone.")
    reasons: Reasons = Field(description="Which evidence led to this, one sentence each.")


class Opinion(Form):
    """The crown's assent or ruling."""

    ruling: Annotated[Ruling, Field(strict=False)] = Field(description="One of the rulings that the facts allow now.")
    reasons: Reasons = Field(description="Which articles and facts led to this, one sentence each.")
