"""The foreign readers of an exported log, where they are installed."""

import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

DRIVERS: Final = Path(__file__).parent / "drivers"

GO_CODE: Final = Path("/usr/share/gocode")
"""Where Debian's `golang-golang-x-mod-dev` lies."""

HOME_VARIABLE: Final = "TRIAD_INTEROP"
"""Names the virtual environment that `install.sh` made, where it is not the default."""

_LONGEST: Final = 300


@dataclass(frozen=True, slots=True)
class Tool:
    """A reader.

    Attributes:
        name: what it is called here.
        command: run with an export's folder as last argument, it answers 0 when everything holds.
    """

    name: str
    command: tuple[str, ...]

    def run(self, export: Path) -> subprocess.CompletedProcess[str]:
        """Let it read an export."""
        return self._run(str(export))

    def sign(self, home: Path) -> subprocess.CompletedProcess[str]:
        """Let it write a checkpoint of its own making and the policy that trusts it."""
        return self._run("--sign", str(home))

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [*self.command, *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=_LONGEST, check=False)  # noqa: S603 - our own drivers


def environment() -> Path:
    """The virtual environment with the Python readers."""
    return Path(os.environ.get(HOME_VARIABLE) or Path(tempfile.gettempdir(), "triad-interop"))


def installed(work: Path) -> list[Tool]:
    """The readers that can run here; the one in Go is built in `work`.

    Raises:
        subprocess.CalledProcessError: Go and its packages are there, and the driver cannot be built.
    """
    tools: list[Tool] = []
    go = shutil.which("go")
    if go is not None and (GO_CODE / "src" / "golang.org" / "x" / "mod").is_dir():
        binary = work / "sumdb"
        settings = {"GO111MODULE": "off", "GOPATH": str(GO_CODE), "GOCACHE": str(work / "go-cache")}
        subprocess.run(  # noqa: S603 - our own driver
            [go, "build", "-o", str(binary), str(DRIVERS / "sumdb.go")],
            env={**os.environ, **settings},
            check=True,
            capture_output=True,
            timeout=_LONGEST,
        )
        tools.append(Tool("sumdb", (str(binary),)))
    python = environment() / "bin" / "python"
    if python.exists():
        tools.append(Tool("aics", (str(python), "-I", str(DRIVERS / "aics.py"))))
    return tools
