"""A swarm that nobody runs: the dashboard's state and patches, the same for the same seed, step by step."""

from __future__ import annotations

import math
import random
from typing import Any

BEGIN_MS = 1_780_000_000_000
STEP_MS = 250
HOUSEHOLD = (
    "kitchen", "shed", "attic", "greenhouse", "cellar", "garage",
    "porch", "workshop", "study", "barn", "pantry", "loft",
)  # fmt: skip
DIGITS = "67af7cf377e1"
PUMPS = "a8b787948925"
REASONS = ("stale-update", "bad-signature", "quota", "replayed", "too-large")
PROFILES = ("raspberry-pi-4b", "raspberry-pi-zero-2w", "raspberry-pi-5")
SERVER_DIES_AT = 0.55  # of the steps that are lived before anybody looks
SHOWN_ONE_BY_ONE = 300

State = dict[str, Any]


def curve(age: float, strength: float) -> float:
    """Accuracy after so many seconds: from a tenth, what guessing comes to, towards the peer's own best."""
    return 0.1 + (0.82 + 0.06 * strength) * (1 - math.exp(-age / 22)) * (0.9 + 0.1 * math.tanh(age / 60))


class MadeSwarm:
    """So many peers at some brokers, of which one is a server, and two tasks."""

    def __init__(
        self,
        num_peers: int,
        *,
        num_brokers: int = 2,
        seed: int = 1,
        steps: int = 480,
        server_dies_at: float = SERVER_DIES_AT,
    ) -> None:
        self.random = random.Random(seed)
        self.step = 0
        self.lived = steps
        self.server_dies_at = int(steps * server_dies_at)
        self.num_brokers = num_brokers
        self.peers: dict[str, State] = {}
        self.strength: dict[str, float] = {}
        self.links: dict[tuple[str, str], State] = {}
        self.rejected: dict[str, int] = {}
        self.totals = {"sent": 0, "received": 0, "merged": 0, "bytes": 0, "joules": 0.0}
        self.rates: list[list[float]] = []
        self.log: list[State] = []
        self.series: State = {DIGITS: {"peers": {}, "all": [], "staleness": []}}
        self.reviews = [self.review("ada", True, 4), self.review("grace", True, 9)]
        for number in range(num_peers):
            self.add_peer(number, num_peers)
        self.of = num_peers
        self.one_by_one = frozenset(list(self.peers)[:SHOWN_ONE_BY_ONE])
        for _ in range(steps):
            self.advance()

    # What is there ------------------------------------------------------------------------------------------------

    @property
    def now_ms(self) -> int:
        return BEGIN_MS + self.step * STEP_MS

    def review(self, name: str, approved: bool, at_s: float) -> State:
        return {
            "reviewer": f"reviewer{name}", "name": name, "approved": approved, "withdrawn": False,
            "reason": "small, and asks for no more than it needs" if approved else "",
            "at_ms": BEGIN_MS + int(at_s * 1000),
        }  # fmt: skip

    def add_peer(self, number: int, num_peers: int) -> None:
        role = "server" if number == 0 else "member"
        if number in (num_peers - 1, num_peers - 2):
            role = "engineer" if number == num_peers - 1 else "reviewer"
        name = HOUSEHOLD[number % 12] if num_peers <= 12 else f"pi-{number:04d}"
        if role != "member":
            name = {"server": "hub", "engineer": "marie", "reviewer": "ada"}[role]
        peer = f"{self.random.getrandbits(100):020x}"[:20]
        home = number % self.num_brokers
        brokers = [f"b{home}"]
        if number % 9 == 4 and self.num_brokers > 1:
            brokers.append(f"b{(home + 1) % self.num_brokers}")
        if number == 0:
            brokers = [f"b{broker}" for broker in range(self.num_brokers)]
        self.strength[peer] = self.random.uniform(-1, 1)
        self.peers[peer] = {
            "id": peer, "name": name, "role": role, "profile": PROFILES[number % 3], "state": "alive",
            "brokers": brokers, "site": f"site {home + 1}", "tasks": [DIGITS] if role in ("member", "server") else [],
            "own": number in (0, 1), "rejected": 0, "bytes_today": 0, "joules_today": 0.0 if number % 3 else None,
            "memory_mb": 62 + number % 30, "temperature_c": 41.0 + number % 17, "round": 0,
            "metric": None, "staleness": None,
        }  # fmt: skip

    def members(self) -> list[State]:
        return [peer for peer in self.peers.values() if peer["role"] == "member"]

    def say(self, peer: State, event: str, text: str, level: str = "info") -> None:
        self.log.append(
            {
                "at_ms": self.now_ms,
                "peer": peer["id"],
                "name": peer["name"],
                "event": event,
                "level": level,
                "text": text,
            }
        )

    # One step -----------------------------------------------------------------------------------------------------

    def advance(self) -> State:
        """Live for a quarter of a second, and say what changed."""
        self.step += 1
        before = len(self.log)
        changed: dict[str, State] = {}
        age = self.step * STEP_MS / 1000
        alive = [peer for peer in self.members() if peer["state"] == "alive"]
        sent, num_bytes = self.gossip(alive, changed)
        self.change_states(changed)
        points: State = {"peers": {}, "all": [], "staleness": []}
        for peer in alive:
            if (self.step + int(peer["id"], 16)) % 16 == 0:
                self.finish_round(peer, age, points)
                changed[peer["id"]] = peer
        if self.step % 4 == 0:
            self.summarise(points, age)
            self.rates.append([self.now_ms, sent * 4.0, num_bytes * 4.0])
        for key, told in points["peers"].items():
            self.series[DIGITS]["peers"].setdefault(key, []).extend(told)
        for key in ("all", "staleness"):
            self.series[DIGITS][key].extend(points[key])
        patch: State = {
            "now_ms": self.now_ms, "peers": [dict(peer) for peer in changed.values() if peer["id"] in self.one_by_one],
            "links": self.told_links(), "totals": dict(self.totals), "rejected": dict(self.rejected),
            "series": {DIGITS: points}, "log": self.log[before:],
        }  # fmt: skip
        if self.step % 4 == 0:
            patch["rates"] = self.rates[-1:]
            patch["tasks"] = self.tasks()
        del self.log[:-200]
        return patch

    def gossip(self, alive: list[State], changed: dict[str, State]) -> tuple[int, int]:
        busy = 1 + 0.45 * math.sin(self.step / 31) + self.random.uniform(-0.3, 0.3)
        sends = int(busy * max(1.1, len(alive) / 14) + self.random.random()) if len(alive) > 1 else 0
        server = next(iter(self.peers.values()))
        sizes = []
        for _ in range(sends):
            source, target = self.random.sample(alive, 2)
            if server["state"] == "alive" and self.random.random() < 0.35:
                source, target = (source, server) if self.random.random() < 0.7 else (server, target)
            link = self.links.setdefault(
                (source["id"], target["id"]),
                {"from": source["id"], "to": target["id"], "task": DIGITS, "num": 0, "bytes": 0, "last_ms": 0},
            )
            size = self.random.randint(12_000, 32_000)
            sizes.append(size)
            link.update(num=link["num"] + 1, bytes=link["bytes"] + size, last_ms=self.now_ms)
            source["bytes_today"] += size
            changed[source["id"]] = source
            self.totals["sent"] += 1
            self.totals["received"] += 1
            self.totals["bytes"] += size
            self.totals["joules"] = round(self.totals["joules"] + 0.4, 2)
            if self.random.random() < 0.02:
                reason = self.random.choice(REASONS)
                self.rejected[reason] = self.rejected.get(reason, 0) + 1
                target["rejected"] += 1
                self.say(target, "rejected", f"an update of {source['name']} was rejected: {reason}", "warning")
        return sends, sum(sizes)

    def told_links(self) -> list[State]:
        self.links = {key: link for key, link in self.links.items() if self.now_ms - link["last_ms"] <= 10_000}
        shown = [link for key, link in self.links.items() if self.one_by_one.issuperset(key)]
        return [dict(link) for link in shown[-600:]]

    def change_states(self, changed: dict[str, State]) -> None:
        server = next(iter(self.peers.values()))
        if self.step == self.server_dies_at:
            self.turn(server, "suspect", changed)
        if self.step == self.server_dies_at + 12:
            self.turn(server, "silent", changed)
        for place, (share, state) in enumerate(
            ((0.5, "asleep"), (0.62, "paused"), (0.97, "suspect"), (0.8, "offline"))
        ):
            for number, peer in enumerate(self.members()):
                if self.step == int(self.lived * share) and number % 41 == 3 + 2 * place:
                    self.turn(peer, state, changed)

    def turn(self, peer: State, state: str, changed: dict[str, State]) -> None:
        peer["state"] = state
        changed[peer["id"]] = peer
        kind = "server-changed" if peer["role"] == "server" else "peer-changed"
        self.say(peer, kind, f"{peer['name']} is {state}", "warning" if state in ("suspect", "silent") else "info")

    def finish_round(self, peer: State, age: float, points: State) -> None:
        peer["round"] += 1
        noise = self.random.gauss(0, 0.035) * math.exp(-age / 60)
        peer["metric"] = round(min(0.995, max(0.05, curve(age, self.strength[peer["id"]]) + noise)), 4)
        peer["staleness"] = round(1.2 + self.random.random() * 1.6, 2)
        if peer["joules_today"] is not None:
            peer["joules_today"] = round(peer["joules_today"] + 3.1, 1)
        self.totals["merged"] += 1
        told = self.series[DIGITS]["peers"]
        if peer["id"] in told or len(told) + len(points["peers"]) < 40:
            points["peers"][peer["id"]] = [[self.now_ms, peer["metric"]]]
        if self.random.random() < 0.3:
            self.say(
                peer, "merged",
                f"round {peer['round']} of Handwritten digits: {self.random.randint(1, 5)} models merged, "
                f"accuracy {peer['metric']:.1%}",
            )  # fmt: skip

    def summarise(self, points: State, age: float) -> None:
        metrics = sorted(peer["metric"] for peer in self.members() if peer["metric"] is not None)
        if not metrics:
            return
        mean = sum(metrics) / len(metrics)
        low, high = metrics[len(metrics) // 10], metrics[-1 - len(metrics) // 10]
        points["all"].append([self.now_ms, round(mean, 4), low, high, metrics[0], metrics[-1], len(metrics)])
        staleness = [peer["staleness"] for peer in self.members() if peer["staleness"] is not None]
        points["staleness"].append([self.now_ms, round(sum(staleness) / len(staleness), 3), 4.2])

    # The whole ----------------------------------------------------------------------------------------------------

    def tasks(self) -> list[State]:
        verdicts = [
            {
                "peer": peer["id"],
                "name": peer["name"],
                "standing": "approved",
                "why": "2 of 2 approvals",
                "joined": True,
            }
            for peer in self.members()[:60]
        ]
        waiting = [
            {"peer": peer["id"], "name": peer["name"], "standing": "rejected" if number == 2 else "waiting",
             "why": "vetoed by grace" if number == 2 else "0 of 2 approvals by trusted reviewers", "joined": False}
            for number, peer in enumerate(self.members()[:60])
        ]  # fmt: skip
        server = next(iter(self.peers.values()))
        marie = list(self.peers.values())[-1]
        digits = {
            "id": DIGITS, "name": "digits", "label": "Handwritten digits", "version": 2, "publisher": marie["id"],
            "publisher_name": "marie", "strategy": "delta-sum", "metric_name": "accuracy", "higher_is_better": True,
            "baseline": 0.1, "baseline_name": "guessing", "reviews": self.reviews, "verdicts": verdicts,
            "num_members": len(self.members()), "server": server["state"],
        }  # fmt: skip
        pumps = {
            "id": PUMPS, "name": "pumps", "label": "Vibration of pumps", "version": 1, "publisher": marie["id"],
            "publisher_name": "marie", "strategy": "scale-robust", "metric_name": "accuracy", "higher_is_better": True,
            "baseline": 0.25, "baseline_name": "most frequent", "verdicts": waiting, "num_members": 0, "server": None,
            "reviews": [{**self.review("grace", False, 12), "reason": "reads more of the sensor than it says"}],
        }  # fmt: skip
        return [digits, pumps]

    def brokers(self) -> list[State]:
        names = ("home", "workshop", "field", "harbour", "mill")
        return [
            {"id": f"b{number}", "name": names[number], "url": f"mqtts://{names[number]}.local:8883", "connected": True,
             "peers": sum(f"b{number}" in peer["brokers"] for peer in self.peers.values())}
            for number in range(self.num_brokers)
        ]  # fmt: skip

    def shown(self) -> State:
        rest = list(self.peers.values())[SHOWN_ONE_BY_ONE:]
        groups: dict[str, State] = {}
        for peer in rest:
            group = groups.setdefault(
                peer["site"],
                {"id": f"g-{peer['site']}", "name": peer["site"], "num": 0, "state": {}, "broker": peer["brokers"][0]},
            )
            group["num"] += 1
            group["state"][peer["state"]] = group["state"].get(peer["state"], 0) + 1
        return {"peers": min(self.of, SHOWN_ONE_BY_ONE), "of": self.of, "groups": list(groups.values())}

    def snapshot(self) -> State:
        """Everything, as a page that is just opened is told it."""
        actions = ["approve", "reject", "pause", "resume", "partition", "heal", "kill", "restart"]
        return {
            "title": "A household learns" if self.of < 100 else f"{self.of} devices learn", "now_ms": self.now_ms,
            "source": {"kind": "lab", "name": "household", "actions": actions}, "brokers": self.brokers(),
            "peers": [dict(peer) for peer in list(self.peers.values())[:SHOWN_ONE_BY_ONE]], "tasks": self.tasks(),
            "series": self.series, "links": self.told_links(), "rejected": self.rejected, "totals": self.totals,
            "rates": self.rates[-600:], "log": self.log[-200:], "shown": self.shown(),
        }  # fmt: skip

    def detail(self, peer_id: str) -> State | None:
        """What the page asks for when somebody opens a peer."""
        peer = self.peers.get(peer_id)
        if peer is None:
            return None
        others = [other for other in self.members() if other is not peer][:4]
        return {
            "peer": peer, "curves": {DIGITS: self.series[DIGITS]["peers"].get(peer_id, [])},
            "shares": [
                {"task": DIGITS, "round": peer["round"], "by": "arrival", "at_ms": self.now_ms,
                 "shares": {peer_id: 0.6, **{other["id"]: 0.1 for other in others}}},
            ],
            "traffic": [
                {"peer": other["id"], "name": other["name"], "sent": 4 + place, "sent_bytes": 90_000,
                 "received": 3, "received_bytes": 64_000}
                for place, other in enumerate(others)
            ],
            "verdicts": [
                {"task": DIGITS, "label": "Handwritten digits", "standing": "approved",
                 "why": "2 of 2 approvals", "joined": True},
                {"task": PUMPS, "label": "Vibration of pumps", "standing": "waiting",
                 "why": "0 of 2 approvals by trusted reviewers", "joined": False},
            ],
            "log": [line for line in self.log if line["peer"] == peer_id][-100:],
        }  # fmt: skip
