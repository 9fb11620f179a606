"""Which scenarios a lab can follow: what a simulator can vary and real machines on one host cannot is an error."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from grapevine_lab.fidelity.comparable import Rule, rules_of_agents
from grapevine_lab.simulator.network import Cut, NetworkPlan
from grapevine_lab.simulator.scenario import Scenario
from grapevine_lab.simulator.surroundings import SurroundingsPlan
from grapevine_proto.errors import ConfigError

MOST_PEERS: Final = 200
NAMES: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,40}")  # of a broker: a folder's and a container's name
OWN_NAMES: Final = re.compile(r"(peer-\d+|reviewer-\d+|engineer|server)")
NOT_HERE: Final = ("clock", "drift")  # faults: all machines have this host's clock


def check_possible(scenario: Scenario) -> None:
    """Raise ConfigError that names every key of a scenario that real machines cannot follow, and what to write."""
    wrong = [str(rule) for rule in _rules(scenario) if not rule.holds]
    if wrong:
        raise ConfigError("\n".join(f"{scenario.source}: {each}" for each in wrong))


def _rules(scenario: Scenario) -> Iterator[Rule]:
    nodes, rule = scenario.nodes, Rule.of
    yield rule("nodes.num", nodes.num, 2 <= nodes.num <= MOST_PEERS, f"write 2 to {MOST_PEERS}")
    yield from rules_of_agents(scenario)
    yield rule("nodes.look_every_s", nodes.look_every_s, not nodes.look_every_s, "leave it out")
    kind = scenario.topology.kind
    yield rule("topology.kind", kind, kind in ("complete", "open"), 'write kind = "complete": brokers join them all')
    yield from _of_lines(scenario)
    for word in scenario.words:
        num = word.num_rounds
        yield rule("words.num_rounds", num, not num, "leave it out: the task is built once, as [task] says")
    kind = scenario.availability.kind
    yield rule("availability.kind", kind, kind == "always", 'write kind = "always", and [[faults]] with kind = "off"')
    for name, is_there in (
        ("life", scenario.life is not None),
        ("surroundings", scenario.surroundings not in (None, SurroundingsPlan())),
        ("attack", bool(scenario.attacks)),
    ):
        yield rule(name, "…" if is_there else None, not is_there, "leave the table out: it is the simulator's alone")
    for fault in scenario.faults:
        yield rule(
            "faults.kind", fault.kind, fault.kind not in NOT_HERE, "leave it out: all machines have this host's clock"
        )
        ahead = fault.wakes_ahead_s
        yield rule("faults.wakes_ahead_s", ahead, ahead == (0.0, 0.0), "leave it out: this host's clock is everybody's")


def _of_lines(scenario: Scenario) -> Iterator[Rule]:
    network, plain, rule = scenario.network, NetworkPlan(), Rule.of
    for key in ("jitter_s", "loss", "up_loss", "wan", "fedscale"):
        value = getattr(network, key)
        yield rule(f"network.{key}", value, value == getattr(plain, key), "leave it out: lines have latency and rate")
    both = (network.up_bps, network.down_bps)
    yield rule("network.up_bps and down_bps", both, both[0] == both[1], "write the same for both")
    for broker in scenario.brokers:
        is_name = NAMES.fullmatch(broker.name) is not None and OWN_NAMES.fullmatch(broker.name) is None
        yield rule("broker.name", broker.name, is_name, "its machine is called so: letters, digits and -, as in north")
        yield rule("broker.latency_s", broker.latency_s, broker.latency_s is None, "write network.latency_s for all")
    for bridge in scenario.bridges:
        yield rule("bridge.latency_s", bridge.latency_s, bridge.latency_s is None, "write network.latency_s for all")
        yield rule("bridge.topics", bridge.topics, bridge.topics == ("#",), 'write topics = ["#"]')
    for cut in network.cuts:
        divided = _divided(scenario, cut)
        yield rule(
            "network.cut.groups",
            cut.groups,
            not divided,
            f"nodes of both sides are at {divided}, which passes everything on: let each side have brokers of its own",
        )


def _divided(scenario: Scenario, cut: Cut) -> str:
    """The first broker with nodes of two groups that are at no other broker; "": there is none."""
    for number, broker in enumerate(scenario.brokers):
        groups = {cut.group_of(node) for node in nodes_at(scenario, number)}
        if len(groups) > 1:
            return broker.name
    return ""


def nodes_at(scenario: Scenario, broker: int) -> list[int]:
    """The nodes that are at this broker alone."""
    nodes = scenario.nodes
    return [node for node in range(nodes.num) if nodes.places_of(node) == (broker,)]
