"""Ledgers in memory with any history: led by chance, or by hand with times that are easy to reckon with."""

import random
from collections.abc import Callable
from datetime import datetime, timedelta

from operations import events as e
from operations.model import Branch, Direction, Ruling
from operations.operation import Operation
from operations.stages import Stage
from tests.logbook import AGENTS, Logbook

TICK = timedelta(milliseconds=7)
"""What a logbook lets pass before each entry."""
PLAYBOOKS = ("logs.rotate", "cache.clear", "backup.create")
SYSTEMS = ("shop-logs", "shop-cache")
PEOPLE = ("dana", "eve", "fay")


def later(book: Logbook, **length: float) -> datetime:
    """Let the next entry be recorded so long after the newest one; returns its time."""
    book.at += timedelta(**length) - TICK
    return book.at + TICK


def history(seed: int, acts: int) -> Logbook:
    """A lawful log in which chance decided what happened, when, and to which of several operations at once."""
    rng = random.Random(seed)
    book = Logbook()
    halted = False
    for _ in range(acts):
        book.at += timedelta(milliseconds=rng.choice((0, 1, 40, 900, 5000, 60_000, 400_000, 3_000_000)))
        open_ones = [op for op, held in book.ops.items() if not held.stage.terminal]
        dice = rng.random()
        if dice < 0.03:
            halted = not halted
            book.crown(halt=halted)
        elif dice < 0.06:
            denied = e.AccessDenied(action="halt", code=rng.choice(("forbidden", "undecidable")), reasons=("No.",))
            book.add(denied, Branch.PEOPLE, "mallory", rng.choice([*open_ones, None]))
        elif dice < 0.2 or not open_ones:
            book.request()
        else:
            _advance(book, rng.choice(open_ones), rng)
    return book


def _advance(book: Logbook, op: str, rng: random.Random) -> None:
    held = book.ops[op]
    acts: dict[Stage, Callable[[], object]] = {
        Stage.REQUESTED: lambda: _plan(book, op, rng),
        Stage.PLANNED: lambda: _decide(book, op, held, rng),
        Stage.APPROVED: lambda: book.start(op),
        Stage.RUNNING: lambda: _run(book, op, held, rng),
        Stage.EXECUTED: lambda: _evaluate(book, op, held, rng),
        Stage.EVALUATED: lambda: _rule(book, op, held, rng),
        Stage.ESCALATED: lambda: book.resolve(op, "rollback" if rng.random() < 0.5 else "fail"),
        Stage.ROLLING_BACK: lambda: _undo(book, op, held, rng),
        Stage.IN_DOUBT: lambda: _settle(book, op, held),
        Stage.HALTED: lambda: _resume(book, op, held),
    }
    acts[held.stage]()


def _plan(book: Logbook, op: str, rng: random.Random) -> None:
    if rng.random() < 0.15:
        refused = e.PlanRefused(code="nothing-fits", reasons=("No.",))
        book.add(refused, Branch.LEGISLATIVE, AGENTS[Branch.LEGISLATIVE], op)
    else:
        book.plan(op, quorum=rng.randrange(3), assent=rng.random() < 0.3, minutes=rng.choice((10, 600)))


def _decide(book: Logbook, op: str, held: Operation, rng: random.Random) -> None:
    assert held.proposal
    standing = {a.person for a in held.approvals if a.expires > book.at}
    left = [name for name in PEOPLE if name not in standing]
    dice = rng.random()
    if dice < 0.08:
        refused = e.ApprovalRefused(
            approval=book.serial("ap"), plan=book.in_hand(op), approver="eve", person="eve", reason="No.", channel="cli"
        )
        book.add(refused, Branch.PEOPLE, "eve", op)
    elif dice < 0.14:
        late = e.OperationExpired(code="plan-expired", reasons=("Nobody decided.",))
        book.add(late, Branch.LEGISLATIVE, "triad", op)
    elif dice < 0.2:
        sent_back = e.PlanSuperseded(plan=book.in_hand(op), code="constitution-changed", reasons=("Anew.",))
        book.add(sent_back, Branch.LEGISLATIVE, "triad", op)
    elif held.approvals and dice < 0.26:
        given = held.approvals[-1]
        taken = e.ApprovalWithdrawn(approval=given.id, plan=given.plan, approver=given.approver, reason="Wait.")
        book.add(taken, Branch.PEOPLE, given.approver, op)
    elif len(standing) < held.proposal.quorum + held.extra_quorum and left:
        book.approve(op, rng.choice(left), minutes=rng.choice((5, 600)))
    elif held.proposal.assent and not held.assented:
        ruling = rng.choice((Ruling.ASSENT, Ruling.ASSENT, Ruling.ESCALATE, Ruling.VETO))
        book.rule(op, ruling if not (ruling is Ruling.ESCALATE and held.extra_quorum) else Ruling.ASSENT)
    else:
        book.approved(op)


def _run(book: Logbook, op: str, held: Operation, rng: random.Random) -> None:
    if not _attempt(book, op, held, rng, Direction.DO, [1, 2]):
        book.finish(op, rng.choice(("finished", "failed")))


def _undo(book: Logbook, op: str, held: Operation, rng: random.Random) -> None:
    if not _attempt(book, op, held, rng, Direction.UNDO, list(held.rollback or ())):
        book.undone(op, restored=rng.random() < 0.8)


def _attempt(
    book: Logbook, op: str, held: Operation, rng: random.Random, direction: Direction, steps: list[int]
) -> bool:
    """Begin or end an act; False when none is left."""
    under_way = next((a for a in held.attempts if a.status == "intended"), None)
    if under_way is not None:
        kind = rng.choice(("done", "done", "done", "failed", "in_doubt"))
        book.outcome(op, under_way.warrant, kind)
        return True
    if rng.random() < 0.05:
        book.halt(op)
        return True
    for number in steps:
        mine = [a for a in held.attempts if a.step == number and a.direction is direction]
        if any(a.status == "done" for a in mine) or len(mine) > 1:
            continue
        choice = random.Random(f"{op} {number}")
        system, playbook = choice.choice(SYSTEMS), choice.choice(PLAYBOOKS)
        warrant = book.warrant(op, number, direction, system=system)
        book.intent(op, warrant, playbook=playbook, system=system)
        return True
    return False


def _evaluate(book: Logbook, op: str, held: Operation, rng: random.Random) -> None:
    if not held.checks:
        book.check(op, 1, passed=rng.random() < 0.7)
    else:
        book.verdict(op, judged_passed=rng.random() < 0.8)


def _rule(book: Logbook, op: str, held: Operation, rng: random.Random) -> None:
    if held.ruling is Ruling.ROLLBACK:
        book.order(op, 2, 1)
    else:
        book.rule(op, rng.choice((Ruling.COMPLETE, Ruling.COMPLETE, Ruling.ROLLBACK, Ruling.FAIL, Ruling.ESCALATE)))


def _settle(book: Logbook, op: str, held: Operation) -> None:
    doubt = next(a for a in held.attempts if a.status == "in_doubt")
    event = e.StepReconciled(
        step=doubt.step,
        attempt=doubt.attempt,
        direction=doubt.direction,
        happened=True,
        by="olga",
        reasons=("I looked.",),
    )
    book.add(event, Branch.PEOPLE, "olga", op)


def _resume(book: Logbook, op: str, held: Operation) -> None:
    to = Direction.UNDO if held.rollback is not None else Direction.DO
    book.add(e.OperationResumed(to=to, reasons=("Released.",)), Branch.CROWN, "triad", op)
