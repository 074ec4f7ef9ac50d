"""`config.apply_change` on real files in every format."""

import asyncio
import base64
import json
import os
import stat
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Literal

import asyncpg
import psutil
import pytest

from operations.canonical import JsonObject
from operations.errors import InvalidRequest, PlaybookFailed
from operations.evidence import Snapshot
from operations.playbook import Call, Catalogue, Target
from operations.playbooks.config import ApplyChange, ApplyChangeArguments
from operations.playbooks.postgres_session import until
from operations.playbooks.secrecy import masked
from operations.playbooks.validator import validate
from operations.stages import Stage
from operations.systems import ConfigFile, Inventory
from tests.bench import Bench
from tests.conftest import Database
from tests.samples import DANA, request
from triad.assembly import Blueprint, assembled
from triad.home import Home

pytestmark = pytest.mark.anyio

CALL = Call(key="op_1/1/1")
Format = Literal["toml", "yaml", "json", "ini", "env"]

TOML = """\
# the service
title = "demo"   # shown

[server]
port = 80 # the door
hosts = ["a", "b"]

[server.tls]
on = false
"""
YAML_TEXT = """\
# the service
server:
  port: 80  # the door
  hosts:
    - a
    - b
  name: 'quoted'
limits: {low: 1, high: 2}
"""
JSON_TEXT = '{\n  "server": {\n    "port": 80,\n    "ratio": 0.5\n  },\n  "name": "demo"\n}\n'
INI = "; the service\n[server]\nport = 80\nname=demo\n\n[other]\n# kept\nx: 1\n"
ENV = "# the service\nexport PORT=80 # the door\nNAME='my demo'\nEMPTY=\n"


def change(*path: str, value: object = None) -> JsonObject:
    made: JsonObject = {"path": list(path)}
    if value is None:
        return {**made, "remove": True}
    return {**made, "value": value}  # type: ignore[dict-item] # a JSON value, or the model says no


def args(*changes: JsonObject) -> ApplyChangeArguments:
    return ApplyChange().parse({"changes": list(changes)})


def target(path: Path, form: Format = "toml", *command: str) -> Target:
    return Target(ConfigFile(name="conf", path=str(path), format=form, validate_with=command))


def write(folder: Path, text: str | bytes, name: str = "app.conf") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def content(path: Path) -> bytes:
    return path.read_bytes()


