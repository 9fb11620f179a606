"""The traffic that brokers are measured with."""

import pytest

from grapevine_broker.embedded import EmbeddedBroker
from grapevine_lab.bench.plain_mqtt import Traffic

pytest.importorskip("amqtt", reason="the embedded broker is the extra `broker`")


@pytest.mark.parametrize(("num_bytes", "window"), [(0, 1), (200, 1), (200, 20), (300_000, 20)])
def test_every_message_comes_through_a_broker_and_is_acknowledged_both_ways(num_bytes: int, window: int) -> None:
    with EmbeddedBroker() as broker, Traffic(broker.port, num_bytes, window) as traffic:
        traffic.carry(50)
        traffic.carry(1)
