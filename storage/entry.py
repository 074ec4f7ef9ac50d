"""One entry of the ledger: an event, who stands behind it, and what it moved.

Its canonical bytes are the leaf of the Merkle tree, so there is exactly one spelling of an entry, and `decode` accepts
no other. What is larger stands apart in the evidence store under its SHA-256.
"""

from typing import Annotated, Final, Literal, Self

from pydantic import Field, StringConstraints, ValidationError, model_validator

from operations.canonical import Digest, Instant, Record, canonical
from operations.events import AnyEvent, OperationRequested
from operations.model import Branch, OperationId, PrincipalId, Tokens
from operations.stages import Stage

MAX_ENTRY: Final = 16 * 1024
"""Longest entry in bytes."""


class Entry(Record):
    """What the ledger holds at one index.

    `before`, `after` and `seq` are there exactly when the event moved an operation; `before` is absent where the
    operation began.
    """

    version: Literal[1] = 1
    index: int = Field(ge=0)
    time: Instant
    origin: str = Field(min_length=1, max_length=200, description="the log's identity, as in its checkpoints")
    kind: str = Field(description="the event's kind, repeated where everybody looks")
    operation: OperationId | None = None
    mission: str | None = None
    branch: Branch
    principal: PrincipalId
    key: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{8}$")] = Field(description="id of the log's key")
    constitution: Digest = Field(description="the constitution in force at this entry")
    model: str | None = None
    prompt: Digest | None = None
    trace: str | None = None
    tokens: Tokens | None = None
    before: Stage | None = None
    after: Stage | None = None
    seq: int | None = Field(default=None, ge=1, description="the operation's version after this entry")
    event: AnyEvent

    @model_validator(mode="after")
    def _agrees_with_its_event(self) -> Self:
        event = self.event
        if self.kind != event.kind:
            raise ValueError("the kind is not the event's")
        if not event.moves:
            if self.before is not None or self.after is not None or self.seq is not None:
                raise ValueError("an annotation moves nothing")
            return self
        if self.operation is None or self.after is None or self.seq is None:
            raise ValueError("a move names the operation, its stage and its version")
        if (self.before is None) != isinstance(event, OperationRequested):
            raise ValueError("only an operation's first event has no stage before it")
        return self

    def encode(self) -> bytes:
        """The canonical bytes: the leaf.

        Raises:
            ValueError: over 16 KiB, or a value that has no canonical form.
        """
        data = canonical(self.model_dump(mode="json", exclude_none=True))
        if len(data) > MAX_ENTRY:
            raise ValueError(f"an entry of {len(data)} bytes; the limit is {MAX_ENTRY}")
        return data

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """The entry whose canonical bytes these are.

        Raises:
            ValueError: over 16 KiB, not an entry, or not its canonical spelling (other order or spacing of fields,
                duplicate or unknown ones, floats).
        """
        if len(data) > MAX_ENTRY:
            raise ValueError(f"an entry of {len(data)} bytes; the limit is {MAX_ENTRY}")
        try:
            entry = cls.model_validate_json(data)
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False, include_input=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            raise ValueError(": ".join(part for part in ("not an entry", where, first["msg"]) if part)) from None
        try:
            spelled = entry.encode()
        except ValueError as error:
            raise ValueError(f"not an entry: {error}") from None
        if spelled != data:
            raise ValueError("not the canonical bytes of an entry")
        return entry
