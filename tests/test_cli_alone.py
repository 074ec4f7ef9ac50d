"""The command line where no service of ours answers: help, usage, keys on their way, torn streams, harmless text."""

import json
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import get_args

import pytest

from api.cli import document
from api.cli.app import GROUPS, make_app
from api.cli.client import Client
from api.cli.exits import MEANINGS, Exit, ended, exit_of_stage
from api.cli.hints import _COMMANDS
from api.cli.output import SHAPE, Column, coloured, plain, show_list
from api.cli.profile import Profile
from api.cli.sentences import TEMPLATES, sentence
from api.cli.traces import tree
from api.codes import CODES
from operations.events import AnyEvent
from operations.stages import Stage
from storage.verifier.report import Code
from tests.terminal import ROOT, Terminal

KEY = "triad_" + "k" * 43
PAGE = ROOT / "docs" / "operations" / "cli.md"


@pytest.fixture
def terminal(tmp_path: Path) -> Terminal:
    return Terminal(tmp_path)


@contextmanager
def answering(*answers: bytes) -> Iterator[tuple[str, list[str]]]:
    """A server that gives each connection the next raw answer; its address, and the requests it got."""
    requests: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            for each in answers:
                try:
                    connection, _ = listener.accept()
                except OSError:  # the test ended before the client asked for every answer
                    return
                with connection:
                    requests.append(connection.recv(65_536).decode())
                    connection.sendall(each)
                    connection.shutdown(socket.SHUT_WR)
                    while connection.recv(65_536):  # closing with bytes unread would reset the client's connection
                        pass

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", requests


def response(body: object, *, status: str = "200 OK", kind: str = "application/json") -> bytes:
    data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    return f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data


def events(*indices: int) -> bytes:
    rows = "".join(f'id: {n}\nevent: step.done\ndata: {{"index": {n}}}\n\n: still here\n\n' for n in indices)
    return f"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\nretry: 2000\n\n{rows}".encode()


def test_the_command_line_imports_neither_server_nor_model_libraries() -> None:
    heavy = ("fastapi", "starlette", "uvicorn", "sqlalchemy", "pydantic_ai", "openai", "logfire", "pydantic")
    code = (
        "import sys; from api.cli import main; main(['op', '--help']); main(['whoami', '--url', 'http://127.0.0.1:9']);"
        f"print(*sorted(set(sys.modules) & set({heavy!r})), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1] == ""
    assert "Operations" in done.stdout


def test_help_lists_every_command_with_its_sentence(terminal: Terminal) -> None:
    said = terminal("--help")
    assert said.code == 0
    for _, commands in GROUPS:
        for command in commands:
            name = command.name if isinstance(command.name, str) else command.name[0]
            assert re.search(rf"│ {name}\b", said.out)
            assert command.help.split()[0] in said.out


def test_every_registered_command_can_be_loaded_and_documents_every_option() -> None:
    page = document.page()
    bare = [line for line in page.splitlines() if re.match(r"\* `-", line) and not re.search(r"`: [\w`]", line)]
    assert bare == []
    assert set(make_app().resolved_commands()) >= {"demo", "up", "server", "op", "approval", "audit", "doctor"}


def test_the_page_on_the_command_line_is_drawn_from_the_commands() -> None:
    assert PAGE.read_text() == document.page()


def test_every_exit_code_has_its_meaning_in_help_and_page(terminal: Terminal) -> None:
    assert set(MEANINGS) == set(Exit)
    said = terminal("help", "exit-codes")
    for code, meaning in MEANINGS.items():
        assert f"{int(code)} " in said.out
        assert meaning in said.out
        assert f"| {int(code)} | {meaning} |" in PAGE.read_text()
    assert all(f"\n{int(code)} " in said.out for code in Code)


@pytest.mark.parametrize("stage", Stage)
def test_every_stage_has_an_exit_code(stage: Stage) -> None:
    assert ended(stage.value) is stage.terminal
    assert (exit_of_stage(stage.value) is Exit.PENDING) is not stage.terminal


def test_every_kind_of_event_has_a_sentence_of_its_own_fields() -> None:
    kinds = {each.model_fields["kind"].default: each for each in get_args(get_args(AnyEvent)[0])}
    assert set(TEMPLATES) == set(kinds)
    for kind, template in TEMPLATES.items():
        used = set(re.findall(r"\{(\w+)\}", template))
        assert used - {"description"} <= set(kinds[kind].model_fields), kind


def test_a_kind_that_is_newer_than_the_program_is_told_by_its_name() -> None:
    assert sentence({"kind": "moon.landed", "event": {"kind": "moon.landed"}}) == "moon.landed"


def test_every_hint_is_about_a_problem_that_exists() -> None:
    assert set(_COMMANDS) <= set(CODES)


@pytest.mark.parametrize("variable", ["TRIAD_URL", "TRIAD_TOKEN", "NO_COLOR", "CLICOLOR_FORCE", "TRIAD_HOME"])
def test_environment_variables_are_explained(terminal: Terminal, variable: str) -> None:
    assert variable in terminal("help", "environment").out


def test_the_version_is_the_projects(terminal: Terminal) -> None:
    assert terminal("version", "--json=version").json == {"version": "0.1.0"}
    assert terminal("--version").out.strip() == "0.1.0"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_can_complete_commands(terminal: Terminal, shell: str) -> None:
    said = terminal("completion", shell)
    assert said.code == 0
    assert "approval" in said.out


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("opp",), "opp"),
        (("op", "shw"), "shw"),
        (("op", "show"), "IDENT"),
        (("op", "list", "--nonsense"), "--nonsense"),
        (("op", "list", "--limit", "many"), "many"),
        (("op", "cancel", "op_1"), "--reason"),
        (("login", "--token", KEY), "history"),
        (("status", "--url", "ftp://127.0.0.1"), "address"),
        (("halt", "--reason", "x"), "--yes"),
    ],
)
def test_a_wrong_command_line_is_usage(terminal: Terminal, arguments: tuple[str, ...], word: str) -> None:
    said = terminal(*arguments)
    assert said.code == 2
    assert word in said.err
    assert "next: " in said.err
    assert said.out == ""
    assert KEY not in said.err


