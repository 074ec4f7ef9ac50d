"""Reading a request's words without a language model: clauses, word stems and what they ask to be done.

English only, and coarse on purpose: what is not understood is reported, never guessed.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final, Literal

Connector = Literal["", "and", "then", "after", "before"]


def listed(words: str) -> frozenset[str]:
    """The words of a text, as a set."""
    return frozenset(words.split())


STOPWORDS: Final = listed(
    """a all also an any are as at be been by can could do does each every for from has have i if in into is it its just
    me my need needs now of off on our out over please run so some system systems that the their them there these they
    this those to up us want we which will with would you your"""
)

ACTIONS: Final = listed(
    """abort add allow alter analyse apply archive assign attach ban buy cancel change clean clear
    compact compress convert create deactivate delete demote deny deploy destroy detach disable
    downgrade drop edit email enable encrypt erase evict execute expand export failover fix flush grant
    grow halt import install kill launch merge migrate modify move
    optimize overwrite patch pause promote provision publish purge push reboot rebuild reclaim reconfigure
    recreate reduce refactor register reindex reload remove rename repair replace replicate reset resize restart
    restore resume revert revoke rewrite roll rotate scale send set shrink shut start stop switch terminate translate
    trim truncate tune undo uninstall update upgrade upload vacuum warm wipe"""
)
"""Verbs that ask for an effect. A clause with one of these is either answered by a playbook or it is refused."""

_LOOK: Final = """check inspect look examine verify observe monitor watch show report review probe diagnose investigate
    test validate validation confirm ensure"""

_SAME: Final[tuple[tuple[str, ...], ...]] = tuple(
    tuple(words.split())
    for words in (
        _LOOK,
        "delete remove purge erase",
        "clean clear cleanup tidy",
        "backup dump snapshot",
        "optimize optimise optimization optimisation tune",
        "analyze analyse",
        "rotate rotation",
        "index indexes indices",
        "restore restoration",
        "expire expired expiry stale outdated obsolete",
        "old older oldest ancient",
        "certificate certificates cert certs tls ssl",
        "directory folder",
        "free space",
        "kill terminate",
        "change set alter modify edit update",
        "compress compression zip gzip",
        "postgres postgresql database db",
        "log logs logfile logfiles",
        "config configuration configure setting settings",
        "health healthy status state alive",
        "slow latency performance performant",
        "rebuild recreate reindex",
        "website site endpoint url http https web",
        "host machine server",
        "cpu memory ram load",
        "idle inactive",
        "undo revert rollback",
    )
)

_PHRASES: Final = (
    (re.compile(r"\b(?:back(?:ing|ed|s)?[ -](?:it |them |this |everything )?up|backups?)\b"), "backup"),
    (re.compile(r"\b(?:clean(?:ing|ed|s)?[ -]up)\b"), "clean"),
    (re.compile(r"\broll(?:ing|ed|s)?[ -]back\b"), "rollback"),
    (re.compile(r"\bset[ -]up\b"), "configure"),
    (re.compile(r"\bshut(?:ting)?[ -]down\b"), "stop"),
    (re.compile(r"\bget(?:ting)? rid of\b"), "remove"),
    (re.compile(r"\bre-(?=[a-z])"), "re"),
    (re.compile(r",?\s*\b(if possible|where possible|ideally|optionally)\b,?"), r" \1"),
)

_SPLIT: Final = re.compile(
    r"\s*(?:[;\n]|\.(?:\s|$)|,?\s*\b(?:and then|then|afterwards|and after that|after that|finally|next)\b,?"
    r"|,?\s*\b(after|before)\b(?!\s+\d)|,?\s*\b(?:and also|and|plus|as well as|also)\b|,|&)\s*"
)
_ORDERED: Final = re.compile(r"then|afterwards|after that|finally|next|;|\.")
_NEGATED: Final = re.compile(r"\b(?:not|never|without|don'?t|do not|avoid|except|no)\b.*")
_WORD: Final = re.compile(r"[a-z0-9_]+")
_MARK: Final = re.compile("\ue000(\\d+)\ue001")
_SHORTEST: Final = 3
"""Letters that a stem keeps at least."""


@dataclass(frozen=True, slots=True)
class Clause:
    """One thing that is asked, in the words of the request, and how it hangs on the clause before it."""

    text: str
    stems: tuple[str, ...]
    actions: frozenset[str]
    names: tuple[str, ...] = ()
    connector: Connector = ""


def _bare(word: str) -> str:
    if word.endswith("ies") and len(word) > _SHORTEST + 1:
        return word[:-3] + "y"
    if word.endswith(("ss", "us", "is")):
        return word
    for ending in ("ing", "ed", "es", "s"):
        if word.endswith(ending) and len(word) - len(ending) >= _SHORTEST:
            return _plain(word.removesuffix(ending))
    return _plain(word)


def _plain(word: str) -> str:
    if len(word) > _SHORTEST and word[-1] == word[-2] and word[-1] not in "ls":
        return word[:-1]
    return word[:-1] if len(word) > _SHORTEST and word.endswith("e") else word


_SYNONYMS: Final = {_bare(word): _bare(group[0]) for group in _SAME for word in group}


@lru_cache(maxsize=4096)
def stem(word: str) -> str:
    """A coarse stem: the endings -s, -ing and -ed off, synonyms to one word."""
    bare = _bare(word)
    return _SYNONYMS.get(bare, bare)


_ACTION_STEMS: Final = frozenset(stem(word) for word in ACTIONS)
LOOKING: Final = stem("check")
"""The stem of every verb that only asks to look."""


def normal(text: str) -> str:
    """Lower case, with phrases of several words put into one."""
    lowered = text.lower()
    for pattern, word in _PHRASES:
        lowered = pattern.sub(word, lowered)
    return lowered


def stems(text: str) -> tuple[str, ...]:
    """The stems of a text's words, stopwords left out; `_` and `-` separate words."""
    words = _WORD.findall(normal(text).replace("_", " "))
    return tuple(stem(word) for word in words if word not in STOPWORDS)


