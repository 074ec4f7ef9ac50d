"""The constitutions that were in force, and what of their numbers the log itself can be held against.

The numbers stand in fenced `toml` blocks. The rules in `cedar` blocks are not evaluated here, but for two that are
recognised word by word. Where facts outside the log may only have raised a demand, such as the systems' environments,
the least that it can have been is asked for: what is reported is wrong, what is not reported may still be.
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from typing import Any, Final

from .bounds import NumbersUnreadable, read_numbers
from .case import Case
from .rules import CLOCK_TOLERANCE, Json, Remark, ReportBreach, Rule, instant

MAX_CONSTITUTION: Final = 1024 * 1024
"""Longest constitution in bytes that is read; the server reads a quarter of it."""

_COMMENT: Final = re.compile(r'("(?:[^"\\]|\\.)*")|//.*')
_LATELY: Final = timedelta(minutes=10)
_OFFICER: Final = (
    'forbid (principal, action == Action::"submit", resource) when { resource.emergency } '
    'unless { principal is Person && principal in Role::"crown_officer" };'
)
_TIME_LIMIT: Final = (
    'forbid (principal, action in [Action::"start", Action::"execute"], resource) when { resource.emergency && '
    "resource.age_minutes >= context.emergency_minutes && !(resource is Step && resource.undo) };"
)


@dataclass(frozen=True, slots=True)
class Demand:
    """The least that a plan must state."""

    quorum: int
    assent: bool
    minutes: int
    runs: bool


class Numbers:
    """What a constitution's text says in numbers.

    Attributes:
        most_steps: how long a plan may be.
        warrant: how long a warrant lasts.
        emergency: how long an emergency lasts.
        officer_declares: whether only a crown officer in person declares an emergency.
        time_limited: whether nothing of an emergency begins after its time.
    """

    def __init__(self, text: str) -> None:
        tables, rules = _read(text)
        numbers = read_numbers(tables)
        self._tiers = [(tier["quorum"], tier["assent"], tier["plan_expiry_minutes"]) for tier in numbers["tiers"]]
        self._approvals = [timedelta(minutes=tier["approval_expiry_minutes"]) for tier in numbers["tiers"]]
        self._modes = {name: (each["highest_tier"], each["standard_quorum"]) for name, each in numbers["modes"].items()}
        self._authorities = {name: (each["quorum"], each["assent"]) for name, each in numbers["authorities"].items()}
        self._types: list[str] = numbers["rollback_plans"]["types"]
        self._from_tier: int = numbers["rollback_plans"]["from_tier"]
        self.most_steps: int = numbers["plans"]["most_steps"]
        self.warrant = timedelta(seconds=numbers["warrants"]["expiry_seconds"])
        self._waived: int = numbers["emergencies"]["approvals_waived"]
        self._limit: int = numbers["emergencies"]["time_limit_minutes"]
        self.emergency = timedelta(minutes=self._limit)
        self.officer_declares = _OFFICER in rules
        self.time_limited = _TIME_LIMIT in rules

    def unrecognised(self) -> list[str]:
        """What the rules that were not found word by word say, and what was therefore not checked."""
        found = {"who may declare an emergency": self.officer_declares, "an emergency's time": self.time_limited}
        return [what for what, known in found.items() if not known]

    def demand(self, tier: int, mode: str, request: Json) -> Demand | None:
        """What a plan of that tier needs at least; None where the numbers do not speak of such a plan."""
        if not 0 <= tier < len(self._tiers) or mode not in self._modes or request["authority"] not in self._authorities:
            return None
        quorum, assent, minutes = self._tiers[tier]
        highest, standard = self._modes[mode]
        added, added_assent = self._authorities[request["authority"]]
        if tier > 0:
            quorum = max(quorum, standard)
        assent = assent or added_assent
        if request["emergency"]:
            quorum -= min(quorum, self._waived)
            assent, minutes = True, min(minutes, self._limit)
        return Demand(max(quorum, added), assent, minutes, runs=tier <= highest)

    def approval(self, tier: int) -> timedelta:
        """How long an approval of a plan of that tier may last."""
        return self._approvals[tier] if 0 <= tier < len(self._approvals) else max(self._approvals)

    def needs_way_back(self, tier: int, request: Json) -> bool:
        """Whether the request must carry a rollback plan."""
        return tier >= self._from_tier or request["type"] in self._types


def _read(text: str) -> tuple[dict[str, Any], str]:
    """The tables of all `toml` blocks, and the `cedar` blocks without comments, as one line."""
    tables: dict[str, Any] = {}
    rules: list[str] = []
    kind, block = "", list[str]()
    for line in text.split("\n"):
        if not kind:
            kind = line.removeprefix("```") if line in {"```toml", "```cedar"} else ""
        elif line != "```":
            block.append(line)
        else:
            if kind == "cedar":
                rules += [_COMMENT.sub(lambda found: found[1] or "", each) for each in block]
            else:
                _merge(tables, "\n".join(block))
            kind, block = "", []
    return tables, " ".join(" ".join(rules).split())


def _merge(tables: dict[str, Any], block: str) -> None:
    try:
        found = tomllib.loads(block)
    except (ValueError, RecursionError):
        raise NumbersUnreadable("a block is not TOML") from None
    if not tables.keys().isdisjoint(found):
        raise NumbersUnreadable("a table stands there twice")
    tables.update(found)


class Statutes:
    """The constitutions of a log, in the order in which they came into force.

    Attributes:
        in_force: digest of the one in force; empty before the first entry.
        remarks: what was not recognised, and therefore not held against anything.
        texts: how many texts were there.
    """

    def __init__(self, report: ReportBreach, texts: Mapping[str, bytes] | None) -> None:
        self.in_force = ""
        self.remarks: list[Remark] = []
        self.texts = 0
        self._report = report
        self._texts = texts
        self._numbers: dict[str, Numbers | None] = {}
        self._since: list[tuple[str, str]] = []
        self._first: dict[str, str] = {}
        self._short: set[str] = set()

    def enact(self, at: int, digest: str, time: str) -> None:
        """Another constitution comes into force; its text must be there, if texts are."""
        self.in_force = digest
        self._since.append((digest, time))
        self._first.setdefault(digest, time if at else "")
        if digest in self._numbers:
            return
        self._numbers[digest] = None
        if self._texts is None:
            return
        text = self._texts.get(digest)
        if text is None:
            self._report(at, Rule.TEXT, f"The text of the constitution {digest[:16]} is missing.")
        elif len(text) > MAX_CONSTITUTION or sha256(text).hexdigest() != digest:
            self._report(at, Rule.TEXT, f"The text given for the constitution {digest[:16]} is another one.")
        else:
            self.texts += 1
            self._understand(at, digest, text)

    def _understand(self, at: int, digest: str, text: bytes) -> None:
        try:
            numbers = self._numbers[digest] = Numbers(text.decode())
        except UnicodeDecodeError:
            self._report(at, Rule.TEXT, f"The constitution {digest[:16]} is not UTF-8.")
        except NumbersUnreadable as error:
            self._report(at, Rule.TEXT, f"The constitution {digest[:16]} cannot be in force: {error}.")
        else:
            for what in numbers.unrecognised():
                sentence = f"In the constitution {digest[:16]} no rule on {what} was recognised; it was not checked."
                self.remarks.append(Remark(at, sentence))

    def since(self, digest: str) -> str | None:
        """When a constitution first came into force, empty for the genesis's; None if it never was."""
        return self._first.get(digest)

    @property
    def _current(self) -> Numbers | None:
        return self._numbers.get(self.in_force)

    def _lately(self, time: str) -> list[Numbers] | None:
        """The numbers in force within the last minutes; None if some of them are not known."""
        found: list[Numbers | None] = [self._current]
        for (_, until), (digest, _) in zip(reversed(self._since), list(reversed(self._since))[1:], strict=False):
            if instant(until) < instant(time) - _LATELY:
                break
            found.append(self._numbers[digest])
        known = [each for each in found if each is not None]
        return known if len(known) == len(found) else None

    def requested(self, at: int, entry: Json, event: Json) -> None:
        """Hold the declaration of an emergency against who may make it."""
        if not event["request"]["emergency"]:
            return
        requester, laws = event["requester"], self._lately(entry["time"])
        officer = requester["kind"] == "person" and "crown_officer" in requester["roles"]
        if laws and all(law.officer_declares for law in laws) and not officer:
            self._report(at, Rule.EMERGENCY, "Only a crown officer, in person, may declare an emergency.")

    def proposed(self, at: int, entry: Json, event: Json, case: Case) -> None:
        """Hold a plan that is proposed against the constitution it was made under, or any that it can have been."""
        if case.body is not None:
            if case.law not in self._numbers:
                self._report(at, Rule.LAW, "The plan was made under a constitution that was never in force.")
                return
            laws = [self._numbers[case.law]]
        else:
            laws = list(self._numbers.values())
        found = [_shortfall(law, event, case) if law else None for law in laws]
        if None not in found:
            self._short.add(case.id)
            self._report(at, Rule.DEMANDS, str(found[-1]))
            return
        longest = [_longest(law, event, case) for law in laws if law]
        if len(longest) == len(laws) and instant(event["expires"]) > instant(entry["time"]) + CLOCK_TOLERANCE + max(
            longest
        ):
            self._report(at, Rule.DEMANDS, "The plan lasts longer than the constitution lets it.")

    def approval(self, at: int, entry: Json, event: Json, case: Case) -> None:
        """Hold an approval's expiry against the time that it may last."""
        laws = self._lately(entry["time"])
        if laws and case.proposal is not None:
            longest = max(law.approval(case.proposal["tier"]) for law in laws)
            if instant(event["expires"]) > instant(entry["time"]) + longest + CLOCK_TOLERANCE:
                self._report(at, Rule.DEMANDS, "The approval lasts longer than the constitution lets it.")

    def warrant(self, at: int, entry: Json, event: Json) -> None:
        """Hold a warrant's expiry against the longest that any constitution so far allowed: a server reads it once."""
        longest = [law.warrant for law in self._numbers.values() if law]
        if len(longest) == len(self._numbers) and instant(event["expires"]) > (
            instant(entry["time"]) + max(longest) + CLOCK_TOLERANCE
        ):
            self._report(at, Rule.DEMANDS, "The warrant lasts longer than the constitution lets it.")

    def begins(self, at: int, entry: Json, case: Case) -> None:
        """Hold a step forward against the constitution in force now, which the server fences."""
        law = self._current
        if law is None or case.proposal is None or case.law != self.in_force:
            return
        short = _shortfall(law, case.proposal, case)
        if short and case.id not in self._short:
            self._short.add(case.id)
            self._report(at, Rule.DEMANDS, short)
        if case.request["emergency"] and law.time_limited:
            longest = max(each.warrant for each in self._numbers.values() if each)
            if instant(entry["time"]) > instant(case.requested) + law.emergency + longest + CLOCK_TOLERANCE:
                self._report(at, Rule.EMERGENCY, "The emergency's time was over.")


def _shortfall(law: Numbers, event: Json, case: Case) -> str | None:  # noqa: PLR0911 - one demand after the other
    """What a plan states too little of, in words; None if it is enough."""
    demand = law.demand(event["tier"], event["mode"], case.request)
    if demand is None:
        return f"The constitution has no tier {event['tier']}, or no such mode or authority."
    if event["quorum"] < demand.quorum:
        return f"The plan states a quorum of {event['quorum']}; the constitution demands {demand.quorum}."
    if demand.assent and not event["assent"]:
        return "The plan states no royal assent, which the constitution demands."
    if not demand.runs:
        return f"In {event['mode']} mode nothing of tier {event['tier']} runs."
    if case.request.get("rollback_plan") is None and law.needs_way_back(event["tier"], case.request):
        return "The request has no rollback plan, which the constitution demands."
    if case.body is not None and len(case.body["steps"]) > law.most_steps:
        return f"The plan has {len(case.body['steps'])} steps; the constitution allows {law.most_steps}."
    return None


def _longest(law: Numbers, event: Json, case: Case) -> timedelta:
    demand = law.demand(event["tier"], event["mode"], case.request)
    return timedelta(minutes=demand.minutes) if demand else timedelta()
