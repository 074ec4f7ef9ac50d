"""What holds of every playbook in the catalogue, whichever family it is of."""

import ast
import hashlib
import inspect
import subprocess
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import asyncpg
import pytest
from pydantic import TypeAdapter

from operations import playbook as playbooks
from operations.canonical import JsonObject, canonical_record, digest_of
from operations.errors import InvalidRequest
from operations.evidence import Check, Effect, Snapshot
from operations.model import PlaybookName, Words
from operations.playbook import Call, Playbook, Target, _sources
from operations.playbooks.registry import default_catalogue
from operations.systems import (
    BackupFolder,
    CacheFolder,
    ConfigFile,
    Database,
    Host,
    HttpService,
    LogFolder,
    SystemKind,
)

pytestmark = pytest.mark.anyio

CATALOGUE = {playbook.name: playbook for playbook in default_catalogue()}
DIGESTS = {name: playbook.digest for name, playbook in CATALOGUE.items()}
NAMES = sorted(CATALOGUE)
REVERSIBLE = sorted(name for name, playbook in CATALOGUE.items() if playbook.reversible)
READING = sorted(name for name, playbook in CATALOGUE.items() if playbook.effect is Effect.READ)
SAMPLES: dict[str, JsonObject] = {
    "config.apply_change": {"changes": [{"path": ["port"], "value": 8080}]},
    "postgres.reindex_concurrently": {"index": "public.some_index"},
}
"""Arguments of the playbooks that have no defaults for all of them."""
FREE_TEXT = {"command", "cmd", "argv", "args", "shell", "script", "sql", "query", "statement", "code", "exec", "path"}
"""Names under which an argument could carry a command or lead to another file."""


def test_the_catalogue_holds_the_ten_playbooks_of_this_release() -> None:
    assert NAMES == [
        "backup.create",
        "backup.restore_test",
        "cache.clear_expired",
        "config.apply_change",
        "http.check",
        "logs.rotate",
        "observe.database",
        "observe.host",
        "postgres.reindex_concurrently",
        "postgres.vacuum_analyze",
    ]


@pytest.mark.parametrize("name", NAMES)
def test_every_playbook_says_what_it_is(name: str) -> None:
    playbook = CATALOGUE[name]
    assert TypeAdapter(PlaybookName).validate_python(name) == name
    assert TypeAdapter(Words).validate_python(playbook.summary).endswith(".")
    assert len(playbook.keywords) >= 3
    assert all(word == word.lower() for word in playbook.keywords)
    assert 0 <= playbook.tier <= 3
    assert playbook.fits <= set(get_args(SystemKind))
    assert playbook.fits
    assert playbook.timeout.total_seconds() > 0


@pytest.mark.parametrize("name", NAMES)
def test_every_docstring_says_what_an_interruption_leaves(name: str) -> None:
    text = " ".join((inspect.getdoc(type(CATALOGUE[name])) or "").lower().split())
    assert "interruption" in text
    assert len(text) > 100


@pytest.mark.parametrize("name", NAMES)
def test_what_reads_is_tier_zero_and_what_changes_is_not(name: str) -> None:
    playbook = CATALOGUE[name]
    assert (playbook.effect is Effect.READ) is (playbook.tier == 0)
    assert not (playbook.reversible and playbook.effect is Effect.READ)


@dataclass(frozen=True)
class Property:
    """One place in an argument schema."""

    where: str
    schema: JsonObject


def properties(schema: JsonObject) -> list[Property]:
    """Every argument, also those inside nested models."""
    found = []
    definitions = schema.get("$defs", {})
    assert isinstance(definitions, dict)
    for title, model in {"": schema, **definitions}.items():
        assert isinstance(model, dict)
        fields = model.get("properties", {})
        assert isinstance(fields, dict)
        for field, about in fields.items():
            assert isinstance(about, dict)
            found.append(Property(f"{title}.{field}".strip("."), about))
    return found


