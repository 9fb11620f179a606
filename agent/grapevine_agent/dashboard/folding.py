"""What each kind of event changes in the book. One that is not known, or is not whole, changes the log alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from grapevine_agent.dashboard.book import Book
from grapevine_agent.dashboard.curves import spread_of
from grapevine_agent.dashboard.records import BUCKET_MS, LIVES, Learned, PeerKnown, TaskKnown
from grapevine_agent.dashboard.words import (
    LONGEST_ID,
    count_in,
    fit,
    id_in,
    mapping_in,
    name_in,
    number_in,
    rounded,
    text_in,
    time_in,
    truth_in,
)
from grapevine_tasks.closed_sets import METRICS

Line = Mapping[str, Any]
Fold = Callable[[Book, PeerKnown, Line, int], None]

MOST_SHARES: Final = 16
MOST_LIMITS: Final = 64  # that pause a peer
STATES: Final = frozenset(("alive", "suspect", "silent", "asleep", "offline"))
QUIET_LEVELS: Final = frozenset(("debug",))
QUIET_KINDS: Final = frozenset(("measured",))  # every round of everybody: the curves show them


def fold(book: Book, line: Line, now_ms: int) -> None:
    """Take one event, at a time that is not after now."""
    at_ms = min(now_ms, at) if (at := time_in(line, "at_ms")) is not None else now_ms
    teller = book.peer(id_in(line, "peer"), at_ms)
    if teller is None:
        return
    teller.is_own = True
    teller.activity += 1.0
    kind = name_in(line, "event")
    if teller.state == "silent" or (not teller.is_followed and teller.state != "asleep"):
        teller.state = "alive"
    known = _FOLDS.get(kind)
    if known is not None:
        known(book, teller, line, at_ms)
    level = name_in(line, "level")
    if level not in QUIET_LEVELS and kind not in QUIET_KINDS and (text := text_in(line, "text")):
        book.log(
            {
                "at_ms": at_ms,
                "peer": teller.id,
                "name": teller.shown_name,
                "event": kind,
                "level": level or "info",
                "text": text,
                "task": id_in(line, "task"),
            }
        )


def close_points(task: TaskKnown, peers: Mapping[str, PeerKnown], now_ms: int) -> None:
    """Add what is due to a task's own curves: how all who live do, in mean and spread."""
    if task.closes_ms is None or now_ms < task.closes_ms:
        return
    if task.has_new:
        live = [value for peer, value in task.latest.items() if (known := peers.get(peer)) and known.state in LIVES]
        if live:
            mean, p10, p90, least, most, num = (rounded(value) for value in spread_of(live))
            task.all.add([task.closes_ms, mean, p10, p90, least, most, num])
        stale = list(task.staleness.values())
        if stale:
            task.stale.add([task.closes_ms, rounded(sum(stale) / len(stale), 4), rounded(task.bound, 4)])
        task.has_new = False
    task.closes_ms = max(now_ms, task.closes_ms + BUCKET_MS)


def verdict(
    task: TaskKnown,
    peer: PeerKnown,
    *,
    standing: str = "",
    why: str | None = None,
    joined: bool | None = None,
) -> None:
    """What one of our agents makes of a task; what is not given stays as it was."""
    before = task.verdicts.get(peer.id, {"standing": "", "why": "", "joined": False})
    task.verdicts[peer.id] = {
        "peer": peer.id,
        "name": peer.shown_name,
        "standing": standing or before["standing"] or ("approved" if joined else ""),
        "why": before["why"] if why is None else why,
        "joined": before["joined"] if joined is None else joined,
    }


def _task_of(book: Book, line: Line, at_ms: int) -> TaskKnown | None:
    return book.task(id_in(line, "task"), name_in(line, "label"), at_ms)


def _learned_of(book: Book, peer: PeerKnown, line: Line, at_ms: int) -> tuple[TaskKnown, Learned] | None:
    task = _task_of(book, line, at_ms)
    learned = book.learned(peer, task) if task is not None else None
    return (task, learned) if task is not None and learned is not None else None


def _joining(book: Book, peer: PeerKnown, line: Line, at_ms: int) -> None:
    if (task := _task_of(book, line, at_ms)) is not None:
        verdict(task, peer, why=text_in(line, "why"), joined=False)


def _joined(book: Book, peer: PeerKnown, line: Line, at_ms: int) -> None:
    if (found := _learned_of(book, peer, line, at_ms)) is None:
        return
    task, learned = found
    verdict(task, peer, why="", joined=True)
    if name_in(line, "role") == "server":
        serves(peer, task, learned)


def serves(peer: PeerKnown, task: TaskKnown, learned: Learned) -> None:
    """A peer is a server of a task."""
    learned.role = "server"
    peer.does.add("serves")
    task.servers.add(peer.id)


def _stopped(book: Book, peer: PeerKnown, line: Line, at_ms: int) -> None:
    if (task := _task_of(book, line, at_ms)) is not None:
        book.leave(peer, task.id)
        verdict(task, peer, why=text_in(line, "why"), joined=False)


