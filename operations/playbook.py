"""What a playbook is, and the catalogue of those that are registered.

A playbook does one real thing to one real system. It is typed, previewed, checked and, where it changes something,
undoable. It never decides whether it may run: the gate does, before `run` or `undo` is called.
"""

import ast
import inspect
import sys
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from types import ModuleType
from typing import Any, ClassVar, Generic, TypeVar

from pydantic import ValidationError

from operations.canonical import Digest, JsonObject, Record, canonical, sha256
from operations.errors import InvalidRequest, NotFound, PlaybookFailed
from operations.evidence import Check, Effect, Outcome, Preview, Probe, Snapshot
from operations.systems import System, SystemKind


class Arguments(Record):
    """Base of every playbook's argument model: bounded, typed, with units in the field descriptions."""


@dataclass(frozen=True, slots=True)
class Target:
    """A system together with the credential that the caller may use.

    `credential` resolves to the acting DSN or token inside the runner, and to the observing one inside the evaluator's
    probes; playbooks never choose.
    """

    system: System
    credential: str | None = None

    def expect(self, kind: type[Any]) -> Any:  # noqa: ANN401 - narrowed by the caller's kind
        """The system, if it is of `kind`.

        Raises:
            InvalidRequest: `wrong-system-kind`.
        """
        if not isinstance(self.system, kind):
            raise InvalidRequest("wrong-system-kind", f"{self.system.name} is not a {kind.__name__}.")
        return self.system


async def _silent(_fraction: float, _note: str) -> None:
    return None


@dataclass(frozen=True, slots=True)
class Call:
    """One execution of a step: its idempotency key `operation/step/attempt` and where to report progress."""

    key: str
    progress: Callable[[float, str], Awaitable[None]] = _silent


A = TypeVar("A", bound=Arguments)


class Playbook(ABC, Generic[A]):
    """One typed operation on one kind of system."""

    name: ClassVar[str]
    """`family.verb`, for example `postgres.vacuum_analyze`."""
    summary: ClassVar[str]
    """One sentence on what it does."""
    keywords: ClassVar[tuple[str, ...]] = ()
    """Words in a request that point to this playbook; used by the offline planner and by search."""
    arguments: ClassVar[type[Arguments]]
    fits: ClassVar[frozenset[SystemKind]]
    tier: ClassVar[int]
    """0 reads only, 1 standard, 2 normal, 3 high."""
    effect: ClassVar[Effect]
    emergency: ClassVar[bool] = False
    """Whether break-glass may use it."""
    reversible: ClassVar[bool] = False
    only_tests: ClassVar[bool] = False
    """Whether all it leaves behind is the proof of a test, so that a request of type `validation` may use it."""
    timeout: ClassVar[timedelta] = timedelta(minutes=10)
    sustain: ClassVar[timedelta] = timedelta(0)
    """How long the post-conditions must go on holding; the evaluator checks at the start and at the end of it."""

    @abstractmethod
    async def preview(self, args: A, target: Target) -> Preview:
        """What exactly `run` would do. Reads only."""

    @abstractmethod
    async def before(self, args: A, target: Target) -> Snapshot:
        """Check what must hold before the step and take the snapshot for undo and comparison.

        Raises:
            PlaybookFailed: a pre-condition does not hold; nothing was changed.
        """

    @abstractmethod
    async def run(self, args: A, target: Target, call: Call) -> Outcome:
        """Do it.

        Raises:
            PlaybookFailed: it failed in a known way.
        """

    @abstractmethod
    async def checks(self, args: A, target: Target, before: Snapshot) -> tuple[Check, ...]:
        """The contract's post-conditions, read-only, against the snapshot taken before."""

    async def undo(self, args: A, target: Target, snapshot: Snapshot, call: Call) -> Outcome:
        """Bring back what the snapshot holds. Only called when `reversible`.

        Raises:
            PlaybookFailed: `not-reversible` unless overridden.
        """
        del args, target, snapshot, call
        raise PlaybookFailed("not-reversible", f"{self.name} has no undo.")

    async def undone(self, args: A, target: Target, snapshot: Snapshot) -> tuple[Check, ...]:
        """Post-conditions of `undo`: the system equals the snapshot. At least one for a reversible playbook."""
        del args, target, snapshot
        return ()

    async def probe(self, args: A, target: Target, snapshot: Snapshot, key: str) -> Probe:
        """For `once_probe`: did the step with this idempotency key happen?"""
        del args, target, snapshot, key
        return Probe.UNKNOWN

    def protects(self, system: System) -> str | None:
        """The system whose restorable copy a run on `system` makes, where it makes one."""
        del system
        return None

    def schema(self) -> JsonObject:
        """The JSON schema of the arguments, as models and forms are shown it."""
        schema: JsonObject = self.arguments.model_json_schema()
        return schema

    def parse(self, raw: JsonObject) -> A:
        """Validate arguments against this playbook's own model.

        Raises:
            InvalidRequest: `invalid-arguments` naming the field, never echoing the value.
        """
        try:
            return self.arguments.model_validate_json(canonical(raw))  # type: ignore[return-value]  # `arguments` is of A
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            where = ".".join(str(part) for part in first["loc"]) or "arguments"
            raise InvalidRequest("invalid-arguments", f"{self.name}: {where}: {first['msg']}", field=where) from error
        except ValueError as error:
            raise InvalidRequest("invalid-arguments", f"{self.name}: {error}", field="arguments") from error

    @property
    def digest(self) -> Digest:
        """SHA-256 over the declaration and the sources it is built on: a changed playbook is another playbook."""
        return _digest(type(self))


