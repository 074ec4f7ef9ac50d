"""The gate matrix: whatever differs between a warrant and the world is refused, with the code of what differs."""

import base64
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from operations import events as e
from operations.canonical import digest_of, new_id, now
from operations.errors import WarrantRefused
from operations.model import Direction, Plan, RunMode, Step
from operations.operation import Approval, Attempt, Operation, apply, begin
from operations.playbook import Catalogue, Target
from operations.stages import Stage
from tests.samples import ADA, WriteNote, request, sample_catalogue, sample_inventory
from triad.gate import Attempted, Grounds, check, check_preview
from triad.warrant import Issuer, Warrant

pytestmark = pytest.mark.anyio
ZERO, ONE = "0" * 64, "1" * 64


@dataclass(frozen=True)
class Case:
    op: Operation
    warrant: Warrant
    attempted: Attempted
    grounds: Grounds
    issuer: Issuer


async def running(folder: Path) -> Case:
    catalogue, inventory = sample_catalogue(), sample_inventory(folder)
    steps = []
    for number, name in enumerate(("note.write", "note.write_important"), start=1):
        playbook, system = catalogue.get(name), inventory.get("notes")
        arguments: dict[str, Any] = {"name": "note", "text": f"text {number}"}
        steps.append(
            Step(
                number=number,
                playbook=name,
                system="notes",
                arguments=arguments,
                why="w",
                expected_effect="e",
                tier=playbook.tier,
                effect=playbook.effect,
                reversible=True,
                playbook_digest=playbook.digest,
                arguments_digest=digest_of(arguments),
                system_digest=system.digest,
                preview=await playbook.preview(playbook.parse(arguments), Target(system)),
            )
        )
    asked = e.OperationRequested(request=request(), requester=ADA)
    op = begin(new_id("op"), asked, now(), ZERO, None)
    plan = Plan(operation=op.id, version=1, summary="s", steps=tuple(steps), tier=2, constitution=ZERO)
    given = e.ApprovalGiven(
        approval="ap_1",
        plan=plan.digest,
        approver="dana",
        person="dana",
        reason="fine",
        expires=now() + timedelta(hours=1),
        channel="test",
    )
    for event in (
        e.PlanProposed(
            plan=plan.digest,
            version=1,
            tier=2,
            mode=RunMode.AUTONOMOUS,
            quorum=1,
            assent=False,
            reasons=(),
            articles=(),
            expires=now() + timedelta(hours=1),
            summary="s",
            body=plan,
        ),
        given,
        e.OperationApproved(plan=plan.digest, approvals=("ap_1",), reasons=(), articles=()),
        e.OperationStarted(plan=plan.digest, epoch=3),
    ):
        op = apply(op, event, now())
    issuer = Issuer(Ed25519PrivateKey.generate(), timedelta(minutes=1))
    warrant = issuer.issue(op, plan.step(1), Direction.DO, 1)
    playbook = catalogue.get("note.write")
    attempted = Attempted(
        operation=op,
        number=1,
        direction=Direction.DO,
        arguments=plan.step(1).arguments,
        system=inventory.get("notes"),
        playbook=playbook,
    )
    grounds = Grounds(
        keys=issuer.verifying, catalogue=catalogue, inventory=inventory, constitution=ZERO, halted=False, at=now()
    )
    return Case(op, warrant, attempted, grounds, issuer)


def resigned(case: Case, **changes: object) -> Warrant:
    """A warrant with other contents, signed by the true key: what a stolen issuer could make."""
    unsigned = case.warrant.model_copy(update={**changes, "signature": ""})
    return unsigned.model_copy(
        update={"signature": base64.b64encode(case.issuer.key.sign(unsigned.signed_bytes())).decode()}
    )


def refused(case: Case, warrant: Warrant | None = None) -> str:
    with pytest.raises(WarrantRefused) as caught:
        check(warrant or case.warrant, case.attempted, case.grounds)
    assert caught.value.reasons
    return caught.value.code


async def test_the_right_warrant_for_the_right_step_passes(tmp_path: Path) -> None:
    case = await running(tmp_path)
    check(case.warrant, case.attempted, case.grounds)


