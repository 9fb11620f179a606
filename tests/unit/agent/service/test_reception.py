"""What an owner is told of the packets that a broker takes."""

from __future__ import annotations

import pytest

from grapevine_agent.net.events import Connected
from grapevine_agent.net.urls import BrokerUrl
from grapevine_agent.service.double import Double
from grapevine_agent.service.reception import Reception

HUB = BrokerUrl.parse("mqtt://hub.local")


@pytest.mark.parametrize(
    ("takes", "wanted", "is_learnt", "said"),
    [
        (15_000, 1_000_000, False, "takes no packets above 15,000 bytes, and mqtt.max_packet_bytes allows 1,000,000"),
        (2_000, 1_000_000, False, "too little for models, and records are refused as well"),
        (15_000, 1_000_000, True, "closes the connection at large packets and does not say what it takes"),
        (1_000_000, 1_000_000, False, ""),
        (15_000, 0, False, ""),  # nobody knows what was wanted
    ],
)
def test_a_narrow_line_is_said_whether_the_broker_says_so_or_not(
    takes: int, wanted: int, is_learnt: bool, said: str
) -> None:
    reception = Reception(Double())
    reception.connected(
        Connected(url=HUB, version="5", max_packet_bytes=takes, wanted_packet_bytes=wanted, has_learnt_limit=is_learnt)
    )
    assert len(reception.cannot) == bool(said)
    assert said in "".join(reception.cannot)
    reception.connected(Connected(url=HUB, version="5", max_packet_bytes=1_000_000, wanted_packet_bytes=1_000_000))
    assert reception.cannot == []
