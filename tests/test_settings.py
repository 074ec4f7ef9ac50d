"""Settings: where they come from, what is refused, and that nothing sent is repeated."""

import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import TypeAdapter, ValidationError

from agents.models import ModelName
from api.document import settings_page
from api.settings import Model, Settings, SettingsInvalid, check_file, default_home, load_settings, main
from operations.model import RunMode
from storage.witness import Witness
from triad.home import Home

SECRET = "s3cret-canary"


@pytest.fixture(autouse=True)
def _nothing_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("TRIAD_HOME", "TRIAD_MODE", "TRIAD_SERVER_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TRIAD_HOME", str(tmp_path / "home"))


def written(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_flag_beats_the_environment_beats_the_files_beat_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(
        tmp_path / "home" / "triad.toml",
        '[server]\nport = 1001\nstreams = 11\nbody_limit = 1111\n[logging]\nlevel = "debug"\n',
    )
    written(tmp_path / "triad.toml", "[server]\nport = 1002\nstreams = 12\nbody_limit = 2222\n")
    monkeypatch.setenv("TRIAD_SERVER_PORT", "1003")
    monkeypatch.setenv("TRIAD_SERVER_STREAMS", "13")
    found = load_settings(flags={"server": {"port": 1004}}, folder=tmp_path)
    assert found.server.port == 1004
    assert found.server.streams == 13
    assert found.server.body_limit == 2222
    assert found.logging.level == "debug"
    assert found.server.host == "127.0.0.1"


def test_a_named_file_is_read_alone(tmp_path: Path) -> None:
    written(tmp_path / "home" / "triad.toml", "[server]\nport = 1001\n")
    named = written(tmp_path / "other.toml", 'mode = "review"\n')
    found = load_settings(config=named, folder=tmp_path)
    assert (found.mode, found.server.port) == (RunMode.REVIEW, 8642)


def test_the_home_of_the_working_folders_file_is_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRIAD_HOME")
    written(tmp_path / "elsewhere" / "triad.toml", "[server]\nport = 1005\n")
    written(tmp_path / "triad.toml", f'home = "{tmp_path / "elsewhere"}"\n')
    found = load_settings(folder=tmp_path)
    assert (found.home, found.server.port) == (tmp_path / "elsewhere", 1005)


def test_every_setting_can_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIAD_MODE", "observe")
    monkeypatch.setenv("TRIAD_PLANNER_BASE_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("TRIAD_DATABASE_URL", "env:DSN")
    monkeypatch.setenv("TRIAD_TOKEN", "belongs to the command line")
    found = load_settings(folder=tmp_path)
    assert found.mode is RunMode.OBSERVE
    assert found.planner.base_url == "http://127.0.0.1:9/v1"
    assert found.database.url == "env:DSN"


REFUSED = {
    "a port that does not exist": ("[server]\nport = 99999\n", "server.port"),
    "port zero": ("[server]\nport = 0\n", "server.port"),
    "a port in words": (f'[server]\nport = "{SECRET}"\n', "server.port"),
    "an unknown key": (f'[server]\nbogus = "{SECRET}"\n', "server.bogus"),
    "an unknown table": ("[sever]\nport = 8000\n", "sever"),
    "a table that is a value": ("server = 1\n", "server"),
    "an unknown level": (f'[logging]\nlevel = "{SECRET}"\n', "logging.level"),
    "an unknown mode": (f'mode = "{SECRET}"\n', "mode"),
    "a DSN in the open": (f'[database]\nurl = "postgresql://u:{SECRET}@h/d"\n', "database.url"),
    "a key in the open": (f'[planner]\napi_key = "{SECRET}"\n', "planner.api_key"),
    "a model that is not known": (f'[crown]\nname = "{SECRET}"\n', "crown.name"),
    "an owner without a server": ('[database]\nowner_url = "env:OWNER"\n', "database"),
    "a host that is a URL": ('[server]\nhost = "http://x/"\n', "server.host"),
    "a body without limit": ("[server]\nbody_limit = 999999999999\n", "server.body_limit"),
    "not TOML": (f"[server\nport = {SECRET}\n", "triad.toml"),
    "a key with a strange name": (f'"<b>{SECRET}</b>" = 1\n', "?"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_that_may_not_be_used_is_refused_with_the_field_and_without_the_value(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    text, field = REFUSED[name]
    path = written(tmp_path / "triad.toml", text)
    assert main([str(path)]) == 1
    said = capsys.readouterr()
    assert said.err.startswith(f"{field}: ")
    assert SECRET not in said.err
    assert said.out == ""
    with pytest.raises(SettingsInvalid) as caught:
        check_file(path)
    assert caught.value.field == field


def test_the_file_of_a_new_home_may_be_used(tmp_path: Path) -> None:
    home = Home(tmp_path / "new")
    home.prepare()
    assert main([str(home.config)]) == 0
    assert check_file(home.config).server.port == 8642


def test_a_file_is_judged_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIAD_SERVER_PORT", "99999")
    assert main([str(written(tmp_path / "triad.toml", ""))]) == 0


@pytest.mark.parametrize("arguments", [[], ["a", "b"]])
def test_wrong_usage_is_told_apart(arguments: list[str]) -> None:
    assert main(arguments) == 2


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    assert main([str(tmp_path / "none.toml")]) == 1


def test_the_check_runs_as_the_inventory_runs_it_and_loads_no_server(tmp_path: Path) -> None:
    path = written(tmp_path / "triad.toml", "[server]\nport = 99999\n")
    heavy = "{'fastapi', 'pydantic_ai', 'openai', 'sqlalchemy'} & set(sys.modules)"
    script = f"import sys; from api.settings import main; code = main(sys.argv[1:]); sys.exit(9 if {heavy} else code)"
    root = Path(__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], cwd=root, capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stderr) == (1, "server.port: Input should be less than or equal to 65535\n")


def test_settings_cannot_be_changed_afterwards(tmp_path: Path) -> None:
    found = load_settings(folder=tmp_path)
    for part, name in ((found, "mode"), (found.server, "port")):
        with pytest.raises(ValidationError):
            setattr(part, name, getattr(part, name))


def test_the_model_names_are_those_that_the_agents_know() -> None:
    for name in ("rules/offline-1", "openai-chat:gpt", "openai-responses:a/b:c@d"):
        assert Model(name=name).name == TypeAdapter(ModelName).validate_python(name)
    for name in ("openai:gpt", "rules/offline-2", "openai-chat:", "openai-chat: x"):
        for check in (lambda value: Model(name=value), TypeAdapter(ModelName).validate_python):
            with pytest.raises(ValidationError):
                check(name)


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8642"),
        ("0.0.0.0", "http://127.0.0.1:8642"),
        ("::", "http://[::1]:8642"),
        ("triad.example", "http://triad.example:8642"),
    ],
)
def test_the_service_is_reached_from_its_own_machine(tmp_path: Path, host: str, url: str) -> None:
    assert load_settings(flags={"server": {"host": host}}, folder=tmp_path).url == url


def test_every_setting_is_documented_and_described() -> None:
    page = settings_page()
    assert "| None |" not in page
    for name, field in Settings.model_fields.items():
        nested = getattr(field.annotation, "model_fields", None)
        names = [f"{name}.{inner}" for inner in nested] if nested else [name]
        for each in names:
            assert f"| `{each}` | `TRIAD_{each.replace('.', '_').upper()}` |" in page


def test_the_default_home_is_by_the_rules_of_its_system(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert default_home() == Path("/var/lib/triad")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert default_home() == tmp_path / "triad"
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_home() == tmp_path / ".local" / "share" / "triad"


def test_witnesses_are_tables_and_the_quorum_is_all_of_them_unless_told(tmp_path: Path) -> None:
    keys = [Witness.create(tmp_path / name, f"w.example/{name}", ml_dsa=False).vkeys[0] for name in "ab"]
    tables = "".join(
        f'[[witnesses]]\nname = "{name}"\nvkey = "{key}"\nurl = "http://127.0.0.1:1/{name}/"\n'
        for name, key in zip("ab", keys, strict=True)
    )
    found = check_file(written(tmp_path / "t.toml", tables))
    assert [(peer.name, peer.key.text(), peer.url) for peer in found.peers] == [
        ("a", keys[0], "http://127.0.0.1:1/a"),
        ("b", keys[1], "http://127.0.0.1:1/b"),
    ]
    assert found.witnesses_needed == 2
    assert check_file(written(tmp_path / "t.toml", f"quorum = 1\n{tables}")).witnesses_needed == 1
    assert Settings().witnesses_needed == 0

    one = f'[[witnesses]]\nname = "a"\nvkey = "{keys[0]}"\nurl = "http://127.0.0.1:1"\n'
    for text, field, reason in (
        (f"quorum = 3\n{tables}", "settings", "larger than the number"),
        (one + one.replace('"a"', '"b"'), "settings", "same key"),
        (one + one.replace(keys[0], keys[1]), "settings", "same name"),
        (one.replace('"a"', '"none"'), "witnesses.0.name", "no witness is called"),
        (one.replace("http://", "ftp://"), "witnesses.0.url", ""),
        (one.replace("http://", "http://user:secret@"), "witnesses.0.url", ""),
        (one.replace("w.example/a+", "w.example/a+0"), "witnesses.0.vkey", "key id"),
        (one.replace(keys[0], SECRET), "witnesses.0.vkey", ""),
    ):
        with pytest.raises(SettingsInvalid) as caught:
            check_file(written(tmp_path / "t.toml", text))
        assert caught.value.field == field, text
        assert reason in caught.value.reason
        assert SECRET not in str(caught.value)
        assert "secret@" not in str(caught.value)
