"""From a scenario to a world that is ready to run.

`prepare` does, and checks, everything that can be known before anything runs: the task is built with
the scenario's changes, the graph is made, the data set is shared out. Whatever is impossible is said then.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from grapevine_agent.config.agent_toml import Limits
from grapevine_agent.config.firmware import FirmwareProfile, load_profile, with_limits
from grapevine_agent.core.moment import DAY_MS
from grapevine_agent.core.settings import CoreSettings, ReviewPolicy
from grapevine_agent.data.preparing import Samples
from grapevine_agent.merge.plan import check_merge_plan
from grapevine_lab.simulator.availability import absences, sleep_of
from grapevine_lab.simulator.building import build_apart
from grapevine_lab.simulator.clock import EPOCH_MS
from grapevine_lab.simulator.datasets import Dataset, dataset_facts, load_dataset
from grapevine_lab.simulator.device import Device
from grapevine_lab.simulator.equipment import (
    attachments_to,
    device_limits,
    governor_limits,
    make_network,
    power_of,
    step_times,
)
from grapevine_lab.simulator.events import Boot, Drop, Join, Off, Rejoin
from grapevine_lab.simulator.hostile import AttackPlan, Collusion, Hostile
from grapevine_lab.simulator.keys import PeerKey, SigningKeyOfRun, UnsignedKey
from grapevine_lab.simulator.life_plan import ReviewPlan
from grapevine_lab.simulator.long_runs import give_course
from grapevine_lab.simulator.measurements import Measurements
from grapevine_lab.simulator.network import Link
from grapevine_lab.simulator.observer import Observer
from grapevine_lab.simulator.partitions import check_partition, raw_samples, share_out
from grapevine_lab.simulator.population import Population
from grapevine_lab.simulator.scenario import Scenario
from grapevine_lab.simulator.timeline import comes_at_s
from grapevine_lab.simulator.topologies import OPEN, make_topology
from grapevine_lab.simulator.work import Work
from grapevine_lab.simulator.world import World
from grapevine_proto.codec import seal
from grapevine_proto.errors import ConfigError, TaskError
from grapevine_proto.manifest import ManifestHead, TaskManifest
from grapevine_proto.manifest_codec import encode_manifest, task_id
from grapevine_proto.messages import Message, Review, TaskPublication
from grapevine_proto.signing import PEER_ID_LENGTH
from grapevine_proto.topics import TaskTopic
from grapevine_tasks.built import BuiltTask, finish_manifest
from grapevine_tasks.catalogue import catalogue_task
from grapevine_tasks.pipelines import Prepared as PreparedSamples
from grapevine_tasks.pipelines import prepare_learning

if TYPE_CHECKING:
    import networkx as nx

APPROVALS = 2
REVIEWED_FOR_DAYS = 100_000.0  # no simulation runs out of its reviews
FIRST_HEARTBEAT_S = 10.0
BESIDE_A_MANIFEST_BYTES = 600  # of a packet: topic, key, signature, header
ROUNDS_LIMIT = 10  # a run of R rounds is over after the time of so many times R, for all that are away
SERVER_PHASE = 0.75  # of a round, after which a server that is there from the start publishes in round-based runs
_TEST_SEED = 0x7E57  # of which test samples are taken, where not all are


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A scenario with all that it takes, for any seed."""

    scenario: Scenario
    built: BuiltTask
    dataset: Dataset | None  # None without a trainer
    profile: FirmwareProfile
    profiles: tuple[FirmwareProfile, ...] = ()  # of each node, where they are not all `profile`

    def profile_of(self, node: int) -> FirmwareProfile:
        """A node's profile."""
        return self.profiles[node] if self.profiles else self.profile


