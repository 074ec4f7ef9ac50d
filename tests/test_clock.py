"""A clock that is set back revives nothing that had expired."""

from datetime import timedelta
from pathlib import Path

import pytest

from operations import canonical
from operations.errors import Conflict, NotAllowed
from operations.stages import Stage
from tests.bench import bench
from tests.conftest import Database
from tests.samples import DANA, EVE, request

pytestmark = pytest.mark.anyio


async def test_a_plan_that_expired_by_the_log_stays_expired_when_the_clock_goes_back(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    true_now = canonical.now
    async with bench(database, tmp_path) as at:
        old = await at.advance(await at.submit(request(playbook="note.write_important")))
        later = true_now() + timedelta(hours=25)
        with monkeypatch.context() as patch:
            patch.setattr("storage.ledger.now", lambda: later)
            await at.submit(request())  # the log has seen tomorrow
        assert at.triad.ledger.clock() >= later
        with pytest.raises((Conflict, NotAllowed)):
            await at.approve(old, DANA)
        assert (await at.advance(old)).stage is Stage.EXPIRED


async def test_what_is_new_still_runs_and_verifies_after_the_clock_went_back(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = canonical.now() + timedelta(hours=25)
    async with bench(database, tmp_path) as at:
        with monkeypatch.context() as patch:
            patch.setattr("storage.ledger.now", lambda: later)
            await at.submit(request())
        op = await at.advance(await at.submit(request(playbook="note.write_important")))
        op = await at.advance(await at.approve(op, EVE))
        assert op.stage is Stage.COMPLETED, (op.code, op.reasons)
        assert (await at.verified()).ok
