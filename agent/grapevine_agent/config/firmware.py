"""Firmware profiles: what a class of device can do, how much of it Grapevine may use, and what that draws.

A profile is a TOML file. The ones that ship with Grapevine are looked up by name, first in the
source checkout (`firmware_profiles/`), then in the installed package (`grapevine_agent/profiles/`);
an owner's own is given by its path. A limit of 0 asks the machine.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Final

import psutil

from grapevine_agent.config.agent_toml import LEAST_STATE_MB, Limits
from grapevine_agent.config.toml_reader import Table, read_toml, suggestion
from grapevine_agent.core.learning.encodings import AUTO
from grapevine_agent.core.settings import DeviceLimits
from grapevine_agent.core.tasks.deadlines import Pace
from grapevine_proto.encodings import ENCODINGS
from grapevine_proto.errors import ConfigError

DEFAULT_PROFILE: Final = "generic"
# Importing torch takes 230 MB before the first tensor: with less than this, a trainer cannot start.
LEAST_TRAINING_MB: Final = 300
# Of a profile that says nothing of disks: a memory card of 16 GB that is to last, as most devices have.
STATE_MB: Final = 2_000
SAVE_MB_PER_DAY: Final = 1_000
# Copies of a model that live at once: working, base, released, gradient, two of Adam's, updates in flight.
_MODEL_COPIES = 10
_BYTES_PER_PARAMETER = 4
_MB = 1 << 20

_DEVICE_TREE_MODEL = Path("/proc/device-tree/model")
_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What this machine reports of itself: usable cores, and memory in MB (2²⁰ bytes)."""

    cores: int
    memory_mb: int


@dataclass(frozen=True, kw_only=True)
class PowerDraw:
    """What the whole device draws in a state, in watts; 0 is unknown. `source` says who measured it."""

    idle_w: float
    training_w: float
    radio_w: float
    source: str


@dataclass(frozen=True, kw_only=True)
class FirmwareProfile:
    """What a device can do, with every limit filled in (none is 0).

    `memory_mb`, `threads`, `max_batch` and `max_parameters` bound what a task may use here;
    `chunk_window` is how many chunks of a transfer may be unacknowledged (1 or 4). `state_mb` bounds the state folder,
    `save_mb_per_day` what is written of models: what a class of devices has of disk, and how soon it wears out.
    `encoding` is how vectors are written that are sent: "auto", the smallest that a task allows, or a name.
    """

    name: str
    description: str
    cores: int
    memory_mb: int
    threads: int
    max_batch: int
    max_parameters: int
    chunk_window: int
    can_train: bool
    power: PowerDraw
    state_mb: int = STATE_MB
    save_mb_per_day: int = SAVE_MB_PER_DAY
    encoding: str = AUTO
    can_host_broker: bool = True  # for others, where all brokers are silent
    boards: tuple[str, ...] = ()
    gflops: float = 0.0  # 10⁹ float32 operations a second that training reaches; 0: unknown
    gflops_source: str = ""
    memory_gbs: float = 0.0  # 10⁹ bytes a second that training reads and writes; 0: unknown
    memory_source: str = ""
    slow_above_c: float = 0.0  # the governor's; 0: no limit
    pause_above_c: float = 0.0
    upload_mb_per_day: int = 0
    energy_kj_per_day: float = 0.0
    duty_cycle: float = 1.0  # of the time that it may train
    keepalive_s: int = 0  # of its connections; 0: as the owner or the default says

    @property
    def pace(self) -> Pace:
        """How fast it trains."""
        return Pace(gflops=self.gflops, memory_gbs=self.memory_gbs)


