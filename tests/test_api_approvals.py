"""Approvals over HTTP: what is shown is what is decided on, by whom, once."""

import sys
from collections.abc import Iterator

import pytest

from storage.embedded import Embedded
from tests.doors import CHANGE_LEVEL, World, world

APPROVALS = "/api/v1/approvals"
OPERATIONS = "/api/v1/operations"
SYSTEMS = f"""
[[systems]]
kind = "config"
name = "triad-config"
path = "{{home}}/triad.toml"
validate_with = ["{sys.executable}", "-m", "api.settings", "{{{{file}}}}"]

[[systems]]
kind = "config"
name = "triad-vault"
path = "{{home}}/vault.toml"
tier_floor = 3
"""


@pytest.fixture(scope="module")
def doors(cluster: Embedded, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(cluster, tmp_path_factory.mktemp("approvals"), SYSTEMS) as made:
        (made.home / "vault.toml").write_text('[logging]\nlevel = "info"\n')
        yield made


@pytest.fixture(scope="module")
def rita(doors: World) -> str:
    return doors.key("rita", "requester", "approver")


@pytest.fixture(scope="module")
def bob(doors: World) -> str:
    return doors.key("bob", "approver")


def test_the_card_shows_all_that_a_decision_rests_on(doors: World, rita: str, bob: str) -> None:
    ident = doors.waiting(rita)["id"]
    answer = doors.get(f"{APPROVALS}/{ident}", bob)
    card = answer.json()
    assert answer.headers["etag"] == f'"{card["plan"]}"'
    step = card["steps"][0]
    assert "warning" in step["preview"]["diff"]
    assert step["preview"]["commands"]
    assert step["preview"]["blast_radius"]
    assert step["preview"]["undo"]
    assert step["arguments"]["changes"][0]["value"] == "warning"
    assert (step["system"], step["environment"]) == ("triad-config", "development")
    assert card["requester"]["person"] == "rita"
    assert card["model"] == "rules/offline-1"
    assert (card["tier"], card["quorum"], card["missing"], card["given"]) == (2, 1, 1, 0)
    assert card["rollback_plan"] == CHANGE_LEVEL["rollback_plan"]
    assert card["expires"] > card["requested"]
    assert card["yours"]["may_decide"] is True
    assert doors.get(f"{OPERATIONS}/{ident}/plan", bob).json()["digest"] == card["plan"]


def test_the_card_tells_the_requester_why_not(doors: World, rita: str) -> None:
    yours = doors.waiting(rita)["yours"]
    assert yours["may_decide"] is False
    assert yours["articles"] == ["article-5"]
    assert yours["reasons"]


def test_an_approved_change_is_carried_out_exactly_as_shown(doors: World, rita: str, bob: str) -> None:
    card = doors.waiting(rita)
    decided = doors.decide(bob, card, "approve")
    assert decided.status_code == 200
    assert decided.json()["approvals"][0]["approver"] == "bob"
    found = doors.ended(card["id"], rita)
    assert found["stage"] == "completed", found["reasons"]
    assert 'level = "warning"' in (doors.home / "triad.toml").read_text()
    (doors.home / "triad.toml").write_text((doors.home / "triad.toml").read_text().replace("warning", "info"))


def test_a_denied_plan_never_runs(doors: World, rita: str, bob: str) -> None:
    before = (doors.home / "triad.toml").read_bytes()
    card = doors.waiting(rita)
    assert doors.decide(bob, card, "deny").json()["stage"] == "denied"
    again = doors.decide(bob, card, "approve")
    assert (again.status_code, again.json()["code"]) == (409, "not-waiting")
    assert (doors.home / "triad.toml").read_bytes() == before


def test_the_requester_may_not_approve_and_learns_the_article(doors: World, rita: str) -> None:
    card = doors.waiting(rita)
    answer = doors.decide(rita, card, "approve")
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    assert answer.json()["articles"] == ["article-5"]
    assert answer.json()["reasons"]
    refused = doors.get(f"{OPERATIONS}/{card['id']}/timeline", rita).json()["items"][-1]
    assert (refused["kind"], refused["event"]["action"]) == ("auth.denied", "approve")
    assert doors.get(f"{OPERATIONS}/{card['id']}", rita).json()["stage"] == "planned"


def test_another_account_of_the_same_person_may_not_approve(doors: World, rita: str) -> None:
    alias = doors.key("rita-admin", "approver", person="rita")
    card = doors.waiting(rita)
    assert doors.get(f"{APPROVALS}/{card['id']}", alias).json()["yours"]["may_decide"] is False
    assert doors.decide(alias, card, "approve").status_code == 403
    assert doors.get(f"{OPERATIONS}/{card['id']}", rita).json()["approvals"] == []


@pytest.mark.parametrize(
    ("name", "role", "kind"),
    [("olga", "operator", "person"), ("adam", "admin", "person"), ("bot", "approver", "service")],
)
def test_who_is_no_approver_in_person_may_not_decide(doors: World, rita: str, name: str, role: str, kind: str) -> None:
    card = doors.waiting(rita)
    answer = doors.decide(doors.key(name, role, kind=kind), card, "approve")
    assert answer.status_code == 403
    assert doors.get(f"{OPERATIONS}/{card['id']}", rita).json()["stage"] == "planned"


def test_a_decision_names_the_plan_it_saw(doors: World, rita: str, bob: str) -> None:
    card = doors.waiting(rita)
    path = f"{APPROVALS}/{card['id']}/decision"
    body = {"decision": "approve", "reason": "Fine.", "plan_hash": card["plan"]}
    other = "0" * 64
    missing = doors.post(path, bob, body)
    anything = doors.post(path, bob, body, If_Match="*")
    mixed = doors.post(path, bob, body, If_Match=f'"{other}"')
    stale = doors.post(path, bob, {**body, "plan_hash": other}, If_Match=f'"{other}"')
    assert (missing.status_code, missing.json()["code"]) == (428, "precondition-required")
    assert anything.status_code == 428
    assert (mixed.status_code, mixed.json()["code"]) == (412, "plan-changed")
    assert (stale.status_code, stale.json()["code"]) == (412, "plan-changed")
    assert doors.get(f"{OPERATIONS}/{card['id']}", rita).json()["approvals"] == []


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"reason": ""}, "reason"),
        ({"reason": "   "}, "reason"),
        ({"reason": None}, "reason"),
        ({"decision": "yes"}, "decision"),
        ({"decision": True}, "decision"),
        ({"plan_hash": "abc"}, "plan_hash"),
        ({"approver": "bob"}, "approver"),
    ],
)
def test_a_malformed_decision_is_no_decision(
    doors: World, rita: str, bob: str, change: dict[str, object], field: str
) -> None:
    card = doors.waiting(rita)
    body = {"decision": "approve", "reason": "Fine.", "plan_hash": card["plan"], **change}
    answer = doors.post(f"{APPROVALS}/{card['id']}/decision", bob, body, If_Match=f'"{card["plan"]}"')
    assert (answer.status_code, answer.json()["field"]) == (422, field)
    assert doors.get(f"{OPERATIONS}/{card['id']}", rita).json()["stage"] == "planned"


