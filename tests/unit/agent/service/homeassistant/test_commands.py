"""What Home Assistant may ask for, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.agent.service.shown import DIGITS, PEER

from grapevine_agent.service.homeassistant.commands import BURST, SECONDS_EACH, Commands, Leave, Pause
from grapevine_agent.service.homeassistant.components import Topics

TOPICS = Topics(prefix="homeassistant", root="ha", peer=PEER)


def read(topic: str, payload: bytes, *, retained: bool = False) -> object:
    return Commands(TOPICS).read(topic, payload, retained=retained, now_s=0.0)


def test_a_switch_pauses_and_resumes_and_a_button_leaves() -> None:
    assert read(TOPICS.pause, b"ON") == Pause(True)
    assert read(TOPICS.pause, b"OFF") == Pause(False)
    assert read(TOPICS.leave(DIGITS.key), b"PRESS") == Leave(DIGITS.key)


def test_a_command_that_a_broker_has_kept_is_refused() -> None:
    assert read(TOPICS.pause, b"ON", retained=True) == "command-retained"


@pytest.mark.parametrize(
    ("topic", "payload"),
    [
        (TOPICS.pause, b"on"),
        (TOPICS.pause, b""),
        (TOPICS.pause, b"ON" + b" " * 20),
        (TOPICS.leave(DIGITS.key), b"ON"),
        (TOPICS.leave(DIGITS.key[:8]), b"PRESS"),
        (TOPICS.leave(DIGITS.key.upper()), b"PRESS"),
        (TOPICS.leave("../../grapevine/v1"), b"PRESS"),
        (f"{TOPICS.commands}/forget/{DIGITS.key}", b"PRESS"),
    ],
)
def test_anything_else_is_no_command(topic: str, payload: bytes) -> None:
    assert read(topic, payload) == "command-unknown"


@given(st.text(max_size=60), st.binary(max_size=60))
def test_no_bytes_are_an_error(below: str, payload: bytes) -> None:
    assert read(f"{TOPICS.commands}/{below}", payload) == "command-unknown"


def test_so_many_commands_are_taken_and_then_one_in_a_while() -> None:
    commands = Commands(TOPICS)

    def taken(now_s: float) -> bool:
        return commands.read(TOPICS.pause, b"ON", retained=False, now_s=now_s) == Pause(True)

    assert [taken(1_000.0) for _ in range(BURST + 2)] == [True] * BURST + [False] * 2
    assert not taken(1_000.0 + SECONDS_EACH / 2)
    assert taken(1_000.0 + SECONDS_EACH)
    assert not taken(1_000.0 + SECONDS_EACH)
