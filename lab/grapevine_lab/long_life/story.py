"""What happens in a long life with real agents, in order.

An onlooker on the broker hears every update; each says whose work, up to which version, is in its sender's model.
So it can be seen from outside whether everybody still takes in something of everybody else.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import psutil

from grapevine_agent.control.client import call
from grapevine_broker import RunningBroker, start_broker
from grapevine_lab.demo.children import Child, Children
from grapevine_lab.demo.guarding import guarded
from grapevine_lab.fidelity.onlooker import Onlooker
from grapevine_lab.fidelity.people import People, Person, make_people
from grapevine_lab.long_life.agent import set_clock
from grapevine_lab.long_life.plan import LifeTold, LongLife, Outage
from grapevine_lab.scenarios import find_scenario
from grapevine_lab.simulator.experiment import Prepared, begin, prepare
from grapevine_lab.simulator.scenario import read_scenario
from grapevine_proto.errors import GrapevineError
from grapevine_tasks.built import write_built

Say: TypeAlias = Callable[[str], None]

ROOT_PREFIX = "grapevine/long-life-"
READY_S = 120.0  # for each step before learning begins, on a slow and busy machine
POLL_S = 0.25
MB = 1024 * 1024


def live(plan: LongLife, *, say: Say, keep_logs: Path | None = None) -> LifeTold:
    """Let real agents live as planned.

    Args:
        plan: How long, and what happens.
        say: Is told how far it is.
        keep_logs: A folder for the processes' logs, if it does not end well.

    Raises:
        BrokerError: There is no Mosquitto on this machine.
        GrapevineError: A process ended, or did not do its part in time.
    """
    changes = (
        f"nodes.num={plan.num_agents}",
        f"nodes.heartbeat_s={plan.heartbeat_s}",
        f"task.training.round_interval_s={plan.round_s}",
    )
    return asyncio.run(_live(plan, prepare(read_scenario(find_scenario("fidelity"), changes=changes)), say, keep_logs))


async def _live(plan: LongLife, prepared: Prepared, say: Say, keep_logs: Path | None) -> LifeTold:
    with tempfile.TemporaryDirectory(prefix="grapevine-long-life-") as name, start_broker("mosquitto") as broker:
        folder, root = Path(name), ROOT_PREFIX + secrets.token_hex(4)
        simulated = begin(prepared, plan.seed)
        people = await asyncio.to_thread(
            make_people,
            folder,
            urls=[broker.url],
            root=root,
            settings=simulated.world.devices[0].settings,
            shares=simulated.samples,
            contract=simulated.manifest.data,
        )
        write_built(prepared.built, folder, folder / "task")
        (folder / "logs").mkdir()
        children = Children(folder / "logs", {"TMPDIR": name})
        onlooker = Onlooker([broker.url], root)
        story = _Story(plan, folder, people, children, onlooker, broker, say)
        listening = asyncio.create_task(onlooker.run(), name="onlooker")
        watching = asyncio.create_task(children.watch(), name="watch")
        told: LifeTold | None = None
        try:
            told = await guarded(story.tell(), [listening, watching])
            return told
        finally:
            if keep_logs is not None and (told is None or not told.holds):
                children.keep_logs(keep_logs)
            for task in (watching, listening):
                task.cancel()
            await asyncio.gather(watching, listening, return_exceptions=True)
            await children.end_all()


class _Story:
    """See the module's docstring."""

    def __init__(
        self,
        plan: LongLife,
        folder: Path,
        people: People,
        children: Children,
        onlooker: Onlooker,
        broker: RunningBroker,
        say: Say,
    ) -> None:
        self._plan = plan
        self._folder = folder
        self._people = people
        self._children = children
        self._onlooker = onlooker
        self._broker = broker
        self._say = say
        self._rng = random.Random(plan.seed)
        self._clock = folder / "clock-of-agent-0"
        self._task = ""

    async def tell(self) -> LifeTold:
        agents = self._people.agents
        async with asyncio.timeout(READY_S):
            await self._onlooker.connected.wait()
        processes = await self._start()
        await self._publish()
        await self._heal(READY_S, {}, what="first learn together")
        began_s = time.monotonic()
        outages: list[Outage] = []
        memory: list[float] = []
        while (next_s := began_s + (len(outages) + 1) * self._plan.outage_every_s) <= began_s + self._plan.duration_s:
            await asyncio.sleep(max(0.0, next_s - time.monotonic()))
            outages.append(await self._outage(len(outages) + 1, began_s))
            memory = memory or [_memory_mb(child) for child in processes]
        lost = await self._lost()
        return LifeTold(
            plan=self._plan,
            outages=tuple(outages),
            lost=tuple(lost),
            rounds=tuple(self._onlooker.notes.rounds.get(agent.peer_id, 0) for agent in agents),
            memory_mb=tuple(zip(memory, [_memory_mb(child) for child in processes], strict=True)),
        )

    async def _start(self) -> list[Child]:
        """Start everybody, the first agent with a clock that can be set; the agents' processes."""
        people = self._people
        self._say(f"{len(people.all)} real agents start")
        found: list[Child] = []
        for person in people.all:
            command = ["grapevine_agent.serve", "member", "1.0", str(person.config)]
            if person is people.agents[0]:
                command = ["grapevine_lab.long_life.agent", *command[1:], str(self._clock)]
            child = await self._children.start(person.name, command)
            if person in people.agents:
                found.append(child)
        await self._until(partial(self._all_meet, len(people.all) - 1), READY_S, "everybody to meet")
        return found

    async def _publish(self) -> None:
        people = self._people
        published = await _ask(people.engineer, "publish", {"folder": str(self._folder / "task"), "servers": []})
        self._task = str(published["task"])
        for reviewer in people.reviewers:
            await self._until(partial(self._knows_task, reviewer), READY_S, "a reviewer to hear of it")
            await _ask(reviewer, "review", {"task": self._task, "approved": True})

    async def _outage(self, number: int, began_s: float) -> Outage:
        """The broker is killed and comes back with nothing; how long it takes until all is well again."""
        dark_s, at_s = self._rng.uniform(*self._plan.outage_s), time.monotonic()
        ahead_s = self._plan.clock_ahead_s if number % 2 else 0.0
        set_clock(self._clock, ahead_s)
        self._broker.kill()
        await asyncio.sleep(dark_s)
        self._broker.start()  # here, not in a thread: its process ends with the thread that started it
        known_s, merged_s = await self._heal(self._plan.heals_within_s, self._newest())
        outage = Outage(
            number=number,
            at_s=at_s - began_s,
            dark_s=dark_s,
            clock_ahead_s=ahead_s,
            known_s=known_s,
            merged_s=merged_s,
        )
        self._say(
            f"outage {number}: {dark_s:.0f} s dark, known again after {_seconds(known_s)}, "
            f"merged again after {_seconds(merged_s)}"
        )
        return outage

    async def _heal(
        self, within_s: float, before: dict[str, int], *, what: str = ""
    ) -> tuple[float | None, float | None]:
        """Wait until everybody counts on everybody, and has merged something newer than `before` of everybody."""
        known_s: float | None = None
        merged_s: float | None = None
        began_s, first = time.monotonic(), len(self._onlooker.notes.passed)
        while time.monotonic() - began_s < within_s and (known_s is None or merged_s is None):
            if known_s is None and await self._all_count_on_all():
                known_s = time.monotonic() - began_s
            if merged_s is None and not self._unmerged(before, first):
                merged_s = time.monotonic() - began_s
            await asyncio.sleep(POLL_S)
        if what and (known_s is None or merged_s is None):
            raise GrapevineError(f"the agents did not {what} within {within_s:g} s")
        return known_s, merged_s

    def _newest(self) -> dict[str, int]:
        """Each agent's newest version that was overheard."""
        newest: dict[str, int] = {}
        for passed in self._onlooker.notes.passed:
            for peer, version in passed.versions.items():
                newest[peer] = max(version, newest.get(peer, 0))
        return newest

    def _unmerged(self, before: dict[str, int], first: int) -> list[tuple[str, str]]:
        """Who (by name) has, in what was overheard from the `first` message on, nothing newer than `before` of whom."""
        held: dict[str, dict[str, int]] = {}
        for passed in self._onlooker.notes.passed[first:]:
            for peer, version in passed.versions.items():
                of_sender = held.setdefault(passed.sender, {})
                of_sender[peer] = max(version, of_sender.get(peer, 0))
        agents = self._people.agents
        return [
            (agent.name, other.name)
            for agent in agents
            for other in agents
            if held.get(agent.peer_id, {}).get(other.peer_id, 0) <= before.get(other.peer_id, 0)
        ]

    async def _lost(self) -> list[str]:
        """Who is lost at the end: a last look, with as much time as an outage has to heal."""
        before, first = self._newest(), len(self._onlooker.notes.passed)
        known_s, _ = await self._heal(self._plan.heals_within_s, before)
        lost = [f"{who} has nothing new of {whom}" for who, whom in self._unmerged(before, first)]
        if known_s is None:
            lost += [
                f"{agent.name} counts on {await self._num_peers(agent)} of {len(self._people.agents) - 1} others"
                for agent in self._people.agents
                if await self._num_peers(agent) < len(self._people.agents) - 1
            ]
        return lost

    # --- what agents say --------------------------------------------------------------------------

    async def _until(self, is_so: Callable[[], Awaitable[bool]], within_s: float, what: str) -> None:
        deadline_s = time.monotonic() + within_s
        while not await is_so():
            if time.monotonic() > deadline_s:
                raise GrapevineError(f"waited {within_s:g} s in vain for {what}")
            await asyncio.sleep(POLL_S)

    async def _all_meet(self, num_others: int) -> bool:
        return all([(await _status(each)).get("peers", {}).get("alive", 0) >= num_others for each in self._people.all])

    async def _knows_task(self, person: Person) -> bool:
        return any(line["id"] == self._task for line in (await _status(person)).get("tasks", ()))

    async def _all_count_on_all(self) -> bool:
        agents: Sequence[Person] = self._people.agents
        return all([await self._num_peers(agent) == len(agents) - 1 for agent in agents])

    async def _num_peers(self, agent: Person) -> int:
        """How many others a connected agent counts on."""
        status = await _status(agent)
        lines = status.get("tasks", ()) if status.get("connected") else ()
        return next((int(line.get("peers", 0)) for line in lines if line["id"] == self._task), 0)


def _seconds(seconds: float | None) -> str:
    return "never" if seconds is None else f"{seconds:.1f} s"


def _memory_mb(child: Child) -> float:
    """What the service has in memory, without its trainer, which is a process of its own."""
    process = psutil.Process(child.process.pid)
    return float(process.memory_info().rss) / MB


async def _ask(person: Person, method: str, params: dict[str, Any] | None = None) -> dict[str, Any]:
    answer: dict[str, Any] = await asyncio.to_thread(call, person.socket, method, params)
    return answer


async def _status(person: Person) -> dict[str, Any]:
    with suppress(GrapevineError):
        return await _ask(person, "status")
    return {}
