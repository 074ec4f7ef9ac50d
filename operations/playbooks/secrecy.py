"""What looks like a secret in a configuration file, and how it is kept out of everything that is shown or recorded.

The rule errs on the side of silence: `monkey = "x"` counts as a secret too. Every pattern is bounded or anchored at a
word's start, so that no text makes it slow.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Final

MASK: Final = "***"

_WORDS: Final = r"password|passwd|passphrase|pwd|secret|token|credential|key"
_ALWAYS: Final = re.compile(rf"(?:{_WORDS})(?:$|[^a-z])", re.IGNORECASE)
"""A word of the key ends with one of the words: api_key, dbPassword, token."""
_IN_TEXT: Final = re.compile(
    rf"(?:{_WORDS}|pass|auth|authorization|bearer|jwt|cookie|dsn|connection|connection_?string|private|sig|signature)"
    r"s?(?:$|[^a-z])",
    re.IGNORECASE,
)
"""`tokens = ["..."]` and `connection = "..."` hold secrets, `max_tokens = 4000` and `connection_limit = 5` do not."""
_PLAIN: Final = re.compile(r"[0-9]+|true|false|yes|no|on|off|none|null", re.IGNORECASE)
"""Numbers and switches of formats in which everything is text."""
_IN_VALUE: Final = re.compile(
    r"://[^/\s:@]{0,200}:\S{1,1000}@|-----BEGIN"
    r"|(?<!\w)(?:basic|bearer)[ \t]{1,20}(?=\S{0,200}[0-9=+/])(?P<bearer>[\w+/=.~\-]{6,})",
    re.IGNORECASE,
)
_KEY: Final = re.compile(r"""(?<![\w.\-])(?P<key>[\w.\-]+)["']?[ \t]*[:=][ \t]*""")
_VALUE: Final = re.compile(r""""(?:[^"\\\n]|\\.)*"|'(?:[^'\n]|'')*'|[^\n]+""")
_COUNT: Final = re.compile(r"\d+[ \t]*(?=[,}\]\n]|$)")
_ADDRESS: Final = re.compile(r"(://[^/\s:@]{0,200}:)(\S{1,1000})(@)")
_REMARK: Final = re.compile(r"(?:(?<=[ \t])|^[ +\-]?)(?P<mark>#|;|//)(?P<text>[^\n]*)", re.MULTILINE)
_BREAKS: Final = re.compile(r"[\s;,&=:@\"']+")
_SHORTEST: Final = 4
"""Secret values below this length are masked where they stand, not wherever the same letters occur."""
_SHORTEST_WORD: Final = 6
"""Words of a secret from this length on are secret by themselves: a line may be folded, a DSN taken apart."""


def looks_secret(path: tuple[str, ...], value: object) -> bool:
    """Whether the value under that path must not be seen: by the names on the path or by the value's own form."""
    if value is None or isinstance(value, bool):
        return False
    if any(_named(_ALWAYS, part) for part in path):
        return True
    if isinstance(value, int | float) or _PLAIN.fullmatch(str(value)):
        return False
    return any(_named(_IN_TEXT, part) for part in path) or _holds_secret(str(value))


def secret_texts(leaves: Mapping[tuple[str, ...], object], text: str = "") -> tuple[str, ...]:
    """The texts of all secret-looking values, and of what looks secret in `text`, its remarks above all, longest first.

    Each comes whole, line by line, word by word, and in the spellings that quoting may give it.
    """
    found: set[str] = set()
    for path, value in leaves.items():
        for secret in _secrets_below(path, value):
            found.update(_spellings(secret))
    for secret in _secrets_in(text):
        found.update(_spellings(secret))
    return tuple(sorted(found - {""}, key=lambda text: (-len(text), text)))


def masked(text: str, secrets: tuple[str, ...] = ()) -> str:
    """`text` with everything that looks secret replaced by `MASK`, and every known secret wherever it stands."""
    text = _REMARK.sub(_remark, text)
    text = _hidden_by_key(text)
    text = _ADDRESS.sub(rf"\g<1>{MASK}\g<3>", text)
    text = _IN_VALUE.sub(lambda found: found[0].replace(found["bearer"], MASK) if found["bearer"] else found[0], text)
    for secret in secrets:
        if len(secret) >= _SHORTEST:
            text = text.replace(secret, MASK)
    return text


def _named(words: re.Pattern[str], key: str) -> bool:
    return words.search(re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", key)) is not None


def _holds_secret(text: str) -> bool:
    return _IN_VALUE.search(text) is not None or next(_assigned(text), None) is not None


def _secrets_below(path: tuple[str, ...], value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _secrets_below((*path, str(key)), item)
    elif isinstance(value, list):
        for item in value:
            yield from _secrets_below(path, item)
    elif looks_secret(path, value):
        yield str(value)


def _secrets_in(text: str) -> Iterator[str]:
    for found in _assigned(text):
        yield found[0].strip("\"'")
    for found in _ADDRESS.finditer(text):
        yield found[2]
    for found in _IN_VALUE.finditer(text):
        yield found["bearer"] or ""
    for found in _REMARK.finditer(text):
        if _ALWAYS.search(found["text"]):
            yield from (word for word in found["text"].split() if re.search(r"\d", word))


def _spellings(secret: str) -> Iterator[str]:
    if _PLAIN.fullmatch(secret) and len(secret) < _SHORTEST_WORD:
        return
    lines = [line.strip() for line in secret.splitlines()]
    words = [word for word in _BREAKS.split(secret) if len(word) >= _SHORTEST_WORD and not _PLAIN.fullmatch(word)]
    for text in (secret.strip(), *lines, *words):
        yield text
        yield text.replace("'", "''")
        yield json.dumps(text)[1:-1]
        yield json.dumps(text, ensure_ascii=False)[1:-1]


def _remark(found: re.Match[str]) -> str:
    lead = found[0][: found.start("mark") - found.start()]
    return f"{lead}{found['mark']} {MASK}" if _ALWAYS.search(found["text"]) else found[0]


def _assigned(text: str) -> Iterator[re.Match[str]]:
    """The values in `text` that stand behind `NAME =` or `NAME:` with a name of secrets."""
    position = 0
    while found := _KEY.search(text, position):
        position = found.end()
        if _names_secret(found["key"], text, position) and (value := _VALUE.match(text, position)):
            position = value.end()
            yield value


def _hidden_by_key(text: str) -> str:
    shown: list[str] = []
    start = 0
    for value in _assigned(text):
        quote = value[0][0] if value[0][0] in "\"'" else ""
        shown += [text[start : value.start()], quote, MASK, quote]
        start = value.end()
    return "".join([*shown, text[start:]])


def _names_secret(key: str, text: str, position: int) -> bool:
    return _named(_ALWAYS, key) or (_named(_IN_TEXT, key) and _COUNT.match(text, position) is None)
