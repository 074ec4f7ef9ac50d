"""One trace for each operation, from the request to the seal: few, hand-placed spans.

The trace id is recorded with the operation, so any worker carries the same trace on. The root span's id is the second
half of the trace id; that is how a later process knows its parent without a second column.

Spans are always kept as files under the home. They also go to Logfire when there is a token, and to any OTLP endpoint
that the environment names; only then is Logfire's own machinery put in between, which costs several times a plain span.
Attributes are ids, names and numbers; exceptions leave their type, never their message.
"""

import json
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Final

import logfire
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator
from opentelemetry.trace import NonRecordingSpan, SpanContext, StatusCode, TraceFlags
from opentelemetry.util.types import AttributeValue

from operations.operation import Operation

_TRACER: Final = trace.get_tracer("triad")
_NEXT_TRACE: ContextVar[str | None] = ContextVar("next_trace", default=None)
_AWAY: Final = ("LOGFIRE_TOKEN", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
"""Environment variables that send spans away from this machine."""
_BATCH_MILLISECONDS: Final = 500


def new_trace_id() -> str:
    """A trace id: 32 hexadecimal digits whose second half, the root span's id, is not zero."""
    return secrets.token_hex(8) + f"{secrets.randbits(63) + 1:016x}"


class _Ids(IdGenerator):
    """Random ids, except for a root span that was announced by `root`."""

    def __init__(self) -> None:
        self._random = RandomIdGenerator()

    def generate_trace_id(self) -> int:
        announced = _NEXT_TRACE.get()
        return int(announced, 16) if announced else self._random.generate_trace_id()

    def generate_span_id(self) -> int:
        announced = _NEXT_TRACE.get()
        if announced is None:
            return self._random.generate_span_id()
        _NEXT_TRACE.set(None)
        return int(announced[16:], 16)


class FolderExporter(SpanExporter):
    """Keeps spans as JSON lines, one file a trace, so that they can be read without any service."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Append each span to its trace's file."""
        if self.folder is None:
            return SpanExportResult.SUCCESS
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lines: dict[str, list[str]] = {}
        for item in spans:
            context = item.get_span_context()
            if context is not None and item.start_time is not None and item.end_time is not None:
                lines.setdefault(f"{context.trace_id:032x}", []).append(_line(item, context))
        for name, rows in lines.items():
            with (self.folder / f"{name}.jsonl").open("a") as file:
                file.write("".join(rows))
        return SpanExportResult.SUCCESS


def _line(item: ReadableSpan, context: SpanContext) -> str:
    keep = {key: value for key, value in (item.attributes or {}).items() if not key.startswith("logfire.")}
    row = {
        "name": item.name,
        "span": f"{context.span_id:016x}",
        "parent": f"{item.parent.span_id:016x}" if item.parent else None,
        "start_ns": item.start_time,
        "end_ns": item.end_time,
        "status": item.status.status_code.name,
        "attributes": keep,
    }
    return json.dumps(row, default=str) + "\n"


_KEPT: Final = FolderExporter(None)


def configure(traces: Path | None, *, version: str, environment: Mapping[str, str] = os.environ) -> None:
    """Set up tracing for this process; a second call only changes the folder.

    Args:
        traces: where spans are kept as files; None keeps none.
        version: the code version put on every span.
        environment: says whether spans leave the machine.
    """
    _KEPT.folder = traces
    if isinstance(trace.get_tracer_provider(), TracerProvider) or _Configured.done:
        return
    _Configured.done = True
    processor = BatchSpanProcessor(_KEPT, schedule_delay_millis=_BATCH_MILLISECONDS)
    if any(environment.get(name) for name in _AWAY):
        logfire.configure(
            send_to_logfire="if-token-present",
            service_name="triad",
            service_version=version,
            console=False,
            inspect_arguments=False,
            additional_span_processors=[processor],
            metrics=False,
            scrubbing=logfire.ScrubbingOptions(extra_patterns=["dsn", "passfile", "triad_key"]),
            advanced=logfire.AdvancedOptions(id_generator=_Ids()),
        )
        return
    resource = Resource({"service.name": "triad", "service.version": version})
    provider = TracerProvider(id_generator=_Ids(), resource=resource, shutdown_on_exit=True)
    provider.add_span_processor(processor)
    trace.set_tracer_provider(provider)


class _Configured:
    done = False


def flush() -> None:
    """Write out every finished span."""
    provider = trace.get_tracer_provider()
    if isinstance(provider, TracerProvider):
        provider.force_flush()
    else:
        logfire.force_flush()


@contextmanager
def root(trace_id: str, name: str, **attributes: AttributeValue) -> Iterator[None]:
    """The first span of a trace whose id was chosen beforehand."""
    _NEXT_TRACE.set(trace_id)
    with _spanned(name, attributes, trace.set_span_in_context(trace.INVALID_SPAN)):
        yield


@contextmanager
def resumed(op: Operation) -> Iterator[None]:
    """Carry on the operation's trace: spans inside belong to it, whichever process they are made in."""
    if op.trace is None:
        yield
        return
    context = SpanContext(
        trace_id=int(op.trace, 16),
        span_id=int(op.trace[16:], 16),
        is_remote=True,
        trace_flags=TraceFlags(TraceFlags.SAMPLED),
    )
    with _spanned("advance", {"operation": op.id}, trace.set_span_in_context(NonRecordingSpan(context))):
        yield


@contextmanager
def span(name: str, **attributes: AttributeValue) -> Iterator[None]:
    """A span inside the current one. Attributes are ids, names and numbers: never contents of systems."""
    with _spanned(name, attributes, None):
        yield


@contextmanager
def _spanned(name: str, attributes: Mapping[str, AttributeValue], parent: Context | None) -> Iterator[None]:
    made = _TRACER.start_span(name, context=parent, attributes=attributes)
    with trace.use_span(made, end_on_exit=True, record_exception=False, set_status_on_exception=False):
        try:
            yield
        except BaseException as error:
            made.set_status(StatusCode.ERROR)
            made.set_attribute("error.type", type(error).__name__)
            raise
