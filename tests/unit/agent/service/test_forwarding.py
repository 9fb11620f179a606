"""What a gateway carries costs little before it is trusted, and no more than the owner lends."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from tests.unit.agent.core.overlay.test_gateway import ADA, BOB, KEY_OF, World

from grapevine_agent.core.moment import Moment
from grapevine_agent.net.outbox import Outbox
from grapevine_agent.service import clock, forwarding
from grapevine_agent.service.beside import Beside
from grapevine_agent.service.forwarding import RECORDS_PER_S, STRANGERS_PER_S, Forwarding
from grapevine_proto.codec import open_envelope, seal
from grapevine_proto.messages import BlobRequest, Message
from grapevine_proto.signing import SigningKey
from grapevine_proto.topics import ChunkTopic, InboxTopic

ROOT, US = "grapevine/v1", "us"
TASK = "ab" * 32


@pytest.fixture(autouse=True)
def standing_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the machine is: no budget fills up meanwhile."""
    monkeypatch.setattr(clock, "now", lambda: Moment(monotonic_s=100.0, wall_ms=0))


class Way:
    """An attachment, as far as forwarding needs one."""

    def __init__(self, max_answers: int = 256) -> None:
        self.outbox = Outbox(max_answers=max_answers)
        self.sending = self
        self.num_woken = 0

    def wake(self) -> None:
        self.num_woken += 1

    def waiting(self) -> list[bytes]:
        found = []
        while (waiting := self.outbox.take(0.0)) is not None:
            found.append(bytes(waiting.payload))
            self.outbox.sent(waiting)
        return found


class Carried:
    """A gateway at brokers 0 and 1, of which Ada is at the first."""

    def __init__(
        self, *, bytes_per_s: float = 1e6, may_carry: Callable[[int], bool] = lambda _: True, **outbox: int
    ) -> None:
        world = World()
        world.is_there(ADA, 0)
        world.look()
        self.gateway, self.ways = world.gateway, {number: Way(**outbox) for number in (0, 1)}
        self.rejected: Counter[str] = Counter()
        attachments: Any = self.ways
        self.forwarding = Forwarding(
            gateway=self.gateway,
            attachments=attachments,
            beside=Beside(),
            root=ROOT,
            peer=US,
            max_bytes=1_000_000,
            bytes_per_s=bytes_per_s,
            is_member=lambda peer: peer in (ADA, BOB),
            rejected=lambda error, _sender: self.rejected.update([error.reason]),
            may_carry=may_carry,
        )

    async def hear(self, topic: InboxTopic | ChunkTopic, payload: bytes, broker: int = 1) -> bool:
        return await self.forwarding.hear(f"{ROOT}/{topic.below_root()}", payload, broker)


def letter(key: SigningKey = KEY_OF[BOB], sequence: int = 1, receiver: str = ADA) -> tuple[InboxTopic, bytes]:
    topic = InboxTopic(receiver, key.peer_id)
    body = BlobRequest(task=TASK, digest="cd" * 32)
    return topic, seal(Message(sender=key.peer_id, session=1, sequence=sequence, body=body), topic, key)


async def test_a_letter_goes_on_as_it_was_signed_one_hop_more() -> None:
    carried = Carried()
    topic, payload = letter()
    assert await carried.hear(topic, payload)
    (again,) = carried.ways[0].waiting()
    received = open_envelope(again, topic)
    assert (received.hops, received.message) == (1, open_envelope(payload, topic).message)
    assert carried.ways[1].waiting() == []
    assert not carried.rejected


async def test_what_is_for_us_is_left_and_what_is_for_nobody_that_we_know_is_dropped() -> None:
    carried = Carried()
    assert not await carried.hear(*letter(receiver=US))
    assert await carried.hear(*letter(receiver=BOB))
    assert carried.ways[0].waiting() == carried.ways[1].waiting() == []


