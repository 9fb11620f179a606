"""Lines for whoever reads them: journald, if that is where our standard error goes, or anybody else.

journald gives each line its time, and its priority if it begins with one as sd-daemon(3) has them: `<6>joining`. So
there is no time of ours, and no level as a word; a text of several lines, such as a traceback, has it in each of them.
Anybody else is told the level as a word.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

PLAIN_FORMAT: Final = "%(levelname)s %(message)s"
STDERR: Final = 2
INFO, ERROR = 6, 3  # syslog(3)
_WARNING, _DEBUG = 4, 7


def is_journal(environ: Mapping[str, str], descriptor: int = STDERR) -> bool:
    """Whether a descriptor of ours is the journal's stream: `JOURNAL_STREAM` is its device and inode."""
    device, _, inode = environ.get("JOURNAL_STREAM", "").partition(":")
    try:
        found = os.fstat(descriptor)
    except OSError:
        return False
    return (device, inode) == (str(found.st_dev), str(found.st_ino))


def prioritised(text: str, priority: int) -> str:
    """A text with its priority before each of its lines."""
    return "\n".join(f"<{priority}>{line}" for line in text.splitlines() or [""])


class JournalFormatter(logging.Formatter):
    """Lines as journald takes them."""

    def format(self, record: logging.LogRecord) -> str:
        """The whole record, an exception included."""
        return prioritised(super().format(record), _priority(record.levelno))


def _priority(level: int) -> int:
    if level >= logging.ERROR:
        return ERROR
    if level >= logging.WARNING:
        return _WARNING
    return INFO if level >= logging.INFO else _DEBUG


def log_to_stderr(level: str, environ: Mapping[str, str]) -> None:
    """Have everything from `level` on ("info", …) written to standard error, as its reader wants it."""
    handler = logging.StreamHandler()
    handler.setFormatter(JournalFormatter("%(message)s") if is_journal(environ) else logging.Formatter(PLAIN_FORMAT))
    logging.basicConfig(level=level.upper(), handlers=[handler])
    logging.raiseExceptions = False  # a log on a full disk loses lines, and nothing else


@contextmanager
def quietly() -> Iterator[list[str]]:
    """What our modules warn of meanwhile goes here, and not to the terminal."""
    told: list[str] = []

    class Listening(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            told.append(record.getMessage())

    logger, listening = logging.getLogger("grapevine_agent"), Listening(logging.WARNING)
    propagates, logger.propagate = logger.propagate, False
    logger.addHandler(listening)
    try:
        yield told
    finally:
        logger.removeHandler(listening)
        logger.propagate = propagates
