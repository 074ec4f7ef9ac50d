"""Builds ledgers in memory, lawful ones and ones with a single breach, for tests of what reads them."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from operations import events as e
from operations import operation
from operations.canonical import canonical_record, digest_of, sha256
from operations.errors import IllegalMove
from operations.evidence import Effect, Preview
from operations.model import (
    Branch,
    Direction,
    OperationType,
    Plan,
    Principal,
    PrincipalKind,
    Request,
    Role,
    Ruling,
    RunMode,
    Step,
)
from operations.operation import Operation
from operations.stages import Stage
from storage.entry import Entry
from storage.verifier import checkpoint, tree
from storage.verifier.checkpoint import Checkpoint, Note, VerifierKey
from storage.verifier.policy import Policy
from storage.verifier.tiles import WIDTH, Growth, bundles_of, encode_bundle

ORIGIN = "triad.example/log"
START = datetime(2026, 11, 20, 18, 0, tzinfo=UTC)
LAW = sha256(b"the constitution")
NEW_LAW = sha256(b"the amended constitution")
DOCUMENT = (Path(__file__).parent.parent / "prompts" / "constitution.md").read_text()
PRIVATE = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
KEY = VerifierKey(ORIGIN, PRIVATE.public_key().public_bytes_raw())
AGENTS = {branch: f"agent:{branch.value}" for branch in Branch}
UNDO, DO = Direction.UNDO, Direction.DO

REQUEST = Request(
    type=OperationType.MAINTENANCE,
    description="Rotate the logs of the shop.",
    systems=("shop-logs",),
    parameters={"keep": 7, "compress": True, "note": None},
    rollback_plan="Unpack them again.",
)


def person(name: str, *roles: Role) -> Principal:
    return Principal(id=name, kind=PrincipalKind.PERSON, roles=frozenset(roles), person=name)


ADA = person("ada", Role.REQUESTER)


def ident(number: int) -> str:
    return f"op_{number:026d}"


def arguments(step: int) -> str:
    return digest_of({"step": step})


def step_of(number: int, **changes: Any) -> Step:
    preview = Preview(commands=(f"gzip {number}",), blast_radius="One file.")
    fields: dict[str, Any] = {
        "number": number,
        "playbook": "logs.rotate",
        "system": "shop-logs",
        "arguments": {"step": number},
        "why": "It is large.",
        "expected_effect": "It is small.",
        "tier": 2,
        "effect": Effect.IDEMPOTENT,
        "reversible": True,
        "playbook_digest": sha256(b"playbook"),
        "arguments_digest": arguments(number),
        "system_digest": sha256(b"system"),
        "preview": preview,
    }
    return Step(**fields | changes)


class Logbook:
    """A ledger that grows entry by entry. Events are folded by the transition table alone, as a writer would that keeps
    to no other rule; what the table does not allow is written all the same, without moving the operation.
    """

    def __init__(self, *, genesis: bool = True, text: str | None = None) -> None:
        self.entries: list[bytes] = []
        self.ops: dict[str, Operation] = {}
        self.plans: dict[str, bytes] = {}
        self.constitutions: dict[str, bytes] | None = None
        self.kept: list[bytes] = []
        self.key, self.private = KEY, PRIVATE
        self.law = LAW
        if text is not None:
            self.constitutions = {}
            self.law = self.text(text)
        self.at = START
        self._serial = 0
        if genesis:
            self.add(e.Genesis(policies=("a1",), keys=(KEY.text(),), code_version="0.1.0"), Branch.PEOPLE, "triad")

    def add(self, event: e.Event, branch: Branch, principal: str, op: str | None = None, /, **changes: Any) -> int:
        """Append an event; `changes` replace fields of the entry."""
        self.at += timedelta(milliseconds=7)
        moved = self._fold(event, op, changes.get("time", self.at)) if event.moves else {}
        fields: dict[str, Any] = {
            "index": len(self.entries),
            "time": self.at,
            "origin": ORIGIN,
            "kind": event.signal.partition(":")[0],
            "operation": op,
            "branch": branch,
            "principal": principal,
            "key": self.key.key_id.hex(),
            "constitution": self.law,
            "event": event,
        }
        self.entries.append(Entry(**fields | moved | changes).encode())
        if isinstance(event, e.ConstitutionAmended):
            self.law = event.enacted
        return len(self.entries) - 1

    def _fold(self, event: e.Event, op: str | None, at: datetime) -> dict[str, Any]:
        assert op is not None
        if isinstance(event, e.OperationRequested):
            before = None
            after = self.ops[op] = operation.begin(op, event, at, self.law, None)
        else:
            held = self.ops[op]
            before = held.stage
            try:
                after = self.ops[op] = operation.apply_unguarded(held, event, at)
            except IllegalMove:
                after = held
        return {"before": before, "after": after.stage, "seq": after.version}

    def head(self, size: int | None = None) -> Checkpoint:
        size = len(self.entries) if size is None else size
        return Checkpoint(ORIGIN, size, tree.root_of(self.entries[:size]))

    def note(self, size: int | None = None, private: Ed25519PrivateKey | None = None) -> bytes:
        text = self.head(size).text()
        return Note(text, (checkpoint.sign(text, ORIGIN, private or self.private),)).encode()

    def text(self, document: str) -> str:
        """Keep a constitution's text; its digest."""
        data = document.encode()
        self.constitutions = {**(self.constitutions or {}), sha256(data): data}
        return sha256(data)

    def rotate(self, seed: int = 1, by: str = "ada", *, entry: dict[str, Any] | None = None, **changes: Any) -> bytes:
        """Let another key sign from the next entry on; the note over the rotation, signed by both, which is kept."""
        following = Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)
        key = VerifierKey(ORIGIN, following.public_key().public_bytes_raw())
        fields = {"previous": self.key.text(), "key": key.text(), "by": by, "person": by, "reason": "It is time."}
        self.add(e.LogKeyRotated(**fields | changes), Branch.PEOPLE, by, **entry or {})
        text = self.head().text()
        signatures = tuple(checkpoint.sign(text, ORIGIN, each) for each in (self.private, following))
        self.key, self.private = key, following
        self.kept.append(Note(text, signatures).encode())
        return self.kept[-1]

    def archive(self, first: int = 0, end: int | None = None, **changes: Any) -> None:
        end = len(self.entries) if end is None else end
        fields: dict[str, Any] = {
            "first": first,
            "end": end,
            "root": tree.root_of(self.entries[:end]).hex(),
            "archive": sha256(b"list"),
        }
        self.add(e.SegmentArchived(**fields | {"by": "ada"} | changes), Branch.PEOPLE, "ada")

    def expire(self, *digests: str) -> None:
        self.add(e.EvidenceExpired(digests=digests, days=30), Branch.PEOPLE, "triad")

    def know(self, subject: str = "dana", value: bytes = b"salt and name") -> str:
        event = e.PersonalRecorded(subject=subject, field="name", commitment=sha256(value))
        self.add(event, Branch.PEOPLE, "ada")
        return event.commitment

    def forget(self, *commitments: str, subject: str = "dana", by: str = "ada", **entry: Any) -> None:
        event = e.PersonalErased(subject=subject, commitments=commitments, by=by, reason="She asked.")
        self.add(event, Branch.PEOPLE, by, **entry)

    def report(self, first: int = 0, end: int | None = None) -> None:
        end = len(self.entries) if end is None else end
        event = e.ReportStored(report=sha256(b"report"), first=first, end=end, by="ada")
        self.add(event, Branch.PEOPLE, "ada")

    def export(self, folder: Path, policy: Policy | None = None) -> Path:
        """Write the log as an export, with what is kept beside it."""
        growth = Growth()
        tiles = growth.add([tree.leaf_hash(data) for data in self.entries]) + growth.partial()
        files = {tile.path: data for tile, data in tiles}
        for tile in bundles_of(len(self.entries)):
            files[tile.path] = encode_bundle(self.entries[tile.number * WIDTH :][: tile.width])
        files["checkpoint"] = self.note()
        files["policy"] = (policy or Policy.of([KEY, self.key])).encode()
        files |= {f"checkpoints/{size_of(note)}": note for note in self.kept}
        files |= {f"plans/{digest}.json": body for digest, body in self.plans.items()}
        files |= {f"constitutions/{digest}.md": text for digest, text in (self.constitutions or {}).items()}
        for name, data in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return folder

    def serial(self, prefix: str) -> str:
        self._serial += 1
        return f"{prefix}_{self._serial:04d}"

    def request(
        self,
        op: str | None = None,
        requester: Principal = ADA,
        *,
        emergency: bool = False,
        asked: dict[str, Any] | None = None,
        **changes: Any,
    ) -> str:
        op = op or ident(len(self.ops) + 1)
        request = REQUEST.model_copy(update={"emergency": emergency} | (asked or {}))
        event = e.OperationRequested(request=request, requester=requester)
        self.add(event, Branch.PEOPLE, requester.id, op, **changes)
        return op

    def plan_of(self, op: str, *steps: Step, **changes: Any) -> str:
        """Propose a plan whose body is kept: without steps given, the two that `until` takes."""
        fields: dict[str, Any] = {
            "operation": op,
            "version": 1,
            "summary": "Rotate, then compress.",
            "steps": steps or (step_of(1), step_of(2)),
            "tier": 2,
            "constitution": self.law,
        }
        body = canonical_record(Plan(**fields | changes))
        self.plans[sha256(body)] = body
        return self.plan(op, digest=sha256(body))

    def plan(
        self,
        op: str,
        *,
        quorum: int = 1,
        assent: bool = False,
        minutes: int = 60,
        digest: str | None = None,
        tier: int = 2,
        mode: RunMode = RunMode.AUTONOMOUS,
        version: int | None = None,
        **changes: Any,
    ) -> str:
        digest = digest or sha256(f"{op} {self.serial('plan')}".encode())
        event = e.PlanProposed(
            plan=digest,
            version=version or self.ops[op].plans + 1,
            tier=tier,
            mode=mode,
            quorum=quorum,
            assent=assent,
            reasons=("Tier 2 asks for approvers.",),
            articles=("a4",),
            expires=self.at + timedelta(minutes=minutes),
            summary="Rotate, then compress.",
        )
        agent = {"model": "rules/offline-1", "prompt": sha256(b"planner")}
        self.add(event, Branch.LEGISLATIVE, AGENTS[Branch.LEGISLATIVE], op, **agent | changes)
        return digest

    def in_hand(self, op: str) -> str:
        proposal = self.ops[op].proposal
        return proposal.plan if proposal else sha256(b"no plan")

    def approve(
        self, op: str, by: str = "dana", *, minutes: int = 60, entry: dict[str, Any] | None = None, **changes: Any
    ) -> str:
        fields: dict[str, Any] = {
            "approval": self.serial("ap"),
            "plan": self.in_hand(op),
            "approver": by,
            "person": by,
            "reason": "Looks right.",
            "expires": self.at + timedelta(minutes=minutes),
            "channel": "console",
        }
        event = e.ApprovalGiven(**fields | changes)
        self.add(event, Branch.PEOPLE, by, op, **entry or {})
        return event.approval

    def rule(self, op: str, ruling: Ruling, **changes: Any) -> None:
        event = e.RulingGiven(ruling=ruling, plan=self.in_hand(op), reasons=("The crown has looked.",))
        self.add(event.model_copy(update=changes), Branch.CROWN, AGENTS[Branch.CROWN], op)

    def approved(self, op: str, *approvals: str) -> None:
        given = approvals or tuple(a.id for a in self.ops[op].approvals)
        event = e.OperationApproved(plan=self.in_hand(op), approvals=given, reasons=("Enough.",), articles=("a4",))
        self.add(event, Branch.LEGISLATIVE, "triad", op)

    def start(self, op: str) -> None:
        self.add(e.OperationStarted(plan=self.in_hand(op), epoch=1), Branch.EXECUTIVE, "triad", op)

    def warrant(self, op: str, step: int, direction: Direction = DO, *, seconds: int = 60, **changes: Any) -> str:
        made = sum(1 for a in self.ops[op].attempts if a.step == step and a.direction is direction)
        fields: dict[str, Any] = {
            "warrant": self.serial("wr"),
            "step": step,
            "attempt": made + 1,
            "direction": direction,
            "plan": self.in_hand(op),
            "arguments": arguments(step),
            "system": "shop-logs",
            "expires": self.at + timedelta(seconds=seconds),
        }
        event = e.WarrantIssued(**fields | changes)
        self.add(event, Branch.EXECUTIVE, "triad", op)
        return event.warrant

    def intent(
        self,
        op: str,
        warrant: str,
        *,
        effect: Effect = Effect.IDEMPOTENT,
        entry: dict[str, Any] | None = None,
        **changes: Any,
    ) -> None:
        attempt = next((a for a in self.ops[op].attempts if a.warrant == warrant), None)
        step = attempt.step if attempt else 1
        fields: dict[str, Any] = {
            "warrant": warrant,
            "step": step,
            "attempt": attempt.attempt if attempt else 1,
            "direction": attempt.direction if attempt else DO,
            "playbook": "logs.rotate",
            "system": "shop-logs",
            "arguments": arguments(step),
            "effect": effect,
            "idempotency_key": f"{op}/{step}/1",
            "snapshot": sha256(b"snapshot"),
        }
        self.add(e.StepIntent(**fields | changes), Branch.EXECUTIVE, "triad", op, **entry or {})

    def outcome(self, op: str, warrant: str, kind: str = "done", *, changed: bool = True, **changes: Any) -> None:
        attempt = next((a for a in self.ops[op].attempts if a.warrant == warrant), None)
        fields: dict[str, Any] = {
            "warrant": warrant,
            "step": attempt.step if attempt else 1,
            "attempt": attempt.attempt if attempt else 1,
            "direction": attempt.direction if attempt else DO,
        }
        event: e.Event
        if kind == "done":
            done = {"changed": changed, "summary": "Rotated 12 files — compressed.", "evidence": (sha256(b"outcome"),)}
            event = e.StepDone(**fields | done | changes)
        elif kind == "failed":
            event = e.StepFailed(
                **fields | {"code": "lock-timeout", "changed": changed, "reasons": ("Locked.",)} | changes
            )
        else:
            event = e.StepInDoubt(**fields | {"reasons": ("The worker died.",)} | changes)
        self.add(event, Branch.EXECUTIVE, "triad", op)

    def step(self, op: str, number: int, direction: Direction = DO, kind: str = "done", **changes: Any) -> str:
        warrant = self.warrant(op, number, direction)
        self.intent(op, warrant, **changes)
        self.outcome(op, warrant, kind)
        return warrant

    def finish(self, op: str, outcome: Literal["finished", "stopped", "failed"] = "finished") -> None:
        self.add(
            e.ExecutionFinished(outcome=outcome, report="All steps ran."),
            Branch.EXECUTIVE,
            AGENTS[Branch.EXECUTIVE],
            op,
        )

    def check(self, op: str, step: int, direction: Direction = DO, *, passed: bool = True) -> int:
        event = e.CheckEvaluated(
            step=step, direction=direction, name="files-rotated", passed=passed, expected="12", observed="12"
        )
        return self.add(event, Branch.JUDICIAL, "triad", op)

    def verdict(self, op: str, **changes: Any) -> None:
        checks = self.ops[op].checks
        held = bool(checks) and all(c.passed for c in checks)
        fields: dict[str, Any] = {
            "passed": held,
            "checks_passed": held,
            "judged_passed": True,
            "checks": len(checks),
            "rollback": not held,
            "reasons": ("The checks say so.",),
        }
        self.add(e.VerdictGiven(**fields | changes), Branch.JUDICIAL, AGENTS[Branch.JUDICIAL], op)

    def order(self, op: str, *steps: int) -> None:
        self.add(e.RollbackOrdered(steps=steps, reasons=("It failed.",)), Branch.JUDICIAL, "triad", op)

    def undone(self, op: str, *, restored: bool = True) -> None:
        self.add(e.RollbackDone(restored=restored, reasons=("As found.",)), Branch.EXECUTIVE, "triad", op)

    def ratify(self, op: str, by: str = "rita", **changes: Any) -> None:
        event = e.EmergencyRatified(**{"by": by, "person": by, "reason": "It was one."} | changes)
        self.add(event, Branch.PEOPLE, by, op)

    def crown(self, *, halt: bool) -> None:
        kind = e.CrownHalted if halt else e.CrownReleased
        self.add(kind(by="cleo", reason="A fire drill."), Branch.PEOPLE, "cleo")

    def propose(self, enacted: str = NEW_LAW, by: str = "cleo") -> str:
        amendment = self.serial("am")
        event = e.ConstitutionProposed(
            amendment=amendment, previous=self.law, proposed=enacted, by=by, person=by, reason="Tighter windows."
        )
        self.add(event, Branch.PEOPLE, by)
        return amendment

    def amend(self, amendment: str, enacted: str = NEW_LAW, **changes: Any) -> None:
        fields: dict[str, Any] = {
            "amendment": amendment,
            "previous": self.law,
            "enacted": enacted,
            "proposer": "cleo",
            "proposer_person": "cleo",
            "ratifier": "rita",
            "ratifier_person": "rita",
            "reason": "Agreed.",
        }
        event = e.ConstitutionAmended(**fields | changes)
        self.add(event, Branch.PEOPLE, event.ratifier)

    def skip(self, op: str, step: int) -> None:
        self.add(e.StepSkipped(step=step, reasons=("Optional.",)), Branch.EXECUTIVE, "triad", op)

    def reconcile(self, op: str, by: str = "olga", branch: Branch = Branch.PEOPLE, *, happened: bool = True) -> None:
        event = e.StepReconciled(step=1, attempt=1, direction=DO, happened=happened, by=by, reasons=("I looked.",))
        self.add(event, branch, by, op)

    def resolve(self, op: str, ruling: Literal["complete", "rollback", "fail"], by: str = "cleo") -> None:
        self.add(e.EscalationResolved(ruling=ruling, by=by, person=by, reason="So be it."), Branch.PEOPLE, by, op)

    def halt(self, op: str) -> None:
        self.add(e.OperationHalted(reasons=("Halt.",)), Branch.CROWN, "triad", op)

    def until(self, stage: Stage, op: str | None = None, *, steps: int = 2, **plan: Any) -> str:
        """A lawful operation, led as far as `stage`."""
        op = self.request(op)
        passes = stage in {Stage.EVALUATED, Stage.COMPLETED}
        numbers = range(1, steps + 1)
        chapters: dict[Stage, tuple[Callable[[], object], ...]] = {
            Stage.REQUESTED: (),
            Stage.PLANNED: (lambda: self.plan(op, **plan),),
            Stage.APPROVED: (lambda: self.approve(op), lambda: self.approved(op)),
            Stage.RUNNING: (lambda: self.start(op),),
            Stage.EXECUTED: (lambda: [self.step(op, number) for number in numbers], lambda: self.finish(op)),
            Stage.EVALUATED: (
                lambda: [self.check(op, number, passed=passes) for number in numbers],
                lambda: self.verdict(op),
            ),
        }
        endings: dict[Stage, tuple[Callable[[], object], ...]] = {
            Stage.COMPLETED: (lambda: self.rule(op, Ruling.COMPLETE),),
            Stage.ROLLING_BACK: (lambda: self.rule(op, Ruling.ROLLBACK), lambda: self.order(op, *reversed(numbers))),
        }
        endings[Stage.ROLLED_BACK] = (
            *endings[Stage.ROLLING_BACK],
            lambda: [self.step(op, number, UNDO) for number in reversed(numbers)],
            lambda: [self.check(op, number, UNDO) for number in reversed(numbers)],
            lambda: self.undone(op),
        )
        for reached, acts in chapters.items():
            for act in acts:
                act()
            if reached is stage:
                return op
        for act in endings[stage]:
            act()
        return op


