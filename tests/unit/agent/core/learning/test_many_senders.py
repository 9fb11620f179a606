"""A server that hears thousands: what it holds stops growing, and whom it believes about its own number."""

from __future__ import annotations

from collections.abc import Sized
from dataclasses import replace

import numpy as np
import pytest
from tests.unit.agent.core.learning.test_places import layout
from tests.unit.agent.core.tasks.device import LAYOUT, SETTINGS, Device
from tests.unit.agent.merge.server.test_bounded import vectors_in

from grapevine_agent.core.learning.aggregator import Aggregator
from grapevine_agent.core.learning.guard.quarantine import STRIKES
from grapevine_agent.core.learning.model_state import ModelState
from grapevine_agent.core.learning.places import served_bytes
from grapevine_agent.core.learning.server_claims import check_number, most_published
from grapevine_agent.core.moment import Moment
from grapevine_agent.merge.server import SERVER_STRATEGIES
from grapevine_proto.errors import WireError
from grapevine_proto.manifest import MergePlan
from grapevine_proto.messages import ModelUpdate

P = LAYOUT.num_parameters
MB = 10**6


def server_of(strategy: str) -> tuple[Aggregator, Moment]:
    device = Device(SETTINGS)
    task = device.publish(merging=MergePlan(server_strategy=strategy, clip=0.0))
    manifest = device.core.book.entries[task].manifest
    model = ModelState.initial(np.zeros(P, np.float32), np.zeros(LAYOUT.num_buffers, np.float32))
    now = device.moment()
    server = Aggregator(
        task=task,
        manifest=manifest,
        settings=replace(SETTINGS, role="server"),
        layout=LAYOUT,
        model=model,
        started=now,
        rng=np.random.default_rng(0),
    )
    return server, now


def update_of(server: Aggregator, number: int, *, server_version: int = 0) -> ModelUpdate:
    base, delta = np.full(P, 1.0, np.float32), np.full(P, number % 7, np.float32)
    return ModelUpdate(
        task=server.task,
        window=1,
        version=1,
        age=1,
        experience=1,
        samples=1,
        base=base,
        delta=delta,
        buffers=np.zeros(LAYOUT.num_buffers, np.float32),
        server_version=server_version,
    )


def hear(server: Aggregator, number: int, now: Moment, *, server_version: int = 0) -> None:
    server.accept(f"{number:020d}", update_of(server, number, server_version=server_version), now, session=1)


@pytest.mark.parametrize("strategy", ["doubly-weighted", "fedbuff", "cfl"])
def test_what_a_server_holds_of_ten_thousand_senders_is_what_it_holds_of_a_few_hundred(strategy: str) -> None:
    server, now = server_of(strategy)
    held = []
    for number in range(10_000):
        hear(server, number, Moment(monotonic_s=now.monotonic_s + number / 50, wall_ms=now.wall_ms + 20 * number))
        if number in (999, 9_999):
            held.append(sum(vector.nbytes for vector in vectors_in([server.strategy, server.intake], set())))
    assert held[1] <= held[0]
    assert len(server.intake._bases) <= 256
    names: list[Sized] = [server._versions, server.claims.ages, server.pace._heard, server.intake._order._newest]
    assert all(len(each) <= 4096 for each in names)


@pytest.mark.parametrize("strategy", SERVER_STRATEGIES)
def test_a_model_of_a_million_parameters_is_served_within_what_is_lent(strategy: str) -> None:
    """However many members there are: the number of them has no say."""
    held = served_bytes(MergePlan(server_strategy=strategy), layout(1_000_000), memory_mb=1024)
    assert 16 * MB < held < 1024 * 2**20


def test_a_server_goes_on_above_what_its_members_have_merged_within_reason() -> None:
    server, now = server_of("fedasync")
    later = Moment(monotonic_s=now.monotonic_s + 100, wall_ms=now.wall_ms + 100_000)
    hear(server, 1, later, server_version=80)
    assert server.model_version == 80
    hear(server, 2, later, server_version=2**50)
    hear(server, 3, later, server_version=7)
    assert server.model_version == 80


def test_once_it_has_published_nobody_can_make_it_skip_numbers_and_others_look_stale() -> None:
    server, now = server_of("fedasync")
    hear(server, 1, now)
    later = Moment(monotonic_s=now.monotonic_s + 100, wall_ms=now.wall_ms + 100_000)
    server.tick(later)
    assert server.model_version == 1
    hear(server, 2, later, server_version=10_000)
    assert server.model_version == 1


def test_a_member_that_alone_is_left_does_not_stay_in_quarantine_for_ever() -> None:
    server, now = server_of("doubly-weighted")
    broken = replace(update_of(server, 1), full=np.full(P, np.nan, np.float32), base=None, delta=None)
    for version in range(STRIKES):
        with pytest.raises(WireError, match="NaN"):
            server.accept("m" * 20, replace(broken, version=version + 1), now, session=1)
    good = replace(update_of(server, 1), version=STRIKES + 1)
    with pytest.raises(WireError, match="not listened to"):
        server.accept("m" * 20, good, now, session=1)
    for _ in range(1000):
        now = Moment(monotonic_s=now.monotonic_s + 1, wall_ms=now.wall_ms + 1000)
        server.tick(now)
    server.accept("m" * 20, good, now, session=1)


def test_a_model_that_a_server_has_is_acknowledged_though_it_comes_in_another_session() -> None:
    """Its sender would offer it for ever, to one server after the other."""
    server, now = server_of("doubly-weighted")
    rng = np.random.default_rng(0)
    for number in range(9):
        model = rng.standard_normal(P).astype(np.float32)
        update = replace(update_of(server, number), full=model, base=None, delta=None, wants_receipt=True)
        server.accept(f"{number:020d}", update, now, session=1)
    assert server.accept(f"{8:020d}", update, now, session=2)
    assert server.num_merged == 9


def test_a_number_that_no_server_can_have_reached_is_refused() -> None:
    server, now = server_of("fedasync")
    manifest, most = server.manifest, most_published(server.manifest, now, now)
    check_number("s", most, manifest, now, now)
    check_number("s", most + 1000, manifest, now, now)  # its clock is ahead of ours
    with pytest.raises(WireError, match="its model 9,007,199,254,740,992; at most 8,640,000") as refused:
        check_number("s", 2**53, manifest, now, now)
    assert refused.value.reason == "server-ahead"
