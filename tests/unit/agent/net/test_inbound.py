from __future__ import annotations

import asyncio
import threading

from grapevine_agent.net.events import Arrived, Connected, Disconnected
from grapevine_agent.net.inbound import Inbound
from grapevine_agent.net.urls import BrokerUrl

URL = BrokerUrl.parse("mqtt://hub")
CONNECTED = Connected(url=URL, version="5", max_packet_bytes=1)


def message(number: int, size: int = 1) -> Arrived:
    return Arrived(topic=f"{number}", payload=bytes(size), retained=False)


def inbound(max_messages: int = 100, max_bytes: int = 10_000) -> Inbound:
    return Inbound(asyncio.get_running_loop(), max_messages=max_messages, max_bytes=max_bytes)


async def test_messages_from_another_thread_come_out_in_order() -> None:
    queue = inbound(max_messages=10_000, max_bytes=1_000_000)
    thread = threading.Thread(target=lambda: [queue.put(message(n)) for n in range(5_000)])
    thread.start()
    received = [await asyncio.wait_for(queue.get(), 5) for _ in range(5_000)]
    thread.join()
    assert received == [message(n) for n in range(5_000)]


async def test_a_full_queue_drops_the_newest_message_but_never_a_change_of_state() -> None:
    queue = inbound(max_messages=2)
    assert [queue.put(message(n)) for n in range(4)] == [True, True, False, False]
    assert queue.put(Disconnected(url=URL, reason="lost"))
    assert queue.num_dropped == 2
    assert [await queue.get() for _ in range(3)] == [message(0), message(1), Disconnected(url=URL, reason="lost")]
    assert queue.put(message(5))


async def test_large_messages_fill_the_queue_by_their_bytes() -> None:
    queue = inbound(max_bytes=1_000)
    assert queue.put(message(0, size=900))
    assert not queue.put(message(1, size=900))
    await queue.get()
    assert queue.put(message(2, size=900))


async def test_messages_that_came_early_wait_for_connected() -> None:
    queue = inbound()
    queue.hold()
    queue.put(message(0))
    queue.release(CONNECTED)
    queue.put(message(1))
    assert [await queue.get() for _ in range(3)] == [CONNECTED, message(0), message(1)]


async def test_messages_of_an_attempt_that_failed_are_forgotten_and_take_no_room() -> None:
    queue = inbound(max_messages=1)
    queue.hold()
    queue.put(message(0))
    queue.discard()
    assert queue.put(message(1))
    assert await queue.get() == message(1)


async def test_a_closed_queue_ends_after_its_last_event() -> None:
    queue = inbound()
    queue.put(message(0))
    queue.close()
    assert await queue.get() == message(0)
    assert await queue.get() is None


def test_a_message_after_the_loop_has_closed_harms_nobody() -> None:
    loop = asyncio.new_event_loop()
    queue = Inbound(loop, max_messages=1, max_bytes=10)
    loop.close()
    assert queue.put(message(0))
