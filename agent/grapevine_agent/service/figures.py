"""What a device shows of itself: one frozen look at the service.

`status`, Home Assistant and Prometheus are given the same figures. What was not measured, or is not there at all, is
None, and is left out by whoever shows it. Names come from peers: they are made printable here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from grapevine_agent.core.learning.aggregator import Aggregator
from grapevine_agent.core.learning.learning import Learning
from grapevine_agent.core.moment import Moment
from grapevine_agent.printable import printable

if TYPE_CHECKING:
    from grapevine_agent.core.agent import AgentCore
    from grapevine_agent.service.attachment import Attachment
    from grapevine_agent.service.governing import Snapshot
    from grapevine_agent.service.shell import AgentService

LONGEST_NAME: Final = 64
MOST_TASKS: Final = 32  # that are shown: each is some entities, and some series
SHORT_ID: Final = 16  # digits of a task's id that stand for it


@dataclass(frozen=True, kw_only=True)
class Governed:
    """What the governor knows. None: it is not measured here."""

    temperature_c: float | None = None
    energy_j_today: float | None = None
    bytes_today: int = 0
    limit: str = ""  # which limit pauses or slows, in a word; empty: none does
    why: str = ""  # the same in a sentence
    until_s: float | None = None  # unix seconds; None: nobody knows
    is_paused: bool = False


@dataclass(frozen=True, kw_only=True)
class ServedFigures:
    """What a server knows of a task that it aggregates."""

    model_version: int
    num_members: int  # whose updates are in the newest model, or in any cluster's
    num_clusters: int
    num_folded: int  # updates, since the task was joined
    refused: Mapping[str, int]  # updates, by the reason
    held_bytes: int  # of models, bases and sums
    since_published_s: float | None  # None: no model was published since the start

    @property
    def num_refused(self) -> int:
        """Updates that were not taken, for whatever reason."""
        return sum(self.refused.values())


@dataclass(frozen=True, kw_only=True)
class TaskFigures:
    """One task that this device takes part in."""

    id: str
    name: str
    version: int
    publisher: str
    strategy: str
    role: str  # "member" or "server"
    age: int
    round: int | None = None
    loss: float | None = None
    metric_name: str = ""
    metric: float | None = None
    best_metric: float | None = None
    baseline: float | None = None
    baseline_name: str = ""
    num_evaluated: int | None = None
    num_peers: int | None = None
    server: str = ""
    num_sent: int | None = None
    num_merged: int | None = None
    staleness: float | None = None  # versions
    energy_j: float | None = None
    is_resting: bool = False
    served: ServedFigures | None = None  # None: it is a member

    @property
    def key(self) -> str:
        """What stands for it in topics and ids."""
        return self.id[:SHORT_ID]


@dataclass(frozen=True, kw_only=True)
class BrokerFigures:
    """One broker that the owner configured, or that was found."""

    url: str
    is_connected: bool
    is_found: bool
    num_peers: int
    delay_s: float | None  # of an acknowledgement
    num_waiting: int  # publishes


@dataclass(frozen=True, kw_only=True)
class Figures:
    """See the module's docstring."""

    peer: str
    name: str
    role: str
    profile: str
    uptime_s: float
    num_known: int  # peers
    num_alive: int
    num_asleep: int
    num_tasks_known: int
    governed: Governed
    is_asleep: bool = False
    longest_stop_s: float = 0.0  # of the event loop, in ten minutes
    tasks: tuple[TaskFigures, ...] = ()
    brokers: tuple[BrokerFigures, ...] = ()
    rejected: Mapping[str, int] = field(default_factory=dict)
    events: Mapping[str, int] = field(default_factory=dict)  # what happened since the start, by kind
    not_saved: tuple[str, ...] = ()  # kinds of state that the disk does not take


