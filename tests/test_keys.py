import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import asyncpg
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from operations.canonical import now, sha256
from operations.errors import Conflict, NotFound
from operations.model import Principal, PrincipalKind, Role
from storage.engine import make_engine
from storage.keys import ApiKeys, fingerprint
from tests.conftest import Database

pytestmark = pytest.mark.anyio

ANA = Principal(
    id="ana", kind=PrincipalKind.PERSON, roles=frozenset({Role.APPROVER, Role.REQUESTER}), person="person:ana"
)


@pytest.fixture
async def keys(database: Database) -> AsyncIterator[ApiKeys]:
    engine: AsyncEngine = make_engine(database.app)
    yield ApiKeys(engine)
    await engine.dispose()


async def test_a_key_speaks_for_its_principal_with_all_its_roles(keys: ApiKeys) -> None:
    plaintext = await keys.create(ANA)
    assert plaintext.startswith("triad_")
    assert len(plaintext) == len("triad_") + 43
    assert await keys.find(plaintext) == ANA


async def test_only_the_digest_of_a_key_is_stored(keys: ApiKeys, database: Database) -> None:
    plaintext = await keys.create(ANA)
    connection = await asyncpg.connect(database.app)
    rows = await connection.fetch("SELECT api_key::text AS whole, digest FROM api_key")
    await connection.close()
    assert [row["digest"] for row in rows] == [sha256(plaintext.encode())]
    assert plaintext.removeprefix("triad_") not in rows[0]["whole"]


@pytest.mark.parametrize("wrong", ["", "triad_", "triad_" + "A" * 43, "triad_" + "A" * 42 + "\n", "triad_" + "é" * 43])
async def test_an_unknown_or_malformed_key_speaks_for_nobody(keys: ApiKeys, wrong: str) -> None:
    await keys.create(ANA)
    assert await keys.find(wrong) is None


async def test_an_expired_key_speaks_for_nobody(keys: ApiKeys) -> None:
    assert await keys.find(await keys.create(ANA, now() - timedelta(seconds=1))) is None
    assert await keys.find(await keys.create(ANA, now() + timedelta(hours=1))) == ANA


async def test_a_revoked_key_speaks_for_nobody_and_cannot_be_revoked_twice(keys: ApiKeys) -> None:
    plaintext, other = await keys.create(ANA), await keys.create(ANA)
    assert await keys.revoke(fingerprint(plaintext)) == ANA
    assert await keys.find(plaintext) is None
    assert await keys.find(other) == ANA
    with pytest.raises(NotFound, match="unknown-key"):
        await keys.revoke(fingerprint(plaintext))


async def test_keys_are_counted_and_listed_without_their_secret(keys: ApiKeys) -> None:
    assert await keys.count() == 0
    plaintext = await keys.create(ANA)
    assert await keys.count() == 1
    (shown,) = await keys.all()
    assert (shown.fingerprint, shown.subject, shown.revoked) == (fingerprint(plaintext), ANA, None)


ADMINS = [
    Principal(id=name, kind=PrincipalKind.PERSON, roles=frozenset({Role.ADMIN}), person=name) for name in ("uma", "ugo")
]
ROBOT = Principal(id="robot", kind=PrincipalKind.SERVICE, roles=frozenset({Role.ADMIN}), person="uma")


async def test_of_two_admins_who_revoke_each_other_at_once_one_remains(keys: ApiKeys, database: Database) -> None:
    made = [await keys.create(admin) for admin in ADMINS]
    within: list[str] = []
    watching = await asyncpg.connect(database.app)
    waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"

    async def revoke(plaintext: str) -> None:
        engine = make_engine(database.app)  # as another process would
        try:
            async with ApiKeys(engine).revoking(fingerprint(plaintext)):
                within.append(plaintext)
                async with asyncio.timeout(30):
                    while len(within) < 2 and not await watching.fetchval(waiting):  # noqa: ASYNC110 - the database tells no event
                        await asyncio.sleep(0)
        finally:
            await engine.dispose()

    done = await asyncio.gather(*map(revoke, made), return_exceptions=True)
    await watching.close()
    (refused,) = [each for each in done if each is not None]
    assert isinstance(refused, Conflict)
    assert refused.code == "last-admin-key"
    assert sorted([await keys.find(plaintext) is None for plaintext in made]) == [False, True]


async def test_a_services_key_does_not_make_up_for_the_last_admins(keys: ApiKeys) -> None:
    mine, _ = await keys.create(ADMINS[0]), await keys.create(ROBOT)
    with pytest.raises(Conflict, match="last-admin-key"):
        async with keys.revoking(fingerprint(mine)):
            pass
    assert await keys.find(mine) == ADMINS[0]


async def test_what_fails_while_it_is_recorded_revokes_nothing(keys: ApiKeys) -> None:
    made = await keys.create(ANA)
    with pytest.raises(ZeroDivisionError):
        async with keys.revoking(fingerprint(made)):
            raise ZeroDivisionError
    assert await keys.find(made) == ANA
    async with keys.revoking(fingerprint(made)) as subject:
        assert subject == ANA
    assert await keys.find(made) is None
    with pytest.raises(NotFound, match="unknown-key"):
        async with keys.revoking(fingerprint(made)):
            pass
