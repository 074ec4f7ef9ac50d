"""API keys: made, listed and revoked by an admin in person; each act is an entry."""

import re
from typing import Annotated, Final

from fastapi import APIRouter, Depends
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from api.answers import answer, unless_known
from api.auth import Caller
from api.body import Asked, asked, described
from api.governance import KeyMade, Keys, KeyView
from api.retention import NewKey
from api.service import Doors, Service
from api.views import V1
from operations.canonical import now
from operations.errors import Conflict, InvalidRequest, LedgerUnavailable, NotFound
from operations.events import KeyCreated, KeyRevoked
from operations.model import Principal, PrincipalKind
from operations.policy import Action, Resource
from storage.keys import ApiKey, fingerprint
from storage.personal import PersonalField
from triad.law import actor_of

router = APIRouter(prefix=f"{V1}/keys", tags=["keys"])

_KEYS: Final = Resource(kind="keys", id="keys")
_FINGERPRINT: Final = re.compile(r"[0-9a-f]{16}", re.ASCII)


@router.post(
    "",
    status_code=201,
    response_model=KeyMade,
    openapi_extra=described(
        NewKey,
        {"principal": "alice", "kind": "person", "person": "alice", "roles": ["requester", "approver"]},
        repeatable=False,
    ),
)
async def create(received: Annotated[Asked[NewKey], Depends(asked(NewKey))], doors: Doors) -> Response:
    """Make a key. It is shown in this answer and never again, which is why no Idempotency-Key keeps the answer."""
    body = received.value
    await doors.triad.law.demand(received.caller, Action.MANAGE_KEYS, _KEYS)
    subject = Principal(
        id=body.principal, kind=PrincipalKind(body.kind), roles=frozenset(body.roles), person=body.person
    )
    if body.expires is not None and body.expires <= now():
        raise InvalidRequest("invalid-field", "expires: must lie in the future.", field="expires")
    for key in await doors.keys.all():
        if key.subject.id == subject.id and (key.subject.person, key.subject.kind) != (subject.person, subject.kind):
            raise Conflict("principal-differs", "That principal stands for another person or is of another kind.")
    known = {PersonalField.NAME: body.name, PersonalField.EMAIL: body.email}
    values = {field: value for field, value in known.items() if value is not None}
    if values:  # before the key: a key that was made is shown, whatever happens
        await doors.privacy.keep(received.caller, subject.id, values)
    plaintext = await _recorded(doors, received.caller, subject, body)
    made = KeyMade(key=plaintext, fingerprint=fingerprint(plaintext), principal=subject.id, expires=body.expires)
    return answer(made, status=201, headers={"Location": f"{V1}/keys/{made.fingerprint}"})


async def _recorded(doors: Service, caller: Principal, subject: Principal, body: NewKey) -> str:
    """Make a key that counts only together with its entry."""
    plaintext = await doors.keys.create(subject, body.expires)
    event = KeyCreated(subject=subject.id, roles=tuple(sorted(subject.roles)), fingerprint=fingerprint(plaintext))
    try:
        await doors.triad.ledger.note(event, actor_of(caller))
    except LedgerUnavailable:
        await doors.keys.revoke(event.fingerprint)
        raise
    return plaintext


@router.get("", response_model=Keys)
async def keys(caller: Caller, doors: Doors, request: HttpRequest) -> Response:
    """Every key there ever was, without its secret."""
    sight = await doors.sight(caller)
    sight.decide(Action.READ, _KEYS).raise_if_denied()
    names = await doors.people.names()
    items = tuple(_view(key, names.get(key.subject.id)) for key in await doors.keys.all())
    return unless_known(request, answer(Keys(items=items)))


@router.delete("/{name}", status_code=204)
async def revoke(name: str, caller: Caller, doors: Doors) -> Response:
    """Make a key invalid at once, streams that were opened with it included.

    The entry comes first. If the service dies before the key is invalid, the sweep at the next start makes it so, and
    that of any other process within a minute.
    """
    await doors.triad.law.demand(caller, Action.MANAGE_KEYS, _KEYS)
    if not _FINGERPRINT.fullmatch(name):
        raise NotFound("unknown-key", "There is no valid key of that fingerprint.")
    async with doors.keys.revoking(name) as subject:
        await doors.triad.ledger.note(KeyRevoked(subject=subject.id, fingerprint=name), actor_of(caller))
    return Response(status_code=204)


def _view(key: ApiKey, name: str | None) -> KeyView:
    return KeyView(
        fingerprint=key.fingerprint,
        principal=key.subject.id,
        name=name,
        kind=key.subject.kind,
        person=key.subject.person,
        roles=tuple(sorted(key.subject.roles)),
        created=key.created,
        expires=key.expires,
        revoked=key.revoked,
    )
