"""Events of a swarm that nobody has run: as many peers as wanted, for what takes events, such as the dashboard.

python -m grapevine_lab.bench.made_events --peers 200 --seconds 120 > events.jsonl
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import sys
from collections.abc import Iterator
from typing import Any, Final

TASK: Final = hashlib.sha256(b"digits").hexdigest()
REFUSED: Final = hashlib.sha256(b"faces").hexdigest()
BEGIN_MS: Final = 1_770_000_000_000
ROUND_S: Final = 4.0
UPDATE_BYTES: Final = 24_000
REASONS: Final = ("signature", "replayed", "too-large", "unknown-task")
ABOUT: Final = {"task": TASK, "label": "digits"}


class MadeSwarm:
    """Members, a server, an engineer and two reviewers at some brokers; everything follows from the seed."""

    def __init__(self, num_peers: int, *, num_brokers: int = 2, seed: int = 0) -> None:
        self._random = random.Random(seed)
        self.members = [_id_of(f"member {each}") for each in range(num_peers)]
        self.server, self.engineer = _id_of("server"), _id_of("engineer")
        self.reviewers = [_id_of("reviewer 0"), _id_of("reviewer 1")]
        self._brokers = [f"mqtt://broker-{each}.local:1883" for each in range(num_brokers)]
        self._rounds = dict.fromkeys(self.members, 0)
        self._gift = {peer: self._random.uniform(0.85, 1.1) for peer in self.members}
        self._number = 0

    def events(self, seconds: float) -> Iterator[dict[str, Any]]:
        """All events of so many seconds, in the order of their times."""
        yield from self._begin()
        step_s = ROUND_S / len(self.members)
        for turn in range(int(seconds / step_s)):
            at_ms = BEGIN_MS + 2_000 + int(turn * step_s * 1e3)
            peer = self.members[turn % len(self.members)]
            yield from self._round(peer, at_ms)
            yield from self._now_and_then(turn, at_ms)

    def _begin(self) -> Iterator[dict[str, Any]]:
        everybody = [*self.members, self.server, self.engineer, *self.reviewers]
        named = dict(zip(everybody, self._names(), strict=True))
        for place, peer in enumerate(everybody):
            broker = place % len(self._brokers)
            url = self._brokers[broker]
            yield self._event(
                "broker-changed",
                peer,
                BEGIN_MS,
                f"connected to {url}",
                broker=broker,
                url=url,
                is_connected=True,
                why="",
            )
            teller = everybody[place - 1]
            yield self._event(
                "peer-changed", teller, BEGIN_MS, f"{named[peer]} is there", other=peer, name=named[peer], state="alive"
            )
        for reviewer in self.reviewers:
            for task, label, approved in ((TASK, "digits", True), (REFUSED, "faces", False)):
                yield self._event(
                    "reviewed",
                    reviewer,
                    BEGIN_MS + 500,
                    f"{label}: {'approved' if approved else 'rejected'}",
                    task=task,
                    label=label,
                    reviewer=reviewer,
                    approved=approved,
                    withdrawn=False,
                    reason="" if approved else "faces of people who were not asked",
                    counts=True,
                )
        for peer in self.members:
            for task, label, standing in ((TASK, "digits", "approved"), (REFUSED, "faces", "rejected")):
                yield self._event(
                    "judged",
                    peer,
                    BEGIN_MS + 900,
                    f"{label}: {standing}",
                    task=task,
                    label=label,
                    standing=standing,
                    why="2 of 2 reviewers" if standing == "approved" else "rejected by reviewer 0",
                    publisher=self.engineer,
                )
            yield self._event(
                "joined", peer, BEGIN_MS + 1_000, "digits: joined", **ABOUT, role="member", begins_with=""
            )
        yield self._event(
            "joined", self.server, BEGIN_MS + 1_000, "digits: serving", **ABOUT, role="server", begins_with=""
        )

    def _names(self) -> list[str]:
        members = [f"device {each:04d}" for each in range(len(self.members))]
        return [*members, "server", "engineer", "reviewer 0", "reviewer 1"]

    def _round(self, peer: str, at_ms: int) -> Iterator[dict[str, Any]]:
        draw = self._random
        self._rounds[peer] = number = self._rounds[peer] + 1
        metric = min(0.99, self._gift[peer] * (0.95 - 0.85 * 0.85**number) + draw.gauss(0, 0.01))
        others = draw.sample(self.members, min(3, len(self.members)))
        yield from self._learns(peer, at_ms, number, metric, others)
        for other in others[:2]:
            if other != peer:
                yield from self._sends(peer, other, at_ms, number)

    def _learns(self, peer: str, at_ms: int, number: int, metric: float, others: list[str]) -> Iterator[dict[str, Any]]:
        yield self._event(
            "trained",
            peer,
            at_ms,
            f"digits: round {number}",
            level="debug",
            **ABOUT,
            round=number,
            version=number,
            age=10 * number,
            num_steps=10,
            num_samples=320,
            loss=1 - metric,
            seconds=0.4,
            joules=1.5,
        )
        yield self._event(
            "merged",
            peer,
            at_ms,
            f"digits: merged {len(others)} models",
            level="debug",
            **ABOUT,
            round=number,
            shares={other: 1 / (1 + len(others)) for other in others},
            num_models=len(others),
            by="round",
        )
        yield self._event(
            "measured",
            peer,
            at_ms,
            f"digits: round {number}, accuracy {metric:.3f}",
            **ABOUT,
            round=number,
            age=10 * number,
            metric_name="accuracy",
            metric=metric,
            loss=1 - metric,
            num_evaluated=200,
            baseline=0.1,
            baseline_name="most frequent class",
            best={"metric": metric, "age": 10 * number, "version": number, "num_evaluated": 200},
            staleness=self._random.uniform(0, 3),
            staleness_bound=6.0,
            server="present",
            num_peers=len(self.members) - 1,
            energy_j=1.5 * number,
            round_energy_j=1.5,
        )

    def _sends(self, peer: str, other: str, at_ms: int, number: int) -> Iterator[dict[str, Any]]:
        about: dict[str, Any] = {**ABOUT, "what": "update", "num_bytes": UPDATE_BYTES, "level": "debug"}
        yield self._event("sent", peer, at_ms, "digits: update sent", **about, receiver=other)
        claims: dict[str, Any] = {"version": number, "age": 10 * number}
        yield self._event("received", other, at_ms + 40, "digits: update received", **about, **claims, sender=peer)

    def _now_and_then(self, turn: int, at_ms: int) -> Iterator[dict[str, Any]]:
        draw = self._random
        if turn % 37 == 0:
            peer, sender, reason = draw.choice(self.members), draw.choice(self.members), draw.choice(REASONS)
            yield self._event(
                "rejected", peer, at_ms, f"a message was not taken: {reason}", sender=sender, reason=reason, detail=""
            )
        if turn % 101 == 100:
            teller, other = draw.sample(self.members, 2) if len(self.members) > 1 else self.members * 2
            state = draw.choice(("suspect", "silent", "asleep"))
            yield self._event(
                "peer-changed", teller, at_ms, f"a peer is {state}", other=other, name="", state=state, level="debug"
            )

    def _event(
        self, kind: str, peer: str, at_ms: int, text: str, *, level: str = "info", **fields: Any
    ) -> dict[str, Any]:
        self._number += 1
        told = {"event": kind, "number": self._number, "at_ms": at_ms, "peer": peer, "level": level, "text": text}
        return {**told, **fields}


def _id_of(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:32]


def main() -> None:
    """Write them, one a line."""
    parser = argparse.ArgumentParser(description="Write made events, one a line.")
    parser.add_argument("--peers", type=int, default=20)
    parser.add_argument("--brokers", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    swarm = MadeSwarm(max(2, asked.peers), num_brokers=max(1, asked.brokers), seed=asked.seed)
    for event in swarm.events(asked.seconds):
        sys.stdout.write(json.dumps(event, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
