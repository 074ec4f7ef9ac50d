"""The locks hold hashes and no index, and fit what pyproject.toml and the pinned packages ask for."""

import ast
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGES = ("agents", "api", "evals", "operations", "prompts", "storage", "triad")
GROUPS = PROJECT["dependency-groups"]
DRIVERS = ROOT / "evals" / "interop" / "drivers"
"""Run by the interpreter of the foreign tool that each of them drives."""
ALONE = "verifier"
"""The verifier's package, by the name it has where it is copied to."""
RUNTIME, TOOLS = "requirements.lock", "requirements-check.lock"
ROOTS = {
    RUNTIME: [*PROJECT["project"]["dependencies"], *GROUPS["build"], *GROUPS["test"]],
    TOOLS: GROUPS["check"],
}


def blocks(lock: str) -> list[str]:
    """One block for each package: its requirement and its hashes."""
    return re.split(r"\n(?=\S)", (ROOT / lock).read_text().strip())


def pins(lock: str) -> dict[str, Requirement]:
    """What the lock pins, by normalised name."""
    found = [Requirement(block.splitlines()[0].rstrip("\\ ")) for block in blocks(lock)]
    return {canonicalize_name(pin.name): pin for pin in found}


def applies(requirement: Requirement, extras: Iterable[str] = ()) -> bool:
    """Whether a requirement counts here, for a package that was asked for with these extras."""
    marker = requirement.marker
    return marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras))


def admitted(requirement: Requirement, pinned: dict[str, Requirement]) -> bool:
    """Whether the lock pins a version that the requirement allows."""
    pin = pinned.get(canonicalize_name(requirement.name))
    if pin is None:
        return False
    version = next(iter(pin.specifier)).version
    return requirement.specifier.contains(version, prereleases=True)


def closure(roots: Iterable[str]) -> Iterator[Requirement]:
    """Everything that is asked for here, by the roots and then by what is installed for them."""
    waiting = [Requirement(root) for root in roots]
    seen: set[str] = set()
    while waiting:
        requirement = waiting.pop()
        if str(requirement) in seen or not applies(requirement):
            continue
        seen.add(str(requirement))
        yield requirement
        for text in importlib.metadata.requires(requirement.name) or ():
            needed = Requirement(text)
            if applies(needed, requirement.extras):
                needed.marker = None
                waiting.append(needed)


@pytest.mark.parametrize("lock", ROOTS)
def test_every_package_is_pinned_to_one_version_with_hashes(lock: str) -> None:
    loose = [
        block
        for block in blocks(lock)
        if not re.fullmatch(r"[a-z0-9-]+==[^\s;]+( ; [^\\]+)?( \\\n    --hash=sha256:[0-9a-f]{64})+", block)
    ]
    assert loose == []


@pytest.mark.parametrize("lock", ROOTS)
def test_a_lock_names_no_index_and_no_place(lock: str) -> None:
    assert re.findall(r"://|@|--(?!hash=)\S+|file:", (ROOT / lock).read_text()) == []


@pytest.mark.parametrize("lock", ROOTS)
def test_every_dependency_of_the_project_is_pinned_at_a_version_it_allows(lock: str) -> None:
    pinned = pins(lock)
    assert [root for root in ROOTS[lock] if not admitted(Requirement(root), pinned)] == []


@pytest.mark.parametrize("lock", ROOTS)
def test_a_lock_holds_all_that_its_packages_ask_for_and_nothing_else(lock: str) -> None:
    if lock == TOOLS and not all(installed(Requirement(tool).name) for tool in ROOTS[TOOLS]):
        pytest.skip("the tools are installed by `make check` only")
    pinned = pins(lock)
    asked = list(closure(ROOTS[lock]))
    assert sorted({str(requirement) for requirement in asked if not admitted(requirement, pinned)}) == []
    here = {name for name, pin in pinned.items() if applies(pin)}
    assert sorted(here - {canonicalize_name(requirement.name) for requirement in asked}) == []


