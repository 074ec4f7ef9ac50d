"""Defects in playbooks, for those who mend them: where it happened, never what was in the hands.

An exception's message may carry a DSN or a line of a file; its type and the places in the code cannot.
"""

import traceback
from typing import Final

import structlog

_LOG: Final = structlog.get_logger("triad.defects")


def seen(error: Exception, playbook: str, during: str) -> None:
    """Log an exception that a playbook should not have raised."""
    frames = traceback.extract_tb(error.__traceback__)
    places = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames[-8:]]
    _LOG.error("defect in a playbook", playbook=playbook, during=during, error=type(error).__name__, places=places)
