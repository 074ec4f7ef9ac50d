"""One trace an operation, kept offline, sent away only where the environment says so, and without secrets."""

import asyncio
import gzip
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import urlsplit

import pytest

from tests.conftest import Database

pytestmark = pytest.mark.anyio


async def traced(database: Database, folder: Path, **environment: str) -> tuple[str, str, str]:
    """Id, trace id and stage of one operation that another process has taken from request to seal."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("LOGFIRE_", "OTEL_"))}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.tracing", database.app, str(folder)),
        env=clean | environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    ident, trace, stage = out.decode().split()
    return ident, trace, stage


async def test_the_whole_story_is_one_tree_that_needs_no_service(database: Database, tmp_path: Path) -> None:
    ident, trace, stage = await traced(database, tmp_path)
    assert stage == "rolled_back"
    spans = [json.loads(line) for line in (tmp_path / "traces" / f"{trace}.jsonl").read_text().splitlines()]
    names = [span["name"] for span in spans]
    for expected in ("operation", "advance", "planner", "model", "executor", "gate", "ledger.intent", "tool", "checks"):
        assert expected in names
    assert {"evaluator", "crown.ruling"} <= set(names)
    ids = {span["span"] for span in spans}
    roots = [span for span in spans if span["parent"] is None]
    assert [span["name"] for span in roots] == ["operation"]
    assert roots[0]["span"] == trace[16:]
    assert all(span["parent"] in ids for span in spans if span not in roots)
    assert any(span["attributes"].get("operation") == ident for span in spans)


async def test_no_secret_gets_into_a_span(database: Database, tmp_path: Path) -> None:
    await traced(database, tmp_path)
    kept = "".join(path.read_text() for path in (tmp_path / "traces").iterdir())
    password = urlsplit(database.app).password
    assert password
    assert password not in kept
    assert "break" not in kept  # contents of steps stay out as well


@contextmanager
def collector() -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    """A local OTLP collector: its address, and what it was sent."""
    received: list[tuple[str, bytes]] = []

    class Sink(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            packed = self.headers["content-encoding"] == "gzip"
            received.append((self.path, gzip.decompress(body) if packed else body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Sink)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", received
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


async def test_spans_go_to_the_collector_that_the_environment_names(database: Database, tmp_path: Path) -> None:
    with collector() as (address, received):
        _, trace, _ = await traced(database, tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=address)
    bodies = b"".join(body for path, body in received if path == "/v1/traces")
    assert bytes.fromhex(trace) in bodies
    assert (tmp_path / "traces" / f"{trace}.jsonl").exists()
    assert str(urlsplit(database.app).password).encode() not in bodies


async def test_without_a_collector_nothing_leaves_the_machine(database: Database, tmp_path: Path) -> None:
    with collector() as (_, received):
        await traced(database, tmp_path)
    assert received == []
