"""Exports in a folder, verified from their files alone: by the package, by a copy of it, and as one file."""

import ast
import json
import os
import random
import shutil
import subprocess
import sys
import tracemalloc
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import storage.verifier
from api.cli.verification import write_verifier
from operations.events import PlanProposed
from operations.stages import Stage
from storage.entry import Entry
from storage.verifier import checkpoint, command, tree
from storage.verifier.checkpoint import MAX_NOTE, Note, VerifierKey, cosigned
from storage.verifier.cosignature import ED25519_V1, CosignerKey, cosign
from storage.verifier.exported import verify_export
from storage.verifier.kept import KeptNotes
from storage.verifier.law import MAX_CONSTITUTION
from storage.verifier.plans import MAX_PLAN
from storage.verifier.policy import Policy, Witness
from storage.verifier.proof import Proof
from storage.verifier.report import Code, Omitted, Report
from storage.verifier.tiles import MAX_BUNDLE
from storage.verifier.verification import verify
from tests.logbook import DOCUMENT, KEY, ORIGIN, PRIVATE, Logbook, administered, eventful

OLD = Policy.of([KEY])


@pytest.fixture
def book() -> Logbook:
    book = Logbook(text=DOCUMENT)
    book.until(Stage.COMPLETED)
    book.until(Stage.ROLLED_BACK)
    op = book.until(Stage.RUNNING)
    book.intent(op, book.warrant(op, 1))
    return settled(book)


def settled(book: Logbook) -> Logbook:
    """The log in which the plans that have no body were deleted on the record."""
    proposed = [entry.event.plan for entry in map(Entry.decode, book.entries) if isinstance(entry.event, PlanProposed)]
    book.expire(*(plan for plan in proposed if plan not in book.plans))
    return book


def rules(report: Report) -> list[str]:
    return sorted({problem.rule for problem in report.problems})


def test_an_export_verifies_and_says_what_was_checked_and_what_was_not(book: Logbook, tmp_path: Path) -> None:
    report = verify_export(book.export(tmp_path), OLD)
    assert (report.ok, report.code, report.size) == (True, Code.OK, len(book.entries))
    assert report.omitted == ()
    said = report.text()
    assert said.startswith("INTACT\n")
    assert "checked: that every hash tile agrees with the entries" in said
    assert "not checked: whether the log was cut short" in said
    assert "the export's own policy" not in said
    assert json.loads(report.to_json())["open_steps"][0]["status"] == "intended"


def test_without_a_key_the_report_says_that_this_shows_only_that_the_export_agrees_with_itself(
    book: Logbook, tmp_path: Path
) -> None:
    report = verify_export(book.export(tmp_path))
    assert report.ok
    assert "agrees with itself" in report.unchecked[0]
    assert report.omitted == (Omitted.KEYS,)
    assert report.text().startswith("INTACT, but not checked: keys\n")


def test_a_log_with_everything_verifies_from_its_export(tmp_path: Path) -> None:
    book = settled(administered())
    book.plan_of(book.request())
    report = verify_export(book.export(tmp_path), Policy.of([book.key]))
    assert report.problems == ()
    assert any("against 1 plan(s)" in sentence for sentence in report.checked)
    assert any("2 constitution(s)" in sentence for sentence in report.checked)
    assert any("plan(s) whose text was deleted on the record" in sentence for sentence in report.unchecked)
    assert report.remarks[0].sentence.startswith("The witness w.example refused")


def test_no_single_flipped_bit_of_an_exports_entries_and_tiles_is_accepted(book: Logbook, tmp_path: Path) -> None:
    book.export(tmp_path)
    chance = random.Random(9162)
    paths = sorted(path for path in (tmp_path / "tile").rglob("*") if path.is_file())
    for path in paths:
        whole = path.read_bytes()
        for at in [0, 1, len(whole) - 1, *(chance.randrange(len(whole)) for _ in range(60))]:
            changed = bytearray(whole)
            changed[at] ^= 1 << chance.randrange(8)
            path.write_bytes(changed)
            assert verify_export(tmp_path, OLD, semantics=False).code in {Code.ROOT, Code.INPUT}
        path.write_bytes(whole)
    assert verify_export(tmp_path, OLD).ok


def test_a_hash_tile_that_lies_is_named(book: Logbook, tmp_path: Path) -> None:
    book.export(tmp_path)
    [path] = [path for path in (tmp_path / "tile" / "0").rglob("*") if path.is_file()]
    path.write_bytes(b"\x00" * len(path.read_bytes()))
    report = verify_export(tmp_path, OLD)
    assert (report.code, rules(report)) == (Code.ROOT, ["tiles"])
    assert "tile/0/000.p/" in report.problems[0].sentence


