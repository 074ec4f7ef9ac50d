"""The page on playbooks says what the catalogue says."""

import re
from datetime import timedelta
from pathlib import Path
from typing import Literal

from pydantic import Field

from operations.evidence import Check, Effect, Outcome, Preview, Snapshot
from operations.playbook import Arguments, Call, Catalogue, Playbook, Target
from operations.playbooks import document
from operations.playbooks.registry import default_catalogue

PAGE = Path(__file__).parent.parent / "docs" / "operations" / "playbooks.md"


class SampleArguments(Arguments):
    days: int = Field(ge=1, le=30, description="days to keep")
    mode: Literal["fast", "full"] = Field(default="fast", description="how thorough")
    names: tuple[str, ...] | None = Field(default=None, description="which | what")


class Sample(Playbook[SampleArguments]):
    name = "sample.purge"
    summary = "Purges samples."
    arguments = SampleArguments
    fits = frozenset({"logs", "cache"})
    tier = 2
    effect = Effect.ONCE_BLIND
    reversible = True
    timeout = timedelta(seconds=90)

    async def preview(self, args: SampleArguments, target: Target) -> Preview:
        raise NotImplementedError

    async def before(self, args: SampleArguments, target: Target) -> Snapshot:
        raise NotImplementedError

    async def run(self, args: SampleArguments, target: Target, call: Call) -> Outcome:
        raise NotImplementedError

    async def checks(self, args: SampleArguments, target: Target, before: Snapshot) -> tuple[Check, ...]:
        raise NotImplementedError


def test_the_page_on_playbooks_is_drawn_from_the_catalogue() -> None:
    assert PAGE.read_text() == document.page(default_catalogue())


def test_the_page_on_playbooks_names_every_argument_with_its_meaning() -> None:
    catalogue = default_catalogue()
    page = document.page(catalogue)
    for playbook in catalogue:
        section = re.search(rf"^## {re.escape(playbook.name)}\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
        assert section, playbook.name
        assert playbook.summary in section[1]
        rows = dict(re.findall(r"^\| `(\w+)` \|.*\| ([^|]*) \|$", section[1], re.MULTILINE))
        assert list(rows) == list(playbook.arguments.model_fields)
        assert all(rows.values()), f"{playbook.name}: an argument without a description"


def test_the_page_on_playbooks_says_type_bounds_and_default_of_an_argument() -> None:
    page = document.page(Catalogue([Sample()]))
    assert "| `days` | integer, 1 to 30 | required | days to keep |" in page
    assert '| `mode` | `"fast"` or `"full"` | `"fast"` | how thorough |' in page
    assert "| `names` | list of string or none | `null` | which \\| what |" in page
    assert "- Fits: `cache`, `logs`" in page
    assert "- Time-out: 90 s" in page
    assert "| 2 | `once_blind` | yes |" in page