def load_profile(name_or_path: str | Path, machine: Machine | None = None) -> FirmwareProfile:
    """Read a profile and fill in what it leaves to the machine.

    Args:
        name_or_path: The name of a profile that ships with Grapevine, or the path of a `.toml` file.
        machine: What to fill in zeros from; by default what this machine reports.

    Raises:
        ConfigError: There is no such profile, or it holds a mistake.
    """
    text = str(name_or_path)
    if isinstance(name_or_path, Path) or "/" in text or text.endswith(".toml"):
        return _fill_in(_read_profile(Path(name_or_path)), machine or detect_machine())
    for folder in _profile_folders():
        file = folder / f"{text}.toml"
        if file.is_file():
            with resources.as_file(file) as path:
                return _fill_in(_read_profile(path), machine or detect_machine())
    raise ConfigError(
        f"agent.profile = {text!r}: there is no such firmware profile; {suggestion(text, profile_names())} "
        "(a profile of your own is named by its path, ending in .toml)"
    )


def profile_names() -> list[str]:
    """The names of the profiles that ship with Grapevine, sorted."""
    names: set[str] = set()
    for folder in _profile_folders():
        names |= {file.name.removesuffix(".toml") for file in folder.iterdir() if file.name.endswith(".toml")}
    return sorted(names)


def guess_profile(device_tree_model: Path = _DEVICE_TREE_MODEL) -> str:
    """The name of the profile for the board that we run on, by its device tree; `generic` for any other."""
    try:
        model = device_tree_model.read_bytes().rstrip(b"\x00\n").decode("utf-8", "replace")
    except OSError:
        return DEFAULT_PROFILE  # not a board with a device tree
    machine = Machine(cores=1, memory_mb=1024)  # irrelevant here: only the boards are read
    for name in profile_names():
        if any(model.startswith(board) for board in load_profile(name, machine).boards):
            return name
    return DEFAULT_PROFILE