def size_of(note: bytes) -> int:
    return Checkpoint.parse(checkpoint.parse_note(note).text).size


def administered() -> Logbook:
    """A lawful log whose keys, archives, evidence and personal data are looked after, under the real constitution."""
    book = Logbook(text=DOCUMENT)
    book.until(Stage.COMPLETED)
    known = book.know()
    book.rotate()
    book.archive()
    book.expire(sha256(b"outcome"), sha256(b"snapshot"))
    book.forget(known)
    book.add(
        e.WitnessRefused(witness="w.example", code="rollback", size=9, seen=12, reasons=("Smaller.",)),
        Branch.PEOPLE,
        "triad",
    )
    book.report()
    tightened = book.text(DOCUMENT.replace("expiry_seconds = 120", "expiry_seconds = 90"))
    book.amend(book.propose(tightened), tightened)
    book.until(Stage.ROLLED_BACK)
    book.rotate(2, compromised=True)
    book.until(Stage.RUNNING)
    return book


def eventful() -> Logbook:
    """A lawful log in which nearly everything happens that can."""
    book = Logbook()
    book.until(Stage.COMPLETED)
    book.until(Stage.ROLLED_BACK)
    op = book.request()
    book.plan(op, quorum=2, assent=True)
    withdrawn = book.approve(op, "dana")
    book.add(
        e.ApprovalWithdrawn(approval=withdrawn, plan=book.in_hand(op), approver="dana", reason="Wait."),
        Branch.PEOPLE,
        "dana",
        op,
    )
    book.approve(op, "dana")
    book.approve(op, "eve")
    book.rule(op, Ruling.ESCALATE)
    book.approve(op, "fay")
    book.rule(op, Ruling.ASSENT)
    book.approved(op)
    book.start(op)
    book.step(op, 1, kind="failed")
    book.step(op, 1)
    doubtful = book.warrant(op, 2)
    book.intent(op, doubtful, effect=Effect.ONCE_PROBE)
    book.outcome(op, doubtful, "in_doubt")
    book.add(
        e.StepReconciled(step=2, attempt=1, direction=DO, happened=True, by="olga", reasons=("I looked.",)),
        Branch.PEOPLE,
        "olga",
        op,
    )
    book.crown(halt=True)
    book.add(e.OperationHalted(reasons=("The crown halted.",)), Branch.CROWN, "triad", op)
    book.crown(halt=False)
    book.add(e.OperationResumed(to=DO, reasons=("Released.",)), Branch.CROWN, "triad", op)
    book.skip(op, 3)
    book.finish(op)
    book.check(op, 1)
    book.check(op, 2, passed=False)
    book.verdict(op, rollback=False)
    book.rule(op, Ruling.ESCALATE)
    book.add(
        e.EscalationResolved(ruling="fail", by="cleo", person="cleo", reason="Not worth it."), Branch.PEOPLE, "cleo", op
    )
    stale = book.until(Stage.APPROVED)
    book.amend(book.propose())
    book.add(
        e.PlanSuperseded(plan=book.in_hand(stale), code="constitution-changed", reasons=("Plan anew.",)),
        Branch.LEGISLATIVE,
        "triad",
        stale,
    )
    book.plan(stale)
    book.approve(stale)
    book.approved(stale)
    book.start(stale)
    book.step(stale, 1)
    book.add(
        e.WarrantDenied(code="expired", reasons=("Too late.",), step=2, attempt=1, direction=DO, system="shop-logs"),
        Branch.EXECUTIVE,
        "triad",
        stale,
    )
    book.intent(stale, book.warrant(stale, 2))
    refused = book.request(emergency=True)
    book.add(
        e.PlanRefused(code="nothing-fits", reasons=("No.",)), Branch.LEGISLATIVE, AGENTS[Branch.LEGISLATIVE], refused
    )
    book.ratify(refused)
    book.add(e.AccessDenied(action="halt", code="forbidden", reasons=("No.",)), Branch.PEOPLE, "mallory")
    return book


