"""Rotation of the log's own key: nothing is lost, every entry carries the right key, and a cut-off one is finished."""

import asyncio
import contextlib
import json
import shutil
import sys
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from itertools import count, pairwise
from pathlib import Path

import asyncpg
import pytest

from api.cli.ledgers import log_keys
from api.settings import Ledger as LedgerSettings
from api.settings import Settings
from operations import events
from operations.errors import Conflict, LedgerUnavailable
from operations.model import Actor, Branch, Principal, PrincipalKind, Role
from storage.batch import Batch, HeadRow, Lost
from storage.draft import Draft, HeadChange, Unit, head_change
from storage.entry import Entry
from storage.ledger import Ledger
from storage.signer import Signer
from storage.succession import KeyPeriod
from storage.verifier.checkpoint import Checkpoint, NoteUnverified, VerifierKey, parse_note, verify_note
from storage.verifier.policy import Policy
from tests.conftest import ORIGIN, Database
from tests.key_rotation_crashes import MOMENTS
from tests.samples import sample_catalogue, sample_inventory
from triad.assembly import Blueprint, assembled
from triad.home import Home

pytestmark = pytest.mark.anyio

ADA = Actor(principal="ada", branch=Branch.PEOPLE)
WRITERS = 8
FILES = ["ledger.key", "ledger.key.head", "ledger.key.head.lock", "ledger.key.history", "ledger.key.rotating.lock"]


def signer_of(folder: Path) -> Signer:
    return Signer.load_or_create(folder / "ledger.key", ORIGIN)


def files_of(folder: Path) -> dict[str, str]:
    """The content of every file but drafts that a killed process left, which are asserted to be nobody else's."""
    files = [path for path in folder.iterdir() if path.is_file() and not path.name.startswith(".ledger.key.h")]
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in files)
    return {path.name: path.read_text() for path in files}


def denied(what: str = "x") -> events.AccessDenied:
    return events.AccessDenied(action=what, code="no", reasons=())


async def rotate(ledger: Ledger, reason: str = "Routine.") -> int:
    return (await ledger.rotate_key(ADA, person="ada", reason=reason)).index


async def everything(ledger: Ledger) -> list[Entry]:
    return [Entry.decode(data) for _, data in await ledger.raw(limit=10_000)]


def assert_keys_are_right(entries: list[Entry], periods: tuple[KeyPeriod, ...]) -> None:
    for before, after in pairwise(periods):
        assert before.until is not None
        assert after.since == before.until + 1
    for entry in entries:
        [due] = [p.id for p in periods if p.since <= entry.index and (p.until is None or entry.index <= p.until)]
        assert entry.key == due, entry.index


async def signers_at(ledger: Ledger, size: int) -> set[str]:
    note = await ledger.checkpoint(size)
    text = parse_note(note)
    assert Checkpoint.parse(text.text).size == size
    keys = [period.key for period in await ledger.keys()]
    verified = verify_note(note, *keys)
    assert len(verified.signatures) == len(text.signatures)
    return {signature.key_id.hex() for signature in verified.signatures}


async def test_the_entries_after_a_rotation_carry_the_new_key_and_both_sign_the_checkpoint_over_it(
    ledger: Ledger, tmp_path: Path
) -> None:
    old = (tmp_path / "ledger.key").read_text()
    await ledger.note(denied(), ADA)
    rotation = await ledger.rotate_key(ADA, person="ada", reason="Routine.")
    await ledger.note(denied(), ADA)
    first, second = await ledger.keys()
    assert (first.since, first.until, second.since, second.until) == (0, rotation.index, rotation.index + 1, None)
    assert (first.vkey, second.vkey) == (rotation.previous, rotation.key)
    assert (first.reason, first.person, first.compromised) == ("Routine.", "ada", False)
    assert_keys_are_right(await everything(ledger), (first, second))
    assert await signers_at(ledger, rotation.index) == {first.id}
    assert await signers_at(ledger, rotation.index + 1) == {first.id, second.id}
    assert await signers_at(ledger, rotation.index + 2) == {second.id}
    assert rotation.destroyed
    assert (tmp_path / "ledger.key").read_text() != old
    kept = files_of(tmp_path)
    assert sorted(kept) == FILES
    assert kept["ledger.key.history"] == f"{first.vkey}\n"


@pytest.fixture
async def second(ledger: Ledger, database: Database, tmp_path: Path) -> AsyncIterator[Ledger]:
    """What another process of the same home has open."""
    opened = await Ledger.open(database.app, signer_of(tmp_path), origin=ORIGIN)
    try:
        yield opened
    finally:
        await opened.close()


