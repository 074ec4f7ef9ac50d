"""The house rules that no other tool checks."""

import ast
import importlib.metadata
import os
import re
import socket
import subprocess
import sys
import tokenize
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("agents", "api", "evals", "operations", "prompts", "storage", "triad")
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
SOURCES = [*MODULES, *sorted((ROOT / "tests").glob("*.py")), *sorted((ROOT / ".ci").glob("*.py"))]

LONGER = {"operations/events.py": "declarations only: one union that is read from top to bottom"}


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def files() -> Iterator[Path]:
    """Every file of the project, whether a version control system knows it or not."""
    for folder in (*PACKAGES, ".ci", "deploy", "docs", "tests"):
        yield from (path for path in (ROOT / folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    yield from (path for path in ROOT.iterdir() if path.is_file())


def comments(path: Path) -> Iterator[tuple[int, str]]:
    with path.open("rb") as file:
        for token in tokenize.tokenize(file.readline):
            if token.type == tokenize.COMMENT:
                yield token.start[0], token.string


def test_no_installed_distribution_owns_one_of_our_package_names() -> None:
    owners = importlib.metadata.packages_distributions()
    taken = {name: sorted({*owners.get(name, ())} - {"triad-operations"}) for name in (*PACKAGES, "tests")}
    assert {name: others for name, others in taken.items() if others} == {}


def test_the_seven_packages_are_what_is_built_checked_and_layered() -> None:
    tools = PYPROJECT["tool"]
    assert sorted(tools["hatch"]["build"]["targets"]["wheel"]["packages"]) == list(PACKAGES)
    assert sorted(tools["importlinter"]["root_packages"]) == list(PACKAGES)
    assert sorted(tools["mypy"]["packages"]) == sorted([*PACKAGES, "tests"])
    layers = tools["importlinter"]["contracts"][0]["layers"]
    assert sorted(" | ".join(layers).split(" | ")) == list(PACKAGES)


@pytest.mark.parametrize("folder", sorted({path.parent for path in MODULES}), ids=name_of)
def test_every_folder_has_one_sentence(folder: Path) -> None:
    sentence = ast.get_docstring(ast.parse((folder / "__init__.py").read_text()))
    assert sentence is not None
    assert "\n\n" not in sentence
    assert sentence.endswith(".")


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_module_is_longer_than_400_lines(path: Path) -> None:
    length = len(path.read_text().splitlines())
    assert length <= 400 or name_of(path) in LONGER


def test_no_module_is_excused_for_a_length_that_it_has_not() -> None:
    assert [name for name in LONGER if len((ROOT / name).read_text().splitlines()) <= 400] == []


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_every_exception_from_a_check_has_its_reason_on_its_line(path: Path) -> None:
    reasoned = {
        "noqa": re.compile(r"# noqa: [A-Z]+[0-9]+(, [A-Z]+[0-9]+)* - \S.*"),
        "type: ignore": re.compile(r"# type: ignore\[[a-z-]+(, ?[a-z-]+)*\] +# \S.*"),
        "nosec": re.compile(r"# nosec B[0-9]+ - \S.*"),
        "pragma": re.compile(r"# pragma: .+ - \S.*"),
    }
    bare = [
        f"line {line}: {text}"
        for line, text in comments(path)
        for mark, pattern in reasoned.items()
        if re.match(rf"#\s*{mark}\b", text) and not pattern.search(path.read_text().splitlines()[line - 1])
    ]
    assert bare == []


def test_every_ignored_lint_rule_has_its_reason_beside_it() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    section = text[text.index("[tool.ruff.lint]") : text.index("[tool.ruff.lint.pydocstyle]")]
    rules = [line for line in section.splitlines() if re.match(r'\s+"[A-Z]', line)]
    assert rules
    assert [line for line in rules if not re.search(r"# \S", line)] == []


def test_no_file_names_a_machine_or_a_registry() -> None:
    machine = ["/" + "work/", "/" + "tmp/v/", "/" + "opt/pypi", "/" + "opt/wheels", "/" + "root/"]
    registries = ["py" + "pi.org", "python" + "hosted" + ".org", "npm" + "js.org", "deb.debian" + ".org"]
    forbidden = re.compile("|".join(re.escape(word) for word in [*machine, *registries]))
    found = {name_of(path): forbidden.findall(path.read_text(errors="replace")) for path in files()}
    assert {name: words for name, words in found.items() if words} == {}


def test_the_license_is_the_one_that_the_metadata_names() -> None:
    assert PYPROJECT["project"]["license"] == "Apache-2.0"
    text = (ROOT / "LICENSE").read_text()
    assert re.search(r"Apache License\s+Version 2\.0, January 2004", text)
    assert "END OF TERMS AND CONDITIONS" in text


def test_the_newest_entry_of_the_changelog_is_the_version() -> None:
    versions = re.findall(r"^## \[(\d+\.\d+\.\d+)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert versions[0] == PYPROJECT["project"]["version"]


def test_make_alone_prints_every_target_with_its_help() -> None:
    targets = re.findall(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert {"setup", "demo", "test", "test-full", "check", "bench"} <= set(targets)
    printed = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True, env=plain_environment())
    helped = dict(re.findall(r"^  make (\S+) +(\S.*)$", printed.stdout, re.MULTILINE))
    assert sorted(helped) == sorted(targets)


def plain_environment() -> dict[str, str]:
    """Without what a surrounding make would hand down."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}


def test_the_pipeline_tests_first_stops_at_a_failure_and_reads_no_input() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    lines = script.read_text().splitlines()
    assert lines[0] == "#!/usr/bin/env bash"
    assert "set -euo pipefail" in lines
    assert "exec </dev/null" in lines
    assert next(line for line in lines if "make " in line and not line.startswith("#")) == "make test"
    subprocess.run(["bash", "-n", str(script)], check=True)


def test_the_command_line_starts_without_the_server_and_the_model_libraries() -> None:
    heavy = ("fastapi", "starlette", "uvicorn", "sqlalchemy", "pydantic_ai", "openai", "logfire")
    code = f"import sys; from api.cli import main; print(*sorted(set(sys.modules) & set({heavy!r})))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize("address", [("192.0.2.1", 443), ("198.51.100.7", 53), ("2001:db8::1", 443)])
@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_no_test_connects_to_another_machine(address: tuple[str, int], kind: socket.SocketKind) -> None:
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    with socket.socket(family, kind) as other, pytest.raises(PermissionError, match="only this machine"):
        other.connect(address)


def test_no_test_sends_a_datagram_to_another_machine() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        with pytest.raises(PermissionError, match="only this machine"):
            other.sendto(b"hello", ("192.0.2.1", 53))
        with pytest.raises(PermissionError, match="only this machine"):
            other.sendmsg([b"hello"], [], 0, ("192.0.2.1", 53))


def test_no_test_asks_a_name_server() -> None:
    with pytest.raises(PermissionError, match="only this machine"):
        socket.getaddrinfo("example.com", 443)
    with pytest.raises(PermissionError, match="only this machine"):
        socket.gethostbyname("example.com")


def test_loopback_can_be_reached() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("localhost", port), timeout=5) as client, server.accept()[0] as accepted:
            client.sendall(b"hello")
            assert accepted.recv(5) == b"hello"
