"""What the documentation says of itself and of the code is true."""

import re
from pathlib import Path

import pytest

from operations import diagram
from operations.stages import TRANSITIONS, Stage

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def links(page: Path) -> list[str]:
    """Targets of a page's links, without those in code."""
    text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(), flags=re.DOTALL)
    return re.findall(r"\]\(([^)\s]+)\)", text)


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_leads_somewhere(page: Path) -> None:
    broken = []
    for link in links(page):
        if link.startswith("https://"):
            continue
        place, _, anchor = link.partition("#")
        target = (page.parent / place).resolve() if place else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached: set[Path] = set()
    waiting = [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in reached:
            continue
        reached.add(page)
        targets = ((page.parent / link.partition("#")[0]).resolve() for link in links(page) if "://" not in link)
        waiting += [target for target in targets if target.suffix == ".md" and target.is_relative_to(ROOT)]
    assert [name_of(page) for page in PAGES if page not in reached] == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_page_begins_with_its_one_title(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    assert len(re.findall(r"^# \S", text, re.MULTILINE)) == 1
    assert text.startswith("# ")
    assert text.endswith("\n")


def test_the_page_on_stages_is_drawn_from_the_table() -> None:
    assert (DOCS / "architecture" / "stages.md").read_text() == diagram.page()


@pytest.mark.parametrize("stage", Stage)
def test_the_page_on_stages_shows_every_row(stage: Stage) -> None:
    page = diagram.page()
    for signal, after in TRANSITIONS[stage].items():
        if after is stage:
            assert re.search(rf"^\| `{stage.value}` \|.*`{signal}`", page, re.MULTILINE)
        else:
            assert f"    {stage.value} --> {after.value}: {signal.replace(':', ' = ')}\n" in page
    assert (f"    {stage.value} --> [*]\n" in page) is stage.terminal


def test_every_decision_has_a_status_and_stands_in_the_index() -> None:
    records = sorted(DOCS.glob("decisions/[0-9]*.md"))
    index = (DOCS / "decisions" / "README.md").read_text()
    assert [int(record.name[:4]) for record in records] == list(range(1, len(records) + 1))
    for record in records:
        text = record.read_text()
        title = re.match(rf"# {record.name[:4]}\. (.+)\n\nStatus: (accepted|proposed|superseded by \S+)", text)
        assert title, record.name
        assert [*re.findall(r"^## (.+)$", text, re.MULTILINE)] == ["Context", "Decision", "Consequences"]
        assert f"| {record.name[:4]} | [{title[1]}]({record.name}) | {title[2]} |" in index
