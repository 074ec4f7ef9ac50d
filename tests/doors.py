"""Boots the real application on a real database and a real port, in a thread of its own, for tests over HTTP."""

import asyncio
import itertools
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import httpx2

from api.app import create_app
from api.serve import HttpServer
from api.settings import Settings, load_settings
from storage.embedded import Embedded
from storage.roles import DATABASE, DatabaseRole, database_statements

JSON = {"Content-Type": "application/json"}
PATIENCE = 30.0
VACUUM = {
    "type": "maintenance",
    "description": "Vacuum and analyze the database",
    "systems": ["triad-db"],
    "playbook": "postgres.vacuum_analyze",
}
CHANGE_LEVEL = {
    "type": "configuration",
    "description": "Log warnings and worse only",
    "systems": ["triad-config"],
    "playbook": "config.apply_change",
    "parameters": {"changes": [{"path": ["logging", "level"], "value": "warning"}]},
    "rollback_plan": "Put the old level back.",
}
_numbers = itertools.count(1)


class _Server(HttpServer):
    """Says when it is up, or never will be."""

    def __init__(self, settings: Settings, announce: Callable[[str], None]) -> None:
        super().__init__(create_app(settings, announce), settings)
        self.decided = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.decided.set()


@dataclass(frozen=True)
class Event:
    """One event of a stream."""

    id: int
    kind: str
    data: dict[str, Any]


