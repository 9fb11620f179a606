"""How log lines look to journald, and to anybody else."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

from grapevine_agent.journal import JournalFormatter, is_journal, prioritised

SAY = """
import logging, os
from grapevine_agent.journal import log_to_stderr
log_to_stderr("info", os.environ)
logging.getLogger("x").debug("unheard")
logging.getLogger("x").info("joined")
logging.getLogger("x").warning("two\\nlines")
try:
    1 / 0
except ZeroDivisionError:
    logging.getLogger("x").exception("failed")
"""


def run(log: Path, environ: dict[str, str]) -> list[str]:
    with log.open("w") as stream:
        found = Path(f"/proc/self/fd/{stream.fileno()}").stat()
        named = {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"} if environ.get("is") == "journal" else {}
        command = [sys.executable, "-c", SAY]
        subprocess.run(command, check=True, stderr=stream, env={"PYTHONPATH": ":".join(sys.path), **named}, timeout=60)
    return log.read_text().splitlines()


def test_journald_gets_a_priority_on_each_line_and_no_time_or_level(tmp_path: Path) -> None:
    lines = run(tmp_path / "log", {"is": "journal"})
    assert lines[:3] == ["<6>joined", "<4>two", "<4>lines"]
    assert lines[3] == "<3>failed"
    assert len(lines) > 5
    assert all(line.startswith("<3>") for line in lines[3:]), "a traceback is an error in each of its lines"


def test_anybody_else_gets_the_level_as_a_word(tmp_path: Path) -> None:
    assert run(tmp_path / "log", {})[:2] == ["INFO joined", "WARNING two"]


def test_a_stream_that_is_not_the_journal_is_told_apart(tmp_path: Path) -> None:
    with (tmp_path / "other").open("w") as other:
        assert not is_journal({"JOURNAL_STREAM": "1:2"}, other.fileno())
        assert not is_journal({"JOURNAL_STREAM": "nonsense"}, other.fileno())
        assert not is_journal({}, other.fileno())
    assert not is_journal({"JOURNAL_STREAM": "1:2"}, 9_999)


def test_every_level_has_a_priority_of_syslog() -> None:
    formatter = JournalFormatter("%(message)s")
    levels = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 3}
    for level, priority in levels.items():
        record = logging.LogRecord("x", level, "", 0, "said", None, None)
        assert formatter.format(record) == f"<{priority}>said"
    assert prioritised("", 6) == "<6>"
