"""Firmware profiles: what a class of device can do, how much of it Grapevine may use, and what that draws.

A profile is a TOML file. The ones that ship with Grapevine are looked up by name, first in the
source checkout (`firmware_profiles/`), then in the installed package (`grapevine_agent/profiles/`);
an owner's own is given by its path. A limit of 0 asks the machine.

    above all tables   what it is, by what a board is known (`config.board`), and the limits that tasks are held to
    [[size]]           the same limits for each size of memory that the board is sold with, the smallest first
    [storage]          kind, state_mb, save_mb_per_day
    [accelerator]      name
    [thermal]          slow_above_c, pause_above_c
    [network]          class, keepalive_s, upload_mb_per_day
    [power]            idle_w, training_w, radio_w, duty_cycle, energy_kj_per_day

Each of these tables says in `source` where its numbers are from. A profile of one's own device takes the size that this
machine has, and never more than four fifths of it: a container may have less than the board. What is said of other
people's devices, as in a table of how a task fits each of them, is said of the smallest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from grapevine_agent.config.agent_toml import (
    KEEPALIVE_S,
    LEAST_KEEPALIVE_S,
    LEAST_STATE_MB,
    NO_PROFILE,
    OWN_PROFILE,
    Config,
    Limits,
)
from grapevine_agent.config.governor import HOTTEST_C, LEAST_DUTY, MOST_KJ
from grapevine_agent.config.machine import Machine, detect_machine
from grapevine_agent.config.mistakes import Mistakes
from grapevine_agent.config.profile_files import profile_names, profile_path
from grapevine_agent.config.toml_reader import Table, read_toml_text, suggestion
from grapevine_agent.core.settings import AUTO, DeviceLimits
from grapevine_proto.encoding import ENCODINGS
from grapevine_proto.errors import ConfigError

if TYPE_CHECKING:
    from grapevine_agent.core.tasks.deadlines import Pace

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
# A machine reports less than it is sold with: firmware and graphics have taken theirs. The next smaller has half.
_REPORTED: Final = 0.75
_MOST_OF_MEMORY: Final = 0.8  # that a task may take of what there is
STORAGE: Final = ("unknown", "sd-card", "emmc", "flash", "ssd", "hard-disk")
NETWORKS: Final = ("unknown", "ethernet", "wifi", "cellular", "satellite")


@dataclass(frozen=True, kw_only=True)
class PowerDraw:
    """What the whole device draws in a state, in watts; 0 is unknown. `source` says who measured it."""

    idle_w: float
    training_w: float
    radio_w: float
    source: str


@dataclass(frozen=True, kw_only=True)
class MemorySize:
    """The limits of a board that is sold with `ram_mb` of memory."""

    ram_mb: int
    memory_mb: int
    max_batch: int
    max_parameters: int


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
    slow_above_c: float = 0.0  # the processor's temperature; 0: nothing is slowed down
    pause_above_c: float = 0.0  # 0: nothing is paused
    upload_mb_per_day: int = 0  # 2²⁰ bytes; 0: no budget
    energy_kj_per_day: float = 0.0  # of the whole device; 0: no budget
    duty_cycle: float = 1.0  # share of the time that it may train
    keepalive_s: int = 0  # of MQTT, where the owner says nothing; 0: as without a profile
    thermal_source: str = ""
    network: str = "unknown"  # of `NETWORKS`
    network_source: str = ""
    storage: str = "unknown"  # of `STORAGE`
    storage_source: str = ""
    accelerator: str = ""  # what else than its CPU could compute
    accelerator_source: str = ""
    sizes: tuple[MemorySize, ...] = ()  # by `ram_mb`
    compatible: tuple[str, ...] = ()  # as `boards`: words of a device tree
    cpus: tuple[str, ...] = ()  # how a processor begins to name itself
    chassis: tuple[int, ...] = ()  # types of DMI

    @property
    def pace(self) -> Pace:
        """How fast it trains."""
        from grapevine_agent.core.tasks.deadlines import Pace  # noqa: PLC0415 - no command needs it that only asks

        return Pace(gflops=self.gflops, memory_gbs=self.memory_gbs)


def load_profile(
    name_or_path: str | Path, machine: Machine | None = None, *, follows_machine: bool = False
) -> FirmwareProfile:
    """Read a profile and fill in what it leaves to the machine.

    Args:
        name_or_path: The name of a profile that ships with Grapevine, or the path of a `.toml` file.
        machine: What to fill in zeros from; by default what this machine reports.
        follows_machine: The device is this very machine: of several sizes of memory it has its own.

    Raises:
        ConfigError: There is no such profile, or it holds mistakes, of which all are told.
    """
    profile = _read_profile(name_or_path)
    return _fill_in(profile, machine or detect_machine(), follows_machine=follows_machine)


def with_profile(config: Config, profile: FirmwareProfile) -> Config:
    """The configuration, with what the profile says where the owner is silent."""
    keepalive_s = config.mqtt.keepalive_s or profile.keepalive_s or KEEPALIVE_S
    return replace(config, mqtt=replace(config.mqtt, keepalive_s=keepalive_s))


def device_profile(config: Config) -> FirmwareProfile:
    """The profile of this device, with its owner's limits. Raises `ConfigError` as `load_profile` and `with_limits`."""
    return with_limits(load_profile(config.agent.profile, follows_machine=True), config.limits)


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