FIELDS: dict[str, object] = {
    "format": "triad-warrant/2",
    "id": "wr_other",
    "operation": new_id("op"),
    "step": 2,
    "attempt": 2,
    "direction": Direction.UNDO,
    "epoch": 4,
    "plan": ONE,
    "playbook": "note.write_important",
    "playbook_digest": ONE,
    "arguments": ONE,
    "preview": ONE,
    "system": "other",
    "system_digest": ONE,
    "approvals": (),
    "constitution": ONE,
    "issued": now() - timedelta(hours=1),
    "expires": now() + timedelta(days=1),
    "key": "0" * 16,
}


def test_the_matrix_has_every_field_of_a_warrant() -> None:
    assert set(FIELDS) | {"signature"} == set(Warrant.model_fields)


@pytest.mark.parametrize("field", FIELDS)
async def test_no_field_can_be_changed_without_breaking_the_signature(tmp_path: Path, field: str) -> None:
    case = await running(tmp_path)
    forged = case.warrant.model_copy(update={field: FIELDS[field]})
    expected = {"format": "format-unknown", "key": "key-unknown"}.get(field, "signature-invalid")
    assert refused(case, forged) == expected


@pytest.mark.parametrize(
    ("field", "code"),
    [
        ("operation", "other-operation"),
        ("step", "other-step"),
        ("attempt", "wrong-attempt"),
        ("direction", "wrong-direction"),
        ("epoch", "epoch-stale"),
        ("plan", "plan-changed"),
        ("playbook", "playbook-unknown"),
        ("playbook_digest", "playbook-changed"),
        ("arguments", "arguments-changed"),
        ("preview", "preview-changed"),
        ("system", "other-target"),
        ("system_digest", "target-changed"),
        ("approvals", "approvals-changed"),
        ("constitution", "constitution-changed"),
    ],
)
async def test_even_a_truly_signed_warrant_for_something_else_is_refused(tmp_path: Path, field: str, code: str) -> None:
    case = await running(tmp_path)
    assert refused(case, resigned(case, **{field: FIELDS[field]})) == code


@pytest.mark.parametrize("signature", ["", "AAAA", "not base64!", "A" * 86 + "=="])
async def test_a_signature_that_is_none_is_refused(tmp_path: Path, signature: str) -> None:
    case = await running(tmp_path)
    assert refused(case, case.warrant.model_copy(update={"signature": signature})) == "signature-invalid"


async def test_a_loosely_encoded_signature_is_refused(tmp_path: Path) -> None:
    case = await running(tmp_path)
    loose = case.warrant.signature.rstrip("=") + "\n=="
    assert refused(case, case.warrant.model_copy(update={"signature": loose})) == "signature-invalid"


async def test_another_issuers_key_is_unknown(tmp_path: Path) -> None:
    case = await running(tmp_path)
    stranger = Issuer(Ed25519PrivateKey.generate(), timedelta(minutes=1))
    assert refused(case, stranger.issue(case.op, case.op.bound_plan().step(1), Direction.DO, 1)) == "key-unknown"


World = Callable[[Case], Case]


def world(**changes: object) -> World:
    return lambda case: replace(case, grounds=replace(case.grounds, **changes))  # type: ignore[arg-type] # any field


def hands(**changes: object) -> World:
    return lambda case: replace(case, attempted=replace(case.attempted, **changes))  # type: ignore[arg-type] # any field


def state(**changes: object) -> World:
    def change(case: Case) -> Case:
        op = case.op.model_copy(update=changes)
        return replace(case, op=op, attempted=replace(case.attempted, operation=op))

    return change


class Impostor(WriteNote):
    """Carries a registered name without being the registered playbook."""


def approval(**changes: object) -> Approval:
    fields: dict[str, object] = {
        "id": "ap_1",
        "plan": ONE,
        "approver": "dana",
        "person": "dana",
        "reason": "r",
        "given": now(),
        "expires": now() + timedelta(hours=1),
        "channel": "test",
    }
    return Approval.model_validate(fields | changes)


def with_approval(**changes: object) -> World:
    def change(case: Case) -> Case:
        plan = case.op.bound_plan().digest
        return state(approvals=(approval(**({"plan": plan} | changes)),))(case)

    return change


