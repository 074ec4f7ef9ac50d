"""An exported ledger in a folder, verified from its files alone. Nothing in the folder is trusted."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from .checkpoint import MAX_NOTE, Checkpoint, NoteMalformed, parse_note
from .law import MAX_CONSTITUTION
from .mirror import Audit, Mirror, TileMissing, folder, read_bounded
from .plans import MAX_PLAN
from .policy import MAX_POLICY, Policy, PolicyMalformed
from .report import Code, Report
from .rules import Problem
from .tiles import TileMalformed
from .verification import Progress, verify

MAX_KEPT: Final = 100_000
"""Most checkpoints in an export that are read."""

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
    kept: tuple[bytes, ...]


class Files(Mapping[str, bytes]):
    """The files of a folder by their digest, read when they are asked for; one that cannot be read is as if missing.

    Args:
        place: the folder.
        suffix: what follows the digest in a name.
        limit: the longest file in bytes that is read.
    """

    def __init__(self, place: Path, suffix: str, limit: int) -> None:
        self._place = place
        self._suffix = suffix
        self._limit = limit

    def __getitem__(self, digest: str) -> bytes:
        try:
            return read_bounded(self._place / f"{digest}{self._suffix}", self._limit)
        except (TileMissing, TileMalformed, OSError):
            raise KeyError(digest) from None

    def __iter__(self) -> Iterator[str]:
        if self._place.is_dir():
            for path in sorted(self._place.iterdir()):
                if path.name.endswith(self._suffix):
                    yield path.name.removesuffix(self._suffix)

    def __len__(self) -> int:
        return sum(1 for _ in self)


def read_export(place: Path) -> Export:
    """The checkpoints and the policy of an export.

    Raises:
        ExportUnreadable: one of them is missing, too long or not in its format.
    """
    note = _bytes_of(place, "checkpoint", MAX_NOTE)
    policy = None
    if (place / "policy").exists():
        try:
            policy = Policy.parse(_bytes_of(place, "policy", MAX_POLICY))
        except PolicyMalformed as error:
            raise ExportUnreadable(f"policy: {error}") from None
    kept = place / "checkpoints"
    names = sorted(path.name for path in kept.iterdir()) if kept.is_dir() else []
    names = [name for name in names if not name.startswith(".")]
    if len(names) > MAX_KEPT:
        raise ExportUnreadable(f"checkpoints: more than {MAX_KEPT} of them")
    return Export(note, policy, tuple(_bytes_of(place, f"checkpoints/{name}", MAX_NOTE) for name in names))


def _named(export: Export) -> Policy:
    if export.policy is None:
        raise ExportUnreadable("policy is missing, and no key and no policy was given")
    return export.policy


def _bytes_of(place: Path, name: str, limit: int) -> bytes:
    try:
        return read_bounded(place / name, limit)
    except TileMissing:
        raise ExportUnreadable(f"{name} is missing") from None
    except TileMalformed as error:
        raise ExportUnreadable(str(error)) from None
    except OSError as error:
        raise ExportUnreadable(f"{name}: {error.strerror or 'it cannot be read'}") from None


def verify_export(
    place: Path,
    policy: Policy | None = None,
    *,
    older: Sequence[bytes] = (),
    semantics: bool = True,
    progress: Progress | None = None,
    now: int | None = None,
) -> Report:
    """Verify the export in a folder.

    Args:
        place: where it lies.
        policy: whom to trust; without it the export's own, which shows only that it agrees with itself.
        older: see `verify`.
        semantics: see `verify`.
        progress: see `verify`.
        now: see `verify`.
    """
    try:
        export = read_export(place)
        trusted = policy or _named(export)
        size = Checkpoint.parse(parse_note(export.note).text).size
    except (ExportUnreadable, NoteMalformed, OSError) as error:
        why = f"checkpoint: {error}" if isinstance(error, NoteMalformed) else str(error)
        problem = Problem(None, "input", f"The export cannot be read: {why}.")
        return Report(ok=False, code=Code.INPUT, origin=None, size=None, root=None, found=1, problems=(problem,))
    mirror = Mirror(folder(place), size)
    constitutions = Files(place / "constitutions", ".md", MAX_CONSTITUTION)
    report = verify(
        mirror.entries(),
        export.note,
        trusted,
        older=older,
        rotations=export.kept,
        plans=Files(place / "plans", ".json", MAX_PLAN),
        constitutions=constitutions if (place / "constitutions").is_dir() else None,
        semantics=semantics,
        audit=Audit(mirror),
        progress=progress,
        now=now,
    )
    if (place / "proofs").is_dir():
        report = report.unverified(_PROOFS)
    return report if policy is not None else report.unverified(_OWN)
