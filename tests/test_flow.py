"""The flow from request to seal, on the real ledger, with real files and the rules model."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from operations.errors import Conflict, InvalidRequest, NotAllowed
from operations.model import OperationType, Ruling
from operations.stages import Stage
from tests.bench import Bench, bench
from tests.conftest import Database
from tests.samples import ADA, CLEO, DANA, EVE, OLGA, person, request

pytestmark = pytest.mark.anyio


@pytest.fixture
async def at(database: Database, tmp_path: Path) -> AsyncIterator[Bench]:
    async with bench(database, tmp_path) as made:
        yield made


async def test_a_standard_change_runs_from_request_to_seal_without_asking(at: Bench) -> None:
    op = await at.advance(await at.submit(request(parameters={"name": "note", "text": "new"})))
    assert op.stage is Stage.COMPLETED, op.reasons
    assert (at.notes / "note.txt").read_text() == "new"
    assert await at.kinds(op) == [
        "operation.requested",
        "plan.proposed",
        "operation.approved",
        "operation.started",
        "warrant.issued",
        "step.intent",
        "step.done",
        "execution.finished",
        "check.evaluated",
        "check.evaluated",
        "verdict.given",
        "ruling.given",
    ]
    report = await at.verified()
    assert report.ok, report.problems


async def test_a_change_that_fails_its_checks_is_rolled_back_to_the_byte(at: Bench) -> None:
    (at.notes / "note.txt").write_text("before")
    op = await at.advance(await at.submit(request(parameters={"name": "note", "text": "break"})))
    assert op.stage is Stage.ROLLED_BACK
    assert (at.notes / "note.txt").read_text() == "before"
    assert op.verdict is not None
    assert not op.verdict.passed
    assert op.ruling is Ruling.ROLLBACK
    assert (await at.verified()).ok


async def test_a_step_that_fails_before_changing_anything_ends_as_failed(at: Bench) -> None:
    op = await at.advance(await at.submit(request(parameters={"name": "note", "text": "fail"})))
    assert op.stage is Stage.FAILED
    assert not (at.notes / "note.txt").exists()
    assert [a.status for a in op.attempts] == ["failed", "failed"]
    assert (await at.verified()).ok


async def test_a_tier_two_change_waits_for_somebody_else(at: Bench) -> None:
    op = await at.advance(await at.submit(request(playbook="note.write_important")))
    assert op.stage is Stage.PLANNED
    assert not (at.notes / "note.txt").exists()
    with pytest.raises(NotAllowed) as caught:
        await at.approve(op, ADA)
    assert "article-5" in caught.value.articles
    with pytest.raises(NotAllowed):
        await at.approve(op, person("ada.alias", *ADA.roles, alias_of="ada"))
    with pytest.raises(NotAllowed):
        await at.approve(op, OLGA)
    assert (await at.advance(op)).stage is Stage.PLANNED
    op = await at.advance(await at.approve(op, DANA))
    assert op.stage is Stage.COMPLETED
    assert (await at.kinds(op)).count("auth.denied") == 3
    assert (await at.verified()).ok


async def test_tier_three_needs_two_people_and_royal_assent(at: Bench) -> None:
    op = await at.advance(await at.submit(request(playbook="note.write_royal")))
    op = await at.advance(await at.approve(op, DANA))
    assert op.stage is Stage.PLANNED
    with pytest.raises(NotAllowed):
        await at.approve(op, person("dana.two", *DANA.roles, alias_of="dana"))
    op = await at.advance(await at.approve(op, EVE))
    assert op.stage is Stage.COMPLETED, op.reasons
    assert op.assented
    assert (await at.verified()).ok


async def test_an_approval_is_over_one_plan_only(at: Bench) -> None:
    op = await at.advance(await at.submit(request(playbook="note.write_important")))
    with pytest.raises(Conflict) as caught:
        await at.triad.petitions.approve(DANA, op.id, "0" * 64, "Fine.", channel="test")
    assert caught.value.code == "plan-changed"


async def test_a_denied_operation_ends_and_touches_nothing(at: Bench) -> None:
    op = await at.advance(await at.submit(request(playbook="note.write_important")))
    await at.triad.petitions.deny(DANA, op.id, op.bound_plan().digest, "Not today.", channel="test")
    op = await at.advance(op)
    assert op.stage is Stage.DENIED
    assert not (at.notes / "note.txt").exists()


async def test_an_approval_can_be_withdrawn_before_the_start(at: Bench) -> None:
    op = await at.advance(await at.submit(request(playbook="note.write_royal")))
    op = await at.approve(op, DANA)
    op = await at.triad.petitions.withdraw(DANA, op.id, "On second thought.")
    assert op.approvals == ()
    with pytest.raises(Conflict):
        await at.triad.petitions.withdraw(DANA, op.id, "Again.")
    op = await at.advance(await at.approve(op, EVE))
    assert op.stage is Stage.PLANNED


async def test_a_file_that_changed_after_the_approval_stops_the_step(at: Bench) -> None:
    op = await at.advance(await at.submit(request(playbook="note.write_important")))
    op = await at.approve(op, DANA)
    (at.notes / "note.txt").write_text("somebody was faster")
    op = await at.advance(op)
    assert op.stage is Stage.FAILED
    assert (at.notes / "note.txt").read_text() == "somebody was faster"
    denied = await at.triad.ledger.entries(operation=op.id, kinds={"warrant.denied"})
    assert {entry.event.code for entry in denied if entry.event.kind == "warrant.denied"} == {"preview-changed"}
    assert (await at.verified()).ok


async def test_a_halt_stops_everything_until_a_person_releases_it(at: Bench) -> None:
    await at.triad.regency.halt(CLEO, "Something smells.")
    op = await at.advance(await at.submit(request()))
    assert op.stage is Stage.APPROVED
    assert not (at.notes / "note.txt").exists()
    with pytest.raises(NotAllowed):
        await at.triad.regency.release(ADA, "Let me.")
    await at.triad.regency.release(CLEO, "All clear.")
    assert (await at.advance(op)).stage is Stage.COMPLETED
    assert (await at.verified()).ok


async def test_a_cancelled_operation_never_runs(at: Bench) -> None:
    op = await at.advance(await at.submit(request(playbook="note.write_important")))
    await at.triad.petitions.cancel(ADA, op.id, "Changed my mind.")
    op = await at.advance(op)
    assert op.stage is Stage.CANCELLED
    with pytest.raises(Conflict) as caught:
        await at.triad.petitions.cancel(ADA, op.id, "Again.")
    assert caught.value.code == "not-cancellable"


@pytest.mark.parametrize(
    ("changes", "code", "field"),
    [
        ({"systems": ("nowhere",)}, "unknown-system", "systems.0"),
        ({"playbook": "note.burn"}, "unknown-playbook", "playbook"),
        ({"parameters": {"name": "NOT OK"}}, "invalid-arguments", "parameters.name"),
        ({"parameters": {"surprise": 1}}, "invalid-arguments", "parameters.surprise"),
        (
            {"type": OperationType.DEPLOYMENT, "rollback_plan": None},
            "rollback-plan-missing",
            "rollback_plan",
        ),
    ],
)
async def test_a_bad_request_names_the_field_and_records_only_the_refusal(
    at: Bench, changes: dict[str, object], code: str, field: str
) -> None:
    size = (await at.triad.ledger.head()).size
    with pytest.raises(InvalidRequest) as caught:
        await at.submit(request(**changes))
    assert (caught.value.code, caught.value.field) == (code, field)
    entries = await at.triad.ledger.entries(after=size - 1)
    assert [entry.kind for entry in entries] == ["auth.denied"]


async def test_nothing_fits_is_a_refusal_with_the_nearest_playbooks(at: Bench) -> None:
    asked = request(playbook=None, description="Paint the data centre green.")
    op = await at.advance(await at.submit(asked))
    assert op.stage is Stage.REFUSED
    assert op.reasons


async def test_only_a_crown_officer_declares_an_emergency(at: Bench) -> None:
    with pytest.raises(NotAllowed) as caught:
        await at.submit(request(emergency=True))
    assert "article-15" in caught.value.articles
    op = await at.advance(await at.submit(request(emergency=True, type=OperationType.EMERGENCY), CLEO))
    assert op.stage is Stage.COMPLETED, op.reasons
    assert op.assented
    with pytest.raises(NotAllowed):
        await at.triad.petitions.ratify(CLEO, op.id, "It was me.")
    await at.triad.petitions.ratify(DANA, op.id, "It was right.")
    assert (await at.verified()).ok