def test_an_export_with_other_keys_in_it_does_not_fool_whoever_knows_the_key(tmp_path: Path) -> None:
    thief = Ed25519PrivateKey.generate()
    forged = Logbook()
    forged.private = thief
    forged.export(tmp_path, Policy.of([VerifierKey(ORIGIN, thief.public_key().public_bytes_raw())]))
    assert verify_export(tmp_path, OLD).code is Code.SIGNATURE
    assert not verify_export(tmp_path).ok, "the forger's key is not the one that the entries name"


@pytest.mark.parametrize("missing", ["checkpoint", "policy", "tile/entries/000.p/{size}"])
def test_an_incomplete_export_is_input(book: Logbook, tmp_path: Path, missing: str) -> None:
    book.export(tmp_path)
    name = missing.format(size=len(book.entries))
    (tmp_path / name).unlink()
    report = verify_export(tmp_path)
    assert report.code is Code.INPUT
    assert len(report.problems) == 1
    assert name in report.problems[0].sentence


@pytest.mark.parametrize("name", ["checkpoint", "policy"])
@pytest.mark.parametrize("content", [b"", b"nonsense\n", b"\xff\n", b"x" * 2_000_000])
def test_what_is_no_checkpoint_or_no_policy_is_input(book: Logbook, tmp_path: Path, name: str, content: bytes) -> None:
    book.export(tmp_path)
    (tmp_path / name).write_bytes(content)
    assert verify_export(tmp_path).code is Code.INPUT


@pytest.mark.parametrize("content", [b"", b"\x00", b"\xff\xff" * 9, b"x" * (MAX_BUNDLE + 1)])
def test_a_bundle_that_is_none_is_input(book: Logbook, tmp_path: Path, content: bytes) -> None:
    book.export(tmp_path)
    (tmp_path / f"tile/entries/000.p/{len(book.entries)}").write_bytes(content)
    assert verify_export(tmp_path, OLD).code is Code.INPUT


def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(book: Logbook, tmp_path: Path) -> None:
    book.export(tmp_path)
    (tmp_path / "checkpoint").unlink()
    os.mkfifo(tmp_path / "checkpoint")
    assert verify_export(tmp_path, OLD).code is Code.INPUT


def test_a_kept_checkpoint_of_a_longer_log_is_a_rollback(book: Logbook, tmp_path: Path) -> None:
    longer = book.note()
    book.entries = book.entries[:40]
    book.kept.append(longer)
    report = verify_export(book.export(tmp_path), OLD, texts=False)
    assert (report.code, rules(report)) == (Code.FORK, ["rollback"])


def test_the_text_of_a_constitution_must_be_there_and_be_the_one_in_force(tmp_path: Path) -> None:
    book = settled(administered())
    book.export(tmp_path)
    trusted = Policy.of([book.key])
    first, second = sorted((tmp_path / "constitutions").iterdir())
    first.write_bytes(first.read_bytes() + b"\n")
    second.unlink()
    report = verify_export(tmp_path, trusted)
    assert (report.code, rules(report)) == (Code.SEMANTICS, ["text"])
    assert len({problem.index for problem in report.problems}) == 2


# What lies beside the entries: missing, unreadable, too much.


def planned() -> Logbook:
    """A log under the real constitution whose plan's body is kept."""
    book = Logbook(text=DOCUMENT)
    book.plan_of(book.request())
    return book


@pytest.mark.parametrize("folder", ["plans", "constitutions"])
def test_a_text_that_no_entry_says_was_deleted_must_be_there(tmp_path: Path, folder: str) -> None:
    planned().export(tmp_path)
    assert verify_export(tmp_path, OLD).text().startswith("INTACT\n")
    shutil.rmtree(tmp_path / folder)
    report = verify_export(tmp_path, OLD)
    assert (report.code, rules(report)) == (Code.SEMANTICS, ["text"])
    assert "missing" in report.problems[0].sentence
    assert [Entry.decode(planned().entries[each.index or 0]).kind for each in report.problems] == (
        ["plan.proposed"] if folder == "plans" else ["genesis"]
    )


