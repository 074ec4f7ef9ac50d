"""The single-use permission for one attempt at one step, signed by code, bound to all that must not change."""

import base64
import binascii
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from operations.canonical import Digest, Instant, Record, canonical, digest_of, new_id, now, sha256
from operations.errors import WarrantRefused
from operations.model import Direction, OperationId, PlaybookName, Step
from operations.operation import Operation
from operations.systems import SystemName

FORMAT: Final = "triad-warrant/1"
_DOMAIN: Final = FORMAT.encode() + b"\x00"


class Warrant(Record):
    """What may be done once, by whom it was allowed, and until when.

    `approvals` are the ids of the approvals it rests on, sorted: see `rests_on`. `signature` is Ed25519, base64, over
    the domain tag and the RFC 8785 bytes of all other fields.
    """

    format: Literal["triad-warrant/1"] = FORMAT
    id: str
    operation: OperationId
    step: int
    attempt: int
    direction: Direction
    epoch: int
    plan: Digest
    playbook: PlaybookName
    playbook_digest: Digest
    arguments: Digest
    preview: Digest
    system: SystemName
    system_digest: Digest
    approvals: tuple[str, ...]
    constitution: Digest
    issued: Instant
    expires: Instant
    key: str
    signature: str = ""

    def signed_bytes(self) -> bytes:
        """What the signature covers."""
        return _DOMAIN + canonical(self.model_dump(mode="json", exclude={"signature"}))


def key_name(public: Ed25519PublicKey) -> str:
    """The id of a warrant key: the first 16 hexadecimal digits of the SHA-256 of its raw bytes."""
    return sha256(public.public_bytes(Encoding.Raw, PublicFormat.Raw))[:16]


def rests_on(op: Operation, direction: Direction, at: Instant) -> tuple[str, ...]:
    """The ids, sorted, of the approvals that a step rests on: those that stand, whatever their date for an undo."""
    return tuple(sorted(a.id for a in op.standing(None if direction is Direction.UNDO else at)))


@dataclass(frozen=True, slots=True)
class Issuer:
    """Signs warrants for the steps of approved plans. No model ever holds one."""

    key: Ed25519PrivateKey
    lifetime: timedelta
    clock: Callable[[], datetime] = now

    @property
    def verifying(self) -> dict[str, Ed25519PublicKey]:
        """The public half, under its id, as the gate wants it."""
        public = self.key.public_key()
        return {key_name(public): public}

    def issue(self, op: Operation, step: Step, direction: Direction, attempt: int) -> Warrant:
        """A warrant for one attempt at a step of the operation's approved plan."""
        plan = op.bound_plan()
        at = self.clock()
        unsigned = Warrant(
            id=new_id("wr"),
            operation=op.id,
            step=step.number,
            attempt=attempt,
            direction=direction,
            epoch=op.epoch,
            plan=plan.digest,
            playbook=step.playbook,
            playbook_digest=step.playbook_digest,
            arguments=digest_of(step.arguments),
            preview=step.preview.digest,
            system=step.system,
            system_digest=step.system_digest,
            approvals=rests_on(op, direction, at),
            constitution=op.constitution,
            issued=at,
            expires=at + self.lifetime,
            key=key_name(self.key.public_key()),
        )
        signature = base64.b64encode(self.key.sign(unsigned.signed_bytes())).decode()
        return unsigned.model_copy(update={"signature": signature})


def check_signature(warrant: Warrant, keys: Mapping[str, Ed25519PublicKey]) -> None:
    """Whether a known key signed exactly this warrant.

    Raises:
        WarrantRefused: `format-unknown`, `key-unknown` or `signature-invalid`.
    """
    if warrant.format != FORMAT:
        raise WarrantRefused("format-unknown", "The warrant is of a format this gate does not know.")
    key = keys.get(warrant.key)
    if key is None:
        raise WarrantRefused("key-unknown", "No key of this gate has the warrant's key id.")
    try:
        signature = base64.b64decode(warrant.signature, validate=True)
        if base64.b64encode(signature).decode() != warrant.signature:
            raise WarrantRefused("signature-invalid", "The warrant's signature is not strict base64.")
        key.verify(signature, warrant.signed_bytes())
    except (InvalidSignature, binascii.Error, ValueError) as error:
        raise WarrantRefused("signature-invalid", "The warrant's signature does not match its contents.") from error
