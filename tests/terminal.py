"""The command line under test: in this process for speed, in its own where signals and descriptors count."""

import contextlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from api.cli import main

ROOT = Path(__file__).parent.parent
_PROGRAM = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs the tests may ignore it, as nohup does
from api.cli import main
sys.exit(main())
"""
NOWHERE = "http://127.0.0.1:9"


@dataclass(frozen=True)
class Said:
    """What a command said and how it ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        assert self.out, self.err
        return json.loads(self.out)


@dataclass(frozen=True)
class Terminal:
    """Somebody's terminal: an address, a key, a configuration folder."""

    config: Path
    url: str = NOWHERE
    token: str | None = None

    def environment(self) -> dict[str, str]:
        ours = ("TRIAD_", "CLICOLOR", "NO_COLOR")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        own = {"XDG_CONFIG_HOME": str(self.config), "TRIAD_URL": self.url, "TZ": "UTC"}
        return kept | own | ({"TRIAD_TOKEN": self.token} if self.token else {})

    def __call__(self, *arguments: str, stdin: str = "", **variables: str) -> Said:
        """Run a command in this process."""
        out, err = io.StringIO(), io.StringIO()
        with (
            mock.patch.dict(os.environ, self.environment() | variables, clear=True),
            mock.patch.object(sys, "stdin", io.StringIO(stdin)),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            code = main(arguments)
        return Said(code, out.getvalue(), err.getvalue())

    def start(self, *arguments: str, terminal: int | None = None) -> "subprocess.Popen[str]":
        """Start a command in a process of its own: with pipes, or at a terminal."""
        return subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, *arguments],
            cwd=ROOT,
            env=self.environment() | {"PYTHONPATH": str(ROOT), "TERM": "dumb"},
            stdin=terminal or subprocess.DEVNULL,
            stdout=terminal or subprocess.PIPE,
            stderr=terminal or subprocess.PIPE,
            text=True,
        )


@dataclass(frozen=True)
class Serving:
    """A running `triad up`."""

    process: "subprocess.Popen[str]"
    url: str
    first_key: str
    told: list[str]
    reader: threading.Thread

    def stop(self, number: int = signal.SIGTERM) -> Said:
        """Send a signal and wait for the end."""
        assert self.process.stdout
        self.process.send_signal(number)
        out = self.process.stdout.read()
        code = self.process.wait(timeout=30)
        self.reader.join(timeout=30)
        self.process.stdout.close()
        return Said(code, out, "".join(self.told))


def serve(terminal: Terminal, home: Path, *, first: bool) -> Serving:
    """Start `triad up` on a free port and wait until it is ready."""
    process = terminal.start("up", "--home", str(home), "--port", "0")
    assert process.stdout
    told: list[str] = []
    ready = threading.Event()
    reader = threading.Thread(target=_read, args=(process, told, ready), daemon=True)
    reader.start()
    key = process.stdout.readline().strip() if first else ""
    assert ready.wait(timeout=60), told
    found = re.search(r"http://127\.0\.0\.1:\d+", "".join(told))
    assert found, told
    return Serving(process, found[0], key, told, reader)


def _read(process: "subprocess.Popen[str]", told: list[str], ready: threading.Event) -> None:
    assert process.stderr
    with process.stderr as stream:
        for line in stream:
            told.append(line)
            if "Application startup complete" in line:
                ready.set()


@contextlib.contextmanager
def home_folder() -> Iterator[Path]:
    """A home that an embedded server's account can reach too."""
    folder = Path(tempfile.mkdtemp(dir="/tmp", prefix="triad-cli-"))
    folder.chmod(0o711)
    try:
        yield folder / "home"
    finally:
        shutil.rmtree(folder)
