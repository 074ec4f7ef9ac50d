"""What looks like a secret in a configuration file, and how it is kept out of everything that is shown or recorded.

The rule errs on the side of silence: `monkey = "x"` counts as a secret too. Every pattern is bounded or anchored at a
word's start, so that no text makes it slow.
"""

import re
from collections.abc import Mapping
from typing import Final

MASK: Final = "***"

_WORDS: Final = r"password|passwd|passphrase|pwd|secret|token|credential|key"
_ALWAYS: Final = re.compile(rf"(?:{_WORDS})(?:$|[^a-z])", re.IGNORECASE)
"""A word of the key ends with one of the words: api_key, dbPassword, token."""
_PLURAL: Final = re.compile(rf"(?:{_WORDS})s(?:$|[^a-z])", re.IGNORECASE)
"""`tokens = ["..."]` holds secrets, `max_tokens = 4000` does not."""
_IN_VALUE: Final = re.compile(r"://[^/\s:@]{0,200}:[^@\s]{1,1000}@|-----BEGIN")
_KEY: Final = re.compile(r"""(?<![\w.\-])(?P<key>[\w.\-]+)["']?[ \t]*[:=][ \t]*""")
_VALUE: Final = re.compile(r""""(?:[^"\\\n]|\\.)*"|'[^'\n]*'|[^\n]+""")
_COUNT: Final = re.compile(r"\d+[ \t]*(?=[,}\]\n]|$)")
_ADDRESS: Final = re.compile(r"(://[^/\s:@]{0,200}:)[^@\s]{1,1000}(@)")
_SHORTEST: Final = 4
"""Secret values below this length are masked where they stand, not wherever the same letters occur."""


def _camel_split(key: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", key)


def looks_secret(path: tuple[str, ...], value: object) -> bool:
    """Whether the value under that path must not be seen: by the names on the path or by the value's own form."""
    if isinstance(value, bool):
        return False
    if any(_ALWAYS.search(_camel_split(part)) for part in path):
        return True
    if isinstance(value, int | float):
        return False
    return any(_PLURAL.search(_camel_split(part)) for part in path) or bool(_IN_VALUE.search(str(value)))


def secret_texts(leaves: Mapping[tuple[str, ...], object]) -> tuple[str, ...]:
    """The texts of all secret-looking values, longest first, lines of a longer text each by itself."""
    found: set[str] = set()
    for path, value in leaves.items():
        if looks_secret(path, value):
            items = value if isinstance(value, list) else [value]
            found.update(line.strip() for item in items for line in str(item).splitlines())
    return tuple(sorted(found - {""}, key=lambda text: (-len(text), text)))


def masked(text: str, secrets: tuple[str, ...] = ()) -> str:
    """`text` with everything that looks secret replaced by `MASK`, and every known secret wherever it stands."""
    text = _hidden_by_key(text)
    text = _ADDRESS.sub(rf"\g<1>{MASK}\g<2>", text)
    for secret in secrets:
        if len(secret) >= _SHORTEST:
            text = text.replace(secret, MASK)
    return text


def _hidden_by_key(text: str) -> str:
    shown: list[str] = []
    start = position = 0
    while found := _KEY.search(text, position):
        position = found.end()
        if _names_secret(found["key"], text, position) and (value := _VALUE.match(text, position)):
            quote = value[0][0] if value[0][0] in "\"'" else ""
            shown += [text[start : value.start()], quote, MASK, quote]
            start = position = value.end()
    return "".join([*shown, text[start:]])


def _names_secret(key: str, text: str, position: int) -> bool:
    if looks_secret((key,), 0):
        return True
    return looks_secret((key,), "") and _COUNT.match(text, position) is None
