"""The commands against a running service: what they print, and what they exit with."""

import contextlib
import json
import os
import pty
import re
import signal
import stat
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.terminal import Said, Serving, Terminal, home_folder, serve

PORT = 'changes=[{"path":["server","port"],"value":9000}]'
SETTING = ("--playbook", "config.apply_change", "--type", "configuration", "-s", "triad-config")


@dataclass(frozen=True)
class People:
    """Who works with one service."""

    serving: Serving
    home: Path
    admin: Terminal
    ada: Terminal
    dana: Terminal
    nobody: Terminal

    def change(self, *options: str) -> Said:
        """Ada asks for a change that needs an approver."""
        return self.ada("run", "Change the port", *SETTING, "-p", PORT, "--rollback-plan", "Put it back.", *options)

    def waiting(self) -> str:
        """An operation that waits for an approver."""
        said = self.change("-o", "id")
        assert said.code == 8, said.err
        return said.out.strip()

    def completed(self) -> str:
        """An operation that was carried out."""
        said = self.ada("run", "Look at the host", "-s", "host", "-o", "id")
        assert said.code == 0, said.err
        return said.out.strip()

    def rolled_back(self) -> str:
        """An operation that did not hold."""
        bad = PORT.replace("9000", "99999")
        said = self.ada("run", "Change the port", *SETTING, "-p", bad, "--rollback-plan", "Put it back.", "-o", "id")
        ident = said.out.strip()
        assert self.dana("approval", "approve", ident, "--reason", "Looks right.", "--yes").code == 0
        assert self.ada("op", "watch", ident).code == 6
        return ident


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Iterator[People]:
    config = tmp_path_factory.mktemp("config")
    nobody = Terminal(config)
    with home_folder() as home:
        serving = serve(nobody, home, first=True)
        try:
            nobody = replace(nobody, url=serving.url)
            admin = replace(nobody, token=serving.first_key)
            ada = admin("key", "create", "ada", "-r", "requester", "-r", "operator", "-r", "approver").out.strip()
            dana = admin("key", "create", "dana", "-r", "approver", "-r", "auditor", "-r", "crown_officer").out.strip()
            yield People(serving, home, admin, replace(nobody, token=ada), replace(nobody, token=dana), nobody)
        finally:
            serving.stop()


def test_the_logs_key_is_replaced_and_the_history_lists_both(people: People) -> None:
    said = people.admin("audit", "key", "rotate", "--reason", "The yearly rotation.", "--yes", "--json")
    assert said.code == 0, said.err
    rotation = said.json
    listed = people.dana("audit", "keys", "--json").json
    assert [each["vkey"] for each in listed[-2:]] == [rotation["previous"], rotation["key"]]
    assert people.nobody("audit", "verify", "--home", str(people.home)).code == 0
    compromised = people.admin("audit", "key", "rotate", "--reason", "A laptop is gone.", "--compromised", "--yes")
    assert compromised.code == 0
    assert "proves nothing any more" in compromised.out
    assert people.dana("audit", "key", "rotate", "--reason", "Mine.", "--yes").code == 4
    assert "The yearly rotation." in people.dana("audit", "keys").out


def test_what_was_kept_of_somebody_and_erased_stands_in_no_log_and_no_trace(people: People, tmp_path: Path) -> None:
    secret = "Wilhelmina Zauberflieder"
    assert people.admin("people", "set", "willa", "--name", secret, "--new").code == 0
    assert secret in people.admin("people", "show", "willa").out
    assert people.admin("people", "reveal", "willa", "name").code == 0
    erased = people.admin("audit", "erase", "willa", "--reason", "Asked for it.", "--yes")
    assert erased.code == 0, erased.err
    home = ("--home", str(people.home))
    assert people.admin("audit", "verify", *home).code == 0
    assert people.admin("audit", "export", str(tmp_path / "exported"), *home).code == 0
    texts = {
        path.name: path.read_bytes() for path in people.home.rglob("*") if path.is_file() and "pg" not in path.parts
    }
    exported = [path.read_bytes() for path in (tmp_path / "exported").rglob("*") if path.is_file()]
    assert b"/api/v1/people/{subject}/erasure" in texts["triad.log"]
    assert any(b"personal.erased" in file for file in exported)
    assert [name for name, text in texts.items() if secret.encode() in text] == []
    assert not any(secret.encode() in file for file in exported)


