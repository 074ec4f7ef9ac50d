"""The constitution, the halt, the keys, the ledger's proof and the health of it all, over HTTP."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from storage.embedded import Embedded
from tests.doors import VACUUM, World, world

AMENDMENTS = "/api/v1/constitution/amendments"
KEYS = "/api/v1/keys"


@pytest.fixture(scope="module")
def doors(cluster: Embedded, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(cluster, tmp_path_factory.mktemp("governance")) as made:
        yield made


@pytest.fixture(scope="module")
def rita(doors: World) -> str:
    return doors.key("rita", "requester")


@pytest.fixture(scope="module")
def ann(doors: World) -> str:
    return doors.key("ann", "auditor")


@pytest.fixture(scope="module")
def carl(doors: World) -> str:
    return doors.key("carl", "crown_officer")


def tightened(doors: World) -> str:
    """The constitution in force with one number made stricter."""
    text = doors.get("/api/v1/constitution", doors.admin, Accept="text/markdown").text
    for seconds in range(120, 60, -1):
        if f"expiry_seconds = {seconds}\n" in text:
            return text.replace(f"expiry_seconds = {seconds}\n", f"expiry_seconds = {seconds - 1}\n")
    raise AssertionError("the number is not where it was")


def test_everybody_with_a_key_reads_the_constitution(doors: World) -> None:
    nobody = doors.key("nobody")
    answer = doors.get("/api/v1/constitution", nobody)
    found = answer.json()
    assert answer.headers["etag"] == f'"{found["digest"]}"'
    assert answer.headers["x-constitutional-hash"] == found["digest"]
    assert found["articles"][0]["id"] == "article-1"
    assert {article["enforced"] for article in found["articles"]} == {True, False}
    assert doors.get("/api/v1/constitution", nobody, If_None_Match=answer.headers["etag"]).status_code == 304


def test_the_document_itself_is_served_as_markdown(doors: World, rita: str) -> None:
    answer = doors.get("/api/v1/constitution", rita, Accept="text/markdown")
    assert answer.headers["content-type"].startswith("text/markdown")
    assert answer.text == (doors.home / "constitution.md").read_text()
    assert (
        doors.get(
            "/api/v1/constitution", rita, Accept="text/markdown", If_None_Match=answer.headers["etag"]
        ).status_code
        == 304
    )


def test_a_request_pinned_to_another_constitution_is_refused_with_both_digests(doors: World, rita: str) -> None:
    before = doors.operations()
    other = "0" * 64
    answer = doors.post("/api/v1/operations", rita, VACUUM, X_Constitutional_Hash=other)
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (409, "constitution-mismatch")
    assert (problem["pinned"], problem["in_force"]) == (other, answer.headers["x-constitutional-hash"])
    assert doors.operations() == before
    pinned = doors.post("/api/v1/operations", rita, VACUUM, X_Constitutional_Hash=problem["in_force"])
    assert pinned.status_code == 202
    malformed = doors.get("/livez", X_Constitutional_Hash="<script>")
    assert (malformed.status_code, malformed.json()["field"]) == (400, "X-Constitutional-Hash")
    assert "script" not in malformed.text


def test_an_amendment_takes_two_people_and_the_ledger_still_verifies(doors: World, carl: str) -> None:
    text = tightened(doors)
    before = doors.get("/api/v1/constitution", carl).json()["digest"]
    proposed = doors.post(AMENDMENTS, doors.admin, {"text": text, "reason": "Shorter."})
    assert proposed.status_code == 201
    view = doors.get(proposed.headers["location"], carl).json()
    assert view["state"] == "proposed"
    assert view["replaces"] == before
    assert "-expiry_seconds" in view["diff"]
    assert doors.get("/api/v1/constitution", carl).json()["digest"] == before

    ratify = f"{proposed.headers['location']}/ratify"
    alone = doors.post(ratify, doors.admin, {"reason": "Me too."})
    assert alone.status_code == 403
    alias = doors.key("admin-officer", "crown_officer", person="admin")
    assert doors.post(ratify, alias, {"reason": "Me too."}).status_code == 403
    ratified = doors.post(ratify, carl, {"reason": "It only tightens."})
    assert ratified.status_code == 200
    assert ratified.json()["state"] == "in_force"
    after = doors.get("/api/v1/constitution", carl)
    assert after.json()["digest"] == after.headers["x-constitutional-hash"] == view["proposed"]
    assert doors.post(ratify, carl, {"reason": "Again."}).status_code == 409
    assert doors.get("/api/verification/audit", carl).json()["intact"] is True
    doors.restart()
    assert doors.get("/api/v1/constitution", carl).json()["digest"] == view["proposed"]


@pytest.mark.parametrize(
    "text", ["nothing", "# A title\n\n## Article 1: Nothing\n\n```cedar\npermit(principal, action, resource);\n```\n"]
)
def test_a_text_that_cannot_be_enforced_is_not_proposed(doors: World, text: str) -> None:
    before = doors.marks()
    answer = doors.post(AMENDMENTS, doors.admin, {"text": text, "reason": "Freer."})
    assert (answer.status_code, answer.json()["code"]) == (422, "amendment-invalid")
    assert answer.json()["field"] == "text"
    assert doors.marks() == before


def test_proposing_the_text_in_force_or_ratifying_nothing_is_refused(doors: World, carl: str, rita: str) -> None:
    text = doors.get("/api/v1/constitution", doors.admin, Accept="text/markdown").text
    same = doors.post(AMENDMENTS, doors.admin, {"text": text, "reason": "The same."})
    assert (same.status_code, same.json()["code"]) == (409, "nothing-changed")
    unknown = doors.post(f"{AMENDMENTS}/am_x/ratify", carl, {"reason": "What?"})
    assert (unknown.status_code, unknown.json()["code"]) == (404, "unknown-amendment")
    assert doors.get(f"{AMENDMENTS}/am_x", carl).status_code == 404
    assert doors.post(AMENDMENTS, rita, {"text": text + "x", "reason": "Mine."}).status_code == 403
    assert doors.get(AMENDMENTS, carl).status_code == 200


def test_a_halt_stops_everything_until_a_person_releases_it(doors: World, carl: str, rita: str) -> None:
    assert doors.post("/api/v1/halt", rita, {"reason": "I am scared."}).status_code == 403
    assert doors.post("/api/v1/release", carl, {"reason": "Early."}).json()["code"] == "not-halted"
    halted = doors.post("/api/v1/halt", carl, {"reason": "Something is odd."})
    assert (halted.status_code, halted.json()["halted"]) == (200, True)
    assert doors.post("/api/v1/halt", carl, {"reason": "Again."}).json()["code"] == "already-halted"
    health = doors.get("/health")
    assert (health.status_code, health.json()["status"]) == (200, "warn")
    assert health.json()["summary"] == "Everything is halted."
    ident = doors.submit(rita, VACUUM, Prefer="wait=1")["id"]
    assert doors.get(f"/api/v1/operations/{ident}", rita).json()["stage"] in {"requested", "planned", "approved"}
    assert doors.post("/api/v1/release", doors.admin, {"reason": "No right."}).status_code == 403
    assert doors.post("/api/v1/release", carl, {"reason": "Understood."}).json()["halted"] is False
    assert doors.ended(ident, rita)["stage"] == "completed"


def test_a_key_is_shown_once_and_listed_without_its_secret(doors: World, ann: str) -> None:
    body = {"principal": "zoe", "kind": "person", "person": "zoe", "roles": ["operator", "approver"]}
    made = doors.post(KEYS, doors.admin, body)
    assert made.status_code == 201
    key = made.json()["key"]
    assert key.startswith("triad_")
    me = doors.get("/api/v1/me", key).json()
    assert (me["id"], me["person"], me["roles"]) == ("zoe", "zoe", ["approver", "operator"])
    listed = doors.get(KEYS, ann)
    assert listed.status_code == 200
    assert key not in listed.text
    mine = next(each for each in listed.json()["items"] if each["principal"] == "zoe")
    assert made.headers["location"] == f"{KEYS}/{mine['fingerprint']}"
    entry = doors.get("/api/v1/audit?kind=auth.key_created&limit=1000", ann).json()["items"][-1]
    assert entry["event"] == {
        "kind": "auth.key_created",
        "subject": "zoe",
        "roles": ["approver", "operator"],
        "fingerprint": mine["fingerprint"],
    }
    stored = doors.sql("SELECT string_agg(digest, ' ') FROM api_key")
    assert key not in stored


def test_a_key_is_kept_by_no_repeatable_answer(doors: World) -> None:
    body = {"principal": "yan", "kind": "person", "person": "yan", "roles": ["requester"]}
    first = doors.post(KEYS, doors.admin, body, Idempotency_Key="k-1").json()["key"]
    second = doors.post(KEYS, doors.admin, body, Idempotency_Key="k-1").json()["key"]
    assert first != second
    assert doors.sql("SELECT count(*) FROM idempotency WHERE key = 'k-1'") == 0


def test_a_revoked_key_is_refused_like_an_unknown_one(doors: World) -> None:
    body = {"principal": "xia", "kind": "service", "person": "xia", "roles": ["requester"]}
    made = doors.post(KEYS, doors.admin, body).json()
    assert doors.call("DELETE", f"{KEYS}/{made['fingerprint']}", doors.admin).status_code == 204
    revoked = doors.get("/api/v1/me", made["key"])
    unknown = doors.get("/api/v1/me", "triad_" + "A" * 43)
    assert revoked.status_code == unknown.status_code == 401
    assert revoked.json() == unknown.json()
    again = doors.call("DELETE", f"{KEYS}/{made['fingerprint']}", doors.admin)
    assert (again.status_code, again.json()["code"]) == (404, "unknown-key")


def test_an_expired_key_is_refused(doors: World) -> None:
    body = {
        "principal": "wim",
        "kind": "person",
        "person": "wim",
        "roles": ["requester"],
        "expires": "2100-01-01T00:00:00Z",
    }
    made = doors.post(KEYS, doors.admin, body).json()
    assert doors.get("/api/v1/me", made["key"]).status_code == 200
    doors.sql("UPDATE api_key SET expires = now() - interval '1 second' WHERE subject = 'wim'")
    assert doors.get("/api/v1/me", made["key"]).status_code == 401


def test_only_an_admin_manages_keys(doors: World, rita: str, ann: str) -> None:
    body = {"principal": "vic", "kind": "person", "person": "vic", "roles": ["admin"]}
    for key in (rita, ann):
        assert doors.post(KEYS, key, body).status_code == 403
        assert doors.call("DELETE", f"{KEYS}/0000000000000000", key).status_code == 403
    assert doors.get(KEYS, rita).status_code == 403


def test_the_last_admins_key_cannot_be_revoked(doors: World) -> None:
    items = doors.get(KEYS, doors.admin).json()["items"]
    admins = [each["fingerprint"] for each in items if "admin" in each["roles"] and each["revoked"] is None]
    assert len(admins) == 1
    answer = doors.call("DELETE", f"{KEYS}/{admins[0]}", doors.admin)
    assert (answer.status_code, answer.json()["code"]) == (409, "last-admin-key")
    assert doors.get("/api/v1/me", doors.admin).status_code == 200


@pytest.mark.parametrize(
    ("change", "status", "field"),
    [
        ({"principal": "agent:crown"}, 422, "principal"),
        ({"principal": "triad"}, 422, "principal"),
        ({"person": "agent:crown"}, 422, "person"),
        ({"principal": "Upper Case"}, 422, "principal"),
        ({"kind": "agent"}, 422, "kind"),
        ({"kind": "scheduler"}, 422, "kind"),
        ({"roles": ["god"]}, 422, "roles.0"),
        ({"roles": "admin"}, 422, "roles"),
        ({"expires": "2000-01-01T00:00:00Z"}, 422, "expires"),
        ({"expires": 7}, 422, "expires"),
        ({"principal": "rita", "person": "somebody-else"}, 409, None),
        ({"principal": "rita", "person": "rita", "kind": "service"}, 409, None),
    ],
)
def test_a_key_for_what_is_no_principal_is_not_made(
    doors: World, rita: str, change: dict[str, Any], status: int, field: str | None
) -> None:
    body = {"principal": "ulf", "kind": "person", "person": "ulf", "roles": ["requester"], **change}
    before = doors.sql("SELECT count(*) FROM api_key")
    answer = doors.post(KEYS, doors.admin, body)
    assert (answer.status_code, answer.json().get("field")) == (status, field)
    assert doors.sql("SELECT count(*) FROM api_key") == before


@pytest.mark.parametrize("field", ["principal", "person"])
def test_an_address_is_no_handle_because_a_handle_is_never_erased(doors: World, field: str) -> None:
    body = {"principal": "bob", "kind": "person", "person": "bob", "roles": []} | {field: "bob@example.org"}
    answer = doors.post("/api/v1/keys", doors.admin, body)
    assert (answer.status_code, answer.json()["field"]) == (422, field)
    assert "never be erased" in answer.json()["detail"]
    assert "bob@example.org" not in answer.text


def test_nothing_is_kept_about_a_handle_without_a_key_unless_it_is_said_to_be_new(doors: World, rita: str) -> None:
    name = {"name": "Nora"}
    answer = doors.post("/api/v1/people/nora", doors.admin, name)
    assert (answer.status_code, answer.json()["code"]) == (404, "unknown-subject")
    assert doors.post("/api/v1/people/nora", rita, name).status_code == 403
    assert doors.post("/api/v1/people/nora@example.org", doors.admin, name | {"new": True}).status_code == 404
    assert doors.post("/api/v1/people/nora", doors.admin, name | {"new": True}).status_code == 200
    assert doors.post("/api/v1/people/nora", doors.admin, {"contact": "room 7"}).status_code == 200
    assert doors.post("/api/v1/people/rita", doors.admin, {"contact": "room 8"}).status_code == 200


def test_the_first_admins_key_is_announced_once_and_decides_on_nothing(doors: World) -> None:
    doors.restart()
    assert doors.announced == [doors.admin]
    me = doors.get("/api/v1/me", doors.admin).json()
    assert (me["id"], me["roles"]) == ("admin", ["admin"])


def test_the_audit_pages_through_every_entry(doors: World, ann: str, rita: str) -> None:
    doors.submit(rita, VACUUM, Prefer="wait=25")
    seen: list[int] = []
    path = "/api/v1/audit?limit=3"
    for _ in range(3):
        page = doors.get(path, ann)
        seen += [item["index"] for item in page.json()["items"]]
        path = page.headers["link"].split(">")[0].lstrip("<")
    assert seen == list(range(9))
    assert doors.get("/api/v1/audit", rita).status_code == 403
    genesis = doors.get("/api/v1/audit?kind=genesis", ann).json()["items"]
    assert [item["index"] for item in genesis] == [0]
    assert doors.get("/api/v1/audit?operation=nonsense", ann).status_code == 404
    assert doors.get("/api/v1/audit?kind=%27%3B--", ann).json()["field"] == "kind.0"


def test_the_whole_ledger_verifies_and_is_verified_once_for_each_size(doors: World, ann: str, rita: str) -> None:
    doors.submit(rita, VACUUM, Prefer="wait=25")
    first = doors.get("/api/verification/audit", ann).json()
    assert (first["intact"], first["code"], first["first_bad"], first["problems"]) == (True, 0, None, [])
    assert first["size"] == doors.size()
    assert doors.get("/api/verification/audit", ann).json()["verified"] == first["verified"]
    assert doors.get("/api/verification/audit", rita).status_code == 403


def test_a_ledger_that_was_found_broken_fails_health_and_takes_in_emergencies_alone(
    doors: World, ann: str, rita: str, carl: str
) -> None:
    flip = "UPDATE ledger_leaf SET hash = set_byte(hash, 3, get_byte(hash, 3) # 1) WHERE idx = 0"
    doors.sql("ALTER TABLE ledger_leaf DISABLE TRIGGER USER")
    try:
        doors.post("/api/v1/keys", doors.admin, {"principal": "eve", "kind": "person", "person": "eve", "roles": []})
        doors.sql(flip)
        assert doors.get("/health").status_code == 200  # nobody has looked yet
        found = doors.get("/api/verification/audit", ann).json()
        assert (found["intact"], found["code"]) == (False, 5)
        health = doors.get("/health")
        assert (health.status_code, health.json()["checks"]["verification"]["status"]) == (503, "fail")
        assert "ledger-does-not-verify.md" in health.json()["summary"]
        assert doors.get("/readyz").status_code == 503
        refused = doors.post("/api/v1/operations", rita, VACUUM)
        assert (refused.status_code, refused.json()["code"]) == (503, "ledger-corrupt")
        assert doors.submit(carl, VACUUM | {"emergency": True})["id"]
    finally:
        doors.sql(flip)
        doors.sql("ALTER TABLE ledger_leaf ENABLE TRIGGER USER")
    assert doors.get("/api/verification/audit", ann).json()["intact"]
    assert doors.get("/health").status_code == 200
    assert doors.submit(rita, VACUUM)["id"]


def test_the_catalogue_shows_what_may_be_done_and_no_secret(doors: World, rita: str) -> None:
    systems = doors.get("/api/v1/systems", rita)
    names = {each["name"]: each for each in systems.json()["items"]}
    assert {"triad-db", "triad-config", "host"} <= set(names)
    assert "postgres.vacuum_analyze" in names["triad-db"]["playbooks"]
    assert "dsn" not in systems.text
    playbooks = doors.get("/api/v1/playbooks", rita).json()["items"]
    one = doors.get("/api/v1/playbooks/config.apply_change", rita)
    assert one.json() in playbooks
    assert one.json()["arguments"]["properties"]["changes"]
    assert (
        doors.get("/api/v1/playbooks/config.apply_change", rita, If_None_Match=one.headers["etag"]).status_code == 304
    )
    assert doors.get("/api/v1/playbooks/no.such", rita).json()["code"] == "unknown-playbook"
    nobody = doors.key("nobody")
    assert doors.get("/api/v1/systems", nobody).json()["items"] == []
    assert doors.get("/api/v1/playbooks", nobody).status_code == 403


def test_constitutional_health_asks_the_rules_and_gets_known_answers(doors: World, ann: str) -> None:
    answer = doors.get("/constitutional-health", ann)
    found = answer.json()
    assert (answer.status_code, found["status"]) == (200, "pass")
    assert found["on_disk"] == found["in_force"] == answer.headers["x-constitutional-hash"]
    assert all(test["expected"] == test["got"] for test in found["self_test"])
    assert {test["expected"] for test in found["self_test"]} == {"allowed", "denied"}
    assert len(found["self_test"]) >= 10
    before = found["denials_24h"]
    assert doors.post("/api/v1/halt", ann, {"reason": "No right."}).status_code == 403
    assert doors.get("/constitutional-health", ann).json()["denials_24h"] == before + 1


def test_a_changed_document_closes_everything_and_says_so(doors: World, ann: str, rita: str) -> None:
    path: Path = doors.home / "constitution.md"
    honest = path.read_text()
    before = doors.operations()
    path.write_text(honest.replace("quorum = 2", "quorum = 1"))
    try:
        refused = doors.post("/api/v1/operations", rita, VACUUM)
        assert (refused.status_code, refused.json()["code"]) == (503, "constitution-invalid")
        assert doors.operations() == before
        assert doors.get("/readyz").status_code == 503
        health = doors.get("/health")
        assert (health.status_code, health.json()["status"]) == (503, "fail")
        sick = doors.get("/constitutional-health", ann)
        assert (sick.status_code, sick.json()["status"]) == (503, "fail")
        assert sick.json()["on_disk"] != sick.json()["in_force"]
    finally:
        path.write_text(honest)
    assert doors.get("/health").status_code == 200
    assert doors.post("/api/v1/operations", rita, VACUUM).status_code == 202


def test_live_and_ready_need_no_key(doors: World) -> None:
    assert (doors.get("/livez").status_code, doors.get("/livez").text) == (200, "ok\n")
    assert doors.get("/readyz").text == "ready\n"
    assert "worker: pass" in doors.get("/readyz?verbose=true").text
    health = doors.get("/health")
    assert health.headers["content-type"] == "application/health+json"
    assert health.json()["status"] in {"pass", "warn"}
