"""What a single caller may rely on: moves, refusals, folds, evidence, proofs."""

import asyncio
from pathlib import Path

import pytest

from operations import events as e
from operations.canonical import canonical_record, new_id, sha256
from operations.errors import Conflict, IllegalMove, LedgerCorrupt, NotFound, StageConflict, WarrantRefused
from operations.model import Actor, Branch, Tokens
from operations.stages import Stage
from storage.entry import Entry
from storage.leases import MARGIN
from storage.ledger import Act, Ledger
from storage.signer import Signer
from storage.verifier import tree
from storage.verifier.checkpoint import Checkpoint, verify_note
from tests.conftest import CONSTITUTION, ORIGIN, Database
from tests.steps import (
    ANA,
    BY_ANA,
    BY_CODE,
    denied,
    intent,
    issued,
    plan_for,
    planned,
    proposed,
    requested,
    running,
    submitted,
)

pytestmark = pytest.mark.anyio


async def size(ledger: Ledger) -> int:
    return (await ledger.head()).size


async def test_entry_zero_is_the_genesis_under_the_constitution_it_stores(ledger: Ledger) -> None:
    (first,) = await ledger.entries()
    assert (first.index, first.kind, first.constitution) == (0, "genesis", sha256(CONSTITUTION))
    assert await ledger.evidence(sha256(CONSTITUTION)) == CONSTITUTION


async def test_beginning_twice_changes_nothing(ledger: Ledger) -> None:
    before = await ledger.head()
    await ledger.begin(e.Genesis(policies=(), keys=(), code_version="9"), b"another")
    assert await ledger.head() == before


async def test_a_ledger_that_has_not_begun_says_so_and_records_nothing(database: Database, tmp_path: Path) -> None:
    ledger = await Ledger.open(database.app, Signer.load_or_create(tmp_path / "k", ORIGIN), origin=ORIGIN)
    with pytest.raises(NotFound, match="ledger-not-begun"):
        await ledger.head()
    with pytest.raises(Exception, match="has not begun"):
        await ledger.note(denied(), BY_ANA)
    assert await ledger.raw() == []
    await ledger.close()


async def test_a_recorded_operation_loads_as_it_was_returned(ledger: Ledger) -> None:
    op = await running(ledger)
    warrant = issued(op)
    op = await ledger.record(op, Act(warrant, BY_CODE), Act(intent(warrant), BY_CODE), consume=warrant.warrant)
    assert op.stage is Stage.RUNNING
    assert op.version == 6
    assert await ledger.load(op.id) == op


async def test_an_entry_says_who_acted_with_which_model_and_what_moved(ledger: Ledger) -> None:
    op = await submitted(ledger)
    mind = Actor(
        principal="agent:legislative",
        branch=Branch.LEGISLATIVE,
        model="rules/offline-1",
        prompt="a" * 64,
        tokens=Tokens(input=3, output=4),
        trace="b" * 32,
    )
    await ledger.record(op, Act(e.PlanRefused(code="nothing-fits", reasons=("No.",)), mind))
    entry = (await ledger.entries(operation=op.id))[-1]
    assert (entry.principal, entry.branch, entry.model, entry.prompt) == (
        mind.principal,
        mind.branch,
        mind.model,
        mind.prompt,
    )
    assert (entry.tokens, entry.trace, entry.origin) == (mind.tokens, mind.trace, ORIGIN)
    assert (entry.before, entry.after, entry.seq) == (Stage.REQUESTED, Stage.REFUSED, 2)


async def test_an_event_that_the_table_forbids_is_not_recorded(ledger: Ledger) -> None:
    op = await submitted(ledger)
    before = await ledger.head()
    with pytest.raises(IllegalMove):
        await ledger.record(op, Act(e.ExecutionFinished(outcome="finished", report="."), BY_CODE))
    assert await ledger.head() == before


async def test_whoever_records_upon_an_old_state_gets_a_conflict_and_adds_nothing(ledger: Ledger) -> None:
    op = await submitted(ledger)
    await ledger.record(op, Act(e.PlanRefused(code="x", reasons=("No.",)), BY_CODE))
    before = await ledger.head()
    with pytest.raises(StageConflict):
        await ledger.record(op, Act(e.OperationCancelled(by="ana", reason="Enough."), BY_ANA))
    assert await ledger.head() == before


