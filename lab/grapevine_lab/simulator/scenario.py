"""A scenario file: everything that a run depends on, read strictly.

    [scenario]      name, mode, rounds or duration_s, seed, targets
    [task]          name of a catalogue task or path of a task's folder; [task.data], [task.training] and
                    [task.merging] over its own
    [data]          a data set            [partition]     how it is shared out
    [nodes]         how many, what they are like, who trains, which brokers they are at
    [[broker]], [[bridge]]   several brokers, and what joins them
    [topology]      who can hear whom     [network]       latencies, bandwidths, loss; [[network.cut]]
    [availability]  when nodes are there  [server]        when a server is
    [governor], [surroundings]   what nodes' owners let them do, and what their sensors say
    [[attack]]      which nodes are hostile, and what they send
    [measure]       what is noted, and how often
    [review], [[words]], [[faults]], [life]   long runs: who speaks for tasks, and when; what goes wrong; what must hold
    [quick]         keys as "nodes.num" = 10: what `--quick` changes

Docs: `docs/guide-researcher.md`. Whatever nobody reads is an error, with the nearest name that there is.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast

from grapevine_agent.config.governor import GovernorConfig
from grapevine_agent.config.toml_reader import Table, read_toml_text
from grapevine_lab.simulator.availability import AvailabilityPlan, read_availability
from grapevine_lab.simulator.brokers import (
    ONE,
    BridgePlan,
    BrokerPlan,
    Places,
    read_bridges,
    read_brokers,
    read_gateways,
    read_places,
)
from grapevine_lab.simulator.datasets import DatasetPlan, read_dataset
from grapevine_lab.simulator.hostile import AttackPlan, read_attacks
from grapevine_lab.simulator.life_plan import LifePlan, ReviewPlan, read_life, read_review
from grapevine_lab.simulator.measurements import MODELS
from grapevine_lab.simulator.network import Cut, NetworkPlan
from grapevine_lab.simulator.observer import MeasurePlan
from grapevine_lab.simulator.partitions import PartitionPlan, read_partition
from grapevine_lab.simulator.surroundings import SurroundingsPlan, read_limits, read_surroundings
from grapevine_lab.simulator.timeline import Fault, Word, read_faults, read_words
from grapevine_lab.simulator.topologies import TopologyPlan, read_topology
from grapevine_lab.simulator.work import ModelKind
from grapevine_proto.errors import ConfigError
from grapevine_tasks.suggestions import did_you_mean

Mode: TypeAlias = Literal["free-running", "rounds"]
How: TypeAlias = Literal["auto", "stacked", "plain", "none"]

_SECTIONS = (
    "scenario", "task", "data", "partition", "nodes", "topology", "network", "availability", "server", "measure",
    "review", "words", "faults", "life", "broker", "bridge", "governor", "surroundings", "attack", "quick",
)  # fmt: skip
_LISTS = ("words", "faults", "broker", "bridge", "attack")  # tables of which there are many
_CHOICES = ("topology.kind", "partition.kind", "availability.kind", "data.name")  # that decide which keys there are


@dataclass(frozen=True, kw_only=True)
class TaskChoice:
    """Which task, and what is changed in it: tables as in its `task.toml`."""

    name: str = "digits"
    path: Path | None = None  # instead of the name: a folder with task.toml and model.py
    epochs_per_round: float = 0.0  # instead of steps_per_round: passes over the average node's samples; 0: as it says
    data: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    merging: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class NodesPlan:
    """What the nodes are like."""

    num: int = 10
    profile: str = "raspberry-pi-4b"
    profiles: tuple[str, ...] = ()  # of each node, where they are not all `profile`
    step_s: float = 0.0  # that an optimiser step takes on a node of speed 1; 0: a quarter of a round for all of them
    speeds: Literal["equal", "lognormal", "fedscale"] = "equal"
    speed_spread: float = 0.5  # lognormal: standard deviation of the logarithm
    training_time: Literal["fixed", "exponential"] = "fixed"
    trainer: How = "auto"
    workers: int = 0  # processes that train; 0: one for each core
    max_share: float = 1.0  # of a single peer in a merge; agents on devices hold it at 0.5
    max_pending: int = 1024
    judge_updates: bool = False  # by what the others send; agents on devices do
    heartbeat_s: float = 0.0  # 0: ten seconds, or a round where that is longer
    save_every_s: float = 0.0  # 0: as on devices
    look_every_s: float = 0.0  # at the owner's data; 0: as on devices
    brokers: Places = ()  # of each node; none: all are at the first
    gateways: tuple[int, ...] = ()

    def places_of(self, node: int) -> tuple[int, ...]:
        """The brokers that a node is at, by number."""
        return self.brokers[node] if self.brokers else (0,)


@dataclass(frozen=True, kw_only=True)
class ServerPlan:
    """When the server is there: spans of virtual time, and how often it publishes (0: once a round)."""

    present: tuple[tuple[float, float], ...] = ()
    heartbeat_s: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """See the module's docstring."""

    source: str  # where it was written, for messages
    folder: Path
    name: str
    mode: Mode = "free-running"
    rounds: int = 0  # of every node; 0: until duration_s
    duration_s: float = 0.0  # virtual; 0: until the rounds are over
    seed: int = 0
    targets: tuple[float, ...] = ()
    task: TaskChoice
    data: DatasetPlan
    partition: PartitionPlan
    nodes: NodesPlan
    topology: TopologyPlan
    network: NetworkPlan
    availability: AvailabilityPlan
    server: ServerPlan
    measure: MeasurePlan
    review: ReviewPlan | None = None
    words: tuple[Word, ...] = ()
    faults: tuple[Fault, ...] = ()
    life: LifePlan | None = None
    brokers: tuple[BrokerPlan, ...] = ONE
    bridges: tuple[BridgePlan, ...] = ()
    governor: GovernorConfig | None = None
    surroundings: SurroundingsPlan | None = None
    attacks: tuple[AttackPlan, ...] = ()
    text: str = field(default="", compare=False)  # the file as it was read, and
    options: tuple[str, ...] = field(default=(), compare=False)  # changed by the command line