def test_a_decision_on_what_does_not_exist_is_404(doors: World, bob: str) -> None:
    card = {"id": "op_00000000000000000000000000", "plan": "0" * 64}
    assert doors.decide(bob, card, "approve").status_code == 404


def test_two_people_together_make_a_quorum_and_one_twice_does_not(doors: World, bob: str) -> None:
    rosa, eve = doors.key("rosa", "requester"), doors.key("eve", "approver")
    alias = doors.key("bob-two", "approver", person="bob")
    request = {**CHANGE_LEVEL, "systems": ["triad-vault"]}
    ident = doors.submit(rosa, request)["id"]
    doors.until(ident, rosa, "plan.proposed")
    card = doors.get(f"{APPROVALS}/{ident}", bob).json()
    assert (card["tier"], card["quorum"], card["assent"]) == (3, 2, True)
    assert doors.decide(bob, card, "approve").json()["missing_approvals"] == 1
    for voice in (bob, alias):
        twice = doors.decide(voice, card, "approve")
        assert (twice.status_code, twice.json()["articles"]) == (403, ["article-5"])
    assert doors.get(f"{OPERATIONS}/{ident}", rosa).json()["stage"] == "planned"
    assert doors.decide(eve, card, "approve").status_code == 200
    found = doors.ended(ident, rosa)
    assert found["stage"] == "completed", found["reasons"]
    assert found["assented"] is True
    assert 'level = "warning"' in (doors.home / "vault.toml").read_text()


def test_an_approval_can_be_withdrawn_until_the_start(doors: World, bob: str) -> None:
    rosa, eve = doors.key("rosa", "requester"), doors.key("eve", "approver")
    ident = doors.submit(rosa, {**CHANGE_LEVEL, "systems": ["triad-vault"], "parameters": _to("error")})["id"]
    doors.until(ident, rosa, "plan.proposed")
    card = doors.get(f"{APPROVALS}/{ident}", bob).json()
    assert doors.decide(bob, card, "approve").status_code == 200
    not_mine = doors.post(f"{OPERATIONS}/{ident}/withdraw", eve, {"reason": "Not mine."})
    assert (not_mine.status_code, not_mine.json()["code"]) == (409, "not-withdrawable")
    withdrawn = doors.post(f"{OPERATIONS}/{ident}/withdraw", bob, {"reason": "Second thoughts."})
    assert withdrawn.json()["approvals"] == []
    assert doors.decide(eve, card, "approve").json()["stage"] == "planned"
    assert 'level = "error"' not in (doors.home / "vault.toml").read_text()


def _to(level: str) -> dict[str, object]:
    return {"changes": [{"path": ["logging", "level"], "value": level}]}


def test_the_list_shows_what_waits_and_what_the_caller_may_decide(doors: World, bob: str) -> None:
    rosa = doors.key("rosa", "requester")
    ident = doors.submit(rosa, {**CHANGE_LEVEL, "systems": ["triad-vault"], "parameters": _to("debug")})["id"]
    doors.until(ident, rosa, "plan.proposed")
    for_bob = doors.get(f"{APPROVALS}?mine=true", bob).json()["items"]
    for_rosa = doors.get(f"{APPROVALS}?mine=true", rosa).json()["items"]
    assert ident in {each["id"] for each in for_bob}
    assert ident not in {each["id"] for each in for_rosa}
    assert all(each["state"] == "pending" and each["yours"]["may_decide"] for each in for_bob)
    doors.post(f"{OPERATIONS}/{ident}/cancel", rosa, {"reason": "Enough."})
    everything = {each["id"]: each["state"] for each in doors.get(f"{APPROVALS}?state=all", bob).json()["items"]}
    assert everything[ident] == "ended"
    assert ident not in {each["id"] for each in doors.get(APPROVALS, bob).json()["items"]}
