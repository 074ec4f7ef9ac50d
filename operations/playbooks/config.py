"""Configuration files: typed changes to named values, shown as a diff, written whole or not at all."""

import asyncio
import difflib
import itertools
from typing import Annotated, ClassVar, Final, Self

from pydantic import Field, StringConstraints, model_validator

from operations.canonical import Json, JsonObject, Record, sha256
from operations.errors import PlaybookFailed
from operations.evidence import Check, Effect, Outcome, Preview, Snapshot
from operations.playbook import Arguments, Call, Playbook, Target
from operations.playbooks.config_file import Current, alone, current, keep, opened, original, put_back, read, swap, tidy
from operations.playbooks.config_values import Edit, Leaves, Path, same
from operations.playbooks.folder import failing, place, remove, stage, to_the_end
from operations.playbooks.formats import decoded, edited, leaves
from operations.playbooks.secrecy import looks_secret, masked, secret_texts
from operations.playbooks.validator import Answer, names_file, validate
from operations.systems import ConfigFile, SystemKind

_DIFF_LIMIT: Final = 64 << 10
"""Characters of diff that a person can be asked to read; more is refused, because what cannot be shown must not run."""

Part = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
Text = Annotated[str, StringConstraints(max_length=2000)]


class Change(Record):
    """One value to set or to remove."""

    path: tuple[Part, ...] = Field(
        min_length=1,
        max_length=10,
        description="table names and the key, outermost first; INI: section and key; env: the variable",
    )
    value: Text | int | bool | Annotated[tuple[Text | int | bool, ...], Field(max_length=100)] | None = Field(
        default=None,
        description="what to set; text of at most 2,000 characters, whole number, truth value, or a list of these",
    )
    remove: bool = Field(default=False, description="take the key out instead of setting it")

    @model_validator(mode="after")
    def _sets_or_removes(self) -> Self:
        if (self.value is None) is not self.remove:
            raise ValueError("a change either has a value or removes")
        if self.value is not None and looks_secret(self.path, self.edit.value):
            raise ValueError(
                "this looks like a secret; secrets do not go through plans, where people and models read them"
            )
        return self

    @property
    def edit(self) -> Edit:
        """The change as the formats take it."""
        return Edit(self.path, list(self.value) if isinstance(self.value, tuple) else self.value)


class ApplyChangeArguments(Arguments):
    """The changes to one configuration file."""

    changes: tuple[Change, ...] = Field(min_length=1, max_length=50, description="changes, each path at most once")

    @model_validator(mode="after")
    def _paths_are_apart(self) -> Self:
        paths = sorted(change.path for change in self.changes)
        if any(second[: len(first)] == first for first, second in itertools.pairwise(paths)):
            raise ValueError("one path is named twice or lies inside another")
        return self

    @property
    def edits(self) -> tuple[Edit, ...]:
        """The changes as the formats take them."""
        return tuple(change.edit for change in self.changes)


def _changed(system: ConfigFile, data: bytes, args: ApplyChangeArguments) -> bytes:
    return edited(system.format, decoded(data), args.edits).encode()


def _diff(system: ConfigFile, old: bytes, new: bytes) -> str:
    """A unified diff with secrets masked; without context lines where the file holds any."""
    hidden = (*_secrets(system, old), *_secrets(system, new))
    lines = difflib.unified_diff(
        decoded(old).splitlines(),
        decoded(new).splitlines(),
        fromfile=system.path,
        tofile=system.path,
        lineterm="",
        n=0 if hidden else 3,
    )
    text = "\n".join(lines)
    if len(text) > _DIFF_LIMIT:
        raise PlaybookFailed("diff-too-long", "The change is too long to be shown, so it cannot be approved.")
    return masked(text, tuple(sorted({*hidden}, key=len, reverse=True)))


def _secrets(system: ConfigFile, data: bytes) -> tuple[str, ...]:
    text = decoded(data)
    return secret_texts(leaves(system.format, text), text)


def _words(change: Change) -> str:
    path = ".".join(change.path)
    return f"remove {path}" if change.remove else f"set {path} = {change.edit.value!r}"


