"""Asking for initial weights: whom, and when."""

from __future__ import annotations

import heapq
import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pytest

from grapevine_agent.core.overlay.answers import BLOBS, AnswerQuota
from grapevine_agent.core.tasks.weights_wanted import BEGIN_WITHIN_S, LONGEST_PAUSE_S, WAIT_S, WeightsWanted
from grapevine_proto.errors import WireError
from grapevine_proto.manifest import WeightsRef

PUBLISHER = "publisher"
PEERS = [f"p{k:019d}" for k in range(5)]


def wanted(seed: int = 0, num_bytes: int = 20_000) -> WeightsWanted:
    return WeightsWanted(weights=WeightsRef(digest="1" * 64, num_bytes=num_bytes), rng=np.random.default_rng(seed))


def asked_until(each: WeightsWanted, holders: list[str], until_s: float) -> list[tuple[float, str]]:
    asked = []
    while each.ask_at_s < until_s:
        now_s = each.ask_at_s
        holder = each.ask(holders, now_s)
        asked += [(now_s, holder)] if holder is not None else []
    return asked


def test_nobody_is_asked_before_it_is_known_what_the_disk_has() -> None:
    assert wanted().ask_at_s == np.inf


def test_a_crowd_does_not_ask_in_step_and_a_few_do_not_wait() -> None:
    crowd = [wanted(seed) for seed in range(200)]
    for each in crowd:
        each.begin(200, 100.0)
    times = np.sort([each.ask_at_s for each in crowd])
    assert times[0] >= 100.0
    assert 2.0 < times[-1] - times[0] <= 4.0
    assert np.max(np.histogram(times, bins=8)[0]) < 60
    few = wanted()
    few.begin(3, 100.0)
    assert few.ask_at_s < 100.1
    many = wanted()
    many.begin(5_000, 100.0)
    assert many.ask_at_s <= 100.0 + BEGIN_WITHIN_S


def test_each_of_those_who_have_them_is_asked_first_by_as_many() -> None:
    first = Counter(wanted(seed).ask(PEERS, 0.0) for seed in range(1_000))
    assert set(first) == set(PEERS)
    assert max(first.values()) < 260


def test_everybody_is_asked_before_anybody_is_asked_again() -> None:
    for seed in range(20):
        each = wanted(seed)
        each.begin(1, 0.0)
        (_, first), (_, second) = asked_until(each, PEERS[:2], 10.0)[:2]
        assert first != second


def test_the_only_one_who_has_them_is_asked_ever_more_seldom() -> None:
    each = wanted()
    each.begin(1, 0.0)
    times = [now_s for now_s, _ in asked_until(each, PEERS[:1], 600.0)]
    assert len(times) < 20  # 200, one every three seconds
    assert np.max(np.diff(times)) < 1.25 * LONGEST_PAUSE_S + 10.0
    assert np.diff(times)[0] < 12.0


def test_an_answer_that_takes_long_on_its_way_is_waited_for() -> None:
    each = wanted(num_bytes=500_000)
    each.begin(1, 0.0)
    assert len(asked_until(each, PEERS, 60.0)) < 16


def test_while_they_come_in_chunks_nobody_else_is_asked_and_once_that_fails_somebody_is() -> None:
    each = wanted(num_bytes=50_000_000)
    holder = each.ask(PEERS, 10.0)
    assert holder is not None
    each.coming(holder)
    assert each.ask_at_s == math.inf
    assert each.expects(holder, 1e6)
    each.failed(holder, 2_000.0)
    assert each.ask_at_s == 2_000.0
    assert not each.expects(holder, 2_001.0)
    assert each.ask(PEERS[:1], 2_000.0) == PEERS[0]


def test_an_answer_is_expected_for_a_while_from_those_who_were_asked() -> None:
    each = wanted()
    holder = each.ask(PEERS, 10.0)
    assert holder is not None
    assert each.expects(holder, 10.0 + WAIT_S)
    assert not each.expects(holder, 10.1 + WAIT_S)
    assert [peer for peer in PEERS if each.expects(peer, 11.0)] == [holder]
    each.ask([], 20.0)
    assert each.expects(holder, 21.0)


@dataclass
class JoiningCrowd:
    """So many peers that want the same weights at second 0, and one publisher; each sends at 1 MB/s."""

    num_peers: int
    num_bytes: int
    requests: Counter[str] = field(default_factory=Counter)  # by who was asked
    joined_s: dict[str, float] = field(default_factory=dict)
    num_sent: int = 0
    _events: list[tuple[float, int, Callable[[float], None]]] = field(default_factory=list)
    _order: Iterator[int] = field(default_factory=itertools.count)

    def run(self) -> None:
        self._holders = {PUBLISHER}
        self._quotas: defaultdict[str, AnswerQuota] = defaultdict(AnswerQuota)
        self._free_s: defaultdict[str, float] = defaultdict(float)  # each giver's link
        for k in range(self.num_peers):
            each = wanted(k, self.num_bytes)
            each.begin(self.num_peers, 0.0)
            self._at(each.ask_at_s, partial(self._ask, f"p{k:019d}", each))
        while self._events and len(self.joined_s) < self.num_peers:
            now_s, _, do = heapq.heappop(self._events)
            do(now_s)

    def _at(self, time_s: float, do: Callable[[float], None]) -> None:
        heapq.heappush(self._events, (time_s, next(self._order), do))

    def _ask(self, peer: str, each: WeightsWanted, now_s: float) -> None:
        if peer in self.joined_s:
            return
        holder = each.ask(self._holders, now_s)
        self._at(each.ask_at_s, partial(self._ask, peer, each))
        if holder is None:
            return
        self.requests[holder] += 1
        with suppress(WireError):
            self._quotas[holder].charge(peer, "blob", self.num_bytes, now_s, pace=BLOBS, is_member=True)
            self._free_s[holder] = max(self._free_s[holder], now_s) + self.num_bytes / 1e6
            self._at(self._free_s[holder], partial(self._arrive, peer))

    def _arrive(self, peer: str, now_s: float) -> None:
        self.num_sent += 1
        self.joined_s.setdefault(peer, now_s)
        self._at(now_s + 0.2, lambda _: self._holders.add(peer))  # its announcement, and a heartbeat


@pytest.mark.parametrize(("num_bytes", "most_requests", "most_s"), [(28_000, 40, 8.0), (1_000_000, 160, 40.0)])
def test_two_hundred_who_join_at_once_spare_the_publisher(num_bytes: int, most_requests: int, most_s: float) -> None:
    """It was asked 200 times in the first second before, of 1 MB for 224 s, and six hundred blobs were sent."""
    crowd = JoiningCrowd(200, num_bytes)
    crowd.run()
    assert len(crowd.joined_s) == 200
    assert crowd.requests[PUBLISHER] < most_requests
    assert max(crowd.joined_s.values()) < most_s
    assert crowd.num_sent < 250
