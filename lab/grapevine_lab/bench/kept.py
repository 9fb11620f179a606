"""Figures that are kept in a file, benchmark by benchmark, each with what made it.

    {"merge_bandwidth": {"made": {"date": …, "commit": …, "load": …, "machine": …, "versions": …}, "figures": […]}, …}

A run replaces the benchmarks that it measured and leaves the others as they are, of whichever commit and day.
"""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Final, TypeAlias

from grapevine_broker.mosquitto import find_mosquitto
from grapevine_lab.bench.figures import Figure, Finding, Target
from grapevine_lab.bench.table import as_json
from grapevine_lab.commits import CHECKOUT, described
from grapevine_proto.errors import BrokerError, ConfigError

Made: TypeAlias = dict[str, Any]  # date, commit, load, machine, versions

LIBRARIES: Final = ("numpy", "torch", "paho-mqtt", "protobuf", "cryptography")  # that figures may depend on


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What is kept of one benchmark."""

    made: Made
    figures: tuple[Figure, ...]


def read(path: Path) -> dict[str, Entry]:
    """What is kept there; nothing where there is no such file. Raises ConfigError if it cannot be read."""
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
        return {name: Entry(made=each["made"], figures=_figures(name, each["figures"])) for name, each in plain.items()}
    except FileNotFoundError:
        if not path.parent.is_dir():
            raise ConfigError(f"{path}: there is no folder {path.parent}; make it, or give another file") from None
        return {}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ConfigError(
            f"{path}: cannot be read ({error}); restore it from Git, or delete it and measure all"
        ) from None


def add(path: Path, findings: Sequence[Finding], made: Made) -> list[str]:
    """Keep what was measured in the file; the names of benchmarks that gave nothing, whose entries stay as they were.

    Raises:
        ConfigError: The file cannot be read, or written.
    """
    kept = read(path)
    plain = {name: {"made": each.made, "figures": _plain(each.figures)} for name, each in kept.items()}
    measured: dict[str, list[Figure]] = {}
    for finding in findings:
        if isinstance(finding, Figure):
            measured.setdefault(finding.name, []).append(finding)
    plain |= {name: {"made": made, "figures": _plain(figures)} for name, figures in measured.items()}
    beside = path.with_suffix(".part")
    try:
        beside.write_text(
            json.dumps(dict(sorted(plain.items())), indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
        )
        beside.replace(path)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written ({error.strerror}); give another file") from None
    return [name for name in dict.fromkeys(each.name for each in findings) if name not in measured]


def made_here() -> Made:
    """What figures that are measured now are made by."""
    versions = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "commit": described(CHECKOUT),
        "load": round(os.getloadavg()[1], 1),  # the machine's in the five minutes before: what else it had to do
        "machine": {
            "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
            "processor": _processor(),
            "system": f"{platform.system()} {platform.machine()}",
        },
        "versions": versions | _mosquitto(),
    }


def _figures(name: str, plain: list[dict[str, Any]]) -> tuple[Figure, ...]:
    return tuple(
        Figure(
            name=name,
            what=each["what"],
            median=float(each["median"]),
            quartiles=(float(each["quartiles"][0]), float(each["quartiles"][1])),
            num=each["num"],
            unit=each["unit"],
            target=Target(**each["target"]) if each["target"] else None,
        )
        for each in plain
    )


def _plain(figures: Sequence[Figure]) -> list[dict[str, Any]]:
    return [{key: value for key, value in each.items() if key != "name"} for each in as_json(figures)]


def _processor() -> str:
    try:
        told = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor()
    found = re.search(r"^model name\s*: (.+)$", told, re.MULTILINE)
    return found.group(1).strip() if found else platform.processor()


def _mosquitto() -> dict[str, str]:
    try:
        told = subprocess.run([find_mosquitto(), "-h"], capture_output=True, text=True, check=False).stdout
    except BrokerError:
        return {}
    found = re.search(r"version (\S+)", told)
    return {"mosquitto": found.group(1)} if found else {}
