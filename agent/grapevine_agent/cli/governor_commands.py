"""`grapevine pause` and `grapevine resume`, and what `status` says of the governor."""

from __future__ import annotations

import re
from typing import Annotated, Any

import typer

from grapevine_agent.cli.asking import ask_running
from grapevine_agent.cli.output import ConfigOption, JsonOption, answer, errors, shown, time_here
from grapevine_agent.cli.publications import meant
from grapevine_agent.core.spans import LONGEST_PAUSE_S
from grapevine_agent.printable import printable

_HELP = "The task's id, the beginning of it (8 or more) or its name; without one, all tasks."
PausedTaskArgument = Annotated[
    str | None, typer.Argument(help=_HELP, callback=lambda word: meant(word) if word is not None else None)
]
_UNITS = {"d": 86_400, "h": 3_600, "m": 60, "min": 60, "s": 1}
_PART = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)(d|h|min|m|s)")
MB = 1 << 20


def register(app: typer.Typer) -> None:
    """Attach these commands."""

    @app.command()
    def pause(
        task: PausedTaskArgument = None,
        for_: Annotated[
            str | None,
            typer.Option("--for", help="For so long, such as 2h, 30m or 1d12h. Without it, until `grapevine resume`."),
        ] = None,
        config: ConfigOption = None,
        as_json: JsonOption = False,
    ) -> None:
        """Pause training, of one task or of all. Models of others are merged meanwhile, and peers see this device.

        A step that is under way may end. It holds across a restart.
        """
        asked: dict[str, Any] = {"task": task or ""}
        if for_ is not None:
            asked["for_s"] = span_s(for_)
        _tell(ask_running(config, "pause", asked), as_json=as_json)

    @app.command()
    def resume(task: PausedTaskArgument = None, config: ConfigOption = None, as_json: JsonOption = False) -> None:
        """End a pause of a task; without one, every pause. Limits of the governor that hold go on to hold."""
        _tell(ask_running(config, "resume", {"task": task or ""}), as_json=as_json)


def span_s(text: str) -> float:
    """A span of time as people write it, in seconds. Raises `typer.BadParameter`."""
    written, shown_text = text.replace(" ", "").lower(), printable(text[:40])
    parts = _PART.findall(written)
    seconds = sum(float(num) * _UNITS[unit] for num, unit in parts)
    if not parts or "".join(map("".join, parts)) != written:
        raise typer.BadParameter(f"--for {shown_text}: write hours, minutes or days, such as 2h, 30m or 1d12h")
    if not 1 <= seconds <= LONGEST_PAUSE_S:
        raise typer.BadParameter(
            f"--for {shown_text}: write a span from 1s to {LONGEST_PAUSE_S / 86_400:.0f}d, or leave it out"
        )
    return seconds


def _tell(result: dict[str, Any], *, as_json: bool) -> None:
    """What now holds."""
    name = f"{shown(result['name'])}: " if result["task"] else ""
    held = result["held_back"] if result["task"] else _first(result["governor"])
    if result.get("was_paused") is False:
        name = f"{name}it was not paused; "
    if held is None:
        text = f"{name}training goes on"
    else:
        paused = held["paused"] if result["task"] else result["governor"]["paused"]
        text = f"{name}training is {'paused' if paused else 'slowed down'}: {shown(held['told'])}"
    others = [each for each in result["governor"]["held"] if each["task"] and not result["task"]]
    text += "".join(f"\n  also: {shown(each['told'])}" for each in others)
    answer(result, as_json=as_json, text=text)
    if why := result["not_saved"]:
        errors().print(f"[yellow]warning:[/] that is not on disk yet ({shown(why)}): a power cut would undo it")


def _first(governor: dict[str, Any]) -> dict[str, Any] | None:
    held = [each for each in governor["held"] if not each["task"] and each["does"] != "send"]
    return held[0] if held else None


def governor_lines(governor: dict[str, Any] | None) -> str:
    """For `status`: each limit that holds, and what is measured.

    training is paused since 13:02: it is 83 °C hot, 80 °C is the limit [pause_above_c]
    today: 61 °C, 12.4 MB sent, 3.1 kJ by training (modelled by the profile raspberry-pi-4b)
    """
    if not governor:
        return ""
    lines = [
        f"[yellow]{_STATES[each['does']]}[/] since {time_here(each['since'])}: {shown(each['told'])}"
        for each in governor["held"]
    ]
    if governor["slow_factor"] > 1:
        lines.append(f"training gets {100 / governor['slow_factor']:.0f} % of the time")
    facts = []
    if governor["temperature_c"] is not None:
        facts.append(f"{governor['temperature_c']:.0f} °C")
    if governor["battery_percent"] is not None:
        on = "on battery" if governor["on_battery"] else "on mains"
        facts.append(f"{on}, {governor['battery_percent']:.0f} % full")
    left = governor["send_bytes_left"]
    facts.append(
        f"{governor['bytes_today'] / MB:,.1f} MB sent" + ("" if left is None else f" ({left / MB:,.1f} MB left)")
    )
    if governor["energy_j_today"] is not None:
        facts.append(f"{governor['energy_j_today'] / 1e3:,.1f} kJ by training ({shown(governor['energy_by'])})")
    lines.append("today: " + ", ".join(facts))
    lines += [f"[yellow]nothing can be held against[/] {shown(each)}" for each in governor["not_measured"]]
    return "".join(f"\n{line}" for line in lines)


_STATES = {"pause": "training is paused", "slow": "training is slowed down", "send": "no more models are sent today"}


def held_back_words(task: dict[str, Any]) -> str:
    """For a task's line: `paused: these are quiet hours, until 07:00 [quiet_hours]; `."""
    held = task.get("held_back")
    if not held:
        return ""
    return f"{'paused' if held['paused'] else 'slowed down'}: {shown(held['told'])}; "
