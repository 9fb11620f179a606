"""What the nodes of a run are given: speed, limits, power, places at brokers, and the links between them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

import numpy as np

from grapevine_agent.config.firmware import FirmwareProfile
from grapevine_agent.core.settings import DeviceLimits, GovernorLimits
from grapevine_lab.simulator.attachment import Attachment
from grapevine_lab.simulator.brokers import BrokerPlan, announced_by
from grapevine_lab.simulator.datasets import data_folder
from grapevine_lab.simulator.device import Power
from grapevine_lab.simulator.network import Link, Network
from grapevine_lab.simulator.scenario import NodesPlan, Scenario
from grapevine_lab.simulator.surroundings import is_governed, limits_of
from grapevine_proto.errors import ConfigError
from grapevine_proto.manifest import TaskManifest, TrainingPlan


def step_times(nodes: NodesPlan, training: TrainingPlan, rng: np.random.Generator) -> list[float]:
    """Seconds that an optimiser step takes on each node."""
    step_s = nodes.step_s or training.round_interval_s / 4 / training.steps_per_round
    match nodes.speeds:
        case "lognormal":
            return [step_s * float(f) for f in np.exp(rng.normal(0.0, nodes.speed_spread, nodes.num))]
        case "fedscale":
            times_ms = _device_profiles("computation_ms_per_sample")
            return [float(ms) / 1000 * training.batch_size for ms in rng.choice(times_ms, nodes.num)]
        case _:
            return [step_s] * nodes.num


def make_network(scenario: Scenario, num_links: int, rng: np.random.Generator) -> Network:
    """A link for each node (and the server, which is the last), and how far apart they are."""
    plan = scenario.network
    ups, downs = [plan.up_bps] * num_links, [plan.down_bps] * num_links
    if plan.fedscale:
        ups = downs = [1000.0 * float(kbps) for kbps in rng.choice(_device_profiles("communication_kbps"), num_links)]
    latencies_s, sites = None, []
    if plan.wan:
        path = data_folder() / "net_latency" / "wan_rtt_227.npz"
        if not path.exists():
            raise ConfigError(
                f"{scenario.source}: network.wan: there is no {path}; it is an npz file with latency_ms [s, s], "
                "one-way latencies between sites: make one, or set network.latency_s instead"
            )
        with np.load(path, allow_pickle=False) as archive:
            latencies_s = archive["latency_ms"].astype(np.float64) / 1000
        sites = [int(site) for site in rng.integers(len(latencies_s), size=num_links)]
    links = [Link(up_bps=up, down_bps=down) for up, down in zip(ups, downs, strict=True)]
    return Network(plan=plan, links=links, rng=rng, latencies_s=latencies_s, sites=sites)


def attachments_to(brokers: Iterable[int], plans: Sequence[BrokerPlan]) -> tuple[Attachment, ...]:
    """A node's places at its brokers, in their order."""
    return tuple(
        Attachment(number=number, broker=broker, announced_bytes=announced_by(plans[broker]))
        for number, broker in enumerate(brokers)
    )


def device_limits(profile: FirmwareProfile, manifest: TaskManifest) -> DeviceLimits:
    """What a profile lets a device take on, which is at least this task: the scenario says that it is learned."""
    return DeviceLimits(
        profile=profile.name,
        cores=max(profile.cores, manifest.requirements.cores),
        memory_mb=max(profile.memory_mb, manifest.requirements.memory_mb),
        max_parameters=2**40,
        max_batch=2**20,
        watts_idle=profile.power.idle_w,
        watts_training=profile.power.training_w,
    )


def governor_limits(scenario: Scenario, profile: FirmwareProfile, node: int) -> GovernorLimits:
    """What a node's governor holds it to; of one that is not governed, nothing."""
    if scenario.surroundings is None or not is_governed(scenario.surroundings, node):
        return GovernorLimits()
    return limits_of(scenario.governor, profile)


def power_of(profile: FirmwareProfile) -> Power:
    """What a device of a profile draws."""
    power = profile.power
    return Power(idle_w=power.idle_w, training_w=power.training_w, radio_w=power.radio_w)


def _device_profiles(key: str) -> list[float]:
    path = data_folder() / "device_profiles" / "device_profiles.json"
    if not path.exists():
        raise ConfigError(
            f"there is no {path}: FedScale's device profiles, as JSON with fedscale_demo_10.{key}; "
            "without them, give speeds and bandwidths by number"
        )
    values: list[float] = json.loads(path.read_text(encoding="utf-8"))["fedscale_demo_10"][key]
    return values
