"""`triad audit erase`, `audit expire` and `audit evidence`: what may go, on the record, while the tree stays."""

import sys
from typing import Annotated, Final

from cyclopts import Parameter

from api.cli.asking import CONSENT, Consent, confirm
from api.cli.client import V1, Client, segment
from api.cli.exits import Exit, Stop
from api.cli.operations import Reason
from api.cli.output import SHAPE, Column, JsonObject, Shape, facts, note, plain, show_list, show_one
from api.cli.profile import REACH, Reach

_ERASED: Final = (
    Column("subject", lambda done: done["subject"]),
    Column("evidence", lambda done: done["evidence"]),
    Column("entries", lambda done: ", ".join(str(index) for index in done["entries"])),
    Column("commitments", lambda done: f"{done['commitments']} open no more" if done["commitments"] else None),
    Column("deleted", lambda done: done["values"]),
)
_CLASSES: Final = (
    Column("class", lambda each: each["kind"]),
    Column("kept for", lambda each: f"{each['days']} days"),
    Column("pieces", lambda each: each["pieces"]),
    Column("bytes", lambda each: each["bytes"]),
)


def erase(
    subject: str | None = None,
    /,
    *,
    reason: Reason,
    evidence: Annotated[str | None, Parameter(metavar="DIGEST")] = None,
    consent: Consent = CONSENT,
    reach: Reach = REACH,
    shape: Shape = SHAPE,
) -> int:
    """Erase what is personal: about a person, or one piece of evidence. The ledger's tree stays as it is.

    Every older proof still verifies. What other copies hold (backups, exports that somebody took) is not reached:
    docs/runbooks/erasure.md says what else to do.

    Args:
        subject: the handle of the person; with --evidence, whose data it held, where that is known.
        reason: why; it goes on record, so name nobody in it.
        evidence: SHA-256 of a piece of evidence that something personal slipped into.
        consent: how to ask.
        reach: the service.
        shape: of the output.
    """
    if subject is None and evidence is None:
        raise Stop(Exit.USAGE, "There is nothing to erase.", following="Name a subject, or --evidence DIGEST.")
    body: JsonObject = {"reason": reason}
    if evidence is None:
        confirm(f"Erase everything that is kept about {subject}, for good?", consent)
        path = f"{V1}/people/{segment(subject or '')}/erasure"
    else:
        confirm(f"Erase the evidence {evidence[:16]}..., for good?", consent)
        path = f"{V1}/evidence/{segment(evidence)}/erasure"
        body |= {"subject": subject} if subject else {}
    with Client.of(reach) as client:
        found = client.post(path, body).data
    show_one(shape, found, lambda: facts(found, _ERASED), model="ErasureView", ident="subject")
    note("Backups and other copies are not reached: docs/runbooks/erasure.md")
    return Exit.OK


def expire(
    *,
    dry_run: Annotated[bool, Parameter(name="--dry-run", negative=(), show_default=False)] = False,
    consent: Consent = CONSENT,
    reach: Reach = REACH,
    shape: Shape = SHAPE,
) -> int:
    """Let evidence expire whose time is over by the settings (`[retention]`). The service does so once a day.

    Args:
        dry_run: only say what would go.
        consent: how to ask.
        reach: the service.
        shape: of the output.
    """
    if not dry_run:
        confirm("Delete the evidence whose time is over, for good?", consent)
    with Client.of(reach) as client:
        found = client.post(f"{V1}/evidence/expiry", {"dry_run": dry_run}).data
    show_list(shape, found["classes"], _CLASSES, model="ExpiredClass", ident="kind")
    note(f"{found['pieces']} pieces of evidence {'would go' if dry_run else 'are gone'}; their digests stay.")
    return Exit.OK


def evidence(digest: str, /, *, reach: Reach = REACH) -> int:
    """Print a piece of evidence by its digest. What was deleted is refused with when and by which rule.

    Args:
        digest: its SHA-256, as an entry names it.
        reach: the service.
    """
    with Client.of(reach) as client:
        text = client.text(f"{V1}/evidence/{segment(digest)}", "application/octet-stream")
    sys.stdout.write(plain(text) if sys.stdout.isatty() else text)
    return Exit.OK