def test_a_plan_whose_deletion_is_recorded_may_be_missing(tmp_path: Path) -> None:
    book = planned()
    book.expire(*book.plans)
    book.plans.clear()
    report = verify_export(book.export(tmp_path), OLD)
    assert (report.ok, report.omitted) == (True, ())
    assert any("deleted on the record" in sentence for sentence in report.unchecked)


def test_whoever_does_without_the_texts_is_told_so_in_the_first_line(tmp_path: Path) -> None:
    planned().export(tmp_path)
    shutil.rmtree(tmp_path / "plans")
    shutil.rmtree(tmp_path / "constitutions")
    report = verify_export(tmp_path, OLD, texts=False)
    assert report.omitted == (Omitted.PLANS, Omitted.CONSTITUTIONS)
    assert report.text().startswith("INTACT, but not checked: plans, constitutions\n")
    assert json.loads(report.to_json())["omitted"] == ["plans", "constitutions"]
    bare = verify_export(tmp_path, OLD, semantics=False)
    assert bare.text().startswith("INTACT, but not checked: meaning, plans, constitutions\n")


@pytest.mark.parametrize("folder", ["plans", "constitutions"])
@pytest.mark.parametrize("how", ["pipe", "folder", "loop", "long"])
def test_a_text_that_cannot_be_read_is_not_taken_for_missing(tmp_path: Path, folder: str, how: str) -> None:
    planned().export(tmp_path)
    [path] = (tmp_path / folder).iterdir()
    path.unlink()
    if how == "pipe":
        os.mkfifo(path)
    elif how == "folder":
        path.mkdir()
    elif how == "loop":
        path.symlink_to(path.name)
    else:
        with path.open("wb") as file:
            file.truncate(max(MAX_PLAN, MAX_CONSTITUTION) + 1)
    report = verify_export(tmp_path, OLD)
    assert (report.code, rules(report)) == (Code.INPUT, ["input"])
    assert f"{folder}/{path.name}" in report.problems[0].sentence
    assert not any("mean" in sentence for sentence in report.checked)


def test_a_kept_checkpoint_that_cannot_be_read_is_named(book: Logbook, tmp_path: Path) -> None:
    book.export(tmp_path)
    kept = tmp_path / "checkpoints"
    kept.mkdir(exist_ok=True)
    (kept / "8").write_bytes(b"nonsense")
    (kept / "9").mkdir()
    report = verify_export(tmp_path, OLD)
    assert report.code is Code.INPUT
    assert [name in problem.sentence for name, problem in zip(("/8 ", "/9 "), report.problems, strict=True)] == [
        True
    ] * 2


def test_large_files_among_the_kept_checkpoints_are_read_one_at_a_time_and_each_is_counted(
    book: Logbook, tmp_path: Path
) -> None:
    book.export(tmp_path)
    (tmp_path / "checkpoints").mkdir(exist_ok=True)
    number = 400
    for name in range(number):
        with (tmp_path / "checkpoints" / str(name)).open("wb") as file:
            file.truncate(MAX_NOTE)
    tracemalloc.start()
    try:
        report = verify_export(tmp_path, OLD, semantics=False)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (report.code, report.found) == (Code.INPUT, number)
    assert len(report.problems) < number
    assert most < number * MAX_NOTE // 4


def test_too_many_kept_checkpoints_are_thinned_evenly_but_rotations_are_followed_all_the_same(tmp_path: Path) -> None:
    book = settled(administered())
    book.kept += [book.note(size, PRIVATE) for size in range(1, 9)]
    book.export(tmp_path)
    kept = KeptNotes(tmp_path, most=4)
    assert (kept.found, len(KeptNotes(tmp_path))) == (10, 10)
    assert [name for name in kept.names if int(name.rpartition("/")[2]) < 9] == [
        f"checkpoints/{at}" for at in (3, 5, 8)
    ]
    report = verify(book.entries, book.note(), OLD, rotations=kept)
    assert report.ok
    assert sum("follows a trusted one" in sentence for sentence in report.checked) == 2
    assert any(f"{10 - len(kept)} of the 10 checkpoints kept" in sentence for sentence in report.unchecked)


# Rotations of the log's key.


def test_whoever_trusts_only_the_first_key_follows_the_rotations(tmp_path: Path) -> None:
    report = verify_export(settled(administered()).export(tmp_path), OLD)
    assert report.problems == ()
    assert sum("follows a trusted one" in sentence for sentence in report.checked) == 2


