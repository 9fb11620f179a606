"""The state of the dashboard: events and answers go in, a snapshot and patches come out. No I/O, and no clock.

    tell(line, now)      one event of an agent (see `folding`)
    met, lost            an agent's events begin to come, or end
    look_at_…            what an agent answered when it was asked (see `looks`)
    advance(now)         time passed
    clock_set(step)      the clock of this machine was set
    snapshot()           everything, for a page that begins
    patch()              what has changed since the last patch: a snapshot and all patches after it add up

A page is given a snapshot right after a patch, so that it misses nothing and gets nothing twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from grapevine_agent.dashboard.book import Book, BrokerOf
from grapevine_agent.dashboard.folding import close_points, fold
from grapevine_agent.dashboard.patches import MOST_LINES
from grapevine_agent.dashboard.selection import Selection
from grapevine_agent.dashboard.words import fit, rounded

FEW_LINKS: Final = 100  # that are told anew each time; more of them now and then
SELDOM: Final = 4


class Overview:
    """See the module's docstring.

    Args:
        title: Of the page.
        source: What is shown, and which actions there are: `{"kind", "name", "actions"}`.
        speed: How many of the source's seconds pass in one of the page's.
        broker_of: See `Book`.
    """

    def __init__(
        self, *, title: str, source: Mapping[str, Any], speed: float = 1.0, broker_of: BrokerOf | None = None
    ) -> None:
        self.book = Book(speed=speed, broker_of=broker_of)
        self.selection = Selection()
        self.now_ms = 0
        self._title = fit(title)
        self.source = dict(source)
        self._told_peers: set[str] = set()
        self._told: dict[str, Any] = {}  # what is told whole, as it was told last
        self._told_tasks: dict[str, dict[str, Any]] = {}
        self._told_brokers: dict[str, dict[str, Any]] = {}
        self._links: list[dict[str, Any]] = []
        self._num_patches = 0
        self._told_ms = 0

    def tell(self, line: Mapping[str, Any], now_ms: int) -> None:
        """Take one event."""
        fold(self.book, line, now_ms)

    def met(self, peer_id: str, name: str, now_ms: int, *, role: str = "", profile: str = "") -> None:
        """The events of an agent come to us from now on."""
        peer = self.book.peer(fit(peer_id), now_ms)
        if peer is not None:
            peer.name, peer.is_own, peer.state = fit(name, 64), True, "alive"
            peer.is_connected = peer.is_followed = True
            peer.known_as, peer.profile = role or peer.known_as, fit(profile, 64) or peer.profile

    def lost(self, peer_id: str, state: str) -> None:
        """The events of an agent come no more; `state` says what is known of it then."""
        peer = self.book.peers.get(peer_id)
        if peer is None or (not peer.is_connected and peer.state == state):
            return
        peer.is_connected, peer.is_followed, peer.state = False, state != "offline", state
        for broker in self.book.brokers.values():
            broker.connected.discard(peer_id)
        self.book.changed.add(peer_id)

    def found(self, peer_id: str, state: str) -> None:
        """What somebody who knows better says of an agent: that it answers no more, or does again."""
        peer = self.book.peers.get(peer_id)
        if peer is not None and peer.state != state:
            peer.state = state
            self.book.changed.add(peer_id)

    def clock_set(self, step_ms: int) -> None:
        """This machine's clock was set. Who looks has to begin again with a snapshot."""
        self.now_ms = max(0, self.now_ms + step_ms)
        self._told_ms = self.now_ms
        self.book.shift(step_ms)
        self._look_at_links()

    def advance(self, now_ms: int) -> None:
        """Time passed: close what is over."""
        self.now_ms = max(self.now_ms, now_ms)
        self.book.traffic.advance(self.now_ms)
        for task in self.book.tasks.values():
            close_points(task, self.book.peers, self.now_ms)

    # --- told ---------------------------------------------------------------------------------------------

    def snapshot(self) -> dict[str, Any]:
        """Everything; asked for right after a patch."""
        book = self.book
        return {
            "title": self._title,
            "now_ms": self._told_ms,
            "source": self.source,
            "brokers": list(self._told_brokers.values()),
            "peers": [book.peers[each].shown() for each in book.peers if each in self._told_peers],
            "tasks": list(self._told_tasks.values()),
            "series": {task.id: self._series(task.id) for task in book.tasks.values() if task.id in self._told_tasks},
            "links": self._links,
            "rejected": dict(book.rejected),
            "totals": self._totals(),
            "rates": list(book.traffic.rates),
            "log": list(book.lines)[-MOST_LINES:],
            "shown": self._told.get("shown", {"peers": 0, "of": 0, "groups": []}),
        }

    def patch(self) -> dict[str, Any]:
        """What has changed since the last patch; all of it is told then. Empty: nothing has."""
        book, patch = self.book, dict[str, Any]()
        self._num_patches += 1
        before = self._told_peers
        self.selection.choose(book.peers)
        shown = set(self.selection.chosen)
        peers = [book.peers[each].shown() for each in book.peers if each in shown and self._is_news(each, before)]
        gone = [*(before - shown), *book.gone]
        for task in book.gone:
            self._told_tasks.pop(task, None)
        self._told_peers = shown
        book.changed.clear()
        book.gone.clear()
        if gone:
            patch["gone"] = gone
        if peers:
            patch["peers"] = peers
        self._tell_changed(patch, "tasks", self._told_tasks, book.tasks)
        num_at = Counter(broker for peer in book.peers.values() for broker in peer.brokers)
        for broker in book.brokers.values():
            broker.num_peers = num_at[broker.id]
        self._tell_changed(patch, "brokers", self._told_brokers, book.brokers)
        self._tell_curves(patch)
        if rates := book.traffic.new_rates():
            patch["rates"] = rates
        if book.new_lines:
            patch["log"] = list(book.new_lines)
            book.new_lines.clear()
        self._tell_whole(patch)
        if patch:
            patch["now_ms"] = self._told_ms = self.now_ms
        return patch

    def _is_news(self, peer_id: str, before: set[str]) -> bool:
        return peer_id in self.book.changed or peer_id not in before

    def _tell_changed(
        self, patch: dict[str, Any], key: str, told: dict[str, dict[str, Any]], known: Mapping[str, Any]
    ) -> None:
        for each in set(told) - set(known):
            del told[each]
        changed = [shown for each in known.values() if told.get(each.id) != (shown := each.shown())]
        told.update({each["id"]: each for each in changed})
        if changed:
            patch[key] = changed

    def _tell_curves(self, patch: dict[str, Any]) -> None:
        series, resampled = dict[str, Any](), dict[str, Any]()
        for task_id, peer_id in self.book.dropped:
            if task_id in self.book.tasks:
                resampled.setdefault(task_id, {}).setdefault("peers", {})[peer_id] = []
        self.book.dropped.clear()
        for task in self.book.tasks.values():
            curves = {("all", ""): task.all, ("staleness", ""): task.stale}
            for peer_id in sorted(task.singled_out):
                learned = self.book.peers[peer_id].learned.get(task.id)
                if learned is not None:
                    curves["peers", peer_id] = learned.curve
            for (key, peer_id), curve in curves.items():
                if not curve.has_news:
                    continue
                new, whole = curve.told()
                into = (resampled if whole is not None else series).setdefault(task.id, {})
                points = new if whole is None else whole
                if peer_id:
                    into.setdefault("peers", {})[peer_id] = points
                else:
                    into[key] = points
        patch.update({key: told for key, told in (("series", series), ("resampled", resampled)) if told})

    def _tell_whole(self, patch: dict[str, Any]) -> None:
        if len(self._links) <= FEW_LINKS or self._num_patches % SELDOM == 0:
            self._look_at_links()
        whole = {
            "links": self._links,
            "rejected": dict(self.book.rejected),
            "totals": self._totals(),
            "shown": self.selection.shown(self.book.peers),
        }
        patch.update({key: value for key, value in whole.items() if self._told.get(key) != value})
        self._told = whole

    def _look_at_links(self) -> None:
        self._links = self.book.traffic.links(partial(self.selection.shown_as, self.book.peers))

    def _totals(self) -> dict[str, Any]:
        totals = self.book.traffic.totals
        return {**totals, "joules": rounded(self.book.traffic.joules)}

    def _series(self, task_id: str) -> dict[str, Any]:
        task, peers = self.book.tasks[task_id], self.book.peers
        curves = {
            each: peers[each].learned[task_id].curve
            for each in sorted(task.singled_out)
            if task_id in peers[each].learned
        }
        return {
            "peers": {peer: list(curve.points) for peer, curve in curves.items() if curve.points},
            "all": list(task.all.points),
            "staleness": list(task.stale.points),
        }
