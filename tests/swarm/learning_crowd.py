"""A crowd that learns digits: an engineer, two reviewers, members, and perhaps a server."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from tests.swarm.digits import DigitsTrainer, built_digits, digits_manifest, samples_of
from tests.swarm.world import EPOCH_MS, Node, Trainer, World

from grapevine_agent.core.settings import CoreSettings, DeviceLimits, ReviewPolicy, SleepPlan
from grapevine_proto.signing import SigningKey


@dataclass
class Crowd:
    world: World
    engineer: Node
    reviewers: list[Node]
    members: list[Node]
    server_key: SigningKey
    settings: CoreSettings
    task: str
    more_server_keys: list[SigningKey]

    def start_server(self, number: int = 0, *, group: str = "") -> Node:
        key = [self.server_key, *self.more_server_keys][number]
        return self.world.add(replace(self.settings, peer=key.peer_id, role="server", server_group=group), key)

    def accuracy(self, since_s: float) -> list[float]:
        """Mean accuracy of each member's released model since then."""
        means = []
        for node in self.members:
            recent = [accuracy for time_s, accuracy in node.accuracies if time_s >= since_s]
            means.append(sum(recent) / len(recent))
        return means


def crowd(
    *,
    num_members: int = 5,
    seed: int = 0,
    num_rounds: int = 0,
    num_servers: int = 1,
    written_as: Sequence[str] = ("auto",),
    upload_bytes_per_s: float = math.inf,
    sleep: Mapping[int, SleepPlan] | None = None,
    world: World | None = None,
    learns: bool = True,
    judges: bool = True,
    **merging: object,
) -> Crowd:
    """Members write their vectors as `written_as` says, in turn, and lend so much of their line; some of them sleep.

    Without `learns` their trainers give back what they get, at once.
    """
    world = world or World(seed)
    engineer_key, server_key = world.key(), world.key()
    reviewer_keys = [world.key(), world.key()]
    more_server_keys = [world.key() for _ in range(num_servers - 1)]
    settings = CoreSettings(
        peer="",
        review=ReviewPolicy(approvals=2, trusted=frozenset(key.peer_id for key in reviewer_keys)),
        limits=DeviceLimits(memory_mb=1000, cores=4),
        heartbeat_s=1.0,
        upload_bytes_per_s=upload_bytes_per_s,
        match_data=lambda _task, _manifest: "",
        judge_updates=judges,
    )
    engineer = world.add(replace(settings, peer=engineer_key.peer_id, consent="never"), engineer_key)
    reviewers = [world.add(replace(settings, peer=key.peer_id, consent="never"), key) for key in reviewer_keys]
    manifest = digits_manifest(engineer.peer, created_at_ms=EPOCH_MS, num_rounds=num_rounds, **merging)
    manifest = replace(manifest, servers=tuple(key.peer_id for key in (server_key, *more_server_keys)))
    members = []
    for k in range(num_members):
        key = world.key()
        trainer = DigitsTrainer(manifest, samples_of(k), seed=k) if learns else Trainer()
        encoding, plan = written_as[k % len(written_as)], (sleep or {}).get(k)
        own = replace(settings, peer=key.peer_id, encoding=encoding, sleep=plan)
        members.append(world.add(own, key, trainer=trainer))
    world.run(0.5)
    task = world.publish_task(engineer, manifest, built_digits().weights)
    world.run(0.5)
    for reviewer in reviewers:
        world.approve(reviewer, task)
    return Crowd(world, engineer, reviewers, members, server_key, settings, task, more_server_keys)