def twice_the_same_person(case: Case) -> Case:
    plan = case.op.bound_plan().digest
    pair = (approval(plan=plan), approval(id="ap_2", plan=plan, approver="dana.alias"))
    needy = case.op.proposal.model_copy(update={"quorum": 2}) if case.op.proposal else None
    changed = state(approvals=pair, proposal=needy)(case)
    return replace(changed, warrant=resigned(changed, approvals=("ap_1", "ap_2")))


def needs_assent(case: Case) -> Case:
    assert case.op.proposal is not None
    return state(proposal=case.op.proposal.model_copy(update={"assent": True}))(case)


def step_done_already(case: Case) -> Case:
    done = Attempt(step=1, attempt=1, direction=Direction.DO, warrant="wr_0", status="done")
    return state(attempts=(done,))(case)


def step_under_way(case: Case) -> Case:
    begun = Attempt(step=1, attempt=1, direction=Direction.DO, warrant="wr_0", status="intended")
    return state(attempts=(begun,))(case)


def warrant_used(case: Case) -> Case:
    done = Attempt(step=1, attempt=1, direction=Direction.DO, warrant=case.warrant.id, status="done")
    return state(attempts=(done,))(case)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (world(at=now() + timedelta(hours=2)), "expired"),
        (world(at=now() - timedelta(hours=2)), "not-yet-valid"),
        (world(halted=True), "halted"),
        (world(constitution=ONE), "constitution-changed"),
        (world(keys={}), "key-unknown"),
        (world(catalogue=Catalogue([])), "playbook-unknown"),
        (state(stage=Stage.APPROVED), "not-running"),
        (state(stage=Stage.ROLLING_BACK), "not-running"),
        (state(stage=Stage.COMPLETED), "not-running"),
        (state(epoch=4), "epoch-stale"),
        (state(constitution=ONE), "constitution-changed"),
        (state(approvals=()), "approvals-changed"),
        (state(extra_quorum=1), "approvals-missing"),
        (with_approval(plan=ONE), "approval-of-other-plan"),
        (with_approval(person="ada"), "self-approval"),
        (with_approval(expires=now() - timedelta(minutes=1)), "approval-expired"),
        (twice_the_same_person, "approvals-missing"),
        (needs_assent, "assent-missing"),
        (step_done_already, "step-not-next"),
        (step_under_way, "step-under-way"),
        (warrant_used, "warrant-used"),
        (hands(number=2), "other-step"),
        (hands(arguments={"name": "note", "text": "swapped"}), "arguments-changed"),
        (hands(playbook=Impostor()), "playbook-unknown"),
    ],
)
async def test_whatever_changed_in_the_world_is_noticed(tmp_path: Path, change: World, code: str) -> None:
    assert refused(change(await running(tmp_path))) == code


async def test_another_target_in_the_hands_is_noticed(tmp_path: Path) -> None:
    case = await running(tmp_path)
    assert refused(hands(system=case.grounds.inventory.get("other"))(case)) == "other-target"


async def test_a_target_whose_description_changed_is_noticed(tmp_path: Path) -> None:
    case = await running(tmp_path)
    moved = case.grounds.inventory.get("notes").model_copy(update={"path": "/elsewhere"})
    assert refused(hands(system=moved)(case)) == "target-changed"


async def test_a_target_that_left_the_inventory_is_unknown(tmp_path: Path) -> None:
    case = await running(tmp_path)
    emptied = case.grounds.inventory.model_copy(update={"systems": ()})
    assert refused(world(inventory=emptied)(case)) == "target-unknown"


async def test_a_file_that_changed_since_the_preview_is_noticed(tmp_path: Path) -> None:
    case = await running(tmp_path)
    (tmp_path / "notes" / "note.txt").write_text("somebody was here")
    playbook = case.attempted.playbook
    seen = await playbook.preview(playbook.parse(case.attempted.arguments), Target(case.attempted.system))
    with pytest.raises(WarrantRefused) as caught:
        check_preview(case.op.bound_plan().step(1), seen)
    assert caught.value.code == "preview-changed"


