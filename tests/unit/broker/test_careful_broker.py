from __future__ import annotations

import inspect

import pytest

pytest.importorskip("amqtt", reason="the embedded broker is the extra `broker`")

from amqtt.broker import Broker

from grapevine_broker.careful_broker import BriefBytes, CarefulBroker


def test_every_method_that_mends_amqtt_still_exists_there() -> None:
    mended = ["retain_message", "_broadcast_message", "_publish_retained_messages_for_subscription"]
    for name in [*mended, "_handle_client_session"]:
        theirs = list(inspect.signature(getattr(Broker, name)).parameters)
        ours = list(inspect.signature(getattr(CarefulBroker, name)).parameters)
        assert ours == theirs


def test_bytes_in_a_debug_line_cost_nothing() -> None:
    payload = BriefBytes(bytes(1_000_000))
    assert f"{ {'data': payload} }" == "{'data': <1000000 bytes>}"
    assert payload == bytes(1_000_000)