def detect_machine() -> Machine:
    """Ask the system for usable cores and memory, a container's limit included."""
    memory = psutil.virtual_memory().total
    with suppress(OSError, ValueError):  # no control group, or "max": no limit
        memory = min(memory, int(_CGROUP_LIMIT.read_text(encoding="ascii")))
    return Machine(cores=len(os.sched_getaffinity(0)), memory_mb=max(1, memory // _MB))


def with_limits(profile: FirmwareProfile, limits: Limits) -> FirmwareProfile:
    """The profile with the owner's `[limits]` in place of its own. The owner may raise them, too.

    Raises:
        ConfigError: Training is asked for with less memory than a trainer needs.
    """
    limited = replace(
        profile,
        memory_mb=limits.memory_mb or profile.memory_mb,
        cores=limits.cores or profile.cores,
        threads=limits.threads or profile.threads,
        max_batch=limits.max_batch or profile.max_batch,
        max_parameters=limits.max_parameters or profile.max_parameters,
        chunk_window=limits.chunk_window or profile.chunk_window,
        state_mb=limits.state_mb or profile.state_mb,
        save_mb_per_day=limits.save_mb_per_day or profile.save_mb_per_day,
        encoding=limits.encoding or profile.encoding,
        can_train=profile.can_train if limits.can_train is None else limits.can_train,
    )
    if limited.can_train and limited.memory_mb < LEAST_TRAINING_MB:
        if limits.can_train:
            raise ConfigError(
                f"limits.can_train = true with memory_mb = {limited.memory_mb}: training needs {LEAST_TRAINING_MB} MB; "
                f"raise limits.memory_mb, or write can_train = false to relay, merge and serve only"
            )
        return replace(limited, can_train=False)
    return limited


def device_limits(profile: FirmwareProfile, *, cannot_train: str = "") -> DeviceLimits:
    """What the core is told of a device; `cannot_train` says why it trains nothing, if so."""
    return DeviceLimits(
        profile=profile.name,
        cores=profile.cores,
        memory_mb=profile.memory_mb,
        max_parameters=profile.max_parameters,
        max_batch=profile.max_batch,
        cannot_train=cannot_train,
        disk_mb=profile.state_mb,
        watts_idle=profile.power.idle_w,
        watts_training=profile.power.training_w,
    )


def _profile_folders() -> list[Traversable]:
    """Where profiles ship: the checkout first, because an editable install leaves stale copies behind."""
    checkout = Path(__file__).resolve().parents[3] / "firmware_profiles"
    packaged = resources.files("grapevine_agent") / "profiles"
    return [folder for folder in (checkout, packaged) if folder.is_dir()]


def _read_profile(path: Path) -> FirmwareProfile:
    """Read a profile as written: zeros are still zeros."""
    table = Table(read_toml(path), source=str(path))
    power = table.table("power")
    profile = FirmwareProfile(
        name=table.text("name", pattern=r"[a-z0-9][a-z0-9-]{0,63}", hint='"my-board"'),
        description=table.text("description", "", max_length=500),
        boards=table.texts("boards"),
        cores=table.integer("cores", 0, low=0, high=1024),
        memory_mb=table.integer("memory_mb", 0, low=0, high=1 << 24),
        threads=table.integer("threads", 0, low=0, high=1024),
        max_batch=table.integer("max_batch", 1024, low=1, high=1 << 20),
        max_parameters=table.integer("max_parameters", 0, low=0, high=1 << 40),
        chunk_window=table.integer("chunk_window", 4, low=1, high=4),
        state_mb=table.integer("state_mb", STATE_MB, low=LEAST_STATE_MB, high=1 << 30),
        save_mb_per_day=table.integer("save_mb_per_day", SAVE_MB_PER_DAY, low=1, high=1 << 30),
        encoding=table.text("encoding", AUTO, choices=(AUTO, *ENCODINGS)),
        can_train=table.boolean("can_train", True),
        can_host_broker=table.boolean("can_host_broker", True),
        gflops=table.number("gflops", 0.0, low=0.0, high=1e6),
        gflops_source=table.text("gflops_source", ""),
        memory_gbs=table.number("memory_gbs", 0.0, low=0.0, high=1e6),
        memory_source=table.text("memory_source", ""),
        power=PowerDraw(
            idle_w=power.number("idle_w", 0.0, low=0.0, high=10_000.0),
            training_w=power.number("training_w", 0.0, low=0.0, high=10_000.0),
            radio_w=power.number("radio_w", 0.0, low=0.0, high=10_000.0),
            source=power.text("source", ""),
        ),
    )
    table.finish()
    power.finish()
    if profile.chunk_window not in (1, 4):
        raise table.error("chunk_window", "must be 1 (slow links) or 4")
    if profile.cores and profile.threads > profile.cores:
        raise table.error("threads", f"is more than cores = {profile.cores}; write threads = {profile.cores} or less")
    if profile.can_train and 0 < profile.memory_mb < LEAST_TRAINING_MB:
        raise table.error("memory_mb", f"training needs {LEAST_TRAINING_MB} MB; raise it, or write can_train = false")
    if profile.gflops and not profile.gflops_source:
        raise table.error("gflops_source", "say who measured gflops, or that it is assumed, and how")
    if profile.memory_gbs and not profile.memory_source:
        raise table.error("memory_source", "say who measured memory_gbs, or that it is assumed, and how")
    draw = profile.power
    if (draw.idle_w or draw.training_w or draw.radio_w) and not draw.source:
        raise power.error("source", "say who measured these watts, and how")
    if draw.idle_w and 0 < draw.training_w < draw.idle_w:
        raise power.error("training_w", f"is less than idle_w = {draw.idle_w:g}; it is the draw of the whole device")
    return profile


def _fill_in(profile: FirmwareProfile, machine: Machine) -> FirmwareProfile:
    cores = profile.cores or machine.cores
    memory_mb = profile.memory_mb or max(1, machine.memory_mb // 2)
    return replace(
        profile,
        cores=cores,
        memory_mb=memory_mb,
        threads=profile.threads or max(1, cores - 1),
        max_parameters=profile.max_parameters or memory_mb * _MB // (_BYTES_PER_PARAMETER * _MODEL_COPIES),
        can_train=profile.can_train and memory_mb >= LEAST_TRAINING_MB,
    )
