"""A server that ends in order when it is told to, and leaves it to its caller how the process ends."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from uvicorn.server import HANDLED_SIGNALS


class StoppingServer(uvicorn.Server):
    """uvicorn, which would raise SIGINT and SIGTERM again before whoever started it could let go of things."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop in order on SIGINT and SIGTERM."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in HANDLED_SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
