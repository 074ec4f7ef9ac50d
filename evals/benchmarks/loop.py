"""The event loop that everything is measured on: the one that uvicorn gives the service."""

import asyncio
from importlib.util import find_spec


def new_loop() -> asyncio.AbstractEventLoop:
    """One of uvloop where it is installed, which is everywhere but on Windows; else the standard one."""
    if find_spec("uvloop") is None:
        return asyncio.new_event_loop()
    import uvloop  # noqa: PLC0415 - only where there is one

    return uvloop.new_event_loop()
