"""Who may record what, and as whom: the division of powers in the record, and that a principal is one person in it."""

from collections.abc import Mapping
from typing import Final

from .rules import BRANCHES, BY_CODE, BY_MIND, BY_PEOPLE, CODE, SCHEDULER, Json, ReportBreach, Rule, is_outside

_PERSONS: Final[Mapping[str, tuple[str, str]]] = {
    "approval.given": ("approver", "person"),
    "approval.refused": ("approver", "person"),
    "escalation.resolved": ("by", "person"),
    "emergency.ratified": ("by", "person"),
    "constitution.proposed": ("by", "person"),
    "constitution.amended": ("ratifier", "ratifier_person"),
    "key.rotated": ("by", "person"),
}
"""Where an event says which person a principal stands for."""

_ELSEWHERE: Final = frozenset({"step.reconciled"})
"""Kinds of two branches, whose own rule says who may record them."""


class Powers:
    """Checks who recorded an entry.

    Attributes:
        persons: whom each principal stands for, as the log said first.
    """

    def __init__(self, report: ReportBreach) -> None:
        self.persons: dict[str, str] = {}
        self._report = report
        self._lawful: set[tuple[str, str, str]] = set()

    def check(self, at: int, entry: Json, kind: str) -> None:
        """Report a kind that does not belong to the branch, or a recorder that does not act for it."""
        branch, principal = entry["branch"], entry["principal"]
        place = (kind, branch, principal)
        if place in self._lawful:
            return
        owner = entry["event"]["role"] if kind == "agent.degraded" else BRANCHES.get(kind, branch)
        if branch != owner:
            self._report(at, Rule.BRANCH, f"{kind} belongs to {owner}, not to {branch}.")
        elif kind in BY_PEOPLE and not (
            is_outside(principal) or (kind == "operation.requested" and principal == SCHEDULER)
        ):
            self._report(at, Rule.PERSON, f"{principal} recorded {kind} in the people's name.")
        elif kind not in _ELSEWHERE and kind not in BY_PEOPLE and not _acts(kind, branch, principal):
            self._report(at, Rule.BRANCH, f"{principal} cannot record {kind} for {branch}.")
        elif kind != "agent.degraded":
            self._lawful.add(place)

    def identify(self, at: int, kind: str, event: Json, *, quiet: bool) -> None:
        """Learn whom a principal stands for, and report it if the log said otherwise before.

        Args:
            at: the entry's index.
            kind: its kind.
            event: its event.
            quiet: whether something was reported of the entry already, which is then not said in other words.
        """
        if kind == "operation.requested":
            requester = event["requester"]
            principal, person = requester["id"], requester["person"]
        elif kind in _PERSONS:
            ident, whom = _PERSONS[kind]
            principal, person = event[ident], event[whom]
        else:
            return
        known = self.persons.setdefault(principal, person)
        if quiet:
            return
        if known != person:
            self._report(at, Rule.IDENTITY, f"{principal} stands for another person than before.")
        elif is_outside(principal) and not is_outside(person):
            self._report(at, Rule.PERSON, f"{principal} acts as a person that is none.")


def _acts(kind: str, branch: str, principal: str) -> bool:
    """Whether somebody may record a kind for the branch it belongs to, where people alone may not."""
    if kind in BY_CODE:
        return principal == CODE
    if kind in BY_MIND:
        return principal == f"agent:{branch}"
    if branch == "people":
        return not principal.startswith("agent:")
    return principal in {CODE, f"agent:{branch}"}