def prepare(scenario: Scenario) -> Prepared:
    """Read and check all that the scenario names. Raises ConfigError or TaskError before anything runs."""
    profile = _profile(scenario, "profile", scenario.nodes.profile)
    named = {name: _profile(scenario, "profiles", name) for name in dict.fromkeys(scenario.nodes.profiles)}
    dataset = None
    if scenario.nodes.trainer != "none":
        check_partition(scenario.partition, dataset_facts(scenario.data), scenario.nodes.num)
    make_topology(scenario.topology, scenario.nodes.num, _rng(scenario.seed, "topology"))
    if scenario.nodes.trainer != "none":
        dataset = load_dataset(scenario.data)
    built = _build(scenario, dataset)
    contract = built.draft.data
    if dataset is not None and dataset.kind and dataset.kind != contract.kind:
        raise ConfigError(
            f"{scenario.source}: data.name = {scenario.data.name!r} has samples of the kind {dataset.kind!r}, "
            f"the task {built.draft.name!r} takes {contract.kind!r}: choose another data set, or another task"
        )
    _check_packets(scenario, built)
    profiles = tuple(named[name] for name in scenario.nodes.profiles)
    return Prepared(scenario=scenario, built=built, dataset=dataset, profile=profile, profiles=profiles)


def _profile(scenario: Scenario, key: str, name: str) -> FirmwareProfile:
    try:
        return with_limits(load_profile(name), Limits())
    except ConfigError as error:
        raise ConfigError(f"{scenario.source}: nodes.{key}: {error}") from None


def _check_packets(scenario: Scenario, built: BuiltTask) -> None:
    """Models travel in chunks. A task's manifest does not: every broker has to take it."""
    named = finish_manifest(built.draft, publisher="a" * PEER_ID_LENGTH, now_ms=EPOCH_MS)
    least = len(encode_manifest(named)) + BESIDE_A_MANIFEST_BYTES
    for plan in scenario.brokers:
        if 0 < plan.packet_limit_bytes < least:
            raise ConfigError(
                f"{scenario.source}: broker.packet_limit_bytes = {plan.packet_limit_bytes} of {plan.name!r}: a task's "
                f"manifest travels whole, in a packet of {least} bytes; write {least} or more"
            )


def _build(scenario: Scenario, dataset: Dataset | None) -> BuiltTask:
    """The task with the scenario's changes, as an engineer would build it."""
    choice = scenario.task
    try:
        folder = choice.path if choice.path is not None else catalogue_task(choice.name)
        training, merging = dict(choice.training), dict(choice.merging)
        if scenario.mode == "rounds":
            merging.setdefault("send_rate", "every-round")
        changes = {"data": choice.data, "training": training, "merging": merging}
        if choice.epochs_per_round and dataset is not None:
            from grapevine_tasks.authoring.task_file import read_task_file  # noqa: PLC0415 - imports torch

            plan = read_task_file(folder / "task.toml", changes).training
            shares = share_out(dataset, scenario.partition, scenario.nodes.num, _rng(scenario.seed, "partition"))
            per_node = sum(len(share.train) for share in shares) / len(shares)
            training["steps_per_round"] = max(1, round(choice.epochs_per_round * per_node / plan.batch_size))
        with tempfile.TemporaryDirectory() as into:
            if scenario.nodes.trainer == "none" and "torch" not in sys.modules:
                return build_apart(folder, Path(into), changes)
            from grapevine_tasks.authoring.build import build_task  # noqa: PLC0415 - imports torch

            return build_task(folder, check_merging=check_merge_plan, into=Path(into), changes=changes)
    except TaskError as error:
        raise TaskError(f"{scenario.source}: [task]: {error}") from error


# --- one run --------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Run:
    """A world that is ready, the task that is learned in it, and what is measured."""

    world: World
    task: str
    manifest: TaskManifest
    measurements: Measurements
    samples: tuple[Samples, ...]  # of each node; none without a trainer
    graph: nx.Graph
    limit_s: float  # virtual time at which the run ends in any case