async def test_eight_writers_in_two_processes_lose_nothing_while_the_key_is_rotated(
    ledger: Ledger, second: Ledger
) -> None:
    written = asyncio.Event()
    done = asyncio.Event()
    said: list[str] = []

    async def write(by: Ledger, name: int) -> None:
        for number in count():
            await by.note(denied(f"{name}-{number}"), ADA)
            said.append(f"{name}-{number}")
            written.set()
            if done.is_set():
                return

    writers = [asyncio.create_task(write((ledger, second)[name % 2], name)) for name in range(WRITERS)]
    indexes = []
    for turn in range(6):
        written.clear()
        await written.wait()
        indexes.append(await rotate((ledger, second)[turn % 2]))
    done.set()
    await asyncio.gather(*writers)

    entries, periods = await everything(ledger), await ledger.keys()
    assert Counter(entry.event.action for entry in entries if isinstance(entry.event, events.AccessDenied)) == Counter(
        said
    )
    assert [period.until for period in periods] == [*indexes, None]
    assert len({period.id for period in periods}) == len(indexes) + 1
    assert_keys_are_right(entries, periods)


async def test_every_checkpoint_is_signed_by_the_key_in_force_under_it(
    ledger: Ledger, second: Ledger, database: Database
) -> None:
    for turn in range(3):
        await asyncio.gather(*(by.note(denied(), ADA) for by in (ledger, second) for _ in range(3)))
        await rotate((ledger, second)[turn % 2])
    connection = await asyncpg.connect(database.superuser)
    try:
        sizes = [row["size"] for row in await connection.fetch("SELECT size FROM ledger_checkpoint")]
    finally:
        await connection.close()
    periods = await ledger.keys()
    assert {period.until + 1 for period in periods if period.until is not None} <= set(sizes)
    for size in sizes:
        due = {p.id for p in periods if p.since < size and (p.until is None or size <= p.until + 1)}
        ends = {
            p.id for p in periods if p.since == size
        }  # the next one signs the checkpoint before its first entry too
        assert await signers_at(ledger, size) == due | ends


async def test_a_draft_made_before_a_rotation_carries_the_key_in_force_where_it_lands(ledger: Ledger) -> None:
    rotation = asyncio.create_task(rotate(ledger))
    notes = [asyncio.create_task(ledger.note(denied(str(number)), ADA)) for number in range(20)]
    await asyncio.gather(rotation, *notes)
    assert_keys_are_right(await everything(ledger), await ledger.keys())


async def test_a_rotation_ends_its_batch_and_cannot_be_recorded_as_an_ordinary_entry(ledger: Ledger) -> None:
    key = (await ledger.keys())[0].vkey
    event = events.LogKeyRotated(previous=key, key=key, by="ada", person="ada", reason="Mine.")
    with pytest.raises(ValueError, match="no annotation"):
        await ledger.note(event, ADA)
    with pytest.raises(ValueError, match="last entry of its unit"):
        head_change((event, denied()))
    assert head_change((denied(), event)) is not None


async def test_two_rotations_at_once_are_one(ledger: Ledger, second: Ledger) -> None:
    answers = await asyncio.gather(rotate(ledger), rotate(second), return_exceptions=True)
    refused = [answer for answer in answers if isinstance(answer, BaseException)]
    assert all(isinstance(answer, Conflict) and answer.code == "rotation-under-way" for answer in refused)
    assert len(await ledger.keys()) == 1 + len(answers) - len(refused)
    assert len(refused) == 1


async def test_a_caller_that_goes_away_leaves_no_rotation_half_done(ledger: Ledger, tmp_path: Path) -> None:
    task = asyncio.create_task(rotate(ledger))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await ledger.close()
    kept = files_of(tmp_path)
    assert sorted(kept) == FILES
    assert len(kept["ledger.key.history"].splitlines()) == 1