async def test_a_plan_edited_after_its_approval_is_noticed(tmp_path: Path) -> None:
    case = await running(tmp_path)
    plan = case.op.bound_plan()
    edited = plan.model_copy(update={"summary": "something else"})
    assert case.op.proposal is not None
    assert refused(state(proposal=case.op.proposal.model_copy(update={"body": edited}))(case)) == "plan-changed"


def undoing(case: Case, **changes: object) -> Case:
    """The same operation, its first step done and ordered to be undone, and the warrant for that."""
    step = case.op.bound_plan().step(1)
    done = Attempt(step=1, attempt=1, direction=Direction.DO, warrant="wr_0", status="done", changed=True)
    rolling = {"stage": Stage.ROLLING_BACK, "rollback": (1,), "attempts": (done,)}
    back = case.op.model_copy(update=rolling | changes)
    attempted = replace(case.attempted, operation=back, direction=Direction.UNDO)
    warrant = case.issuer.issue(back, step, Direction.UNDO, 1)
    return replace(case, op=back, attempted=attempted, warrant=warrant, grounds=replace(case.grounds, at=now()))


async def test_approvals_may_expire_before_an_undo_but_not_before_a_step(tmp_path: Path) -> None:
    case = await running(tmp_path)
    old = approval(plan=case.op.bound_plan().digest, expires=now() - timedelta(minutes=1))
    back = undoing(case, approvals=(old,))
    check(back.warrant, back.attempted, back.grounds)
    assert refused(state(approvals=(old,))(case)) == "approval-expired"


async def test_a_warrant_rests_on_the_approvals_that_stand_and_on_no_others(tmp_path: Path) -> None:
    case = await running(tmp_path)
    plan, past = case.op.bound_plan().digest, now() - timedelta(minutes=1)
    given = (
        approval(id="ap_old", plan=plan, expires=past),
        approval(id="ap_new", plan=plan),
        approval(id="ap_eve", plan=plan, approver="eve", person="eve"),
    )
    assert case.op.proposal is not None
    needy = case.op.proposal.model_copy(update={"quorum": 2})
    renewed = state(approvals=given, proposal=needy)(case)
    fresh = case.issuer.issue(renewed.op, renewed.op.bound_plan().step(1), Direction.DO, 1)
    renewed = replace(world(at=now())(renewed), warrant=fresh)
    assert fresh.approvals == ("ap_eve", "ap_new")
    check(fresh, renewed.attempted, renewed.grounds)
    assert refused(renewed, resigned(renewed, approvals=("ap_eve", "ap_new", "ap_old"))) == "approval-expired"
    assert refused(renewed, resigned(renewed, approvals=("ap_eve",))) == "approvals-changed"
    assert refused(renewed, resigned(renewed, approvals=("ap_new", "ap_eve"))) == "approvals-changed"
    assert refused(state(approvals=given[:2])(renewed)) == "approvals-changed"
    assert refused(state(approvals=given[1:], extra_quorum=1)(renewed)) == "approvals-missing"


async def test_the_constitution_may_change_before_an_undo_but_not_before_a_step(tmp_path: Path) -> None:
    amended = world(constitution=ONE)
    case = await running(tmp_path)
    back = amended(undoing(case))
    check(back.warrant, back.attempted, back.grounds)
    assert refused(amended(case)) == "constitution-changed"


async def test_an_undo_still_needs_a_warrant_over_its_own_plan_and_no_halt(tmp_path: Path) -> None:
    back = undoing(await running(tmp_path))
    assert refused(back, resigned(back, constitution=ONE)) == "constitution-changed"
    assert refused(back, resigned(back, plan=ONE)) == "plan-changed"
    assert refused(world(halted=True)(back)) == "halted"
    assert refused(undoing(back, stage=Stage.RUNNING)) == "not-running"


async def test_a_step_that_is_back_is_not_undone_again_whatever_was_tried_after(tmp_path: Path) -> None:
    back = undoing(await running(tmp_path))
    tried = Attempt(step=1, attempt=1, direction=Direction.UNDO, warrant="wr_1", status="done")
    failed = Attempt(step=1, attempt=2, direction=Direction.UNDO, warrant="wr_2", status="failed")
    again = undoing(back, attempts=(*back.op.attempts, tried, failed))
    assert refused(again, resigned(again, attempt=3)) == "step-not-next"
