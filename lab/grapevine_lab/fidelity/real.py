"""The real run: a Mosquitto for each broker of the scenario, an engineer, two reviewers, and for each node a process.

A node's process is `grapevine agent run`. Whatever goes wrong on the way, every process is ended and the folder removed
before `run_real` returns or raises.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from grapevine_agent.control.client import call
from grapevine_broker.mosquitto import MosquittoBroker
from grapevine_lab.demo.children import Children
from grapevine_lab.demo.guarding import guarded
from grapevine_lab.fidelity.onlooker import Notes, Onlooker, Passed
from grapevine_lab.fidelity.people import People, Person, make_people
from grapevine_lab.simulator.brokers import BrokerPlan, Places
from grapevine_lab.simulator.experiment import Prepared, begin
from grapevine_proto.errors import GrapevineError
from grapevine_tasks.built import write_built

Say: TypeAlias = Callable[[str], None]
Status: TypeAlias = dict[str, Any]

HERE = "mqtt://127.0.0.1:{port}"
ROOT_PREFIX = "grapevine/fidelity-"
READY_S = 90.0  # for each step before learning begins, on a slow and busy machine
LATE_FACTOR = 6.0  # a run is given up after so many times the time that its rounds should take …
LEAST_LIMIT_S = 60.0  # … or this, if that is more
POLL_S = 0.2


@dataclass(frozen=True, kw_only=True)
class RealRun:
    """What came of one real run. Everything in `passed` was overheard; `rejected` is what agents say they dropped."""

    seed: int
    peers: tuple[str, ...]  # of the nodes, in their order
    passed: tuple[Passed, ...]
    rounds: tuple[int, ...]  # that each node had behind it at the end
    rejected: dict[str, int]
    load_before: float  # processes on the machine that wanted a core, over the last minute, when learning began
    load_after: float
    num_cores: int
    wall_s: float
    reached_limit: bool
    places: Places = ()  # the brokers of each node, as the scenario has them; none: all are at one
    gateways: tuple[int, ...] = ()
    servers: tuple[str, ...] = ()  # peers that aggregate: what they say is received, too


@dataclass(frozen=True, kw_only=True)
class Setting:
    """How a real run is set up and followed, where that is not as usual."""

    port: int = 0  # of its one broker; 0: a free one
    meet_port: int = 0  # where everybody reaches that broker; 0: there
    shortest_round_s: float | None = None  # that agents allow; None: as they have it by themselves
    started: Callable[[Sequence[int]], None] = lambda _pids: None  # told the agents' processes
    enough: Callable[[Notes], bool] | None = None  # asked whenever something was heard; None: the scenario's rounds


def run_real(
    prepared: Prepared, seed: int, *, say: Say, keep_logs: Path | None = None, setting: Setting | None = None
) -> RealRun:
    """Run a scenario that was found comparable, for one seed, on Mosquitto.

    Args:
        prepared: Checked.
        seed: Of the partition, as in the simulation. Agents draw the rest themselves.
        say: Is told how far it is.
        keep_logs: A folder for the processes' logs if it fails.
        setting: What is not as usual.

    Raises:
        BrokerError: There is no Mosquitto on this machine.
        GrapevineError: A process ended, or did not do its part in time.
    """
    return asyncio.run(_run(prepared, seed, say, keep_logs, setting or Setting()))


async def _run(prepared: Prepared, seed: int, say: Say, keep_logs: Path | None, setting: Setting) -> RealRun:
    with tempfile.TemporaryDirectory(prefix="grapevine-fidelity-") as name, ExitStack() as brokers:
        urls = [
            _url_at(brokers.enter_context(_broker(plan, setting.port)).url, plan) for plan in prepared.scenario.brokers
        ]
        folder = Path(name)
        root = ROOT_PREFIX + secrets.token_hex(4)
        simulated = begin(prepared, seed)
        people = await asyncio.to_thread(
            make_people,
            folder,
            urls=[HERE.format(port=setting.meet_port)] if setting.meet_port else urls,
            places=prepared.scenario.nodes.brokers,
            gateways=prepared.scenario.nodes.gateways,
            root=root,
            settings=simulated.world.devices[0].settings,
            shares=simulated.samples,
            contract=simulated.manifest.data,
            shortest_round_s=setting.shortest_round_s,
        )
        write_built(prepared.built, folder, folder / "task")
        (folder / "logs").mkdir()
        children = Children(folder / "logs", {"TMPDIR": name})
        onlooker = Onlooker(urls, root)
        story = _Story(prepared, seed, folder, people, children, onlooker, say, setting)
        listening = asyncio.create_task(onlooker.run(), name="onlooker")
        watching = asyncio.create_task(children.watch(), name="watch")
        try:
            return await guarded(story.tell(), [listening, watching])
        except GrapevineError:
            if keep_logs is not None:
                children.keep_logs(keep_logs)
            raise
        finally:
            for task in (watching, listening):
                task.cancel()
            await asyncio.gather(watching, listening, return_exceptions=True)
            await children.end_all()


def _broker(plan: BrokerPlan, port: int) -> MosquittoBroker:
    """A Mosquitto with the limit that the scenario's broker has."""
    if plan.packet_limit_bytes:
        return MosquittoBroker(port=port, max_packet_bytes=plan.packet_limit_bytes)
    return MosquittoBroker(port=port)


