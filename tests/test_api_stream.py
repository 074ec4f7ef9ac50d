"""Event streams: in order, resumable across a reconnect and a restart, bounded, and closed to who may not see."""

import itertools
from collections.abc import Iterator
from contextlib import ExitStack

import httpx2
import pytest

from storage.embedded import Embedded
from tests.doors import CHANGE_LEVEL, VACUUM, World, world

STREAM = "/monitoring/stream"


@pytest.fixture(scope="module")
def doors(cluster: Embedded, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(
        cluster, tmp_path_factory.mktemp("stream"), heartbeat_seconds=1, streams_each=3, shutdown_seconds=5
    ) as made:
        yield made


@pytest.fixture(scope="module")
def rita(doors: World) -> str:
    return doors.key("rita", "requester")


@pytest.fixture(scope="module")
def ann(doors: World) -> str:
    return doors.key("ann", "auditor")


def test_everything_is_told_from_the_beginning_in_order(doors: World, ann: str) -> None:
    size = doors.size()
    with doors.events(f"{STREAM}?after=-1", ann) as events:
        seen = list(itertools.islice(events, size))
    assert [event.id for event in seen] == list(range(size))
    assert seen[0].kind == "genesis"
    assert all(event.data["index"] == event.id and event.data["kind"] == event.kind for event in seen)


def test_a_new_stream_tells_what_happens_from_now_on(doors: World, rita: str, ann: str) -> None:
    size = doors.size()
    with doors.events(STREAM, ann) as events:
        ident = doors.submit(rita, VACUUM)["id"]
        first = next(events)
    assert first.id == size
    assert (first.kind, first.data["operation"]) == ("operation.requested", ident)


def test_a_stream_says_when_to_come_back_and_is_not_kept(doors: World, ann: str) -> None:
    with doors.client(ann) as client, client.stream("GET", STREAM) as response:
        assert next(response.iter_lines()) == "retry: 2000"
        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.headers["cache-control"] == "no-store"


def test_silence_is_filled_with_comments(doors: World, ann: str) -> None:
    with doors.client(ann) as client, client.stream("GET", STREAM) as response:
        assert next(line for line in response.iter_lines() if line.startswith(":"))


def test_after_a_reconnect_nothing_is_missing_and_nothing_comes_twice(doors: World, rita: str, ann: str) -> None:
    doors.submit(rita, VACUUM, Prefer="wait=25")
    size = doors.size()
    with doors.events(f"{STREAM}?after=-1", ann) as events:
        first = list(itertools.islice(events, size // 2))
    with doors.events(STREAM, ann, Last_Event_ID=str(first[-1].id)) as events:
        rest = list(itertools.islice(events, size - len(first)))
    assert [event.id for event in (*first, *rest)] == list(range(size))


def test_of_two_places_the_later_one_counts(doors: World, rita: str, ann: str) -> None:
    doors.submit(rita, VACUUM, Prefer="wait=25")
    with doors.events(f"{STREAM}?after=3", ann, Last_Event_ID="1") as events:
        assert next(events).id == 4
    with doors.events(f"{STREAM}?after=1", ann, Last_Event_ID="3") as events:
        assert next(events).id == 4


def test_a_stream_goes_on_across_a_restart(doors: World, rita: str, ann: str) -> None:
    doors.submit(rita, VACUUM, Prefer="wait=25")
    size = doors.size()
    with doors.events(f"{STREAM}?after=-1", ann) as events:
        before = list(itertools.islice(events, size))
        doors.stop()
        rest = list(events)
    doors.start()
    ident = doors.submit(rita, VACUUM)["id"]
    last = (before + rest)[-1].id
    with doors.events(STREAM, ann, Last_Event_ID=str(last)) as events:
        following = next(events)
    assert following.id == last + 1
    assert following.data["operation"] == ident


def test_who_remembers_more_than_there_is_is_told_to_start_again(doors: World, ann: str) -> None:
    size = doors.size()
    with doors.events(f"{STREAM}?after={2**53 - 1}", ann) as events:
        first = next(events)
    assert first.kind == "resync"
    assert size - 1 <= first.id < doors.size()


@pytest.mark.parametrize("value", ["x", "-1", "1.5", "9" * 16, "1, 2"])
def test_a_place_that_is_no_number_is_said_so(doors: World, ann: str, value: str) -> None:
    answer = doors.get(STREAM, ann, Last_Event_ID=value)
    assert (answer.status_code, answer.json()["code"]) == (400, "bad-cursor")


@pytest.mark.parametrize("query", ["after=-2", "after=x", "after=9007199254740992", "after=1e3"])
def test_a_parameter_that_is_wrong_is_named(doors: World, ann: str, query: str) -> None:
    assert doors.get(f"{STREAM}?{query}", ann).json()["field"] == "after"


def test_the_stream_of_an_operation_ends_with_it_and_asks_not_to_come_back(doors: World, rita: str) -> None:
    ident = doors.submit(rita, VACUUM)["id"]
    path = f"/api/v1/operations/{ident}/events"
    with doors.events(path, rita) as events:
        seen = list(events)
    assert seen[0].kind == "operation.requested"
    assert seen[-1].data["after"] == "completed"
    assert {event.data["operation"] for event in seen} == {ident}
    assert doors.get(path, rita, Last_Event_ID=str(seen[-1].id)).status_code == 204
    with doors.events(path, rita, Last_Event_ID=str(seen[-3].id)) as events:
        assert [event.id for event in events] == [event.id for event in seen[-2:]]


def test_nobody_is_told_what_they_may_not_read(doors: World, rita: str) -> None:
    """A requester reads operations and not the ledger: entries beside operations are left out."""
    size = doors.size()
    operations = doors.sql("SELECT array_agg(idx ORDER BY idx) FROM ledger_leaf WHERE operation IS NOT NULL")
    with doors.events(f"{STREAM}?after=-1", rita) as events:
        seen = list(itertools.islice(events, len(operations)))
    assert [event.id for event in seen] == operations
    assert len(operations) < size
    assert doors.get(STREAM).status_code == 401


def test_who_may_read_only_the_constitution_is_told_nothing_else(doors: World, rita: str) -> None:
    nobody = doors.key("nobody")
    ident = doors.submit(rita, VACUUM, Prefer="wait=25")["id"]
    assert doors.get(f"/api/v1/operations/{ident}/events", nobody).status_code == 404
    with doors.client(nobody) as client, client.stream("GET", f"{STREAM}?after=-1") as response:
        lines = list(itertools.islice((line for line in response.iter_lines() if line), 2))
    assert lines == ["retry: 2000", ": still here"]


def test_streams_are_counted_for_each_principal(doors: World) -> None:
    greedy = doors.key("greedy", "auditor")
    with ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(doors.events(STREAM, greedy))
        refused = doors.get(STREAM, greedy)
        assert (refused.status_code, refused.json()["code"]) == (429, "too-many-streams")
        assert refused.headers["retry-after"]
        assert doors.get("/api/v1/me", greedy).status_code == 200


def test_a_revoked_key_ends_its_streams(doors: World) -> None:
    leaver = doors.key("leaver", "auditor")
    fingerprint = next(
        each["fingerprint"]
        for each in doors.get("/api/v1/keys", doors.admin).json()["items"]
        if each["principal"] == "leaver"
    )
    with doors.client(leaver) as client, client.stream("GET", STREAM) as response:
        lines = response.iter_lines()
        assert next(lines)
        assert doors.call("DELETE", f"/api/v1/keys/{fingerprint}", doors.admin).status_code == 204
        assert sum(1 for _line in lines) < 50
    assert doors.get("/api/v1/me", leaver).status_code == 401


def test_stopping_closes_open_streams_at_once(doors: World, ann: str) -> None:
    with doors.client(ann) as client, client.stream("GET", STREAM) as response:
        lines = response.iter_lines()
        assert next(lines)
        doors.stop()
        assert sum(1 for _line in lines) < 50
    with pytest.raises(httpx2.TransportError), httpx2.Client(timeout=0.2) as client:
        client.get(f"{doors.settings.url}/livez")
    doors.start()
    assert doors.get("/livez").status_code == 200


def test_a_change_that_waits_is_followed_to_its_end(doors: World, rita: str) -> None:
    bob = doors.key("bob", "approver")
    ident = doors.submit(rita, CHANGE_LEVEL)["id"]
    path = f"/api/v1/operations/{ident}/events"
    with doors.events(path, rita) as events:
        kinds = []
        for event in events:
            kinds.append(event.kind)
            if event.kind == "plan.proposed":
                card = doors.get(f"/api/v1/approvals/{ident}", bob).json()
                assert doors.decide(bob, card, "deny").status_code == 200
    assert kinds[-1] == "approval.refused"