def alive(pid: int) -> bool:
    """Whether it still runs; a child that nobody reaps in a container stays a zombie, which runs nothing."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def entries(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def applied(path: Path, form: Format, *changes: JsonObject) -> str:
    """The file after the whole procedure; every check must have passed."""
    playbook, where, wanted = ApplyChange(), target(path, form), args(*changes)
    before = await playbook.before(wanted, where)
    await playbook.run(wanted, where, CALL)
    checks = await playbook.checks(wanted, where, before)
    assert all(check.passed for check in checks), checks
    return content(path).decode()


async def refusal(path: Path, form: Format, *changes: JsonObject) -> str:
    """The code with which both preview and run refuse; the file must be untouched."""
    old = content(path)
    with pytest.raises(PlaybookFailed) as shown:
        await ApplyChange().preview(args(*changes), target(path, form))
    with pytest.raises(PlaybookFailed) as ran:
        await ApplyChange().run(args(*changes), target(path, form), CALL)
    assert shown.value.code == ran.value.code
    assert not ran.value.changed
    assert content(path) == old
    assert entries(path.parent) == [path.name]
    return ran.value.code


async def test_toml_keeps_comments_and_order(tmp_path: Path) -> None:
    path = write(tmp_path, TOML)
    text = await applied(
        path, "toml", change("server", "port", value=8080), change("server", "tls", "on", value=True), change("title")
    )
    assert text == TOML.replace('title = "demo"   # shown\n', "").replace("80 #", "8080 #").replace("false", "true")


async def test_toml_takes_new_tables_and_lists(tmp_path: Path) -> None:
    path = write(tmp_path, TOML)
    text = await applied(path, "toml", change("cache", "folders", value=["x", "y"]), change("server", "limit", value=5))
    assert tomllib.loads(text)["cache"] == {"folders": ["x", "y"]}
    assert tomllib.loads(text)["server"]["limit"] == 5
    assert "# the door" in text


async def test_yaml_keeps_comments_order_quotes_and_indentation(tmp_path: Path) -> None:
    path = write(tmp_path, YAML_TEXT)
    text = await applied(path, "yaml", change("server", "port", value=8080), change("limits", "low"))
    assert text == YAML_TEXT.replace("80  #", "8080 #").replace("low: 1, ", "")  # the remark keeps its column


async def test_yaml_texts_that_old_readers_mistake_are_quoted(tmp_path: Path) -> None:
    path = write(tmp_path, YAML_TEXT)
    text = await applied(path, "yaml", change("server", "mode", value="on"), change("server", "zip", value="0123"))
    assert '  mode: "on"\n' in text
    assert '  zip: "0123"\n' in text


async def test_yaml_document_start_and_an_empty_file_are_handled(tmp_path: Path) -> None:
    assert await applied(write(tmp_path, "---\na: 1\n"), "yaml", change("a", value=2)) == "---\na: 2\n"
    assert await applied(write(tmp_path, ""), "yaml", change("a", value=2)) == "a: 2\n"


async def test_json_keeps_order_and_indentation(tmp_path: Path) -> None:
    path = write(tmp_path, JSON_TEXT)
    text = await applied(path, "json", change("server", "port", value=8080), change("new", "deep", value=True))
    assert text == JSON_TEXT.replace("80,", "8080,").replace('"demo"\n', '"demo",\n  "new": {\n    "deep": true\n  }\n')


@pytest.mark.parametrize("text", ['{"a":1,"b":"c"}', '{"a": 1, "b": "c"}\n'])
async def test_json_on_one_line_stays_on_one_line(tmp_path: Path, text: str) -> None:
    assert await applied(write(tmp_path, text), "json", change("a", value=2)) == text.replace("1", "2")


async def test_ini_keeps_comments_case_and_separators(tmp_path: Path) -> None:
    path = write(tmp_path, INI)
    text = await applied(
        path,
        "ini",
        change("server", "port", value=8080),
        change("other", "x"),
        change("server", "Debug", value=True),
        change("fresh", "a", value="b c"),
    )
    assert text == (
        "; the service\n[server]\nport = 8080\nname=demo\nDebug = true\n\n[other]\n# kept\n[fresh]\na = b c\n"
    )


async def test_env_keeps_comments_exports_and_quotes(tmp_path: Path) -> None:
    path = write(tmp_path, ENV)
    text = await applied(
        path,
        "env",
        change("PORT", value=8080),
        change("NAME", value="a b $c"),
        change("EMPTY"),
        change("NEW", value="x"),
    )
    assert text == "# the service\nexport PORT=8080 # the door\nNAME='a b $c'\nNEW=x\n"


async def test_windows_line_ends_stay(tmp_path: Path) -> None:
    path = write(tmp_path, INI.replace("\n", "\r\n"))
    text = await applied(path, "ini", change("server", "port", value=8080))
    assert text == INI.replace("80", "8080").replace("\n", "\r\n")


@pytest.mark.parametrize(
    ("form", "data", "code"),
    [
        ("toml", b"a = '\xff'\n", "not-utf-8"),
        ("toml", b"\xef\xbb\xbfa = 1\n", "byte-order-mark"),
        ("toml", b"a = 1\r\nb = 2\n", "mixed-line-ends"),
        ("toml", b"a = 1\na = 2\n", "duplicate-key"),
        ("toml", b"a = \n", "config-invalid"),
        ("json", b'{"a": 1, "a": 2}', "duplicate-key"),
        ("json", b'{"x": {"b": 1, "b": 1}}', "duplicate-key"),
        ("json", b'{"x": NaN}', "config-invalid"),
        ("json", b'{"x": 1.10}', "number-not-kept"),
        ("json", b"[1]", "config-invalid"),
        ("json", b"", "config-invalid"),
        ("json", b"[" * 100_000, "config-invalid"),
        ("yaml", b"x: &a 1\ny: *a\n", "yaml-anchors-refused"),
        ("yaml", b"x: &a 1\n", "yaml-anchors-refused"),
        ("yaml", b"x: !!python/object/apply:os.system ['true']\n", "yaml-tags-refused"),
        ("yaml", b"x: !secret y\n", "yaml-tags-refused"),
        ("yaml", b"%YAML 1.1\n---\nx: 1\n", "yaml-directives-refused"),
        ("yaml", b"x: 1\n---\ny: 2\n", "yaml-documents-refused"),
        ("yaml", b"x: 1\nx: 2\n", "duplicate-key"),
        ("yaml", b"- 1\n", "config-invalid"),
        ("yaml", b"x: [\n", "config-invalid"),
        ("ini", b"[s]\nx = 1\nx = 2\n", "duplicate-key"),
        ("ini", b"[s]\n[s]\n", "duplicate-key"),
        ("ini", b"x = 1\n", "config-invalid"),
        ("env", b"X=1\nX=2\n", "duplicate-key"),
        ("env", b"X=`id`  `\n", "config-invalid"),
        ("env", b"not a line\n", "config-invalid"),
    ],
)
async def test_files_that_are_not_safe_to_edit_are_refused_with_a_code(
    tmp_path: Path, form: Format, data: bytes, code: str
) -> None:
    path = ("s", "y") if form == "ini" else ("y",)
    assert await refusal(write(tmp_path, data), form, change(*path, value=1)) == code


@pytest.mark.parametrize(
    ("form", "text", "path", "value", "code"),
    [
        ("toml", TOML, ("server",), 1, "path-is-a-table"),
        ("toml", TOML, ("title", "x"), 1, "path-not-a-table"),
        ("toml", TOML, ("server", "hosts", "0"), "x", "path-not-a-table"),
        ("ini", INI, ("port",), 1, "path-depth"),
        ("ini", INI, ("server", "port"), [1], "change-not-representable"),
        ("ini", INI, ("server", "port"), "a\nb", "change-not-representable"),
        ("ini", INI, ("server", "port"), "a # b", "change-not-representable"),
        ("ini", INI, ("server", "bad]\n"), "x", None),
        ("ini", "[s]\nx = 1 ; why\n", ("s", "x"), 2, "inline-comment"),
        ("ini", "[s]\nx = 1\n  more\n", ("s", "x"), 2, "change-not-representable"),
        ("ini", INI, ("server", "a = b"), "x", "change-not-representable"),
        ("env", ENV, ("server", "port"), 1, "path-depth"),
        ("env", ENV, ("PORT",), "it's", "change-not-representable"),
        ("env", ENV, ("NOT A NAME",), "x", "config-invalid"),
    ],
)
async def test_changes_that_cannot_be_made_without_loss_are_refused(
    tmp_path: Path, form: Format, text: str, path: tuple[str, ...], value: object, code: str | None
) -> None:
    file = write(tmp_path, text)
    if code is None:
        with pytest.raises(InvalidRequest):
            args(change(*path, value=value))
    else:
        assert await refusal(file, form, change(*path, value=value)) == code


@pytest.mark.parametrize(
    "changes",
    [
        [{"path": ["a"]}],
        [{"path": ["a"], "value": 1, "remove": True}],
        [{"path": [], "value": 1}],
        [{"path": ["a"], "value": 1}, {"path": ["a"], "value": 2}],
        [{"path": ["a"], "value": 1}, {"path": ["a", "b"], "value": 2}],
        [{"path": ["a"], "value": {"b": 1}}],
        [{"path": ["a"], "value": "x" * 2001}],
        [{"path": ["a"], "value": [["x"]]}],
        [],
    ],
)
def test_arguments_that_say_nothing_clear_are_refused(changes: list[JsonObject]) -> None:
    with pytest.raises(InvalidRequest):
        args(*changes)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("db", "password"), "hunter2hunter2"),
        (("dbPassword",), "hunter2hunter2"),
        (("secrets", "x"), "hunter2hunter2"),
        (("api_key",), "hunter2hunter2"),
        (("auth", "token"), 123_456),
        (("tokens",), ["hunter2hunter2"]),
        (("url",), "postgres://me:hunter2hunter2@db/x"),
        (("pem",), "-----BEGIN PRIVATE"),
        (("auth",), "Basic hunter2hunter2"),
        (("Authorization",), "hunter2hunter2"),
        (("session_cookie",), "hunter2hunter2"),
        (("dsn",), "hunter2hunter2"),
        (("db", "connectionString"), "hunter2hunter2"),
        (("credentials",), "hunter2hunter2"),
        (("passphrase",), "hunter2hunter2"),
        (("private",), "hunter2hunter2"),
        (("store",), "Server=db;User=sa;Password=hunter2hunter2"),
        (("link",), "https://host/path?access_token=hunter2hunter2"),
        (("headers",), ["Accept: text/html", "X-Sent: Bearer hunter2hunter2"]),
    ],
)
def test_a_change_that_looks_like_a_secret_is_refused_without_echoing_it(path: tuple[str, ...], value: object) -> None:
    with pytest.raises(InvalidRequest) as caught:
        args(change(*path, value=value))
    assert "hunter2" not in str(caught.value)
    assert "secret" in str(caught.value)


def test_numbers_and_switches_that_only_sound_like_secrets_are_allowed() -> None:
    wanted = args(
        change("max_tokens", value=4000),
        change("use_token", value=True),
        change("keyboard", value="de"),
        change("connection_limit", value=5),
        change("max_connections", value="100"),
        change("author", value="ada"),
        change("auth", value="on"),
        change("title", value="Basic settings"),
        change("link", value="https://host/path?page=1"),
    )
    assert len(wanted.changes) == 9


SECRETIVE: dict[Format, str] = {
    "toml": 'port = 80\npassword = "hunter2hunter2"\nlong_key = """\nhunter2first\nhunter2second\n"""\n',
    "yaml": "port: 80\npassword: hunter2hunter2\nlong_key: |\n  hunter2first\n  hunter2second\n",
    "json": '{"port": 80, "password": "hunter2hunter2", "db": {"url": "http://me:hunter2hunter2@x/"}}',
    "ini": "[a]\nport = 80\npassword = hunter2hunter2\ntokens = hunter2first\n  hunter2second\n",
    "env": "PORT=80\nPASSWORD='hunter2hunter2'\nAPI_KEY=hunter2first\n",
}


@pytest.mark.parametrize("form", ["toml", "yaml", "json", "ini", "env"])
async def test_secrets_that_the_file_holds_are_in_nothing_that_is_shown_or_recorded(
    tmp_path: Path, form: Format
) -> None:
    path = write(tmp_path, SECRETIVE[form])
    prefix = ("a",) if form == "ini" else ()
    port, password = ("PORT", "PASSWORD") if form == "env" else ("port", "password")
    wanted = args(change(*prefix, port, value=8080), change(*prefix, password))
    where = target(path, form, "cat", "{file}")
    playbook = ApplyChange()
    preview = await playbook.preview(wanted, where)
    before = await playbook.before(wanted, where)
    outcome = await playbook.run(wanted, where, CALL)
    checks = await playbook.checks(wanted, where, before)
    assert all(check.passed for check in checks)
    shown = [preview.model_dump_json(), before.model_dump_json(), outcome.model_dump_json(), *map(str, checks)]
    assert not any("hunter2" in text for text in shown)
    assert "8080" in preview.diff
    undone = await playbook.undo(wanted, where, before, CALL)
    assert path.read_text() == SECRETIVE[form]
    assert undone.changed


async def test_an_operation_that_cannot_be_undone_without_loss_fails_and_no_secret_is_in_the_ledger(
    database: Database, tmp_path: Path
) -> None:
    path = write(tmp_path, HIDDEN["ini"])
    colleague = "import sys; open(sys.argv[1], 'a').write('y = 9\\n'); sys.exit(1)"
    system = ConfigFile(
        name="conf", path=str(path), format="ini", validate_with=(sys.executable, "-c", colleague, str(path))
    )
    home = Home(tmp_path / "home")
    home.prepare()
    blueprint = Blueprint(
        home=home, dsn=database.app, inventory=Inventory(systems=(system,)), catalogue=Catalogue([ApplyChange()])
    )
    async with assembled(blueprint) as triad:
        at = Bench(triad, tmp_path)
        parameters: JsonObject = {"changes": [change("db", "x", value=8080)]}
        asked = request(systems=("conf",), playbook="config.apply_change", parameters=parameters)
        waiting = await at.advance(await at.submit(asked))
        ended = await at.advance(await at.approve(waiting, DANA))
        assert ended.stage is Stage.FAILED
        assert "changed-since" in [attempt.code for attempt in ended.attempts]
    assert path.read_text() == HIDDEN["ini"].replace("x = 1", "x = 8080", 1) + "y = 9\n"
    connection = await asyncpg.connect(database.superuser)
    try:
        stored = [
            row[0] for row in await connection.fetch("SELECT body FROM evidence UNION SELECT entry FROM ledger_leaf")
        ]
    finally:
        await connection.close()
    assert len(stored) > 10
    whole = base64.b64encode(HIDDEN["ini"].encode())
    assert not [body for body in stored if CANARY.encode() in body or whole in body]


CANARY = "cAnArY-7f3a"
HIDDEN: dict[Format, str] = {
    "ini": f"""[db]