def _read_profile(name_or_path: str | Path) -> FirmwareProfile:
    text = str(name_or_path)
    if isinstance(name_or_path, Path) or "/" in text or text.endswith(".toml"):
        return _read_file(Path(name_or_path))
    file = profile_path(text)
    if file is None:
        raise ConfigError(f"profile {text!r}: {NO_PROFILE}; {suggestion(text, profile_names())} ({OWN_PROFILE})")
    return _read_file(file)


def _read_file(path: Path) -> FirmwareProfile:
    """Read a profile as written: zeros are still zeros. Of several sizes it has the smallest."""
    entries, text = read_toml_text(path)
    mistakes = Mistakes(text)
    table = Table(entries, source=str(path), mistakes=mistakes)
    sizes = _read_sizes(table)
    profile = FirmwareProfile(
        name=table.text("name", pattern=r"[a-z0-9][a-z0-9-]{0,63}", hint='"my-board"'),
        description=table.text("description", "", max_length=500),
        boards=table.texts("boards"),
        compatible=table.texts("compatible"),
        cpus=table.texts("cpus"),
        chassis=table.integers("chassis", low=1, high=255, what="DMI's chassis types", hint="35"),
        cores=table.integer("cores", 0, low=0, high=1024),
        memory_mb=table.integer("memory_mb", 0, low=0, high=1 << 24),
        threads=table.integer("threads", 0, low=0, high=1024),
        max_batch=table.integer("max_batch", 1024, low=1, high=1 << 20),
        max_parameters=table.integer("max_parameters", 0, low=0, high=1 << 40),
        chunk_window=table.integer("chunk_window", 4, low=1, high=4),
        encoding=table.text("encoding", AUTO, choices=(AUTO, *ENCODINGS)),
        can_train=table.boolean("can_train", True),
        can_host_broker=table.boolean("can_host_broker", True),
        gflops=table.number("gflops", 0.0, low=0.0, high=1e6),
        gflops_source=table.text("gflops_source", ""),
        memory_gbs=table.number("memory_gbs", 0.0, low=0.0, high=1e6),
        memory_source=table.text("memory_source", ""),
        sizes=sizes,
        power=PowerDraw(idle_w=0.0, training_w=0.0, radio_w=0.0, source=""),
        # Profiles from before there was [storage] have these two above all tables.
        state_mb=table.integer("state_mb", STATE_MB, low=LEAST_STATE_MB, high=1 << 30),
        save_mb_per_day=table.integer("save_mb_per_day", SAVE_MB_PER_DAY, low=1, high=1 << 30),
    )
    profile = _with_network(table, _with_power(table, _with_thermal(table, _with_storage(table, profile))))
    _check(table, profile)
    table.finish()
    mistakes.end()
    return sized(profile, sizes[0]) if sizes else profile


