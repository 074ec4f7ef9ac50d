"""The bounds of a constitution's numbers, written down a second time: what the server refuses can never be in force."""

from collections.abc import Callable, Mapping
from typing import Any, Final

Json = dict[str, Any]
_Read = Callable[[Any], Any]
"""Gives a value back, or raises `NumbersUnreadable`."""


class NumbersUnreadable(ValueError):
    """A constitution's numbers are not what can be in force."""


def read_numbers(tables: Json) -> Json:
    """The tables, if every number is there and within its bounds, and nothing else is.

    Raises:
        NumbersUnreadable: says which table is wrong.
    """
    if tables.keys() != _TABLES.keys():
        raise NumbersUnreadable("a table is missing, or is none that is known")
    for name, read in _TABLES.items():
        try:
            read(tables[name])
        except NumbersUnreadable:
            raise NumbersUnreadable(f"what stands under {name} is missing or out of bounds") from None
    return tables


def _require(held: object) -> None:
    if not held:
        raise NumbersUnreadable


def _whole(least: int, most: int) -> _Read:
    def read(value: Any) -> None:  # noqa: ANN401 - any TOML value
        _require(type(value) is int and least <= value <= most)

    return read


def _flag(value: Any) -> None:  # noqa: ANN401 - any TOML value
    _require(type(value) is bool)


def _table(fields: Mapping[str, _Read], whole: Callable[[Json], object] = lambda _: True) -> _Read:
    """A table of exactly these fields, of which something holds together."""

    def read(value: Any) -> None:  # noqa: ANN401 - any TOML value
        _require(type(value) is dict and value.keys() == fields.keys())
        for name, field in fields.items():
            field(value[name])
        _require(whole(value))

    return read


def _tiers(value: Any) -> None:  # noqa: ANN401 - any TOML value
    _require(type(value) is list and len(value) == _HIGHEST + 1)
    for number, tier in enumerate(value):
        _TIER(tier)
        _require(tier["tier"] == number)
    quorums = [tier["quorum"] for tier in value]
    _require(quorums == sorted(quorums))


def _types(value: Any) -> None:  # noqa: ANN401 - any TOML value
    _require(type(value) is list and all(type(each) is str and each in _TYPES for each in value))
    _require(len(set(value)) == len(value))


def _weighed(tier: Json) -> bool:
    lasting = tier["approval_expiry_minutes"] <= tier["plan_expiry_minutes"]
    enough = tier["quorum"] >= tier["tier"] - 1
    return bool(lasting and enough and (tier["tier"] < _HIGHEST or tier["assent"]))


def _floors(table: Json) -> bool:
    floors = [table[name]["lowest_tier_for_changes"] for name in ("development", "staging", "production")]
    return floors == sorted(floors)


def _stricter(table: Json) -> bool:
    ordered = [table[name] for name in ("autonomous", "review", "observe")]
    tiers, quorums = ([each[name] for each in ordered] for name in ("highest_tier", "standard_quorum"))
    rising = tiers == sorted(tiers, reverse=True) and quorums == sorted(quorums)
    return bool(rising and table["observe"]["highest_tier"] == 0 and table["review"]["standard_quorum"] >= 1)


_HIGHEST: Final = 3
_TYPES: Final = frozenset({"maintenance", "deployment", "configuration", "monitoring", "emergency", "validation"})
_TIER_NUMBER: Final = _whole(0, _HIGHEST)
_QUORUM: Final = _whole(0, 10)
_MINUTES: Final = _whole(5, 10_080)
_LEVEL: Final = _whole(1, 10)
_TIER: Final = _table(
    {
        "tier": _TIER_NUMBER,
        "quorum": _QUORUM,
        "assent": _flag,
        "plan_expiry_minutes": _MINUTES,
        "approval_expiry_minutes": _MINUTES,
    },
    _weighed,
)
_FLOOR: Final = _table({"lowest_tier_for_changes": _TIER_NUMBER})
_MODE: Final = _table({"highest_tier": _TIER_NUMBER, "standard_quorum": _QUORUM})
_ADDITION: Final = _table({"quorum": _QUORUM, "assent": _flag})
_CEILINGS: Final = ("crown", "legislative", "judicial", "executive", "observer")
_NEEDED: Final = ("read", "start", "execute", "plan", "evaluate", "rule", "halt")
_TABLES: Final[Mapping[str, _Read]] = {
    "tiers": _tiers,
    "environments": _table(dict.fromkeys(("development", "staging", "production"), _FLOOR), _floors),
    "modes": _table(dict.fromkeys(("autonomous", "review", "observe"), _MODE), _stricter),
    "authorities": _table(dict.fromkeys(("legislative", "executive", "judicial", "crown"), _ADDITION)),
    "levels": _table(
        {"ceiling": _table(dict.fromkeys(_CEILINGS, _LEVEL)), "needed": _table(dict.fromkeys(_NEEDED, _LEVEL))}
    ),
    "plans": _table({"most_steps": _whole(1, 50)}),
    "rollback_plans": _table({"types": _types, "from_tier": _TIER_NUMBER}),
    "warrants": _table({"expiry_seconds": _whole(5, 900)}),
    "emergencies": _table(
        {
            "approvals_waived": _whole(0, 1),
            "time_limit_minutes": _whole(5, 480),
            "ratify_within_minutes": _MINUTES,
        }
    ),
}
