"""When nodes are there: the model of availability, and the spans of time that come of it.

| kind | keys | a node is away |
|---|---|---|
| `always` | | never |
| `flaky` | `mean_on_s`, `mean_off_s` | for exponential times, in between for exponential times |
| `diurnal` | `day_s`, `share` | but for one stretch of each day, at an hour of its own |
| `trace` | `path` | as a file says |
| `sleep` | `share`, `online_s`, `every_s`, `announced` | some of the nodes: but for `online_s` of every `every_s` |

Sleepers are cores that are told `mqtt.online_s` and `every_s`, and say that they sleep; with `announced = false` they
lose their connection at the same times, and say nothing.

`away = "network"` takes its connection, and it goes on training; `"power"` switches it off, and it starts again
from what was on its disk. The trace is FedScale's client behaviour as JSON: {client: {"active":
[seconds], "inactive": [seconds], "finish_time": seconds}}; node k takes the k-th client, and the
trace starts again when it is over. (FedScale publishes it as a pickle, which would run what is in it:
convert it to JSON first.)
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, takewhile
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast, get_args

import numpy as np

from grapevine_agent.config.sleep import MOST_SHARE
from grapevine_agent.config.toml_reader import Table
from grapevine_agent.core.overlay.sleep import LATER_S, LATER_SHARE
from grapevine_agent.core.settings import MOST_ASLEEP_S, SleepPlan
from grapevine_lab.simulator.clock import EPOCH_MS
from grapevine_proto.errors import ConfigError

Kind: TypeAlias = Literal["always", "flaky", "diurnal", "trace", "sleep"]
Away: TypeAlias = Literal["network", "power"]


@dataclass(frozen=True, kw_only=True)
class AvailabilityPlan:
    """See the module's docstring. Times in virtual seconds."""

    kind: Kind = "always"
    away: Away = "network"
    mean_on_s: float = 600.0
    mean_off_s: float = 60.0
    day_s: float = 86400.0
    share: float = 0.5  # of the day that a node is there; with "sleep", of the nodes that sleep
    online_s: float = 300.0
    every_s: float = 3600.0
    announced: bool = True
    path: Path | None = None


def read_availability(table: Table, folder: Path) -> AvailabilityPlan:
    """Read the table's keys; only those that the kind knows. Raises ConfigError."""
    kind = cast(Kind, table.text("kind", "always", choices=get_args(Kind)))
    may_choose = kind not in ("always", "sleep")
    away = cast(Away, table.text("away", "network", choices=get_args(Away))) if may_choose else "network"
    default = AvailabilityPlan()
    plan = AvailabilityPlan(
        kind=kind,
        away=away,
        mean_on_s=table.number("mean_on_s", default.mean_on_s, low=1e-3, high=1e9) if kind == "flaky" else 0.0,
        mean_off_s=table.number("mean_off_s", default.mean_off_s, low=1e-3, high=1e9) if kind == "flaky" else 0.0,
        day_s=table.number("day_s", default.day_s, low=1e-3, high=1e9) if kind == "diurnal" else 0.0,
        share=table.number("share", default.share, low=0.01, high=1.0) if kind in ("diurnal", "sleep") else 1.0,
        online_s=table.number("online_s", default.online_s, low=1.0, high=MOST_ASLEEP_S) if kind == "sleep" else 0.0,
        every_s=table.number("every_s", default.every_s, low=2.0, high=MOST_ASLEEP_S) if kind == "sleep" else 0.0,
        announced=table.boolean("announced", True) if kind == "sleep" else True,
        path=folder / table.text("path", hint='"behaviour.json"') if kind == "trace" else None,
    )
    if kind == "sleep" and plan.online_s > MOST_SHARE * plan.every_s:
        raise table.error(
            "online_s", f"is no part of every_s = {plan.every_s:g}; write {MOST_SHARE * plan.every_s:g} or less"
        )
    table.finish()
    return plan


def is_sleeper(plan: AvailabilityPlan, node: int) -> bool:
    """Whether a node is one of those that sleep: they are spread evenly over the numbers."""
    return plan.kind == "sleep" and int((node + 1) * plan.share) > int(node * plan.share)


def sleep_of(plan: AvailabilityPlan, node: int) -> SleepPlan | None:
    """When a node sleeps, as its owner would have written it; None: it does not, or does not say so."""
    if not is_sleeper(plan, node) or not plan.announced:
        return None
    return SleepPlan(online_s=plan.online_s, every_s=plan.every_s)