def begin(prepared: Prepared, seed: int) -> Run:
    """Make the world of one seed. Its trainer is not there yet: see `give_trainer`."""
    scenario, nodes = prepared.scenario, prepared.scenario.nodes
    graph = make_topology(scenario.topology, nodes.num, _rng(seed, "topology"))
    keys = _Keys(_rng(seed, "keys"), signed=scenario.network.signatures)
    members = [keys.draw() for _ in range(nodes.num)]
    engineer, reviewers = keys.draw(), [keys.draw() for _ in range(APPROVALS)]
    if scenario.review is not None:
        engineer, reviewers = members[0], [members[node] for node in scenario.review.reviewers]
    server = keys.draw() if scenario.server.present else None
    servers = (server.peer_id,) if server is not None else ()
    served = replace(prepared.built, draft=replace(prepared.built.draft, servers=servers))
    manifest = finish_manifest(served.draft, publisher=engineer.peer_id, now_ms=EPOCH_MS)
    world = _empty_world(prepared, manifest, seed, num_devices=nodes.num + (server is not None))
    task = "" if scenario.review is not None else _publish(world, manifest, engineer, reviewers)
    settings = _settings(prepared, manifest, frozenset(key.peer_id for key in reviewers))
    limits = {profile.name: device_limits(profile, manifest) for profile in (*prepared.profiles, prepared.profile)}
    blobs = {manifest.initial_weights.digest: prepared.built.weights}
    step_s = step_times(nodes, manifest.training, _rng(seed, "speeds"))
    limit_s = scenario.duration_s or ROUNDS_LIMIT * scenario.rounds * _longest_round_s(manifest, max(step_s))
    collusions = [Collusion() for _ in scenario.attacks]
    away = absences(scenario.availability, nodes.num, _rng(seed, "availability"), limit_s)
    for node, key in enumerate(members):
        near = {members[other].peer_id for other in graph.neighbors(node)}
        near |= {server.peer_id} if server is not None else set()
        own = replace(
            settings,
            peer=key.peer_id,
            limits=limits[prepared.profile_of(node).name],
            neighbours=None if scenario.topology.kind == OPEN else frozenset(near),
            renew_reviews=scenario.review is not None and scenario.review.renew and key in reviewers,
            is_gateway=node in nodes.gateways,
            sleep=sleep_of(scenario.availability, node),
            governor=governor_limits(scenario, prepared.profile_of(node), node),
        )
        device = _member(prepared, node, key, own, world.network.links[node], step_s[node])
        device.hostile = _hostile(scenario, node, seed, collusions)
        if scenario.review is None:
            device.disk.blobs.update(blobs)
        start_s = _start_s(scenario, manifest, node, seed) + comes_at_s(scenario.faults, node)
        _switch_on(world, device, scenario, start_s, away[node])
    if server is not None:
        _add_server(world, scenario, settings, server, manifest, blobs)
    world.post.plan_cuts()
    for number in range(len(scenario.bridges)):
        world.clock.at(0.0, Rejoin(number))
    give_course(world, scenario, served, reviewers=settings.review.trusted, seed=seed, limit_s=limit_s)
    samples = tuple(_samples(prepared, manifest, seed)) if prepared.dataset is not None else ()
    return Run(
        world=world,
        task=task,
        manifest=manifest,
        measurements=world.work.measurements,
        samples=samples,
        graph=graph,
        limit_s=limit_s,
    )


def _empty_world(prepared: Prepared, manifest: TaskManifest, seed: int, *, num_devices: int) -> World:
    """A world with a network for so many devices, before any is in it."""
    scenario = prepared.scenario
    work = Work(seed=seed, trainer=None, measurements=Measurements(), num_samples=_batch(manifest))
    observer = Observer(
        seed=seed, plan=scenario.measure, measurements=work.measurements, work=work, population=Population()
    )
    network = make_network(scenario, num_devices, _rng(seed, "network"))
    return World(
        rng=_rng(seed, "world"),
        network=network,
        work=work,
        observer=observer,
        brokers=scenario.brokers,
        bridges=scenario.bridges,
        chunk_window=prepared.profile.chunk_window,
        surroundings=scenario.surroundings,
    )


def _member(prepared: Prepared, node: int, key: PeerKey, settings: CoreSettings, link: Link, step_s: float) -> Device:
    """A node's device, as its profile and the scenario have it."""
    nodes = prepared.scenario.nodes
    return Device(
        index=node,
        key=key,
        settings=settings,
        link=link,
        attachments=attachments_to(nodes.places_of(node), prepared.scenario.brokers),
        seat=node,
        step_s=step_s,
        exponential=nodes.training_time == "exponential",
        power=power_of(prepared.profile_of(node)),
    )


