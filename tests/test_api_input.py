"""What is not accepted: named, never echoed, never an error of ours, and nothing half-written."""

import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from storage.embedded import Embedded
from tests.doors import CHANGE_LEVEL, VACUUM, World, world

OPERATIONS = "/api/v1/operations"
CANARY = "canary-7f3a"


@pytest.fixture(scope="module")
def doors(cluster: Embedded, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(cluster, tmp_path_factory.mktemp("input"), body_seconds=1) as made:
        yield made


@pytest.fixture(scope="module")
def rita(doors: World) -> str:
    return doors.key("rita", "requester")


def nested(levels: int) -> Any:
    value: Any = CANARY
    for _ in range(levels):
        value = [value]
    return value


UNPARSEABLE: dict[str, tuple[bytes, str, str | None]] = {
    "nothing": (b"", "invalid-json", None),
    "half an object": (b'{"type": "' + CANARY.encode(), "invalid-json", None),
    "not UTF-8": (b'{"type": "\xff\xfe"}', "invalid-json", None),
    "UTF-16": (json.dumps(VACUUM).encode("utf-16"), "invalid-json", None),
    "a byte order mark": (b"\xef\xbb\xbf{}", "invalid-json", None),
    "two values": (b"{} {}", "invalid-json", None),
    "NaN": (b'{"description": NaN}', "not-an-integer", "description"),
    "Infinity": (b'{"parameters": {"a": -Infinity}}', "not-an-integer", "parameters.a"),
    "1e999": (b'{"parameters": {"a": 1e999}}', "not-an-integer", "parameters.a"),
    "a float": (b'{"parameters": {"a": [1.5]}}', "not-an-integer", "parameters.a.0"),
    "a duplicate key": (b'{"type": "maintenance", "type": "emergency"}', "duplicate-key", "type"),
    "a duplicate key inside": (b'{"parameters": {"a": 1, "a": 2}}', "duplicate-key", "parameters.a"),
    "half a surrogate pair": (b'{"description": "\\ud83d"}', "bad-text", "description"),
    "U+0000": (b'{"description": "a\\u0000b"}', "bad-text", "description"),
    "U+0000 in a key": (b'{"parameters": {"a\\u0000": 1}}', "bad-key", "parameters.?"),
    "a key beyond ASCII": ('{"parameters": {"schlüssel": 1}}'.encode(), "bad-key", "parameters.?"),
    "2^53": (b'{"parameters": {"a": 9007199254740992}}', "integer-too-large", "parameters.a"),
    "a number of 100,000 digits": (b'{"a": ' + b"9" * 100_000 + b"}", "integer-too-large", "a"),
    "100,000 brackets": (b"[" * 100_000, "too-deep", None),
    "nested too deeply": (json.dumps(nested(17)).encode(), "too-deep", None),
}


@pytest.mark.parametrize("name", UNPARSEABLE)
def test_what_cannot_be_read_exactly_is_not_read(doors: World, rita: str, name: str) -> None:
    body, code, field = UNPARSEABLE[name]
    before = doors.marks()
    answer = doors.post(OPERATIONS, rita, body)
    assert answer.status_code in {400, 422}
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == code
    assert answer.json().get("field") == field
    assert CANARY not in answer.text
    assert doors.marks() == before


INVALID: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown type": ({"type": CANARY}, "type"),
    "a type that is a number": ({"type": 7}, "type"),
    "no type": ({"type": None}, "type"),
    "no description": ({"description": ""}, "description"),
    "only spaces": ({"description": "  "}, "description"),
    "a description that is too long": ({"description": "x" * 2001}, "description"),
    "a description that is a list": ({"description": [CANARY]}, "description"),
    "no systems": ({"systems": []}, "systems"),
    "systems that are text": ({"systems": CANARY}, "systems"),
    "a system that is null": ({"systems": [None]}, "systems.0"),
    "a system name that is a path": ({"systems": [f"../{CANARY}"]}, "systems.0"),
    "twenty-one systems": ({"systems": ["triad-db"] * 21}, "systems"),
    "an unknown authority": ({"authority": CANARY}, "authority"),
    "an emergency that is text": ({"emergency": "true"}, "emergency"),
    "a time without a zone": ({"scheduled_time": "2026-11-20T18:00:00"}, "scheduled_time"),
    "a time that is text": ({"scheduled_time": CANARY}, "scheduled_time"),
    "a time before the first year": ({"scheduled_time": "0001-01-01T00:00:00+14:00"}, "scheduled_time"),
    "a time after the last year": ({"scheduled_time": "9999-12-31T23:59:59-14:00"}, "scheduled_time"),
    "a playbook that is a command": ({"playbook": f"rm -rf {CANARY}"}, "playbook"),
    "parameters that are a list": ({"parameters": [CANARY]}, "parameters"),
    "an unknown field": ({"requester": CANARY}, "requester"),
    "an unknown field with a strange name": ({f"<b>{CANARY}</b>": 1}, "?"),
    "an empty rollback plan": ({"rollback_plan": ""}, "rollback_plan"),
    "a mission with spaces": ({"mission": f"a {CANARY}"}, "mission"),
    "criteria that are objects": ({"validation_criteria": [{"a": CANARY}]}, "validation_criteria.0"),
}