async def test_an_operation_id_is_taken_once(ledger: Ledger) -> None:
    ident = new_id("op")
    await ledger.submit(requested(), BY_ANA, operation=ident)
    with pytest.raises(StageConflict):
        await ledger.submit(requested(), BY_ANA, operation=ident)
    assert await size(ledger) == 2


async def test_several_acts_are_recorded_together_or_not_at_all(ledger: Ledger) -> None:
    op = await submitted(ledger)
    with pytest.raises(IllegalMove):
        await ledger.record(
            op,
            Act(proposed(plan_for(op)), BY_CODE),
            Act(e.ExecutionFinished(outcome="finished", report="."), BY_CODE),
        )
    assert await size(ledger) == 2
    assert (await ledger.load(op.id)).stage is Stage.REQUESTED


async def test_an_annotation_among_acts_moves_nothing_but_stands_beside_the_operation(ledger: Ledger) -> None:
    op = await submitted(ledger)
    after = await ledger.record(op, Act(denied("odd"), BY_ANA), Act(e.PlanRefused(code="x", reasons=("No.",)), BY_CODE))
    assert after.version == op.version + 1
    kinds = [entry.kind for entry in await ledger.entries(operation=op.id)]
    assert kinds == ["operation.requested", "auth.denied", "plan.refused"]
    assert await ledger.load(op.id) == after


async def test_a_plan_stands_apart_and_comes_back_with_the_operation(ledger: Ledger) -> None:
    op = await planned(ledger)
    plan = op.bound_plan()
    assert await ledger.evidence(plan.digest) == canonical_record(plan)
    assert (await ledger.load(op.id)).bound_plan() == plan
    entry = (await ledger.entries(kinds=["plan.proposed"]))[0]
    assert b"VACUUM" not in entry.encode()


async def test_a_plan_under_another_digest_is_not_recorded(ledger: Ledger) -> None:
    op = await submitted(ledger)
    event = proposed(plan_for(op))
    for wrong in (event.model_copy(update={"plan": "e" * 64}), event.model_copy(update={"body": None})):
        with pytest.raises(ValueError, match="plan"):
            await ledger.record(op, Act(wrong, BY_CODE))
    assert await size(ledger) == 2


async def test_attachments_are_kept_under_their_digest(ledger: Ledger) -> None:
    await ledger.note(denied(), BY_ANA, attachments=(b"what was seen", b"more"))
    assert await ledger.evidence(sha256(b"more")) == b"more"
    await ledger.note(denied(), BY_ANA, attachments=(b"more",))
    with pytest.raises(NotFound, match="unknown-evidence"):
        await ledger.evidence("0" * 64)


async def test_an_entry_over_the_limit_is_refused_before_it_is_queued(ledger: Ledger) -> None:
    with pytest.raises(ValueError, match="16384"):
        await ledger.note(denied("x" * 16384), BY_ANA)
    assert await ledger.note(denied(), BY_ANA) == 1


async def test_only_annotations_are_noted(ledger: Ledger) -> None:
    for event in (e.PlanRefused(code="x", reasons=()), e.Genesis(policies=(), keys=(), code_version="0")):
        with pytest.raises(ValueError, match="no annotation"):
            await ledger.note(event, BY_ANA)


async def test_an_unknown_operation_is_not_found(ledger: Ledger) -> None:
    ident = new_id("op")
    with pytest.raises(NotFound, match="unknown-operation"):
        await ledger.load(ident)
    with pytest.raises(NotFound, match="unknown-operation"):
        await ledger.claim(ident, "w1", 60)


async def test_operations_are_listed_newest_first_by_pages_and_filters(ledger: Ledger) -> None:
    ids = sorted([(await submitted(ledger)).id for _ in range(4)], reverse=True)
    refused = await ledger.record(await ledger.load(ids[0]), Act(e.PlanRefused(code="x", reasons=("No.",)), BY_CODE))
    first = await ledger.operations(limit=3)
    assert [op.id for op in first] == ids[:3]
    assert [op.id for op in await ledger.operations(before=first[-1].id, limit=3)] == ids[3:]
    assert await ledger.operations(stages=[Stage.REFUSED]) == [refused]
    assert len(await ledger.operations(requester=ANA.id)) == 4
    assert await ledger.operations(requester="nobody") == []
    assert await ledger.operations(stages=[]) == []