def _hostile(scenario: Scenario, node: int, seed: int, collusions: Sequence[Collusion]) -> Hostile | None:
    """What speaks for a node that attacks; those of a run agree on a direction, those of an attack on a model."""
    attack = _attack_of(scenario, node)
    if attack is None:
        return None
    direction_seed = int(_rng(seed, "attack").integers(2**31))
    collusion = collusions[scenario.attacks.index(attack)]
    return Hostile(plan=attack, rng=_rng(seed, f"attack {node}"), direction_seed=direction_seed, collusion=collusion)


def _attack_of(scenario: Scenario, node: int) -> AttackPlan | None:
    return next((plan for plan in scenario.attacks if node in plan.nodes), None)


def _longest_round_s(manifest: TaskManifest, step_s: float) -> float:
    return max(manifest.training.round_interval_s, manifest.training.steps_per_round * step_s)


def give_trainer(run: Run, scenario: Scenario, seed: int) -> None:
    """Start whatever trains the nodes; `run.world.work.trainer` must be closed."""
    if scenario.nodes.trainer == "none":
        return
    from grapevine_lab.simulator.training import make_trainer  # noqa: PLC0415 - imports torch

    run.world.work.trainer = make_trainer(
        run.manifest.program,
        run.manifest.training,
        run.samples,
        seed=int(_rng(seed, "training").integers(2**31)),
        num_workers=scenario.nodes.workers or None,
        how=scenario.nodes.trainer,
    )


class _Keys:
    """Draws keys that are the same in every run with the same seed."""

    def __init__(self, rng: np.random.Generator, *, signed: bool) -> None:
        self._rng = rng
        self._signed = signed

    def draw(self) -> PeerKey:
        seed = self._rng.bytes(32)
        return SigningKeyOfRun(seed) if self._signed else UnsignedKey(seed)


def _rng(seed: int, purpose: str) -> np.random.Generator:
    """A generator for one purpose: what one part of a run draws does not change what another one gets."""
    return np.random.default_rng([seed, *purpose.encode()])


def _publish(world: World, manifest: TaskManifest, engineer: PeerKey, reviewers: list[PeerKey]) -> str:
    """The task's records as the broker holds them from the start: the manifest, and its reviews. Its id."""
    encoded = encode_manifest(manifest)
    task = task_id(encoded)
    far_ms = EPOCH_MS + int(REVIEWED_FOR_DAYS * DAY_MS)
    records: list[tuple[PeerKey, TaskTopic, TaskPublication | Review]] = [
        (engineer, TaskTopic(engineer.peer_id, task, "manifest"), TaskPublication(manifest=encoded))
    ]
    for reviewer in reviewers:
        review = Review(task=task, approved=True, reason="", valid_until_ms=far_ms)
        records.append((reviewer, TaskTopic(reviewer.peer_id, task, "review"), review))
    for key, topic, body in records:
        message = Message(sender=key.peer_id, session=EPOCH_MS, sequence=EPOCH_MS, body=body, created_at_ms=EPOCH_MS)
        world.post.retain(key.peer_id, topic.below_root(), seal(message, topic, key))
    return task


def _settings(prepared: Prepared, manifest: TaskManifest, reviewers: frozenset[str]) -> CoreSettings:
    nodes = prepared.scenario.nodes
    interval_s = manifest.training.round_interval_s
    plan = prepared.scenario.review or ReviewPlan(reviewers=(), approvals=APPROVALS, max_valid_days=REVIEWED_FOR_DAYS)
    return CoreSettings(
        peer="",
        review=ReviewPolicy(approvals=plan.approvals, trusted=reviewers, max_valid_days=plan.max_valid_days),
        limits=device_limits(prepared.profile, manifest),
        heartbeat_s=nodes.heartbeat_s or max(FIRST_HEARTBEAT_S, interval_s),
        server_heartbeat_s=prepared.scenario.server.heartbeat_s or interval_s,
        max_share=nodes.max_share,
        max_pending=nodes.max_pending,
        judge_updates=nodes.judge_updates,
        save_every_s=nodes.save_every_s or CoreSettings.save_every_s,
        look_every_s=nodes.look_every_s or CoreSettings.look_every_s,
        match_data=_matches,
    )