def absences(
    plan: AvailabilityPlan, num_nodes: int, rng: np.random.Generator, horizon_s: float
) -> list[list[tuple[float, float]]]:
    """For each node its spans (from_s, until_s) of absence that begin before `horizon_s`, in order.

    Raises ConfigError if a trace cannot be read.
    """
    seeds = rng.integers(2**63, size=num_nodes)
    match plan.kind:
        case "sleep":
            is_cut = [is_sleeper(plan, node) and not plan.announced for node in range(num_nodes)]
            endless = [_asleep(plan, int(seeds[node])) if is_cut[node] else iter(()) for node in range(num_nodes)]
        case "flaky":
            endless = [_flaky(plan, int(seed)) for seed in seeds]
        case "diurnal":
            endless = [_diurnal(plan, float(np.random.default_rng(int(seed)).random())) for seed in seeds]
        case "trace":
            clients = _read_trace(plan)
            endless = [_traced(clients[node % len(clients)]) for node in range(num_nodes)]
        case _:
            return [[] for _ in range(num_nodes)]
    return [list(takewhile(lambda span: span[0] < horizon_s, spans)) for spans in endless]


def _flaky(plan: AvailabilityPlan, seed: int) -> Iterator[tuple[float, float]]:
    rng, now_s = np.random.default_rng(seed), 0.0
    while True:
        from_s = now_s + float(rng.exponential(plan.mean_on_s))
        now_s = from_s + float(rng.exponential(plan.mean_off_s))
        yield from_s, now_s


def _asleep(plan: AvailabilityPlan, seed: int) -> Iterator[tuple[float, float]]:
    """As sleepers are who say nothing: with the same windows, and as much later at each."""
    rng = np.random.default_rng(seed)
    later_s = min(LATER_SHARE * plan.online_s, LATER_S)
    start_s = -(EPOCH_MS / 1000 % plan.every_s)
    for turn in count():
        from_s, until_s = start_s + turn * plan.every_s + plan.online_s, start_s + (turn + 1) * plan.every_s
        from_s = max(from_s, plan.online_s)  # after its start it is awake for so long first
        if from_s < until_s:
            yield from_s, until_s + float(rng.uniform(0.0, later_s))


def _diurnal(plan: AvailabilityPlan, phase: float) -> Iterator[tuple[float, float]]:
    """There from phase·day for share·day, every day; away before, too."""
    here_s, away_s = plan.share * plan.day_s, (1 - plan.share) * plan.day_s
    if away_s <= 0:
        return
    start_s = phase * plan.day_s
    first_away_s = start_s + here_s - plan.day_s  # it was there from before 0 until here, if that is above 0
    for day in count():
        from_s = first_away_s + day * plan.day_s
        if from_s + away_s > 0:
            yield max(from_s, 0.0), from_s + away_s


@dataclass(frozen=True)
class _Client:
    away: tuple[tuple[float, float], ...]
    finish_s: float


def _traced(client: _Client) -> Iterator[tuple[float, float]]:
    for turn in count() if client.away else ():
        for from_s, until_s in client.away:
            yield from_s + turn * client.finish_s, until_s + turn * client.finish_s


def _read_trace(plan: AvailabilityPlan) -> list[_Client]:
    assert plan.path is not None
    try:
        content = json.loads(plan.path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"availability.path: {plan.path} cannot be read ({error.strerror})") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ConfigError(
            f"availability.path: {plan.path} is not JSON ({error}); convert FedScale's pickle: json.dump(trace, file)"
        ) from None
    try:
        clients = [_client(entry) for entry in content.values()]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            f'availability.path: {plan.path} is no trace ({error!r}); write {{"0": {{"active": [seconds], '
            '"inactive": [seconds], "finish_time": seconds}}'
        ) from None
    if not clients:
        raise ConfigError(f"availability.path: {plan.path} holds no client")
    return clients


def _client(entry: dict[str, Any]) -> _Client:
    active = sorted(float(s) for s in entry["active"])
    inactive = sorted(float(s) for s in entry["inactive"])
    finish_s = float(entry["finish_time"])
    if not finish_s > 0:
        raise ValueError(f"finish_time is {finish_s}")
    away: list[tuple[float, float]] = []
    if active and (not inactive or active[0] < inactive[0]) and active[0] > 0:
        away.append((0.0, active[0]))
    for from_s in inactive:
        until_s = next((s for s in active if s > from_s), finish_s)
        if from_s < until_s <= finish_s:
            away.append((from_s, until_s))
    return _Client(tuple(away), finish_s)
