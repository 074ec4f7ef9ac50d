"""The offline planner's reasoning: from a request's type, systems, parameters and words to a plan or a refusal.

It plans only what it understands. A clause that asks for an effect which no playbook has refuses the whole request,
with the playbooks that come nearest; a monitoring request is answered by reading alone; an emergency uses only
playbooks that are marked for emergencies.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from agents.arguments import fill, knows
from agents.facts import PlannerFacts, PlaybookFact, SopFact, SystemFact
from agents.outputs import DraftStep, PlanDraft, PlanRefusal
from agents.wording import LOOKING, Clause, clauses, listed, stem, stems
from operations.evidence import Effect
from operations.model import OperationType

ENOUGH: Final = 6
"""Points from which a playbook answers a clause: one telling word, or three weak hints."""

_NAME, _KEYWORD, _WEAK, _HINT, _LOOK = 6, (6, 4, 3, 2), 2, 1, 4
_LIGHT: Final = frozenset(
    stem(word)
    for word in listed(
        """apply change check clean clear create delete move purge remove reset restart run set start stop test
        update write"""
    )
)
"""Verbs that say little about what they are done to: on their own they point to no playbook."""

_KIND_WORDS: Final = {
    "database": frozenset({stem("database")}),
    "logs": frozenset({stem("logs")}),
    "cache": frozenset({stem("cache")}),
    "backups": frozenset({stem("backup")}),
    "config": frozenset({stem("config"), stem("file")}),
    "http": frozenset({stem("http"), stem("service"), stem("api")}),
    "host": frozenset({stem("host")}),
}
_THINGS: Final = frozenset[str]().union(*_KIND_WORDS.values()) - {stem("backup")}
"""Words for kinds of systems, which say what is meant but not what to do with it; `backup` is also what is done."""

_OPTIONAL: Final = re.compile(r"\b(?:optional(?:ly)?|if possible|where possible|ideally)\b")
_APPLIES: Final = re.compile(r"^Applies to:\s*(.+)$", re.MULTILINE)
_CITES: Final = re.compile(r"\b[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*\b")
_CITED: Final = 3
"""Points from which a plan cites an SOP: its type and one of its playbooks, or better."""


@dataclass(frozen=True, slots=True)
class _Choice:
    playbook: PlaybookFact
    targets: tuple[SystemFact, ...]
    clause: Clause
    score: int


class _Refuse(Exception):
    def __init__(self, *reasons: str) -> None:
        super().__init__(" ".join(reasons))
        self.reasons = reasons


def draft(facts: PlannerFacts) -> PlanDraft | PlanRefusal:
    """A plan for the request, or why there is none. The same facts give the same answer."""
    table = _Table(facts)
    try:
        table.find_systems()
        chosen = [table.named(facts.request.playbook)] if facts.request.playbook else table.choose()
        steps = tuple(_steps(facts, chosen))
    except _Refuse as refusal:
        return PlanRefusal(reasons=tuple(r[:500] for r in refusal.reasons[:20]), nearest=table.nearest())
    return PlanDraft(summary=_summary(steps), sop=_sop(facts, steps), steps=steps)


def refused(facts: PlannerFacts, mistakes: str) -> PlanRefusal:
    """The refusal after a plan was sent back: the rules have no second idea."""
    lines = tuple(line.strip()[:500] for line in mistakes.splitlines() if line.strip())
    return PlanRefusal(reasons=lines[:20] or ("The plan was sent back.",), nearest=_Table(facts).nearest())


class _Table:
    """The catalogue's words and how much each of them says."""

    def __init__(self, facts: PlannerFacts) -> None:
        self._facts = facts
        self.systems = {system.name: system for system in facts.systems}
        self._scope = frozenset(facts.request.systems)
        keywords = {p.name: frozenset(s for k in p.keywords for s in stems(k)) for p in facts.playbooks}
        verbs = {p.name: frozenset(stems(p.name.partition(".")[2])) for p in facts.playbooks}
        spread = Counter(word for p in facts.playbooks for word in keywords[p.name] | verbs[p.name])
        self._verbs = verbs
        self._strong = {name: keywords[name] | verbs[name] for name in keywords}
        self._weights = {p.name: _weights(p, verbs[p.name], keywords[p.name], spread) for p in facts.playbooks}
        self._clauses = clauses(facts.request.description, tuple(self.systems))

    def find_systems(self) -> None:
        """Refuse when the request names a system that the facts do not."""
        unknown = [name for name in self._facts.request.systems if name not in self.systems]
        if unknown:
            raise _Refuse(f"The inventory has no system {', '.join(unknown)}.")

    def named(self, name: str) -> _Choice:
        """The playbook that the request names, on the systems that it fits."""
        playbook = next((p for p in self._facts.playbooks if p.name == name), None)
        if playbook is None:
            raise _Refuse(f"The catalogue has no playbook {name}.")
        words = Clause(self._facts.request.description, (), frozenset())
        targets = self._targets(playbook, words)
        if not targets:
            raise _Refuse(f"{name} fits none of the systems; it needs one of kind {' or '.join(playbook.fits)}.")
        if self._facts.request.emergency and not playbook.emergency:
            raise _Refuse(f"{name} may not be used in an emergency.")
        return _Choice(playbook, targets, words, 0)

    def choose(self) -> list[_Choice]:
        """A playbook for each clause that asks for something, in the order in which they are to be done."""
        chosen: list[_Choice] = []
        inherited: frozenset[str] = frozenset()
        for clause in self._clauses:
            self._in_scope(clause)
            own = clause.actions | ({LOOKING} & set(clause.stems))
            found = self._found(clause)
            elsewhere = () if found else self._elsewhere(clause)
            if not found and not own:
                found = self._found(replace(clause, stems=(*clause.stems, *sorted(inherited))))
            if elsewhere or (not found and clause.actions and not _looks_first(clause)):
                raise _Refuse(*elsewhere, *self._why_not(clause))
            chosen += found
            inherited = own or inherited
        if not chosen:
            raise _Refuse(*self._why_not(None))
        return _ranked(_merged(chosen, self._verbs), ordered=any(c.connector in _ORDERING for c in self._clauses))

    def nearest(self) -> tuple[str, ...]:
        """Playbooks that come close, nearest first: by words, then those that fit the systems."""
        words = frozenset(word for clause in self._clauses for word in clause.stems)
        kinds = {self.systems[name].kind for name in self._scope if name in self.systems}
        ranked = sorted(
            ((self._score(p, words), bool(kinds & set(p.fits)), -p.tier, p.name) for p in self._facts.playbooks),
            key=lambda row: (-row[0] - _LOOK * row[1], -row[2], row[3]),
        )
        return tuple(name for score, fits, _, name in ranked if score >= ENOUGH or fits)[:5]

    def _found(self, clause: Clause) -> list[_Choice]:
        """The best answer; where a clause asks to look and names no kind of system, the best look at each."""
        found = self._answering(clause)
        if not _looks_first(clause):
            return found[:1]
        spoken = {kind for kind, words in _KIND_WORDS.items() if words & set(clause.stems)}
        if spoken & {target.kind for choice in found for target in choice.targets} or clause.names:
            return found[:1]
        seen: dict[str, _Choice] = {}
        for choice in found:
            seen.setdefault(choice.targets[0].kind, choice)
        return list(seen.values())

    def _answering(self, clause: Clause) -> list[_Choice]:
        """The playbooks that can answer the clause, best first."""
        found = [choice for p in self._facts.playbooks if (choice := self._answers(p, clause)) is not None]
        return sorted(
            found, key=lambda c: (-c.score, len(self._verbs[c.playbook.name]), c.playbook.tier, c.playbook.name)
        )

    def _answers(self, playbook: PlaybookFact, clause: Clause) -> _Choice | None:
        score = self._score(playbook, frozenset(clause.stems))
        if score < ENOUGH or not self._may(playbook, clause):
            return None
        targets = self._targets(playbook, clause)
        return _Choice(playbook, targets, clause, score) if targets else None

    def _may(self, playbook: PlaybookFact, clause: Clause) -> bool:
        """Whether the playbook may answer the clause at all, however well the words match."""
        reads = playbook.effect is Effect.READ
        if self._facts.request.emergency and not playbook.emergency:
            return False
        if self._facts.request.type is OperationType.MONITORING and not reads:
            return False
        if _looks_first(clause):
            return reads or LOOKING in self._verbs[playbook.name]
        return clause.actions <= self._strong[playbook.name]

    def _score(self, playbook: PlaybookFact, words: frozenset[str]) -> int:
        weights = self._weights[playbook.name]
        score = sum(weights.get(word, 0) for word in words)
        if score == 0:
            return 0
        score += _WEAK * any(_KIND_WORDS[kind] & words for kind in playbook.fits)
        score += _WEAK * any(knows(playbook, name) for name in self._facts.request.parameters)
        return score + _LOOK * (LOOKING in words and playbook.effect is Effect.READ)

    def _targets(self, playbook: PlaybookFact, clause: Clause) -> tuple[SystemFact, ...]:
        """The systems of the request that the playbook fits; the ones a clause names, where it names any."""
        fitting = [s for name in self._facts.request.systems if (s := self.systems[name]).kind in playbook.fits]
        special = {name for name in clause.names if not name.isalpha()} or set(clause.names)
        return tuple([s for s in fitting if s.name in special] or fitting)

    def _in_scope(self, clause: Clause) -> None:
        outside = [name for name in clause.names if not name.isalpha() and name not in self._scope]
        if outside:
            raise _Refuse(f"{', '.join(outside)} is not among the systems of the request.")

    def _elsewhere(self, clause: Clause) -> tuple[str, ...]:
        """What could answer the clause if the request named the system that serves one of its systems."""
        parts = [s for s in self._facts.systems if s.part_of in self._scope and s.name not in self._scope]
        words = frozenset(clause.stems)
        return tuple(
            f"{playbook.name} works on {part.name}, which the request does not name."
            for playbook in self._facts.playbooks
            for part in parts
            if part.kind in playbook.fits and self._score(playbook, words) >= ENOUGH and self._may(playbook, clause)
        )

    def _why_not(self, clause: Clause | None) -> tuple[str, ...]:
        asked = f"No playbook does this: {clause.text[:300]}." if clause else "No playbook fits what is asked."
        if self._facts.request.emergency:
            return (asked, "In an emergency only playbooks marked for emergencies are used.")
        if self._facts.request.type is OperationType.MONITORING:
            return (asked, "A monitoring request is answered by reading alone.")
        return (asked,)


