"""Which scenarios can be run by real agents on this machine: what the simulator can vary and agents cannot is fixed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from grapevine_agent.core.settings import CoreSettings
from grapevine_lab.simulator.experiment import Prepared
from grapevine_lab.simulator.network import NetworkPlan
from grapevine_lab.simulator.scenario import Scenario
from grapevine_proto.errors import ConfigError

MAX_NODES = 20  # each one is two processes and some 350 MB


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What a key must be. `remedy` is what to write."""

    key: str
    value: object
    holds: bool
    remedy: str

    @classmethod
    def of(cls, key: str, value: object, holds: bool, remedy: str) -> Rule:
        """The same in one line."""
        return cls(key=key, value=value, holds=holds, remedy=remedy)

    def __str__(self) -> str:
        return f"{self.key} = {self.value!r}: real agents cannot follow; {self.remedy}"


def check_comparable(prepared: Prepared) -> None:
    """Raise ConfigError for the first key of a scenario that real agents could not follow."""
    source = prepared.scenario.source
    for rule in _rules(prepared):
        if not rule.holds:
            raise ConfigError(f"{source}: {rule}")


def _rules(prepared: Prepared) -> Iterator[Rule]:
    scenario, nodes = prepared.scenario, prepared.scenario.nodes
    yield Rule.of("scenario.rounds", scenario.rounds, scenario.rounds > 0, "write how many, as in rounds = 60")
    yield Rule.of("nodes.num", nodes.num, 2 <= nodes.num <= MAX_NODES, f"write 2 to {MAX_NODES}")
    yield Rule.of("nodes.profiles", nodes.profiles, not nodes.profiles, 'write one for all, as in profile = "generic"')
    watts = prepared.profile.power.training_w
    remedy = "take a profile that has it, as raspberry-pi-4b: agents tell how long they train by the energy it takes"
    yield Rule.of("power.training_w of nodes.profile", watts, watts > 0, remedy)
    kind = scenario.topology.kind
    remedy = 'write kind = "complete": brokers and gateways join them all'
    yield Rule.of("topology.kind", kind, kind == "complete", remedy)
    yield from rules_of_agents(scenario)
    yield from _surroundings(scenario)


def rules_of_agents(scenario: Scenario) -> Iterator[Rule]:
    """What holds wherever real agents do what a simulation does: their owners cannot choose otherwise."""
    nodes, rule = scenario.nodes, Rule.of
    yield rule("scenario.mode", scenario.mode, scenario.mode == "free-running", 'write mode = "free-running"')
    yield rule("nodes.trainer", nodes.trainer, nodes.trainer != "none", 'write trainer = "auto"')
    yield rule("nodes.speeds", nodes.speeds, nodes.speeds == "equal", 'write speeds = "equal": one machine runs them')
    yield rule("nodes.training_time", nodes.training_time, nodes.training_time == "fixed", "leave it out")
    share, pending = CoreSettings.max_share, CoreSettings.max_pending
    yield rule("nodes.max_share", nodes.max_share, nodes.max_share == share, f"write max_share = {share}")
    yield rule("nodes.max_pending", nodes.max_pending, nodes.max_pending == pending, f"write max_pending = {pending}")
    measure = scenario.measure
    yield rule("measure.every_rounds", measure.every_rounds, measure.every_rounds == 1, "write every_rounds = 1")
    yield rule("measure.models", measure.models, "released" in measure.models, 'write models = ["released"]')
    yield rule("measure.num_nodes", measure.num_nodes, not measure.num_nodes, "leave it out")


def _surroundings(scenario: Scenario) -> Iterator[Rule]:
    plain, network = NetworkPlan(), scenario.network
    for key in ("jitter_s", "up_bps", "down_bps", "loss", "up_loss", "wan", "fedscale", "cuts"):
        value = getattr(network, key)
        yield Rule(key=f"network.{key}", value=value, holds=value == getattr(plain, key), remedy="leave it out")
    availability = scenario.availability.kind
    yield Rule(
        key="availability.kind", value=availability, holds=availability == "always", remedy='write kind = "always"'
    )
    own = [each.name for each in scenario.brokers if each.latency_s is not None]
    yield Rule(key="broker.latency_s", value=own, holds=not own, remedy="leave it out: all of them are on this machine")
    bridges = scenario.bridges
    yield Rule(key="bridge", value=bridges, holds=not bridges, remedy="leave bridges out, and let gateways carry")
    yield Rule(key="faults", value=scenario.faults, holds=not scenario.faults, remedy="leave them out")
    present = scenario.server.present
    yield Rule(key="server.present", value=present, holds=not present, remedy="leave the server out")