def _trained(book: Book, peer: PeerKnown, line: Line, at_ms: int) -> None:
    joules = number_in(line, "joules")
    if joules is not None and joules >= 0:
        peer.joules = (peer.joules or 0.0) + joules
        book.traffic.joules = (book.traffic.joules or 0.0) + joules
    if (found := _learned_of(book, peer, line, at_ms)) is None:
        return
    _, learned = found
    learned.round = _or_before(count_in(line, "round"), learned.round)
    learned.age = _or_before(count_in(line, "age"), learned.age)
    learned.loss = number_in(line, "loss")


def _measured(book: Book, peer: PeerKnown, line: Line, at_ms: int) -> None:
    if (found := _learned_of(book, peer, line, at_ms)) is None:
        return
    task, learned = found
    measure(book, peer, task, learned, line, at_ms)


def measure(book: Book, peer: PeerKnown, task: TaskKnown, learned: Learned, line: Line, at_ms: int) -> None:
    """Take what a peer says of its model: from its events, or when it is asked."""
    learned.round = _or_before(count_in(line, "round"), learned.round)
    learned.age = _or_before(count_in(line, "age"), learned.age)
    learned.num_evaluated, learned.num_peers = count_in(line, "num_evaluated"), count_in(line, "num_peers")
    learned.metric, learned.loss = number_in(line, "metric"), number_in(line, "loss")
    learned.metric_name = name_in(line, "metric_name")
    learned.best = number_in(mapping_in(line, "best"), "metric")
    learned.baseline, learned.baseline_name = number_in(line, "baseline"), name_in(line, "baseline_name")
    learned.staleness, learned.staleness_bound = number_in(line, "staleness"), number_in(line, "staleness_bound")
    learned.server = text_in(line, "server")
    learned.energy_j = number_in(line, "energy_j")
    learned.measured_ms = at_ms
    task.metric_name = learned.metric_name or task.metric_name
    metric = METRICS.get(task.metric_name)
    task.higher_is_better = metric is None or metric.higher_is_better
    if learned.baseline is not None:
        task.baseline, task.baseline_name = learned.baseline, learned.baseline_name
    task.server = learned.server or task.server
    task.num_told = (learned.num_peers or 0) + 1
    if task.closes_ms is None:
        task.closes_ms = at_ms + BUCKET_MS
    close_points(task, book.peers, at_ms)
    if learned.metric is not None:
        task.latest[peer.id] = learned.metric
        learned.curve.add([at_ms, rounded(learned.metric)])
        task.has_new = True
    if learned.staleness is not None:
        task.staleness[peer.id] = learned.staleness
        task.bound = learned.staleness_bound if learned.staleness_bound is not None else task.bound
        task.has_new = True


def _merged(book: Book, peer: PeerKnown, line: Line, at_ms: int) -> None:
    book.traffic.totals["merged"] += 1
    if (found := _learned_of(book, peer, line, at_ms)) is None:
        return
    shares = mapping_in(line, "shares")
    largest = sorted(shares, key=lambda each: -(number_in(shares, each) or 0.0))[:MOST_SHARES]
    peer.merges.appendleft(
        {
            "task": found[0].id,
            "round": count_in(line, "round"),
            "by": name_in(line, "by"),
            "at_ms": at_ms,
            "shares": {fit(other, LONGEST_ID): rounded(number_in(shares, other), 4) or 0 for other in largest},
        }
    )


def _sent(book: Book, peer: PeerKnown, line: Line, at_ms: int) -> None:
    num_bytes = count_in(line, "num_bytes") or 0
    receiver, task = book.peer(id_in(line, "receiver"), at_ms), _task_of(book, line, at_ms)
    peer.num_bytes += num_bytes
    book.traffic.totals["sent"] += 1
    book.traffic.totals["bytes"] += num_bytes
    if receiver is not None:
        partner = peer.partner(receiver.id)
        partner.sent += 1
        partner.sent_bytes += num_bytes
        book.traffic.sent((peer.id, receiver.id, task.id if task else ""), num_bytes, at_ms)


def _received(book: Book, peer: PeerKnown, line: Line, at_ms: int) -> None:
    num_bytes = count_in(line, "num_bytes") or 0
    sender = book.peer(id_in(line, "sender"), at_ms)
    book.traffic.totals["received"] += 1
    if sender is None:
        return
    partner = peer.partner(sender.id)
    partner.received += 1
    partner.received_bytes += num_bytes
    if sender.is_own:
        return  # it says itself what it sends
    sender.activity += 1.0
    if sender.state == "offline":
        sender.state = "alive"
    task = _task_of(book, line, at_ms)
    book.traffic.sent((sender.id, peer.id, task.id if task else ""), num_bytes, at_ms)
    learned = book.learned(sender, task) if task is not None else None
    if learned is not None:
        learned.round = _or_before(count_in(line, "version"), learned.round)
        learned.age = _or_before(count_in(line, "age"), learned.age)


def _rejected(book: Book, peer: PeerKnown, line: Line, at_ms: int) -> None:
    del at_ms
    book.reject(peer, name_in(line, "reason") or "unknown", max(1, count_in(line, "num") or 1))


