"""What machines find in their folders when they start: keys, configurations, samples, brokers' rules."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, TypeAlias

from grapevine_agent.identity import first_identity
from grapevine_broker.bridge import Bridge
from grapevine_broker.mosquitto import MAX_PACKET_BYTES, basic_config
from grapevine_lab.fidelity.people import SHARE, Settings, write_config
from grapevine_lab.fidelity.shares import write_share
from grapevine_lab.simulator.brokers import BrokerPlan
from grapevine_lab.simulator.experiment import Prepared, Run, begin
from grapevine_lab.testbed.engine import Machine
from grapevine_lab.testbed.store import TASK, Lab
from grapevine_tasks.built import write_built

HostOf: TypeAlias = Callable[[str, str], tuple[str, int]]  # a broker's place, by the names of it and of who talks to it
# A scenario without [governor] has none, not even the profile's, and neither have its agents here.
UNGOVERNED: Final[Mapping[str, object]] = {
    "slow_above_c": 0,
    "pause_above_c": 0,
    "upload_mb_per_day": 0,
    "energy_kj_per_day": 0,
    "duty_cycle": 1.0,
    "on_battery": "train",
    "battery_above_percent": 0,
    "throttling": "train",
    "memory_pressure_percent": 0,
    "free_disk_mb": 0,
}
SAVE_EVERY_S: Final = 1  # of what a broker retains: whatever ends it, it has it again


def furnish(lab: Lab, prepared: Prepared, *, host_of: HostOf, listens_on: str) -> None:
    """Make all folders of a lab's machines, and the task's. Their ids are in `lab.peer_ids` afterwards."""
    simulated = begin(prepared, lab.seed)
    write_built(prepared.built, lab.folder, lab.folder / TASK)
    for broker, plan in zip(lab.brokers, prepared.scenario.brokers, strict=True):
        _write_broker(lab, broker, plan, host_of, listens_on)
    for machine in lab.agents:
        machine.folder.mkdir(parents=True)
        lab.peer_ids[machine.name] = first_identity(machine.folder / "state").peer_id
    trusted = [lab.peer_ids[name] for name in reviewers_of(lab)]
    for machine in lab.agents:
        _write_agent(lab, machine, prepared, simulated, trusted, host_of)


def reviewers_of(lab: Lab) -> list[str]:
    """The machines whose verdicts count."""
    review = lab.scenario.review
    if review is not None:
        return [f"peer-{node}" for node in review.reviewers]
    return [each.name for each in lab.machines if each.kind == "reviewer"]


def node_of(machine: Machine) -> int:
    """The scenario's number of a peer."""
    return int(machine.name.removeprefix("peer-"))


def _write_agent(
    lab: Lab, machine: Machine, prepared: Prepared, simulated: Run, trusted: Sequence[str], host_of: HostOf
) -> None:
    plans = {each.name: each for each in prepared.scenario.brokers}
    urls = [_url(*host_of(broker, machine.name), plans[broker]) for broker in machine.brokers]
    is_peer = machine.kind == "peer"
    node = node_of(machine) if is_peer else 0
    contract = simulated.manifest.data
    if is_peer:
        write_share(machine.folder / SHARE, simulated.samples[node], contract)
    write_config(
        machine.folder,
        machine.name,
        Settings.of(simulated.world.devices[node].settings, lab.root),
        consent="never" if machine.kind in ("engineer", "reviewer") else "auto",
        urls=urls,
        gateway=is_peer and node in prepared.scenario.nodes.gateways,
        trusted=() if machine.kind in ("engineer", "reviewer") else trusted,
        data_kind=contract.kind if is_peer else "",
        governor=lab.content.get("governor", UNGOVERNED),
    )


def _url(host: str, port: int, plan: BrokerPlan) -> str:
    """In MQTT 5 a broker says its limit, in 3.1.1 it closes the connection without a word."""
    return f"mqtt://{host}:{port}" + ("" if plan.packet_limit_announced else "?version=3.1.1")


def _write_broker(lab: Lab, machine: Machine, plan: BrokerPlan, host_of: HostOf, listens_on: str) -> None:
    state = machine.folder / "state"
    state.mkdir(parents=True)
    lines = basic_config(
        host=listens_on,
        port=machine.port,
        anonymous=True,
        max_packet_bytes=plan.packet_limit_bytes or MAX_PACKET_BYTES,
    )
    lines += [
        "persistence true",
        f"persistence_location {state}/",
        f"autosave_interval {SAVE_EVERY_S}",
    ]
    if os.geteuid() == 0:
        lines.append("user root")  # else it would become somebody who cannot read this folder
    for other in machine.brokers:
        host, port = host_of(other, machine.name)
        bridge = Bridge(
            name=f"{machine.name}-{other}", host=host, port=port, client_id=f"{machine.name}-bridge", root=lab.root
        )
        lines.append(bridge.config())
    (machine.folder / "mosquitto.conf").write_text("\n".join([*lines, ""]), encoding="utf-8")


def task_folder(lab: Lab) -> Path:
    """Where the built task lies."""
    return lab.folder / TASK