def _read_sizes(table: Table) -> tuple[MemorySize, ...]:
    sizes: list[MemorySize] = []
    for each in table.tables("size"):
        ram_mb = each.integer("ram_mb", low=64, high=1 << 24)
        size = MemorySize(
            ram_mb=ram_mb,
            memory_mb=each.integer("memory_mb", low=1, high=1 << 24),
            max_batch=each.integer("max_batch", 1024, low=1, high=1 << 20),
            max_parameters=each.integer("max_parameters", 0, low=0, high=1 << 40),
        )
        if size.memory_mb > ram_mb:
            each.wrong(
                "memory_mb", f"is more than ram_mb = {ram_mb}; write less than the machine has", beside=["ram_mb"]
            )
        if sizes and ram_mb <= sizes[-1].ram_mb:
            each.wrong("ram_mb", f"comes after {sizes[-1].ram_mb}; write the sizes from the smallest to the largest")
        sizes.append(size)
        each.finish()
    for key in ("memory_mb", "max_batch", "max_parameters"):
        if sizes and table.holds(key):
            table.wrong(key, "is each size's own; write it below [[size]], or remove all of these")
    return tuple(sizes)


def _with_storage(table: Table, profile: FirmwareProfile) -> FirmwareProfile:
    storage, accelerator = table.table("storage"), table.table("accelerator")
    found = replace(
        profile,
        storage=storage.text("kind", "unknown", choices=STORAGE),
        state_mb=storage.integer("state_mb", profile.state_mb, low=LEAST_STATE_MB, high=1 << 30),
        save_mb_per_day=storage.integer("save_mb_per_day", profile.save_mb_per_day, low=1, high=1 << 30),
        storage_source=storage.text("source", ""),
        accelerator=accelerator.text("name", "", max_length=200),
        accelerator_source=accelerator.text("source", ""),
    )
    _want_source(storage, ("kind", "state_mb", "save_mb_per_day"), "how much its disk may take")
    _want_source(accelerator, ("name",), "what it is, and whether it is used")
    return found


def _with_thermal(table: Table, profile: FirmwareProfile) -> FirmwareProfile:
    thermal = table.table("thermal")
    slow_c = thermal.number("slow_above_c", 0.0, low=0.0, high=HOTTEST_C)
    pause_c = thermal.number("pause_above_c", 0.0, low=0.0, high=HOTTEST_C)
    if slow_c > pause_c > 0:
        thermal.wrong("slow_above_c", f"is above pause_above_c = {pause_c:g}; write {pause_c:g} or less")
    source = thermal.text("source", "")
    _want_source(thermal, ("slow_above_c", "pause_above_c"), "who gives these temperatures")
    return replace(profile, slow_above_c=slow_c, pause_above_c=pause_c, thermal_source=source)


def _with_network(table: Table, profile: FirmwareProfile) -> FirmwareProfile:
    network = table.table("network")
    found = replace(
        profile,
        network=network.text("class", "unknown", choices=NETWORKS),
        keepalive_s=network.integer("keepalive_s", 0, low=0, high=65_535),
        upload_mb_per_day=network.integer("upload_mb_per_day", 0, low=0, high=1 << 30),
        network_source=network.text("source", ""),
    )
    if 0 < found.keepalive_s < LEAST_KEEPALIVE_S:
        network.wrong("keepalive_s", f"must be {LEAST_KEEPALIVE_S} or more, or 0 to leave it out")
    _want_source(network, ("class", "keepalive_s", "upload_mb_per_day"), "what its line bears")
    return found