def read_scenario(path: Path, *, quick: bool = False, changes: Sequence[str] = ()) -> Scenario:
    """Read a scenario file.

    Args:
        path: The file.
        quick: Whether to take the file's [quick] keys.
        changes: "a.b=c" each: key and TOML value, over what is written; a value that is no TOML is a string.

    Raises:
        ConfigError: Naming file, key, value and remedy.
    """
    content, written = _read_content(path, quick=quick, changes=changes)
    options = ["--quick"] if quick else []
    options += [part for change in changes for part in ("--set", change)]
    read = scenario_of(content, path.resolve().parent, path.name)
    return replace(read, text=written, options=tuple(options))


def read_content(path: Path, *, quick: bool = False, changes: Sequence[str] = ()) -> dict[str, Any]:
    """A scenario file's tables as they are, with `[quick]` and the changes in them: what `scenario_of` reads.

    Raises ConfigError as `read_scenario` does.
    """
    return _read_content(path, quick=quick, changes=changes)[0]


def scenario_of(content: Mapping[str, object], folder: Path, source: str) -> Scenario:
    """The scenario of such tables; `folder` is where its paths begin. Raises ConfigError as `read_scenario` does."""
    return _read(Table(content, source=source), folder, source)


def _read_content(path: Path, *, quick: bool, changes: Sequence[str]) -> tuple[dict[str, Any], str]:
    content, written = read_toml_text(path)
    source = path.name
    quick_keys = content.pop("quick", {})
    if not isinstance(quick_keys, dict):
        raise ConfigError(f'{source}: quick: must be a table; write [quick] and keys as "nodes.num" = 10')
    if quick:
        for key, value in quick_keys.items():
            _set(content, key, value, f"{source}: quick")
    for change in changes:
        key, equals, text = change.partition("=")
        if not equals:
            raise ConfigError(f"--set {change}: write a key and a value, as in --set nodes.num=10")
        _set(content, key.strip(), _value(text.strip()), "--set")
    return content, written


def _set(content: dict[str, Any], key: str, value: object, where: str) -> None:
    """Put a value at a dotted key, making tables on the way."""
    *tables, last = key.split(".")
    if key in _SECTIONS and isinstance(value, list if key in _LISTS else dict):
        content[key] = deepcopy(value)  # a whole table
        return
    if not tables or tables[0] not in _SECTIONS:
        hint = did_you_mean(tables[0] if tables else last, _SECTIONS)
        raise ConfigError(f"{where}: {key!r} names no table of a scenario; {hint}; write table.key, as in nodes.num")
    if key in _CHOICES and content.get(tables[0]) and content[tables[0]].get(last) != value:
        content[tables[0]] = {}  # the other keys belong to what was chosen before
    at: Any = content
    for table in tables:
        at = at.setdefault(table, {})
        if not isinstance(at, dict):
            raise ConfigError(f"{where}: {key!r} goes through {table!r}, which is no table")
    at[last] = deepcopy(value)