def _matches(_task: str, _manifest: ManifestHead) -> str:
    return ""


def _batch(manifest: TaskManifest) -> int:
    return manifest.training.batch_size * manifest.training.steps_per_round


def _start_s(scenario: Scenario, manifest: TaskManifest, node: int, seed: int) -> float:
    """Round-based runs start together; the others anywhere in the first round."""
    if scenario.mode == "rounds":
        return 0.0
    return float(_rng(seed, f"start {node}").random()) * manifest.training.round_interval_s


def _add_server(
    world: World,
    scenario: Scenario,
    settings: CoreSettings,
    key: PeerKey,
    manifest: TaskManifest,
    blobs: dict[str, bytes],
) -> None:
    """The server, last of the devices; switched on and off as the scenario says."""
    index = len(world.devices)
    device = Device(
        index=index,
        key=key,
        settings=replace(settings, peer=key.peer_id, role="server"),
        link=world.network.links[index],
        attachments=attachments_to(range(len(scenario.brokers)), scenario.brokers),
    )
    device.disk.blobs.update(blobs)
    interval_s = manifest.training.round_interval_s
    spans = scenario.server.present
    # In round-based runs everybody's updates have come by then, and the model is there before the next round.
    shift_s = SERVER_PHASE * interval_s if scenario.mode == "rounds" else 0.0
    world.add(device, start_s=spans[0][0] + shift_s)
    for from_s, until_s in spans:
        if until_s < float("inf"):
            world.clock.at(until_s, Off(index))
        if from_s != spans[0][0]:
            world.clock.at(from_s + shift_s, Boot(index))


def _switch_on(
    world: World, device: Device, scenario: Scenario, start_s: float, away: list[tuple[float, float]]
) -> None:
    """Let a device start, unless it is away just then, and go and come back at its times."""
    spans = [(max(from_s, start_s), until_s) for from_s, until_s in away if until_s > start_s]
    is_off = scenario.availability.away == "power"
    if spans and is_off and spans[0][0] == start_s:
        start_s = spans.pop(0)[1]
    world.add(device, start_s=start_s)
    for from_s, until_s in spans:
        world.clock.at(from_s, Off(device.index) if is_off else Drop(device.index))
        world.clock.at(until_s, Boot(device.index) if is_off else Join(device.index))


def _samples(prepared: Prepared, manifest: TaskManifest, seed: int) -> list[Samples]:
    """What each node holds, as its model wants it. A common test set is one array for all of them."""
    scenario, dataset, contract = prepared.scenario, prepared.dataset, manifest.data
    assert dataset is not None
    common = np.arange(len(dataset.y_test))
    limit = scenario.measure.test_samples
    if limit and limit < len(dataset.y_test):
        common = np.sort(np.random.default_rng(_TEST_SEED).permutation(len(dataset.y_test))[:limit])
    where = f"data set {dataset.name!r}"
    tested_in_common: PreparedSamples | None = None
    shares = share_out(dataset, scenario.partition, scenario.nodes.num, _rng(seed, "partition"))
    samples = []
    for node, share in enumerate(shares):
        raw = raw_samples(dataset, share)
        if (attack := _attack_of(scenario, node)) is not None and attack.kind == "label-flip":
            raw = replace(raw, y=contract.num_classes - 1 - raw.y)
        trained = prepare_learning(raw.x, raw.y, contract, where)
        if share.test is not None or share.label_map is not None:
            tested = prepare_learning(raw.x_test, raw.y_test, contract, where, trained.learnt)
        else:
            if tested_in_common is None or trained.learnt:  # what steps measured is each share's own
                x_test, y_test = dataset.x_test[common], dataset.y_test[common]
                tested_in_common = prepare_learning(x_test, y_test, contract, where, trained.learnt)
            tested = tested_in_common
        samples.append(Samples(x=trained.x, y=trained.y, x_test=tested.x, y_test=tested.y))
    return samples
