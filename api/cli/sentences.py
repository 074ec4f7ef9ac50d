"""What an entry of the ledger says, as one line."""

from collections import defaultdict
from datetime import datetime
from typing import Final

from api.cli.output import JsonObject

TEMPLATES: Final[dict[str, str]] = {
    "operation.requested": "asks: {description}",
    "plan.proposed": "plan {version}: {summary} (tier {tier}, approvers needed: {quorum})",
    "plan.refused": "no plan ({code}): {reasons}",
    "plan.superseded": "the plan no longer stands ({code}): {reasons}",
    "approval.given": "{approver} approves: {reason}",
    "approval.refused": "{approver} denies: {reason}",
    "approval.withdrawn": "{approver} withdraws the approval: {reason}",
    "ruling.given": "the crown rules {ruling}: {reasons}",
    "operation.approved": "everything the plan needs is there: {reasons}",
    "operation.started": "started",
    "warrant.issued": "warrant to {direction} step {step} on {system}, attempt {attempt}",
    "warrant.denied": "the gate refuses ({code}): {reasons}",
    "step.intent": "{direction} step {step}: {playbook} on {system}",
    "step.done": "{direction} step {step} is done: {summary}",
    "step.failed": "{direction} step {step} failed ({code}): {reasons}",
    "step.skipped": "step {step} is skipped: {reasons}",
    "step.in_doubt": "{direction} step {step} is in doubt: {reasons}",
    "step.reconciled": "{by} settles {direction} step {step}, happened: {happened}: {reasons}",
    "execution.finished": "execution {outcome}: {report}",
    "check.evaluated": "check {name} after {direction} step {step}, passed: {passed}: {observed}",
    "verdict.given": "verdict, passed: {passed} (checks: {checks_passed}, evaluator: {judged_passed}): {reasons}",
    "rollback.ordered": "roll back steps {steps}: {reasons}",
    "rollback.done": "rollback over, restored: {restored}: {reasons}",
    "cancel.requested": "{by} asks to stop after the step in hand: {reason}",
    "operation.cancelled": "{by} cancels: {reason}",
    "operation.expired": "expired ({code}): {reasons}",
    "operation.halted": "halted: {reasons}",
    "operation.resumed": "goes on to {to}: {reasons}",
    "escalation.resolved": "{by} decides {ruling}: {reason}",
    "agent.degraded": "the {role} model {model} failed ({code}); {fallback} answers",
    "auth.denied": "may not {action} ({code}): {reasons}",
    "auth.key_created": "a key for {subject}: {fingerprint}",
    "auth.key_revoked": "the key {fingerprint} of {subject} counts no more",
    "genesis": "the ledger begins, code {code_version}",
    "constitution.proposed": "{by} proposes constitution {proposed}: {reason}",
    "constitution.amended": "{ratifier} ratifies constitution {enacted}: {reason}",
    "emergency.ratified": "{by} ratifies the emergency: {reason}",
    "crown.halted": "{by} halts everything: {reason}",
    "crown.released": "{by} releases the halt: {reason}",
    "key.rotated": "{by} gives the log another key, {key}: {reason}",
    "witness.refused": "the witness {witness} does not cosign {size} entries ({code}): {reasons}",
    "segment.archived": "{by} archives the entries from {first} up to {end}",
    "evidence.expired": "evidence older than {days} days is deleted: {digests}",
    "personal.recorded": "the {field} of {subject} is kept outside: {commitment}",
    "personal.erased": "{by} erases what is personal about {subject}: {reason}",
    "report.stored": "{by} stores the report {report} on the entries from {first} up to {end}",
}
"""One for each kind of event; the names in braces are the event's fields."""


_EVIDENCE_ERASED: Final = "{by} erases a piece of evidence, {evidence}: {reason}"
"""An erasure that names nobody is of evidence."""


def sentence(entry: JsonObject) -> str:
    """What the entry's event says. A kind that is newer than this program is told by its name."""
    event = entry.get("event", {})
    words = defaultdict(str, {name: _word(value) for name, value in event.items()})
    if "request" in event:
        words["description"] = event["request"].get("description", "")
    text = TEMPLATES.get(str(entry.get("kind")), str(entry.get("kind")))
    if entry.get("kind") == "personal.erased" and event.get("subject") is None:
        text = _EVIDENCE_ERASED
    return " ".join(text.format_map(words).split()).removesuffix(":")


def entry_line(entry: JsonObject, *, place: bool = False) -> str:
    """One line: when, what, who, and the operation where `place` is asked for."""
    where = f"{entry['index']:>6}  {entry.get('operation') or '-':<29}  " if place else ""
    return f"{clock(entry['time'])}  {where}{entry['kind']:<20}  {entry['principal']:<17}  {sentence(entry)}"


def counted(number: int, one: str, more: str | None = None) -> str:
    """A number of things, in words that fit it."""
    return f"{number} {one if number == 1 else more or f'{one}s'}"


def clock(instant: str) -> str:
    """The time of day, in the zone of whoever watches."""
    return datetime.fromisoformat(instant).astimezone().strftime("%H:%M:%S")


def moment(instant: str | None) -> str:
    """Date and time, in the zone of whoever watches."""
    return datetime.fromisoformat(instant).astimezone().strftime("%Y-%m-%d %H:%M:%S %z") if instant else ""


def _word(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return "; ".join(str(each) for each in value)
    return str(value)
