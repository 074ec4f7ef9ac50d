"""The doors themselves: strangers, paths, methods, headers, the document that describes them, the pages of problems."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from api.app import create_app
from api.codes import CODES
from api.document import errors_page, routes_page, settings_page
from api.settings import load_settings
from storage.embedded import Embedded
from tests.doors import World, world

ROOT = Path(__file__).parent.parent
PUBLIC = {"/livez", "/readyz", "/health", "/api/v1/version", "/problems/{code}"}
ROUTES = sorted(
    (method.upper(), path)
    for path, methods in create_app(load_settings(folder=Path("/")), lambda _key: None).openapi()["paths"].items()
    for method in methods
)
REQUIRED = {
    ("GET", "/health"),
    ("GET", "/livez"),
    ("GET", "/readyz"),
    ("GET", "/constitutional-health"),
    ("GET", "/monitoring/stream"),
    ("GET", "/api/verification/audit"),
    ("POST", "/api/v1/operations"),
    ("POST", "/api/v1/approvals/{ident}/decision"),
}


@pytest.fixture(scope="module")
def doors(cluster: Embedded, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(cluster, tmp_path_factory.mktemp("doors")) as made:
        yield made


def concrete(path: str) -> str:
    return re.sub(r"\{\w+\}", "op_00000000000000000000000000", path)


def test_the_required_paths_are_there() -> None:
    assert set(ROUTES) >= REQUIRED


@pytest.mark.parametrize(("method", "path"), [route for route in ROUTES if route[1] not in PUBLIC])
@pytest.mark.parametrize(
    "credentials",
    [None, "Bearer triad_" + "A" * 43, "Bearer x", "Basic YWRtaW46YWRtaW4=", "triad_" + "A" * 43],
    ids=["none", "unknown", "short", "basic", "bare"],
)
def test_a_stranger_gets_nothing(doors: World, method: str, path: str, credentials: str | None) -> None:
    before = doors.marks()
    headers = {"Authorization": credentials} if credentials else {}
    answer = doors.call(method, concrete(path), None, b"{not even json" if method == "POST" else None, **headers)
    assert answer.status_code == 401
    assert answer.json()["code"] == "unauthenticated"
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert doors.marks() == before


@pytest.mark.parametrize(("method", "path"), [route for route in ROUTES if route[1] in PUBLIC])
def test_what_is_public_answers_strangers(doors: World, method: str, path: str) -> None:
    assert doors.call(method, path.replace("{code}", "plan-changed")).status_code == 200


@pytest.mark.parametrize(
    "path", ["/", "/nothing", "/docs", "/redoc", "/api/v1/operations/", "/%00", "/..%2f..%2fetc", "/" + "x" * 9000]
)
def test_what_is_not_there_is_a_problem(doors: World, path: str) -> None:
    answer = doors.get(path)
    assert (answer.status_code, answer.json()["code"]) == (404, "not-found")
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("method", "path"), [("PUT", "/api/v1/operations"), ("DELETE", "/health"), ("PATCH", "/api/v1/halt")]
)
def test_another_method_is_a_problem_that_names_the_right_ones(doors: World, method: str, path: str) -> None:
    answer = doors.call(method, path)
    assert (answer.status_code, answer.json()["code"]) == (405, "method-not-allowed")
    assert answer.headers["allow"]


@pytest.mark.parametrize("path", ["/livez", "/nothing", "/api/v1/me", "/health", "/openapi.json"])
def test_every_answer_has_its_id_the_constitution_and_the_safe_headers(doors: World, path: str) -> None:
    first, second = doors.get(path), doors.get(path)
    assert re.fullmatch(r"[0-9a-f]{32}", first.headers["x-request-id"])
    assert first.headers["x-request-id"] != second.headers["x-request-id"]
    assert re.fullmatch(r"[0-9a-f]{64}", first.headers["x-constitutional-hash"])
    assert first.headers["cache-control"] == "no-store"
    assert first.headers["x-content-type-options"] == "nosniff"
    assert first.headers["content-security-policy"].startswith("default-src 'none'")
    assert "server" not in first.headers


def test_the_document_is_whole(doors: World) -> None:
    document = doors.get("/openapi.json").json()
    assert document["openapi"] == "3.2.0"
    schemas = document["components"]["schemas"]
    text = str(document)
    assert set(re.findall(r"#/components/schemas/([A-Za-z0-9_]+)", text)) <= set(schemas)
    assert "HTTPValidationError" not in text
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert operation["summary"], (method, path)
            assert operation["description"], (method, path)
            assert "application/problem+json" in operation["responses"]["default"]["content"]
            if path not in PUBLIC:
                assert operation["security"], (method, path)
            if method == "post":
                assert operation["requestBody"]["content"]["application/json"]["examples"], path


@pytest.mark.parametrize("code", CODES)
def test_every_problem_has_a_page_that_says_what_to_do_next(doors: World, code: str) -> None:
    answer = doors.get(f"/problems/{code}")
    assert answer.headers["content-type"].startswith("text/markdown")
    assert CODES[code].next in answer.text
    page = doors.get(f"/problems/{code}", Accept="text/html")
    assert page.headers["content-type"].startswith("text/html")
    assert "<script" not in page.text


RAISED = re.compile(
    r'(?:NotAllowed|NotFound|Conflict|InvalidRequest|Rejection|_conflict|problem|raise_refused)\(\s*(?:\w+,\s*){0,4}"([a-z][a-z-]+)"'
)
REACHABLE = (
    *sorted((ROOT / "api").glob("*.py")),
    *sorted((ROOT / "api" / "routes").glob("*.py")),
    ROOT / "triad" / "petitions.py",
    ROOT / "triad" / "regency.py",
    ROOT / "triad" / "law.py",
    ROOT / "operations" / "playbook.py",
    ROOT / "storage" / "idempotency.py",
    ROOT / "storage" / "keys.py",
)


@pytest.mark.parametrize("path", REACHABLE, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_code_that_an_answer_can_carry_is_in_the_table(path: Path) -> None:
    raised = set(RAISED.findall(path.read_text()))
    assert raised - {"duplicate-playbook", "not-reversible"} <= set(CODES)


def test_the_documentation_is_what_the_code_says() -> None:
    assert (ROOT / "docs" / "api" / "errors.md").read_text() == errors_page()
    assert (ROOT / "docs" / "api" / "routes.md").read_text() == routes_page()
    assert (ROOT / "docs" / "operations" / "settings.md").read_text() == settings_page()
