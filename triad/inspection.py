"""Looking at the world through a playbook, within its time: whatever goes wrong while looking is an answer too.

What a playbook raises here comes from outside the record and must never keep an operation from going on: a look that
failed proves nothing, shows nothing and decides nothing.
"""

import asyncio
from typing import Any

from operations.errors import PlaybookFailed, Refusal
from operations.evidence import Check, Preview, Probe, Snapshot
from operations.playbook import Playbook, Target
from triad.defects import seen


async def shown(playbook: Playbook[Any], arguments: Any, target: Target) -> Preview:  # noqa: ANN401 - parsed by the playbook's own model
    """What exactly would run.

    Raises:
        PlaybookFailed: with the playbook's own code, or `timeout` or `unexpected`.
        Refusal: the playbook does not fit the target.
    """
    try:
        async with asyncio.timeout(playbook.timeout.total_seconds()):
            return await playbook.preview(arguments, target)
    except (PlaybookFailed, Refusal):
        raise
    except TimeoutError as error:
        raise PlaybookFailed("timeout", f"{playbook.name} could not show in time what it would do.") from error
    except Exception as error:
        seen(error, playbook.name, "shown")
        text = f"{type(error).__name__} in {playbook.name}, which was to show what it would do."
        raise PlaybookFailed("unexpected", text) from error


async def snapshotted(playbook: Playbook[Any], arguments: Any, target: Target) -> Snapshot:  # noqa: ANN401 - as above
    """The state before the step, once the pre-conditions hold.

    Raises:
        PlaybookFailed: with the playbook's own code, or `timeout` or `unexpected`; nothing was changed.
    """
    try:
        async with asyncio.timeout(playbook.timeout.total_seconds()):
            return await playbook.before(arguments, target)
    except PlaybookFailed as error:
        raise PlaybookFailed(error.code, str(error)) from error
    except TimeoutError as error:
        raise PlaybookFailed("timeout", "Timed out before the act.") from error
    except Exception as error:
        seen(error, playbook.name, "snapshotted")
        raise PlaybookFailed("unexpected", f"{type(error).__name__} in {playbook.name}, before the act.") from error


async def probed(playbook: Playbook[Any], arguments: Any, target: Target, snapshot: Snapshot, key: str) -> Probe:  # noqa: ANN401 - as above
    """Whether the act with that key happened; a probe that fails or takes too long does not know."""
    try:
        async with asyncio.timeout(playbook.timeout.total_seconds()):
            return await playbook.probe(arguments, target, snapshot, key)
    except Exception as error:  # noqa: BLE001 - not knowing is the answer, and a person is asked
        seen(error, playbook.name, "probed")
        return Probe.UNKNOWN


async def undone(playbook: Playbook[Any], arguments: Any, target: Target, snapshot: Snapshot) -> tuple[Check, ...]:  # noqa: ANN401 - as above
    """The post-conditions of the undo; none when they could not be evaluated, which proves nothing."""
    try:
        async with asyncio.timeout(playbook.timeout.total_seconds()):
            return await playbook.undone(arguments, target, snapshot)
    except Exception as error:  # noqa: BLE001 - none is the answer, and the rollback counts as not proven
        seen(error, playbook.name, "undone")
        return ()


async def checked(playbook: Playbook[Any], arguments: Any, target: Target, snapshot: Snapshot) -> tuple[Check, ...]:  # noqa: ANN401 - as above
    """The post-conditions of the step, which have to go on holding for as long as the playbook says.

    Raises:
        PlaybookFailed: they could not be evaluated, for the reason that its code names.
    """
    try:
        async with asyncio.timeout(playbook.timeout.total_seconds()):
            found = await playbook.checks(arguments, target, snapshot)
            if playbook.sustain and all(check.passed for check in found):
                await asyncio.sleep(playbook.sustain.total_seconds())
                found = await playbook.checks(arguments, target, snapshot)
            return found
    except Exception as error:
        seen(error, playbook.name, "checked")
        raise PlaybookFailed("unexpected", f"{type(error).__name__} in {playbook.name}.") from error
