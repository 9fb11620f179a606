"""Brokers that anybody can announce: how many are used, what they may not limit, and that nothing is kept of them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.unit.agent.service.test_restoring import REVIEWER, ROOT, service, verdict

from grapevine_agent.core.effects import Relay
from grapevine_agent.core.moment import Moment
from grapevine_agent.core.overlay.abilities import BrokerAbilities
from grapevine_agent.net.discovery import AnnouncedBroker
from grapevine_agent.net.outbox import Outbox
from grapevine_agent.net.transport import Transport
from grapevine_agent.net.urls import BrokerUrl
from grapevine_agent.service import clock
from grapevine_agent.service.attachment import Attachments
from grapevine_agent.service.attending import Attending
from grapevine_agent.service.choosing import MOST_FOUND
from grapevine_agent.service.discovering import Discovering, Search
from grapevine_agent.service.shell import LEAST_PACKET_BYTES
from grapevine_proto.codec import open_envelope

OWNERS = BrokerUrl.parse("mqtt://hub.example")


def found(port: int) -> BrokerUrl:
    return BrokerUrl(host="192.168.1.5", port=port, is_found=True)


class Nowhere:
    """A transport that is never connected."""

    def __init__(self, url: BrokerUrl, max_packet_bytes: int = 1_000_000) -> None:
        self.brokers = (url,)
        self.connected_to = None
        self.max_packet_bytes = max_packet_bytes
        self.tried: list[BrokerUrl] = []

    async def run(self) -> None:
        await asyncio.Event().wait()

    def also_try(self, urls: list[BrokerUrl]) -> None:
        self.tried = list(urls)


class Way:
    """An attachment, as far as being at brokers needs one."""

    def __init__(self, number: int, transport: Any, *, is_connected: bool = False) -> None:
        self.number = number
        self.transport = transport
        self.outbox = Outbox()
        self.sending = transport
        self.is_connected = is_connected
        self.is_found = transport.brokers[0].is_found

    async def subscribe(self, *_filters: tuple[str, int]) -> None: ...


class Being:
    """Who is at the owner's broker, and perhaps at found ones."""

    def __init__(self, *, attaches: bool = True) -> None:
        first: Any = Way(0, Nowhere(OWNERS))
        self.first = first
        self.attachments = Attachments([first], lambda _peer: None)
        self.left: list[int] = []
        attach: Any = Nowhere if attaches else None
        make: Any = Way
        self.attending = Attending(
            attachments=self.attachments,
            attach=attach,
            make=make,
            read=lambda _attachment: asyncio.Event().wait(),  # type: ignore[arg-type, return-value]
            left=self._left,
            below=f"{ROOT}/",
            state=f"{ROOT}/peer/us/state",
        )

    async def _left(self, number: int) -> None:
        self.left.append(number)

    def at(self) -> dict[int, BrokerUrl]:
        return {each.number: each.transport.brokers[0] for each in self.attachments}


async def test_found_brokers_come_and_go_and_nothing_is_kept_of_those_that_went() -> None:
    here = Being()
    async with asyncio.TaskGroup() as group:
        here.attending.begin(group)
        await here.attending.use_found([found(1), found(2)])
        assert here.at() == {0: OWNERS, 1: found(1), 2: found(2)}
        first = here.attending._attended[1]
        await here.attending.use_found([found(2)])
        assert here.at() == {0: OWNERS, 2: found(2)}
        assert first.cancelled()
        assert here.left == [1]
        # What was said of one that went is not taken for the word of the next: no number is given twice.
        await here.attending.use_found([found(1), found(2)])
        assert here.at() == {0: OWNERS, 2: found(2), 3: found(1)}
        for port in range(10, 30):
            await here.attending.use_found([found(port)])
        await here.attending.use_found([])
        assert here.at() == {0: OWNERS}
        assert here.attending._attended.keys() == {0}
        assert here.left == list(dict.fromkeys(here.left))
        here.attending.no_more()
        await here.attending.use_found([found(1)])
        assert here.at() == {0: OWNERS}
        here.attending.end()


async def test_with_one_connection_found_brokers_are_tried_and_attached_nowhere() -> None:
    here = Being(attaches=False)
    async with asyncio.TaskGroup() as group:
        here.attending.begin(group)
        await here.attending.use_found([found(1), found(2)])
        assert here.first.transport.tried == [found(1), found(2)]
        assert here.at() == {0: OWNERS}
        here.attending.end()


async def test_a_transport_keeps_nothing_of_found_brokers_that_went() -> None:
    transport = Transport([OWNERS], client_id="me")
    for port in range(1, 200):
        transport.also_try([found(port)])
        transport._spoke[found(port)] = "5"
        transport._probed[found(port)] = (0.0, "")
    transport.also_try([])
    assert transport.brokers == (OWNERS,)
    assert set(transport._limits) == {OWNERS}
    assert not transport._spoke
    assert not transport._probed


# --- how many -------------------------------------------------------------------------------------