class ApplyChange(Playbook[ApplyChangeArguments]):
    """Sets or removes named values in a TOML, YAML, JSON, INI or env file; comments, order, owner and mode stay.

    The new file is written beside the old one, given its owner, mode and extended attributes, put to the owner's own
    validation command, and renamed over it: readers see the old bytes or the new ones, never a mixture.

    Secrets: a change that looks like one is refused, because arguments are read by people and models. Secrets that the
    file already holds, in values or remarks, are masked in the diff and in the command's output. The original bytes
    never become evidence: they stay in a copy beside the file, readable by its owner only (`.triad-keep-DIGEST.NAME`),
    and the snapshot names it by digest. A copy goes when it is older than 7 days and 20 newer ones are there.

    Undo puts the original back only over what this change made. When the file was changed again since, by whomever, it
    refuses (`changed-since`), the newer bytes stay, and a person decides.

    An interruption before the rename leaves the old file and perhaps `.triad-*.NAME`, after it the new file; the next
    run removes such files. Running again ends in the same bytes.
    """

    name: ClassVar[str] = "config.apply_change"
    summary: ClassVar[str] = "Change named values in a configuration file, keeping comments, order, owner and mode."
    keywords: ClassVar[tuple[str, ...]] = (
        "config",
        "configuration",
        "setting",
        "change",
        "parameter",
        "set",
        "toml",
        "yaml",
    )
    arguments: ClassVar[type[Arguments]] = ApplyChangeArguments
    fits: ClassVar[frozenset[SystemKind]] = frozenset({"config"})
    tier: ClassVar[int] = 2
    effect: ClassVar[Effect] = Effect.IDEMPOTENT
    emergency: ClassVar[bool] = True
    reversible: ClassVar[bool] = True

    async def preview(self, args: ApplyChangeArguments, target: Target) -> Preview:
        """The diff, bound to the file's present bytes: when they change, so does the preview's digest."""
        system: ConfigFile = target.expect(ConfigFile)
        return await asyncio.to_thread(self._preview, args, system)

    def _preview(self, args: ApplyChangeArguments, system: ConfigFile) -> Preview:
        seen = read(system.path)
        new = _changed(system, seen.data, args)
        validation = (" ".join(system.validate_with),) if system.validate_with else ()
        return Preview(
            commands=(*(_words(change) for change in args.changes), *validation),
            diff=_diff(system, seen.data, new),
            basis={
                "sha256": seen.digest,
                "new_sha256": sha256(new),
                "bytes": len(seen.data),
                "mode": f"{seen.mode:04o}",
                "uid": seen.uid,
                "gid": seen.gid,
            },
            blast_radius=f"The file {system.path} and whatever reads it next.",
            undo="The original bytes are put back in one rename, with owner and mode. A file that was changed again "
            "since stays as it is, and a person decides.",
        )

    async def before(self, args: ApplyChangeArguments, target: Target) -> Snapshot:
        """Prove that the change can be made and keep the original.

        Raises:
            PlaybookFailed: the file or the change is refused; nothing was changed.
        """
        system: ConfigFile = target.expect(ConfigFile)
        return await to_the_end(lambda: self._before(args, system))

    def _before(self, args: ApplyChangeArguments, system: ConfigFile) -> Snapshot:
        with opened(system.path) as (folder, name, file):
            seen = current(file)
            _changed(system, seen.data, args)
            facts: JsonObject = {**seen.facts, "kept_as": keep(folder, name, seen.data)}
        return Snapshot(summary=f"{len(seen.data)} bytes, SHA-256 {seen.digest}.", facts=facts)

    async def run(self, args: ApplyChangeArguments, target: Target, call: Call) -> Outcome:
        """Write the new file, have it validated, and put it in place.

        Raises:
            PlaybookFailed: `validation-failed`, `changed-underneath`, `busy` or what the file system says; the old file
                is still in place.
        """
        system: ConfigFile = target.expect(ConfigFile)
        with opened(system.path) as (folder, name, file), alone(folder, name, file):
            seen = await to_the_end(lambda: current(file))
            new = await to_the_end(lambda: _changed(system, seen.data, args))
            await to_the_end(lambda: tidy(folder, name))
            if new == seen.data:
                return Outcome(summary="The values were already so.", changed=False, facts={"sha256": seen.digest})
            await call.progress(0.3, "writing beside the file")
            with failing(name):
                temporary = await to_the_end(lambda: stage(folder, name, new, like=file))
            try:
                await self._validated(system, temporary, new)
                await call.progress(0.8, "putting it in place")
                await to_the_end(lambda: swap(folder, name, temporary, seen))
            finally:
                remove(folder, temporary)
        return Outcome(
            summary=f"Changed {len(args.changes)} value{'' if len(args.changes) == 1 else 's'}.",
            changed=True,
            facts={"sha256": sha256(new), "bytes": len(new), "replaced_sha256": seen.digest},
        )

    async def _validated(self, system: ConfigFile, temporary: str, new: bytes) -> None:
        if not names_file(system.validate_with):
            return
        answer = await validate(system.validate_with, f"{place(system.path)[0]}/{temporary}")
        if not answer.valid:
            raise PlaybookFailed("validation-failed", _observed(answer, _secrets(system, new)))

    async def checks(self, args: ApplyChangeArguments, target: Target, before: Snapshot) -> tuple[Check, ...]:
        """It parses, the changes hold, nothing else moved, owner and mode are the same, the owner's command agrees."""
        system: ConfigFile = target.expect(ConfigFile)
        found = await asyncio.to_thread(_compare, args, system, before)
        if not system.validate_with:
            return found
        answer = await validate(system.validate_with, system.path)
        hidden = await asyncio.to_thread(_secrets_or_none, system)
        observed = _observed(answer, hidden) if hidden is not None else f"exit code {answer.code}; output withheld"
        return (*found, Check(name="owner-validates", passed=answer.valid, expected="exit code 0", observed=observed))

    async def undo(self, args: ApplyChangeArguments, target: Target, snapshot: Snapshot, call: Call) -> Outcome:
        """Put the original bytes, owner and mode back over what this change made of them, or where the file is gone.

        Raises:
            PlaybookFailed: `changed-since` when the file holds neither; `snapshot-damaged`, `busy`, or what the file
                system says; the file is as it was found.
        """
        system: ConfigFile = target.expect(ConfigFile)
        outcome = await to_the_end(lambda: self._undo(args, system, snapshot))
        await call.progress(1.0, outcome.summary)
        return outcome

    def _undo(self, args: ApplyChangeArguments, system: ConfigFile, snapshot: Snapshot) -> Outcome:
        data = original(system.path, snapshot)
        changed = put_back(system.path, data, snapshot, _changed(system, data, args))
        return Outcome(summary="The original is back.", changed=changed)

    async def undone(self, args: ApplyChangeArguments, target: Target, snapshot: Snapshot) -> tuple[Check, ...]:
        """Byte for byte the original, with its owner and mode."""
        del args
        system: ConfigFile = target.expect(ConfigFile)
        now = await asyncio.to_thread(read, system.path)
        return (
            Check(
                name="original-bytes",
                passed=now.digest == snapshot.facts["sha256"],
                expected=f"SHA-256 {snapshot.facts['sha256']}",
                observed=f"SHA-256 {now.digest}",
            ),
            _likeness(now, snapshot),
        )