def test_where_nothing_answers_it_says_how_to_start_it(terminal: Terminal) -> None:
    said = terminal("status")
    assert said.code == 1
    assert "Nothing answers at http://127.0.0.1:9." in said.err
    assert "triad up" in said.err


def test_what_is_not_triad_is_told_apart(terminal: Terminal) -> None:
    with answering(response("<html>hello</html>", kind="text/html")) as (url, _):
        said = terminal("status", "--url", url)
    assert said.code == 1
    assert "is not Triad" in said.err


def test_an_answer_that_breaks_off_can_be_asked_for_again_with_its_key(terminal: Terminal) -> None:
    with answering(b"") as (url, requests):
        said = Terminal(terminal.config, url, KEY)("run", "Look", "-s", "host", "--idempotency-key", "mine")
    assert said.code == 1
    assert "--idempotency-key mine" in said.err
    assert "idempotency-key: mine" in requests[0].lower()


@pytest.mark.parametrize(
    ("problem", "code", "words"),
    [
        (
            {"code": "forbidden", "title": "A rule", "reasons": ["No."], "articles": ["article-5"]},
            4,
            ["No.", "article-5"],
        ),
        ({"code": "invalid-field", "title": "A field", "detail": "x: bad", "field": "x"}, 2, ["x: bad", "field: x"]),
        ({"code": "expired", "title": "Over", "detail": "Too late."}, 7, ["triad run"]),
        ({"code": "brand-new", "title": "Something new", "detail": "Look."}, 1, ["Something new", "brand-new"]),
        ({}, 1, ["The service says no"]),
    ],
)
def test_a_problem_says_what_why_where_and_what_next(
    terminal: Terminal, problem: dict[str, object], code: int, words: list[str]
) -> None:
    status = {4: "403 Forbidden", 2: "422 Unprocessable"}.get(code, "409 Conflict")
    with answering(response(problem, status=status, kind="application/problem+json")) as (url, _):
        said = Terminal(terminal.config, url, KEY)("system", "list")
    assert said.code == code
    assert [word for word in words if word not in said.err] == []


def test_a_kept_key_goes_only_to_the_service_it_was_kept_for(terminal: Terminal) -> None:
    me = {"id": "ada", "kind": "person", "person": "ada", "roles": [], "constitution": "c"}
    with answering(response(me), response(me)) as (url, requests):
        home = Terminal(terminal.config, url)
        assert home("login", "--token", "-", stdin=KEY).code == 0
        assert home("whoami").code == 0
    assert all(f"Bearer {KEY}" in request for request in requests)
    with answering(response(me)) as (url, requests):
        Terminal(terminal.config, url)("whoami")
    assert "authorization" not in requests[0].lower()


def test_a_kept_key_that_others_can_read_is_not_used(terminal: Terminal) -> None:
    path = terminal.config / "triad" / "config.toml"
    path.parent.mkdir()
    path.write_text(f'url = "{terminal.url}"\ntoken = "{KEY}"\n')
    path.chmod(0o644)
    said = terminal("whoami")
    assert said.code == 1
    assert f"chmod 600 {path}" in said.err


def test_a_key_does_not_travel_in_clear_to_another_machine(terminal: Terminal) -> None:
    said = Terminal(terminal.config, "http://192.0.2.1:8642", KEY)("whoami")
    assert said.code == 2
    assert "in clear" in said.err


def test_a_loopback_service_is_asked_past_any_proxy(terminal: Terminal) -> None:
    health = {"status": "pass", "summary": "Fine.", "version": "0", "checks": {}}
    with answering(response(health)) as (url, _):
        said = terminal("status", "--url", url, HTTP_PROXY="http://127.0.0.1:9", http_proxy="http://127.0.0.1:9")
    assert said.code == 0, said.err