def complete() -> Logbook:
    """A lawful log in which every kind occurs that belongs to one branch."""
    book = eventful()
    book.archive(0, 1)
    book.expire(sha256(b"outcome"))
    book.forget(book.know())
    book.report()
    book.add(
        e.WitnessRefused(witness="w.example", code="rollback", size=9, seen=12, reasons=("Smaller.",)),
        Branch.PEOPLE,
        "triad",
    )
    book.add(e.KeyCreated(subject="bob", roles=(Role.REQUESTER,), fingerprint="0" * 16), Branch.PEOPLE, "ada")
    book.add(e.KeyRevoked(subject="bob", fingerprint="0" * 16), Branch.PEOPLE, "ada")
    refused = book.until(Stage.PLANNED)
    no = e.ApprovalRefused(
        approval="ap_x", plan=book.in_hand(refused), approver="dana", person="dana", reason="No.", channel="console"
    )
    book.add(no, Branch.PEOPLE, "dana", refused)
    book.add(e.OperationCancelled(by="ada", reason="Over."), Branch.PEOPLE, "ada", book.request())
    book.add(e.CancelRequested(by="ada", reason="Stop."), Branch.PEOPLE, "ada", book.until(Stage.RUNNING))
    late = book.until(Stage.PLANNED)
    book.add(e.OperationExpired(code="plan-expired", reasons=("Late.",)), Branch.LEGISLATIVE, "triad", late)
    book.rotate()
    book.kept.clear()
    return book
