"""The constitution changes by two people or not at all, and while it is not the one in force nothing runs."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from operations.errors import Conflict, ConstitutionChanged, ConstitutionInvalid, NotAllowed, NotFound
from operations.stages import Stage
from tests.bench import Bench, bench
from tests.conftest import Database
from tests.samples import ADA, CLEO, DANA, ROOT, person, request
from triad.home import Home

pytestmark = pytest.mark.anyio


@pytest.fixture
async def at(database: Database, tmp_path: Path) -> AsyncIterator[Bench]:
    async with bench(database, tmp_path) as made:
        yield made


def tightened(at: Bench) -> str:
    """The constitution in force, with warrants of half the lifetime."""
    text = at.triad.statute.in_force().text
    assert "expiry_seconds = 120" in text
    return text.replace("expiry_seconds = 120", "expiry_seconds = 60")


async def test_an_admin_proposes_and_a_crown_officer_ratifies(at: Bench) -> None:
    before = at.triad.statute.in_force().digest
    proposal = await at.triad.regency.propose(ROOT, tightened(at), "Shorter is safer.")
    assert at.triad.statute.in_force().digest == before
    enacted = await at.triad.regency.ratify(CLEO, proposal.amendment, "Agreed.")
    assert enacted.digest == proposal.proposed == at.triad.statute.in_force().digest
    assert (await at.triad.ledger.head()).constitution == enacted.digest
    op = await at.advance(await at.submit(request()))
    assert op.stage is Stage.COMPLETED
    assert op.constitution == enacted.digest
    assert (await at.verified()).ok


async def test_one_person_cannot_do_both_not_even_under_another_name(at: Bench) -> None:
    everything = person("max", *ROOT.roles, *CLEO.roles)
    proposal = await at.triad.regency.propose(everything, tightened(at), "Mine.")
    alias = person("max.two", *CLEO.roles, alias_of="max")
    for again in (everything, alias):
        with pytest.raises(NotAllowed) as caught:
            await at.triad.regency.ratify(again, proposal.amendment, "Mine too.")
        assert "article-23" in caught.value.articles
    for stranger in (ADA, DANA):
        with pytest.raises(NotAllowed):
            await at.triad.regency.propose(stranger, tightened(at), "Let me.")


async def test_an_amendment_is_ratified_once_and_only_against_what_it_was_proposed_for(at: Bench) -> None:
    first = await at.triad.regency.propose(ROOT, tightened(at), "Shorter.")
    longer = at.triad.statute.in_force().text.replace("expiry_seconds = 120", "expiry_seconds = 200")
    second = await at.triad.regency.propose(ROOT, longer, "Longer.")
    await at.triad.regency.ratify(CLEO, first.amendment, "Yes.")
    with pytest.raises(Conflict) as caught:
        await at.triad.regency.ratify(CLEO, first.amendment, "Yes again.")
    assert caught.value.code == "amendment-settled"
    with pytest.raises(Conflict) as caught:
        await at.triad.regency.ratify(CLEO, second.amendment, "Yes.")
    assert caught.value.code == "proposal-outdated"
    with pytest.raises(NotFound):
        await at.triad.regency.ratify(CLEO, "am_unknown", "What?")


async def test_a_text_that_cannot_be_enforced_is_not_even_proposed(at: Bench) -> None:
    size = (await at.triad.ledger.head()).size
    with pytest.raises(ConstitutionInvalid):
        await at.triad.regency.propose(ROOT, "# Anarchy\n\nEverything goes.\n", "Freedom.")
    assert (await at.triad.ledger.head()).size == size


async def test_a_plan_made_under_the_old_constitution_is_made_again_and_approved_again(at: Bench) -> None:
    op = await at.advance(await at.submit(request(playbook="note.write_important")))
    op = await at.approve(op, DANA)
    proposal = await at.triad.regency.propose(ROOT, tightened(at), "Shorter.")
    await at.triad.regency.ratify(CLEO, proposal.amendment, "Yes.")
    op = await at.advance(op)
    assert op.stage is Stage.PLANNED
    assert (op.plans, op.approvals) == (2, ())
    assert op.bound_plan().constitution == proposal.proposed
    op = await at.advance(await at.approve(op, DANA))
    assert op.stage is Stage.COMPLETED
    assert (await at.verified()).ok


async def test_a_document_edited_by_hand_closes_everything(at: Bench, tmp_path: Path) -> None:
    op = await at.advance(await at.submit(request(playbook="note.write_important")))
    path = Home(tmp_path / "home").constitution
    good = path.read_bytes()
    path.write_bytes(good.replace(b"expiry_seconds = 120", b"expiry_seconds = 900"))
    for attempt in (at.submit(request()), at.approve(op, DANA), at.advance(op)):
        with pytest.raises(ConstitutionChanged):
            await attempt
    path.write_bytes(good)
    op = await at.advance(await at.approve(op, DANA))
    assert op.stage is Stage.COMPLETED


async def test_triad_does_not_open_over_a_document_that_is_not_in_force(database: Database, tmp_path: Path) -> None:
    async with bench(database, tmp_path):
        pass
    path = Home(tmp_path / "home").constitution
    path.write_text(path.read_text().replace("expiry_seconds = 120", "expiry_seconds = 900"))
    with pytest.raises(ConstitutionChanged):
        async with bench(database, tmp_path):
            pass


async def test_an_amendment_recorded_just_before_a_crash_is_written_out_at_the_next_start(
    database: Database, tmp_path: Path
) -> None:
    path = Home(tmp_path / "home").constitution
    async with bench(database, tmp_path) as at:
        old = path.read_bytes()
        proposal = await at.triad.regency.propose(ROOT, tightened(at), "Shorter.")
        await at.triad.regency.ratify(CLEO, proposal.amendment, "Yes.")
    path.write_bytes(old)  # as if the process had died between the record and the file
    async with bench(database, tmp_path) as at:
        assert at.triad.statute.in_force().digest == proposal.proposed