def test_a_torn_stream_goes_on_after_the_last_event_and_misses_none() -> None:
    over = b"HTTP/1.1 204 No Content\r\n\r\n"
    with answering(events(3, 4), events(5), over) as (url, requests), Client(Profile(url, None, "nowhere")) as client:
        found = [sent.index for sent in client.events("/stream", after=2)]
    assert found == [3, 4, 5]
    assert [re.search(r"after=(-?\d+)", request)[1] for request in requests] == ["2", "4", "5"]  # type: ignore[index] # each asks


def test_lists_are_read_to_their_end_over_pages() -> None:
    link = b'\r\nLink: </l?cursor=2>; rel="next"\r\n\r\n'
    first = response({"items": [{"id": 1}, {"id": 2}]}).replace(b"\r\n\r\n", link, 1)
    second = response({"items": [{"id": 3}]})
    with answering(first, second) as (url, requests), Client(Profile(url, None, "nowhere")) as client:
        assert [item["id"] for item in client.items("/l", most=3)] == [1, 2, 3]
    assert "GET /l?cursor=2 " in requests[-1]


def test_text_from_outside_cannot_move_the_cursor_or_turn_round_the_reading() -> None:
    assert plain("a\x1b[2Jb\u202ec\x9bd\re\u200b") == "a\\u001b[2Jb\\u202ec\\u009bd\\u000de\\u200b"
    assert plain("zwei\nZeilen\tÄ 日本") == "zwei\nZeilen\tÄ 日本"


def test_a_table_shows_such_text_harmlessly_and_json_keeps_it(capsys: pytest.CaptureFixture[str]) -> None:
    columns = (Column("name", lambda item: item["name"]),)
    show_list(SHAPE, [{"name": "x\x1b[31m[bold]y"}], columns, model="SystemView")
    assert "x\\u001b[31m[bold]y" in capsys.readouterr().out


class Stream:
    def __init__(self, *, terminal: bool) -> None:
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


@pytest.mark.parametrize(
    ("terminal", "variables", "colour"),
    [
        (True, {"TERM": "xterm"}, True),
        (False, {"TERM": "xterm"}, False),
        (True, {"TERM": "dumb"}, False),
        (True, {"TERM": "xterm", "NO_COLOR": "1"}, False),
        (False, {"CLICOLOR_FORCE": "1"}, True),
        (False, {"CLICOLOR_FORCE": "0"}, False),
        (True, {"NO_COLOR": "1", "CLICOLOR_FORCE": "1"}, False),
    ],
)
def test_colour_is_for_terminals_and_for_who_asks(
    monkeypatch: pytest.MonkeyPatch, terminal: bool, variables: dict[str, str], colour: bool
) -> None:
    for name in ("NO_COLOR", "CLICOLOR_FORCE", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert coloured(Stream(terminal=terminal)) is colour  # type: ignore[arg-type] # as much of a stream as is asked


def test_spans_are_drawn_as_a_tree_with_durations() -> None:
    def row(name: str, parent: str | None, start: int, end: int, status: str = "UNSET") -> dict[str, object]:
        times = {"start_ns": start * 1_000_000, "end_ns": end * 1_000_000}
        return {"name": name, "span": name, "parent": parent, **times, "status": status, "attributes": {"n": 1}}

    lines = list(
        tree([row("a", None, 0, 10), row("b", "a", 1, 5), row("c", "b", 2, 3, "ERROR"), row("d", "lost", 4, 6)])
    )
    assert [line.split()[0] for line in lines] == ["a", "└─", "└─", "d"]
    assert re.search(r"b +4\.0 ms  at +1\.0 ms  n=1", lines[1])
    assert "ERROR" in lines[2]
    assert list(tree([])) == []


def test_output_that_nobody_reads_any_more_is_no_error(terminal: Terminal) -> None:
    process = terminal.start("completion", "bash")
    assert process.stdout
    assert process.stderr
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=20) == 0
    assert err == ""


def test_an_erasure_of_evidence_names_the_evidence_and_nobody() -> None:
    event = {"subject": None, "commitments": [], "evidence": ["ab" * 32], "by": "ann", "reason": "A name stood in it."}
    assert sentence({"kind": "personal.erased", "event": event}) == (
        f"ann erases a piece of evidence, {'ab' * 32}: A name stood in it."
    )


def test_a_witness_is_no_url_and_its_keys_are_printed_again(tmp_path: Path) -> None:
    terminal, home = Terminal(tmp_path), str(tmp_path / "w")
    refused = terminal("witness", "init", "https://witness.example.org/w1", "--home", home)
    assert (refused.code, "witness.example.org/w1" in refused.err) == (2, True)
    made = terminal("witness", "init", "witness.example.org/w1", "--home", home)
    assert made.code == 0, made.err
    again = terminal("witness", "init", "witness.example.org/w1", "--home", home)
    assert (again.code, "triad witness keys" in again.err) == (1, True)
    assert terminal("witness", "keys", "--home", home).out == made.out
