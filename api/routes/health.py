"""Whether it lives, whether it is ready, how it is, and whether the constitution is really enforced."""

from datetime import timedelta
from typing import Annotated, Final, Literal

from fastapi import APIRouter, Query
from starlette.responses import PlainTextResponse, Response

from api.auth import Caller
from api.governance import ConstitutionalHealth, Health, HealthCheck
from api.selftest import self_test
from api.service import RUNBOOK, Doors, Service
from api.settings import VERSION
from operations.canonical import Digest, now
from operations.constitution import document_digest
from operations.errors import ConstitutionChanged, ConstitutionInvalid, LedgerUnavailable
from storage.reader import Head
from triad.witnesses import complaint

router = APIRouter(tags=["health"])

_BUSY: Final = 100
"""Operations waiting for a worker from which on that is worth a warning."""
_WINDOW: Final = 10_000
_DENIALS: Final = frozenset({"auth.denied", "warrant.denied"})


@router.head("/livez", include_in_schema=False)
@router.get("/livez", response_class=PlainTextResponse)
async def livez() -> Response:
    """200 while the process answers."""
    return PlainTextResponse("ok\n")


@router.head("/readyz", include_in_schema=False)
@router.get("/readyz", response_class=PlainTextResponse, responses={503: {"description": "Not ready."}})
async def readyz(
    doors: Doors, *, verbose: Annotated[bool, Query(description="one line for each thing looked at")] = False
) -> Response:
    """200 while operations can be recorded and worked on. What a witness refuses makes only `/health` fail."""
    checks = await _checks(doors)
    ready = all(check.status != "fail" for name, check in checks.items() if name != "witnesses")
    lines = [f"{name}: {check.status} ({check.output})" for name, check in checks.items()] if verbose else []
    return PlainTextResponse("\n".join([*lines, "ready" if ready else "not ready", ""]), 200 if ready else 503)


@router.head("/health", include_in_schema=False)
@router.get("/health", response_model=Health, responses={503: {"model": Health}})
async def health(doors: Doors) -> Response:
    """How it is, in one sentence and by parts (application/health+json)."""
    checks = await _checks(doors)
    grades = [check.status for check in checks.values()]
    status: Literal["pass", "warn", "fail"] = "fail" if "fail" in grades else "warn" if "warn" in grades else "pass"
    wrong = [check.output for check in checks.values() if check.status != "pass"]
    summary = " ".join(wrong) if wrong else "Everything works: the ledger records and the worker works."
    view = Health(status=status, summary=summary, version=VERSION, checks=checks)
    return Response(
        view.model_dump_json(), status_code=503 if status == "fail" else 200, media_type="application/health+json"
    )


async def _checks(doors: Service) -> dict[str, HealthCheck]:
    head = await _head(doors)
    return {
        "ledger": _check(head is not None, "The ledger records.", "The ledger cannot be read."),
        "constitution": _check(
            _intact(doors), "The constitution is the one in force.", "The constitution on disk is not the one in force."
        ),
        "verification": _verification(doors),
        "worker": _worker(doors),
        "witnesses": await _witnesses(doors),
        "halt": HealthCheck(
            status="warn" if head and head.halted else "pass",
            output="Everything is halted." if head and head.halted else "Nothing is halted.",
        ),
    }


def _check(good: bool, yes: str, no: str) -> HealthCheck:  # noqa: FBT001 - a two-way choice is what it is
    return HealthCheck(status="pass" if good else "fail", output=yes if good else no)


async def _head(doors: Service) -> Head | None:
    try:
        return await doors.triad.ledger.head()
    except LedgerUnavailable:
        return None


def _intact(doors: Service) -> bool:
    try:
        doors.triad.law.in_force()
    except (ConstitutionChanged, ConstitutionInvalid):
        return False
    return True


async def _witnesses(doors: Service) -> HealthCheck:
    peers = doors.witnesses.peers
    if not peers:
        return HealthCheck(status="pass", output="No witness is asked.")
    try:
        found = [await doors.triad.ledger.standing(peer) for peer in peers]
    except LedgerUnavailable:
        return HealthCheck(status="warn", output="What the witnesses say cannot be read.")
    wrong = " ".join(each for each in (complaint(one, now()) for one in found) if each is not None)
    if any(each.refused for each in found):
        return HealthCheck(status="fail", output=f"{wrong} See {RUNBOOK}.")
    return HealthCheck(status="warn" if wrong else "pass", output=wrong or "The witnesses cosign.")


def _verification(doors: Service) -> HealthCheck:
    wrong, last = doors.broken(), doors.auditor.last
    if wrong is not None:
        return HealthCheck(status="fail", output=wrong)
    if last is None:
        return HealthCheck(status="pass", output="The ledger was not verified since the start.")
    if not last.intact:
        return HealthCheck(status="warn", output=f"The last verification could not be done (code {last.code}).")
    return HealthCheck(
        status="pass", output=f"{last.size} entries were verified at {last.verified:%Y-%m-%d %H:%M:%S} UTC."
    )


def _worker(doors: Service) -> HealthCheck:
    if doors.worker.done():
        return HealthCheck(status="fail", output="The worker has stopped.")
    if doors.triad.worker.queued > _BUSY:
        return HealthCheck(status="warn", output="Operations wait for the worker.")
    return HealthCheck(status="pass", output="The worker works.")


@router.get(
    "/constitutional-health", response_model=ConstitutionalHealth, responses={503: {"model": ConstitutionalHealth}}
)
async def constitutional_health(caller: Caller, doors: Doors) -> Response:
    """Whether the document on disk is the one in force, and whether its rules answer as they must when asked."""
    del caller
    head = await doors.triad.ledger.head()
    on_disk = _on_disk(doors)
    document = doors.triad.law.in_force() if on_disk == head.constitution else None
    tests = self_test(doors.triad, document) if document else ()
    good = bool(tests) and all(test.passed for test in tests)
    view = ConstitutionalHealth(
        status="pass" if good else "fail",
        in_force=head.constitution,
        on_disk=on_disk,
        articles=len(document.articles) if document else 0,
        enforced=sum(1 for each in document.articles if each.enforced) if document else 0,
        policies=len(document.policies) if document else 0,
        mode=doors.triad.law.mode,
        halted=head.halted,
        self_test=tests,
        denials_24h=await _denials(doors, head.size),
    )
    return Response(view.model_dump_json(), status_code=200 if good else 503, media_type="application/json")


def _on_disk(doors: Service) -> Digest | None:
    try:
        return document_digest(doors.triad.statute.path.read_bytes())
    except (OSError, ConstitutionInvalid):
        return None


async def _denials(doors: Service, size: int) -> int:
    since = now() - timedelta(hours=24)
    found = await doors.triad.ledger.entries(after=size - 1 - _WINDOW, kinds=_DENIALS, limit=_WINDOW)
    return sum(1 for entry in found if entry.time >= since)
