"""What a decision of the constitution costs: rules parsed once, against the rules parsed at each question.

`python -m evals.benchmarks.policy` prints the table.
"""

import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial

import cedarpy

from evals.benchmarks.__main__ import table
from evals.benchmarks.row import Row
from operations.articles import Reading
from operations.constitution import Action, Constitution, Context, Resource
from operations.model import Branch, OperationType, Principal, PrincipalKind, Role, Ruling, RunMode, agent_principal
from prompts import load

_NOW = Context(mode=RunMode.AUTONOMOUS, halted=False, warranted=True, ruling=Ruling.COMPLETE, overdue_ratifications=0)
_OPERATION = Resource(
    kind="operation",
    id="op_00000000000000000000000000",
    type=OperationType.MAINTENANCE,
    requester="rita",
    requester_person="rita",
    emergency=False,
    age_minutes=3,
    tier=2,
    steps=4,
    approvers=frozenset({"zoe"}),
    quorum=1,
    assent=False,
    assented=False,
    expired=False,
    rollback_plan=True,
    checks_passed=True,
    verdict_passed=True,
    escalated=False,
    playbook_emergency=False,
    undo=False,
)


def _person(name: str, role: Role) -> Principal:
    return Principal(id=name, kind=PrincipalKind.PERSON, roles=frozenset({role}), person=name)


def _microseconds(act: Callable[[], object], times: int) -> float:
    act()
    spent = []
    for _ in range(times):
        before = time.perf_counter_ns()
        act()
        spent.append(time.perf_counter_ns() - before)
    return statistics.median(spent) / 1000


def measure(*, quick: bool = False) -> Iterator[Row]:
    """The median cost of a decision for six actions, of parsing each time, of the requirements, and of loading."""
    times = 200 if quick else 5000
    text = load("constitution").text
    constitution = Constitution.parse(text)
    policies = "\n".join(block.text for block in Reading(constitution.text).cedar)
    approver = _person("dana", Role.APPROVER)
    entities = [
        {"uid": {"type": "Person", "id": "dana"}, "attrs": {"name": "dana", "person": "dana"}, "parents": []},
        {"uid": {"type": "Keys", "id": "keys"}, "attrs": {}, "parents": []},
    ]
    request = {"principal": 'Person::"dana"', "action": 'Action::"read"', "resource": 'Keys::"keys"', "context": {}}
    parsed_each_time = _microseconds(lambda: cedarpy.is_authorized(request, policies, entities), max(20, times // 50))
    yield Row("parse the rules at each decision", parsed_each_time, "us", note=f"{len(constitution.policies)} policies")
    step = _OPERATION.model_copy(update={"kind": "step"})
    for principal, action, resource in (
        (approver, Action.READ, _OPERATION),
        (_person("rita", Role.REQUESTER), Action.SUBMIT, _OPERATION),
        (approver, Action.APPROVE, _OPERATION),
        (agent_principal(Branch.EXECUTIVE), Action.START, _OPERATION),
        (agent_principal(Branch.EXECUTIVE), Action.EXECUTE, step),
        (agent_principal(Branch.CROWN), Action.RULE, _OPERATION),
    ):
        constitution.decide(principal, action, resource, _NOW).raise_if_denied()
        cost = _microseconds(partial(constitution.decide, principal, action, resource, _NOW), times)
        yield Row(
            f"decide {action.value}",
            cost,
            "us",
            ratio=cost / parsed_each_time,
            target="under 100 us",
            note="against parsing at each decision",
        )
    loading = _microseconds(lambda: Constitution.parse(text), 3 if quick else 20)
    yield Row("read, validate and probe the document", loading, "us", note="once a process, and at an amendment")


if __name__ == "__main__":
    print(table(measure()))