x = 1
# password = {CANARY}1
; the old password was {CANARY}2 until May
connection_string = Server=db;User=sa;Password={CANARY}3
auth = Basic {CANARY}4
query = https://host/path?access_token={CANARY}5&page=1
place = postgres://me:{CANARY}6@at{CANARY}@db/x
options = -c user=x -c password={CANARY}7
""",
    "yaml": f"""\
# token: {CANARY}1
x: 1
users:
  - name: bob
    password: {CANARY}2
headers:
  - "Authorization: Bearer {CANARY}3"
session: {{cookie: {CANARY}4}}
password:
  {CANARY}5
  {CANARY}6
passphrase: 'it''s {CANARY}7'
""",
    "toml": f"""\
x = 1 # secret {CANARY}1
dsn = "host=db password={CANARY}2"
private = [
  "a\\"{CANARY}3",
  "{CANARY}4",
]
""",
}


@pytest.mark.parametrize("form", ["ini", "yaml", "toml"])
async def test_secrets_in_remarks_and_inside_values_are_in_nothing_that_is_shown_or_recorded(
    tmp_path: Path, form: Format
) -> None:
    path = write(tmp_path, HIDDEN[form])
    prefix = ("db",) if form == "ini" else ()
    gone = {"ini": ("auth", "query", "place", "options"), "yaml": ("password", "passphrase")}.get(form, ("private",))
    wanted = args(change(*prefix, "x", value=8080), *(change(*prefix, key) for key in gone))
    babble = "import sys; text = open(sys.argv[1]).read(); print(text, *text.split(), *text.split('='))"
    where = target(path, form, sys.executable, "-c", babble, "{file}")
    playbook = ApplyChange()
    preview = await playbook.preview(wanted, where)
    before = await playbook.before(wanted, where)
    answer = await playbook.checks(wanted, where, before)
    outcome = await playbook.run(wanted, where, CALL)
    checks = await playbook.checks(wanted, where, before)
    assert all(check.passed for check in checks)
    shown = [preview.model_dump_json(), before.model_dump_json(), outcome.model_dump_json(), str(answer), str(checks)]
    assert not [text for text in shown if "cAnArY" in text]
    assert set(before.facts) == {"sha256", "bytes", "mode", "uid", "gid", "kept_as"}
    assert "8080" in preview.diff
    await playbook.undo(wanted, where, before, CALL)
    assert path.read_text() == HIDDEN[form]


async def test_a_file_without_any_secret_is_no_evidence_either(tmp_path: Path) -> None:
    path = write(tmp_path, TOML)
    before = await ApplyChange().before(args(change("title")), target(path))
    assert set(before.facts) == {"sha256", "bytes", "mode", "uid", "gid", "kept_as"}
    assert (tmp_path / str(before.facts["kept_as"])).read_text() == TOML


def test_half_a_line_of_the_validators_output_is_not_shown_because_it_may_be_half_a_secret(tmp_path: Path) -> None:
    script = f"print('token = {'x' * 1990}{CANARY}'); print('last')"
    answer = asyncio.run(validate((sys.executable, "-c", script), str(tmp_path)))
    assert answer.tail == "last\n"


async def test_the_copy_of_a_file_with_secrets_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    path = write(tmp_path, SECRETIVE["toml"])
    path.chmod(0o644)
    before = await ApplyChange().before(args(change("port", value=1)), target(path))
    copy = tmp_path / str(before.facts["kept_as"])
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert copy.read_bytes() == path.read_bytes()


async def test_copies_younger_than_a_week_stay_however_many_there_are(tmp_path: Path) -> None:
    path = write(tmp_path, "x = 0\n")
    first = await ApplyChange().before(args(change("x", value=1)), target(path))
    for number in range(1, 31):
        write(tmp_path, f"x = {number}\n")
        await ApplyChange().before(args(change("x", value=0)), target(path))
    assert len(entries(tmp_path)) == 1 + 31
    write(tmp_path, "x = 1\n")
    await ApplyChange().undo(args(change("x", value=1)), target(path), first, CALL)
    assert path.read_text() == "x = 0\n"


async def test_of_copies_older_than_a_week_the_twenty_newest_stay(tmp_path: Path) -> None:
    now = time.time()
    for number in range(30):
        path = write(tmp_path, f"x = {number}\n")
        before = await ApplyChange().before(args(change("x", value=0)), target(path))
        age = 8 * 86_400 - number
        os.utime(tmp_path / str(before.facts["kept_as"]), (now - age, now - age))
    other = write(tmp_path, "x = 0\n", "other.app.conf")
    theirs = await ApplyChange().before(args(change("x", value=1)), target(other))
    os.utime(tmp_path / str(theirs.facts["kept_as"]), (0, 0))
    last = await ApplyChange().before(args(change("x", value=0)), target(path))
    assert str(last.facts["kept_as"]) in entries(tmp_path)
    assert len([name for name in entries(tmp_path) if name.endswith(".app.conf")]) == 20 + 1 + 1
    assert str(theirs.facts["kept_as"]) in entries(tmp_path)


async def test_the_preview_shows_the_diff_and_changes_with_the_bytes_of_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, TOML)
    wanted = args(change("server", "port", value=8080))
    first = await ApplyChange().preview(wanted, target(path))
    assert "-port = 80 # the door\n+port = 8080 # the door" in first.diff
    assert first.digest == (await ApplyChange().preview(wanted, target(path))).digest
    write(tmp_path, TOML + "# a remark\n")
    assert first.digest != (await ApplyChange().preview(wanted, target(path))).digest
    assert path.read_text() == TOML + "# a remark\n"


async def test_a_change_too_long_to_be_shown_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, json.dumps({"a": 1, "b": "x" * 70_000}))
    with pytest.raises(PlaybookFailed) as caught:
        await ApplyChange().preview(args(change("a", value=2)), target(path, "json"))
    assert caught.value.code == "diff-too-long"


LONG_VALUE = '{"a": 1, "b": "' + "x" * 900_000 + '"}'
MANY_KEYS = "{" + ", ".join(f'"k{number}": {number}' for number in range(60_000)) + "}"


@pytest.mark.parametrize("text", [LONG_VALUE, MANY_KEYS], ids=["long value", "many keys"])
def test_masking_a_long_line_takes_no_longer_than_reading_it(text: str) -> None:
    started = time.process_time()
    assert masked(text) == text
    assert time.process_time() - started < 2


async def test_running_twice_equals_running_once(tmp_path: Path) -> None:
    path = write(tmp_path, TOML)
    wanted = args(change("server", "port", value=8080), change("title"))
    first = await ApplyChange().run(wanted, target(path), CALL)
    once, inode = path.read_bytes(), path.stat().st_ino
    second = await ApplyChange().run(wanted, target(path), CALL)
    assert (first.changed, second.changed) == (True, False)
    assert (path.read_bytes(), path.stat().st_ino) == (once, inode)


async def test_mode_and_extended_attributes_stay(tmp_path: Path) -> None:
    path = write(tmp_path, TOML)
    path.chmod(0o640)
    os.setxattr(path, "user.note", b"kept")
    await applied(path, "toml", change("server", "port", value=8080))
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert os.getxattr(path, "user.note") == b"kept"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
async def test_the_owner_stays(tmp_path: Path) -> None:
    path = write(tmp_path, TOML)
    os.chown(path, 12_345, 23_456)
    before = await ApplyChange().before(args(change("title")), target(path))
    await applied(path, "toml", change("title"))
    assert (path.stat().st_uid, path.stat().st_gid) == (12_345, 23_456)
    os.chown(path, 0, 0)
    await ApplyChange().undo(args(change("title")), target(path), before, CALL)
    checks = await ApplyChange().undone(args(change("title")), target(path), before)
    assert all(check.passed for check in checks)


async def test_an_owner_that_cannot_be_kept_means_no_change(unprivileged: Path) -> None:
    path = unprivileged / "app.conf"
    path.write_text(TOML)
    os.seteuid(0)
    os.chown(path, 12_345, 23_456)
    path.chmod(0o666)
    os.seteuid(65_534)
    with pytest.raises(PlaybookFailed) as caught:
        await ApplyChange().run(args(change("title")), target(path), CALL)
    assert caught.value.code == "permission-denied"
    assert path.read_text() == TOML
    assert entries(unprivileged) == ["app.conf"]


async def test_a_changed_mode_is_undone_with_the_bytes(tmp_path: Path) -> None:
    path = write(tmp_path, TOML)
    path.chmod(0o640)
    wanted, where, playbook = args(change("server", "port", value=8080)), target(path), ApplyChange()
    before = await playbook.before(wanted, where)
    await playbook.run(wanted, where, CALL)
    path.chmod(0o600)
    outcome = await playbook.undo(wanted, where, before, CALL)
    assert outcome.changed
    assert path.read_text() == TOML
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert all(check.passed for check in await playbook.undone(wanted, where, before))


async def test_undo_refuses_to_wipe_the_change_of_a_later_operation(tmp_path: Path) -> None:
    path = write(tmp_path, "x = 1\ny = 1\n")
    first, second, where, playbook = args(change("x", value=2)), args(change("y", value=9)), target(path), ApplyChange()
    before = await playbook.before(first, where)
    await playbook.run(first, where, CALL)
    later = await playbook.before(second, where)
    await playbook.run(second, where, Call(key="op_2/1/1"))
    with pytest.raises(PlaybookFailed) as caught:
        await playbook.undo(first, where, before, CALL)
    assert (caught.value.code, caught.value.changed) == ("changed-since", False)
    assert path.read_text() == "x = 2\ny = 9\n"
    assert not all(check.passed for check in await playbook.undone(first, where, before))
    await playbook.undo(second, where, later, CALL)
    await playbook.undo(first, where, before, CALL)
    assert path.read_text() == "x = 1\ny = 1\n"
    assert all(check.passed for check in await playbook.undone(first, where, before))


@pytest.mark.parametrize("foreign", [b"\x00 damaged", b"", b"#" * ((1 << 20) + 1)], ids=["bytes", "empty", "large"])
async def test_undo_leaves_foreign_bytes_and_their_mode_in_place(tmp_path: Path, foreign: bytes) -> None:
    path = write(tmp_path, TOML)
    wanted, where, playbook = args(change("server", "port", value=8080)), target(path), ApplyChange()
    before = await playbook.before(wanted, where)
    await playbook.run(wanted, where, CALL)
    path.write_bytes(foreign)
    path.chmod(0o600)
    there = entries(tmp_path)
    with pytest.raises(PlaybookFailed) as caught:
        await playbook.undo(wanted, where, before, CALL)
    assert caught.value.code == "changed-since"
    assert (content(path), stat.S_IMODE(path.stat().st_mode)) == (foreign, 0o600)
    assert entries(tmp_path) == there


async def test_a_file_that_vanished_is_put_back(tmp_path: Path) -> None:
    path = write(tmp_path, TOML)
    path.chmod(0o644)
    wanted, where, playbook = args(change("title")), target(path), ApplyChange()
    before = await playbook.before(wanted, where)
    await playbook.run(wanted, where, CALL)
    path.unlink()
    await playbook.undo(wanted, where, before, CALL)
    assert all(check.passed for check in await playbook.undone(wanted, where, before))


async def test_undo_of_an_untouched_file_changes_nothing(tmp_path: Path) -> None:
    path = write(tmp_path, TOML)
    before = await ApplyChange().before(args(change("title")), target(path))
    outcome = await ApplyChange().undo(args(change("title")), target(path), before, CALL)
    assert not outcome.changed
    assert path.read_text() == TOML
    assert entries(tmp_path) == [str(before.facts["kept_as"]), "app.conf"]


async def test_a_snapshot_that_was_tampered_with_is_not_put_back(tmp_path: Path) -> None:
    path = write(tmp_path, TOML)
    before = await ApplyChange().before(args(change("title")), target(path))
    kept = tmp_path / str(before.facts["kept_as"])
    forged = Snapshot(summary="", facts={**before.facts, "sha256": "0" * 64})
    outside = Snapshot(summary="", facts={**before.facts, "kept_as": "../../etc/passwd"})
    for snapshot in (forged, outside):
        assert await undo_refusal(path, snapshot) == "snapshot-damaged"
    kept.write_text("evil")
    assert await undo_refusal(path, before) == "snapshot-damaged"
    kept.unlink()
    assert await undo_refusal(path, before) == "snapshot-damaged"
    assert path.read_text() == TOML


async def undo_refusal(path: Path, snapshot: Snapshot) -> str:
    with pytest.raises(PlaybookFailed) as caught:
        await ApplyChange().undo(args(change("title")), target(path), snapshot, CALL)
    return caught.value.code


async def test_what_the_owner_does_not_validate_never_gets_into_place(tmp_path: Path) -> None:
    path = write(tmp_path, TOML)
    script = "import sys, tomllib; sys.exit(tomllib.load(open(sys.argv[1], 'rb'))['server']['port'] > 1000)"
    where = target(path, "toml", sys.executable, "-c", script, "{file}")
    with pytest.raises(PlaybookFailed) as caught:
        await ApplyChange().run(args(change("server", "port", value=8080)), where, CALL)
    assert caught.value.code == "validation-failed"
    assert not caught.value.changed
    assert path.read_text() == TOML
    assert entries(tmp_path) == ["app.conf"]
    before = await ApplyChange().before(args(change("server", "port", value=81)), where)
    await ApplyChange().run(args(change("server", "port", value=81)), where, CALL)
    checks = await ApplyChange().checks(args(change("server", "port", value=81)), where, before)
    assert checks[-1].name == "owner-validates"
    assert checks[-1].passed


async def test_the_validator_runs_without_a_shell_and_without_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRIAD_TEST_SECRET", "hunter2")
    path = write(tmp_path, TOML, "name; touch broken")
    script = "import os, sys; print(sorted(os.environ), sys.argv[1:]); sys.exit(1)"
    where = target(path, "toml", sys.executable, "-c", script, "{file}", "$(touch x)")
    before = await ApplyChange().before(args(change("title")), where)
    checks = await ApplyChange().checks(args(change("title")), where, before)
    assert not checks[-1].passed
    assert "exit code 1" in checks[-1].observed
    assert "TRIAD_TEST_SECRET" not in checks[-1].observed
    assert "'$(touch x)'" in checks[-1].observed
    assert entries(tmp_path) == [str(before.facts["kept_as"]), "name; touch broken"]


async def test_a_validator_that_hangs_is_killed_with_its_children(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    script = (
        "import os, subprocess, sys; child = subprocess.Popen(['sleep', '1000']);"
        "open(sys.argv[1], 'w').write(f'{os.getpid()} {child.pid}'); print('x' * 100_000, flush=True); child.wait()"
    )
    answer = await validate((sys.executable, "-c", script, str(pids)), "unused", seconds=1)
    assert not answer.valid
    assert answer.failure == "it did not end within 1 s"
    assert len(answer.tail) <= 2000

    async def living() -> list[int]:
        return [pid for pid in map(int, pids.read_text().split()) if alive(pid)]

    assert await until(living, lambda pids: not pids, 10) == []


async def test_a_validator_that_cannot_be_started_says_no(tmp_path: Path) -> None:
    path = write(tmp_path, TOML)
    with pytest.raises(PlaybookFailed) as caught:
        await ApplyChange().run(args(change("title")), target(path, "toml", "/no/such/thing", "{file}"), CALL)
    assert caught.value.code == "validation-failed"
    assert path.read_text() == TOML


@pytest.mark.parametrize("kind", ["file", "folder"])
async def test_links_are_refused(tmp_path: Path, kind: str) -> None:
    real = tmp_path / "real"
    real.mkdir()
    path = write(real, TOML)
    if kind == "file":
        linked = tmp_path / "link.conf"
        linked.symlink_to(path)
    else:
        (tmp_path / "link").symlink_to(real, target_is_directory=True)
        linked = tmp_path / "link" / "app.conf"
    for attempt in (ApplyChange().preview, ApplyChange().before):
        with pytest.raises(PlaybookFailed) as caught:
            await attempt(args(change("title")), target(linked))
        assert caught.value.code == "symlink-refused"
    with pytest.raises(PlaybookFailed):
        await ApplyChange().run(args(change("title")), target(linked), CALL)
    assert path.read_text() == TOML


async def test_pipes_hard_links_folders_and_large_files_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    path = write(tmp_path, TOML)
    (tmp_path / "twin").hardlink_to(path)
    large = write(tmp_path, b"#" * ((1 << 20) + 1), "large")
    expected = {"pipe": "not-a-file", "twin": "hard-linked", "large": "too-large", "absent": "file-missing"}
    for name, code in expected.items():
        with pytest.raises(PlaybookFailed) as caught:
            await ApplyChange().preview(args(change("title")), target(tmp_path / name))
        assert caught.value.code == code
    assert large.stat().st_size == (1 << 20) + 1


async def test_somebody_elses_save_during_the_run_wins(tmp_path: Path) -> None:
    path = write(tmp_path, TOML)
    script = "import sys; open(sys.argv[1], 'a').write('# saved meanwhile')"
    where = target(path, "toml", sys.executable, "-c", script, str(path), "{file}")
    with pytest.raises(PlaybookFailed) as caught:
        await ApplyChange().run(args(change("title")), where, CALL)
    assert caught.value.code == "changed-underneath"
    assert path.read_text() == TOML + "# saved meanwhile"
    assert entries(tmp_path) == ["app.conf"]


async def test_two_runs_at_once_do_not_mix(tmp_path: Path) -> None:
    path = write(tmp_path, TOML)
    where = target(path, "toml", sys.executable, "-c", "import sys, time; time.sleep(0.2)", "{file}")
    results = await asyncio.gather(
        ApplyChange().run(args(change("title")), where, CALL),
        ApplyChange().run(args(change("server", "port", value=1)), where, CALL),
        return_exceptions=True,
    )
    failures = [result for result in results if isinstance(result, PlaybookFailed)]
    assert [failure.code for failure in failures] == ["busy"]
    assert len(results) - len(failures) == 1


async def test_a_read_only_folder_is_named_as_such(unprivileged: Path) -> None:
    folder = unprivileged / "etc"
    folder.mkdir()
    path = write(folder, TOML)
    folder.chmod(0o555)
    with pytest.raises(PlaybookFailed) as caught:
        await ApplyChange().run(args(change("title")), target(path), CALL)
    assert caught.value.code == "permission-denied"
    assert path.read_text() == TOML


RUN = """
import asyncio, os, resource, signal, sys
from operations.errors import PlaybookFailed
from operations.playbook import Call, Target
from operations.playbooks.config import ApplyChange
from operations.systems import ConfigFile
target = Target(ConfigFile(name="conf", path=sys.argv[1], format="toml"))
args = ApplyChange().parse({{"changes": [{{"path": ["title"], "remove": True}}]}})
{before}
try:
    asyncio.run(ApplyChange().run(args, target, Call(key="k")))
except PlaybookFailed as error:
    sys.exit(error.code)
"""


async def run_apart(path: Path, before: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", RUN.format(before=before), str(path), stderr=subprocess.PIPE
    )
    _, error = await process.communicate()
    return process.returncode or 0, error.decode().strip()


async def test_no_room_for_the_new_file_leaves_the_old_one_and_nothing_else(tmp_path: Path) -> None:
    path = write(tmp_path, TOML)
    assert await run_apart(path, "resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))") == (1, "no-space")
    assert path.read_text() == TOML
    assert entries(tmp_path) == ["app.conf"]


@pytest.mark.parametrize("moment", ["rename", "fsync", "fchmod"])
async def test_a_killed_run_leaves_the_old_file_and_the_next_one_cleans_up(tmp_path: Path, moment: str) -> None:
    path = write(tmp_path, TOML)
    code, _ = await run_apart(path, f"os.{moment} = lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL)")
    assert code == -9
    assert path.read_text() == TOML
    assert len(entries(tmp_path)) == 2
    await applied(path, "toml", change("title"))
    assert [name for name in entries(tmp_path) if not name.startswith(".triad-keep-")] == ["app.conf"]
