"""What a page is told when somebody looks closely at one peer or one task."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any, Final

from grapevine_agent.dashboard.book import Book
from grapevine_agent.dashboard.records import Learned, PeerKnown, TaskKnown
from grapevine_agent.dashboard.words import rounded

MOST_LINES: Final = 100
MOST_MEMBERS: Final = 500
MOST_PARTNERS: Final = 20


def peer_detail(book: Book, peer_id: str) -> dict[str, Any] | None:
    """One peer with how it does at each of its tasks; None: nobody knows it."""
    peer = book.peers.get(peer_id)
    if peer is None:
        return None
    return {
        "peer": peer.shown(),
        "tasks": [_task_of_peer(peer, task) for task in book.tasks.values() if _has_to_do_with(peer, task)],
        "curves": {task: learned.curve.points for task, learned in peer.learned.items()},
        "shares": list(peer.merges),
        "traffic": _traffic(book, peer),
        "verdicts": [
            {"task": task.id, "label": task.shown_label, **task.verdicts[peer_id]}
            for task in book.tasks.values()
            if peer_id in task.verdicts
        ],
        "rejected": dict(peer.rejected),
        "facts": [[heading, text] for heading, text in peer.facts],
        "log": _last(line for line in reversed(book.lines) if line["peer"] == peer_id),
    }


def task_detail(book: Book, task_id: str) -> dict[str, Any] | None:
    """One task with its members; None: nobody knows it."""
    task = book.tasks.get(task_id)
    if task is None:
        return None
    members = [book.peers[each] for each in sorted(task.members) if each in book.peers][:MOST_MEMBERS]
    return {
        "task": task.shown(),
        "description": task.description,
        "members": [_member(each, each.learned[task_id]) for each in members if task_id in each.learned],
        "servers": [{"peer": each, "name": _name(book, each)} for each in sorted(task.servers)],
        "facts": _facts(task),
        "log": _last(line for line in reversed(book.lines) if line["task"] == task_id),
    }


def _has_to_do_with(peer: PeerKnown, task: TaskKnown) -> bool:
    return task.id in peer.learned or peer.id in task.verdicts


def _task_of_peer(peer: PeerKnown, task: TaskKnown) -> dict[str, Any]:
    learned, verdict = peer.learned.get(task.id, Learned()), task.verdicts.get(peer.id, {})
    return {
        "task": task.id,
        "label": task.shown_label,
        "role": learned.role,
        "joined": task.id in peer.learned,
        "standing": verdict.get("standing", ""),
        "why": verdict.get("why", ""),
        "round": learned.round,
        "age": learned.age,
        "metric": rounded(learned.metric),
        "loss": rounded(learned.loss),
        "metric_name": learned.metric_name or task.metric_name,
        "best": rounded(learned.best),
        "baseline": rounded(learned.baseline),
        "baseline_name": learned.baseline_name,
        "num_evaluated": learned.num_evaluated,
        "staleness": rounded(learned.staleness, 4),
        "staleness_bound": rounded(learned.staleness_bound, 4),
        "server": learned.server,
        "energy_j": rounded(learned.energy_j, 4),
    }


def _member(peer: PeerKnown, learned: Learned) -> dict[str, Any]:
    return {
        "peer": peer.id,
        "name": peer.shown_name,
        "round": learned.round,
        "age": learned.age,
        "metric": rounded(learned.metric),
        "staleness": rounded(learned.staleness, 4),
    }


def _traffic(book: Book, peer: PeerKnown) -> list[dict[str, Any]]:
    most = sorted(peer.partners.items(), key=lambda item: -(item[1].sent + item[1].received))[:MOST_PARTNERS]
    return [{"peer": other, "name": _name(book, other), **asdict(partner)} for other, partner in most]


def _facts(task: TaskKnown) -> list[list[str]]:
    facts = [
        ("published by", task.publisher_name or task.publisher),
        ("version", "" if task.version is None else str(task.version)),
        ("merged by", task.strategy),
        ("measured by", task.metric_name),
        ("server", task.server),
    ]
    return [[heading, text] for heading, text in facts if text]


def _name(book: Book, peer_id: str) -> str:
    known = book.peers.get(peer_id)
    return known.shown_name if known is not None else peer_id[:12]


def _last(newest_first: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    lines = [line for line, _ in zip(newest_first, range(MOST_LINES), strict=False)]
    return lines[::-1]