_ORDERING: Final = frozenset({"then", "after", "before"})


def _weights(
    playbook: PlaybookFact, verbs: frozenset[str], keywords: frozenset[str], spread: Counter[str]
) -> dict[str, int]:
    weights = dict.fromkeys(stems(playbook.summary), _HINT)
    weights |= dict.fromkeys(stems(playbook.name.partition(".")[0]), _WEAK)
    for word in keywords | verbs:
        weight = _NAME if word in verbs else _KEYWORD[min(spread[word], len(_KEYWORD)) - 1]
        weights[word] = min(weight, _WEAK) if word in _LIGHT | _THINGS else weight
    return weights


def _looks_first(clause: Clause) -> bool:
    """Whether a clause asks to look (`check the lock waits`): what follows is then a thing, not something to do."""
    first = next((word for word in clause.stems if word == LOOKING or word in clause.actions), None)
    return first == LOOKING


def _merged(chosen: Sequence[_Choice], verbs: dict[str, frozenset[str]]) -> list[_Choice]:
    """One step where one playbook's name covers two clauses (`vacuum and analyze`), or where two chose the same."""
    merged: list[_Choice] = []
    for choice in chosen:
        same = next((at for at, c in enumerate(merged) if _covers(c, choice, verbs)), None)
        if same is None:
            merged.append(choice)
        else:
            merged[same] = replace(merged[same], clause=_joined(merged[same].clause, choice.clause))
    return merged