def test_whoever_trusts_only_the_newest_key_verifies_and_is_told_what_the_old_ones_alone_could_show(
    tmp_path: Path,
) -> None:
    book = settled(administered())
    early = Note(book.head(9).text(), (checkpoint.sign(book.head(9).text(), ORIGIN, PRIVATE),)).encode()
    book.kept.insert(0, early)
    report = verify_export(book.export(tmp_path), Policy.of([book.key]))
    assert report.ok
    assert any("checkpoint of 9 entries" in sentence for sentence in report.unchecked)
    assert verify_export(tmp_path, Policy.of([book.key]), older=[early]).code is Code.SIGNATURE


def test_a_rotation_whose_checkpoint_lacks_a_signature_is_not_followed(tmp_path: Path) -> None:
    book = settled(administered())
    text = checkpoint.parse_note(book.kept[0]).text
    book.kept[0] = Note(text, (checkpoint.sign(text, ORIGIN, PRIVATE),)).encode()
    assert verify_export(book.export(tmp_path), OLD).code is Code.SIGNATURE


def test_a_rotation_that_the_log_does_not_record_is_not_followed(tmp_path: Path) -> None:
    book = settled(administered())
    thief = Ed25519PrivateKey.generate()
    book.private = thief
    text = book.head().text()
    book.kept.append(Note(text, tuple(checkpoint.sign(text, ORIGIN, each) for each in (PRIVATE, thief))).encode())
    assert verify_export(book.export(tmp_path), OLD).code is Code.SIGNATURE


def test_a_kept_checkpoint_with_a_broken_signature_of_a_trusted_key_is_not_passed_over(tmp_path: Path) -> None:
    book = Logbook(text=DOCUMENT)
    book.until(Stage.COMPLETED)
    settled(book)
    head = book.head(5).text()
    book.kept.append(Note(head, (checkpoint.sign(book.head(4).text(), ORIGIN, PRIVATE),)).encode())
    report = verify_export(book.export(tmp_path), OLD)
    assert (report.code, rules(report)) == (Code.SIGNATURE, ["signature"])


def test_the_old_key_signs_no_checkpoint_after_its_rotation(tmp_path: Path) -> None:
    book = settled(administered())
    book.private = PRIVATE
    book.export(tmp_path)
    for semantics in (True, False):
        report = verify_export(tmp_path, OLD, semantics=semantics)
        assert (report.code, rules(report)) == (Code.SIGNATURE, ["key"])


def test_a_witnesses_key_does_not_become_the_logs(tmp_path: Path) -> None:
    book = settled(administered())
    following = Ed25519PrivateKey.from_private_bytes(b"\x01" * 32).public_key().public_bytes_raw()
    policy = replace(OLD, witnesses=(Witness("w", CosignerKey("w.example", ED25519_V1, following)),), quorum="w")
    report = verify_export(book.export(tmp_path), policy)
    assert report.code is Code.SIGNATURE
    assert not any("follows a trusted one" in sentence for sentence in report.checked)


# Witnesses.


def witnessed(folder: Path, book: Logbook, time: int = 1_700_000_000) -> tuple[Policy, Ed25519PrivateKey]:
    private = Ed25519PrivateKey.from_private_bytes(b"w" * 32)
    key = CosignerKey("w.example", ED25519_V1, private.public_key().public_bytes_raw())
    policy = replace(OLD, witnesses=(Witness("w", key),), quorum="w")
    note = book.note()
    book.export(folder)
    signature = cosign(checkpoint.parse_note(note).text, "w.example", private, time)
    (folder / "checkpoint").write_bytes(cosigned(note, [signature]))
    return policy, private


def test_a_witness_that_is_asked_for_and_cosigned_is_named(book: Logbook, tmp_path: Path) -> None:
    policy, _ = witnessed(tmp_path, book)
    report = verify_export(tmp_path, policy)
    assert report.problems == ()
    assert [each.name for each in report.witnesses] == ["w"]
    assert "cosigned by: w at 2023-11-14T22:13:20Z" in report.text()
    assert not any("cut short" in sentence for sentence in report.unchecked)


def test_a_witness_that_is_missing_is_named_and_the_checkpoint_not_trusted(book: Logbook, tmp_path: Path) -> None:
    policy, _ = witnessed(tmp_path, book)
    (tmp_path / "checkpoint").write_bytes(book.note())
    report = verify_export(tmp_path, policy)
    assert (report.code, rules(report)) == (Code.SIGNATURE, ["witnesses"])
    assert "w" in report.problems[0].sentence


# Alone: a copy of the folder, and one file.

