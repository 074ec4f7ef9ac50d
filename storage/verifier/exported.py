"""An exported ledger in a folder, verified from its files alone. Nothing in the folder is trusted."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from .checkpoint import MAX_NOTE, Checkpoint, NoteMalformed, parse_note
from .kept import Files, KeptNotes, Unreadable, read_named
from .law import MAX_CONSTITUTION
from .mirror import Audit, Mirror, TileMissing, folder
from .plans import MAX_PLAN
from .policy import MAX_POLICY, Policy, PolicyMalformed
from .report import Code, Omitted, Report
from .rules import Problem
from .verification import Progress, verify

_OWN: Final = (
    "whose log this is: the export's own policy was used, which shows only that it agrees with itself. "
    "Give a key or a policy that you know from elsewhere."
)
_PROOFS: Final = "the proof files: each is verified by itself, with `proof FILE`."


class ExportUnreadable(ValueError):
    """The folder is no export that can be read; the message names the file."""


class Export(NamedTuple):
    """What an export's small files hold."""

    note: bytes
    policy: Policy | None
    kept: KeptNotes


def read_export(place: Path) -> Export:
    """The newest checkpoint, the policy and the names of the kept checkpoints of an export.

    Raises:
        ExportUnreadable: one of them is missing, too long or not in its format.
    """
    note = _bytes_of(place, "checkpoint", MAX_NOTE)
    policy = None
    if os.path.lexists(place / "policy"):
        try:
            policy = Policy.parse(_bytes_of(place, "policy", MAX_POLICY))
        except PolicyMalformed as error:
            raise ExportUnreadable(f"policy: {error}") from None
    try:
        return Export(note, policy, KeptNotes(place))
    except Unreadable as error:
        raise ExportUnreadable(str(error)) from None


def _named(export: Export) -> Policy:
    if export.policy is None:
        raise ExportUnreadable("policy is missing, and no key and no policy was given")
    return export.policy


def _bytes_of(place: Path, name: str, limit: int) -> bytes:
    try:
        return read_named(place, name, limit)
    except (TileMissing, Unreadable) as error:
        raise ExportUnreadable(str(error)) from None


def verify_export(
    place: Path,
    policy: Policy | None = None,
    *,
    older: Sequence[bytes] = (),
    semantics: bool = True,
    texts: bool = True,
    progress: Progress | None = None,
    now: int | None = None,
) -> Report:
    """Verify the export in a folder.

    Args:
        place: where it lies.
        policy: whom to trust; without it the export's own, which shows only that it agrees with itself.
        older: see `verify`.
        semantics: see `verify`.
        texts: the constitutions and plans are there: one that is missing is a breach, but for plans that were deleted
            on the record. False leaves them all out, and the report says so.
        progress: see `verify`.
        now: see `verify`.
    """
    try:
        export = read_export(place)
        trusted = policy or _named(export)
        size = Checkpoint.parse(parse_note(export.note).text).size
    except (ExportUnreadable, NoteMalformed) as error:
        why = f"checkpoint: {error}" if isinstance(error, NoteMalformed) else str(error)
        problem = Problem(None, "input", f"The export cannot be read: {why}.")
        return Report(ok=False, code=Code.INPUT, origin=None, size=None, root=None, found=1, problems=(problem,))
    mirror = Mirror(folder(place), size)
    report = verify(
        mirror.entries(),
        export.note,
        trusted,
        older=older,
        rotations=export.kept,
        plans=Files(place, "plans", ".json", MAX_PLAN) if texts else None,
        constitutions=Files(place, "constitutions", ".md", MAX_CONSTITUTION) if texts else None,
        complete=texts,
        semantics=semantics,
        audit=Audit(mirror),
        progress=progress,
        now=now,
    )
    if os.path.lexists(place / "proofs"):
        report = report.unverified(_PROOFS)
    return report if policy is not None else report.unverified(_OWN, Omitted.KEYS)