_DIGESTS: dict[type, str] = {}


def _sources(module: ModuleType) -> dict[str, Digest]:
    """SHA-256 of the module's source and of every module of the same package that it builds on, by name."""
    package = module.__name__.rpartition(".")[0]
    found: dict[str, Digest] = {}
    waiting = [module]
    while waiting:
        source = inspect.getsource(current := waiting.pop())
        found[current.__name__] = sha256(source.encode())
        froms = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom) and node.module]
        imported = {f"{node.module}{end}" for node in froms for end in ("", *(f".{name.name}" for name in node.names))}
        siblings = {name for name in imported if package and name.startswith(f"{package}.")}
        waiting += [sys.modules[name] for name in siblings - found.keys() if name in sys.modules]
    return found


def _digest(kind: type[Playbook[Any]]) -> str:
    if kind not in _DIGESTS:
        module = inspect.getmodule(kind)
        sources = _sources(module) if module is not None else {kind.__name__: sha256(inspect.getsource(kind).encode())}
        declaration = canonical(
            {
                "name": kind.name,
                "tier": kind.tier,
                "effect": kind.effect.value,
                "fits": [str(fit) for fit in sorted(kind.fits)],
                "emergency": kind.emergency,
                "reversible": kind.reversible,
                "timeout_seconds": int(kind.timeout.total_seconds()),
                "schema": sha256(repr(kind.arguments.model_json_schema()).encode()),
                "sources": dict(sources),
            }
        )
        _DIGESTS[kind] = sha256(declaration)
    return _DIGESTS[kind]


class Catalogue:
    """The registered playbooks, by name."""

    def __init__(self, playbooks: Iterable[Playbook[Any]]) -> None:
        self._by_name: dict[str, Playbook[Any]] = {}
        for playbook in playbooks:
            if playbook.name in self._by_name:
                raise InvalidRequest("duplicate-playbook", f"{playbook.name} is registered twice.")
            self._by_name[playbook.name] = playbook

    def __iter__(self) -> Iterator[Playbook[Any]]:
        return iter(self._by_name.values())

    def __len__(self) -> int:
        return len(self._by_name)

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    def get(self, name: str) -> Playbook[Any]:
        """The playbook called `name`.

        Raises:
            NotFound: `unknown-playbook`.
        """
        if name not in self._by_name:
            raise NotFound("unknown-playbook", "The catalogue has no playbook of that name.")
        return self._by_name[name]
