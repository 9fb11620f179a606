"""What systemd says of the service that runs with this configuration: whether its last start failed, and why.

To be asked as root, or as a user who may read the journal; another one learns that it failed, and not why.
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from grapevine_agent.doctor.findings import Finding

AGENT_UNIT: Final = "grapevine-agent"
_NAMES: Final = (AGENT_UNIT, "grapevine-server")
WITHIN_S: Final = 5.0
_STATE: Final = Path("/var/lib")
_PROPERTIES: Final = (
    "LoadState",
    "ActiveState",
    "Result",
    "ExecMainStatus",
    "NRestarts",
    "ExecStart",
    "User",
    "ProtectSystem",
    "StateDirectory",
    "ReadWritePaths",
)
_MOST_WORDS: Final = 500

Say = Callable[[Sequence[str]], str]


@dataclass(frozen=True, kw_only=True)
class Unit:
    """A unit of the system's. `has_failed`: at its last start, or since; `last_words`: what it logged then."""

    name: str
    user: str
    has_failed: bool
    how: str
    last_words: str
    writes: tuple[Path, ...] | None  # where it may write; None: systemd keeps it from nothing

    def may_write(self, folder: Path) -> bool:
        """Whether its walls let it write there; who owns the folder is another matter."""
        return self.writes is None or any(folder.is_relative_to(each) for each in self.writes)


def said(command: Sequence[str]) -> str:
    """What a command prints; nothing if it is not there, fails or takes too long."""
    if shutil.which(command[0]) is None:
        return ""
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=WITHIN_S, errors="replace")
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def unit_of(config: Path | None, say: Say = said, *, systemd: Path = Path("/run/systemd/system")) -> Unit | None:
    """The unit that runs with this configuration; None where there is none, or no systemd."""
    if config is None or not systemd.is_dir():
        return None
    for name in _NAMES:
        printed = say(["systemctl", "show", name, *(f"--property={each}" for each in _PROPERTIES)])
        found = dict(line.split("=", 1) for line in printed.splitlines() if "=" in line)
        if found.get("LoadState") == "loaded" and f"--config {config.absolute()} " in f"{found.get('ExecStart', '')} ":
            return _read(name, found, say)
    return None


def _read(name: str, found: dict[str, str], say: Say) -> Unit:
    result, active = found.get("Result", ""), found.get("ActiveState", "")
    is_again = active == "activating" and found.get("NRestarts", "0") not in ("", "0")
    has_failed = active != "active" and (active == "failed" or result not in ("", "success") or is_again)
    status = found.get("ExecMainStatus", "")
    how = f"exit code {status}" if result in ("exit-code", "success", "start-limit-hit") and status else result
    writes = None
    if found.get("ProtectSystem") == "strict":
        writes = (
            *(_STATE / each for each in found.get("StateDirectory", "").split()),
            *(Path(each.lstrip("-+")) for each in found.get("ReadWritePaths", "").split()),
        )
    return Unit(
        name=name,
        user=found.get("User", ""),
        has_failed=has_failed,
        how=how,
        last_words=_last_words(name, say) if has_failed else "",
        writes=writes,
    )


def _last_words(name: str, say: Say) -> str:
    """The last error that the service itself logged, or else its last line."""
    lines = say(["journalctl", f"_SYSTEMD_UNIT={name}.service", "-n", "20", "-o", "cat", "--no-pager"]).splitlines()
    lines = [each.strip() for each in lines if each.strip()]
    errors = [each for each in lines if re.match(r"error\b", each, re.IGNORECASE)]
    return (errors or lines or [""])[-1][:_MOST_WORDS]


def findings(unit: Unit | None, state_dir: Path) -> list[Finding]:
    """What is wrong with the service, beside what it says of itself when it runs."""
    if unit is None:
        return []
    facts: dict[str, Any] = {"unit": unit.name, "failed": unit.has_failed}
    found = []
    if unit.has_failed:
        says = f"the service's last start failed ({unit.how})" + (f": {unit.last_words}" if unit.last_words else "")
        remedy = f"mend that, then: sudo systemctl restart {unit.name}"
        if not unit.last_words:
            remedy = f"see why: sudo journalctl -u {unit.name} -e"
        found.append(Finding(check="agent", level="fail", says=says, remedy=remedy, facts=facts))
    if not unit.may_write(state_dir):
        says = f"the service {unit.name} may not write in its state folder {state_dir}: its unit lets it write "
        says += f"in {', '.join(map(str, unit.writes or ())) or 'no folder'} alone"
        remedy = f"sudo systemctl edit {unit.name}, and write there: [Service] ReadWritePaths={state_dir}"
        found.append(Finding(check="agent", level="fail", says=says, remedy=remedy, facts=facts))
    return found


def unreadable(path: Path, key: str, unit: str) -> Finding:
    """A file that the service's user, as whom this looks, may not read, and that systemd does not hand over."""
    says = f"the service may not read {path} ({key} of [mqtt]): it does not start with it"
    remedy = f"put it into credentials/ beside the configuration and write credentials/{path.name}, then: "
    remedy += f"sudo systemctl restart {unit}"
    return Finding(check="configuration", level="fail", says=says, remedy=remedy, facts={"path": str(path)})


def is_user(name: str) -> bool:
    """Whether this process acts as this user."""
    try:
        return pwd.getpwnam(name).pw_uid == os.geteuid()
    except KeyError:
        return False
