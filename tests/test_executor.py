"""The executor: one tool a step, nothing else reaches the gate, and the report cannot claim what was not done."""

import pytest
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.messages import ModelMessage, ModelResponse, ToolCallPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from agents.executor import ATTEMPTS, Executor
from agents.facts import ExecutorFacts, StepResult
from agents.mind import Limits
from agents.outputs import ExecutionReport
from agents.rules import RulesModel
from agents.thought import Degraded, MindUnavailable, Thought
from operations.errors import LedgerUnavailable
from tests.minds import Call, Gate, executor_facts, result, scripted, step

pytestmark = pytest.mark.anyio

REPORT: Call = ("report", {"summary": "all done", "stopped": False})


def run(number: int) -> Call:
    return (f"step_{number}", {})


async def execute(
    gate: Gate, *turns: Call | list[Call], facts: ExecutorFacts | None = None, fallback: bool = False
) -> Thought[ExecutionReport]:
    executor = Executor(scripted(*turns), fallback=RulesModel() if fallback else None)
    return await executor.execute(facts or executor_facts(), gate.act, gate.skip)


async def test_the_tools_are_the_plans_steps_and_nothing_else() -> None:
    offered: list[tuple[str, object]] = []

    def look(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        del messages
        offered.extend((tool.name, tool.parameters_json_schema["properties"]) for tool in info.function_tools)
        return ModelResponse(parts=[ToolCallPart("report", '{"summary":"none","stopped":true}')])

    facts = executor_facts(step(1), step(2, optional=True))
    await Executor(FunctionModel(look)).execute(facts, Gate().act, Gate().skip)
    assert [name for name, _ in offered] == ["step_1", "step_2", "skip_2"]
    assert offered[0][1] == {}


async def test_steps_reach_the_gate_in_the_order_in_which_they_are_called() -> None:
    gate = Gate()
    thought = await execute(gate, run(1), run(2), run(3), REPORT)
    assert gate.calls == ["step 1", "step 2", "step 3"]
    assert not thought.output.stopped


async def test_calls_made_at_once_run_one_after_the_other() -> None:
    running: list[int] = []
    most: list[int] = []

    async def act(number: int) -> StepResult:
        running.append(number)
        most.append(len(running))
        running.remove(number)
        return result(number, "done")

    await Executor(scripted([run(1), run(2), run(3)], REPORT)).execute(executor_facts(), act, Gate().skip)
    assert most == [1, 1, 1]


@pytest.mark.parametrize(
    "call",
    [
        ("step_9", {}),
        ("skip_1", {"reason": "I would rather not"}),
        ("shell", {"command": "reboot"}),
        ("step_1", {"system": "billing-db"}),
        ("step_1", {"arguments": {"tables": ["all"]}}),
        ("step_1", "{"),
    ],
)
async def test_a_call_that_was_not_offered_never_reaches_the_gate(call: Call) -> None:
    gate = Gate()
    thought = await execute(gate, call, ("report", {"summary": "stopped", "stopped": True}))
    assert gate.calls == []
    assert thought.output.stopped


async def test_an_optional_step_is_skipped_with_a_reason() -> None:
    gate = Gate()
    facts = executor_facts(step(1), step(2, optional=True))
    thought = await execute(gate, run(1), ("skip_2", {"reason": "not needed"}), REPORT, facts=facts)
    assert gate.calls == ["step 1", "skip 2: not needed"]
    assert not thought.output.stopped


@pytest.mark.parametrize("reason", ["", "x" * 501])
async def test_skipping_needs_a_reason_of_some_length(reason: str) -> None:
    gate = Gate()
    facts = executor_facts(step(1, optional=True))
    await execute(gate, ("skip_1", {"reason": reason}), ("report", {"summary": "x", "stopped": True}), facts=facts)
    assert gate.calls == []


async def test_a_report_that_leaves_steps_out_is_sent_back_once_and_then_corrected_by_code() -> None:
    gate = Gate()
    thought = await execute(gate, run(1), REPORT, REPORT)
    assert thought.output.stopped
    assert thought.output.reasons[-1] == "Not done: step 2, 3."


async def test_a_report_that_is_sent_back_may_lead_to_the_rest_being_done() -> None:
    gate = Gate()
    thought = await execute(gate, run(1), REPORT, run(2), run(3), REPORT)
    assert gate.calls == ["step 1", "step 2", "step 3"]
    assert not thought.output.stopped


async def test_a_step_that_is_done_is_not_run_again() -> None:
    gate = Gate()
    facts = executor_facts(step(1, state="done"), step(2))
    await execute(gate, run(1), run(2), run(2), REPORT, facts=facts)
    assert gate.calls == ["step 2"]


async def test_a_step_is_tried_a_few_times_and_no_more() -> None:
    gate = Gate(*[result(1, "failed", retryable=True)] * 9)
    await execute(gate, *[run(1)] * 6, ("report", {"summary": "gave up", "stopped": True}))
    assert gate.calls == ["step 1"] * ATTEMPTS


@pytest.mark.parametrize("status", ["halted", "in_doubt"])
async def test_after_a_halt_or_a_doubt_nothing_reaches_the_gate(status: str) -> None:
    gate = Gate(result(1, status))
    thought = await execute(gate, run(1), run(1), run(2), REPORT)
    assert gate.calls == ["step 1"]
    assert thought.output.stopped


async def test_a_report_given_beside_calls_ends_the_run_before_them() -> None:
    gate = Gate()
    thought = await execute(gate, [run(1), ("report", {"summary": "stop", "stopped": True})])
    assert gate.calls == []
    assert thought.output.stopped


async def test_what_the_gate_raises_passes_through_and_is_not_the_models_failure() -> None:
    async def act(number: int) -> StepResult:
        raise LedgerUnavailable(str(number))

    executor = Executor(scripted(run(1)), fallback=RulesModel())
    with pytest.raises(LedgerUnavailable):
        await executor.execute(executor_facts(), act, Gate().skip)


async def test_the_fallback_carries_on_where_the_model_failed_and_repeats_nothing() -> None:
    turns = [run(1), run(2)]

    def fail_later(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        del messages, info
        if not turns:
            raise ModelHTTPError(503, "far-away")
        name, _ = turns.pop(0)
        return ModelResponse(parts=[ToolCallPart(name, "{}")])

    gate = Gate()
    executor = Executor(FunctionModel(fail_later, model_name="far-away"), fallback=RulesModel())
    thought = await executor.execute(executor_facts(), gate.act, gate.skip)
    assert gate.calls == ["step 1", "step 2", "step 3"]
    assert not thought.output.stopped
    assert thought.degraded == Degraded(model="function:far-away", fallback="rules/offline-1", code="provider-error")


async def test_the_fallback_does_not_try_a_step_again_that_may_not_be() -> None:
    gate = Gate(result(1, "failed"))
    thought = await execute(gate, run(1), ("report", "{"), fallback=True)
    assert gate.calls == ["step 1"]
    assert thought.output.stopped
    assert thought.degraded is not None


async def test_a_model_that_goes_in_circles_is_stopped() -> None:
    gate = Gate()
    executor = Executor(scripted(run(1)), limits=Limits(requests=2, tool_calls=2))
    with pytest.raises(MindUnavailable, match="usage-limit"):
        await executor.execute(executor_facts(step(1)), gate.act, gate.skip)
    assert gate.calls == ["step 1"]


async def test_a_model_is_not_its_own_fallback() -> None:
    seen: list[list[ModelMessage]] = []
    stuck = scripted(("report", "{"), seen=seen)
    with pytest.raises(MindUnavailable):
        await Executor(stuck, fallback=stuck).execute(executor_facts(), Gate().act, Gate().skip)
    assert len(seen) == 1 + Limits().corrections
