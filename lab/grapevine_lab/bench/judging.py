"""`judging`: what it costs a member to judge each update before it is merged (see the agent's `guard`).

Two members of one swarm get the same updates in turns, one of them judging. A round of each is what the device does
with a round's updates, of eight of twenty senders. A *merge* is each update taken in (checked, its claims weighed,
bounded) and merged. A message has to be opened before: parsed, and its signature verified. Judging is held against a
merge alone, and against all that is done with an update that arrives. CPU time of one thread; no training.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from grapevine_agent.core.learning.merging import Merging
from grapevine_agent.core.learning.model_state import ModelState
from grapevine_agent.core.overlay.members import Members
from grapevine_lab.bench import floods
from grapevine_lab.bench.figures import Figure, Target, figure
from grapevine_lab.bench.receiver import layout_of
from grapevine_lab.bench.server_members import BETWEEN_S, NO_BUFFERS, NUM_MEMBERS, STEP, Updates, moment_of, updates_of
from grapevine_proto.codec import open_envelope, seal
from grapevine_proto.errors import GrapevineError
from grapevine_proto.manifest import MergePlan
from grapevine_proto.messages import ModelUpdate
from grapevine_proto.signing import SigningKey
from grapevine_proto.topics import InboxTopic

NAME: Final = "judging"
SIZES: Final = {4_810: 200, 55_338: 60, 1_000_000: 4}  # parameters, and rounds of one repetition
STRATEGIES: Final = ("doubly-weighted", "age-weighted")
A_ROUND: Final = 8  # updates
TARGET: Final = Target(limit=0.15, at_most=True)
NUM_REPETITIONS: Final = 15
KEYS: Final = [SigningKey(bytes([number]) * 32) for number in range(NUM_MEMBERS)]


class NotMergedError(GrapevineError):
    """Updates were taken in, and not merged: what was measured is not a merge."""


def run(say: Callable[[str], None]) -> list[Figure]:
    """All sizes and strategies; about a minute."""
    found: list[Figure] = []
    for num_parameters, times in SIZES.items():
        say(f"{A_ROUND} updates a round of {num_parameters:,} parameters, {NUM_REPETITIONS} times {times} rounds")
        found += measure(num_parameters, times, NUM_REPETITIONS)
    return found


def missing() -> str:
    """Every machine can."""
    return ""


def measure(num_parameters: int, times: int, num_repetitions: int) -> list[Figure]:
    """The figures of one size."""
    updates, found = updates_of(num_parameters), []
    for strategy in STRATEGIES:
        plain, judging = (Member.of(strategy, updates, judges=judges) for judges in (False, True))
        of_merge, of_all, added = [], [], []
        for repetition in range(num_repetitions + 1):  # the first warms up
            (opening_s, plain_s), (_, judging_s) = plain.seconds(times), judging.seconds(times)
            if repetition:
                of_merge.append(judging_s / plain_s - 1)
                of_all.append((judging_s - plain_s) / (opening_s + plain_s))
                added.append((judging_s - plain_s) / A_ROUND)
        what = f"{strategy}, {num_parameters:,} parameters"
        found.append(figure(NAME, f"{what}: judging / merge", of_merge, target=TARGET))
        found.append(figure(NAME, f"{what}: judging / opening and merge", of_all, target=TARGET))
        found.append(figure(NAME, f"{what}: judging an update", added, unit="µs", scale=1e6))
    return found


@dataclass(kw_only=True)
class Member:
    """One that hears the others, and trains as they do."""

    merging: Merging
    updates: Updates
    num_rounds: int = 0

    @classmethod
    def of(cls, strategy: str, updates: Updates, *, judges: bool) -> Member:
        """One that has heard nobody yet."""
        manifest = floods.manifest("publisher", merging=MergePlan(strategy=strategy))
        started = moment_of(0, manifest.created_at_ms)
        merging = Merging(
            task="bench",
            peer="member",
            manifest=manifest,
            members=Members(heartbeat_s=BETWEEN_S, rng=np.random.default_rng(1)),
            layout=layout_of(updates.start.size),
            model=ModelState.initial(updates.start, NO_BUFFERS),
            servers={},
            started=started,
            rng=np.random.default_rng(0),
            round_interval_s=BETWEEN_S,
            judge_updates=judges,
        )
        return cls(merging=merging, updates=updates)

    def seconds(self, times: int) -> tuple[float, float]:
        """CPU time of one round, of so many: opening its messages, and the merge."""
        rounds = [self._round_s() for _ in range(times)]
        return sum(opening_s for opening_s, _ in rounds) / times, sum(merge_s for _, merge_s in rounds) / times

    def _round_s(self) -> tuple[float, float]:
        self.num_rounds += 1
        merging, number = self.merging, self.num_rounds
        plan = merging.manifest.training
        steps = number * plan.steps_per_round
        start = merging.model.parameters
        merging.model.parameters = start + STEP * self.updates.way
        merging.model.round, merging.model.age = number, steps
        merging.guard.trained(start, merging.model.parameters, plan.steps_per_round)
        gone = np.float32(number - 1) * STEP * self.updates.way
        senders = [(A_ROUND * number + place) % len(self.updates.vectors) for place in range(A_ROUND)]
        bodies = [
            ModelUpdate(
                task="bench",
                window=number,
                version=number,
                age=steps,
                experience=steps * plan.batch_size,
                samples=100,
                full=self.updates.vectors[sender] + gone,
            )
            for sender in senders
        ]
        topics = [InboxTopic("member", KEYS[sender].peer_id) for sender in senders]
        payloads = [
            seal(floods.message(topic.sender, body), topic, KEYS[sender])
            for sender, topic, body in zip(senders, topics, bodies, strict=True)
        ]
        now = moment_of(number, merging.manifest.created_at_ms)
        before, started_s = merging.num_merged, time.thread_time()
        messages = [open_envelope(payload, topic).message for payload, topic in zip(payloads, topics, strict=True)]
        opened_s = time.thread_time()
        for message in messages:
            assert isinstance(message.body, ModelUpdate)
            merging.accept(message.sender, message.body, now)
        merging.merge_gathered(now)
        merged_s = time.thread_time()
        if merging.num_merged == before:
            raise NotMergedError(f"nothing was merged in round {number}")
        return opened_s - started_s, merged_s - opened_s