CHECK = (
    "import runpy, sys\n"
    "before = set(sys.modules)\n"
    "sys.argv = sys.argv[1:]\n"
    "try:\n"
    "    runpy.run_path(sys.argv[0], run_name='__main__')\n"
    "finally:\n"
    "    own = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
    "    allowed = sys.stdlib_module_names | {'verifier', 'cryptography', '_openssl', '_cffi_backend'}\n"
    "    print(sorted(own - allowed), file=sys.stderr)\n"
)


def alone(place: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the verifier isolated, where the project cannot be found; the last line says what was imported."""
    command = [sys.executable, "-I", "-c", CHECK, *map(str, arguments)]
    return subprocess.run(command, cwd=place, capture_output=True, text=True, check=False, timeout=120)


@pytest.fixture(params=["folder", "file"])
def verifier(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The verifier, carried away from the project."""
    if request.param == "folder":
        source = Path(storage.verifier.__file__).parent
        ignored = shutil.ignore_patterns("__pycache__")
        return Path(shutil.copytree(source, tmp_path / "elsewhere" / "renamed", ignore=ignored))
    write_verifier(tmp_path / "verifier.pyz")
    return tmp_path / "verifier.pyz"


def test_the_verifier_runs_alone_and_imports_nothing_but_the_standard_library_and_cryptography(
    verifier: Path, book: Logbook, tmp_path: Path
) -> None:
    export = book.export(tmp_path / "export")
    done = alone(tmp_path, verifier, export, "--key", KEY.text(), "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["size"] == len(book.entries)
    assert done.stderr.splitlines()[-1] == "[]"


def test_every_import_of_the_verifier_is_a_sibling_the_standard_library_or_cryptography() -> None:
    for path in Path(storage.verifier.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                roots = {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                roots = {(node.module or "").partition(".")[0]}
            else:
                continue
            allowed = (
                sys.stdlib_module_names | {"cryptography"} | ({"verifier"} if path.name == "__main__.py" else set())
            )
            assert roots <= allowed, path.name


def test_the_copied_package_runs_as_a_module(book: Logbook, tmp_path: Path) -> None:
    export = book.export(tmp_path / "export")
    source = Path(storage.verifier.__file__).parent
    shutil.copytree(source, tmp_path / "verifier", ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "verifier", str(export), "--key", KEY.text()]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, "INTACT")


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "storage.verifier", *map(str, arguments)]
    root = Path(__file__).parent.parent
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)


def test_each_exit_code_is_the_findings(tmp_path: Path) -> None:
    book = Logbook(text=DOCUMENT)
    book.until(Stage.COMPLETED)
    export = settled(book).export(tmp_path / "export")
    (tmp_path / "older").write_bytes(eventful().note())
    other = VerifierKey(ORIGIN, Ed25519PrivateKey.generate().public_key().public_bytes_raw())
    (tmp_path / "policy").write_bytes(OLD.encode())
    assert run(export, "--policy", tmp_path / "policy").returncode == Code.OK
    assert run(export, "--key", other.text()).returncode == Code.SIGNATURE
    assert run(export, "--older", tmp_path / "older").returncode == Code.FORK
    broken = Logbook()
    broken.request(index=9)
    said = run(broken.export(tmp_path / "broken"))
    assert said.returncode == Code.SEMANTICS
    assert "problem: entry 1: The entry says it is number 9. [index]" in said.stdout
    assert run(tmp_path / "broken", "--no-semantics").returncode == Code.OK
    assert run(export, "--without-texts").returncode == Code.OK
    for arguments in (
        (),
        ("--nonsense",),
        (export, "--key", "nonsense"),
        (export, "--policy", tmp_path / "none"),
        (tmp_path,),
    ):
        said = run(*arguments)
        assert said.returncode == Code.INPUT, said
        assert "Traceback" not in said.stderr
    path = export / f"tile/entries/000.p/{len(book.entries)}"
    path.write_bytes(path.read_bytes().replace(b"Rotate", b"Delete"))
    assert run(export).returncode == Code.ROOT
    assert "Exit codes: 0 intact" in run("--help").stdout


def test_what_was_not_foreseen_is_an_exit_code_and_one_line(
    book: Logbook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*_: object, **__: object) -> Report:
        raise TypeError("secret")

    monkeypatch.setattr(command, "verify_export", fails)
    export = str(book.export(tmp_path))
    assert command.main([export]) == Code.FAILED
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "TypeError in test_verify_export.py" in err
    assert "secret" not in err
    assert command.main([export, "--traceback"]) == Code.FAILED
    assert "Traceback" in capsys.readouterr().err


def test_a_reader_that_goes_away_is_no_traceback(book: Logbook, tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    command_line = [sys.executable, "-m", "storage.verifier", str(book.export(tmp_path))]
    root = Path(__file__).parent.parent
    done = subprocess.run(command_line, cwd=root, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert done.returncode == Code.FAILED
    assert "Traceback" not in done.stderr


def test_nothing_that_lies_in_the_export_is_run_when_the_verifier_is_started_there(
    book: Logbook, tmp_path: Path
) -> None:
    export = book.export(tmp_path / "export")
    for name in ("cryptography", "tomllib", "argparse", "hashlib", "json"):
        (export / f"{name}.py").write_text("print('CODE FROM THE EXPORT')\nraise SystemExit(0)\n")
    source = Path(storage.verifier.__file__).parent
    shutil.copytree(source, tmp_path / "verifier", ignore=shutil.ignore_patterns("__pycache__"))
    known = os.environ | {"PYTHONPATH": str(tmp_path)}
    for start in (("-m", "verifier"), (str(tmp_path / "verifier"),), ("-I", str(tmp_path / "verifier"))):
        argv = [sys.executable, *start, ".", "--key", KEY.text()]
        done = subprocess.run(argv, cwd=export, env=known, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout.splitlines()[0]) == (0, "INTACT"), done


def proof_of(book: Logbook, index: int) -> Proof:
    leaves = [tree.leaf_hash(data) for data in book.entries]

    def node(level: int, position: int) -> bytes:
        return tree.root_of(book.entries[position << level : (position + 1) << level]) if level else leaves[position]

    hashes = tuple(tree.inclusion_proof(index, len(leaves), node))
    return Proof(index, hashes, book.note(), book.entries[index])


def test_one_proof_is_verified_by_itself(book: Logbook, tmp_path: Path) -> None:
    path = tmp_path / "7.tlog-proof"
    path.write_bytes(proof_of(book, 7).encode())
    done = run("proof", path, "--key", KEY.text())
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Entry 7 stands in triad.example/log")
    found = json.loads(run("proof", path, "--key", KEY.text(), "--json").stdout)
    assert found["entry"] == json.loads(book.entries[7])
    path.write_bytes(replace(proof_of(book, 7), index=8).encode())
    assert run("proof", path, "--key", KEY.text()).returncode == Code.ROOT
    assert run("proof", path).returncode == Code.INPUT
    path.write_bytes(b"nonsense")
    assert run("proof", path, "--key", KEY.text()).returncode == Code.INPUT
    other = VerifierKey(ORIGIN, Ed25519PrivateKey.generate().public_key().public_bytes_raw())
    path.write_bytes(proof_of(book, 7).encode())
    assert run("proof", path, "--key", other.text()).returncode == Code.SIGNATURE


def test_a_folder_of_proofs_is_verified_and_the_gravest_finding_counts(book: Logbook, tmp_path: Path) -> None:
    for index in (2, 10, 7):
        (tmp_path / f"{index}.tlog-proof").write_bytes(proof_of(book, index).encode())
    done = run("proof", tmp_path, "--key", KEY.text())
    assert done.returncode == 0, done.stderr
    assert [line.split(":")[0] for line in done.stdout.splitlines()] == [f"{n}.tlog-proof" for n in (2, 7, 10)]
    (tmp_path / "7.tlog-proof").write_bytes(replace(proof_of(book, 7), index=8).encode())
    done = run("proof", tmp_path, "--key", KEY.text(), "--json")
    assert done.returncode == Code.ROOT
    assert [json.loads(line)["ok"] for line in done.stdout.splitlines()] == [True, False, True]
    (tmp_path / "nothing").mkdir()
    assert run("proof", tmp_path / "nothing", "--key", KEY.text()).returncode == Code.INPUT


def test_what_a_log_says_moves_no_cursor(tmp_path: Path) -> None:
    book = Logbook(text=DOCUMENT)
    book.until(Stage.PLANNED)
    book.approve("op_00000000000000000000000001", approval="\x1b[2J\u202e", person="eve")
    book.approve("op_00000000000000000000000001", by="fay", approval="\x1b[2J\u202e")
    said = run(book.export(tmp_path))
    assert said.returncode == Code.SEMANTICS
    assert "\\u001b[2J\\u202e" in said.stdout
    assert "\x1b" not in said.stdout