def clauses(text: str, names: Sequence[str] = ()) -> tuple[Clause, ...]:
    """What a text asks, clause by clause, in the order in which it is to be done.

    `X after Y` and `before X, Y` come back as Y, X. What is negated (`without`, `not`, `never`) is left out. `names`
    are names of things: in a clause they count as mentioned, not as words.
    """
    found: list[Clause] = []
    connector: Connector = ""
    at = 0
    source = _marked(text.lower(), names)
    for match in [*_SPLIT.finditer(source), None]:
        words = _NEGATED.sub("", source[at : match.start() if match else None]).strip()
        if words:
            found.append(_clause(words, names, connector))
        if match is None:
            break
        connector = _connector(match) if words or not found else connector
        at = match.end()
    return _in_order(found)


def _marked(text: str, names: Sequence[str]) -> str:
    """`text` with each name that is no plain word replaced by a mark; a plain word stays beside its mark."""
    marked = text
    for number, name in sorted(enumerate(names), key=lambda pair: -len(pair[1])):
        mark = f"\ue000{number}\ue001"
        kept = f"{name} {mark}" if name.isalpha() else mark
        marked = re.sub(rf"(?<![\w-]){re.escape(name)}(?![\w-])", kept, marked)
    return normal(marked)


def _clause(words: str, names: Sequence[str], connector: Connector) -> Clause:
    mentioned = tuple(names[int(number)] for number in _MARK.findall(words))
    text = " ".join(_MARK.sub(" ", words).split())
    found = stems(text)
    return Clause(text, found, frozenset(found) & _ACTION_STEMS, mentioned, connector)


def _connector(match: re.Match[str]) -> Connector:
    word = match.group(1)
    if word == "before":
        return "before"
    if word is not None:
        return "after"
    return "then" if _ORDERED.search(match.group(0)) else "and"


def _in_order(found: list[Clause]) -> tuple[Clause, ...]:
    ordered: list[Clause] = []
    for clause in found:
        if clause.connector == "after" and ordered:
            ordered.insert(len(ordered) - 1, clause)
        elif len(ordered) == 1 and ordered[0].connector == "before":
            ordered = [replace(clause, connector=""), ordered[0]]
        else:
            ordered.append(clause)
    return tuple(ordered)
