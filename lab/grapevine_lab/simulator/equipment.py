"""What the nodes of a run are given: how fast each computes, and the links between them."""

from __future__ import annotations

import json

import numpy as np

from grapevine_lab.simulator.datasets import data_folder
from grapevine_lab.simulator.network import Link, Network
from grapevine_lab.simulator.scenario import NodesPlan, Scenario
from grapevine_proto.errors import ConfigError
from grapevine_proto.manifest import TrainingPlan


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


def _device_profiles(key: str) -> list[float]:
    path = data_folder() / "device_profiles" / "device_profiles.json"
    if not path.exists():
        raise ConfigError(
            f"there is no {path}: FedScale's device profiles, as JSON with fedscale_demo_10.{key}; "
            "without them, give speeds and bandwidths by number"
        )
    values: list[float] = json.loads(path.read_text(encoding="utf-8"))["fedscale_demo_10"][key]
    return values