def _with_power(table: Table, profile: FirmwareProfile) -> FirmwareProfile:
    power = table.table("power")
    draw = PowerDraw(
        idle_w=power.number("idle_w", 0.0, low=0.0, high=10_000.0),
        training_w=power.number("training_w", 0.0, low=0.0, high=10_000.0),
        radio_w=power.number("radio_w", 0.0, low=0.0, high=10_000.0),
        source=power.text("source", ""),
    )
    duty_cycle = power.number("duty_cycle", 1.0, low=LEAST_DUTY, high=1.0)
    energy_kj = power.number("energy_kj_per_day", 0.0, low=0.0, high=MOST_KJ)
    _want_source(power, ("idle_w", "training_w", "radio_w", "duty_cycle", "energy_kj_per_day"), "who measured these")
    if draw.idle_w and 0 < draw.training_w < draw.idle_w:
        remedy = f"is less than idle_w = {draw.idle_w:g}; it is the draw of the whole device"
        power.wrong("training_w", remedy, beside=["idle_w"])
    return replace(profile, power=draw, duty_cycle=duty_cycle, energy_kj_per_day=energy_kj)


def _want_source(table: Table, keys: Sequence[str], who: str) -> None:
    """A number without where it is from is a mistake. 0 is none: it says that nothing is known, or wanted."""
    if not table.holds("source") and any(table.anything(key) for key in keys):
        table.wrong("source", f"say {who}, or that it is assumed, and how")
    table.finish()


def _check(table: Table, profile: FirmwareProfile) -> None:
    """What must fit together above all tables."""
    if profile.chunk_window not in (1, 4):
        table.wrong("chunk_window", "must be 1 (slow links) or 4")
    if profile.cores and profile.threads > profile.cores:
        remedy = f"is more than cores = {profile.cores}; write threads = {profile.cores} or less"
        table.wrong("threads", remedy, beside=["cores"])
    if profile.can_train and 0 < profile.memory_mb < LEAST_TRAINING_MB:
        table.wrong("memory_mb", f"training needs {LEAST_TRAINING_MB} MB; raise it, or write can_train = false")
    if profile.gflops and not profile.gflops_source:
        table.wrong("gflops_source", "say who measured gflops, or that it is assumed, and how")
    if profile.memory_gbs and not profile.memory_source:
        table.wrong("memory_source", "say who measured memory_gbs, or that it is assumed, and how")


def sized(profile: FirmwareProfile, size: MemorySize) -> FirmwareProfile:
    """The profile with the limits of one of its sizes."""
    return replace(profile, memory_mb=size.memory_mb, max_batch=size.max_batch, max_parameters=size.max_parameters)


def size_of(profile: FirmwareProfile, machine: Machine) -> MemorySize | None:
    """Which of the sizes that a board is sold with this machine has; None where the profile has only one."""
    fitting = [size for size in profile.sizes if machine.memory_mb >= _REPORTED * size.ram_mb]
    return fitting[-1] if fitting else next(iter(profile.sizes), None)


def _fill_in(profile: FirmwareProfile, machine: Machine, *, follows_machine: bool) -> FirmwareProfile:
    if follows_machine and (size := size_of(profile, machine)):
        profile = sized(profile, size)
    cores = profile.cores or machine.cores
    memory_mb = profile.memory_mb or max(1, machine.memory_mb // 2)
    most_parameters = profile.max_parameters
    if follows_machine and memory_mb > (most_mb := max(1, int(_MOST_OF_MEMORY * machine.memory_mb))):
        memory_mb = most_mb
        most_parameters = min(most_parameters, _parameters_in(memory_mb))
    return replace(
        profile,
        cores=cores,
        memory_mb=memory_mb,
        threads=profile.threads or max(1, cores - 1),
        max_parameters=most_parameters or _parameters_in(memory_mb),
        can_train=profile.can_train and memory_mb >= LEAST_TRAINING_MB,
    )


def _parameters_in(memory_mb: int) -> int:
    return memory_mb * _MB // (_BYTES_PER_PARAMETER * _MODEL_COPIES)