def test_the_first_start_prints_the_admin_key_alone_on_standard_output(people: People) -> None:
    assert re.fullmatch(r"triad_[A-Za-z0-9_-]{43}", people.serving.first_key)
    told = "".join(people.serving.told)
    assert "shown this once" in told
    assert "triad key create" in told
    assert people.serving.first_key not in told


def test_whoami_says_principal_roles_and_where_the_key_came_from(people: People) -> None:
    said = people.ada("whoami", "--json")
    assert said.code == 0
    assert said.json["id"] == "ada"
    assert said.json["roles"] == ["approver", "operator", "requester"]
    assert "TRIAD_TOKEN" in said.err


def test_without_a_key_it_says_how_to_get_one(people: People) -> None:
    said = people.nobody("op", "list")
    assert said.code == 4
    assert said.out == ""
    assert "unauthenticated" in said.err
    assert "triad login" in said.err


def test_login_keeps_a_key_for_its_user_alone_until_logout(people: People, tmp_path: Path) -> None:
    home = replace(people.nobody, config=tmp_path, url="http://127.0.0.1:9")
    assert people.dana.token
    said = home("login", "--token", "-", "--url", people.serving.url, stdin=people.dana.token + "\n")
    assert said.code == 0
    assert people.dana.token not in said.out + said.err
    path = tmp_path / "triad" / "config.toml"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert home("whoami", "--url", people.serving.url, "--json=id").json == {"id": "dana"}
    assert home("logout").code == 0
    assert not path.exists()
    assert home("whoami", "--url", people.serving.url).code == 4


@pytest.mark.parametrize(("key", "code"), [("triad_" + "x" * 43, 4), ("hunter2", 4), ("", 4)])
def test_login_keeps_no_key_that_the_service_does_not_accept(
    people: People, tmp_path: Path, key: str, code: int
) -> None:
    said = replace(people.nobody, config=tmp_path)("login", "--token", "-", stdin=f"{key}\n")
    assert said.code == code
    assert list(tmp_path.iterdir()) == []


def test_an_operation_is_followed_to_its_end(people: People) -> None:
    said = people.ada("run", "Clear expired files from the cache", "-s", "triad-cache", "--json=id,stage")
    assert said.code == 0, said.err
    assert said.json["stage"] == "completed"
    assert "idempotency key: cli-" in said.err
    kinds = [line.split()[1] for line in said.err.splitlines() if re.match(r"\d\d:\d\d:\d\d ", line)]
    assert kinds[0] == "operation.requested"
    assert kinds[-1] == "ruling.given"


def test_the_same_idempotency_key_is_the_same_operation(people: People) -> None:
    arguments = ("run", "Look at the host", "-s", "host", "--no-wait", "-o", "id", "--idempotency-key", "one-time")
    first, second = people.ada(*arguments), people.ada(*arguments)
    assert first.code == second.code == 0
    assert first.out == second.out
    other = people.ada("run", "Look again", "-s", "host", "--no-wait", "--idempotency-key", "one-time")
    assert other.code == 2
    assert "idempotency-key-reused" in other.err


def test_a_change_waits_for_another_person_and_then_happens(people: People) -> None:
    asked = people.change("-o", "id")
    assert asked.code == 8
    ident = asked.out.strip()
    assert f"triad approval approve {ident}" in asked.err
    own = people.ada("approval", "approve", ident, "--reason", "I know it is fine.", "--yes")
    assert own.code == 4
    assert "may not approve it" in own.err
    assert "article-5" in own.err
    assert ident in people.dana("approval", "list", "--mine", "-o", "id").out.splitlines()
    card = people.dana("approval", "show", ident, "--json").json
    approved = people.dana(
        "approval", "approve", ident, "--reason", "Small.", "--plan", card["plan"], "--yes", "--json"
    )
    assert approved.code == 0, approved.err
    assert card["plan"] in approved.err
    assert "triad.toml" in approved.err
    assert approved.json["approvals"][0]["approver"] == "dana"
    watched = people.ada("op", "watch", ident)
    assert watched.code == 0, watched.err
    assert "approval.given" in watched.out
    assert "config.apply_change" in people.ada("op", "show", ident).out