def _value(text: str) -> object:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _read(top: Table, folder: Path, source: str) -> Scenario:
    general, nodes_table = top.table("scenario"), top.table("nodes")
    rounds = general.integer("rounds", 0, low=0, high=10_000_000)
    duration_s = general.number("duration_s", 0.0, low=0.0, high=1e12)
    if not rounds and not duration_s:
        raise general.error("rounds", "say when the run is over: write rounds = 60, or duration_s = 120")
    brokers = read_brokers(top.tables("broker"))
    nodes = _read_nodes(nodes_table, brokers)
    scenario = Scenario(
        source=source,
        folder=folder,
        name=general.text("name", source.removesuffix(".toml"), max_length=200),
        mode=_choice(general, "mode", ("free-running", "rounds")),
        rounds=rounds,
        duration_s=duration_s,
        seed=general.integer("seed", 0, low=0, high=2**63 - 1),
        targets=_numbers(general, "targets"),
        task=_read_task(top.table("task"), folder),
        data=read_dataset(top.table("data"), folder, num_users=nodes.num),
        partition=read_partition(top.table("partition")),
        nodes=nodes,
        topology=read_topology(top.table("topology"), folder),
        network=_read_network(top.table("network")),
        availability=read_availability(top.table("availability"), folder),
        server=_read_server(top.table("server")),
        measure=_read_measure(top.table("measure")),
        review=read_review(top.table("review"), nodes.num),
        words=read_words(top.tables("words"), nodes.num),
        faults=read_faults(top.tables("faults"), nodes.num, brokers),
        life=read_life(top.table("life"), is_written=top.anything("life") is not None),
        brokers=brokers,
        bridges=read_bridges(top.tables("bridge"), brokers),
        governor=read_limits(top.table("governor")) if top.anything("governor") is not None else None,
        surroundings=_read_surroundings(top),
        attacks=read_attacks(top.tables("attack"), nodes.num),
    )
    if scenario.words and scenario.review is None:
        raise ConfigError(f"{source}: [[words]] need somebody who approves; write [review] reviewers = [1, 2]")
    if scenario.life is not None and scenario.review is None:
        raise ConfigError(f"{source}: [life] holds tasks against their reviews; write [review] reviewers = [1, 2]")
    general.finish()
    top.finish()
    return scenario


def _read_surroundings(top: Table) -> SurroundingsPlan | None:
    """What sensors say, where somebody is governed."""
    is_written = any(top.anything(name) is not None for name in ("governor", "surroundings"))
    return read_surroundings(top.table("surroundings")) if is_written else None


def _choice(table: Table, key: str, choices: tuple[str, ...]) -> Any:
    return table.text(key, choices[0], choices=choices)


def _numbers(table: Table, key: str) -> tuple[float, ...]:
    value: Any = table.anything(key)
    if value is None:
        return ()
    items = value if isinstance(value, list) else [value]
    if not all(isinstance(item, int | float) and not isinstance(item, bool) for item in items):
        raise table.error(key, f"must be a list of numbers; write {key} = [0.9]")
    return tuple(float(item) for item in items)


def _read_task(table: Table, folder: Path) -> TaskChoice:
    name, path = table.text("name", ""), table.text("path", "")
    if bool(name) == bool(path):
        raise table.error("name", 'write either name = "mnist", a task of the catalogue, or path = "my-task", a folder')
    choice = TaskChoice(
        name=name,
        path=(folder / Path(path).expanduser()) if path else None,
        epochs_per_round=table.number("epochs_per_round", 0.0, low=0.0, high=1e6),
        data=table.mapping("data"),
        training=table.mapping("training"),
        merging=table.mapping("merging"),
    )
    table.finish()
    return choice


