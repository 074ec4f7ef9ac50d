"""The command line: arguments, progress, what is printed and what it exits with."""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NoReturn

from .checkpoint import MAX_NOTE, NoteMalformed, NoteUnverified
from .exported import verify_export
from .mirror import TileMissing, read_bounded
from .policy import MAX_POLICY, Policy, PolicyMalformed, PolicyUnmet
from .proof import MAX_PROOF, NotIncluded, Proof, ProofMalformed, check
from .report import Code, printable
from .spelling import EntryMalformed, read_entry
from .tiles import TileMalformed

_SECOND: Final = 1.0


class _Stop(Exception):
    """Ends the command: the input cannot be read."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Exits with 6, not with argparse's own 2, which means a signature here."""
        self.print_usage(sys.stderr)
        self.exit(Code.INPUT, f"{self.prog}: {message}\n")


def main(arguments: Sequence[str], epilog: str = "") -> int:
    """Run the command; returns what to exit with."""
    proof = bool(arguments) and arguments[0] == "proof"
    parser = _Parser(
        prog="verifier proof" if proof else "verifier",
        description="Verify one proof file." if proof else "Verify an exported ledger. `proof FILE`: one proof file.",
        epilog=epilog,
        allow_abbrev=False,
    )
    parser.add_argument("place", metavar="FILE" if proof else "DIR", type=Path)
    parser.add_argument("--policy", metavar="FILE", type=Path, help="whom you trust, in the form of C2SP tlog-policy")
    parser.add_argument("--key", metavar="VKEY", action="append", default=[], help="a log key that you trust")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    if not proof:
        parser.add_argument("--older", metavar="FILE", type=Path, action="append", default=[], help="a kept checkpoint")
        parser.add_argument("--no-semantics", action="store_true", help="do not replay what the entries mean")
    given = parser.parse_args(list(arguments[1:] if proof else arguments))
    try:
        policy = _policy(given.policy, given.key)
        return _proof(given, policy) if proof else _export(given, policy)
    except _Stop as stop:
        sys.stderr.write(printable(str(stop)) + "\n")
        return Code.INPUT


def _policy(path: Path | None, keys: Sequence[str]) -> Policy | None:
    try:
        if path is not None and keys:
            raise _Stop("--policy and --key exclude each other: a policy names its log keys itself")
        if path is not None:
            return Policy.parse(_read(path, MAX_POLICY))
        if keys:
            return Policy.parse("".join(f"log {key}\n" for key in dict.fromkeys(keys)).encode() + b"quorum none\n")
    except (PolicyMalformed, UnicodeEncodeError) as error:
        raise _Stop(f"{path or '--key'}: {error}") from None
    return None


def _read(path: Path, limit: int) -> bytes:
    try:
        return read_bounded(path, limit)
    except (TileMissing, TileMalformed) as error:
        raise _Stop(str(error)) from None
    except OSError as error:
        raise _Stop(f"{path.name}: {error.strerror or 'it cannot be read'}") from None


def _export(given: argparse.Namespace, policy: Policy | None) -> int:
    older = [_read(path, MAX_NOTE) for path in given.older]
    report = verify_export(
        given.place, policy, older=older, semantics=not given.no_semantics, progress=_Counter() if _shown() else None
    )
    sys.stdout.write(report.to_json() + "\n" if given.json else report.text())
    return int(report.code)


def _shown() -> bool:
    return sys.stderr.isatty()


class _Counter:
    """Shows on a terminal how far a large log is read."""

    def __init__(self) -> None:
        self._last = time.monotonic()
        self._shown = False

    def __call__(self, done: int, total: int) -> None:
        at = time.monotonic()
        if at - self._last >= _SECOND and done < total:
            self._last, self._shown = at, True
            sys.stderr.write(f"\r{done} of {total} entries")
        elif self._shown and done == total:
            sys.stderr.write("\r\x1b[K")


def _proof(given: argparse.Namespace, policy: Policy | None) -> int:
    if policy is None:
        raise _Stop("a proof says nothing by itself: give --key or --policy, known from elsewhere")
    code, sentence, index, entry = Code.OK, "", None, None
    try:
        proof = Proof.parse(_read(given.place, MAX_PROOF))
        index = proof.index
        judged = check(proof, None, policy, int(time.time()))
        entry = read_entry(proof.extra or b"")
        sentence = f"Entry {index} stands in {judged.checkpoint.origin}, under {judged.checkpoint.size} entries."
        if entry["index"] != index or entry["origin"] != judged.checkpoint.origin:
            code, sentence = Code.SEMANTICS, "The entry says that it stands elsewhere."
    except (NoteUnverified, PolicyUnmet) as error:
        code, sentence = Code.SIGNATURE, f"The checkpoint is not to be trusted: {error}"
    except NotIncluded as error:
        code, sentence = Code.ROOT, f"The entry is not proved to be in the log: {error}"
    except EntryMalformed as error:
        code, sentence = Code.SEMANTICS, f"What the log holds there is not an entry: {error}"
    except (ProofMalformed, NoteMalformed) as error:
        code, sentence = Code.INPUT, f"The proof cannot be read: {error}"
    if given.json:
        found = {"ok": not code, "code": int(code), "index": index, "sentence": sentence, "entry": entry}
        sys.stdout.write(json.dumps(found) + "\n")
    else:
        sys.stdout.write(printable(sentence) + "\n")
        if entry is not None and not code:
            sys.stdout.write(json.dumps(entry, indent=1) + "\n")
    return int(code)