def unbounded(schema: Any) -> list[str]:
    """What in a schema has no bounds: text, numbers, lists and open objects."""
    if isinstance(schema, list):
        return [problem for item in schema for problem in unbounded(item)]
    if not isinstance(schema, dict):
        return []
    problems = []
    match schema.get("type"):
        case "string" if not {"maxLength", "pattern", "enum", "const", "format"} & schema.keys():
            problems.append("text without a limit")
        case "array" if "maxItems" not in schema:
            problems.append("list without a limit")
        case "number":
            problems.append("a float")
        case "object" if "properties" not in schema:
            problems.append("an open object")
    return problems + [
        problem for key in ("anyOf", "oneOf", "allOf", "items", "prefixItems") for problem in unbounded(schema.get(key))
    ]


@pytest.mark.parametrize("name", NAMES)
def test_every_argument_is_described_and_bounded(name: str) -> None:
    schema = CATALOGUE[name].arguments.model_json_schema()
    for found in properties(schema):
        assert found.schema.get("description"), found.where
        assert unbounded(found.schema) == [], found.where
    models = [schema, *schema.get("$defs", {}).values()]
    assert all(model.get("additionalProperties") is False for model in models if model.get("type") == "object")


@pytest.mark.parametrize("name", NAMES)
def test_every_whole_number_has_both_ends(name: str) -> None:
    for found in properties(CATALOGUE[name].arguments.model_json_schema()):
        options = found.schema.get("anyOf", [found.schema])
        assert isinstance(options, list)
        for option in options:
            assert isinstance(option, dict)
            if option.get("type") == "integer" and found.where != "Change.value":
                assert {"minimum", "exclusiveMinimum"} & option.keys(), found.where
                assert {"maximum", "exclusiveMaximum"} & option.keys(), found.where


@pytest.mark.parametrize("name", NAMES)
def test_no_argument_can_carry_a_command(name: str) -> None:
    for found in properties(CATALOGUE[name].arguments.model_json_schema()):
        field = found.where.rpartition(".")[2]
        assert field not in FREE_TEXT or found.where == "Change.path", found.where


def test_the_path_in_a_change_names_keys_and_cannot_leave_the_file() -> None:
    described = next(
        found.schema
        for found in properties(CATALOGUE["config.apply_change"].arguments.model_json_schema())
        if found.where == "Change.path"
    )
    assert "table names and the key" in str(described["description"])


