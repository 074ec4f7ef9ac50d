"""The log's own key over HTTP: an admin replaces it in person, everybody who may read the ledger sees when."""

from collections.abc import Iterator

import pytest

from storage.embedded import Embedded
from storage.verifier.checkpoint import VerifierKey, verify_note
from tests.doors import World, world

KEYS = "/api/v1/ledger/keys"
ROTATIONS = "/api/v1/ledger/key/rotations"
ROUTINE = {"reason": "The yearly rotation."}


@pytest.fixture(scope="module")
def doors(cluster: Embedded, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(cluster, tmp_path_factory.mktemp("log-keys")) as made:
        yield made


def test_an_admin_replaces_the_key_and_the_history_says_who_when_and_why(doors: World) -> None:
    made = doors.post(ROTATIONS, doors.admin, ROUTINE)
    assert made.status_code == 201, made.text
    assert made.headers["location"] == KEYS
    rotation = made.json()
    assert rotation["destroyed"] is True
    assert f"checkpoint of {rotation['index'] + 1} entries" in rotation["sentences"][0]
    *_, before, after = doors.get(KEYS, doors.admin).json()["items"]
    assert (before["vkey"], after["vkey"]) == (rotation["previous"], rotation["key"])
    assert (before["until"], after["since"], after["until"]) == (rotation["index"], rotation["index"] + 1, None)
    assert (before["person"], before["reason"], before["compromised"]) == ("admin", ROUTINE["reason"], False)
    note = doors.sql("SELECT note FROM ledger_checkpoint WHERE size = $1", rotation["index"] + 1)
    keys = [VerifierKey.parse(each["vkey"]) for each in (before, after)]
    assert len(verify_note(note, *keys).signatures) == len(keys)


def test_a_suspected_theft_is_recorded_with_what_cannot_be_trusted_any_more(doors: World) -> None:
    made = doors.post(ROTATIONS, doors.admin, {"reason": "A laptop is gone.", "compromised": True}).json()
    assert "proves nothing any more" in " ".join(made["sentences"])
    assert "tell verifiers the new key by another way" in " ".join(made["sentences"])
    *_, before, _ = doors.get(KEYS, doors.admin).json()["items"]
    assert before["compromised"] is True


def test_the_same_order_with_the_same_key_is_one_rotation(doors: World) -> None:
    first = doors.post(ROTATIONS, doors.admin, ROUTINE, Idempotency_Key="rotate-once")
    again = doors.post(ROTATIONS, doors.admin, ROUTINE, Idempotency_Key="rotate-once")
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json() == again.json()


def test_only_an_admin_in_person_replaces_the_key_and_a_refusal_is_recorded(doors: World) -> None:
    count = len(doors.get(KEYS, doors.admin).json()["items"])
    for key in (
        doors.key("ann", "auditor"),
        doors.key("olaf", "operator"),
        doors.key("robot", "admin", kind="service"),
    ):
        size = doors.size()
        assert doors.post(ROTATIONS, key, ROUTINE).status_code == 403
        assert doors.sql("SELECT kind FROM ledger_leaf WHERE idx = $1", size) == "auth.denied"
    assert doors.post(ROTATIONS, None, ROUTINE).status_code == 401
    assert len(doors.get(KEYS, doors.admin).json()["items"]) == count


def test_who_may_read_the_ledger_reads_its_keys(doors: World) -> None:
    assert doors.get(KEYS, doors.key("ann", "auditor")).status_code == 200
    assert doors.get(KEYS, doors.key("rita", "requester")).status_code == 403


@pytest.mark.parametrize(
    "body", [{}, {"reason": ""}, {"reason": "x", "compromised": "yes"}, {"reason": "x", "key": "y"}]
)
def test_an_order_that_cannot_be_read_replaces_nothing(doors: World, body: dict[str, str]) -> None:
    count = len(doors.get(KEYS, doors.admin).json()["items"])
    assert doors.post(ROTATIONS, doors.admin, body).status_code == 422
    assert len(doors.get(KEYS, doors.admin).json()["items"]) == count


def test_the_next_start_goes_on_with_the_new_key(doors: World) -> None:
    rotation = doors.post(ROTATIONS, doors.admin, ROUTINE).json()
    doors.restart()
    assert doors.get(KEYS, doors.admin).json()["items"][-1]["vkey"] == rotation["key"]
    assert doors.post("/api/v1/halt", doors.key("carl", "crown_officer"), ROUTINE).status_code == 200
    note = doors.sql("SELECT note FROM ledger_checkpoint ORDER BY size DESC LIMIT 1")
    assert verify_note(note, VerifierKey.parse(rotation["key"])).signatures
