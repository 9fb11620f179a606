"""From what was heard on the overlay, and what services said of themselves, to the report."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from grapevine_agent.control.client import call
from grapevine_lab.demo.cast import Actor, Cast
from grapevine_lab.demo.listening import Hearing, Point
from grapevine_lab.demo.report import PeerResult, Person, Report, ServerTimes, mean_of_last
from grapevine_lab.pages.versions import versions_here

Status: TypeAlias = dict[str, Any]


async def status_of(actor: Actor) -> Status:
    """What the service of an actor answers to `grapevine status`. Raises GrapevineError if it does not."""
    status: Status = await asyncio.to_thread(call, actor.socket, "status")
    return status


def tasks_of(status: Status) -> dict[str, Status]:
    """The tasks that a service knows, by their ids."""
    return {str(task["id"]): task for task in status["tasks"]}


@dataclass(frozen=True, kw_only=True)
class Findings:
    """Everything that was seen. Times are seconds since learning began.

    `alone` are the twins' series by peer, `statuses` the last status of each peer.
    """

    cast: Cast
    task: str
    unapproved_task: str
    duration_s: float
    killed_s: float | None
    hearing: Hearing
    alone: Mapping[str, Sequence[Point]]
    statuses: Mapping[str, Status]

    def to_report(self, *, total_s: float, seed: int, broker_engine: str, broker_url: str, with_server: bool) -> Report:
        """The report; what is not known of the demo itself is given."""
        server = ServerTimes(appeared_s=self.hearing.server_appeared_s(), killed_s=self.killed_s)
        return Report(
            duration_s=self.duration_s,
            total_s=total_s,
            seed=seed,
            broker_engine=broker_engine,
            broker_url=broker_url,
            mqtt_version=str(self.statuses[self.cast.agents[0].peer_id].get("mqtt_version", "")),
            versions=versions_here(),
            task=self.task,
            unapproved_task=self.unapproved_task,
            unapproved_task_joined_by=self.members_of(self.unapproved_task),
            peers=tuple(self._result_of(actor) for actor in self.cast.agents),
            server=server if with_server else None,
            rejected_messages=self._rejected(),
            num_messages=self.hearing.num_messages + self._num_models_sent(),
            others=self._others(with_server=with_server),
            configuration=self.cast.agents[0].written,
        )

    def _others(self, *, with_server: bool) -> tuple[Person, ...]:
        parts = [(self.cast.engineer, "publishes the tasks")]
        parts += [(reviewer, "reviews them, and approves one") for reviewer in self.cast.reviewers]
        if with_server:
            parts.append((self.cast.server, "merges for all while it is there"))
        return tuple(Person(name=actor.name, id=actor.peer_id, part=part) for actor, part in parts)

    def members_of(self, task: str) -> tuple[str, ...]:
        """Who said on the overlay that it is a member, or says so when its owner asks."""
        members = set(self.hearing.joined.get(task, set()))
        members |= {
            peer for peer, status in self.statuses.items() if tasks_of(status).get(task, {}).get("joined", False)
        }
        return tuple(sorted(members))

    def _rejected(self) -> dict[str, int]:
        rejected = Counter(self.hearing.rejected)
        for status in self.statuses.values():
            rejected.update(status["rejected"])
        return dict(rejected)

    def _num_models_sent(self) -> int:
        """Models go from peer to peer: an onlooker does not hear them."""
        return sum(int(tasks_of(status).get(self.task, {}).get("sent", 0)) for status in self.statuses.values())

    def _result_of(self, actor: Actor) -> PeerResult:
        together, alone = self.hearing.series[actor.peer_id], self.alone[actor.peer_id]
        return PeerResult(
            id=actor.peer_id,
            name=actor.name,
            classes=actor.share.classes if actor.share else (),
            num_samples=actor.share.num_samples if actor.share else 0,
            accuracy_alone=mean_of_last(alone),
            accuracy_before_loss=None if self.killed_s is None else mean_of_last(together, before_s=self.killed_s),
            accuracy_final=mean_of_last(together),
            together=tuple(together),
            alone=tuple(alone),
        )
