"""What the demo found: the numbers behind the table, the plot and `report.json`, and whether they are good."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grapevine_lab.demo.listening import Point

NUM_AVERAGED = 5  # evaluations that make one number
GOAL_ACCURACY = 0.90
GOAL_GAIN = 0.15  # over the same agent alone
MAX_MEAN_LOSS = 0.01  # of the mean accuracy, by the loss of the server
MAX_SINGLE_LOSS = 0.03
ROUNDING = 1e-9
EXTERNAL = "external"  # as the engine: a broker that ran before


@dataclass(frozen=True, kw_only=True)
class PeerResult:
    """One agent. Accuracies are of its released model on the common test set, from 0 to 1."""

    id: str
    name: str
    classes: tuple[int, ...]
    num_samples: int
    accuracy_alone: float | None
    accuracy_before_loss: float | None
    accuracy_final: float | None
    together: tuple[Point, ...] = ()
    alone: tuple[Point, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ServerTimes:
    """Seconds since learning began."""

    appeared_s: float | None
    killed_s: float | None


@dataclass(frozen=True, kw_only=True)
class Person:
    """Somebody who takes part and does not train; `part` is what for."""

    name: str
    id: str
    part: str


@dataclass(frozen=True, kw_only=True)
class Goal:
    """Something that the demo claims to show."""

    what: str
    reached: bool


@dataclass(frozen=True, kw_only=True)
class Report:
    """See the module's docstring. `duration_s` is the learning time, `total_s` also setting up and cleaning up."""

    duration_s: float
    total_s: float
    seed: int
    broker_engine: str  # of the demo's own broker, or `EXTERNAL`
    broker_url: str
    mqtt_version: str
    versions: dict[str, str]
    task: str
    unapproved_task: str
    unapproved_task_joined_by: tuple[str, ...]
    peers: tuple[PeerResult, ...]
    server: ServerTimes | None
    rejected_messages: dict[str, int]
    num_messages: int
    others: tuple[Person, ...] = ()
    configuration: str = ""  # of the first agent, as TOML


def mean_of_last(points: Sequence[Point], *, before_s: float | None = None) -> float | None:
    """The mean accuracy of the last five evaluations (before a time); None if there are none."""
    heard = [point.accuracy for point in points if before_s is None or point.t_s < before_s][-NUM_AVERAGED:]
    return sum(heard) / len(heard) if heard else None


def mean(numbers: Sequence[float | None]) -> float | None:
    """The mean of numbers; None if one of them is missing, or there are none."""
    known = [number for number in numbers if number is not None]
    return sum(known) / len(known) if known and len(known) == len(numbers) else None


def goals_of(report: Report) -> tuple[Goal, ...]:
    """Everything that the demo claims to show, and whether these numbers show it."""
    goals = [
        Goal(
            what=f"every agent ends at {GOAL_ACCURACY:.0%} or more on all ten digits",
            reached=all(_at_least(peer.accuracy_final, GOAL_ACCURACY) for peer in report.peers),
        ),
        Goal(
            what="every agent alone stays far below",
            reached=all(
                peer.accuracy_alone is not None and _at_least(peer.accuracy_final, peer.accuracy_alone + GOAL_GAIN)
                for peer in report.peers
            ),
        ),
        Goal(what="nobody joined the task without reviews", reached=not report.unapproved_task_joined_by),
    ]
    if report.server is not None:
        goals.insert(2, Goal(what="the loss of the server is not felt", reached=_loss_is_not_felt(report.peers)))
    return tuple(goals)


def _at_least(number: float | None, limit: float) -> bool:
    return number is not None and number >= limit - ROUNDING


def _loss_is_not_felt(peers: Sequence[PeerResult]) -> bool:
    """The mean at most one point below what it was, no agent more than three."""
    before = mean([peer.accuracy_before_loss for peer in peers])
    after = mean([peer.accuracy_final for peer in peers])
    return (
        before is not None
        and _at_least(after, before - MAX_MEAN_LOSS)
        and all(
            peer.accuracy_before_loss is not None
            and _at_least(peer.accuracy_final, peer.accuracy_before_loss - MAX_SINGLE_LOSS)
            for peer in peers
        )
    )


def write_report(report: Report, path: Path) -> None:
    """Write `report.json`. All times are in seconds, all accuracies are fractions."""
    path.write_text(json.dumps(_to_json(report), indent=2) + "\n", encoding="utf-8")


def _to_json(report: Report) -> dict[str, Any]:
    return {
        "duration_s": round(report.duration_s, 2),
        "total_s": round(report.total_s, 2),
        "seed": report.seed,
        "versions": report.versions,
        "broker": {"engine": report.broker_engine, "url": report.broker_url, "mqtt_version": report.mqtt_version},
        "task": report.task,
        "unapproved_task": report.unapproved_task,
        "unapproved_task_joined_by": list(report.unapproved_task_joined_by),
        "peers": [_peer_to_json(peer) for peer in report.peers],
        "server": None
        if report.server is None
        else {"appeared_s": _rounded(report.server.appeared_s, 2), "killed_s": _rounded(report.server.killed_s, 2)},
        "rejected_messages": dict(sorted(report.rejected_messages.items())),
        "num_messages": report.num_messages,
        "goals": [{"what": goal.what, "reached": goal.reached} for goal in goals_of(report)],
    }


def _peer_to_json(peer: PeerResult) -> dict[str, Any]:
    return {
        "id": peer.id,
        "name": peer.name,
        "classes": list(peer.classes),
        "num_samples": peer.num_samples,
        "accuracy_alone": _rounded(peer.accuracy_alone, 4),
        "accuracy_before_loss": _rounded(peer.accuracy_before_loss, 4),
        "accuracy_final": _rounded(peer.accuracy_final, 4),
        "series": _series_to_json(peer.together),
        "series_alone": _series_to_json(peer.alone),
    }


def _series_to_json(points: Sequence[Point]) -> dict[str, list[float]]:
    return {
        "t_s": [round(point.t_s, 2) for point in points],
        "accuracy": [round(point.accuracy, 4) for point in points],
    }


def _rounded(number: float | None, digits: int) -> float | None:
    return None if number is None else round(number, digits)