def _url_at(url: str, plan: BrokerPlan) -> str:
    """In MQTT 5 a broker says its limit, in 3.1.1 it closes the connection without a word."""
    return url if plan.packet_limit_announced else f"{url}?version=3.1.1"


class _Story:
    """What happens in a real run, in order."""

    def __init__(
        self,
        prepared: Prepared,
        seed: int,
        folder: Path,
        people: People,
        children: Children,
        onlooker: Onlooker,
        say: Say,
        setting: Setting,
    ) -> None:
        self._scenario = prepared.scenario
        self._interval_s = prepared.built.draft.training.round_interval_s
        self._seed = seed
        self._folder = folder
        self._people = people
        self._children = children
        self._onlooker = onlooker
        self._say = say
        self._setting = setting

    async def tell(self) -> RealRun:
        people, began_s = self._people, time.monotonic()
        async with asyncio.timeout(READY_S):
            await self._onlooker.connected.wait()
        self._say(f"seed {self._seed}: {len(people.all)} real agents start")
        for person in people.all:
            await self._children.start(person.name, ["grapevine_agent", "agent", "run", "--config", str(person.config)])
        self._setting.started(self._children.running_pids[-len(people.agents) :])
        num_others = len(people.all) - 1
        await self._all_of(people.all, lambda status: status["peers"]["alive"] >= num_others, "meet all the others")
        await self._publish()
        load_before = os.getloadavg()[0]
        in_time = await self._learn()
        load_after = os.getloadavg()[0]
        notes = self._onlooker.notes
        passed, rounds = tuple(notes.passed), tuple(notes.rounds.get(agent.peer_id, 0) for agent in people.agents)
        rejected = Counter(notes.rejected)
        for status in await asyncio.gather(*(_status(person) for person in people.all)):
            rejected.update(status["rejected"])
        return RealRun(
            seed=self._seed,
            peers=tuple(agent.peer_id for agent in people.agents),
            passed=passed,
            rounds=rounds,
            rejected=dict(rejected),
            load_before=load_before,
            load_after=load_after,
            num_cores=len(os.sched_getaffinity(0)),
            wall_s=time.monotonic() - began_s,
            reached_limit=not in_time,
            places=self._scenario.nodes.brokers,
            gateways=self._scenario.nodes.gateways,
        )

    async def _publish(self) -> None:
        """The engineer publishes, the reviewers approve; the last one's word sets the agents off."""
        people = self._people
        published = await _ask(people.engineer, "publish", {"folder": str(self._folder / "task"), "servers": []})
        task = str(published["task"])

        def knows(status: Status) -> bool:
            return any(line["id"] == task for line in status["tasks"])

        await self._all_of(people.all, knows, "hear of the task")
        for reviewer in people.reviewers:
            await _ask(reviewer, "review", {"task": task, "approved": True})

    async def _learn(self) -> bool:
        """Wait until every agent has its rounds behind it; whether they all had them in time."""
        notes, rounds, waits_for = self._onlooker.notes, self._scenario.rounds, self._setting.enough
        peers = [agent.peer_id for agent in self._people.agents]
        limit_s = READY_S + max(LEAST_LIMIT_S, LATE_FACTOR * rounds * self._interval_s)
        told = -1
        with suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                while (least := min(notes.rounds.get(peer, -1) for peer in peers)) < rounds or waits_for is not None:
                    if waits_for is not None and waits_for(notes):
                        return True
                    if least >= 0 and least // 10 > told:
                        told = least // 10
                        self._say(f"seed {self._seed}: round {least} of {rounds}")
                    self._onlooker.changed.clear()
                    await self._onlooker.changed.wait()
                return True
        if any(peer not in notes.rounds for peer in peers):
            status = await _status(self._people.agents[0])
            raise GrapevineError(f"an agent did not learn within {limit_s:g} s; the first one says: {status['tasks']}")
        return False

    async def _all_of(self, people: tuple[Person, ...], true: Callable[[Status], bool], what: str) -> None:
        """Wait until everybody's status is as it should be."""
        deadline_s = time.monotonic() + READY_S
        for person in people:
            while True:
                status: Status = {}
                with suppress(GrapevineError):
                    status = await _status(person)
                if status and true(status):
                    break
                if time.monotonic() > deadline_s:
                    raise GrapevineError(f"{person.name} did not {what} within {READY_S:g} s; it says: {status}")
                await asyncio.sleep(POLL_S)


async def _ask(person: Person, method: str, params: dict[str, Any] | None = None) -> Status:
    answer: Status = await asyncio.to_thread(call, person.socket, method, params)
    return answer


async def _status(person: Person) -> Status:
    return await _ask(person, "status")