def test_an_approval_binds_to_the_plan_that_was_seen(people: People) -> None:
    ident = people.waiting()
    said = people.dana("approval", "approve", ident, "--reason", "Fine.", "--plan", "0" * 64, "--yes")
    assert said.code == 1
    assert "another one" in said.err
    assert people.dana("op", "show", ident, "--json=missing_approvals").json == {"missing_approvals": 1}
    people.ada("op", "cancel", ident, "--reason", "Only a test.", "--yes")


def test_nothing_is_decided_where_nobody_can_be_asked(people: People) -> None:
    ident = people.waiting()
    for options in ((), ("--no-input",)):
        said = people.dana("approval", "approve", ident, "--reason", "Fine.", *options)
        assert said.code == 2
        assert "--yes" in said.err
    cancelled = people.ada("op", "cancel", ident, "--reason", "Not now.", "--yes")
    assert cancelled.code == 0
    assert people.ada("op", "watch", ident).code == 3


def test_a_denied_plan_ends_the_operation(people: People) -> None:
    ident = people.waiting()
    assert people.dana("approval", "deny", ident, "--reason", "Not on a Friday.", "--yes").code == 0
    watched = people.ada("op", "watch", ident, "-o", "jsonl")
    assert watched.code == 7
    entries = [json.loads(line) for line in watched.out.splitlines()]
    assert entries[-1]["kind"] == "approval.refused"
    assert [entry["index"] for entry in entries] == sorted({entry["index"] for entry in entries})


def test_an_approval_can_be_withdrawn_only_while_there_is_one(people: People) -> None:
    ident = people.waiting()
    said = people.dana("op", "withdraw", ident, "--reason", "Second thoughts.")
    assert said.code == 1
    assert "not-withdrawable" in said.err
    people.ada("op", "cancel", ident, "--reason", "Only a test.", "--yes")


def test_a_change_that_does_not_hold_is_rolled_back(people: People) -> None:
    bad = PORT.replace("9000", "99999")
    said = people.ada("run", "Change the port", *SETTING, "-p", bad, "--rollback-plan", "Put it back.", "-o", "id")
    ident = said.out.strip()
    assert people.dana("approval", "approve", ident, "--reason", "Looks right.", "--yes").code == 0
    watched = people.ada("op", "watch", ident)
    assert watched.code == 6
    assert "rollback.done" in watched.out


def test_what_nothing_fits_is_refused_with_reasons(people: People) -> None:
    said = people.ada("run", "Order a pizza", "-s", "host")
    assert said.code == 5
    assert "why: " in said.err
    planned = people.ada("plan", "Order a pizza", "-s", "host", "--json=allowed,code")
    assert planned.code == 5
    assert planned.json == {"allowed": False, "code": "nothing-fits"}


def test_a_plan_shows_steps_and_demands_and_records_no_operation(people: People) -> None:
    before = people.ada("op", "list", "-o", "id", "-n", "200").out
    planned = people.ada("plan", "Vacuum and analyze", "-s", "triad-db")
    assert planned.code == 0
    assert "postgres.vacuum_analyze on triad-db, tier 1" in planned.out
    assert 'VACUUM (ANALYZE) "public"."ledger_leaf"' in planned.out
    assert people.ada("run", "Vacuum and analyze", "-s", "triad-db", "--dry-run", "-o", "id").code == 0
    assert people.ada("op", "list", "-o", "id", "-n", "200").out == before


