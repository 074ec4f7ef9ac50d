"""What the models are told: one Markdown file for each branch and each standard procedure, and the constitution."""

import hashlib
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

_FOLDER: Final = Path(__file__).parent
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]*(/[a-z0-9][a-z0-9-]*)*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Prompt:
    """One file under `prompts/`, as it is given to a model.

    Attributes:
        name: its path without the ending, for example `planner` or `sops/001-system-deployment`.
        text: its content, with line feeds as line ends.
        digest: SHA-256 of the text's UTF-8 bytes, in lower-case hexadecimal.
    """

    name: str
    text: str
    digest: str

    @property
    def id(self) -> str:
        """The name without its folder, for example `001-system-deployment`."""
        return self.name.rpartition("/")[2]

    @property
    def title(self) -> str:
        """The text of the first heading; the id where there is none."""
        heading = re.search(r"^# +(\S.*)$", self.text, re.MULTILINE)
        return heading[1] if heading else self.id


@cache
def load(name: str) -> Prompt:
    """The prompt called `name`. It is read once in a process.

    Raises:
        LookupError: there is no prompt of that name.
    """
    path = _FOLDER / f"{name}.md"
    if not _NAME.fullmatch(name) or not path.is_file():
        raise LookupError("There is no prompt of that name.")
    text = path.read_text(encoding="utf-8")
    return Prompt(name=name, text=text, digest=hashlib.sha256(text.encode()).hexdigest())


def sops() -> tuple[Prompt, ...]:
    """Every standard operating procedure, in the order of their names."""
    return tuple(load(f"sops/{path.stem}") for path in sorted((_FOLDER / "sops").glob("*.md")))
