"""What is said of a broker whose access rules refuse a message."""

from __future__ import annotations

import asyncio
import logging
import time

import pytest

from grapevine_agent.net.failures import NotAllowedError
from grapevine_agent.net.outbox import Outbox
from grapevine_agent.service.sending import Sending
from grapevine_proto.errors import BrokerError


class Refusing:
    """A connection to a broker that takes nothing."""

    connected_to = "mqtt://kitchen:1883"

    def __init__(self, error: BrokerError) -> None:
        self.error = error

    async def publish(self, _topic: str, _payload: object, **_how: object) -> None:
        raise self.error


async def said_of(outbox: Outbox, error: BrokerError, caplog: pytest.LogCaptureFixture) -> list[tuple[int, str]]:
    """What is logged when all of it is refused: levels and texts."""
    caplog.set_level(logging.DEBUG, "grapevine_agent.service.sending")
    sending = Sending(outbox=outbox, transport=Refusing(error), answers=None, sealing=None)  # type: ignore[arg-type]
    running = asyncio.create_task(sending.run())
    sending.connected(20)
    async with asyncio.timeout(5):
        while len(outbox):
            await asyncio.sleep(0.01)
    running.cancel()
    return [(each.levelno, each.getMessage()) for each in caplog.records]


async def test_that_records_of_others_may_not_be_put_back_is_said_once_with_the_topic(
    caplog: pytest.LogCaptureFixture,
) -> None:
    outbox = Outbox()
    for number in range(5):
        topic = f"grapevine/v1/peer/{number}/task/x/manifest"
        outbox.answer(topic, b"m", deadline_s=time.monotonic() + 60, retain=True)
    said = await said_of(outbox, NotAllowedError("mqtt://kitchen:1883 refuses the message: Not authorized"), caplog)
    assert [level for level, _ in said] == [logging.INFO, *[logging.DEBUG] * 4]
    assert "mqtt://kitchen:1883 lacks grapevine/v1/peer/0/task/x/manifest" in said[0][1]
    assert not any("given up" in text for _, text in said)


async def test_that_a_message_of_our_own_is_refused_is_a_warning_with_the_topic_and_the_remedy(
    caplog: pytest.LogCaptureFixture,
) -> None:
    outbox = Outbox()
    outbox.keep("grapevine/v1/peer/us/state", b"here")
    ((level, text),) = await said_of(outbox, NotAllowedError("Not authorized"), caplog)
    assert level == logging.WARNING
    assert "grapevine/v1/peer/us/state" in text
    assert "grapevine doctor" in text


async def test_another_refusal_is_a_warning_with_the_topic(caplog: pytest.LogCaptureFixture) -> None:
    outbox = Outbox()
    outbox.keep("grapevine/v1/peer/us/about", b"here")
    assert await said_of(outbox, BrokerError("Quota exceeded"), caplog) == [
        (logging.WARNING, "given up: grapevine/v1/peer/us/about: Quota exceeded")
    ]