def test_no_playbook_module_starts_a_shell() -> None:
    for path in sorted(Path(inspect.getfile(default_catalogue)).parent.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in {"os.system", "os.popen", "asyncio.create_subprocess_shell", "eval", "exec"}, path
                assert not any(word.arg == "shell" for word in node.keywords), path


@pytest.mark.parametrize("name", NAMES)
def test_arguments_survive_being_written_down(name: str) -> None:
    playbook = CATALOGUE[name]
    first = playbook.parse(SAMPLES.get(name, {}))
    written: JsonObject = first.model_dump(mode="json", exclude_none=True)
    assert digest_of(playbook.parse(written)) == digest_of(first)


def test_the_digests_are_the_same_in_every_process() -> None:
    script = (
        "from operations.playbooks.registry import default_catalogue\n"
        "for playbook in default_catalogue(): print(playbook.name, playbook.digest)"
    )
    root = Path(__file__).parent.parent
    for seed in ("0", "1"):
        out = subprocess.run(
            [sys.executable, "-c", script],
            cwd=root,
            env={"PYTHONHASHSEED": seed, "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        assert dict(line.split() for line in out.splitlines()) == {
            name: playbook.digest for name, playbook in CATALOGUE.items()
        }
    assert len({playbook.digest for playbook in CATALOGUE.values()}) == len(CATALOGUE)


@pytest.mark.parametrize(
    ("name", "shared"),
    [
        ("logs.rotate", {"folder", "logs", "restoration", "rotation", "rotation_checks"}),
        ("cache.clear_expired", {"cache", "folder"}),
        ("backup.create", {"backup", "backup_set", "folder"}),
        ("http.check", {"http"}),
    ],
)
def test_a_digest_covers_every_module_of_the_package_that_the_playbook_is_built_on(
    name: str, shared: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    package = "operations.playbooks"
    sources = _sources(sys.modules[type(CATALOGUE[name]).__module__])
    assert {f"{package}.{module}" for module in shared} <= sources.keys()
    assert all(
        digest == hashlib.sha256(Path(str(sys.modules[module].__file__)).read_bytes()).hexdigest()
        for module, digest in sources.items()
    )
    real = inspect.getsource
    for module in shared:
        monkeypatch.setattr(playbooks, "_DIGESTS", {})
        monkeypatch.setattr(
            inspect,
            "getsource",
            lambda kind, changed=module: real(kind) + "#" * (getattr(kind, "__name__", "") == f"{package}.{changed}"),
        )
        assert CATALOGUE[name].digest != DIGESTS[name]


@pytest.mark.parametrize("name", REVERSIBLE)
def test_what_is_reversible_has_an_undo_and_its_checks(name: str) -> None:
    kind = type(CATALOGUE[name])
    assert kind.undo is not Playbook.undo
    assert kind.undone is not Playbook.undone


@pytest.mark.parametrize("name", sorted(set(NAMES) - set(REVERSIBLE)))
def test_what_is_not_reversible_has_no_undo(name: str) -> None:
    assert type(CATALOGUE[name]).undo is Playbook.undo


@pytest.mark.parametrize("name", NAMES)
def test_what_may_happen_once_only_can_be_probed(name: str) -> None:
    kind = type(CATALOGUE[name])
    assert (kind.effect is Effect.ONCE_PROBE) is (kind.probe is not Playbook.probe)


@dataclass(frozen=True)
class Drill:
    """A system prepared for one playbook, its arguments, and a way to damage it between doing and undoing."""

    target: Target
    arguments: JsonObject
    folder: Path
    damage: Callable[[], None] = lambda: None


def state(folder: Path, *, without: tuple[str, ...] = ()) -> str:
    """SHA-256 over the names, modes and bytes of everything below a folder."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if any(name.startswith(start) or f"/{start}" in name for start in without):
            continue
        content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
        digest.update(f"{name} {path.lstat().st_mode:o} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def all_passed(checks: tuple[Check, ...]) -> bool:
    return bool(checks) and all(check.passed for check in checks)


def logs_drill(folder: Path, _: Any) -> Drill:
    log = folder / "app.log"
    log.write_bytes(b"one\ntwo\n")
    return Drill(Target(LogFolder(name="logs", path=str(folder))), {"mode": "rename"}, folder, damage=log.unlink)


def config_drill(folder: Path, _: Any) -> Drill:
    file = folder / "app.toml"
    file.write_text("# remark\nport = 80\n")
    target = Target(ConfigFile(name="conf", path=str(file)))

    return Drill(target, SAMPLES["config.apply_change"], folder, damage=lambda: file.chmod(0o777))


def backup_drill(folder: Path, database: Any) -> Drill:
    system = BackupFolder(name="backups", path=str(folder), database="main-db")

    def damage() -> None:
        for archive in folder.glob("main-db-*/database.dump"):
            archive.write_bytes(b"damaged")

    return Drill(Target(system, database.operator), {"keep_free_mebibytes": 0}, folder, damage)


async def restore_drill(folder: Path, database: Any) -> Drill:
    drill = backup_drill(folder, database)
    create = CATALOGUE["backup.create"]
    await create.run(create.parse(drill.arguments), drill.target, Call(key="op_0/1/1"))
    return Drill(drill.target, {}, folder)


Maker = Callable[[Path, Any], Drill | Awaitable[Drill]]
DRILLS: dict[str, Maker] = {
    "logs.rotate": logs_drill,
    "config.apply_change": config_drill,
    "backup.create": backup_drill,
    "backup.restore_test": restore_drill,
}


def test_every_reversible_playbook_has_a_drill() -> None:
    assert sorted(DRILLS) == REVERSIBLE


@pytest.mark.parametrize("name", REVERSIBLE)
async def test_applying_damaging_and_undoing_gives_back_what_was_there(
    name: str, tmp_path: Path, database: Any
) -> None:
    folder = tmp_path / "system"
    folder.mkdir()
    made = DRILLS[name](folder, database)
    drill = made if isinstance(made, Drill) else await made
    playbook = CATALOGUE[name]
    arguments = playbook.parse(drill.arguments)
    first = state(folder)
    await playbook.preview(arguments, drill.target)
    assert state(folder) == first
    before = Snapshot.model_validate_json(canonical_record(await playbook.before(arguments, drill.target)))
    assert state(folder, without=(".triad-keep-",)) == first
    outcome = await playbook.run(arguments, drill.target, Call(key="op_1/1/1"))
    assert outcome.changed
    assert canonical_record(outcome)
    done = state(folder)
    assert done != first
    assert all_passed(await playbook.checks(arguments, drill.target, before))
    assert state(folder) == done
    assert not all_passed(await playbook.undone(arguments, drill.target, before))
    drill.damage()
    await playbook.undo(arguments, drill.target, before, Call(key="op_1/1/2"))
    assert all_passed(await playbook.undone(arguments, drill.target, before))
    assert not all_passed(await playbook.checks(arguments, drill.target, before))
    assert state(folder, without=("rotated", ".triad-keep-")) == first


@pytest.mark.parametrize("name", REVERSIBLE)
async def test_undoing_twice_is_no_harm(name: str, tmp_path: Path, database: Any) -> None:
    folder = tmp_path / "system"
    folder.mkdir()
    made = DRILLS[name](folder, database)
    drill = made if isinstance(made, Drill) else await made
    playbook = CATALOGUE[name]
    arguments = playbook.parse(drill.arguments)
    before = await playbook.before(arguments, drill.target)
    await playbook.run(arguments, drill.target, Call(key="op_1/1/1"))
    await playbook.undo(arguments, drill.target, before, Call(key="op_1/1/2"))
    once = state(folder)
    await playbook.undo(arguments, drill.target, before, Call(key="op_1/1/3"))
    assert state(folder) == once
    assert all_passed(await playbook.undone(arguments, drill.target, before))


async def tables(dsn: str) -> list[Any]:
    """Everything that is stored in the database's ordinary tables, and the schema's objects."""
    connection = await asyncpg.connect(dsn)
    try:
        names = await connection.fetch(
            "SELECT schemaname, tablename FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
            " ORDER BY 1, 2"
        )
        rows = [
            await connection.fetch(f'SELECT t::text FROM "{schema}"."{table}" AS t ORDER BY 1')
            for schema, table in names
        ]
        objects = await connection.fetch(
            "SELECT relname, relkind, relfilenode FROM pg_class WHERE relnamespace > 16000 ORDER BY 1"
        )
        return [names, rows, objects]
    finally:
        await connection.close()


@pytest.mark.parametrize("name", READING)
async def test_what_reads_changes_neither_files_nor_tables(
    name: str, tmp_path: Path, database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("x")
    systems = {
        "observe.host": Target(Host(name="here")),
        "observe.database": Target(Database(name="db", act="env:A", observe="env:O"), database.observer),
        "http.check": Target(HttpService(name="web", url="http://127.0.0.1:9/")),
    }
    playbook = CATALOGUE[name]
    arguments = playbook.parse({})
    files, stored = state(tmp_path), await tables(database.superuser)
    preview = await playbook.preview(arguments, systems[name])
    before = await playbook.before(arguments, systems[name])
    outcome = await playbook.run(arguments, systems[name], Call(key="op_1/1/1"))
    checks = await playbook.checks(arguments, systems[name], before)
    assert checks
    assert not outcome.changed
    assert all(canonical_record(record) for record in (preview, before, outcome, *checks))
    assert (await playbook.preview(arguments, systems[name])).digest == preview.digest
    assert (state(tmp_path), await tables(database.superuser)) == (files, stored)


def unfit(playbook: Playbook[Any]) -> Target:
    if "cache" in playbook.fits:
        return Target(Host(name="here"))
    return Target(CacheFolder(name="cache", path="/nowhere"))


async def test_a_system_of_another_kind_is_refused_by_every_playbook() -> None:
    for playbook in CATALOGUE.values():
        arguments = playbook.parse(SAMPLES.get(playbook.name, {}))
        with pytest.raises(InvalidRequest, match="wrong-system-kind"):
            await playbook.preview(arguments, unfit(playbook))
