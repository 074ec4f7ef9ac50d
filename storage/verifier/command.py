"""The command line: arguments, progress, what is printed and what it exits with."""

import argparse
import io
import json
import os
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, NoReturn

from .checkpoint import MAX_NOTE, NoteMalformed, NoteUnverified, VerifierKey
from .exported import verify_export
from .mirror import TileMissing, read_bounded
from .policy import MAX_POLICY, Policy, PolicyMalformed, PolicyUnmet
from .proof import MAX_PROOF, NotIncluded, Proof, ProofMalformed, check
from .report import GRAVITY, Code, printable
from .spelling import EntryMalformed, read_entry
from .tiles import TileMalformed

_SECOND: Final = 1.0
_OLDER: Final = "a checkpoint of this log that you kept; may be repeated"
_PROOFS: Final = "*.tlog-proof"
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
        description="Verify proofs of single entries."
        if proof
        else "Verify an exported ledger. `verifier proof FILE ...` verifies proofs of single entries.",
        epilog=epilog,
        allow_abbrev=False,
    )
    if proof:
        parser.add_argument("places", metavar="FILE", type=Path, nargs="+", help="a proof, or a folder of them")
    else:
        parser.add_argument("place", metavar="DIR", type=Path, help="the folder that `triad audit export` wrote")
    parser.add_argument("--policy", metavar="FILE", type=Path, help="whom you trust, in the form of C2SP tlog-policy")
    parser.add_argument(
        "--key",
        metavar="VKEY",
        action="append",
        default=[],
        help="a log key that you trust, as NAME+ID+BASE64; may be repeated",
    )
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.add_argument("--traceback", action="store_true", help="if the verifier itself fails, show where")
    if not proof:
        parser.add_argument("--older", metavar="FILE", type=Path, action="append", default=[], help=_OLDER)
        parser.add_argument("--no-semantics", action="store_true", help="do not replay what the entries mean")
        parser.add_argument(
            "--without-texts",
            action="store_true",
            help="the plans and constitutions are not there: hold nothing to them",
        )
    given = parser.parse_args(list(arguments[1:] if proof else arguments))
    try:
        policy = _policy(given.policy, given.key)
        return _proofs(given, policy) if proof else _export(given, policy)
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
            for key in keys:
                _checked(key)
            return Policy.parse("".join(f"log {key}\n" for key in dict.fromkeys(keys)).encode() + b"quorum none\n")
    except (PolicyMalformed, UnicodeEncodeError) as error:
        raise _Stop(f"{path or '--key'}: {error}") from None
    return None


def _checked(key: str) -> None:
    try:
        VerifierKey.parse(key)
    except NoteMalformed as error:
        raise _Stop(f"--key: that is no vkey, NAME+ID+BASE64: {error}") from None


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


def _proofs(given: argparse.Namespace, policy: Policy | None) -> int:
    if policy is None:
        raise _Stop("a proof says nothing by itself: give --key or --policy, known from elsewhere")
    files = [file for place in given.places for file in _files(place)]
    answers = [_proof(file, policy) for file in files]
    for file, answer in zip(files, answers, strict=True):
        if given.json:
            sys.stdout.write(json.dumps(answer.fields()) + "\n")
            continue
        told = answer.sentence if len(files) == 1 else f"{file.name}: {answer.sentence}"
        sys.stdout.write(printable(told) + "\n")
        if len(files) == 1 and answer.entry is not None and not answer.code:
            sys.stdout.write(json.dumps(answer.entry, indent=1) + "\n")
    codes = {answer.code for answer in answers}
    return int(next((code for code in GRAVITY if code in codes), Code.OK))


def _files(place: Path) -> list[Path]:
    """The proof itself, or all proofs of a folder."""
    if not place.is_dir():
        return [place]
    found = sorted(place.glob(_PROOFS), key=lambda path: (len(path.name), path.name))
    if not found:
        raise _Stop(f"{place.name}: there is no {_PROOFS} in this folder")
    return found


@dataclass(frozen=True, slots=True)
class _Answer:
    code: Code
    sentence: str
    index: int | None
    entry: dict[str, Any] | None

    def fields(self) -> dict[str, Any]:
        return {"ok": not self.code, **asdict(self), "code": int(self.code)}


def _proof(file: Path, policy: Policy) -> _Answer:
    code, sentence, index, entry = Code.OK, "", None, None
    try:
        proof = Proof.parse(_read(file, MAX_PROOF))
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
    return _Answer(code, sentence, index, entry)