def test_a_time_that_lies_ahead_is_waited_for_by_nobody(people: People) -> None:
    said = people.ada("run", "Look at the host", "-s", "host", "--at", "+2h", "--json")
    assert said.code == 8
    assert said.json["stage"] == "approved"
    assert said.json["request"]["scheduled_time"].endswith("Z")
    assert "starts at" in said.err


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("-s", "nowhere"), "unknown-system"),
        (("-s", "host", "--playbook", "host.explode"), "unknown-playbook"),
        (("-s", "triad-db", "--playbook", "host.explode", "-p", "x=1"), "unknown-playbook"),
        (("-s", "triad-cache", "--playbook", "cache.clear_expired", "-p", "max_files=many"), "field: parameters"),
        (("-s", "host", "-p", "x=1.5"), "not-an-integer"),
        (("-s", "host", "--at", "tomorrow"), "--at"),
        (("-s", "host", "-p", "novalue"), "KEY=VALUE"),
        (("-s", "host", "-p", "a=1", "-p", "a=2"), "twice"),
        (("-s", "host", "--type", "party"), "party"),
        (("-s", "host", "--params-file", "/nonexistent"), "--params-file"),
        ((), "Which system?"),
    ],
)
def test_a_request_that_cannot_be_accepted_is_usage(people: People, options: tuple[str, ...], problem: str) -> None:
    said = people.ada("run", "Do something", *options)
    assert said.code == 2, said.err
    assert problem in said.err
    assert said.out == ""


def test_parameters_are_json_where_they_read_as_json_and_files_lie_below_them(people: People, tmp_path: Path) -> None:
    file = tmp_path / "parameters.json"
    file.write_text('{"older_than_seconds": 60, "max_files": 1}')
    arguments = ("plan", "Clear expired files", "-s", "triad-cache", "--playbook", "cache.clear_expired")
    said = people.ada(*arguments, "--params-file", str(file), "-p", "max_files=7", "--json")
    assert said.json["plan"]["steps"][0]["arguments"] == {"older_than_seconds": 60, "max_files": 7}
    piped = people.ada(*arguments, "--params-file", "-", "--json", stdin='{"older_than_seconds": 61}')
    assert piped.json["plan"]["steps"][0]["arguments"]["older_than_seconds"] == 61


def test_following_ends_when_its_time_is_over_and_the_operation_goes_on(people: People) -> None:
    ident = people.waiting()
    said = people.ada("op", "watch", ident, "--timeout", "0.3")
    assert said.code == 8
    assert f"triad op watch {ident}" in said.err
    assert people.ada("op", "show", ident, "--json=stage").json == {"stage": "planned"}
    people.ada("op", "cancel", ident, "--reason", "Only a test.", "--yes")


def test_ctrl_c_ends_the_watching_and_not_the_operation(people: People) -> None:
    ident = people.waiting()
    process = people.ada.start("op", "watch", ident)
    assert process.stdout
    assert "operation.requested" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "the operation goes on" in err
    assert "Traceback" not in err
    assert people.ada("op", "show", ident, "--json=stage").json == {"stage": "planned"}
    people.ada("op", "cancel", ident, "--reason", "Only a test.", "--yes")


@pytest.mark.parametrize(("answer", "code", "stage"), [(b"n\n", 3, "planned"), (b"y\n", 0, "denied")])
def test_at_a_terminal_a_decision_is_asked_for(people: People, answer: bytes, code: int, stage: str) -> None:
    ident = people.waiting()
    ours, theirs = pty.openpty()
    process = people.dana.start("approval", "deny", ident, "--reason", "No.", terminal=theirs)
    os.close(theirs)
    seen = b""
    while b"[y/N]" not in seen:
        seen += os.read(ours, 4096)
    os.write(ours, answer)
    with contextlib.suppress(OSError):  # the end of a terminal is an error on Linux
        while chunk := os.read(ours, 4096):
            seen += chunk
    assert process.wait(timeout=20) == code, seen.decode()
    os.close(ours)
    assert b"exactly this plan" in seen
    assert people.dana("op", "show", ident, "--json=stage").json == {"stage": stage}
    people.ada("op", "cancel", ident, "--reason", "Only a test.", "--yes")


