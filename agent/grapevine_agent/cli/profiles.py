"""What `grapevine profile` shows of firmware profiles, as tables."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import typer
from rich.table import Table
from rich.text import Text

from grapevine_agent.cli.output import answer, complain, configuration, console, tell
from grapevine_agent.config.board import propose, read_board
from grapevine_agent.config.firmware import FirmwareProfile, MemorySize, device_profile, load_profile
from grapevine_agent.config.mistakes import Mistake, MistakesError
from grapevine_agent.config.profile_files import profile_names
from grapevine_agent.config.toml_reader import read_toml
from grapevine_agent.printable import printable
from grapevine_proto.errors import ConfigError

EXIT_FAILED = 1
_UNKNOWN = "—"
_AGENT_TABLES = frozenset({"agent", "mqtt", "review"})


def list_profiles(*, as_json: bool) -> None:
    """List the profiles that ship with Grapevine, and mark the one that fits this machine."""
    here = propose(read_board()).profile
    profiles = [load_profile(name) for name in profile_names()]
    if as_json:
        answer([{**_plain(each), "here": each.name == here} for each in profiles], as_json=True, text="")
        return
    console().print(_table(profiles, here))
    console().print(
        "* fits this machine. GB: of memory for tasks, by what the board is sold with; W: idle/training; °C: "
        "slower/paused above; sent, disk: GB a day. Numbers with their sources: grapevine profile show NAME",
        style="dim",
    )


def show_profile(name: str | None, config: Path | None, *, as_json: bool) -> None:
    """Show all of a profile."""
    profile = load_profile(name) if name else device_profile(configuration(config))
    _show(profile, as_json=as_json)


def check_profile(file: Path, *, as_json: bool) -> None:
    """Check a profile of the owner's. Raises typer.Exit(1) if it cannot be used."""
    try:
        profile = load_profile(file, follows_machine=True)
    except ConfigError as error:
        _tell_mistakes(file, error, as_json=as_json)
        raise typer.Exit(EXIT_FAILED) from None
    if as_json:
        answer({"file": str(file), "valid": True, "mistakes": [], "profile": _plain(profile)}, as_json=True, text="")
        return
    console().print(Text(f'{file} is a profile. On this machine, with agent.profile = "{file}":'))
    _show(profile, as_json=False)


def _tell_mistakes(file: Path, error: ConfigError, *, as_json: bool) -> None:
    if not as_json:
        complain(str(error))
        with suppress(ConfigError):
            if not _AGENT_TABLES.isdisjoint(read_toml(file)):
                tell(f"this looks like an agent's configuration: grapevine profile show --config {file}")
        return
    found = error.mistakes if isinstance(error, MistakesError) else (Mistake(said=str(error), source=str(file)),)
    mistakes = [{"line": each.line or None, "key": each.key, "said": each.said} for each in found]
    sys.stdout.write(json.dumps({"file": str(file), "valid": False, "mistakes": mistakes}) + "\n")


def _plain(profile: FirmwareProfile) -> dict[str, Any]:
    return asdict(profile)


def _table(profiles: list[FirmwareProfile], here: str) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("  profile", no_wrap=True)
    for name in ("GB", "Gflops", "W", "°C", "network", "sent", "disk"):
        table.add_column(name, no_wrap=True, justify="left" if name == "network" else "right")
    for each in profiles:
        table.add_row(
            f"{'*' if each.name == here else ' '} {each.name}",
            _memory_range(each),
            (f"{each.gflops:g}" if each.gflops else _UNKNOWN) if each.can_train else "relays",
            _pair(each.power.idle_w, each.power.training_w),
            _pair(each.slow_above_c, each.pause_above_c),
            each.network,
            f"{each.upload_mb_per_day / 1000:g}" if each.upload_mb_per_day else _UNKNOWN,
            f"{each.save_mb_per_day / 1000:g}",
        )
    return table


def _memory_range(profile: FirmwareProfile) -> str:
    if not profile.sizes:
        return f"{profile.memory_mb / 1000:.2g}"
    return f"{profile.sizes[0].memory_mb / 1000:.2g}–{profile.sizes[-1].memory_mb / 1000:.2g}"


def _pair(first: float, second: float) -> str:
    return f"{first:g}/{second:g}" if first or second else _UNKNOWN


def _show(profile: FirmwareProfile, *, as_json: bool) -> None:
    if as_json:
        answer(_plain(profile), as_json=True, text="")
        return
    console().print(Text(f"{profile.name}: {printable(profile.description)}", style="bold"))
    for title, lines, source in _sections(profile):
        console().print()
        console().print(Text(title, style="bold"))
        for name, value in lines:
            console().print(Text(f"  {name:<22}{printable(value)}"))
        if source:
            console().print(Text(f"  source: {printable(source)}", style="dim"))


def _sections(profile: FirmwareProfile) -> Iterator[tuple[str, list[tuple[str, str]], str]]:
    """A title, names and values, and where they are from."""
    yield (
        "limits",
        [
            ("cores, threads", f"{profile.cores}, {profile.threads} of them train"),
            ("trains", "yes" if profile.can_train else "no: it relays, reviews, merges and serves"),
            ("memory", f"{profile.memory_mb:,} MB for tasks"),
            ("max_parameters", f"{profile.max_parameters:,}"),
            ("max_batch", f"{profile.max_batch:,}"),
            ("chunks under way", f"{profile.chunk_window}"),
            ("encoding", profile.encoding),
            ("hosts a broker", "may" if profile.can_host_broker else "no: it is too small"),
            *((f"  with {size.ram_mb:,} MB", _size_words(size)) for size in profile.sizes),
        ],
        "",
    )
    known = [*profile.boards, *profile.compatible, *profile.cpus, *(f"chassis type {each}" for each in profile.chassis)]
    if known:
        yield "known by", [("", each) for each in known], ""
    yield "speed", [("training", _measured(profile.gflops, "· 10⁹ operations a second"))], profile.gflops_source
    yield "memory speed", [("training", _measured(profile.memory_gbs, "GB a second"))], profile.memory_source
    storage = [
        ("kind", profile.storage),
        ("state folder", f"{profile.state_mb:,} MB"),
        ("models written", f"{profile.save_mb_per_day:,} MB a day"),
    ]
    yield "storage", storage, profile.storage_source
    if profile.accelerator:
        yield "accelerator", [("name", profile.accelerator)], profile.accelerator_source
    heat = [
        ("slower above", _measured(profile.slow_above_c, "°C")),
        ("paused above", _measured(profile.pause_above_c, "°C")),
    ]
    yield "thermal", heat, profile.thermal_source
    network = [
        ("class", profile.network),
        ("keepalive", _measured(profile.keepalive_s, "s")),
        ("sent", f"{profile.upload_mb_per_day:,} MB a day" if profile.upload_mb_per_day else "no budget"),
    ]
    yield "network", network, profile.network_source
    draw = profile.power
    power = [
        ("idle", _measured(draw.idle_w, "W")),
        ("training", _measured(draw.training_w, "W")),
        ("radio", _measured(draw.radio_w, "W")),
        ("duty cycle", f"{profile.duty_cycle:.0%} of the time"),
        ("energy", f"{profile.energy_kj_per_day:,.0f} kJ a day" if profile.energy_kj_per_day else "no budget"),
    ]
    yield "power, of the whole device", power, draw.source


def _size_words(size: MemorySize) -> str:
    parameters = f", {size.max_parameters:,} parameters" if size.max_parameters else ""
    return f"{size.memory_mb:,} MB for tasks{parameters}"


def _measured(number: float, unit: str) -> str:
    return f"{number:g} {unit}" if number else _UNKNOWN