async def test_entries_come_in_order_after_an_index_by_kind_and_by_operation(ledger: Ledger) -> None:
    op = await submitted(ledger)
    for number in range(5):
        await ledger.note(denied(str(number)), BY_ANA, operation=op.id if number % 2 else None)
    assert [entry.index for entry in await ledger.entries(after=2, limit=3)] == [3, 4, 5]
    assert [entry.index for entry in await ledger.entries(kinds=["operation.requested", "genesis"])] == [0, 1]
    assert [entry.index for entry in await ledger.entries(operation=op.id, kinds=["auth.denied"])] == [3, 5]
    raw = await ledger.raw(after=0, limit=2)
    assert [Entry.decode(data).index for _, data in raw] == [index for index, _ in raw] == [1, 2]


async def test_a_warrant_is_used_once(ledger: Ledger) -> None:
    op, twin = await running(ledger), await running(ledger)
    warrant = issued(op)
    await ledger.record(op, Act(warrant, BY_CODE), Act(intent(warrant), BY_CODE), consume=warrant.warrant)
    before = await ledger.head()
    again = issued(twin, warrant.warrant)
    with pytest.raises(WarrantRefused) as refused:
        await ledger.record(twin, Act(again, BY_CODE), Act(intent(again), BY_CODE), consume=warrant.warrant)
    assert refused.value.code == "warrant-used"
    assert await ledger.head() == before


async def test_a_halt_refuses_every_warrant_until_the_release(ledger: Ledger) -> None:
    op = await running(ledger)
    warrant = issued(op)
    acts = (Act(warrant, BY_CODE), Act(intent(warrant), BY_CODE))
    await ledger.note(e.CrownHalted(by="cleo", reason="Stop."), BY_ANA)
    assert (await ledger.head()).halted
    with pytest.raises(WarrantRefused) as refused:
        await ledger.record(op, *acts, consume=warrant.warrant)
    assert refused.value.code == "halted"
    await ledger.note(e.CrownReleased(by="cleo", reason="Go."), BY_ANA)
    assert not (await ledger.head()).halted
    await ledger.record(op, *acts, consume=warrant.warrant)


def amended(previous: str, enacted: str) -> e.ConstitutionAmended:
    return e.ConstitutionAmended(
        amendment="am_1",
        previous=previous,
        enacted=enacted,
        proposer="ana",
        ratifier="ben",
        proposer_person="ana",
        ratifier_person="ben",
        reason="Better.",
    )


async def test_after_an_amendment_warrants_under_the_old_constitution_are_refused(ledger: Ledger) -> None:
    op = await running(ledger)
    warrant = issued(op)
    await ledger.note(amended(sha256(CONSTITUTION), sha256(b"new")), BY_ANA, attachments=(b"new",))
    with pytest.raises(WarrantRefused) as refused:
        await ledger.record(op, Act(warrant, BY_CODE), Act(intent(warrant), BY_CODE), consume=warrant.warrant)
    assert refused.value.code == "constitution-changed"
    assert (await submitted(ledger)).constitution == sha256(b"new")


async def test_a_warrant_its_intent_and_its_consumption_are_recorded_together_or_not_at_all(ledger: Ledger) -> None:
    op = await running(ledger)
    warrant = issued(op)
    issue, begin = Act(warrant, BY_CODE), Act(intent(warrant), BY_CODE)
    size = (await ledger.head()).size
    for acts, consume in (
        ((issue,), None),
        ((issue,), warrant.warrant),
        ((issue, begin), None),
        ((issue, begin), "wr_another"),
    ):
        with pytest.raises(ValueError, match="together"):
            await ledger.record(op, *acts, consume=consume)
    assert (await ledger.head()).size == size
    op = await ledger.record(op, issue, begin, consume=warrant.warrant)
    assert [attempt.status for attempt in op.attempts] == ["intended"]


async def test_an_amendment_comes_into_force_with_the_entry_after_it(ledger: Ledger) -> None:
    await ledger.note(amended(sha256(CONSTITUTION), sha256(b"new")), BY_ANA)
    await ledger.note(denied(), BY_ANA)
    digests = [entry.constitution for entry in await ledger.entries()]
    assert digests == [sha256(CONSTITUTION), sha256(CONSTITUTION), sha256(b"new")]


