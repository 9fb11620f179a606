"""What `grapevine doctor` finds, as it is found: lines for people, or one JSON object."""

from __future__ import annotations

import os
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, get_args

from rich.text import Text

from grapevine_agent.cli.acting_as import act_as_service
from grapevine_agent.cli.output import answer, console, counted, errors
from grapevine_agent.doctor.checks import checks_of
from grapevine_agent.doctor.examination import examine
from grapevine_agent.doctor.findings import Finding, Level
from grapevine_agent.doctor.situation import Situation, find_out
from grapevine_agent.journal import quietly
from grapevine_agent.printable import printable
from grapevine_agent.units import USER
from grapevine_proto.errors import ConfigError

_MARKS: Final[dict[Level, tuple[str, str, str]]] = {
    "ok": ("✓", "ok", "green"),
    "warn": ("!", "!", "yellow"),
    "fail": ("✗", "x", "bold red"),
    "skip": ("-", "-", "dim"),
}
_WIDTH: Final = len("configuration")
_MOST_SAID: Final = 2_000  # characters
_INDENT: Final = " " * (_WIDTH + 5)


async def examined(config: Path | None, *, as_json: bool) -> list[Finding]:
    """Look, and tell. What was found."""
    situation = _as_the_service(find_out(config, os.environ))
    checks = checks_of(situation)
    found: list[Finding] = []
    # Where lines are printed meanwhile, it has to be the same console, or they end up beside its own.
    with (errors() if as_json else console()).status("looking …") as status:
        names = iter([*(each.name for each in checks[1:]), "what was found"])
        status.update(f"looking at {checks[0].name} …")
        async for findings in examine(checks):
            found += findings
            status.update(f"looking at {next(names)} …")
            if not as_json:
                for each in findings:
                    console().print(_line(each))
    levels = Counter(each.level for each in found)
    answer(_told(situation, found, levels), as_json=as_json, text=_summary(levels))
    return found


def _as_the_service(situation: Situation) -> Situation:
    """Look as the service's user, where root asks: it finds what the service finds.

    The password that systemd hands to the service is read before, while the file can be.
    """
    config = situation.config
    if config is None or not situation.knows("agent"):
        return situation
    with suppress(ConfigError), quietly():
        if password := config.mqtt.read_password():
            mqtt = replace(config.mqtt, environment_password=password)
            situation = replace(situation, config=replace(config, mqtt=mqtt))
    # Where a unit says so, even if the folder is not that user's: then the service does not get far, either.
    act_as_service(config.agent.state_dir, whosever=situation.unit is not None and situation.unit.user == USER)
    return situation


def _told(situation: Situation, found: list[Finding], levels: Counter[Level]) -> dict[str, Any]:
    return {
        "peer": situation.peer,
        "config": str(situation.path) if situation.path else "",
        "agent": situation.agent,
        "num": {level: levels[level] for level in get_args(Level)},
        "findings": [each.as_json() for each in found],
    }


def _line(finding: Finding) -> Text:
    """A finding as it is printed: text alone, since some of it others have said."""
    mark, plain_mark, style = _MARKS[finding.level]
    encoding = console().encoding or "utf-8"
    is_plain = not encoding.lower().startswith("utf")
    about = f"{finding.about}: " if finding.about else ""
    says = f"{finding.check:<{_WIDTH}}  {printable((about + finding.says)[:_MOST_SAID])}"
    if finding.remedy:
        says += f"\n{_INDENT[:-1]}{'->' if is_plain else '→'} {printable(finding.remedy[:_MOST_SAID])}"
    if is_plain:
        says = says.encode(encoding, "replace").decode(encoding)
    return Text.assemble((f"{plain_mark if is_plain else mark:<2}", style), says)


def _summary(levels: Counter[Level]) -> str:
    failures, warnings = counted(levels["fail"], "failure"), counted(levels["warn"], "warning")
    if not levels["fail"] and not levels["warn"]:
        return "\nall is well here"
    return f"\n{failures}, {warnings}; {levels['ok']} as they should be"
