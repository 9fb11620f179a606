"""What happens in the demo, in order.

services start, two tasks are built ─▶ the engineer publishes both, reviewers approve one
    ─▶ time 0: agents join it and learn ─▶ ⅓: the server starts ─▶ ⅔: it is killed
    ─▶ end: a last look at everybody, and at the twins that learned alone
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from grapevine_lab.demo.cast import NUM_REVIEWERS, Actor, Cast
from grapevine_lab.demo.children import Child, Children
from grapevine_lab.demo.display import Row, Scene, Voice
from grapevine_lab.demo.findings import Findings, Status, status_of, tasks_of
from grapevine_lab.demo.guarding import guarded
from grapevine_lab.demo.listening import Listener
from grapevine_lab.demo.plan import DemoError, DemoPlan
from grapevine_lab.demo.tasks import copy_task, copy_task_renamed
from grapevine_lab.demo.twins import Twins
from grapevine_proto.errors import GrapevineError

AGENT = "grapevine_agent"
READY_S = 60.0  # for services to start, on a slow and busy board
POLL_S = 0.2
SHOW_EVERY_S = 0.5


class Story:
    """One run of the demo, once its broker, its people and its ears are there."""

    def __init__(
        self, *, plan: DemoPlan, voice: Voice, folder: Path, cast: Cast, listener: Listener, children: Children
    ) -> None:
        self._plan = plan
        self._voice = voice
        self._folder = folder
        self._cast = cast
        self._listener = listener
        self._children = children
        self._twins = Twins(cast.agents)
        self._num_asked = {actor.peer_id: 0 for actor in cast.agents}  # evaluations that a twin was asked for
        self._task_folder = folder / "task"
        self._other_folder = folder / "unreviewed-task"
        self._task = self._other_task = ""
        self._killed_s: float | None = None
        self._statuses: dict[str, Status] = {}
        self._seen_server = "unknown"

    async def tell(self) -> Findings:
        """Everything, in order."""
        await self._gather()
        await self._publish()
        await self._approve()
        await self._begin()
        await self._twins.start(self._children, self._task_folder, self._plan.seed)
        reading = asyncio.create_task(self._twins.read(), name="twins")
        try:
            background = [asyncio.create_task(work) for work in (self._follow(), self._show(), self._play_server())]
            try:
                await guarded(asyncio.sleep(self._plan.timeline.duration_s), [*background, reading])
            finally:
                for each in background:
                    each.cancel()
                await asyncio.gather(*background, return_exceptions=True)
            duration_s = self._listener.now_s()
            self._listener.hearing.is_over = True
            self._voice.show(self._scene())
            self._voice.say("learning ends; a last look at every agent, and at its twin that learned alone")
            await self._look_around()
            await self._ask_twins()
            await self._twins.finish(reading)
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
        return Findings(
            cast=self._cast,
            task=self._task,
            unapproved_task=self._other_task,
            duration_s=duration_s,
            killed_s=self._killed_s,
            hearing=self._listener.hearing,
            alone=self._twins.series,
            statuses=self._statuses,
        )

    # --- before learning --------------------------------------------------------------------------

    async def _gather(self) -> None:
        """Start the services and build the tasks, all at the same time."""
        cast, say = self._cast, self._voice.say
        await self._listener.connected.wait()
        if self._plan.dashboard_port is not None:
            words = ["grapevine_lab.demo.showing", str(self._folder), str(self._plan.dashboard_port)]
            say(await self._children.first_line(await self._children.start("dashboard", words, talks=True)))
        num_agents = len(cast.agents)
        say(f"{num_agents} agents, an engineer and {NUM_REVIEWERS} reviewers start: each a process with its own key")
        for actor in cast.agents:
            if actor.share is not None:
                digits = " ".join(map(str, actor.share.classes))
                say(f"  {actor.name} ({actor.peer_id}): {actor.share.num_samples} images of the digits {digits}")
        name, other = copy_task(self._task_folder), copy_task_renamed(self._other_folder)
        people = (*cast.agents, cast.engineer, *cast.reviewers)
        for actor in people:
            await self._children.start(actor.name, [AGENT, "agent", "run", "--config", str(actor.config)])
        say(f"the engineer builds two tasks: {name!r} and {other!r}")
        await asyncio.gather(
            *(self._run("build", "task", "build", str(each)) for each in (self._task_folder, self._other_folder)),
            *(self._until(actor, lambda status: bool(status["connected"]), "connect") for actor in people),
        )

    async def _publish(self) -> None:
        server = ["--server", self._cast.server.peer_id]
        self._task = await self._publish_one(self._task_folder, server)
        self._other_task = await self._publish_one(self._other_folder, [])
        self._voice.say(f"the engineer published both: {self._task[:12]} and {self._other_task[:12]}")

    async def _publish_one(self, folder: Path, options: Sequence[str]) -> str:
        config = ["--config", str(self._cast.engineer.config), "--json"]
        output = await self._run("publish", "task", "publish", str(folder), *options, *config)
        return str(json.loads(output)["task"])

    async def _approve(self) -> None:
        async def approve(reviewer: Actor) -> None:
            await self._until(reviewer, lambda status: self._task in tasks_of(status), "hear of the task")
            await self._run("approve", "review", "approve", self._task, "--config", str(reviewer.config), "--json")
            self._voice.say(f"{reviewer.name} approved {self._task[:12]}; {self._other_task[:12]} gets no review")

        await asyncio.gather(*(approve(reviewer) for reviewer in self._cast.reviewers))

    async def _begin(self) -> None:
        self._voice.say("each agent joins it, fetches its first weights and starts PyTorch, which takes a while")
        try:
            async with asyncio.timeout(READY_S):
                await self._listener.learning.wait()
        except TimeoutError:
            status = await status_of(self._cast.agents[0])
            why = tasks_of(status).get(self._task, {}).get("why") or "it has joined"
            raise DemoError(f"no agent learns after {READY_S:g} s; {self._cast.agents[0].name} says: {why}") from None

    # --- while they learn -------------------------------------------------------------------------

    async def _follow(self) -> None:
        """Pass news on to the twins, and tell what is remarkable."""
        joined: set[str] = set()
        while True:
            peer, metrics = await self._listener.news.get()
            if metrics.task != self._task:
                continue
            if peer not in joined:
                joined.add(peer)
                if len(joined) == len(self._cast.agents):
                    self._voice.say("all agents joined it, train on their own images and gossip their models")
                    await self._explain_refusal()
            await self._ask_twins()
            self._tell_of_server()

    async def _ask_twins(self) -> None:
        """Ask for what was heard since the last time."""
        for peer, points in self._listener.hearing.series.items():
            for point in points[self._num_asked[peer] :]:
                await self._twins.ask(peer, point)
            self._num_asked[peer] = len(points)

    async def _explain_refusal(self) -> None:
        agent = self._cast.agents[0]
        with contextlib.suppress(GrapevineError):
            status = await status_of(agent)
            why = tasks_of(status).get(self._other_task, {}).get("why")
            self._voice.say(f"{agent.name} on the other task: not joined ({why or 'not heard of yet'})")

    def _tell_of_server(self) -> None:
        """Say so when all agents agree on the server anew."""
        newest = self._listener.hearing.newest
        views = {newest[actor.peer_id].server if actor.peer_id in newest else "" for actor in self._cast.agents}
        view = views.pop()
        if views or view in ("", self._seen_server):
            return
        self._seen_server = view
        meaning = {
            "reachable": "they send it their models, and gossip less",
            "suspect": "they are back at full gossip",
            "lost": "they learn on as before",
        }
        self._voice.say(f"all agents see the server as {view}: {meaning.get(view, 'nothing changes')}")

    async def _show(self) -> None:
        while True:
            self._voice.show(self._scene())
            await asyncio.sleep(SHOW_EVERY_S)

    def _scene(self) -> Scene:
        hearing = self._listener.hearing
        rows = []
        for actor in self._cast.agents:
            together, alone = hearing.series[actor.peer_id], self._twins.series[actor.peer_id]
            metrics = hearing.newest.get(actor.peer_id)
            rows.append(
                Row(
                    name=actor.name,
                    classes=actor.share.classes if actor.share else (),
                    together=together[-1].accuracy if together else None,
                    alone=alone[-1].accuracy if alone else None,
                    history=tuple(point.accuracy for point in together),
                    server=metrics.server if metrics else "unknown",
                )
            )
        return Scene(t_s=self._listener.now_s(), timeline=self._plan.timeline, rows=tuple(rows))

    async def _play_server(self) -> None:
        """The server comes at its time, and is killed at its time."""
        timeline, server = self._plan.timeline, self._cast.server
        if timeline.server_appears_s is None or timeline.server_killed_s is None:
            return
        await asyncio.sleep(timeline.server_appears_s - self._listener.now_s())
        child = await self._children.start(server.name, [AGENT, "server", "run", "--config", str(server.config)])
        self._voice.say(f"a server ({server.peer_id}) starts: an ordinary peer that aggregates what it is sent")
        await asyncio.sleep(timeline.server_killed_s - self._listener.now_s())
        await self._kill_server(child)

    async def _kill_server(self, child: Child) -> None:
        with contextlib.suppress(GrapevineError):  # what it counted is lost with it
            self._statuses[self._cast.server.peer_id] = await status_of(self._cast.server)
        await self._children.kill(child)
        self._killed_s = self._listener.now_s()
        self._voice.say(f"the server is killed (SIGKILL to process {child.process.pid})")

    # --- afterwards -------------------------------------------------------------------------------

    async def _look_around(self) -> None:
        people = (*self._cast.agents, self._cast.engineer, *self._cast.reviewers)
        statuses = await asyncio.gather(*(status_of(actor) for actor in people))
        self._statuses |= {actor.peer_id: status for actor, status in zip(people, statuses, strict=True)}

    # --- asking -----------------------------------------------------------------------------------

    async def _run(self, name: str, *arguments: str) -> str:
        return await self._children.run(name, [AGENT, *arguments])

    async def _until(self, actor: Actor, true: Callable[[Status], bool], what: str) -> None:
        """Wait until an actor's status is as it should be."""
        deadline_s = time.monotonic() + READY_S
        trouble = ""
        while time.monotonic() < deadline_s:
            try:
                status = await status_of(actor)
            except GrapevineError as error:
                trouble = str(error)
            else:
                if true(status):
                    return
                trouble = str(status.get("trouble", ""))
            await asyncio.sleep(POLL_S)
        raise DemoError(f"{actor.name} did not {what} within {READY_S:g} s ({trouble}): is this machine overloaded?")