async def test_an_amendment_of_a_constitution_that_is_not_in_force_is_refused(ledger: Ledger) -> None:
    with pytest.raises(Conflict, match="constitution-changed"):
        await ledger.note(amended(sha256(b"old"), sha256(b"new")), BY_ANA)
    assert (await ledger.head()).constitution == sha256(CONSTITUTION)


async def test_a_worker_that_was_replaced_can_use_no_warrant(ledger: Ledger) -> None:
    op = await running(ledger, "w1")
    await ledger.release(op.id, "w1", op.epoch)
    epoch = await ledger.claim(op.id, "w2", 60)
    assert epoch == op.epoch + 1
    warrant = issued(op)
    acts = (Act(warrant, BY_CODE), Act(intent(warrant), BY_CODE))
    with pytest.raises(WarrantRefused) as refused:
        await ledger.record(op, *acts, consume=warrant.warrant)
    assert refused.value.code == "epoch-stale"
    with pytest.raises(WarrantRefused, match="epoch-stale"):
        await ledger.record(op, Act(e.ExecutionFinished(outcome="stopped", report=""), BY_CODE), epoch=op.epoch)
    await ledger.record(op, *acts, consume=warrant.warrant, epoch=epoch)


async def test_a_claim_is_exclusive_until_it_ends(ledger: Ledger) -> None:
    op = await submitted(ledger)
    first = await ledger.claim(op.id, "w1", 60)
    assert first == 1
    assert await ledger.claim(op.id, "w2", 60) is None
    assert not await ledger.renew(op.id, "w2", first, 60)
    assert await ledger.renew(op.id, "w1", first, 0)
    assert await ledger.claim(op.id, "w2", 60) is None  # it may still be stopping what it has in hand
    assert await ledger.renew(op.id, "w1", first, -MARGIN)
    second = await ledger.claim(op.id, "w2", 60)
    assert second == 2
    assert not await ledger.renew(op.id, "w1", first, 60)
    await ledger.release(op.id, "w1", first)
    assert await ledger.claim(op.id, "w1", 60) is None


async def test_proofs_between_any_two_sizes_verify(ledger: Ledger) -> None:
    await asyncio.gather(*(ledger.note(denied(str(number)), BY_ANA) for number in range(299)))
    leaves = [tree.leaf_hash(data) for _, data in await ledger.raw()]
    roots = {size: tree.Frontier().extend(leaves[:size])[0].root() for size in range(1, 301)}
    for new in (2, 16, 17, 255, 256, 257, 300):
        for index in {0, new // 3, new - 1}:
            proof = await ledger.inclusion(index, new)
            assert tree.verify_inclusion(leaves[index], index, new, proof, roots[new])
        for old in {1, new // 2, new - 1, new}:
            proof = await ledger.consistency(old, new)
            assert tree.verify_consistency(old, roots[old], new, roots[new], proof)
    with pytest.raises(LedgerCorrupt, match="missing"):
        await ledger.inclusion(0, 512)


async def test_checkpoint_and_proofs_verify_with_the_public_key_alone(ledger: Ledger, tmp_path: Path) -> None:
    for number in range(20):
        await ledger.note(denied(str(number)), BY_ANA)
    key = Signer.load_or_create(tmp_path / "ledger.key", ORIGIN).key
    newest = Checkpoint.parse(verify_note(await ledger.checkpoint(), key).text)
    older = Checkpoint.parse(verify_note(await ledger.checkpoint(7), key).text)
    assert (newest.size, older.size) == (21, 7)
    leaves = {index: tree.leaf_hash(data) for index, data in await ledger.raw()}
    for index, leaf in leaves.items():
        proof = await ledger.inclusion(index, newest.size)
        assert tree.verify_inclusion(leaf, index, newest.size, proof, newest.root)
    proof = await ledger.consistency(older.size, newest.size)
    assert tree.verify_consistency(older.size, older.root, newest.size, newest.root, proof)
    with pytest.raises(NotFound, match="unknown-checkpoint"):
        await ledger.checkpoint(22)