async def test_a_letter_that_its_sender_has_not_signed_is_not_carried() -> None:
    carried = Carried()
    topic, payload = letter()
    forged = InboxTopic(ADA, KEY_OF[ADA].peer_id)
    await carried.hear(forged, payload)
    await carried.hear(topic, b"\xff" * 50)
    await carried.hear(topic, payload[:-1] + bytes([payload[-1] ^ 1]))
    assert carried.ways[0].waiting() == []
    assert sum(carried.rejected.values()) == 3


async def test_what_is_more_than_the_owner_lends_is_refused_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    carried = Carried(bytes_per_s=100.0)
    num_opened = 0

    def opened(*args: Any, **options: Any) -> Any:
        nonlocal num_opened
        num_opened += 1
        return open_envelope(*args, **options)

    monkeypatch.setattr(forwarding, "open_envelope", opened)
    for sequence in range(1, 11):
        await carried.hear(*letter(sequence=sequence))
    assert num_opened == len(carried.ways[0].waiting()) < 5
    assert carried.rejected["over-quota"] == 10 - num_opened


async def test_what_is_large_is_carried_as_far_as_todays_bytes_reach_and_what_is_forged_costs_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[int] = []

    def may_carry(num_bytes: int) -> bool:
        asked.append(num_bytes)
        return len(asked) < 3

    monkeypatch.setattr(forwarding, "SMALL_BYTES", 10)
    carried = Carried(may_carry=may_carry)
    topic, payload = letter()
    await carried.hear(topic, payload[:-1] + bytes([payload[-1] ^ 1]))
    assert asked == []
    for sequence in range(1, 5):
        await carried.hear(*letter(sequence=sequence))
    assert len(carried.ways[0].waiting()) == 2
    assert asked[0] == len(payload)


async def test_strangers_have_a_few_carried_between_them_all() -> None:
    carried = Carried()
    num = int(4 * STRANGERS_PER_S) + 50
    for number in range(num):
        await carried.hear(*letter(SigningKey(number.to_bytes(32, "big"))))
    assert len(carried.ways[0].waiting()) <= 4 * STRANGERS_PER_S + 20
    assert carried.rejected["over-quota"] > 20
    await carried.hear(*letter())
    assert len(carried.ways[0].waiting()) == 1  # of a member


async def test_chunks_that_nobody_signs_take_nothing_from_letters() -> None:
    carried = Carried(bytes_per_s=1_000.0)
    for _ in range(50):
        await carried.hear(ChunkTopic(ADA, BOB, "a" * 20), bytes(1_000))
    assert carried.rejected["over-quota"] > 40
    before = len(carried.ways[0].waiting())
    await carried.hear(*letter())
    assert before <= 5
    assert len(carried.ways[0].waiting()) == 1


async def test_what_has_come_far_enough_is_dropped() -> None:
    carried = Carried()
    topic = InboxTopic(ADA, BOB)
    message = Message(sender=BOB, session=1, sequence=1, body=BlobRequest(task=TASK, digest="cd" * 32), hop_limit=0)
    await carried.hear(topic, seal(message, topic, KEY_OF[BOB]))
    assert carried.rejected == {"hops": 1}


def test_a_record_that_found_no_room_is_said_anew() -> None:
    carried = Carried(max_answers=1)
    world = World()
    world.is_there(ADA, 0)
    effects = world.look()
    assert len(carried.gateway.status()) == 1
    for each in effects:
        carried.forwarding.say_again(each)
    assert len(carried.ways[1].waiting()) == 1
    assert carried.gateway.status() == {}  # until the next look


def test_records_are_said_again_so_often_and_no_more() -> None:
    carried = Carried(max_answers=10_000)
    world = World()
    world.is_there(ADA, 0)
    announced, _ = world.look()
    for _ in range(int(4 * RECORDS_PER_S) + 100):
        carried.forwarding.say_again(announced)
    assert carried.forwarding.num_messages <= 4 * RECORDS_PER_S + 20
