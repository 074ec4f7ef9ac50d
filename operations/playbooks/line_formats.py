"""INI and env files: one value a line, edited line by line so that all others stay byte for byte."""

import re
from configparser import ConfigParser
from configparser import Error as IniError
from typing import Final

from operations.errors import PlaybookFailed
from operations.playbooks.config_values import Edit, Leaves, flat_text, invalid


def read_ini(text: str) -> Leaves:
    """Every value of the text, as text."""
    parser = ConfigParser(interpolation=None, strict=True, default_section="\0", allow_no_value=False)
    parser.optionxform = str  # type: ignore[assignment, method-assign] # the way the manual gives to keep letters' case
    try:
        parser.read_string(text)
    except IniError as error:
        code = "duplicate-key" if "already exists" in str(error) else "config-invalid"
        raise PlaybookFailed(code, "The configuration is not valid INI.") from error
    return {(section, key): value for section in parser.sections() for key, value in parser.items(section)}


_INI_SECTION: Final = re.compile(r"\[(?P<name>.+)\]")
_INI_OPTION: Final = re.compile(r"(?P<head>(?P<key>[^\s=:#;][^=:]*?)\s*[=:][ \t]*)(?P<value>.*)")
_INI_COMMENT: Final = re.compile(r"(^|\s)[#;]")


def edit_ini(text: str, edits: tuple[Edit, ...]) -> str:
    """The text with the edits made."""
    for edit in edits:
        text = _edit_ini_once(text, edit)
    return text


def _edit_ini_once(text: str, edit: Edit) -> str:
    lines = text.splitlines(keepends=True)
    section, key = edit.path
    value = None if edit.value is None else flat_text(edit.value)
    if value is not None and _INI_COMMENT.search(value):
        raise PlaybookFailed("change-not-representable", "In INI, some readers would take part of this for a comment.")
    here, end = None, None
    for number, line in enumerate(lines):
        if line[:1].isspace() or line[:1] in {"#", ";"}:
            continue
        if found := _INI_SECTION.match(line):
            here = found["name"]
        elif here == section and (option := _INI_OPTION.match(line)) and option["key"].rstrip() == key:
            return "".join(_with_ini_line(lines, number, option, value))
        if here == section:
            end = number + 1
    if value is None:
        return text
    added = [f"{key} = {value}\n"] if end is not None else [f"[{section}]\n", f"{key} = {value}\n"]
    at = _behind_continuation(lines, end) if end is not None else len(lines)
    if at and not lines[at - 1].endswith("\n"):
        lines[at - 1] += "\n"
    return "".join(lines[:at] + added + lines[at:])


def _behind_continuation(lines: list[str], at: int) -> int:
    while at < len(lines) and lines[at][:1] in {" ", "\t"} and lines[at].strip():
        at += 1
    return at


def _with_ini_line(lines: list[str], number: int, option: re.Match[str], value: str | None) -> list[str]:
    if _INI_COMMENT.search(option["value"]):
        raise PlaybookFailed("inline-comment", "The value is followed by what some readers take for a comment.")
    if _behind_continuation(lines, number + 1) != number + 1:
        raise PlaybookFailed("change-not-representable", "The value goes on over several lines.")
    end = lines[number][len(lines[number].rstrip("\n")) :]
    head = option["head"] if option["head"].endswith((" ", "\t")) or option["value"] else option["head"] + " "
    return lines[:number] + ([] if value is None else [f"{head}{value}{end}"]) + lines[number + 1 :]


_ENV_LINE: Final = re.compile(
    r"(?P<head>\s*(?:export\s+)?(?P<key>[A-Za-z_][A-Za-z0-9_]*)=)"
    r"(?P<value>'[^']*'|\"(?:[^\"\\]|\\.)*\"|[^\s'\"]*)(?P<tail>[ \t]*(?:\s#.*)?)"
)
_ENV_PLAIN: Final = re.compile(r"[A-Za-z0-9_./:@%+,=-]*")


def read_env(text: str) -> Leaves:
    """Every value of the text, as text."""
    found: Leaves = {}
    for line in text.split("\n"):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _ENV_LINE.fullmatch(line)
        if match is None:
            invalid("env: every line is NAME=value or a comment")
        if (match["key"],) in found:
            raise PlaybookFailed("duplicate-key", "The configuration names a variable twice.")
        found[match["key"],] = _env_value(match["value"])
    return found


def _env_value(raw: str) -> str:
    if raw[:1] == "'":
        return raw[1:-1]
    return re.sub(r'\\(["\\$`])', r"\1", raw[1:-1]) if raw[:1] == '"' else raw


def edit_env(text: str, edits: tuple[Edit, ...]) -> str:
    """The text with the edits made."""
    lines = text.split("\n")
    for edit in edits:
        value = None if edit.value is None else _env_text(flat_text(edit.value))
        at = next(
            (n for n, line in enumerate(lines) if (m := _ENV_LINE.fullmatch(line)) and m["key"] == edit.path[0]), None
        )
        if at is not None:
            match = _ENV_LINE.fullmatch(lines[at])
            tail = match["tail"] if match else ""
            lines[at : at + 1] = [] if value is None else [f"{match['head'] if match else ''}{value}{tail}"]
        elif value is not None:
            lines[len(lines) - (lines[-1] == "") : len(lines)] = [f"{edit.path[0]}={value}", ""]
    return "\n".join(lines)


def _env_text(value: str) -> str:
    if _ENV_PLAIN.fullmatch(value):
        return value
    if "'" in value:
        raise PlaybookFailed("change-not-representable", "In env, a value with a single quote has no one meaning.")
    return f"'{value}'"
