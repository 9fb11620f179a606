"""What goes wrong in a long run, and what owners say in it: the tables `[[faults]]` and `[[words]]` of a scenario.

Both are timelines in seconds since the run began, and say nothing of how a simulation brings them about: whoever
runs the same agents as containers reads the same tables.

| fault | keys beside `nodes` and the times | what happens |
|---|---|---|
| `off` | `for_s`, `silent`, `wakes_ahead_s`, `wrong_for_s` | switched off, and on again from its disk |
| `offline` | `for_s`, `silent` | its connection is gone; it goes on by itself |
| `clock` | `ahead_s`, `for_s` | its wall clock is set wrong, and right again |
| `drift` | `ppm` | its wall clock goes too fast, or too slowly, from then on |
| `broker` | `for_s`, `empties`, `broker` | a broker is killed, and started again; or all of them |
| `cut` | `for_s`, `site` | a site has no way to the others, and they none to it |
| `comes` | | the device is new: it is not there before |
| `leaves` | `silent` | it is switched off for good |

`at_s` says when; with `every_s` it happens again and again from `at_s` to `until_s`, to each node by itself, after
exponential times of that mean. A length may be a range: [60, 600] is drawn anew for each occurrence. A *silent*
absence is one that the broker never tells: no will, no goodbye.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias, cast, get_args

import numpy as np

from grapevine_agent.config.toml_reader import Table
from grapevine_lab.simulator.brokers import ONE, BrokerPlan

FaultKind: TypeAlias = Literal["off", "offline", "clock", "drift", "broker", "cut", "comes", "leaves"]
FAULT_KINDS: Final[tuple[FaultKind, ...]] = get_args(FaultKind)
WordKind: TypeAlias = Literal["publish", "approve", "reject", "revoke", "retract"]
WORD_KINDS: Final[tuple[WordKind, ...]] = get_args(WordKind)

LONGEST_S: Final = 1e10
MOST_PPM: Final = 100_000.0
PLACES: Final = ("broker", "cut")  # kinds that are of no node
_RETURNS: Final = ("off", "offline", "clock", *PLACES)  # kinds that end by themselves
_REPEATS: Final = ("off", "offline", "clock", "drift", *PLACES)

Range: TypeAlias = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One entry of `[[faults]]`. A kind reads what the module's table gives it."""

    kind: FaultKind
    nodes: tuple[int, ...] = ()  # none: all of them
    at_s: float = 0.0
    until_s: float = math.inf
    every_s: float = 0.0  # 0: once
    for_s: Range = (0.0, 0.0)
    silent: bool = False
    ahead_s: Range = (0.0, 0.0)  # clock: of the right time; behind it if it is negative
    wakes_ahead_s: Range = (0.0, 0.0)  # off: the clock when it is switched on again
    wrong_for_s: float = 0.0  # off: after which such a clock is put right
    ppm: float = 0.0
    empties: bool = False
    broker: str = ""  # which one; "": all of them
    site: str = ""  # cut: which one


@dataclass(frozen=True, kw_only=True)
class Word:
    """One entry of `[[words]]`: what the owner of a node says of a task, which has a name of the scenario's own."""

    kind: WordKind
    node: int
    at_s: float
    task: str
    continues: str = ""  # publish: the earlier version's name
    num_rounds: int = 0  # publish: after which members train no more; 0: as the task says


@dataclass(frozen=True, kw_only=True)
class Happening:
    """One occurrence of a fault. `node` is -1 where it is a broker's, or a site's."""

    fault: Fault
    at_s: float
    node: int
    for_s: float
    ahead_s: float


# --- reading --------------------------------------------------------------------------------------


def read_faults(tables: Sequence[Table], num_nodes: int, brokers: Sequence[BrokerPlan] = ONE) -> tuple[Fault, ...]:
    """Read `[[faults]]`. Raises ConfigError naming key, value and remedy."""
    return tuple(_read_fault(table, num_nodes, brokers) for table in tables)


