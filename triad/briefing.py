"""What each branch is told: facts put together by code from the record, the catalogue and the inventory."""

from collections.abc import Iterable
from typing import Final, Literal

from agents.facts import (
    ArticleFact,
    CheckFact,
    CrownFacts,
    CrownStepFact,
    EvaluatorFacts,
    ExecutorFacts,
    OutcomeFact,
    PlannerFacts,
    PlaybookFact,
    SopFact,
    StepFact,
    StepState,
    SystemFact,
    VerdictFact,
)
from operations.constitution import Constitution
from operations.model import Direction, Request, Step
from operations.operation import CheckRecord, Operation
from operations.playbook import Catalogue
from operations.systems import BackupFolder, Inventory, System
from prompts import Prompt, sops


def planner_facts(
    ident: str,
    request: Request,
    constitution: Constitution,
    catalogue: Catalogue,
    inventory: Inventory,
    *,
    history: tuple[str, ...] = (),
    corrections: tuple[str, ...] = (),
) -> PlannerFacts:
    """The request, the systems it names (and what serves them), and the whole catalogue."""
    return PlannerFacts(
        operation=ident,
        request=request,
        constitution=constitution.digest,
        systems=tuple(system_facts(inventory, request)),
        playbooks=playbook_facts(catalogue),
        sops=tuple(_sop(sop) for sop in sops()),
        history=history,
        corrections=corrections,
    )


def _sop(prompt: Prompt) -> SopFact:
    title = prompt.text.partition("\n")[0].lstrip("# ").strip()
    return SopFact(id=prompt.name.removeprefix("sops/"), title=title, text=prompt.text)


def system_facts(inventory: Inventory, request: Request) -> Iterable[SystemFact]:
    """The systems that the request names, those that serve them and those its words mention; no paths, no secrets.

    Only the named ones may be acted on; the others are told so that a refusal can say what is missing.
    """
    yield from (_system_fact(inventory.get(name)) for name in request.systems)
    for system in inventory.systems:
        fact = _system_fact(system)
        if system.name not in request.systems and (
            fact.part_of in request.systems or system.name in request.description
        ):
            yield fact


def _system_fact(system: System) -> SystemFact:
    return SystemFact(
        name=system.name,
        kind=system.kind,
        environment=system.environment,
        tier_floor=system.tier_floor,
        description=system.description,
        part_of=system.database if isinstance(system, BackupFolder) else None,
    )


def playbook_facts(catalogue: Catalogue) -> tuple[PlaybookFact, ...]:
    """The catalogue as the planner chooses from it."""
    if catalogue not in _PLAYBOOK_FACTS:
        _PLAYBOOK_FACTS[catalogue] = tuple(
            PlaybookFact(
                name=playbook.name,
                summary=playbook.summary,
                keywords=playbook.keywords,
                fits=tuple(sorted(playbook.fits)),
                tier=playbook.tier,
                effect=playbook.effect,
                reversible=playbook.reversible,
                emergency=playbook.emergency,
                arguments_schema=playbook.schema(),
            )
            for playbook in catalogue
        )
    return _PLAYBOOK_FACTS[catalogue]


_PLAYBOOK_FACTS: dict[Catalogue, tuple[PlaybookFact, ...]] = {}


def executor_facts(op: Operation) -> ExecutorFacts:
    """The approved plan with the state of each step."""
    plan = op.bound_plan()
    return ExecutorFacts(
        operation=op.id,
        plan_summary=plan.summary,
        steps=tuple(
            StepFact(
                number=step.number,
                playbook=step.playbook,
                system=step.system,
                arguments=step.arguments,
                why=step.why,
                optional=step.optional,
                state="pending" if _unlucky(op, step) else step_state(op, step),
            )
            for step in plan.steps
        ),
    )


def _unlucky(op: Operation, step: Step) -> bool:
    """Whether the last attempt ended by a crash and not by a failure of its own: the step may be run again, twice."""
    tries = [a for a in op.attempts if a.step == step.number and a.direction is Direction.DO]
    if not tries or len(tries) >= _TRIES:
        return False
    return tries[-1].status == "failed" and tries[-1].code in {"interrupted", "not-happened"}


_TRIES: Final = 3
"""Attempts at a step after which an interruption counts as a failure: it may be the step that stops the worker."""


def step_state(op: Operation, step: Step) -> StepState:
    """How a step stands in the forward direction."""
    if step.number in op.skipped:
        return "skipped"
    last = op.latest(step.number, Direction.DO)
    if last is None or last.status == "issued":
        return "pending"
    if last.status == "done" or last.status == "failed":  # noqa: PLR1714 - narrows the literal
        return last.status
    return "in_doubt"


def outcome_facts(op: Operation) -> tuple[OutcomeFact, ...]:
    """What came of each step, from the record alone."""
    facts = []
    for step in op.bound_plan().steps:
        tries = [a for a in op.attempts if a.step == step.number and a.direction is Direction.DO]
        facts.append(
            OutcomeFact(
                number=step.number,
                playbook=step.playbook,
                system=step.system,
                state=step_state(op, step),
                changed=any(a.changed for a in tries),
                reversible=step.reversible,
                summary=tries[-1].summary if tries else "",
            )
        )
    return tuple(facts)


def evaluator_facts(op: Operation, checks: tuple[CheckRecord, ...]) -> EvaluatorFacts:
    """The evidence: outcomes, and the checks that code has just evaluated."""
    plan = op.bound_plan()
    return EvaluatorFacts(
        operation=op.id,
        request=op.request,
        criteria=plan.validation_criteria,
        steps=outcome_facts(op),
        checks=tuple(CheckFact(**check.model_dump()) for check in checks),
        execution=op.execution.outcome if op.execution else "failed",
        report=op.execution.report if op.execution else "",
    )


_BINDING = frozenset({"article-9", "article-13", "article-14", "article-15"})
"""Articles whose prose guides the crown although code enforces part of them."""


def crown_facts(moment: Literal["assent", "ruling"], op: Operation, constitution: Constitution) -> CrownFacts:
    """The plan, and after a run its outcome and verdict, with the articles that bind the crown."""
    plan = op.bound_plan()
    verdict = VerdictFact(**op.verdict.model_dump()) if op.verdict else None
    return CrownFacts(
        moment=moment,
        operation=op.id,
        request=op.request,
        plan_summary=plan.summary,
        tier=plan.tier,
        steps=tuple(_crown_step(step) for step in plan.steps),
        outcomes=outcome_facts(op) if moment == "ruling" else (),
        verdict=verdict,
        execution=op.execution.outcome if op.execution else None,
        articles=tuple(
            ArticleFact(id=article.id, title=article.title, text=article.prose)
            for article in constitution.articles
            if not article.enforced or article.id in _BINDING
        ),
    )


def _crown_step(step: Step) -> CrownStepFact:
    return CrownStepFact(
        number=step.number,
        playbook=step.playbook,
        system=step.system,
        tier=step.tier,
        effect=step.effect,
        reversible=step.reversible,
        emergency=step.emergency,
        protects=step.protects,
        optional=step.optional,
        why=step.why,
        blast_radius=step.preview.blast_radius,
        undo=step.preview.undo,
    )