async def test_the_thief_of_a_retired_key_is_refused_by_the_database_and_by_who_trusts_the_next(
    ledger: Ledger, database: Database, tmp_path: Path
) -> None:
    stolen = tmp_path / "stolen"
    stolen.mkdir()
    for name in ("ledger.key", "ledger.key.head"):
        shutil.copy(tmp_path / name, stolen / name)
    await rotate(ledger)
    old, new = await ledger.keys()
    size = (await ledger.head()).size

    thief = signer_of(stolen)
    assert thief.key_id == old.id
    connection = await asyncpg.connect(database.app)
    try:
        head = HeadRow.of(await connection.fetchrow("SELECT * FROM ledger_lock()"))
        assert head.key == new.id
        thief.check_extends(size, head.root, await ledger.consistency(thief.head.size, size))
        draft = Draft(denied("forged"), ADA, at=ledger.clock(), origin=ORIGIN)
        unit = Unit(drafts=(draft,), place=asyncio.get_running_loop().create_future())
        batch = Batch([unit], replace(head, key=old.id), thief)
        sent = await batch.send(connection, 5)
    finally:
        await connection.close()
    assert isinstance(sent, Lost)
    [answer] = sent.answers.values()
    assert isinstance(answer, Conflict)
    assert answer.code == "key-stale"
    assert (await ledger.head()).size == size

    note = thief.sign_checkpoint(Checkpoint(ORIGIN, size + 1, b"f" * 32))
    with pytest.raises(NoteUnverified):
        Policy.of([new.key]).judge(note)


async def test_the_database_takes_no_next_key_without_a_rotation_nor_a_rotation_without_the_next_key(
    ledger: Ledger, database: Database, tmp_path: Path
) -> None:
    [period] = await ledger.keys()
    event = events.LogKeyRotated(previous=period.vkey, key=period.vkey, by="ada", person="ada", reason="Mine.")
    connection = await asyncpg.connect(database.app)
    try:
        head = HeadRow.of(await connection.fetchrow("SELECT * FROM ledger_lock()"))
        signer = signer_of(tmp_path)
        signer.check_extends(head.size, head.root, await ledger.consistency(signer.head.size, head.size))
        for what, change in ((event, None), (denied(), HeadChange(key=signer.key_id))):
            draft = Draft(what, ADA, at=ledger.clock(), origin=ORIGIN)
            unit = Unit(drafts=(draft,), place=asyncio.get_running_loop().create_future(), change=change)
            with pytest.raises(asyncpg.PostgresError, match="names the next key exactly when"):
                await Batch([unit], head, signer).send(connection, 5)
    finally:
        await connection.close()
    assert (await ledger.head()).size == head.size


async def test_a_home_from_before_a_rotation_is_refused_with_what_to_do(
    ledger: Ledger, database: Database, tmp_path: Path
) -> None:
    backup = tmp_path / "backup"
    backup.mkdir()
    for name in ("ledger.key", "ledger.key.head"):
        shutil.copy(tmp_path / name, backup / name)
    await rotate(ledger)
    in_force = await ledger.key_in_force()
    with pytest.raises(LedgerUnavailable, match=rf"{in_force}.*docs/runbooks/log-key\.md"):
        await Ledger.open(database.app, signer_of(backup), origin=ORIGIN)


async def test_a_rotation_that_is_killed_at_any_moment_is_finished_by_the_next_process(
    ledger: Ledger, database: Database, tmp_path: Path
) -> None:
    await ledger.close()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.key_rotation_crashes", database.app, str(tmp_path / "ledger.key"), ORIGIN),
        cwd=Path(__file__).parent.parent,
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await process.communicate()
    assert process.returncode == 0
    lines = [json.loads(line) for line in said.splitlines()]
    assert len(lines) == len(MOMENTS) + 1
    for found in lines:
        assert found["file"] == found["in_force"] == found["keys"][-1]
        assert found["retired"] == []
    counts = [len(found["keys"]) for found in lines]
    assert counts == [1, 1, 1, 2, 3, 4, 5, 6]  # the first two moments lie before the entry

    async with contextlib.AsyncExitStack() as stack:
        last = await Ledger.open(database.app, signer_of(tmp_path), origin=ORIGIN)
        stack.push_async_callback(last.close)
        periods = await last.keys()
        assert_keys_are_right(await everything(last), periods)
        kept = files_of(tmp_path)
        assert sorted(kept) == FILES
        history = kept["ledger.key.history"].splitlines()
        assert history == [period.vkey for period in periods[:-1]]


def mounted(folder: Path, name: str) -> tuple[str, str]:
    """A reference to a key that somebody else made, and its id."""
    place = folder / "mounted" / name
    identity = Signer.load_or_create(place, ORIGIN).key_id
    place.chmod(0o444)
    return f"file:{place}", identity


def referring(folder: Path, current: str | None, following: str | None) -> Signer:
    return Signer.load_or_create(folder / "ledger.key", ORIGIN, current=current, following=following)


