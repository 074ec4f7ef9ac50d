from collections.abc import AsyncIterator
from datetime import timedelta

import asyncpg
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from operations.canonical import now, sha256
from operations.errors import NotFound
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
