"""Configuration formats, edited so that comments, order and everything not asked for stay as they are.

Every edit is proved before it counts: the new text is parsed again, by another parser than the one that edited where
there is one, and must hold exactly the old values with the changes applied. What cannot be proved is refused.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from operations.errors import PlaybookFailed
from operations.playbooks.config_values import Edit, Leaves, Path, Value, as_it_is, flat_text, same
from operations.playbooks.line_formats import edit_env, edit_ini, read_env, read_ini
from operations.playbooks.tree_formats import edit_json, edit_toml, edit_yaml, read_json, read_toml, read_yaml

FormatName = Literal["toml", "yaml", "json", "ini", "env"]


def decoded(data: bytes) -> str:
    """The file's text.

    Raises:
        PlaybookFailed: `not-utf-8`, `byte-order-mark`, `mixed-line-ends`.
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise PlaybookFailed("not-utf-8", "The configuration is not UTF-8.") from error
    if text.startswith("\ufeff"):
        raise PlaybookFailed("byte-order-mark", "The configuration starts with a byte order mark.")
    plain = text.replace("\r\n", "\n")
    if "\r" in plain or (plain != text and plain.count("\n") != text.count("\r\n")):
        raise PlaybookFailed("mixed-line-ends", "The configuration mixes kinds of line ends.")
    return text


def leaves(kind: FormatName, text: str) -> Leaves:
    """All values of a configuration text.

    Raises:
        PlaybookFailed: `config-invalid`, `duplicate-key`, `yaml-anchors-refused`, `yaml-tags-refused` and the like.
    """
    return _FORMATS[kind].read(text.replace("\r\n", "\n"))


def edited(kind: FormatName, text: str, edits: tuple[Edit, ...]) -> str:
    """The text with the edits made.

    Raises:
        PlaybookFailed: what `leaves` raises, `path-not-a-table`, `path-is-a-table`, and `change-not-representable` when
            the result would not hold exactly the old values with the edits applied.
    """
    plain = text.replace("\r\n", "\n")
    form = _FORMATS[kind]
    old = form.read(plain)
    wanted = dict(old)
    for edit in edits:
        _check_path(form, old, edit.path)
        if edit.value is None:
            wanted.pop(edit.path, None)
        else:
            wanted[edit.path] = form.expected(edit.value)
    if same(old, wanted):
        return text
    new = form.edit(plain, tuple(edit for edit in edits if not _holds(old, wanted, edit.path)))
    if not same(form.read(new), wanted):
        raise PlaybookFailed("change-not-representable", f"The changes cannot be written as {kind} without loss.")
    return new.replace("\n", "\r\n") if plain != text else new


def _holds(old: Leaves, wanted: Leaves, path: Path) -> bool:
    return (path in old) == (path in wanted) and same(old.get(path), wanted.get(path))


def _check_path(form: "_Format", old: Leaves, path: Path) -> None:
    if form.depth is not None and len(path) != form.depth:
        raise PlaybookFailed("path-depth", f"A path needs exactly {form.depth} parts in this format.")
    if any(path[:length] in old for length in range(1, len(path))):
        raise PlaybookFailed("path-not-a-table", "A path leads through something that is not a table.")
    if any(known[: len(path)] == path and len(known) > len(path) for known in old):
        raise PlaybookFailed("path-is-a-table", "A path names a whole table; name the values in it.")


@dataclass(frozen=True, slots=True)
class _Format:
    read: Callable[[str], Leaves]
    edit: Callable[[str, tuple[Edit, ...]], str]
    expected: Callable[[Value], object] = as_it_is
    depth: int | None = None


_FORMATS: Final[Mapping[FormatName, _Format]] = {
    "toml": _Format(read_toml, edit_toml),
    "yaml": _Format(read_yaml, edit_yaml),
    "json": _Format(read_json, edit_json),
    "ini": _Format(read_ini, edit_ini, flat_text, 2),
    "env": _Format(read_env, edit_env, flat_text, 1),
}
