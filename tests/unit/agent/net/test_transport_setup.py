from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grapevine_agent.net.tls import TlsOptions
from grapevine_agent.net.transport import Transport, backoff_delay_s
from grapevine_agent.net.urls import BrokerUrl
from grapevine_proto.errors import BrokerError, ConfigError

PLAIN = [BrokerUrl.parse("mqtt://hub")]
SECURE = [BrokerUrl.parse("mqtts://hub")]


@given(st.integers(min_value=0, max_value=10_000), st.integers())
def test_a_wait_keeps_within_its_limits_and_is_half_random(attempt: int, seed: int) -> None:
    delay_s = backoff_delay_s(attempt, (1.0, 60.0), random.Random(seed))
    whole_s = min(60.0, 2.0 ** min(attempt, 10))
    assert whole_s / 2 <= delay_s <= whole_s


async def test_no_broker_at_all_is_the_owners_to_mend() -> None:
    with pytest.raises(ConfigError, match="no broker is configured"):
        Transport([], client_id="me")


async def test_tls_files_beside_a_plain_url_are_an_error_not_a_plain_connection() -> None:
    with pytest.raises(ConfigError, match="not encrypted: write mqtts://"):
        Transport(PLAIN, client_id="me", tls=TlsOptions())


async def test_a_wrong_tls_file_is_found_before_the_first_connection(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no-such-file"):
        Transport(SECURE, client_id="me", tls=TlsOptions(ca_file=tmp_path / "no-such-file"))
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("nonsense")
    with pytest.raises(ConfigError, match=r"nonsense\.pem"):
        Transport(SECURE, client_id="me", tls=TlsOptions(certificate_file=nonsense, key_file=nonsense))
    with pytest.raises(ConfigError, match="give both files"):
        Transport(SECURE, client_id="me", tls=TlsOptions(certificate_file=nonsense))


@pytest.mark.parametrize("topic_filter", ["", "a/#/b", "a#", "a+/b", "#/a"])
async def test_what_is_no_filter_is_refused_before_it_could_end_a_connection(topic_filter: str) -> None:
    transport = Transport(PLAIN, client_id="me")
    with pytest.raises(ValueError, match="is no subscription"):
        await transport.subscribe((topic_filter, 1))
    with pytest.raises(ValueError, match="QoS 2"):
        await transport.subscribe(("a/+/b/#", 2))
    await transport.subscribe(("a/+/b/#", 1), ("#", 0), ("+", 0))


async def test_publishing_before_a_connection_says_which_broker_is_missing() -> None:
    with pytest.raises(BrokerError, match="not connected to mqtt://hub:1883"):
        await Transport(PLAIN, client_id="me").publish("a", b"")
