"""What is personal about people: kept, shown and erased by admins, and by everybody for themselves.

No answer here is kept for an Idempotency-Key: it would keep the values too.
"""

from typing import Annotated, Final

from fastapi import APIRouter, Depends, Path
from starlette.responses import Response

from api.answers import answer
from api.auth import Caller
from api.body import Asked, asked, described
from api.retention import ErasureView, NewPersonal, OpeningView, People, PersonalValue, PersonView
from api.schemas import Reasoned
from api.service import Doors, Service
from api.views import V1
from operations.errors import InvalidRequest, NotFound
from operations.model import Principal, PrincipalId
from operations.policy import Action, Resource
from storage.personal import Datum, PersonalField

router = APIRouter(prefix=f"{V1}/people", tags=["people"])

Subject = Annotated[PrincipalId, Path(description="the handle that the ledger knows them by")]

_NOT_STORED: Final = {"Cache-Control": "no-store"}


@router.get("", response_model=People)
async def people(caller: Caller, doors: Doors) -> Response:
    """Everybody about whom something is kept."""
    found: dict[str, list[Datum]] = {}
    for datum in await doors.privacy.all(caller):
        found.setdefault(datum.subject, []).append(datum)
    items = tuple(person_view(subject, tuple(data)) for subject, data in found.items())
    return answer(People(items=items), headers=_NOT_STORED)


@router.get("/{subject}", response_model=PersonView)
async def person(subject: Subject, caller: Caller, doors: Doors) -> Response:
    """What is kept about somebody."""
    return answer(person_view(subject, await doors.privacy.of(caller, subject)), headers=_NOT_STORED)


@router.post(
    "/{subject}",
    response_model=PersonView,
    openapi_extra=described(NewPersonal, {"name": "Ada Lovelace", "email": "ada@example.org"}, repeatable=False),
)
async def keep(
    subject: Subject, received: Annotated[Asked[NewPersonal], Depends(asked(NewPersonal))], doors: Doors
) -> Response:
    """Keep something about somebody. An older value of the same field is deleted with its salt."""
    values = chosen(received.value)
    if not values:
        raise InvalidRequest("invalid-field", "name: give at least one of name, email and contact.", field="name")
    if not received.value.new or "@" in subject:
        await _known(doors, received.caller, subject)
    kept = await doors.privacy.keep(received.caller, subject, values)
    return answer(person_view(subject, kept), headers=_NOT_STORED)


@router.get("/{subject}/{field}/proof", response_model=OpeningView)
async def opening(subject: Subject, field: str, caller: Caller, doors: Doors) -> Response:
    """What proves that the ledger's commitment held exactly this value: value and salt."""
    if field not in set(PersonalField):
        raise NotFound("nothing-kept", "Nothing of that kind is kept about anybody.")
    found = await doors.privacy.opening(caller, subject, PersonalField(field))
    return answer(OpeningView.model_validate(found.model_dump(mode="json")), headers=_NOT_STORED)


@router.post(
    "/{subject}/erasure",
    response_model=ErasureView,
    openapi_extra=described(Reasoned, {"reason": "Left the company, asked for it."}, repeatable=False),
)
async def erase(
    subject: Subject, received: Annotated[Asked[Reasoned], Depends(asked(Reasoned))], doors: Doors
) -> Response:
    """Erase everything that is kept about somebody, for good. The ledger keeps the handle and closed commitments."""
    done = await doors.privacy.erase(received.caller, subject, received.value.reason)
    return answer(ErasureView(subject=subject, entries=done.entries, commitments=done.commitments, values=done.values))


def chosen(body: NewPersonal) -> dict[PersonalField, str]:
    """The values that were given."""
    given = body.model_dump(exclude_none=True, exclude={"new"})
    return {PersonalField(name): value for name, value in given.items()}


async def _known(doors: Service, caller: Principal, subject: str) -> None:
    """Refuse a handle that belongs to nobody, to whoever may ask about it: what it names stays for ever.

    Raises:
        NotFound: `unknown-subject`.
    """
    sight = await doors.sight(caller)
    if not sight.decide(Action.MANAGE_KEYS, Resource(kind="keys", id=subject)).allowed:
        return  # whoever may not is refused, on the record, by what follows
    keys = await doors.keys.all()
    if any(subject in {key.subject.id, key.subject.person} for key in keys) or await doors.people.of(subject):
        return
    raise NotFound("unknown-subject", "No key belongs to that handle, and nothing is kept about it.")


def person_view(subject: str, data: tuple[Datum, ...]) -> PersonView:
    """What is kept about somebody, without salts."""
    values = tuple(
        PersonalValue(field=each.field.value, value=each.value, commitment=each.commitment, index=each.index)
        for each in data
    )
    return PersonView(subject=subject, values=values)