@pytest.mark.parametrize("name", INVALID)
def test_a_field_that_is_wrong_is_named(doors: World, rita: str, name: str) -> None:
    change, field = INVALID[name]
    before = doors.marks()
    answer = doors.post(OPERATIONS, rita, {**VACUUM, **change})
    assert answer.status_code == 422
    assert answer.json()["code"] == "invalid-field"
    assert answer.json()["field"] == field
    assert CANARY not in answer.text
    assert doors.marks() == before


UNFIT: dict[str, tuple[dict[str, Any], str, str]] = {
    "an unknown system": ({"systems": ["triad-db", CANARY]}, "unknown-system", "systems.1"),
    "an unknown playbook": ({"playbook": "no.such_thing"}, "unknown-playbook", "playbook"),
    "a playbook for another kind": ({"systems": ["host"]}, "wrong-system-kind", "systems"),
    "an argument that the playbook does not know": (
        {"parameters": {"command": CANARY}},
        "invalid-arguments",
        "parameters.command",
    ),
    "a configuration change without a rollback plan": (
        {**CHANGE_LEVEL, "rollback_plan": None},
        "rollback-plan-missing",
        "rollback_plan",
    ),
    "a deployment without a rollback plan": ({"type": "deployment"}, "rollback-plan-missing", "rollback_plan"),
}


@pytest.mark.parametrize("name", UNFIT)
def test_what_cannot_be_done_is_refused_and_the_refusal_alone_is_recorded(doors: World, rita: str, name: str) -> None:
    change, code, field = UNFIT[name]
    operations, alone = doors.marks()
    answer = doors.post(OPERATIONS, rita, {**VACUUM, **change})
    assert answer.status_code == 422
    assert (answer.json()["code"], answer.json()["field"]) == (code, field)
    assert CANARY not in answer.text
    assert doors.marks() == (operations, alone + 1)
    last = "SELECT kind FROM ledger_leaf WHERE operation IS NULL ORDER BY idx DESC LIMIT 1"
    assert doors.sql(last) == "auth.denied"


def test_twenty_megabytes_are_not_read(doors: World, rita: str) -> None:
    before = doors.marks()
    answer = doors.post(OPERATIONS, rita, b'{"description": "' + b"x" * 20_000_000 + b'"}')
    assert (answer.status_code, answer.json()["code"]) == (413, "body-too-large")
    assert doors.marks() == before


def test_twenty_megabytes_without_an_announced_length_are_not_read(doors: World, rita: str) -> None:
    with doors.client(rita) as client:
        chunks = (b"x" * 65_536 for _ in range(320))
        answer = client.post(OPERATIONS, content=chunks, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (413, "body-too-large")


def test_a_body_that_never_comes_is_not_waited_for(doors: World, rita: str) -> None:
    with socket.create_connection(("127.0.0.1", doors.settings.server.port), timeout=20) as connection:
        head = f"POST {OPERATIONS} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {rita}\r\n"
        connection.sendall(f"{head}Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{{".encode())
        answer = connection.recv(65_536)
    assert answer.startswith(b"HTTP/1.1 408")


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin-1", ""]
)
def test_what_is_not_called_json_is_not_read(doors: World, rita: str, kind: str) -> None:
    answer = doors.call("POST", OPERATIONS, rita, json.dumps(VACUUM).encode(), Content_Type=kind)
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported-media-type")


@pytest.mark.parametrize("levels", range(6, 17))
def test_parameters_of_any_depth_are_accepted_or_refused_but_never_an_error(
    doors: World, rita: str, levels: int
) -> None:
    body = {"type": "monitoring", "description": "Look at the host", "systems": ["host"]}
    answer = doors.post(OPERATIONS, rita, {**body, "parameters": {"a": nested(levels)}})
    assert answer.status_code in {202, 422}


def test_a_request_that_would_not_fit_into_an_entry_is_refused(doors: World, rita: str) -> None:
    words = "\u0001" * 2000
    body = {"type": "monitoring", "description": words, "systems": ["host"], "validation_criteria": [words] * 20}
    before = doors.operations()
    answer = doors.post(OPERATIONS, rita, body)
    assert (answer.status_code, answer.json()["code"]) == (422, "request-too-large")
    assert doors.operations() == before


@pytest.mark.parametrize(
    "text", ["\u0001" * 1500, "💥" * 2000, "'; DROP TABLE ledger_leaf; --", "{{7*7}}", "\u202e" * 50]
)
def test_any_text_that_can_be_kept_comes_back_as_it_was_sent(doors: World, rita: str, text: str) -> None:
    body = {"type": "monitoring", "description": text, "systems": ["host"]}
    answer = doors.post(OPERATIONS, rita, body)
    assert answer.status_code == 202, answer.text
    assert answer.json()["request"]["description"] == text
    assert doors.post(f"{OPERATIONS}/{answer.json()['id']}/cancel", rita, {"reason": text}).status_code < 500


