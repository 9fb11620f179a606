"""How worn the disk of the state folder is, and how soon it will be.

What a disk says of itself, as far as it does:

    eMMC        /sys/block/<disk>/device/life_time     two figures, 1 to 10 in tenths of its life that are used, 11 over
                                      pre_eol_info     1: well, 2: four fifths of its spare blocks are used, 3: urgent
                (JEDEC JESD84-B51, section 7.4: PRE_EOL_INFO and DEVICE_LIFE_TIME_EST_TYP)
    NVMe, SATA  smartctl, where it is installed and this user may ask

SD cards say nothing. Of any disk the kernel counts what was written since the start, and of the agent's process too.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from grapevine_agent.config.machine import line_of, text_of
from grapevine_agent.doctor.disk import place_of
from grapevine_agent.doctor.findings import Finding
from grapevine_agent.doctor.situation import Situation

OLD_PERCENT: Final = 80
WORN_PERCENT: Final = 100
SMARTCTL_S: Final = 5.0
LEAST_UPTIME_S: Final = 3_600.0  # a start writes much, and says little of a day
_SECTOR_BYTES: Final = 512
_WRITTEN_FIELD: Final = 6  # of /sys/block/<disk>/stat: sectors written (Documentation/block/stat.rst)
_REPLACE: Final = "keep a copy of the state folder, and replace this disk"


def wear(situation: Situation, *, root: Path = Path("/"), number: int | None = None) -> list[Finding]:
    """How worn it is. `number`: the device, by default that of the state folder."""
    place = place_of(situation)
    if place is None:
        return [Finding(check="wear", level="skip", says="where the state folder lies is not known")]
    device = _disk(root, place.stat().st_dev if number is None else number)
    if device is None:
        says = "the state folder lies on no disk of this machine that says how worn it is"
        return [Finding(check="wear", level="skip", says=says)]
    is_rotating, kind = line_of(device / "queue/rotational") == "1", line_of(device / "device/type")
    facts: dict[str, Any] = {"disk": device.name, "type": kind or None, "rotating": is_rotating}
    facts |= _written(device, root) | _agents_part(situation, root)
    facts |= _mmc(device) or _smart(device.name)
    a_day = facts.get("written_mb_per_day")
    rate = f"; {a_day:,.0f} MB a day are written" if a_day is not None else ""
    ours = facts.get("agent_mb_per_day")
    rate += f", {ours:,.0f} MB of them by the agent" if ours is not None and a_day is not None else ""
    return [_judged(device.name, kind, facts, rate)]


def _judged(disk: str, kind: str, facts: dict[str, Any], rate: str) -> Finding:
    used, end, failing = facts.get("used_percent"), facts.get("pre_eol"), facts.get("smart_passed") is False
    if used is None and end is None and not failing:
        what = "an SD card, which does not say how worn it is" if kind == "SD" else "which does not say how worn it is"
        return Finding(check="wear", level="ok" if rate else "skip", says=f"{disk}, {what}{rate}", facts=facts)
    says = f"{disk}: "
    says += (
        f"up to {used} % of its life is used" if used is not None else "how much of its life is used it does not say"
    )
    says += {2: ", and most of its spare blocks", 3: ", and nearly all of its spare blocks"}.get(end or 0, "")
    says += ", and it says itself that it fails" if failing else ""
    is_over = failing or end == 3 or (used is not None and used >= WORN_PERCENT)
    is_old = end == 2 or (used is not None and used >= OLD_PERCENT)
    level: Any = "fail" if is_over else "warn" if is_old else "ok"
    return Finding(check="wear", level=level, says=says + rate, remedy=_REPLACE if level != "ok" else "", facts=facts)


def _disk(root: Path, number: int) -> Path | None:
    """The disk that a device number is of, or is a part of; through what lies between, such as encryption."""
    found = root / f"sys/dev/block/{os.major(number)}:{os.minor(number)}"
    for _ in range(8):
        with suppress(OSError):
            found = found.resolve(strict=True)
            if below := sorted((found / "slaves").iterdir()) if (found / "slaves").is_dir() else []:
                found = below[0]
                continue
            return found.parent if (found / "partition").exists() else found
        return None
    return None


def _mmc(device: Path) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    tenths = [_hexadecimal(each) for each in line_of(device / "device/life_time").split()]
    known = [each for each in tenths if each is not None and 1 <= each <= 11]
    if known:
        facts["used_percent"] = 10 * max(known) if max(known) <= 10 else 101
    end = _hexadecimal(line_of(device / "device/pre_eol_info"))
    if end is not None and 1 <= end <= 3:
        facts["pre_eol"] = end
    return facts


def _smart(disk: str) -> dict[str, Any]:
    """What smartctl says, where it is there and lets this user ask."""
    program = shutil.which("smartctl", path="/usr/sbin:/usr/local/sbin:/usr/bin:/sbin")
    if program is None or not (disk.startswith(("nvme", "sd"))):
        return {}
    command = [program, "--json", "-H", "-A", f"/dev/{disk}"]
    with suppress(OSError, ValueError, subprocess.SubprocessError):
        done = subprocess.run(command, capture_output=True, timeout=SMARTCTL_S, check=False)
        return smart_facts(json.loads(done.stdout))
    return {}


def smart_facts(told: Any) -> dict[str, Any]:
    """Of smartctl's JSON what counts here; nothing where it says something else."""
    facts: dict[str, Any] = {}
    with suppress(KeyError, TypeError):
        facts["smart_passed"] = bool(told["smart_status"]["passed"])
    with suppress(KeyError, TypeError, ValueError):
        facts["used_percent"] = int(told["nvme_smart_health_information_log"]["percentage_used"])
    return facts


def _written(device: Path, root: Path) -> dict[str, Any]:
    with suppress(ValueError, IndexError):
        sectors = int(line_of(device / "stat").split()[_WRITTEN_FIELD])
        up_s = float(line_of(root / "proc/uptime").split()[0])
        if up_s >= LEAST_UPTIME_S:
            return {"written_mb_per_day": round(sectors * _SECTOR_BYTES / 1e6 * 86_400 / up_s, 1)}
    return {}


def _agents_part(situation: Situation, root: Path) -> dict[str, Any]:
    """What the agent's process has caused to be written."""
    up_s = float(situation.status.get("uptime_s") or 0.0)
    if situation.config is None or up_s < LEAST_UPTIME_S:
        return {}
    folder = situation.socket.parent if situation.socket is not None else situation.config.agent.state_dir
    holder = line_of(folder / "service.lock")
    lines = text_of(root / f"proc/{holder}/io").splitlines() if holder.isdigit() else []
    for name, _, number in (each.partition(": ") for each in lines):
        if name == "write_bytes" and number.isdigit():
            return {"agent_mb_per_day": round(int(number) / 1e6 * 86_400 / up_s, 1)}
    return {}


def _hexadecimal(text: str) -> int | None:
    with suppress(ValueError):
        return int(text, 16)
    return None
