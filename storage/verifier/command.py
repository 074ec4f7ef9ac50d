"""The command line: arguments, progress, what is printed and what it exits with."""

import argparse
import io
import json
import os
import sys
import time
import traceback
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
_INTERRUPTED: Final = 130
"""What a command exits with that was interrupted, as shells have it."""


class _Stop(Exception):
    """Ends the command: the input cannot be read."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Exits with 6, not with argparse's own 2, which means a signature here."""
        self.print_usage(sys.stderr)
        self.exit(Code.INPUT, f"{self.prog}: {message}\n")


def main(arguments: Sequence[str], epilog: str = "") -> int:
    """Run the command; returns what to exit with. What was not foreseen is code 7, in one line without a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        code = _run(arguments, epilog)
        sys.stdout.flush()
    except KeyboardInterrupt:
        sys.stderr.write("Interrupted: nothing is known.\n")
        return _INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.stderr.write("The report could not be written to its end.\n")
        return Code.FAILED
    except Exception as error:  # noqa: BLE001 - whatever an input provokes: a verifier that fails says so in its exit code
        if "--traceback" in arguments:
            traceback.print_exc()
        sys.stderr.write(
            f"The verifier itself failed, so nothing is known: {_placed(error)}. --traceback shows more.\n"
        )
        return Code.FAILED
    return code


def _placed(error: Exception) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    where = f" in {Path(frames[-1].filename).name}, line {frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{where}"


def _run(arguments: Sequence[str], epilog: str) -> int:
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
    parser.add_argument("--traceback", action="store_true", help="if the verifier itself fails, show where")
    if not proof:
        parser.add_argument("--older", metavar="FILE", type=Path, action="append", default=[], help="a kept checkpoint")
        parser.add_argument("--no-semantics", action="store_true", help="do not replay what the entries mean")
        parser.add_argument(
            "--without-texts",
            action="store_true",
            help="the plans and constitutions are not there: hold nothing to them",
        )
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
        given.place,
        policy,
        older=older,
        semantics=not given.no_semantics,
        texts=not given.without_texts,
        progress=_Counter() if _shown() else None,
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