def _read_nodes(table: Table, brokers: tuple[BrokerPlan, ...]) -> NodesPlan:
    num = table.integer("num", 10, low=1, high=100_000)
    places = read_places(table, num, brokers)
    plan = NodesPlan(
        num=num,
        profile=table.text("profile", NodesPlan.profile),
        profiles=_read_profiles(table, num),
        step_s=table.number("step_s", 0.0, low=0.0, high=1e6),
        speeds=_choice(table, "speeds", ("equal", "lognormal", "fedscale")),
        speed_spread=table.number("speed_spread", NodesPlan.speed_spread, low=0.0, high=5.0),
        training_time=_choice(table, "training_time", ("fixed", "exponential")),
        trainer=_choice(table, "trainer", ("auto", "stacked", "plain", "none")),
        workers=table.integer("workers", 0, low=0, high=256),
        max_share=table.number("max_share", NodesPlan.max_share, low=0.01, high=1.0),
        max_pending=table.integer("max_pending", NodesPlan.max_pending, low=1, high=100_000),
        judge_updates=table.boolean("judge_updates", NodesPlan.judge_updates),
        heartbeat_s=table.number("heartbeat_s", 0.0, low=0.0, high=1e6),
        save_every_s=table.number("save_every_s", 0.0, low=0.0, high=1e9),
        look_every_s=table.number("look_every_s", 0.0, low=0.0, high=1e9),
        brokers=places,
        gateways=read_gateways(table, num, places),
    )
    table.finish()
    return plan


def _read_profiles(table: Table, num_nodes: int) -> tuple[str, ...]:
    """Read `nodes.profiles`: parts of the nodes as large as the shares, in their order. Raises ConfigError."""
    shares = table.mapping("profiles")
    if not shares:
        return ()
    if not all(type(share) in (int, float) and 0 < cast(float, share) < 1e9 for share in shares.values()):
        raise table.error("profiles", 'must have shares above 0; write { "raspberry-pi-4b" = 3, "generic" = 1 }')
    profiles: list[str] = []
    total, so_far = sum(cast(float, share) for share in shares.values()), 0.0
    for name, share in shares.items():
        so_far += cast(float, share)
        profiles += [name] * (round(num_nodes * so_far / total) - len(profiles))
    return tuple(profiles)


def _read_network(table: Table) -> NetworkPlan:
    cuts = []
    for each in table.tables("cut"):
        from_s = each.number("from_s", low=0.0, high=1e12)
        until_s = each.number("until_s", low=from_s, high=1e12)
        groups = each.anything("groups")
        if not isinstance(groups, list) or not all(
            isinstance(group, list) and all(isinstance(node, int) for node in group) for group in groups
        ):
            raise each.error("groups", "must be lists of nodes' numbers; write groups = [[0, 1], [2, 3]]")
        each.finish()
        cuts.append(Cut(from_s=from_s, until_s=until_s, groups=tuple(tuple(group) for group in groups)))
    plan = NetworkPlan(
        latency_s=table.number("latency_s", NetworkPlan.latency_s, low=0.0, high=3600.0),
        jitter_s=table.number("jitter_s", 0.0, low=0.0, high=3600.0),
        up_bps=table.number("up_bps", NetworkPlan.up_bps, low=1.0, high=float("inf")),
        down_bps=table.number("down_bps", NetworkPlan.down_bps, low=1.0, high=float("inf")),
        loss=table.number("loss", 0.0, low=0.0, high=1.0),
        up_loss=table.number("up_loss", 0.0, low=0.0, high=1.0),
        wan=table.boolean("wan", False),
        fedscale=table.boolean("fedscale", False),
        signatures=table.boolean("signatures", False),
        cuts=tuple(cuts),
    )
    table.finish()
    return plan


def _read_server(table: Table) -> ServerPlan:
    value: Any = table.anything("present")
    spans = [] if value is None else value
    is_pairs = isinstance(spans, list) and all(
        isinstance(span, list) and len(span) == 2 and all(isinstance(s, int | float) for s in span) for span in spans
    )
    if not is_pairs or any(start >= end for start, end in spans):
        raise table.error("present", "must be spans of virtual seconds; write present = [[20, 60], [90, inf]]")
    plan = ServerPlan(
        present=tuple((float(start), float(end)) for start, end in spans),
        heartbeat_s=table.number("heartbeat_s", 0.0, low=0.0, high=1e6),
    )
    table.finish()
    return plan


def _read_measure(table: Table) -> MeasurePlan:
    models = table.texts("models", MODELS)
    for model in models:
        if model not in MODELS:
            raise table.error("models", f"{model!r} is none; there are {', '.join(MODELS)}")
    plan = MeasurePlan(
        every_rounds=table.integer("every_rounds", 1, low=1, high=1_000_000),
        models=cast(tuple[ModelKind, ...], models),
        num_nodes=table.integer("num_nodes", 0, low=0, high=100_000),
        test_samples=table.integer("test_samples", 0, low=0, high=10**9),
        rounds=tuple(sorted(table.integers("rounds", low=0, high=1_000_000, hint="0, 10, 20, 35"))),
    )
    table.finish()
    return plan