def _judged(book: Book, peer: PeerKnown, line: Line, at_ms: int) -> None:
    if (task := _task_of(book, line, at_ms)) is None:
        return
    verdict(task, peer, standing=name_in(line, "standing"), why=text_in(line, "why"))
    publisher = book.peer(id_in(line, "publisher"), at_ms)
    if publisher is not None:
        published_by(task, publisher)


def published_by(task: TaskKnown, publisher: PeerKnown) -> None:
    """Who published a task."""
    task.publisher, task.publisher_name = publisher.id, publisher.name
    if task.is_told:
        publisher.does.add("publishes")


def _reviewed(book: Book, peer: PeerKnown, line: Line, at_ms: int) -> None:
    if (task := _task_of(book, line, at_ms)) is not None:
        review(book, task, peer, line, at_ms)


def review(book: Book, task: TaskKnown, teller: PeerKnown, line: Line, at_ms: int) -> None:
    """What a reviewer says of a task, as one of our agents tells it. The name that its owner has given comes first."""
    reviewer_id, counts = id_in(line, "reviewer"), truth_in(line, "counts")
    reviewer = book.peer(reviewer_id, at_ms) if counts else book.peers.get(reviewer_id)
    name = name_in(line, "name") or (reviewer.name if reviewer is not None else "") or reviewer_id[:12]
    said = {
        "reviewer": reviewer_id,
        "name": name,
        "approved": truth_in(line, "approved"),
        "withdrawn": truth_in(line, "withdrawn"),
        "reason": text_in(line, "reason"),
        "at_ms": at_ms,
    }
    if not reviewer_id or not task.review(reviewer_id, said, teller.id, counts=counts):
        return
    if reviewer is not None and (counts or reviewer.is_own):
        reviewer.does.add("reviews")


def _server_changed(book: Book, peer: PeerKnown, line: Line, at_ms: int) -> None:
    if (found := _learned_of(book, peer, line, at_ms)) is None:
        return
    task, learned = found
    task.server = learned.server = text_in(line, "state")
    server = book.peer(id_in(line, "server"), at_ms)
    if server is not None:
        server.does.add("serves")
        task.servers.add(server.id)


def _served(book: Book, peer: PeerKnown, line: Line, at_ms: int) -> None:
    if (found := _learned_of(book, peer, line, at_ms)) is None:
        return
    task, learned = found
    serves(peer, task, learned)
    learned.round, learned.age = count_in(line, "model_version"), count_in(line, "age")


def _peer_changed(book: Book, peer: PeerKnown, line: Line, at_ms: int) -> None:
    del peer
    other_id, state = id_in(line, "other"), name_in(line, "state")
    if state == "gone":
        known = book.peers.get(other_id)
        if known is not None and not known.is_own:
            book.forget(other_id)
        return
    other = book.peer(other_id, at_ms)
    if other is None or other.is_followed:
        return
    other.name = name_in(line, "name") or other.name
    if state in STATES:
        other.state = state


def _broker_changed(book: Book, peer: PeerKnown, line: Line, at_ms: int) -> None:
    del at_ms
    meet(book, peer, text_in(line, "url"), is_connected=truth_in(line, "is_connected"))


def meet(book: Book, peer: PeerKnown, url: str, *, is_connected: bool) -> None:
    """One of our agents is connected to a broker, or is not."""
    broker = book.broker(url, peer) if url else None
    if broker is None:
        return
    for ids, each in ((broker.connected, peer.id), (peer.brokers, broker.id)):
        (ids.add if is_connected else ids.discard)(each)


def _paused(book: Book, peer: PeerKnown, line: Line, at_ms: int) -> None:
    del book, at_ms
    if name_in(line, "does") == "pause" and not id_in(line, "task") and len(peer.pauses) < MOST_LIMITS:
        peer.pauses.add(name_in(line, "limit"))


def _resumed(book: Book, peer: PeerKnown, line: Line, at_ms: int) -> None:
    del book, at_ms
    if not id_in(line, "task"):
        peer.pauses.discard(name_in(line, "limit"))


def _fell_asleep(book: Book, peer: PeerKnown, line: Line, at_ms: int) -> None:
    del book, line, at_ms
    peer.state = "asleep"


def _woke_up(book: Book, peer: PeerKnown, line: Line, at_ms: int) -> None:
    del book, line, at_ms
    peer.state = "alive"


def _or_before(value: int | None, before: int | None) -> int | None:
    return before if value is None else value


_FOLDS: Final[Mapping[str, Fold]] = {
    "joining": _joining,
    "joined": _joined,
    "stopped": _stopped,
    "trained": _trained,
    "measured": _measured,
    "merged": _merged,
    "sent": _sent,
    "received": _received,
    "rejected": _rejected,
    "judged": _judged,
    "reviewed": _reviewed,
    "server-changed": _server_changed,
    "served": _served,
    "peer-changed": _peer_changed,
    "broker-changed": _broker_changed,
    "paused": _paused,
    "resumed": _resumed,
    "fell-asleep": _fell_asleep,
    "woke-up": _woke_up,
}
