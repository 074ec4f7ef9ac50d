"""What a ledger must mean, checked entry by entry without a database: the state machine, replayed under its rules.

The plan bodies and the constitution's text stand apart as evidence. Plans may be given, and steps are then held against
them. The quorum and the assent are those that `plan.proposed` stated; whether the constitution demanded more is a
question for whoever holds its text.
"""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import NamedTuple

from operations import events as e
from operations.errors import IllegalMove
from operations.model import Branch
from operations.operation import Operation, apply_unguarded, begin, follows
from operations.stages import Stage
from storage.conduct import Case, Conduct, check_actor
from storage.entry import Entry
from storage.plans import Plans
from storage.rules import BRANCHES, BY_PEOPLE, CLOCK_TOLERANCE, OpenStep, Problem, Rule, is_outside


class _Ended(NamedTuple):
    """What is remembered of an operation that ended."""

    stage: Stage
    person: str
    emergency: bool


class Replay:
    """Reads entries in order and collects what is wrong with them.

    Memory grows with the operations under way and with the ids of operations, warrants and approvals, not with the
    entries.

    Attributes:
        problems: the breaches found, at most `limit` of them.
        found: how many breaches there were.
    """

    def __init__(
        self, origin: str, keys: Collection[str], *, plans: Mapping[str, bytes] | None = None, limit: int = 200
    ) -> None:
        self.problems: list[Problem] = []
        self.found = 0
        self._origin = origin
        self._keys = frozenset(keys)
        self._limit = limit
        self._latest: datetime | None = None
        self._constitution = ""
        self._halted = False
        self._cases: dict[str, Case] = {}
        self._ended: dict[str, _Ended] = {}
        self._conduct = Conduct(self._report, Plans(self._report, plans or {}))
        self._proposals: dict[str, e.ConstitutionProposed] = {}

    def feed(self, position: int, data: bytes) -> None:
        """Check the entry that stands at `position`."""
        try:
            entry = Entry.decode(data)
        except ValueError as error:
            self._report(position, Rule.ENTRY, f"This is {error}.")
            return
        self._place(position, entry)
        self._law(position, entry)
        self._powers(position, entry)
        if entry.event.moves:
            self._operation(position, entry)

    def open_steps(self) -> list[OpenStep]:
        """The intents whose outcome is not known at the end of what was read."""
        return [
            OpenStep(
                index=case.intents[attempt.warrant],
                operation=case.op.id,
                step=attempt.step,
                attempt=attempt.attempt,
                direction=attempt.direction,
                status="in_doubt" if attempt.status == "in_doubt" else "intended",
            )
            for case in self._cases.values()
            for attempt in case.unsettled()
            if attempt.warrant in case.intents
        ]

    def _report(self, index: int, rule: Rule, sentence: str) -> None:
        self.found += 1
        if len(self.problems) < self._limit:
            self.problems.append(Problem(index=index, rule=rule.value, sentence=sentence))

    def _place(self, at: int, entry: Entry) -> None:
        if entry.index != at:
            self._report(at, Rule.INDEX, f"The entry says it is number {entry.index}.")
        if entry.origin != self._origin:
            self._report(at, Rule.ORIGIN, "The entry belongs to another log.")
        if entry.key not in self._keys:
            self._report(at, Rule.KEY, f"The log key {entry.key} is not known.")
        if self._latest is not None and entry.time < self._latest - CLOCK_TOLERANCE:
            self._report(at, Rule.TIME, f"Time ran back by {(self._latest - entry.time).total_seconds():.3f} s.")
        self._latest = max(entry.time, self._latest or entry.time)

    def _law(self, at: int, entry: Entry) -> None:
        event = entry.event
        if isinstance(event, e.Genesis) != (at == 0):
            self._report(at, Rule.GENESIS, "The first entry, and no other, is the genesis.")
        if not self._constitution:
            self._constitution = entry.constitution
        if entry.constitution != self._constitution:
            self._report(at, Rule.CONSTITUTION, "The entry names another constitution than the one in force.")
        match event:
            case e.ConstitutionProposed():
                check_actor(self._report, at, entry, event.by)
                self._proposals[event.amendment] = event
            case e.ConstitutionAmended():
                check_actor(self._report, at, entry, event.ratifier)
                self._amendment(at, event)
            case e.CrownHalted():
                check_actor(self._report, at, entry, event.by)
                self._halted = True
            case e.CrownReleased():
                check_actor(self._report, at, entry, event.by)
                self._halted = False
            case e.EmergencyRatified():
                check_actor(self._report, at, entry, event.by)
                self._ratified(at, entry.operation or "", event)
            case _:
                pass

    def _amendment(self, at: int, event: e.ConstitutionAmended) -> None:
        proposal = self._proposals.pop(event.amendment, None)
        if proposal is None:
            self._report(at, Rule.AMENDMENT, "No open proposal of this amendment is recorded.")
        elif (proposal.previous, proposal.proposed, proposal.by, proposal.person) != (
            event.previous,
            event.enacted,
            event.proposer,
            event.proposer_person,
        ):
            self._report(at, Rule.AMENDMENT, "What came into force, or its proposer, is not what was proposed.")
        if event.proposer_person == event.ratifier_person or event.proposer == event.ratifier:
            self._report(at, Rule.AMENDMENT, "Proposer and ratifier are one person.")
        if event.previous != self._constitution:
            self._report(at, Rule.AMENDMENT, "The amendment replaces a constitution that is not in force.")
        self._constitution = event.enacted

    def _ratified(self, at: int, ident: str, event: e.EmergencyRatified) -> None:
        asked = self._ended.get(ident)
        if ident in self._cases:
            op = self._cases[ident].op
            asked = _Ended(op.stage, op.requester.person, op.request.emergency)
        if asked is None or not asked.emergency:
            self._report(at, Rule.RATIFIED, "There is no emergency of that name.")
        elif event.person == asked.person:
            self._report(at, Rule.RATIFIED, "Who asked for an emergency cannot ratify it.")

    def _powers(self, at: int, entry: Entry) -> None:
        owner = BRANCHES.get(entry.kind)
        if owner is not None and entry.branch is not owner:
            self._report(at, Rule.BRANCH, f"{entry.kind} belongs to {owner.value}, not to {entry.branch.value}.")
        if entry.branch is Branch.PEOPLE and entry.kind in BY_PEOPLE and not is_outside(entry.principal):
            self._report(at, Rule.PERSON, f"{entry.principal} recorded {entry.kind} in the people's name.")

    def _operation(self, at: int, entry: Entry) -> None:
        ident, event = entry.operation or "", entry.event
        case = self._cases.get(ident)
        if isinstance(event, e.OperationRequested):
            if case is not None or ident in self._ended:
                self._report(at, Rule.OPERATION, f"{ident} is requested a second time.")
                return
            check_actor(self._report, at, entry, event.requester.id)
            op = begin(ident, event, entry.time, entry.constitution, entry.trace)
            self._cases[ident] = Case(op)
            self._compare(at, entry, None, op)
            return
        if case is None:
            if ident in self._ended:
                self._report(at, Rule.MOVE, f"{ident} had ended as {self._ended[ident].stage.value}.")
            else:
                self._report(at, Rule.OPERATION, f"{ident} was never requested.")
            return
        before, found = case.op, self.found
        self._conduct.check(at, entry, case, halted=self._halted)
        try:
            case.op = apply_unguarded(before, event, entry.time)
        except IllegalMove as error:
            self._report(at, Rule.MOVE, f"{error}.")
        else:
            if self.found == found and not follows(before, event):
                self._report(at, Rule.MOVE, f"After what had happened, {entry.kind} could not follow.")
        self._compare(at, entry, before.stage, case.op)
        if case.op.stage is Stage.HALTED and before.stage is not Stage.HALTED:
            case.halted_from = before.stage
        if case.op.stage.terminal:
            self._end(at, case)

    def _compare(self, at: int, entry: Entry, before: Stage | None, op: Operation) -> None:
        if entry.before is not before or entry.after is not op.stage:
            self._report(at, Rule.STAGE, f"The entry's stages are not those of the replay, which is at {op.stage}.")
        if entry.seq != op.version:
            self._report(at, Rule.SEQUENCE, f"The operation's version is {op.version}, not {entry.seq}.")

    def _end(self, at: int, case: Case) -> None:
        for attempt in case.unsettled():
            self._report(at, Rule.UNRESOLVED, f"The operation ended while step {attempt.step} has no known outcome.")
        op = case.op
        self._ended[op.id] = _Ended(op.stage, op.requester.person, op.request.emergency)
        del self._cases[case.op.id]