def _read_fault(table: Table, num_nodes: int, brokers: Sequence[BrokerPlan]) -> Fault:
    kind = cast(FaultKind, table.text("kind", choices=FAULT_KINDS, hint='"off"'))
    at_s = table.number("at_s", 0.0, low=0.0, high=1e12)
    repeats = kind in _REPEATS
    fault = Fault(
        kind=kind,
        nodes=_read_nodes(table, num_nodes) if kind not in PLACES else (),
        at_s=at_s,
        until_s=table.number("until_s", math.inf, low=at_s, high=math.inf) if repeats else math.inf,
        every_s=table.number("every_s", 0.0, low=0.0, high=1e12) if repeats else 0.0,
        for_s=_read_range(table, "for_s", 0.0, LONGEST_S) if kind in _RETURNS else (0.0, 0.0),
        silent=table.boolean("silent", False) if kind in ("off", "offline", "leaves") else False,
        ahead_s=_read_range(table, "ahead_s", -LONGEST_S, LONGEST_S) if kind == "clock" else (0.0, 0.0),
        wakes_ahead_s=_read_range(table, "wakes_ahead_s", -LONGEST_S, LONGEST_S) if kind == "off" else (0.0, 0.0),
        wrong_for_s=table.number("wrong_for_s", 0.0, low=0.0, high=LONGEST_S) if kind == "off" else 0.0,
        ppm=table.number("ppm", 0.0, low=-MOST_PPM, high=MOST_PPM) if kind == "drift" else 0.0,
        empties=table.boolean("empties", False) if kind == "broker" else False,
        broker=table.text("broker", "") if kind == "broker" else "",
        site=table.text("site", hint='"north"') if kind == "cut" else "",
    )
    names, sites = [each.name for each in brokers], list(dict.fromkeys(each.site for each in brokers))
    if fault.broker and fault.broker not in names:
        raise table.error("broker", f"there is no broker {fault.broker!r}; there are {', '.join(names)}")
    if kind == "cut" and fault.site not in sites:
        raise table.error("site", f"no broker is at {fault.site!r}; there are {', '.join(sites)}")
    table.finish()
    return fault


def _read_nodes(table: Table, num_nodes: int) -> tuple[int, ...]:
    return table.integers("nodes", low=0, high=num_nodes - 1, what="nodes' numbers", hint="0, 3")


def _read_range(table: Table, key: str, low: float, high: float) -> Range:
    value: Any = table.anything(key)
    if isinstance(value, list):
        is_pair = len(value) == 2 and all(type(each) in (int, float) and low <= each <= high for each in value)
        if not is_pair or value[0] > value[1]:
            raise table.error(key, f"must be a number from {low:g} to {high:g}, or two, the smaller one first")
        return float(value[0]), float(value[1])
    number = table.number(key, 0.0, low=low, high=high)
    return number, number


def read_words(tables: Sequence[Table], num_nodes: int) -> tuple[Word, ...]:
    """Read `[[words]]`, in the order of their times. Raises ConfigError naming key, value and remedy."""
    words = [_read_word(table, num_nodes) for table in tables]
    published: set[str] = set()
    for word, table in zip(words, tables, strict=True):
        if word.kind == "publish":
            if word.task in published:
                raise table.error("task", "is published already; a new version has a name of its own")
            if word.continues and word.continues not in published:
                raise table.error("continues", "names no task that is published above")
            published.add(word.task)
        elif word.task not in published:
            raise table.error("task", "names no task that is published above")
    return tuple(sorted(words, key=lambda word: word.at_s))


def _read_word(table: Table, num_nodes: int) -> Word:
    kind = cast(WordKind, table.text("kind", choices=WORD_KINDS, hint='"publish"'))
    word = Word(
        kind=kind,
        node=table.integer("node", low=0, high=num_nodes - 1),
        at_s=table.number("at_s", 0.0, low=0.0, high=1e12),
        task=table.text("task", hint='"digits"', max_length=64),
        continues=table.text("continues", "", max_length=64) if kind == "publish" else "",
        num_rounds=table.integer("num_rounds", 0, low=0, high=1_000_000) if kind == "publish" else 0,
    )
    table.finish()
    return word


# --- drawing --------------------------------------------------------------------------------------


def happenings(faults: Sequence[Fault], num_nodes: int, seed: int, horizon_s: float) -> tuple[Happening, ...]:
    """Every occurrence that begins before `horizon_s`, by node and in the order of its times.

    Each fault and node draws from a generator of its own: another fault in the file, or another node, changes none.
    """
    found: list[Happening] = []
    for number, fault in enumerate(faults):
        nodes = (-1,) if fault.kind in PLACES else fault.nodes or tuple(range(num_nodes))
        for node in nodes:
            rng = np.random.default_rng([seed, *b"faults", number, node + 1])
            at_s = fault.at_s + (float(rng.exponential(fault.every_s)) if fault.every_s else 0.0)
            while at_s < min(fault.until_s, horizon_s):
                found.append(
                    Happening(
                        fault=fault,
                        at_s=at_s,
                        node=node,
                        for_s=float(rng.uniform(*fault.for_s)),
                        ahead_s=float(rng.uniform(*(fault.wakes_ahead_s if fault.kind == "off" else fault.ahead_s))),
                    )
                )
                if not fault.every_s:
                    break
                at_s += float(rng.exponential(fault.every_s))
    return tuple(sorted(found, key=lambda each: (each.at_s, each.node)))


def comes_at_s(faults: Sequence[Fault], node: int) -> float:
    """When a node is switched on for the first time: 0 unless a fault says that it comes later."""
    times = [each.at_s for each in faults if each.kind == "comes" and (node in each.nodes or not each.nodes)]
    return min(times, default=0.0)