async def turned(database: Database, signer: Signer) -> str:
    """Open the log, rotate its key, and go on; returns the id of the key in force."""
    opened = await Ledger.open(database.app, signer, origin=ORIGIN)
    try:
        await rotate(opened)
        await opened.note(denied(), ADA)
        assert_keys_are_right(await everything(opened), await opened.keys())
        return await opened.key_in_force()
    finally:
        await opened.close()
        signer.close()


async def test_a_rotation_takes_the_next_reference_and_then_the_one_after_it(
    ledger: Ledger, database: Database, tmp_path: Path
) -> None:
    await ledger.close()
    (first, one), (second, two) = mounted(tmp_path, "a"), mounted(tmp_path, "b")
    assert await turned(database, referring(tmp_path, None, first)) == one
    assert "ledger.key" not in files_of(tmp_path)  # the file's private half is destroyed, the reference is only read
    assert await turned(database, referring(tmp_path, first, second)) == two
    assert await turned(database, referring(tmp_path, second, first)) == one
    with pytest.raises(Conflict, match="no-next-key"):
        await turned(database, referring(tmp_path, first, None))
    assert sorted(files_of(tmp_path)) == FILES[1:]


async def test_a_start_with_the_references_of_before_a_rotation_finds_the_key_in_force(
    ledger: Ledger, database: Database, tmp_path: Path
) -> None:
    await ledger.close()
    (first, _), (second, two) = mounted(tmp_path, "a"), mounted(tmp_path, "b")
    await turned(database, referring(tmp_path, None, first))
    await turned(database, referring(tmp_path, first, second))
    again = referring(tmp_path, first, second)
    opened = await Ledger.open(database.app, again, origin=ORIGIN)
    await opened.close()
    assert again.key_id == two
    with pytest.raises(LedgerUnavailable, match="no key here is that one"):
        await Ledger.open(database.app, referring(tmp_path, first, None), origin=ORIGIN)


async def test_a_next_key_that_others_can_read_is_refused_where_the_log_names_it(
    ledger: Ledger, second: Ledger, tmp_path: Path
) -> None:
    await rotate(ledger)
    exposed = tmp_path / "ledger.key"
    exposed.chmod(0o640)
    with pytest.raises(LedgerUnavailable, match="others could read the key"):
        await second.note(denied(), ADA)
    exposed.chmod(0o600)
    assert await second.note(denied(), ADA)


async def test_an_old_private_key_that_cannot_be_removed_is_said_and_removed_at_the_next_start(
    ledger: Ledger, database: Database, tmp_path: Path
) -> None:
    old = await ledger.key_in_force()
    in_the_way = tmp_path / f"ledger.key.retired-{old}"
    in_the_way.mkdir()
    rotation = await ledger.rotate_key(ADA, person="ada", reason="Routine.")
    assert not rotation.destroyed
    assert await ledger.note(denied(), ADA)
    in_the_way.rmdir()
    await ledger.close()
    again = await Ledger.open(database.app, signer_of(tmp_path), origin=ORIGIN)
    await again.close()
    assert sorted(files_of(tmp_path)) == FILES
    assert VerifierKey.parse(rotation.key).key_id.hex() == signer_of(tmp_path).key_id


async def test_an_assembled_triad_signs_with_the_references_of_its_settings(database: Database, tmp_path: Path) -> None:
    (first, one), (second, two) = mounted(tmp_path, "a"), mounted(tmp_path, "b")
    home = Home(tmp_path / "home")
    home.prepare()
    settings = Settings(home=home.path, origin=ORIGIN, ledger=LedgerSettings(key=first, next_key=second))
    blueprint = Blueprint(
        home=home,
        dsn=database.app,
        origin=settings.origin,
        log_key=settings.ledger.key,
        next_log_key=settings.ledger.next_key,
        inventory=sample_inventory(tmp_path),
        catalogue=sample_catalogue(),
    )
    admin = Principal(id="ada", kind=PrincipalKind.PERSON, person="ada", roles=frozenset({Role.ADMIN}))
    async with assembled(blueprint) as triad:
        assert triad.signer.key_id == one
        report = await triad.log_keys.rotate(admin, "The yearly rotation.", compromised=False)
        assert [period.id for period in await triad.log_keys.history()] == [one, two]
        assert report.rotation.destroyed
    assert not (home.secrets / "ledger.key").exists()
    assert [key.key_id.hex() for key in log_keys(settings)] == [one, two]