@pytest.mark.parametrize("value", ["", "a b", "ü".encode().decode("latin-1"), "x" * 256])
def test_an_idempotency_key_has_a_form(doors: World, rita: str, value: str) -> None:
    with doors.client(rita) as client:
        headers = {b"Idempotency-Key": value.encode("latin-1")}
        answer = client.post(OPERATIONS, json=VACUUM, headers=headers)
    assert (answer.status_code, answer.json()["field"]) == (400, "Idempotency-Key")


def test_the_same_request_with_the_same_key_is_carried_out_once(doors: World, rita: str) -> None:
    before = doors.operations()
    first = doors.post(OPERATIONS, rita, VACUUM, Idempotency_Key="once-1")
    again = doors.post(OPERATIONS, rita, VACUUM, Idempotency_Key="once-1")
    assert (first.status_code, again.status_code) == (202, 202)
    assert again.content == first.content
    for name in ("location", "etag", "x-request-id", "content-type"):
        assert again.headers[name] == first.headers[name]
    assert again.headers["idempotency-replayed"] == "true"
    assert doors.operations() == before + 1


def test_a_key_belongs_to_one_body_one_place_and_one_principal(doors: World, rita: str) -> None:
    other = doors.key("olga", "requester")
    first = doors.post(OPERATIONS, rita, VACUUM, Idempotency_Key="mine")
    body = doors.post(OPERATIONS, rita, {**VACUUM, "description": "Another"}, Idempotency_Key="mine")
    place = doors.post(f"{first.headers['location']}/cancel", rita, {"reason": "x"}, Idempotency_Key="mine")
    theirs = doors.post(OPERATIONS, other, VACUUM, Idempotency_Key="mine")
    for answer in (body, place):
        assert (answer.status_code, answer.json()["code"]) == (422, "idempotency-key-reused")
    assert theirs.status_code == 202
    assert theirs.json()["id"] != first.json()["id"]


def test_of_many_at_once_one_is_carried_out(doors: World, rita: str) -> None:
    before = doors.operations()

    def send(_number: int) -> tuple[int, str | None]:
        answer = doors.post(OPERATIONS, rita, VACUUM, Idempotency_Key="race")
        return answer.status_code, answer.json().get("id")

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(send, range(16)))
    assert {status for status, _ in answers} <= {202, 409}
    assert len({ident for status, ident in answers if status == 202}) == 1
    assert doors.operations() == before + 1


def test_a_refusal_keeps_no_answer_so_the_key_can_be_sent_again(doors: World, rita: str) -> None:
    refused = doors.post(OPERATIONS, rita, {**VACUUM, "systems": ["host"]}, Idempotency_Key="again")
    refused_again = doors.post(OPERATIONS, rita, {**VACUUM, "systems": ["host"]}, Idempotency_Key="again")
    assert refused.status_code == refused_again.status_code == 422
    assert "idempotency-replayed" not in refused_again.headers


def test_an_answer_survives_a_restart(doors: World, rita: str) -> None:
    first = doors.post(OPERATIONS, rita, VACUUM, Idempotency_Key="survives")
    before = doors.operations()
    doors.restart()
    again = doors.post(OPERATIONS, rita, VACUUM, Idempotency_Key="survives")
    assert again.content == first.content
    assert doors.operations() == before


def test_a_request_whose_process_died_after_recording_it_is_found_and_not_made_twice(doors: World, rita: str) -> None:
    first = doors.post(OPERATIONS, rita, VACUUM, Idempotency_Key="died")
    before = doors.operations()
    doors.sql(
        "UPDATE idempotency SET status = NULL, headers = NULL, body = NULL, started = now() - interval '1 hour' "
        "WHERE key = 'died'"
    )
    again = doors.post(OPERATIONS, rita, VACUUM, Idempotency_Key="died")
    assert again.status_code == 202
    assert again.json()["id"] == first.json()["id"]
    assert doors.operations() == before


def test_a_request_in_flight_is_said_so(doors: World, rita: str) -> None:
    doors.post(OPERATIONS, rita, VACUUM, Idempotency_Key="flying")
    doors.sql("UPDATE idempotency SET status = NULL, headers = NULL, body = NULL, started = now() WHERE key = 'flying'")
    again = doors.post(OPERATIONS, rita, VACUUM, Idempotency_Key="flying")
    assert (again.status_code, again.json()["code"]) == (409, "idempotency-in-progress")


def test_a_decision_is_repeated_and_not_made_twice(doors: World, rita: str) -> None:
    bob = doors.key("bob", "approver")
    card = doors.waiting(rita)
    first = doors.decide(bob, card, "deny", Idempotency_Key="no-1")
    again = doors.decide(bob, card, "deny", Idempotency_Key="no-1")
    assert (first.status_code, again.status_code) == (200, 200)
    assert again.content == first.content
