"""Operations over HTTP: asked for, followed, called off."""

from collections.abc import Iterator

import pytest

from storage.embedded import Embedded
from tests.doors import CHANGE_LEVEL, VACUUM, World, world

OPERATIONS = "/api/v1/operations"
UNKNOWN = "op_00000000000000000000000000"


@pytest.fixture(scope="module")
def doors(cluster: Embedded, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(cluster, tmp_path_factory.mktemp("operations")) as made:
        yield made


@pytest.fixture(scope="module")
def rita(doors: World) -> str:
    return doors.key("rita", "requester")


def test_a_request_is_accepted_with_its_place_and_its_trace(doors: World, rita: str) -> None:
    answer = doors.post(OPERATIONS, rita, VACUUM)
    found = answer.json()
    assert answer.status_code == 202
    assert answer.headers["location"] == f"{OPERATIONS}/{found['id']}"
    assert answer.headers["x-request-id"] == found["trace"]
    assert answer.headers["etag"]
    assert found["requester"] == {"id": "rita", "kind": "person", "person": "rita"}
    assert doors.ended(found["id"], rita)["stage"] == "completed"


def test_who_prefers_to_wait_gets_the_finished_operation(doors: World, rita: str) -> None:
    answer = doors.post(OPERATIONS, rita, VACUUM, Prefer="respond-async, wait=25")
    assert answer.status_code == 200
    assert answer.headers["preference-applied"] == "wait=25"
    assert answer.json()["stage"] == "completed"
    assert answer.json()["verdict"]["passed"] is True


def test_waiting_for_people_ends_with_what_there_is(doors: World, rita: str) -> None:
    answer = doors.post(OPERATIONS, rita, CHANGE_LEVEL, Prefer="wait=1")
    assert answer.status_code == 202
    assert answer.json()["stage"] in {"requested", "planned"}
    assert doors.call("POST", f"{OPERATIONS}/{answer.json()['id']}/cancel", rita, {"reason": "done"}).status_code == 202


def test_a_dry_run_shows_plan_and_verdict_and_makes_no_operation(doors: World, rita: str) -> None:
    before = doors.marks()
    answer = doors.post(f"{OPERATIONS}?dry_run=true", rita, CHANGE_LEVEL)
    found = answer.json()
    assert answer.status_code == 200
    assert found["allowed"] is True
    assert found["demands"]["tier"] == 2
    assert found["demands"]["quorum"] == 1
    assert found["demands"]["articles"]
    assert found["model"] == "rules/offline-1"
    assert "warning" in found["plan"]["steps"][0]["preview"]["diff"]
    assert doors.marks() == before


def test_a_dry_run_of_what_nothing_fits_says_why(doors: World, rita: str) -> None:
    body = {"type": "monitoring", "description": "Fold the laundry and sing", "systems": ["host"]}
    found = doors.post(f"{OPERATIONS}?dry_run=true", rita, body).json()
    assert (found["allowed"], found["code"], found["plan"]) == (False, "nothing-fits", None)
    assert found["reasons"]
    assert found["nearest"] == ["observe.host"]


def test_one_operation_is_answered_304_until_it_changes(doors: World, rita: str) -> None:
    ident = doors.submit(rita, VACUUM, Prefer="wait=25")["id"]
    first = doors.get(f"{OPERATIONS}/{ident}", rita)
    again = doors.get(f"{OPERATIONS}/{ident}", rita, If_None_Match=f'W/"x", {first.headers["etag"]}')
    other = doors.get(f"{OPERATIONS}/{ident}", rita, If_None_Match='"another"')
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == first.headers["etag"]
    assert other.status_code == 200


def test_the_links_of_an_operation_lead_somewhere(doors: World, rita: str) -> None:
    found = doors.submit(rita, VACUUM, Prefer="wait=25")
    for name, path in found["links"].items():
        assert doors.get(path, rita).status_code in ({200, 204} if name == "events" else {200})


def test_the_plan_is_whole_and_its_digest_can_be_recomputed(doors: World, rita: str) -> None:
    ident = doors.submit(rita, VACUUM, Prefer="wait=25")["id"]
    found = doors.get(f"{OPERATIONS}/{ident}/plan", rita).json()
    assert found["digest"] == found["versions"][0]["digest"]
    assert found["versions"][0]["model"] == "rules/offline-1"
    assert found["plan"]["steps"][0]["playbook"] == "postgres.vacuum_analyze"


def test_the_timeline_tells_every_move_in_order(doors: World, rita: str) -> None:
    ident = doors.submit(rita, VACUUM, Prefer="wait=25")["id"]
    items = doors.get(f"{OPERATIONS}/{ident}/timeline", rita).json()["items"]
    kinds = [item["kind"] for item in items]
    assert kinds[0] == "operation.requested"
    assert kinds[-1] == "ruling.given"
    assert kinds.index("warrant.issued") < kinds.index("step.intent") < kinds.index("step.done")
    assert [item["index"] for item in items] == sorted(item["index"] for item in items)
    page = doors.get(f"{OPERATIONS}/{ident}/timeline?limit=2", rita)
    following = page.headers["link"].split(">")[0].lstrip("<")
    assert [item["index"] for item in doors.get(following, rita).json()["items"]] == [
        item["index"] for item in items[2:4]
    ]


def test_the_list_goes_page_by_page_and_can_be_narrowed(doors: World, rita: str) -> None:
    mine = [doors.submit(rita, VACUUM, Prefer="wait=25")["id"] for _ in range(3)]
    seen, path = [], f"{OPERATIONS}?mine=true&stage=completed&limit=2"
    while path:
        page = doors.get(path, rita)
        seen += [item["id"] for item in page.json()["items"]]
        path = page.headers.get("link", "").split(">")[0].lstrip("<")
    assert seen == sorted(seen, reverse=True)
    assert len(seen) == len(set(seen))
    assert set(mine) <= set(seen)
    assert doors.get(f"{OPERATIONS}?stage=vetoed", rita).json()["items"] == []


def test_the_link_to_the_next_page_keeps_every_filter(doors: World, rita: str) -> None:
    for _ in range(3):
        doors.submit(rita, VACUUM, Prefer="wait=25")
    path = f"{OPERATIONS}?stage=completed&stage=planned&limit=1"
    for _ in range(2):
        path = doors.get(path, rita).headers["link"].split(">")[0].lstrip("<")
        assert "stage=completed&stage=planned&limit=1&cursor=" in path
        assert path.count("cursor=") == 1


def test_what_the_caller_may_not_read_is_not_there(doors: World, rita: str) -> None:
    ident = doors.submit(rita, VACUUM, Prefer="wait=25")["id"]
    nobody = doors.key("nobody")
    assert doors.get(f"{OPERATIONS}/{ident}", doors.key("ann", "auditor")).status_code == 200
    for place in ("", "/plan", "/timeline", "/events"):
        answer = doors.get(f"{OPERATIONS}/{ident}{place}", nobody)
        assert (answer.status_code, answer.json()["code"]) == (404, "unknown-operation")
    assert doors.get(f"/api/v1/approvals/{ident}", nobody).status_code == 404
    assert doors.get(OPERATIONS, nobody).json()["items"] == []
    assert doors.get("/api/v1/approvals?state=all", nobody).json()["items"] == []
    assert doors.post(f"{OPERATIONS}/{ident}/cancel", nobody, {"reason": "no"}).status_code == 404


@pytest.mark.parametrize("place", ["", "/plan", "/timeline", "/events"])
@pytest.mark.parametrize("ident", [UNKNOWN, "op_1", "op_%00", "..%2f", "%F0%9F%92%A9", "x" * 5000])
def test_what_does_not_exist_is_404_and_never_an_error(doors: World, rita: str, ident: str, place: str) -> None:
    answer = doors.get(f"{OPERATIONS}/{ident}{place}", rita)
    assert answer.status_code == 404
    assert answer.json()["code"] in {"unknown-operation", "not-found"}


@pytest.mark.parametrize(
    ("act", "body"),
    [
        ("cancel", {"reason": "no"}),
        ("withdraw", {"reason": "no"}),
        ("reconcile", {"reason": "no", "happened": True}),
        ("resolve", {"reason": "no", "ruling": "fail"}),
        ("ratify", {"reason": "no"}),
    ],
)
def test_acts_on_what_does_not_exist_are_404(doors: World, rita: str, act: str, body: dict[str, object]) -> None:
    assert doors.post(f"{OPERATIONS}/{UNKNOWN}/{act}", rita, body).status_code == 404


def test_cancelling_ends_what_waits_and_is_refused_afterwards(doors: World, rita: str) -> None:
    card = doors.waiting(rita)
    path = f"{OPERATIONS}/{card['id']}/cancel"
    first = doors.post(path, rita, {"reason": "The window was moved."})
    assert first.status_code == 202
    assert first.json()["stage"] == "cancelled"
    assert first.json()["reasons"] == ["The window was moved."]
    again = doors.post(path, rita, {"reason": "Again."})
    assert (again.status_code, again.json()["code"]) == (409, "not-cancellable")


def test_another_requester_may_not_cancel(doors: World, rita: str) -> None:
    card = doors.waiting(rita)
    other = doors.key("olga", "requester")
    answer = doors.post(f"{OPERATIONS}/{card['id']}/cancel", other, {"reason": "Mine now."})
    assert (answer.status_code, answer.json()["code"]) == (403, "not-permitted")
    assert doors.get(f"{OPERATIONS}/{card['id']}", rita).json()["stage"] == "planned"


@pytest.mark.parametrize(
    ("act", "body", "code"),
    [
        ("withdraw", {"reason": "no"}, "not-withdrawable"),
        ("reconcile", {"reason": "no", "happened": True}, "not-in-doubt"),
        ("ratify", {"reason": "no"}, "not-an-emergency"),
    ],
)
def test_acts_out_of_their_time_are_conflicts_and_change_nothing(
    doors: World, rita: str, act: str, body: dict[str, object], code: str
) -> None:
    card = doors.waiting(rita)
    officer = doors.key("carl", "operator", "crown_officer", "approver")
    answer = doors.post(f"{OPERATIONS}/{card['id']}/{act}", officer, body)
    assert (answer.status_code, answer.json()["code"]) == (409, code)
    assert doors.get(f"{OPERATIONS}/{card['id']}", rita).json()["stage"] == "planned"


def test_resolving_what_was_not_escalated_is_refused(doors: World, rita: str) -> None:
    card = doors.waiting(rita)
    officer = doors.key("carl", "operator", "crown_officer", "approver")
    answer = doors.post(f"{OPERATIONS}/{card['id']}/resolve", officer, {"reason": "no", "ruling": "fail"})
    assert (answer.status_code, answer.json()["code"]) == (403, "not-permitted")
    assert doors.get(f"{OPERATIONS}/{card['id']}", rita).json()["stage"] == "planned"


@pytest.mark.parametrize("cursor", ["1", "op_0", "op_00000000000000000000000000'", "%00"])
def test_a_cursor_that_is_not_ours_is_said_so(doors: World, rita: str, cursor: str) -> None:
    answer = doors.get(f"{OPERATIONS}?cursor={cursor}", rita)
    assert (answer.status_code, answer.json()["code"]) == (400, "bad-cursor")


@pytest.mark.parametrize("query", ["limit=0", "limit=201", "limit=x", "stage=nowhere", "mine=maybe", "limit=1e9"])
def test_a_parameter_that_is_wrong_is_named(doors: World, rita: str, query: str) -> None:
    answer = doors.get(f"{OPERATIONS}?{query}", rita)
    assert answer.status_code == 422
    assert answer.json()["field"].startswith(query.partition("=")[0])