def _covers(one: _Choice, other: _Choice, verbs: dict[str, frozenset[str]]) -> bool:
    if one.targets != other.targets:
        return False
    if one.playbook.name == other.playbook.name:
        return True
    return bool(other.clause.actions) and other.clause.actions <= verbs[one.playbook.name]


def _joined(one: Clause, other: Clause) -> Clause:
    return replace(one, text=f"{one.text} and {other.text}")


def _ranked(chosen: list[_Choice], *, ordered: bool) -> list[_Choice]:
    """Observations first, backups before changes; an order that the request states stays."""
    if ordered:
        return chosen
    ranks = {"observe": 0, "backup": 1}
    return sorted(chosen, key=lambda c: ranks.get(c.playbook.name.partition(".")[0], 2))


def _steps(facts: PlannerFacts, chosen: Iterable[_Choice]) -> Iterable[DraftStep]:
    problems: list[str] = []
    used: set[str] = set()
    steps: list[DraftStep] = []
    for choice in chosen:
        filled = fill(choice.playbook, facts.request.parameters, choice.clause.text)
        used |= filled.used
        problems += filled.problems
        steps += [
            DraftStep(
                playbook=choice.playbook.name,
                system=system.name,
                arguments=filled.arguments,
                why=f"Asked for: {choice.clause.text[:1000]}",
                expected_effect=choice.playbook.summary[:1000],
                optional=bool(_OPTIONAL.search(choice.clause.text)),
            )
            for system in choice.targets
        ]
    for name in facts.request.parameters:
        if name not in used:
            problems.append(f"No chosen playbook takes the parameter {name[:100]}.")
    if problems:
        raise _Refuse(*problems)
    return steps


def _summary(steps: Sequence[DraftStep]) -> str:
    return ("; then ".join(f"{step.playbook} on {step.system}" for step in steps))[:1990] + "."


def _sop(facts: PlannerFacts, steps: Sequence[DraftStep]) -> str | None:
    """The SOP that fits best by the types it applies to, the playbooks it names and the words of its title."""
    words = frozenset(stems(facts.request.description))
    names = {step.playbook for step in steps}

    def points(sop: SopFact) -> int:
        applies = _APPLIES.search(sop.text)
        types = set(re.findall(r"[a-z]+", applies.group(1).lower())) if applies else set()
        cited = len(names & set(_CITES.findall(sop.text)))
        return 2 * (facts.request.type.value in types) + min(cited, 2) + len(words & set(stems(sop.title)))

    best = max(facts.sops, key=lambda sop: (points(sop), sop.id), default=None)
    return best.id if best is not None and points(best) >= _CITED else None
