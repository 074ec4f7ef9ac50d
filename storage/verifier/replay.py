"""What a ledger must mean, checked entry by entry without a database: the state machine, replayed under its rules.

The rules for what belongs to no operation stand here; those for how an operation is conducted in `conduct`, for what is
held against plans in `plans`, against constitutions in `law`, against what the log said of itself before in `records`.
"""

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from .case import Case
from .conduct import Conduct
from .law import Statutes
from .plans import Plans
from .powers import Powers
from .records import Records, RootOf
from .rules import (
    CLOCK_TOLERANCE,
    Json,
    OpenStep,
    Problem,
    Remark,
    Rule,
    instant,
    is_sensible,
)
from .spelling import EntryMalformed, Reader
from .stages import MOVES, TERMINAL

LIMIT: Final = 200
"""Most breaches that are kept; all are counted."""


class _Ended(NamedTuple):
    """What is remembered of an operation that ended."""

    stage: str
    requester: str
    person: str
    emergency: bool


class Replay:
    """Reads entries in order and collects what is wrong with them.

    Memory grows with the operations under way and with the ids of operations, warrants, approvals and digests, not with
    the entries.

    Attributes:
        problems: the breaches found, at most `LIMIT` of them.
        found: how many breaches there were.
        records: what the log said about itself.
        plans: the plans that were given.
        statutes: the constitutions.
    """

    def __init__(
        self,
        origin: str,
        *,
        plans: Mapping[str, bytes] | None = None,
        constitutions: Mapping[str, bytes] | None = None,
        root_of: RootOf | None = None,
    ) -> None:
        self.problems: list[Problem] = []
        self.found = 0
        self.plans = Plans(self._report, {} if plans is None else plans)
        self.statutes = Statutes(self._report, constitutions)
        self._origin = origin
        self._latest = ""
        self._read = Reader().read
        self._cases: dict[str, Case] = {}
        self._ended: dict[str, _Ended] = {}
        self._ratifications: set[str] = set()
        self.records = Records(self._report, root_of, self._cases, self.statutes.since)
        self._powers = Powers(self._report)
        self._conduct = Conduct(self._report, self.plans, self.statutes, self._powers.persons)
        self._proposals: dict[str, Json] = {}
        self._beside: Mapping[str, Callable[[int, Json, Json], None]] = {
            "constitution.proposed": self._proposed,
            "constitution.amended": self._amended,
            "crown.halted": self._halted,
            "crown.released": self._released,
            "emergency.ratified": self._ratified,
            "cancel.requested": self._acted,
            "warrant.denied": self._denied,
            **self.records.checks,
        }

    def feed(self, at: int, data: bytes) -> None:
        """Check the entry that stands at position `at`."""
        try:
            entry = self._read(data)
        except EntryMalformed as error:
            self._report(at, Rule.ENTRY, f"This is not an entry: {error}.")
            return
        event: Json = entry["event"]
        kind: str = entry["kind"]
        before = self.found
        self._place(at, entry, kind)
        self._powers.check(at, entry, kind)
        beside = self._beside.get(kind)
        if beside is not None:
            beside(at, entry, event)
        if kind in MOVES:
            self._operation(at, entry, event, kind)
        elif "operation" in entry and kind != "emergency.ratified" and not self._heard(entry["operation"]):
            self._report(at, Rule.OPERATION, f"{entry['operation']} was never requested.")
        self._powers.identify(at, kind, event, quiet=self.found > before)

    def remarks(self) -> list[Remark]:
        """What is no breach, and somebody should know."""
        return [*self.statutes.remarks, *self.records.remarks]

    def open_steps(self) -> list[OpenStep]:
        """The intents whose outcome is not known at the end of what was read."""
        return [
            OpenStep(
                index=attempt.intent,
                operation=case.id,
                step=attempt.step,
                attempt=attempt.attempt,
                direction="do" if attempt.direction == "do" else "undo",
                status="in_doubt" if attempt.status == "in_doubt" else "intended",
            )
            for case in self._cases.values()
            for attempt in case.unsettled()
            if attempt.intent is not None
        ]

    def _report(self, index: int, rule: Rule, sentence: str) -> None:
        self.found += 1
        if len(self.problems) < LIMIT:
            self.problems.append(Problem(index, rule.value, sentence))

    def _place(self, at: int, entry: Json, kind: str) -> None:
        if entry["index"] != at:
            self._report(at, Rule.INDEX, f"The entry says it is number {entry['index']}.")
        if entry["origin"] != self._origin:
            self._report(at, Rule.ORIGIN, "The entry belongs to another log.")
        time = entry["time"]
        if time < self._latest:
            back = instant(self._latest) - instant(time)
            if back > CLOCK_TOLERANCE:
                self._report(at, Rule.TIME, f"Time ran back by {back.total_seconds():.3f} s.")
        elif is_sensible(time):
            self._latest = time
        else:
            self._report(at, Rule.TIME, "No clock says such a time.")
        if (kind == "genesis") != (at == 0):
            self._report(at, Rule.GENESIS, "The first entry, and no other, is the genesis.")
        statutes = self.statutes
        if not statutes.in_force:
            statutes.enact(at, entry["constitution"], time)
        elif entry["constitution"] != statutes.in_force:
            self._report(at, Rule.CONSTITUTION, "The entry names another constitution than the one in force.")
        self.records.place(at, entry)

    def _heard(self, ident: str) -> bool:
        return ident in self._cases or ident in self._ended

    def _acted(self, at: int, entry: Json, event: Json) -> None:
        self._conduct.act(at, entry, event["by"])

    def _denied(self, _: int, entry: Json, event: Json) -> None:
        case = self._cases.get(entry.get("operation", ""))
        if case is not None and "warrant" in event:
            self._conduct.denied(event["warrant"], case)

    def _halted(self, at: int, entry: Json, event: Json) -> None:
        self._acted(at, entry, event)
        self._conduct.halted = self._conduct.halted or entry["time"]

    def _released(self, at: int, entry: Json, event: Json) -> None:
        self._acted(at, entry, event)
        self._conduct.halted = ""

    def _proposed(self, at: int, entry: Json, event: Json) -> None:
        self._acted(at, entry, event)
        self._proposals[event["amendment"]] = event
        self.records.name(entry, event["proposed"])

    def _amended(self, at: int, entry: Json, event: Json) -> None:
        self._conduct.act(at, entry, event["ratifier"])
        proposal = self._proposals.pop(event["amendment"], None)
        if proposal is None:
            self._report(at, Rule.AMENDMENT, "No open proposal of this amendment is recorded.")
        elif (proposal["previous"], proposal["proposed"], proposal["by"], proposal["person"]) != (
            event["previous"],
            event["enacted"],
            event["proposer"],
            event["proposer_person"],
        ):
            self._report(at, Rule.AMENDMENT, "What came into force, or its proposer, is not what was proposed.")
        if event["proposer_person"] == event["ratifier_person"] or event["proposer"] == event["ratifier"]:
            self._report(at, Rule.AMENDMENT, "Proposer and ratifier are one person.")
        if event["previous"] != self.statutes.in_force:
            self._report(at, Rule.AMENDMENT, "The amendment replaces a constitution that is not in force.")
        self.statutes.enact(at, event["enacted"], entry["time"])

    def _ratified(self, at: int, entry: Json, event: Json) -> None:
        self._acted(at, entry, event)
        ident = entry.get("operation", "")
        asked = self._ended.get(ident)
        if ident in self._cases:
            asked = _ended(self._cases[ident])
        if asked is None or not asked.emergency:
            self._report(at, Rule.RATIFIED, "There is no emergency of that name.")
        elif event["person"] == asked.person or event["by"] == asked.requester:
            self._report(at, Rule.RATIFIED, "Who asked for an emergency cannot ratify it.")
        elif ident in self._ratifications:
            self.records.remarks.append(Remark(at, f"The emergency {ident} was ratified before."))
        self._ratifications.add(ident)

    def _operation(self, at: int, entry: Json, event: Json, kind: str) -> None:
        ident = entry["operation"]
        case = self._cases.get(ident)
        if kind == "operation.requested":
            self._begin(at, entry, event, case)
            return
        if case is None:
            if ident in self._ended:
                self._report(at, Rule.MOVE, f"{ident} had ended as {self._ended[ident].stage}.")
            else:
                self._report(at, Rule.OPERATION, f"{ident} was never requested.")
            return
        before, found = case.stage, self.found
        self._conduct.check(at, entry, event, case)
        after = case.next_stage(kind, event)
        if after is None:
            self._report(at, Rule.MOVE, f"The operation is {before}; {kind} is not possible.")
        else:
            if self.found == found and not case.follows(kind, event):
                self._report(at, Rule.MOVE, f"After what had happened, {kind} could not follow.")
            case.move(after, kind, event)
        self._compare(at, entry, before, case)
        if case.stage in TERMINAL:
            self._end(at, case)

    def _begin(self, at: int, entry: Json, event: Json, case: Case | None) -> None:
        ident = entry["operation"]
        if case is not None or ident in self._ended:
            self._report(at, Rule.OPERATION, f"{ident} is requested a second time.")
            return
        self._conduct.act(at, entry, event["requester"]["id"])
        self.statutes.requested(at, entry, event)
        begun = self._cases[ident] = Case(ident, event, entry["time"])
        self._compare(at, entry, None, begun)

    def _compare(self, at: int, entry: Json, before: str | None, case: Case) -> None:
        if entry.get("before") != before or entry["after"] != case.stage:
            self._report(at, Rule.STAGE, f"The entry's stages are not those of the replay, which is at {case.stage}.")
        if entry["seq"] != case.version:
            self._report(at, Rule.SEQUENCE, f"The operation's version is {case.version}, not {entry['seq']}.")

    def _end(self, at: int, case: Case) -> None:
        for attempt in case.unsettled():
            self._report(at, Rule.UNRESOLVED, f"The operation ended while step {attempt.step} has no known outcome.")
        self._ended[case.id] = _ended(case)
        del self._cases[case.id]


def _ended(case: Case) -> _Ended:
    return _Ended(case.stage, case.requester["id"], case.requester["person"], case.request["emergency"])