def imported(folders: Iterable[str]) -> set[str]:
    """Top-level names that the modules of these folders import, wherever in the module."""
    modules = [path for folder in folders for path in (ROOT / folder).rglob("*.py") if DRIVERS not in path.parents]
    nodes = [node for path in modules for node in ast.walk(ast.parse(path.read_text()))]
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    partial = {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module and not node.level}
    return {name.partition(".")[0] for name in plain | partial} - sys.stdlib_module_names


def owners(name: str) -> set[str]:
    return {canonicalize_name(owner) for owner in importlib.metadata.packages_distributions().get(name, [name])}


@pytest.mark.parametrize("folders", [PACKAGES, ("tests",)], ids=["packages", "tests"])
def test_whatever_is_imported_is_a_dependency_of_its_own(folders: tuple[str, ...]) -> None:
    declared = {canonicalize_name(Requirement(root).name) for root in ROOTS[RUNTIME]}
    if folders == PACKAGES:
        declared -= {canonicalize_name(Requirement(root).name) for root in [*GROUPS["build"], *GROUPS["test"]]}
    foreign = imported(folders) - {*PACKAGES, "tests", ALONE} - {path.stem for path in (ROOT / "tests").glob("*.py")}
    assert sorted(name for name in foreign if not owners(name) & declared) == []


def installed(name: str) -> bool:
    try:
        importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def test_the_two_locks_agree_on_what_they_share() -> None:
    runtime, tools = pins(RUNTIME), pins(TOOLS)
    differing = [name for name in runtime.keys() & tools.keys() if runtime[name].specifier != tools[name].specifier]
    assert differing == []


ADVISED = """
import json, pathlib, sys
lock = pathlib.Path(sys.argv[sys.argv.index("--requirement") + 1])
names = [line.split("==")[0] for line in lock.read_text().splitlines() if "==" in line]
print(json.dumps({"dependencies": [{"name": name, "version": "1", "vulns": VULNS} for name in names]}))
sys.exit(1 if VULNS else 0)
"""
UNKNOWN = ADVISED.replace('"vulns": VULNS', '"skip_reason": "not found"').replace("if VULNS", "if False")
CUT_OFF = 'import sys; sys.exit("requests.exceptions.ProxyError: Max retries exceeded")'
DEFECT = 'import sys; sys.exit("TypeError: something else")'


def audited(service: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the pipeline's audit with a stand-in for the tool that asks the advisory service."""
    (folder / "pip_audit.py").write_text(service)
    (folder / "a.lock").write_text("one==1 \\\n    --hash=sha256:00\ntwo==1 \\\n    --hash=sha256:00\n")
    argv = [sys.executable, str(ROOT / ".ci" / "audit.py"), str(folder / "a.lock")]
    return subprocess.run(argv, env={"PYTHONPATH": str(folder)}, capture_output=True, text=True, check=False)


def test_the_audit_fails_on_a_known_weakness_and_names_it(tmp_path: Path) -> None:
    done = audited(ADVISED.replace("VULNS", '[{"id": "CVE-1", "fix_versions": ["2"]}]'), tmp_path)
    assert done.returncode == 1
    assert "two 1: CVE-1; fixed in: 2" in done.stdout


def test_the_audit_passes_when_nothing_is_known_and_says_how_much_it_asked(tmp_path: Path) -> None:
    done = audited(ADVISED.replace("VULNS", "[]"), tmp_path)
    assert done.returncode == 0
    assert "2 audited, 0 unknown" in done.stdout


@pytest.mark.parametrize("service", [UNKNOWN, CUT_OFF], ids=["service-knows-nothing", "no-network"])
def test_the_audit_says_that_it_was_skipped_without_a_service(service: str, tmp_path: Path) -> None:
    done = audited(service, tmp_path)
    assert done.returncode == 0
    assert "SKIPPED" in done.stdout
    assert "nothing was audited" in done.stdout


def test_the_audit_fails_when_it_cannot_tell_why_there_is_no_answer(tmp_path: Path) -> None:
    done = audited(DEFECT, tmp_path)
    assert done.returncode != 0
    assert "something else" in done.stderr
