"""A planner is held to what the request fixed: its playbook, its parameters, its type, and copies that must be made."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import ClassVar

import pytest
from pydantic_ai.messages import ModelMessage, ModelResponse, ToolCallPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from agents.crown import Crown
from agents.evaluator import Evaluator
from agents.executor import Executor
from agents.minds import Minds
from agents.outputs import DraftStep
from agents.planner import Planner
from agents.rules import RulesModel
from operations.canonical import JsonObject
from operations.evidence import Effect
from operations.model import OperationType
from operations.operation import Operation
from operations.playbook import Catalogue
from operations.stages import Stage
from operations.systems import CacheFolder, Inventory, System
from tests.bench import Bench
from tests.conftest import Database
from tests.samples import CLEO, WriteNote, request, sample_catalogue, sample_inventory
from triad.assembly import Blueprint, assembled
from triad.home import Home, default_inventory
from triad.overreach import overreaches

pytestmark = pytest.mark.anyio


class LookAtNote(WriteNote):
    """Reads only."""

    name = "note.look"
    summary = "Look at a note."
    keywords = ("look",)
    tier = 0
    effect = Effect.READ


class CopyNote(WriteNote):
    """Makes a copy of the folder that it is run on."""

    name = "note.copy"
    summary = "Copy a note."
    keywords = ("copy",)

    def protects(self, system: System) -> str | None:
        return system.name


class TryNote(WriteNote):
    """Leaves nothing but its proof."""

    name = "note.try"
    summary = "Try a note."
    keywords = ("try",)
    only_tests: ClassVar[bool] = True


CATALOGUE = Catalogue([*sample_catalogue(), LookAtNote(), CopyNote(), TryNote()])
GOOD: JsonObject = {"name": "note", "text": "good"}


def step(playbook: str = "note.write", *, optional: bool = False, **arguments: str) -> DraftStep:
    return DraftStep(
        playbook=playbook,
        system="notes",
        arguments=dict(arguments),
        why="Asked for.",
        expected_effect="A note.",
        optional=optional,
    )


def planned_by(*steps: DraftStep) -> Minds:
    """Minds whose planner proposes these steps whatever it is told; the rules model does the rest."""
    form = {"summary": "As I see fit.", "steps": [each.model_dump(mode="json") for each in steps]}

    def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        del messages, info
        return ModelResponse(parts=[ToolCallPart("propose", json.dumps(form))])

    rules = RulesModel()
    return Minds(
        planner=Planner(FunctionModel(answer), fallback=rules),
        executor=Executor(rules),
        evaluator=Evaluator(rules),
        crown=Crown(rules),
    )


@asynccontextmanager
async def bench_of(
    database: Database, folder: Path, minds: Minds | None = None, inventory: Inventory | None = None
) -> AsyncIterator[Bench]:
    home = Home(folder / "home")
    home.prepare()
    inventory = inventory or sample_inventory(folder)
    blueprint = Blueprint(home=home, dsn=database.app, inventory=inventory, catalogue=CATALOGUE, minds=minds)
    async with assembled(blueprint) as triad:
        yield Bench(triad, folder)


WITHIN: list[tuple[dict[str, object], tuple[DraftStep, ...]]] = [
    ({"parameters": GOOD}, (step(name="note", text="good"),)),
    ({"parameters": {"text": "good"}}, (step(text="good"),)),
    ({"parameters": GOOD}, (step("note.look"), step("note.copy"), step(name="note", text="good"))),
    ({"playbook": None, "parameters": {"text": "good"}}, (step(name="other", text="good"),)),
    ({"playbook": None}, (step(name="other", text="good"), step("note.send", optional=True))),
    ({"playbook": None, "type": OperationType.MONITORING}, (step("note.look"),)),
    ({"playbook": None, "type": OperationType.VALIDATION}, (step("note.look"), step("note.try"))),
]


@pytest.mark.parametrize(("asked", "steps"), WITHIN)
def test_what_stays_within_the_request_is_no_overreach(
    tmp_path: Path, asked: dict[str, object], steps: tuple[DraftStep, ...]
) -> None:
    assert overreaches(request(**asked), steps, CATALOGUE, sample_inventory(tmp_path)) == ()


BEYOND: list[tuple[dict[str, object], tuple[DraftStep, ...], str]] = [
    ({"parameters": GOOD}, (step(name="evil", text="good"),), "are not the request's parameters"),
    ({"parameters": GOOD}, (step(name="note"),), "are not the request's parameters"),
    ({}, (step(text="unasked"),), "are not the request's parameters"),
    ({}, (step(), step(text="once more")), "Step 2: The arguments"),
    ({"playbook": "note.write_important"}, (step(),), "no step is of it"),
    ({"playbook": "note.write_important"}, (step("note.write_important"), step()), "only look and make copies"),
    ({}, (step("note.look"),), "no step is of it"),
    ({"playbook": None, "parameters": GOOD}, (step(name="note", text="evil"),), "text is not what"),
    ({"playbook": None, "parameters": GOOD}, (step(name="note"),), "text is not what"),
    ({"playbook": None, "parameters": {"name": "NO"}}, (step(),), "cannot take the request's parameter name"),
    ({"playbook": None, "parameters": {"colour": "red"}}, (step(),), "No step takes the parameter colour."),
    ({"playbook": None, "type": OperationType.MONITORING}, (step(),), "which a monitoring does not"),
    ({"playbook": None, "type": OperationType.MONITORING}, (step("note.try"),), "which a monitoring does not"),
    ({"playbook": None, "type": OperationType.VALIDATION}, (step("note.copy"),), "which a validation does not"),
    ({"type": OperationType.MONITORING}, (step(),), "which a monitoring does not"),
    ({"playbook": None}, (step("note.copy", optional=True), step()), "cannot be optional"),
]


@pytest.mark.parametrize(("asked", "steps", "words"), BEYOND)
def test_what_goes_beyond_the_request_is_named(
    tmp_path: Path, asked: dict[str, object], steps: tuple[DraftStep, ...], words: str
) -> None:
    found = overreaches(request(**asked), steps, CATALOGUE, sample_inventory(tmp_path))
    assert words in " ".join(found)


@pytest.mark.parametrize(
    ("asked", "stage"),
    [
        ({"parameters": GOOD}, Stage.PLANNED),
        ({"parameters": GOOD, "type": OperationType.MONITORING}, Stage.REFUSED),
        ({"playbook": "note.write_important", "parameters": GOOD}, Stage.PLANNED),
    ],
)
async def test_a_planner_that_insists_on_another_plan_is_replaced_and_never_obeyed(
    database: Database, tmp_path: Path, asked: dict[str, object], stage: Stage
) -> None:
    async with bench_of(database, tmp_path, planned_by(step(name="evil", text="EVIL"))) as at:
        op = await at.advance(await at.submit(request(**asked)))
        assert op.stage is stage, op.reasons
        assert "agent.degraded" in await at.kinds(op)
        assert list(at.notes.iterdir()) == []
        steps = op.plan.steps if op.plan else ()
        assert [(each.playbook, each.arguments) for each in steps] == [(op.request.playbook, GOOD)] * len(steps)
        assert bool(steps) == (stage is Stage.PLANNED)


async def test_code_refuses_what_the_validator_let_pass(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def blind(_draft: object) -> tuple[str, ...]:
        return ()

    async with bench_of(database, tmp_path, planned_by(step(name="evil", text="EVIL"))) as at:
        monkeypatch.setattr(at.triad.petitions._planning, "_validator", lambda _: blind)
        op = await at.advance(await at.submit(request(parameters=GOOD)))
    assert (op.stage, op.code) == (Stage.REFUSED, "planner-overreach")
    assert op.reasons


def locked(folder: Path) -> Inventory:
    first, second = sample_inventory(folder).systems
    return Inventory(systems=(first.model_copy(update={"emergency": False}), second))


async def emergency(at: Bench, **changes: object) -> Operation:
    asked = request(emergency=True, type=OperationType.EMERGENCY, **changes)
    return await at.advance(await at.submit(asked, CLEO))


async def test_break_glass_changes_no_system_that_is_closed_to_it(database: Database, tmp_path: Path) -> None:
    async with bench_of(database, tmp_path, inventory=locked(tmp_path)) as at:
        op = await emergency(at)
        assert (op.stage, op.code) == (Stage.REFUSED, "not-for-emergencies")
        assert "notes" in op.reasons[0]
        assert not (at.notes / "note.txt").exists()
        assert (await emergency(at, systems=("other",))).stage is Stage.COMPLETED
        assert (await emergency(at, playbook="note.look", parameters={})).code != "not-for-emergencies"
        assert (await at.advance(await at.submit(request()))).stage is Stage.COMPLETED


def test_triads_own_settings_are_closed_to_break_glass(tmp_path: Path) -> None:
    systems = {each.name: each for each in default_inventory(Home(tmp_path), "http://127.0.0.1:1").systems}
    assert not systems["triad-config"].emergency
    assert systems["triad-config"].tier_floor == 2
    assert CacheFolder(name="notes", path="/x").emergency
