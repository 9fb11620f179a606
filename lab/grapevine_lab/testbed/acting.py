"""What can be done to a lab that is up: by its commands, and by the dashboard.

Each is one request to the lab's keeper, and a line in its timeline.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from grapevine_agent.config.toml_reader import suggestion
from grapevine_agent.control.client import call
from grapevine_agent.control.protocol import NoServiceError
from grapevine_lab.testbed.engine import Machine
from grapevine_lab.testbed.lines import Pair
from grapevine_lab.testbed.store import Lab
from grapevine_proto.errors import RequestError

LONG_S: Final = 60.0


def ask(lab: Lab, method: str, params: Mapping[str, Any] | None = None, *, timeout_s: float = LONG_S) -> Any:
    """Ask the keeper of a lab. Raises `RequestError` if there is none any more."""
    try:
        return call(lab.keeper, method, params, timeout_s)
    except NoServiceError:
        raise RequestError(
            f"lab {lab.name}: its process has ended, and its machines with it; clear up with: "
            f"grapevine lab down --name {lab.name}"
        ) from None


def on_machine(lab: Lab, method: str, name: str) -> dict[str, Any]:
    """Kill, pause, resume, stop or restart one machine."""
    machine = lab.machine(name)
    told: dict[str, Any] = ask(lab, method, {"machine": machine.name})
    lab.note(method, machine=machine.name)
    return told


def shape(lab: Lab, name: str, **change: float) -> dict[str, Any]:
    """Delay (`delay_ms`) or narrow (`kbit_per_s`) a machine's lines to its brokers."""
    machine = lab.machine(name)
    if not machine.brokers:
        raise RequestError(f"{name} has no line of its own: name a peer, or a broker that bridges to another")
    told: dict[str, Any] = ask(lab, "shape", {"machine": machine.name, **change})
    lab.note("shape", **told)
    return told


def partition(lab: Lab, a: Collection[str], b: Collection[str]) -> dict[str, Any]:
    """Let nothing pass between two sides any more."""
    pairs = pairs_between(lab.machines, a, b)
    cut = ask(lab, "cut", {"pairs": pairs})
    lab.note("partition", a=sorted(a), b=sorted(b), pairs=pairs)
    return {"a": sorted(a), "b": sorted(b), "cut": cut}


def heal(lab: Lab) -> dict[str, Any]:
    """Let everything pass again."""
    healed = ask(lab, "heal")
    lab.note("heal", pairs=healed)
    return {"healed": healed}


def pairs_between(machines: Sequence[Machine], a: Collection[str], b: Collection[str]) -> list[Pair]:
    """The lines, each a machine and a broker, that run from one side to the other.

    A broker has those on its side that are at it, as their first, unless they are named themselves: who is at brokers
    of both sides stays with the first one's. Raises `RequestError` where a name is unknown, or nothing is to be cut.
    """
    by_name = {each.name: each for each in machines}
    for name in (*a, *b):
        if name not in by_name:
            raise RequestError(f"there is no machine {name!r}; {suggestion(name, by_name)}")
    if both := sorted(set(a) & set(b)):
        raise RequestError(f"{', '.join(both)} cannot be on both sides: name each once")
    if not a or not b:
        raise RequestError("a partition has two sides: name machines for both, as in partition broker-1 broker-2")
    sides = {**dict.fromkeys(a, 0), **dict.fromkeys(b, 1)}
    named = {name: side for name, side in sides.items() if by_name[name].kind == "broker"}
    for machine in machines:
        if machine.kind != "broker" and machine.name not in sides:
            home = next((named[broker] for broker in machine.brokers if broker in named), None)
            if home is not None:
                sides[machine.name] = home
    pairs = [
        (machine.name, broker)
        for machine in machines
        for broker in machine.brokers
        if {sides.get(machine.name), named.get(broker)} == {0, 1}
    ]
    if not pairs:
        raise RequestError(_why_no_line(by_name, a, b))
    return pairs


def _why_no_line(by_name: Mapping[str, Machine], a: Collection[str], b: Collection[str]) -> str:
    at = [sorted({broker for name in side for broker in by_name[name].brokers}) for side in (a, b)]
    said = f"no line joins {', '.join(a)} and {', '.join(b)}"
    if not all(at):
        return f"{said}: name machines that talk to each other, such as a peer and its broker"
    if at[0] == at[1]:
        return (
            f"{said}: they hear each other through {', '.join(at[0])}; cut one of them off with: partition "
            f"{next(iter(a))} {','.join(at[0])}"
        )
    return f"{said}: they hear each other through their brokers; say partition {','.join(at[0])} {','.join(at[1])}"
