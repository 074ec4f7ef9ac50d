"""What a plan may not do although each of its steps is lawful: set aside what the request fixed in typed fields.

A planner reads free text; the playbook, the parameters and the type of a request are the person's own word, and code
holds the plan to them.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from agents.outputs import DraftStep
from operations.canonical import JsonObject
from operations.errors import InvalidRequest
from operations.evidence import Effect
from operations.model import OperationType, Request
from operations.playbook import Catalogue, Playbook
from operations.systems import Inventory

_READS_ONLY = frozenset({OperationType.MONITORING, OperationType.VALIDATION})


def bound(playbook: Playbook[Any], arguments: JsonObject) -> JsonObject:
    """Arguments as a plan holds them: parsed by the playbook, defaults filled in.

    Raises:
        InvalidRequest: as `Playbook.parse`.
    """
    values: JsonObject = playbook.parse(arguments).model_dump(mode="json", exclude_none=True)
    return values


def overreaches(
    request: Request, steps: Iterable[DraftStep], catalogue: Catalogue, inventory: Inventory
) -> tuple[str, ...]:
    """Where a draft goes beyond its request, in words; every step must fit its playbook and its system already."""
    drafted = [(number, step, catalogue.get(step.playbook)) for number, step in enumerate(steps, start=1)]
    found: list[str] = []
    for number, step, playbook in drafted:
        found += (f"Step {number}: {words}" for words in _beyond(request, step, playbook, inventory))
    if request.playbook is not None:
        if all(step.playbook != request.playbook for _, step, _ in drafted):
            found.append(f"The request names the playbook {request.playbook}, and no step is of it.")
        return tuple(found)
    known = {name for _, _, playbook in drafted for name in playbook.arguments.model_fields}
    found += (f"No step takes the parameter {name[:100]}." for name in request.parameters if name not in known)
    return tuple(found)


def _beyond(request: Request, step: DraftStep, playbook: Playbook[Any], inventory: Inventory) -> Iterator[str]:
    protects = playbook.protects(inventory.get(step.system))
    reads = playbook.effect is Effect.READ
    if step.optional and protects is not None:
        yield f"{playbook.name} makes the copy that other steps rest on and cannot be optional."
    tests = request.type is OperationType.VALIDATION and playbook.only_tests
    if request.type in _READS_ONLY and not (reads or tests):
        yield f"{playbook.name} changes something, which a {request.type.value} does not."
    if request.playbook is None:
        yield from _other_values(request, step, playbook)
    elif playbook.name == request.playbook:
        if bound(playbook, step.arguments) != bound(playbook, request.parameters):
            yield f"The arguments of {playbook.name} are not the request's parameters."
    elif not reads and protects not in request.systems:
        yield f"The request names the playbook {request.playbook}; beside it a plan may only look and make copies."


def _other_values(request: Request, step: DraftStep, playbook: Playbook[Any]) -> Iterator[str]:
    given = {name: value for name, value in request.parameters.items() if name in playbook.arguments.model_fields}
    try:
        wanted = bound(playbook, {**step.arguments, **given})
    except InvalidRequest as error:
        yield f"{playbook.name} cannot take the request's parameter {error.field}."
        return
    has = bound(playbook, step.arguments)
    for name in given:
        if has.get(name) != wanted.get(name):
            yield f"{name} is not what the request's parameter says."
