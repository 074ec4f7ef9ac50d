"""The service as a process: first start on an empty home, signals, sudden death, and what refuses to start."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import httpx2
import pytest

from api.opening import MigrationsPending, opened
from api.settings import Settings, load_settings
from operations.errors import ConstitutionChanged, NotFound
from storage import migrate
from storage.embedded import Embedded
from storage.roles import DatabaseRole, database_statements
from tests.doors import VACUUM, world

ROOT = Path(__file__).parent.parent
PROGRAM = """
import sys
from pathlib import Path
from api.serve import serve
from api.settings import load_settings
settings = load_settings(flags={"home": sys.argv[1], "server": {"port": int(sys.argv[2])}}, folder=Path("/"))
sys.exit(0 if serve(settings, lambda key: print(key, flush=True)) else 1)
"""


class Process:
    """One run of the service."""

    def __init__(self, home: Path, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(home), str(port)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def ready(self) -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                if httpx2.get(f"{self.url}/readyz").status_code == 200:
                    return
            except httpx2.TransportError:
                continue
        raise AssertionError(f"never ready; exit code {self._process.poll()}")

    def end(self, number: signal.Signals) -> int:
        self._process.send_signal(number)
        code = self._process.wait(30)
        assert self._process.stdout is not None
        self.said = self._process.stdout.read()
        self._process.stdout.close()
        return code

    def kill(self) -> None:
        if self._process.poll() is None:
            self.end(signal.SIGKILL)


@pytest.fixture
def home() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="triad-serve-") as folder:
        Path(folder).chmod(0o711)
        yield Path(folder) / "home"
        if (Path(folder) / "home" / "secrets").exists():
            Embedded.start(Path(folder) / "home").stop(anyway=True)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def test_a_service_starts_on_nothing_survives_death_and_stops_when_asked(home: Path) -> None:
    port = free_port()
    first = Process(home, port)
    try:
        first.ready()
    finally:
        assert first.end(signal.SIGKILL) == -signal.SIGKILL
    key = first.said.strip()
    assert key.startswith("triad_")

    second = Process(home, port)
    try:
        second.ready()
        with httpx2.Client(base_url=second.url, headers={"Authorization": f"Bearer {key}"}, timeout=40) as client:
            assert httpx2.get(f"{second.url}/api/v1/me").status_code == 401
            assert client.get("/api/v1/me").json()["id"] == "admin"
            done = client.post("/api/v1/operations", json=VACUUM, headers={"Prefer": "wait=30"}).json()
            assert done["stage"] == "completed", done
            assert client.get("/api/verification/audit").json()["intact"] is True
            with client.stream("GET", "/monitoring/stream") as response:
                assert next(response.iter_lines()) == "retry: 2000"
                asked = time.monotonic()
                assert second.end(signal.SIGTERM) == 0
                assert time.monotonic() - asked < 9
    finally:
        second.kill()
    assert second.said == ""
    assert '"status": 401' in (home / "logs" / "triad.log").read_text()
    assert key not in (home / "logs" / "triad.log").read_text()
    assert (home / "traces" / f"{done['trace']}.jsonl").exists()
    assert not [path for path in (home / "secrets").iterdir() if path.stat().st_mode & 0o077]


def test_without_its_database_it_says_so_records_nothing_and_recovers(home: Path, tmp_path: Path) -> None:
    home.mkdir(mode=0o711)
    server = Embedded.start(home, durable=False)
    asyncio.run(migrate.upgrade(server.dsn(DatabaseRole.OWNER)))
    with world(server, tmp_path) as doors:
        rita = doors.key("rita", "requester")
        done = doors.submit(rita, VACUUM, Prefer="wait=25")["id"]
        before = doors.operations()
        server.stop()
        try:
            for answer in (
                doors.post("/api/v1/operations", rita, VACUUM),
                doors.get(f"/api/v1/operations/{done}", rita),
            ):
                assert (answer.status_code, answer.json()["code"]) == (503, "ledger-unavailable")
                assert int(answer.headers["retry-after"]) > 0
            assert doors.get("/livez").status_code == 200
            assert doors.get("/readyz").status_code == 503
            assert doors.get("/health").json()["checks"]["ledger"]["status"] == "fail"
        finally:
            Embedded.start(home, durable=False)
        assert doors.operations() == before
        assert doors.submit(rita, VACUUM, Prefer="wait=25")["stage"] == "completed"
        assert doors.get("/readyz").status_code == 200


def settings_for(tmp_path: Path, dsn: str) -> Settings:
    (tmp_path / "app.dsn").write_text(dsn)
    return load_settings(
        flags={"home": tmp_path / "home", "database": {"url": f"file:{tmp_path / 'app.dsn'}"}}, folder=tmp_path
    )


async def _opens(settings: Settings) -> None:
    async with opened(settings, lambda _key: None):
        pass


@pytest.mark.anyio
async def test_an_ordinary_database_without_its_migrations_is_refused(cluster: Embedded, tmp_path: Path) -> None:
    name = f"pending_{os.getpid()}"
    connection = await asyncpg.connect(cluster.superuser_dsn())
    try:
        for statement in database_statements(name):
            await connection.execute(statement)
    finally:
        await connection.close()
    with pytest.raises(MigrationsPending, match="triad migrate"):
        await _opens(settings_for(tmp_path, cluster.dsn(DatabaseRole.APP, name)))


@pytest.mark.anyio
async def test_a_secret_that_is_missing_is_named_and_nothing_opens(tmp_path: Path) -> None:
    settings = load_settings(flags={"home": tmp_path / "home", "database": {"url": "env:NO_SUCH_DSN"}}, folder=tmp_path)
    with pytest.raises(NotFound, match="env:NO_SUCH_DSN"):
        await _opens(settings)


@pytest.mark.anyio
async def test_a_constitution_that_is_not_the_one_in_force_opens_nothing(cluster: Embedded, tmp_path: Path) -> None:
    name = f"changed_{os.getpid()}"
    connection = await asyncpg.connect(cluster.superuser_dsn())
    try:
        for statement in database_statements(name, template="triad"):
            await connection.execute(statement)
    finally:
        await connection.close()
    settings = settings_for(tmp_path, cluster.dsn(DatabaseRole.APP, name))
    await _opens(settings)
    document = settings.home / "constitution.md"
    document.write_text(document.read_text().replace("quorum = 2", "quorum = 3"))
    with pytest.raises(ConstitutionChanged):
        await _opens(settings)
