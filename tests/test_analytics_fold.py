"""One pass over a log finds what looking back from every entry over all that came before finds, too."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest

from operations import events as e
from storage.entry import Entry
from tests.histories import history
from tests.logbook import Logbook
from triad.analytics.fact import instant, milliseconds
from triad.analytics.fold import Filter, Fold
from triad.analytics.gaps import intents
from triad.analytics.measures import Durations, Spread
from triad.analytics.records import Report, Scope, Thresholds
from triad.analytics.report import digest_of, report_of

REFUSALS = (e.PlanRefused, e.WarrantDenied, e.AccessDenied, e.ApprovalRefused, e.StepFailed, e.OperationExpired)
OUTCOMES = (e.StepDone, e.StepFailed, e.StepInDoubt)
PARTS: dict[str, Callable[[Entry], bool]] = {
    "branch legislative": lambda entry: entry.branch == "legislative",
    "branch executive": lambda entry: entry.branch == "executive",
    "branch judicial": lambda entry: entry.branch == "judicial",
    "branch crown": lambda entry: entry.branch == "crown",
    "kind plan": lambda entry: entry.kind.startswith("plan."),
    "kind step": lambda entry: entry.kind.startswith(("step.", "warrant.", "execution.")),
    "kind verdict": lambda entry: entry.kind.startswith(("check.", "verdict.")),
    "kind ruling": lambda entry: entry.kind.startswith("ruling."),
    "log": lambda entry: True,
}


def span(book: Logbook) -> tuple[datetime, datetime]:
    first, last = Entry.decode(book.entries[0]).time, Entry.decode(book.entries[-1]).time
    return first, last + timedelta(minutes=3)


def folded(book: Logbook, wanted: Filter, since: datetime, until: datetime) -> tuple[Report, Fold]:
    fold = Fold(wanted, since=milliseconds(since), before=milliseconds(since), quick=10_000, bucket=3_600_000)
    fold.read(book.entries)
    scope = Scope(since=since, until=until, first=0, end=len(book.entries), bucket_seconds=3600)
    return report_of(fold, scope, Thresholds(), origin="a log", last=None), fold


class Naive:
    """Looks back from every entry, keeping nothing."""

    def __init__(self, book: Logbook, wanted: Filter, since: datetime) -> None:
        self.all = [Entry.decode(data) for data in book.entries]
        self.wanted = wanted
        self.since = since
        self.counted = [n for n, entry in enumerate(self.all) if entry.time >= since and self._takes(n)]

    def _before(self, n: int, kind: type[Any] | tuple[type[Any], ...] = e.Event) -> Iterator[Entry]:
        """Entries of the operation of entry `n` before it, newest first."""
        operation = self.all[n].operation
        for entry in reversed(self.all[:n]):
            if operation is not None and entry.operation == operation and isinstance(entry.event, kind):
                yield entry

    def place(self, n: int) -> tuple[str, str] | None:
        event: Any = self.all[n].event
        if isinstance(event, e.StepIntent):
            return event.playbook, event.system
        step = getattr(event, "step", None)
        if step is None:
            return None
        for entry in self._before(n, e.StepIntent):
            intent: Any = entry.event
            if intent.step == step:
                return intent.playbook, getattr(event, "system", None) or intent.system
        return "unknown", getattr(event, "system", None) or "unknown"

    def _takes(self, n: int) -> bool:  # noqa: PLR0911 - one way out a filter
        entry, wanted = self.all[n], self.wanted
        if wanted.branch is not None and entry.branch != wanted.branch:
            return False
        if wanted.principal is not None and entry.principal != wanted.principal:
            return False
        if wanted.operation is not None and entry.operation != wanted.operation:
            return False
        if wanted.system is None and wanted.playbook is None:
            return True
        if entry.operation is None or self._ended_before(n):
            return False
        place = self.place(n)
        if place is not None:
            return wanted.playbook in {None, place[0]} and wanted.system in {None, place[1]}
        begun: list[Any] = [each.event for each in self._before(n, e.StepIntent)]
        systems = {each.system for each in begun} | {"shop-logs"}
        playbooks = {each.playbook for each in begun}
        return (wanted.system is None or wanted.system in systems) and (
            wanted.playbook is None or wanted.playbook in playbooks
        )

    def _ended_before(self, n: int) -> bool:
        return any(entry.after is not None and entry.after.terminal for entry in self._before(n))

    def counts(self, name: str) -> Counter[str]:
        return Counter(str(getattr(self.all[n], name)) for n in self.counted if getattr(self.all[n], name) is not None)

    def stays(self) -> dict[str, list[tuple[int, int]]]:
        found = defaultdict(list)
        for n in self.counted:
            entry = self.all[n]
            if entry.before is None or entry.before is entry.after:
                continue
            came = next(
                each for each in self._before(n) if each.after is entry.before and each.before is not each.after
            )
            found[entry.before.value].append((apart(came, entry), n))
        return found

    def whole(self) -> list[tuple[int, int]]:
        return [
            (apart(next(self._before(n, e.OperationRequested)), self.all[n]), n)
            for n in self.counted
            if (after := self.all[n].after) is not None and after.terminal
        ]

    def steps(self) -> dict[tuple[str, str], list[tuple[int, int]]]:
        found = defaultdict(list)
        for n in self.counted:
            event: Any = self.all[n].event
            if isinstance(event, OUTCOMES):
                begun = next(each for each in self._before(n, e.StepIntent) if each.event.warrant == event.warrant)  # type: ignore[union-attr] # an intent
                place = self.place(n)
                assert place
                found[place[0], event.direction.value].append((apart(begun, self.all[n]), n))
        return found

    def refusals(self) -> dict[tuple[str, str], tuple[int, int]]:
        found: dict[tuple[str, str], tuple[int, int]] = {}
        for n in self.counted:
            event = self.all[n].event
            if isinstance(event, REFUSALS):
                key = (event.kind, getattr(event, "code", "approval-refused"))
                found[key] = (found.get(key, (0, 0))[0] + 1, n)
        return found

    def deciding(self) -> dict[str, list[tuple[int, int]]]:
        found = defaultdict(list)
        for n in self.counted:
            if isinstance(self.all[n].event, e.ApprovalGiven | e.ApprovalRefused):
                asked = next(self._before(n, e.PlanProposed))
                found[self.all[n].principal].append((apart(asked, self.all[n]), n))
        return found

    def open_intents(self) -> list[int]:
        found = []
        for n, entry in enumerate(self.all):
            event = entry.event
            if not isinstance(event, e.StepIntent):
                continue
            after = [each.event for each in self.all[n:] if each.operation == entry.operation]
            done = any(isinstance(each, e.StepDone | e.StepFailed) and each.warrant == event.warrant for each in after)
            settled = any(
                isinstance(each, e.StepReconciled)
                and (each.step, each.attempt, each.direction) == (event.step, event.attempt, event.direction)
                for each in after
            )
            if not done and not settled:
                found.append(n)
        return found

    def demands(self, n: int) -> set[str]:
        """The parts that some operation waits for after entry `n`."""
        found: set[str] = set()
        halts = [entry.kind for entry in self.all[: n + 1] if entry.kind in {"crown.halted", "crown.released"}]
        halted = halts[-1:] == ["crown.halted"]
        flips = [m for m in range(n + 1) if self.all[m].kind in {"crown.halted", "crown.released"}]
        for operation in {entry.operation for entry in self.all[: n + 1]} - {None}:
            mine = [m for m in range(n + 1) if self.all[m].operation == operation and self.all[m].event.moves]
            if mine:
                seen = max([mine[-1], *flips[-1:]])
                found |= self._demanded(mine, self.all[seen].time, halted=halted)
        return found

    def _demanded(self, mine: list[int], at: datetime, *, halted: bool) -> set[str]:
        stage = self.all[mine[-1]].after
        assert stage
        if stage in {"approved", "running", "rolling_back", "halted"}:
            if halted:
                return set()
            return {"log", "branch executive"} | ({"kind step"} if stage in {"running", "rolling_back"} else set())
        if stage == "planned":
            return self._demanded_by_plan(mine, at)
        by_stage = {
            "requested": {"log", "branch legislative", "kind plan"},
            "executed": {"log", "branch judicial", "kind verdict"},
            "evaluated": {"log", "branch crown", "kind ruling"},
        }
        return by_stage.get(stage, set())

    def _demanded_by_plan(self, mine: list[int], at: datetime) -> set[str]:
        start = max(m for m in mine if isinstance(self.all[m].event, e.PlanProposed))
        events = [self.all[m].event for m in mine if m >= start]
        plan = events[0]
        assert isinstance(plan, e.PlanProposed)
        if plan.expires <= at:
            return {"log", "branch legislative"}
        taken = {each.approval for each in events if isinstance(each, e.ApprovalWithdrawn)}
        people = {
            each.person
            for each in events
            if isinstance(each, e.ApprovalGiven) and each.approval not in taken and each.expires > at
        }
        rulings = [each.ruling.value for each in events if isinstance(each, e.RulingGiven)]
        if len(people) < plan.quorum + rulings.count("escalate"):
            return set()
        if plan.assent and "assent" not in rulings:
            return {"log", "branch crown", "kind ruling"}
        return {"log", "branch legislative"}

    def silences(self) -> dict[str, list[tuple[int, int]]]:
        """Each silence of a part with work, from its last word, or from when the work came, to its next word."""
        found = defaultdict(list)
        waiting = [self.demands(n) for n in range(len(self.all))]
        for part, wrote in PARTS.items():
            for n in range(1, len(self.all)):
                if self.all[n].time < self.since or not wrote(self.all[n]) or part not in waiting[n - 1]:
                    continue
                came = n - 1
                while came and part in waiting[came - 1] and not wrote(self.all[came]):
                    came -= 1
                found[part].append((apart(self.all[came], self.all[n]), n))
        return found


def apart(one: Entry, other: Entry) -> int:
    return milliseconds(other.time) - milliseconds(one.time)


def line(name: str, samples: list[tuple[int, int]]) -> Durations:
    """By sorting: nearest rank, cut to ten bits."""
    lengths = sorted(length for length, _ in samples)
    most = max(lengths, default=0)
    return Durations(
        name=name,
        n=len(lengths),
        least=min(lengths, default=0),
        p50=cut(lengths[(len(lengths) + 1) // 2 - 1]) if lengths else 0,
        p95=cut(lengths[-(-95 * len(lengths) // 100) - 1]) if lengths else 0,
        most=most,
        total=sum(lengths),
        longest=max((n for length, n in samples if length == most), default=0),
    )


def cut(length: int) -> int:
    while length >= 1024:
        length = length // 2 ** (length.bit_length() - 10) * 2 ** (length.bit_length() - 10)
        break
    return length


@pytest.mark.parametrize(
    "wanted",
    [
        Filter(),
        Filter(branch="executive"),
        Filter(principal="dana"),
        Filter(system="shop-cache"),
        Filter(playbook="logs.rotate", branch="executive"),
        Filter(playbook="cache.clear", system="shop-logs"),
    ],
    ids=["all", "branch", "principal", "system", "playbook and branch", "playbook and system"],
)
@pytest.mark.parametrize("seed", range(4))
def test_one_pass_equals_looking_back_from_every_entry(seed: int, wanted: Filter) -> None:
    book = history(seed, 220)
    since, until = span(book)
    if seed % 2:
        since = Entry.decode(book.entries[len(book.entries) // 3]).time
    found, fold = folded(book, wanted, since, until)
    naive = Naive(book, wanted, since)
    assert found.entries == len(naive.counted)
    for name, lines in (("kind", found.kinds), ("branch", found.branches), ("principal", found.principals)):
        assert {each.name: each.n for each in lines} == naive.counts(name)
    assert {each.name: each.n for each in found.models} == naive.counts("model")
    assert {each.name: each for each in found.stays} == {name: line(name, each) for name, each in naive.stays().items()}
    assert found.whole == line("whole", naive.whole())
    steps = naive.steps()
    assert {each.name for each in found.playbooks} >= {name for name, _ in steps}
    for runs in found.playbooks:
        assert runs.doing == line("do", steps[runs.name, "do"])
        assert runs.undoing == line("undo", steps[runs.name, "undo"])
    assert {(each.kind, each.code): (each.n, each.newest) for each in found.refusals} == naive.refusals()
    assert {each.principal: each.deciding for each in found.people if each.deciding.n} == {
        name: line("deciding", each) for name, each in naive.deciding().items()
    }
    if wanted == Filter():
        assert [each.index for each in intents(fold, milliseconds(until))] == naive.open_intents()
    assert sum(each.entries for each in found.slices) == found.entries


@pytest.mark.parametrize("seed", range(4))
def test_a_part_is_silent_only_while_work_waits_for_it(seed: int) -> None:
    book = history(seed, 160)
    since, until = span(book)
    _, fold = folded(book, Filter(), since, until)
    naive = Naive(book, Filter(), since).silences()
    for part, rhythm in fold.rhythms.of.items():
        assert rhythm.silences.named(part) == line(part, naive[part]), part


def test_a_pass_that_begins_later_knows_what_led_up_to_it() -> None:
    book = history(7, 300)
    middle = Entry.decode(book.entries[150]).time
    first = next(n for n, data in enumerate(book.entries) if Entry.decode(data).time >= middle)
    whole, _ = folded(book, Filter(), middle, span(book)[1])
    ended = {
        entry.operation
        for entry in map(Entry.decode, book.entries[:first])
        if entry.after is not None and entry.after.terminal
    }
    leading = [
        data
        for data in book.entries[:first]
        if (found := Entry.decode(data)).operation and found.operation not in ended
    ]
    halts = [Entry.decode(data).kind for data in book.entries[:first] if b'"kind":"crown.' in data]
    fold = Fold(
        Filter(),
        since=milliseconds(middle),
        before=milliseconds(middle),
        quick=10_000,
        bucket=3_600_000,
        halted=halts[-1:] == ["crown.halted"],
    )
    fold.read(leading)
    fold.read(book.entries[first:])
    again = report_of(fold, whole.scope, Thresholds(), origin="a log", last=None)
    assert again == whole
    assert digest_of(again) == digest_of(whole)


def test_percentiles_of_many_durations_take_no_more_room_than_of_few() -> None:
    spread = Spread()
    for n in range(200_000):
        spread.add(n * n, n)
    assert len(spread._sizes) < 15_000
    exact = [150_000 - 1, 190_000 - 1]
    for per_mille, place in zip((750, 950), exact, strict=True):
        assert 0 <= place**2 - spread.at(per_mille) <= place**2 // 500
    assert spread.most == 199_999**2


def test_milliseconds_and_times_are_each_others_inverse() -> None:
    at = span(history(1, 5))[1]
    assert instant(milliseconds(at)) == at
