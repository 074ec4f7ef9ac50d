"""A log and a witness without their services: what the tests of the witness and of the log's asking share."""

import socket
import subprocess
import threading
import time
from pathlib import Path

import httpx2
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from api.witness import witness_server
from storage.cosignatures import Peer
from storage.verifier.checkpoint import Checkpoint, Note, VerifierKey, sign
from storage.verifier.cosignature import CosignerKey
from storage.verifier.tree import consistency_proof, leaf_hash, node_hash, root_of
from storage.witness import AddCheckpoint, Witness
from tests.terminal import Terminal

ORIGIN = "log.example/one"
PATIENCE = 30.0


class Log:
    """A log in memory that signs whatever it is told to; `leaves` may be replaced to make it lie."""

    def __init__(self, leaves: int = 0, *, origin: str = ORIGIN, branch: str = "") -> None:
        self.origin = origin
        self.private = Ed25519PrivateKey.generate()
        self.leaves = [f"{branch}{number}".encode() for number in range(leaves)]

    @property
    def key(self) -> VerifierKey:
        return VerifierKey(self.origin, self.private.public_key().public_bytes_raw())

    def grow(self, number: int, branch: str = "") -> None:
        start = len(self.leaves)
        self.leaves += [f"{branch}{start + each}".encode() for each in range(number)]

    def checkpoint(self, size: int | None = None, *extensions: str) -> Checkpoint:
        count = len(self.leaves) if size is None else size
        return Checkpoint(self.origin, count, root_of(self.leaves[:count]), extensions)

    def note(self, size: int | None = None, *extensions: str) -> bytes:
        text = self.checkpoint(size, *extensions).text()
        return Note(text, (sign(text, self.origin, self.private),)).encode()

    def proof(self, old: int, new: int) -> tuple[bytes, ...]:
        return tuple(consistency_proof(old, new, self._node)) if 0 < old < new else ()

    def _node(self, level: int, position: int) -> bytes:
        if level == 0:
            return leaf_hash(self.leaves[position])
        return node_hash(self._node(level - 1, 2 * position), self._node(level - 1, 2 * position + 1))

    def request(self, old: int, new: int | None = None) -> bytes:
        size = len(self.leaves) if new is None else new
        return AddCheckpoint(old, self.proof(old, size), self.note(size)).encode()


class WitnessThread:
    """A witness behind its real door, in this process: where nothing is killed it is as good as one of its own."""

    def __init__(self, home: Path, *keys: VerifierKey, name: str = "witness.example/w1") -> None:
        self.witness = Witness.create(home, name, ml_dsa=False)
        for key in keys:
            self.witness.trust(key, beside=True)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._server = witness_server(self.witness)
        self._thread = threading.Thread(target=lambda: self._server.run(sockets=[self._listener]))
        self._thread.start()

    @property
    def key(self) -> CosignerKey:
        return CosignerKey.parse(self.witness.vkeys[0])

    def peer(self, name: str = "w1") -> Peer:
        return Peer(name, self.key, self.url)

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()
        self._listener.close()


class WitnessProcess:
    """A witness as people run it: `triad witness serve` in a process of its own."""

    def __init__(self, home: Path, *keys: VerifierKey, name: str = "witness.example/w1") -> None:
        self.home = home
        self._terminal = Terminal(home.parent)
        if not home.exists():
            Witness.create(home, name, ml_dsa=False)
        for key in keys:
            Witness.open(home).trust(key, beside=True)
        self._port = 0
        self.start()

    def start(self) -> None:
        self._process = self._terminal.start("witness", "serve", "--home", str(self.home), "--port", str(self._port))
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()
        assert self.url.startswith("http://127.0.0.1:"), self._process.stderr and self._process.stderr.read()
        self._port = int(self.url.rpartition(":")[2])
        self._client = httpx2.Client(timeout=PATIENCE)
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            try:
                if self._client.get(f"{self.url}/livez").status_code == 200:
                    return
            except httpx2.TransportError:
                time.sleep(0.01)
        raise AssertionError("the witness never answered")

    @property
    def witness(self) -> Witness:
        return Witness.open(self.home)

    @property
    def key(self) -> CosignerKey:
        return CosignerKey.parse(self.witness.vkeys[0])

    def peer(self, name: str = "w1") -> Peer:
        return Peer(name, self.key, self.url)

    def ask(self, body: bytes) -> httpx2.Response:
        return self._client.post(f"{self.url}/add-checkpoint", content=body)

    def kill(self) -> None:
        """As a power cut would."""
        self._end("kill")

    def stop(self) -> int:
        """As a person would."""
        return self._end("terminate")

    def _end(self, how: str) -> int:
        self._client.close()
        if self._process.poll() is None:
            getattr(self._process, how)()
        try:
            self._process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
        return int(self._process.returncode)