def test_halt_and_release_belong_to_the_crown_officer(people: People) -> None:
    refused = people.ada("halt", "--reason", "I am scared.", "--yes")
    assert refused.code == 4
    assert people.dana("release", "--reason", "Nothing is halted.", "--yes").code == 1
    halted = people.dana("halt", "--reason", "A drill.", "--yes", "--json")
    try:
        assert halted.json["halted"] is True
        assert "halted" in people.nobody("status").out
    finally:
        released = people.dana("release", "--reason", "The drill is over.", "--yes", "-o", "yaml")
    assert "halted: false" in released.out.splitlines()


def test_settling_what_is_not_in_doubt_or_escalated_is_a_conflict(people: People) -> None:
    ident = people.completed()
    doubt = people.ada("op", "reconcile", ident, "--happened", "--reason", "I looked.")
    assert (doubt.code, "not-in-doubt" in doubt.err) == (1, True)
    escalated = people.dana("op", "resolve", ident, "--ruling", "fail", "--reason", "It is late.")
    assert (escalated.code, "not-permitted" in escalated.err) == (4, True)
    emergency = people.dana("op", "ratify", ident, "--reason", "I stand behind it.")
    assert (emergency.code, "not-an-emergency" in emergency.err) == (1, True)


def test_lists_come_in_every_form(people: People) -> None:
    table = people.ada("playbook", "list").out
    assert table.splitlines()[0].split()[:2] == ["name", "tier"]
    assert "\033[" not in table
    names = people.ada("playbook", "list", "-o", "id").out.split()
    assert "cache.clear_expired" in names
    assert [each["name"] for each in people.ada("playbook", "list", "--json").json] == names
    lines = people.ada("playbook", "list", "-o", "jsonl", "--json=name,tier").out.splitlines()
    assert json.loads(lines[0]) == {"name": names[0], "tier": 1}
    assert f"- name: {names[0]}" in people.ada("playbook", "list", "-o", "yaml").out
    assert "timeout_seconds" in people.ada("playbook", "list", "--json=").out.split()
    unknown = people.ada("playbook", "list", "--json=name,nonsense")
    assert unknown.code == 2
    assert "nonsense" in unknown.err


def test_the_catalogue_and_the_inventory_can_be_read(people: People) -> None:
    shown = people.ada("playbook", "show", "cache.clear_expired")
    assert "older_than_seconds (integer, otherwise 86400)" in shown.out
    assert people.ada("playbook", "show", "no.such").code == 1
    systems = people.ada("system", "list", "--json").json
    assert {"name": "triad-db", "kind": "database"}.items() <= systems[0].items()


def test_the_constitution_can_be_read_and_is_enforced(people: People) -> None:
    assert "article-5: Approval and separation of duties" in people.ada("constitution", "show").out
    text = people.ada("constitution", "show", "--text").out
    assert text == (Path(__file__).parent.parent / "prompts" / "constitution.md").read_text()
    verified = people.ada("constitution", "verify")
    assert verified.code == 0
    assert "the requester approves: denied (forbidden)" in verified.out


def test_an_amendment_takes_two_people_and_shows_its_difference(people: People, tmp_path: Path) -> None:
    draft = tmp_path / "constitution.md"
    draft.write_text(
        people.ada("constitution", "show", "--text").out.replace("warrants]\nexpiry", "warrants]\n# short\nexpiry")
    )
    refused = people.ada("constitution", "propose", str(draft), "--reason", "A remark.")
    proposed = people.admin("constitution", "propose", str(draft), "--reason", "A remark.", "--json")
    assert (refused.code, proposed.code) == (4, 0), refused.err + proposed.err
    assert "+# short" in proposed.json["diff"]
    ident = proposed.json["amendment"]
    assert ident in people.dana("constitution", "amendments", "-o", "id").out.split()
    own = people.admin("constitution", "ratify", ident, "--reason", "Fine.", "--yes")
    assert own.code == 4
    assert "+# short" in own.err
    assert people.admin("constitution", "propose", "/nonexistent", "--reason", "Nothing.").code == 2