def _secrets_or_none(system: ConfigFile) -> tuple[str, ...] | None:
    try:
        return _secrets(system, read(system.path).data)
    except PlaybookFailed:
        return None


def _observed(answer: Answer, hidden: tuple[str, ...]) -> str:
    said = masked(answer.tail, hidden).strip()
    return f"{answer.failure or f'exit code {answer.code}'}{': ' if said else ''}{said}"


def _compare(args: ApplyChangeArguments, system: ConfigFile, before: Snapshot) -> tuple[Check, ...]:
    data = original(system.path, before)
    old, wanted = (leaves(system.format, decoded(each)) for each in (data, _changed(system, data, args)))
    now = read(system.path)
    try:
        new = leaves(system.format, decoded(now.data))
    except PlaybookFailed as error:
        return (Check(name="parses", passed=False, expected=f"valid {system.format}", observed=error.code),)
    paths = {change.path for change in args.changes}
    wrong = [".".join(path) for path in sorted(paths) if not _agree(new, wanted, path)]
    others = sorted((old.keys() | new.keys()) - paths)
    moved = [".".join(path) for path in others if not _agree(new, old, path)]
    return (
        Check(name="parses", passed=True, expected=f"valid {system.format}", observed=f"{len(new)} values"),
        Check(
            name="changes-hold",
            passed=not wrong,
            expected=f"{len(paths)} paths as asked for",
            observed=f"not as asked for: {', '.join(wrong) or 'none'}",
        ),
        Check(
            name="others-untouched",
            passed=not moved,
            expected=f"{len(others)} other values as before",
            observed=f"different: {', '.join(moved[:20]) or 'none'}",
        ),
        _likeness(now, before),
    )


def _agree(new: Leaves, wanted: Leaves, path: Path) -> bool:
    return (path in new) == (path in wanted) and same(new.get(path), wanted.get(path))


def _likeness(now: Current, snapshot: Snapshot) -> Check:
    def words(mode: Json, uid: Json, gid: Json) -> str:
        return f"mode {mode:04o}, owner {uid}:{gid}" if isinstance(mode, int) else "unknown"

    facts = snapshot.facts
    expected = words(facts.get("mode"), facts.get("uid"), facts.get("gid"))
    observed = words(now.mode, now.uid, now.gid)
    return Check(name="owner-and-mode", passed=expected == observed, expected=expected, observed=observed)
