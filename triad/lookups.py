"""The planner's read-only tools: what a system is like now, what was done to it before, what a playbook takes."""

from operations.canonical import canonical_record, instant_text
from operations.errors import NotFound, PlaybookFailed, Refusal
from operations.evidence import Effect
from operations.playbook import Call, Catalogue
from operations.systems import Inventory
from storage.ledger import Ledger
from triad.targets import observing

_RECENT = 10


class Observatory:
    """Answers from observing credentials, the record and the catalogue. Nothing here can change a system."""

    def __init__(self, ledger: Ledger, catalogue: Catalogue, inventory: Inventory) -> None:
        self._ledger = ledger
        self._catalogue = catalogue
        self._inventory = inventory

    async def observe(self, system: str) -> str:
        """The facts that the tier 0 playbooks fitting the system find, as canonical JSON lines."""
        try:
            known = self._inventory.get(system)
            lines = []
            for playbook in self._catalogue:
                if playbook.tier == 0 and playbook.effect is Effect.READ and known.kind in playbook.fits:
                    target = observing(known, self._inventory)
                    outcome = await playbook.run(playbook.parse({}), target, Call(key="observation"))
                    lines.append(f"{playbook.name}: {canonical_record(outcome).decode()}")
        except Refusal as error:
            return " ".join(error.reasons)
        except PlaybookFailed as error:
            return f"The observation failed: {error.code}."
        return "\n".join(lines) or "Nothing observes a system of this kind."

    async def history(self, system: str) -> str:
        """The last operations that named the system, newest first, one a line."""
        found = [op for op in await self._ledger.operations(limit=200) if system in op.request.systems][:_RECENT]
        lines = [f"{instant_text(op.updated)} {op.request.type.value} {op.stage.value}" for op in found]
        return "\n".join(lines) or "No operation has touched this system yet."

    async def playbook(self, name: str) -> str:
        """What a playbook does and the JSON schema of its arguments."""
        try:
            playbook = self._catalogue.get(name)
        except NotFound as error:
            return " ".join(error.reasons)
        return f"{playbook.summary} Arguments: {playbook.schema()}"
