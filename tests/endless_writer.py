"""A process that writes to the ledger until it is killed, and says on its output what was acknowledged."""

import asyncio
import sys
from itertools import count
from pathlib import Path

from storage.ledger import Ledger
from storage.signer import Signer
from tests.steps import BY_ANA, denied, submitted


async def main(dsn: str, key: str, origin: str, name: str) -> None:
    ledger = await Ledger.open(dsn, Signer.load_or_create(Path(key), origin), origin=origin)

    async def write(writer: int) -> None:
        for number in count():
            code = f"{name}-{writer}-{number}"
            if number % 5 == 0:
                await submitted(ledger)
            await ledger.note(denied(code), BY_ANA)
            sys.stdout.write(code + "\n")
            sys.stdout.flush()

    await asyncio.gather(*(write(writer) for writer in range(8)))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