def figures_of(service: AgentService, now: Moment) -> Figures:
    """Look at a service (see `AgentService.figures`)."""
    core = service.core
    return Figures(
        peer=service.identity.peer_id,
        name=_name(core.settings.name),
        role=core.settings.role,
        profile=_name(core.settings.limits.profile),
        uptime_s=now.monotonic_s - service.started_at.monotonic_s,
        num_known=len(core.members.peers),
        num_alive=0 if core.sleep.is_away else core.members.num_alive(now.monotonic_s),
        num_asleep=len(core.members.sleepers),
        num_tasks_known=len(core.book.entries),
        is_asleep=core.sleep.is_asleep,
        longest_stop_s=service.stops.lately_s(now.monotonic_s),
        tasks=_tasks(core, now),
        brokers=tuple(_broker(each, core) for each in service.attachments),
        rejected=dict(service.rejected),
        events=dict(service.telling.counts),
        not_saved=tuple(str(each["kind"]) for each in service.unsaved.lines()),
        governed=governed_by(service.governor.snapshot),
    )


def governed_by(told: Snapshot) -> Governed:
    """What the governor says of itself, as it can be shown."""
    return Governed(
        temperature_c=finite(told.temperature_c),
        energy_j_today=finite(told.energy_j_today),
        bytes_today=told.bytes_today,
        limit=printable(told.limit),
        why=printable(told.why),
        until_s=finite(told.until),
        is_paused=told.paused,
    )


def finite(value: float | None) -> float | None:
    """A number that can be shown; None for one that diverged: JSON has no infinity."""
    return value if value is not None and math.isfinite(value) else None


def _tasks(core: AgentCore, now: Moment) -> tuple[TaskFigures, ...]:
    taking_part: dict[str, Learning | Aggregator] = {**core.tasks.learning, **core.tasks.aggregating}
    shown: dict[str, TaskFigures] = {}
    for task in sorted(taking_part):
        entry = core.book.entries.get(task)
        if entry is None or len(shown) >= MOST_TASKS:
            continue
        one = taking_part[task]
        figures = TaskFigures(
            id=task,
            name=_name(entry.brief.name),
            version=entry.brief.version,
            publisher=entry.brief.publisher,
            strategy=_name(entry.brief.strategy),
            role="member" if isinstance(one, Learning) else "server",
            age=one.model.age,
            **(_of_member(one, now) if isinstance(one, Learning) else {"served": served_by(one, now)}),
        )
        shown.setdefault(figures.key, figures)
    return tuple(shown.values())


def served_by(server: Aggregator, now: Moment) -> ServedFigures:
    """What a server of a task says of it."""
    return ServedFigures(
        model_version=server.model_version,
        num_members=len(server.contributors),
        num_clusters=server.num_clusters,
        num_folded=server.num_merged,
        refused=dict(server.refused),
        held_bytes=server.held_bytes,
        since_published_s=None if server.published_s is None else max(0.0, now.monotonic_s - server.published_s),
    )


def _of_member(learner: Learning, now: Moment) -> dict[str, Any]:
    evaluation, best = learner.evaluation, learner.best.figure(learner.model.round)
    return {
        "round": learner.model.round,
        "loss": finite(learner.loss),
        "metric_name": learner.manifest.training.metric,
        "metric": finite(evaluation.metric) if evaluation else None,
        "best_metric": finite(best.metric) if best else None,
        "baseline": finite(evaluation.baseline) if evaluation else None,
        "baseline_name": evaluation.baseline_name if evaluation else "",
        "num_evaluated": evaluation.num_evaluated if evaluation else None,
        "num_peers": len(learner.members.of_task(learner.task, now.monotonic_s)),
        "server": learner.server_state(),
        "num_sent": learner.num_sent,
        "num_merged": learner.merging.num_merged,
        "staleness": finite(learner.staleness(now)),
        "energy_j": finite(learner.energy_j),
        "is_resting": learner.rest.is_resting,
    }


def _broker(attachment: Attachment, core: AgentCore) -> BrokerFigures:
    url = attachment.transport.connected_to
    shown = url or attachment.transport.brokers[0]
    return BrokerFigures(
        url=str(shown.without_credentials()),
        is_connected=url is not None,
        is_found=shown.is_found,
        num_peers=core.brokers.num_online(attachment.number),
        delay_s=finite(attachment.sending.delay_s),
        num_waiting=len(attachment.outbox),
    )


def _name(text: str) -> str:
    return printable(text)[:LONGEST_NAME].strip() or "unnamed"
