"""A lab as the dashboard shows it: its agents' sockets, what its engine knows of them, and what can be done to them."""

from __future__ import annotations

import glob
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from grapevine_agent.dashboard.sources import Sources
from grapevine_lab.testbed import acting
from grapevine_lab.testbed.furnish import node_of
from grapevine_lab.testbed.store import Lab, find_lab

ROLES: Final = {"peer": "member"}  # as the dashboard calls them; the others it calls as we do


def sources_of(name: str) -> Sources:
    """What `grapevine dashboard --lab NAME` shows. Raises `RequestError` if there is no such lab, or it is not up."""
    lab = find_lab(name)
    hosts: dict[str, dict[str, Sequence[Any]]] = acting.ask(lab, "hosts")["hosts"]
    behind = {
        (machine, f"{host}:{port}"): broker for machine, at in hosts.items() for broker, (host, port) in at.items()
    }

    def broker_of(machine: str, url: str) -> str:
        place = url.partition("://")[2].partition("?")[0].rstrip("/")
        return behind.get((machine, place), url)

    def states() -> Mapping[str, str]:
        told: dict[str, str] = acting.ask(lab, "states")["states"]
        return told

    return Sources(
        kind="lab",
        name=lab.scenario.name,
        sockets=tuple(glob.escape(str(lab.socket(machine))) for machine in lab.agents),
        broker_of=broker_of,
        states=states,
        roles={machine.name: ROLES.get(machine.kind, machine.kind) for machine in lab.agents},
        profiles=_profiles(lab),
        actions=_actions(lab),
    )


def _profiles(lab: Lab) -> dict[str, str]:
    nodes = lab.scenario.nodes
    return {each.name: (nodes.profiles[node_of(each)] if nodes.profiles else nodes.profile) for each in lab.peers}


def _actions(lab: Lab) -> dict[str, Callable[[Mapping[str, Any]], str]]:
    """As the dashboard asks, which has looked at what is asked; names of peers may be their ids."""
    named = {peer: name for name, peer in lab.peer_ids.items()}

    def one(method: str) -> Callable[[Mapping[str, Any]], str]:
        def do(params: Mapping[str, Any]) -> str:
            name = params["peer"]
            told = acting.on_machine(lab, method, named.get(name, name))
            return f"{told['machine']} is {told['state']}"

        return do

    def partition(params: Mapping[str, Any]) -> str:
        a, b = ([named.get(name, name) for name in side] for side in params["sides"])
        return f"{len(acting.partition(lab, a, b)['cut'])} lines are cut"

    def heal(_params: Mapping[str, Any]) -> str:
        return f"{len(acting.heal(lab)['healed'])} lines pass again"

    return {"kill": one("kill"), "restart": one("restart"), "partition": partition, "heal": heal}
