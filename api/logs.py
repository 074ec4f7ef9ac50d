"""Where the log goes: standard error for whoever watches, `logs/triad.log` in the home folder for the record."""

import logging
import sys
from logging.handlers import WatchedFileHandler
from pathlib import Path
from typing import Final

import structlog
from structlog.typing import Processor

from api.settings import Logging

_SHARED: Final[tuple[Processor, ...]] = (
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.format_exc_info,
)


def configure_logs(settings: Logging, folder: Path | None) -> None:
    """Send every record of this process to its places.

    Args:
        settings: level and form.
        folder: where `triad.log` lies; it is opened again after somebody renamed it. None writes no file.
    """
    structlog.configure(
        processors=[*_SHARED, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    text = settings.format == "text" or (settings.format == "auto" and sys.stderr.isatty())
    shown = logging.StreamHandler(sys.stderr)
    shown.setFormatter(_formatter(structlog.dev.ConsoleRenderer() if text else structlog.processors.JSONRenderer()))
    handlers: list[logging.Handler] = [shown]
    if folder is not None:
        kept = WatchedFileHandler(folder / "triad.log", encoding="utf-8")
        kept.setFormatter(_formatter(structlog.processors.JSONRenderer()))
        handlers.append(kept)
    logging.basicConfig(level=settings.level.upper(), handlers=handlers, force=True)
    for name in ("httpx", "httpx2", "httpcore", "httpcore2", "openai", "uvicorn.access"):
        logging.getLogger(name).setLevel("WARNING")


def _formatter(renderer: Processor) -> logging.Formatter:
    remove = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    return structlog.stdlib.ProcessorFormatter(foreign_pre_chain=list(_SHARED), processors=[remove, renderer])