class Air:
    """What is announced, as the network brings it; and a clock."""

    def __init__(self) -> None:
        self.announced: tuple[AnnouncedBroker, ...] = ()
        self.now_s = 0.0


@pytest.fixture
def air(monkeypatch: pytest.MonkeyPatch) -> Air:
    made = Air()
    monkeypatch.setattr(clock, "now", lambda: Moment(monotonic_s=made.now_s, wall_ms=0))
    return made


def looking(air: Air, used: list[tuple[BrokerUrl, ...]], met: set[BrokerUrl]) -> Discovering:
    async def use(urls: Any) -> None:
        used.append(tuple(urls))

    made = Discovering(Search(root=ROOT, peer="us", configured=()), use=use, met=lambda: frozenset(met))
    made._discovery = air  # type: ignore[assignment]
    return made


def announcements(*ports: int) -> tuple[AnnouncedBroker, ...]:
    return tuple(AnnouncedBroker(name=f"b{port}", addresses=("192.168.1.5",), port=port, root=ROOT) for port in ports)


async def test_however_many_are_announced_and_whatever_comes_next_a_few_are_used_and_remembered(air: Air) -> None:
    used: list[tuple[BrokerUrl, ...]] = []
    discovering = looking(air, used, set())
    for turn in range(40):
        air.announced = announcements(*range(1_000 + 64 * turn, 1_064 + 64 * turn))
        for _ in range(3):
            air.now_s += 30.0
            await discovering._look()
        assert len(discovering.found) == MOST_FOUND
        assert len(discovering._choice._tried) <= 64
    assert max(map(len, used)) == MOST_FOUND
    air.announced = ()
    await discovering._look()
    assert not used[-1]
    assert not discovering._choice._tried


async def test_one_that_was_withdrawn_is_kept_while_it_alone_has_us(air: Air) -> None:
    used: list[tuple[BrokerUrl, ...]] = []
    met: set[BrokerUrl] = set()
    discovering = looking(air, used, met)
    air.announced = announcements(1, 2)
    await discovering._look()
    one, other = used[-1]
    met.update((one, other))
    air.announced = announcements(other.port)
    await discovering._look()
    assert used[-1] == (other,)  # the other one has us as well
    met.remove(one)
    air.announced = ()
    await discovering._look()
    assert used[-1] == (other,)
    met.clear()
    await discovering._look()
    assert not used[-1]


# --- what they may not limit ----------------------------------------------------------------------


def test_a_found_broker_sets_no_limit_to_what_goes_by_the_owners() -> None:
    def at(*ways: Way) -> int:
        attached: Any = ways
        return Attachments(attached, lambda _peer: None).max_packet_bytes

    own = Way(0, Nowhere(OWNERS, 900_000), is_connected=True)
    tiny = Way(1, Nowhere(found(1), 300), is_connected=True)
    assert at(own, tiny) == 900_000
    own.is_connected = False
    assert at(own, tiny) == 300  # then it is the only way


@pytest.mark.parametrize(("is_found", "limit"), [(True, LEAST_PACKET_BYTES), (False, 300)])
def test_records_are_given_by_peers_however_small_the_packets_of_a_found_broker(
    tmp_path: Path, is_found: bool, limit: int
) -> None:
    with service(tmp_path) as started:
        transport: Any = started.attachments[0].transport
        transport.connected_to = found(1) if is_found else OWNERS

        async def tell() -> None:
            started._found(0, BrokerAbilities(max_packet_bytes=300))
            await asyncio.gather(*started._background)

        asyncio.run(tell())
        assert started.core.brokers.at(0).abilities.max_packet_bytes == limit


# --- giving back ----------------------------------------------------------------------------------


@pytest.mark.parametrize("has_room", [True, False])
def test_a_record_that_found_no_room_on_its_way_to_a_broker_is_given_again(tmp_path: Path, has_room: bool) -> None:
    topic, envelope = verdict(REVIEWER, "ab" * 32)
    record = open_envelope(envelope, topic, retained=True)
    with service(tmp_path) as started:
        brokers, now_s = started.core.brokers, clock.now().monotonic_s
        brokers.connected(0, now_s - 60.0)
        given = brokers.due([record], now_s)
        assert given == [Relay(received=record, broker=0)]
        started.attachments[0].outbox._max_answers = 8 if has_room else 0
        started.perform(given)
        assert len(started.attachments[0].outbox) == has_room
        later = [each for after_s in (60.0, 3_600.0) for each in brokers.due([record], now_s + after_s)]
        assert later == ([] if has_room else given)


def test_attachments_can_come_and_go_while_somebody_goes_through_them() -> None:
    ways: Any = [Way(number, SimpleNamespace(brokers=(found(number),))) for number in range(3)]
    attachments = Attachments(ways, lambda _peer: None)
    seen = []
    for each in attachments:  # with a pause at each, as whoever awaits something has
        seen.append(each.number)
        if each.number == 0:
            attachments.remove(ways[1])
    assert seen == [0, 1, 2]
    assert attachments.get(1) is None
