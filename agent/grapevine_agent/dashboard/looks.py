"""What agents answer when they are asked now and then: it fills in what events alone do not say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from grapevine_agent.dashboard.book import MOST_REASONS, Book
from grapevine_agent.dashboard.folding import measure, meet, published_by, review, serves, verdict
from grapevine_agent.dashboard.records import PeerKnown, TaskKnown
from grapevine_agent.dashboard.words import (
    LONGEST_NAME,
    count_in,
    fit,
    id_in,
    list_in,
    mapping_in,
    name_in,
    number_in,
    objects_in,
    text_in,
    time_in,
    truth_in,
)

Answer = Mapping[str, Any]


def look_at_status(book: Book, peer: PeerKnown, status: Answer, now_ms: int) -> None:
    """What an agent says of itself: `status`."""
    peer.name = name_in(status, "name") or peer.name
    role = name_in(status, "role")
    if role in ("server", "observer"):
        peer.known_as = role
    peer.profile = name_in(status, "profile") or peer.profile
    peer.site = name_in(mapping_in(status, "scope"), "site")
    peer.memory_mb = number_in(status, "memory_mb")
    if mapping_in(status, "sleep").get("asleep") is True:
        peer.state = "asleep"
    _look_at_governor(peer, mapping_in(status, "governor"))
    _look_at_rejected(book, peer, mapping_in(status, "rejected"))
    for broker in objects_in(status, "brokers"):
        meet(book, peer, text_in(broker, "url"), is_connected=truth_in(broker, "connected"))
    for task in objects_in(status, "tasks"):
        _look_at_task(book, peer, task, now_ms)
    peer.facts = _facts(status)
    book.changed.add(peer.id)


def look_at_peers(book: Book, answer: object, now_ms: int) -> None:
    """Whom an agent knows: `peers`. Of those that we talk to ourselves it says nothing new."""
    if not isinstance(answer, dict):
        return
    asked = book.peers.get(id_in(answer, "peer"))
    for each in objects_in(answer, "peers"):
        peer = book.peer(id_in(each, "peer"), now_ms)
        if peer is None or peer.is_followed:
            continue
        peer.name, peer.site = name_in(each, "name") or peer.name, name_in(each, "site") or peer.site
        if truth_in(each, "asleep"):
            peer.state = "asleep"
        elif truth_in(each, "alive"):
            peer.state = "alive"
        elif peer.state in ("alive", "asleep"):
            peer.state = "silent" if truth_in(each, "member") else "offline"
        peer.brokers = {
            broker.id
            for url in list_in(each, "brokers")
            if isinstance(url, str) and (broker := book.broker(url, asked or peer)) is not None
        }


def look_at_reviews(book: Book, peer: PeerKnown, answer: object, now_ms: int) -> None:
    """What an agent knows of tasks and their reviews: `reviews`."""
    if not isinstance(answer, list):
        return
    for each in answer:
        if not isinstance(each, dict) or each.get("kind") == "application":
            continue
        task = book.tasks.get(id_in(each, "task"))
        if task is None:
            continue
        task.name, task.version = name_in(each, "name") or task.name, count_in(each, "version")
        task.description = text_in(each, "description", 2_000)
        if (publisher := book.peer(id_in(each, "publisher"), now_ms)) is not None:
            published_by(task, publisher)
        for said in sorted(objects_in(each, "reviews"), key=lambda said: not truth_in(said, "counts")):
            review(book, task, peer, said, time_in(said, "made_at_ms") or now_ms)


def _look_at_task(book: Book, peer: PeerKnown, told: Answer, now_ms: int) -> None:
    name, version = name_in(told, "name"), count_in(told, "version")
    task = book.task(id_in(told, "id"), "", now_ms, is_told=truth_in(told, "joined"))
    if task is None:
        return
    task.name, task.version = name or task.name, version
    task.strategy = name_in(told, "strategy") or task.strategy
    is_joined = truth_in(told, "joined")
    why = text_in(told, "judgement") if is_joined else text_in(told, "why")
    verdict(task, peer, standing=name_in(told, "standing"), why=why, joined=is_joined)
    if (publisher := book.peer(id_in(told, "publisher"), now_ms)) is not None:
        published_by(task, publisher)
    if is_joined:
        _look_at_progress(book, peer, task, told, now_ms)
    else:
        book.leave(peer, task.id)


def _look_at_progress(book: Book, peer: PeerKnown, task: TaskKnown, told: Answer, now_ms: int) -> None:
    learned = book.learned(peer, task)
    if learned is None:
        return
    if "model_version" in told:  # a server's
        serves(peer, task, learned)
        learned.round, learned.age = count_in(told, "model_version"), count_in(told, "age")
        return
    measured = {**told, "num_peers": told.get("peers")}
    is_new = number_in(told, "metric") is not None and learned.metric is None
    if is_new or learned.measured_ms < 0:
        measure(book, peer, task, learned, measured, now_ms)
    task.num_told = (count_in(told, "peers") or 0) + 1


def _look_at_governor(peer: PeerKnown, governor: Answer) -> None:
    peer.temperature_c = number_in(governor, "temperature_c")
    peer.num_bytes = count_in(governor, "bytes_today") or 0
    peer.joules = number_in(governor, "energy_j_today")
    peer.pauses = {
        name_in(each, "limit")
        for each in objects_in(governor, "held")
        if name_in(each, "does") == "pause" and not id_in(each, "task")
    }


def _look_at_rejected(book: Book, peer: PeerKnown, rejected: Answer) -> None:
    for each in list(rejected)[:MOST_REASONS]:
        num, reason = count_in(rejected, each) or 0, fit(each, LONGEST_NAME)
        known = peer.rejected.get(reason, 0)
        if num > known and book.may_count(reason):
            book.reject(peer, reason, num - known)


def _facts(status: Answer) -> list[tuple[str, str]]:
    """What a reader may want to know of an agent, in words."""
    governor, peers = mapping_in(status, "governor"), mapping_in(status, "peers")
    uptime_s = number_in(status, "uptime_s")
    memory_mb, temperature_c = number_in(status, "memory_mb"), number_in(governor, "temperature_c")
    battery = number_in(governor, "battery_percent")
    stop_ms = number_in(status, "longest_stop_ms")
    brokers = objects_in(status, "brokers")
    connected = [text_in(each, "url") for each in brokers if truth_in(each, "connected")]
    facts = [
        ("profile", name_in(status, "profile")),
        ("role", name_in(status, "role")),
        ("up for", "" if uptime_s is None else _span(uptime_s)),
        ("brokers", ", ".join(connected) or text_in(status, "trouble") or "not connected"),
        ("peers", f"{count_in(peers, 'alive') or 0} alive of {count_in(peers, 'known') or 0} known"),
        ("memory", "" if memory_mb is None else f"{memory_mb:.0f} MB"),
        ("temperature", "" if temperature_c is None else f"{temperature_c:.1f} °C"),
        ("battery", "" if battery is None else f"{battery:.0f} %"),
        ("governor", text_in(governor, "why")),
        ("energy", text_in(governor, "energy_by")),
        ("longest stop in ten minutes", "" if stop_ms is None else f"{stop_ms:.0f} ms"),
        ("not saved", ", ".join(text_in(each, "kind") for each in objects_in(status, "unsaved"))),
    ]
    return [(heading, text) for heading, text in facts if text]


def _span(seconds: float) -> str:
    minutes, hours = int(seconds // 60), int(seconds // 3600)
    if hours >= 48:
        return f"{hours // 24} days"
    return f"{hours} h {minutes % 60} min" if hours else f"{minutes} min {int(seconds % 60)} s"