def test_the_record_can_be_tailed_and_followed(people: People) -> None:
    newest = people.dana("audit", "tail", "-n", "3", "-o", "jsonl").out.splitlines()
    indices = [json.loads(line)["index"] for line in newest]
    assert indices == list(range(indices[0], indices[0] + 3))
    keys = people.dana("audit", "tail", "--kind", "auth.key_created", "-n", "50", "--json").json
    assert [each["event"]["subject"] for each in keys][:3] == ["admin", "ada", "dana"]
    assert people.nobody("audit", "tail").code == 4
    process = people.dana.start("audit", "tail", "-n", "1", "-f")
    assert process.stdout
    process.stdout.readline()
    people.ada("run", "Look at the host", "-s", "host", "--no-wait")
    assert "operation.requested" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode == 130


def test_the_service_can_be_asked_to_verify_itself_and_says_what_that_is_worth(people: People) -> None:
    said = people.dana("audit", "verify", "--remote", "--json=intact,code")
    assert said.code == 0
    assert said.json == {"intact": True, "code": 0}
    assert "of itself" in said.err


def test_the_ledger_is_verified_and_exported_while_the_service_runs(people: People, tmp_path: Path) -> None:
    verified = people.nobody("audit", "verify", "--home", str(people.home), "--json")
    assert verified.code == 0, verified.err
    assert verified.json["ok"]
    assert people.nobody("audit", "export", str(tmp_path / "copy"), "--home", str(people.home)).code == 0
    assert people.nobody("audit", "verify", str(tmp_path / "copy")).code == 0


def test_the_timeline_tells_an_operation_from_its_beginning(people: People) -> None:
    ident = people.rolled_back()
    said = people.ada("op", "timeline", ident)
    assert said.code == 0
    assert "asks: " in said.out.splitlines()[0]
    assert [each["operation"] for each in people.ada("op", "timeline", ident, "--json").json].count(ident) > 10
    assert people.ada("op", "show", "op_00000000000000000000000000").code == 1


def test_keys_are_made_listed_and_revoked_by_an_admin(people: People) -> None:
    made = people.admin("key", "create", "robot", "--kind", "service", "-r", "requester", "--expires", "+1d", "--json")
    assert made.code == 0, made.err
    robot = replace(people.nobody, token=made.json["key"])
    assert robot("whoami", "--json=kind").json == {"kind": "service"}
    assert made.json["fingerprint"] in people.admin("key", "list", "-o", "id").out.split()
    assert people.admin("key", "revoke", made.json["fingerprint"], "--yes").code == 0
    assert robot("whoami").code == 4
    assert people.ada("key", "create", "eve", "-r", "admin").code == 4
    for form in ("--output=id", "--json=fingerprint", "--json=key,nonsense", "--json="):
        lost = people.admin("key", "create", "eve", "-r", "requester", form)
        assert (lost.code, "no key was made" in lost.err) == (2, True)
    assert "eve" not in people.admin("key", "list").out.split()
    assert people.admin("key", "create", "eve", "-r", "queen").code == 2
    assert people.admin("key", "revoke", "0" * 16, "--yes").code == 1


def test_a_trace_is_found_by_its_operation_without_the_service(people: People) -> None:
    ident = people.rolled_back()
    said = replace(people.nobody, url="http://127.0.0.1:9")("trace", ident, "--home", str(people.home))
    assert said.code == 0, said.err
    assert said.out.splitlines()[0].startswith("operation")
    assert "└─ advance" in said.out
    assert re.search(r"planner +\d+\.\d ms", said.out)


def test_a_second_service_and_the_demonstration_keep_out_of_a_home_in_use(people: People) -> None:
    for command in ("up", "demo", "migrate"):
        said = people.nobody(command, "--home", str(people.home), *(("--port", "0") if command == "up" else ()))
        assert said.code == 1
        assert f"process {people.serving.process.pid}" in said.err
    port = people.serving.url.rpartition(":")[2]
    taken = people.nobody("up", "--home", str(people.home / "other"), "--port", port)
    assert taken.code == 1
    assert "--port" in taken.err


def test_doctor_looks_at_a_running_installation(people: People) -> None:
    said = people.nobody("doctor", "--home", str(people.home), "--json", "--url", people.serving.url)
    assert said.code == 0, said.out
    found = {each["name"]: each["status"] for each in said.json}
    assert found["ledger"] == found["database"] == found["constitution"] == found["service"] == "ok"