class World:
    """One Triad behind its doors. `admin` is the key that its first start announced."""

    def __init__(self, cluster: Embedded, folder: Path, systems: str | None, **server: int) -> None:
        self.home = folder / "home"
        self._cluster = cluster
        self._database = f"doors_{next(_numbers)}"
        asyncio.run(self._create())
        self._write_secrets(folder)
        if systems is not None:
            (self.home / "systems.toml").write_text(systems.format(home=self.home))
        self._socket = socket.create_server(("127.0.0.1", 0))
        port = self._socket.getsockname()[1]
        self.settings = load_settings(
            flags={
                "home": self.home,
                "server": {"port": port, **server},
                "database": {"url": f"file:{folder / 'app.dsn'}"},
            },
            folder=folder,
        )
        self.announced: list[str] = []
        self._keys: dict[str, str] = {}
        self.start()
        self.admin = self.announced[0]

    async def _create(self) -> None:
        connection = await asyncpg.connect(self._cluster.superuser_dsn())
        try:
            for statement in database_statements(self._database, template=DATABASE):
                await connection.execute(statement)
        finally:
            await connection.close()

    def _write_secrets(self, folder: Path) -> None:
        secrets = self.home / "secrets"
        secrets.mkdir(mode=0o700, parents=True)
        (folder / "app.dsn").write_text(self._cluster.dsn(DatabaseRole.APP, self._database))
        for role in (DatabaseRole.OPERATOR, DatabaseRole.OBSERVER):
            name = f"{role.removeprefix('triad_')}.dsn"
            (secrets / name).write_text(self._cluster.dsn(role, self._database))

    def start(self) -> None:
        self._server = _Server(self.settings, self.announced.append)
        sockets = [self._socket.dup()]
        self._thread = threading.Thread(target=lambda: self._serve(sockets), name="doors")
        self._thread.start()
        assert self._server.decided.wait(PATIENCE)
        assert self._server.started

    def _serve(self, sockets: list[socket.socket]) -> None:
        try:
            self._server.run(sockets=sockets)
        finally:
            self._server.decided.set()

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()

    def restart(self) -> None:
        self.stop()
        self.start()

    def close(self) -> None:
        self.stop()
        self._socket.close()

    def client(self, key: str | None = None, **headers: str) -> httpx2.Client:
        bearer = {"Authorization": f"Bearer {key}"} if key else {}
        return httpx2.Client(base_url=self.settings.url, headers={**bearer, **headers}, timeout=PATIENCE)

    def call(self, method: str, path: str, key: str | None = None, body: Any = None, **headers: str) -> httpx2.Response:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        with self.client(key) as client:
            if isinstance(body, bytes):
                return client.request(method, path, content=body, headers={**JSON, **names})
            return client.request(method, path, json=body, headers=names)

    def get(self, path: str, key: str | None = None, **headers: str) -> httpx2.Response:
        return self.call("GET", path, key, **headers)

    def post(self, path: str, key: str | None, body: Any, **headers: str) -> httpx2.Response:
        return self.call("POST", path, key, body, **headers)

    def key(self, name: str, *roles: str, person: str | None = None, kind: str = "person") -> str:
        """The key of a principal with these roles; made once."""
        if name not in self._keys:
            body = {"principal": name, "kind": kind, "person": person or name, "roles": list(roles)}
            made = self.post("/api/v1/keys", self.admin, body)
            assert made.status_code == 201, made.text
            self._keys[name] = made.json()["key"]
        return self._keys[name]

    def submit(self, key: str, request: dict[str, Any], **headers: str) -> dict[str, Any]:
        answer = self.post("/api/v1/operations", key, request, **headers)
        assert answer.status_code in {200, 202}, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def waiting(self, key: str) -> dict[str, Any]:
        """The approval card of a new operation that waits for one approver."""
        ident = self.submit(key, CHANGE_LEVEL)["id"]
        self.until(ident, key, "plan.proposed")
        card: dict[str, Any] = self.get(f"/api/v1/approvals/{ident}", key).json()
        assert card["state"] == "pending", card
        return card

    def decide(self, key: str, card: dict[str, Any], decision: str, **headers: str) -> httpx2.Response:
        body = {"decision": decision, "reason": "Read it.", "plan_hash": card["plan"]}
        return self.post(
            f"/api/v1/approvals/{card['id']}/decision", key, body, **{"If_Match": f'"{card["plan"]}"', **headers}
        )

    def until(self, ident: str, key: str, kind: str) -> list[Event]:
        """The operation's events up to the first of this kind."""
        seen = []
        with self.events(f"/api/v1/operations/{ident}/events", key) as events:
            for event in events:
                seen.append(event)
                if event.kind == kind:
                    return seen
        raise AssertionError(f"the stream ended after {[event.kind for event in seen]}")

    def ended(self, ident: str, key: str) -> dict[str, Any]:
        """The operation once it has ended: its stream ends with it."""
        with self.events(f"/api/v1/operations/{ident}/events", key) as events:
            for _event in events:
                pass
        found: dict[str, Any] = self.get(f"/api/v1/operations/{ident}", key).json()
        assert found["finished"], found
        return found

    @contextmanager
    def events(self, path: str, key: str, **headers: str) -> Iterator[Iterator[Event]]:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        with self.client(key, **names) as client, client.stream("GET", path) as response:
            assert response.status_code == 200, response.read()
            yield parsed(response.iter_lines())

    def sql(self, query: str, *arguments: object) -> Any:
        async def fetch() -> Any:
            connection = await asyncpg.connect(self._cluster.superuser_dsn(self._database))
            try:
                return await connection.fetchval(query, *arguments)
            finally:
                await connection.close()

        return asyncio.run(fetch())

    def marks(self) -> tuple[int, int]:
        """How many operations there are, and entries beside them: what runs by itself adds none."""
        alone: int = self.sql("SELECT count(*) FROM ledger_leaf WHERE operation IS NULL")
        return self.operations(), alone

    def size(self) -> int:
        """How many entries the ledger has."""
        found: int = self.sql("SELECT max(size) FROM ledger_head")
        return found

    def operations(self) -> int:
        """How many operations there are."""
        found: int = self.sql("SELECT count(*) FROM operation")
        return found


def parsed(lines: Iterator[str]) -> Iterator[Event]:
    """Events out of a stream's lines, by the rules of the HTML standard that are used here."""
    fields: dict[str, str] = {}
    for line in lines:
        if line.startswith(":"):
            continue
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        elif "data" in fields:
            yield Event(int(fields["id"]), fields["event"], json.loads(fields["data"]))
            fields = {}
        else:
            fields = {}


@contextmanager
def world(cluster: Embedded, folder: Path, systems: str | None = None, **server: int) -> Iterator[World]:
    made = World(cluster, folder, systems, **server)
    try:
        yield made
    finally:
        made.close()
