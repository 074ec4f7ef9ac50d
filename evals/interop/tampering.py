"""Ways to tamper with an export. Each must be refused by every reader that looks at what it changes."""

import base64
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final


@dataclass(frozen=True, slots=True)
class Tampering:
    """One way.

    Attributes:
        name: what is changed, in words.
        apply: changes it in a copy of an export.
        unseen: readers that cannot see it, because they do not know the algorithm.
    """

    name: str
    apply: Callable[[Path], None]
    unseen: frozenset[str] = frozenset()


def _flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(bytes(data))


def _line(path: Path, number: int, change: Callable[[str], str]) -> None:
    lines = path.read_text().split("\n")
    lines[number] = change(lines[number])
    path.write_text("\n".join(lines))


def _decoded(text: str, at: int) -> str:
    data = bytearray(base64.b64decode(text))
    data[at] ^= 1
    return base64.b64encode(bytes(data)).decode()


def _signature(home: Path, number: int, at: int) -> None:
    def change(line: str) -> str:
        if not line:
            raise IndexError("no such signature")
        mark, name, encoded = line.split(" ")
        return f"{mark} {name} {_decoded(encoded, at)}"

    _line(home / "checkpoint", 4 + number, change)


def _size(home: Path) -> None:
    _line(home / "checkpoint", 1, lambda line: str(int(line) - 1))


def _root(home: Path) -> None:
    _line(home / "checkpoint", 2, lambda line: _decoded(line, 0))


def _origin(home: Path) -> None:
    _line(home / "checkpoint", 0, lambda line: line + "x")


def _without_line(home: Path, number: int) -> None:
    path = home / "checkpoint"
    lines = path.read_text().split("\n")
    if not lines[4 + number]:
        raise IndexError("no such signature")
    del lines[4 + number]
    path.write_text("\n".join(lines))


def _tiles(home: Path, level: str) -> list[Path]:
    return sorted(path for path in (home / "tile" / level).rglob("*") if path.is_file())


def _swap(home: Path) -> None:
    first, second = _tiles(home, "0")[:2]
    first_data, second_data = first.read_bytes(), second.read_bytes()
    first.write_bytes(second_data)
    second.write_bytes(first_data)


def _reverse(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[32:64] + data[:32] + data[64:])


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def _proof(home: Path) -> Path:
    return max((home / "proofs").iterdir(), key=lambda path: path.stat().st_size)


TAMPERINGS: Final = (
    Tampering("the checkpoint's origin", _origin),
    Tampering("the checkpoint's size", _size),
    Tampering("the checkpoint's root", _root),
    Tampering("the log's signature", lambda home: _signature(home, 0, -1)),
    Tampering("the log's signature taken away", lambda home: _without_line(home, 0)),
    Tampering("a cosignature", lambda home: _signature(home, 1, -1)),
    Tampering("a cosignature's time", lambda home: _signature(home, 1, 11)),
    Tampering("a cosignature taken away", lambda home: _without_line(home, 1)),
    Tampering("an ML-DSA-44 cosignature", lambda home: _signature(home, 2, 1000), frozenset({"sumdb"})),
    Tampering("an ML-DSA-44 cosignature's time", lambda home: _signature(home, 2, 11), frozenset({"sumdb"})),
    Tampering("a hash in a full tile", lambda home: _flip(_tiles(home, "0")[0], 100)),
    Tampering("a hash in a partial tile", lambda home: _flip(_tiles(home, "0")[-1], -1)),
    Tampering("a hash in a tile of the next level", lambda home: _flip(_tiles(home, "1")[0], 0)),
    Tampering("two tiles swapped", _swap),
    Tampering("two hashes of a tile swapped", lambda home: _reverse(_tiles(home, "0")[-1])),
    Tampering("a tile cut short", lambda home: _truncate(_tiles(home, "0")[-1])),
    Tampering("a tile taken away", lambda home: _tiles(home, "0")[-1].unlink()),
    Tampering("an entry in a full bundle", lambda home: _flip(_tiles(home, "entries")[0], 5)),
    Tampering("an entry in a partial bundle", lambda home: _flip(_tiles(home, "entries")[-1], -1)),
    Tampering("a bundle cut short", lambda home: _truncate(_tiles(home, "entries")[-1])),
    Tampering(
        "the entry in a proof", lambda home: _line(_proof(home), 1, lambda line: "extra " + _decoded(line[6:], 3))
    ),
    Tampering("the index in a proof", lambda home: _line(_proof(home), 2, lambda line: f"index {int(line[6:]) - 1}")),
    Tampering("a hash in a proof", lambda home: _line(_proof(home), 3, lambda line: _decoded(line, 31))),
)
