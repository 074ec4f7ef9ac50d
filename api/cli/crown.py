"""`triad halt` and `triad release`: stop everything at once, and let it go on."""

from api.cli.asking import CONSENT, ONCE, Consent, Once, confirm
from api.cli.client import V1, Client
from api.cli.exits import Exit
from api.cli.operations import Reason
from api.cli.output import SHAPE, Shape, show_one, styled
from api.cli.profile import REACH, Reach


def halt(
    *, reason: Reason, consent: Consent = CONSENT, once: Once = ONCE, reach: Reach = REACH, shape: Shape = SHAPE
) -> int:
    """Stop everything at once: no step begins until the release.

    Args:
        reason: why; it goes on record.
        consent: how to ask.
        once: what makes a repetition the same request.
        reach: the service.
        shape: of the output.
    """
    confirm("Halt every operation?", consent)
    return _say("halt", "Everything is halted.", reason, once, reach, shape)


def release(
    *, reason: Reason, consent: Consent = CONSENT, once: Once = ONCE, reach: Reach = REACH, shape: Shape = SHAPE
) -> int:
    """End the halt; what was halted goes on where it stood.

    Args:
        reason: why; it goes on record.
        consent: how to ask.
        once: what makes a repetition the same request.
        reach: the service.
        shape: of the output.
    """
    confirm("Let every operation go on?", consent)
    return _say("release", "The halt is over.", reason, once, reach, shape)


def _say(verb: str, sentence: str, reason: str, once: Once, reach: Reach, shape: Shape) -> int:
    with Client.of(reach) as client:
        found = client.post(f"{V1}/{verb}", {"reason": reason}, key=once.key).data
    show_one(
        shape, found, lambda: styled(f"{sentence} Entry {found['index']} says so."), model="HaltView", ident="index"
    )
    return Exit.OK
