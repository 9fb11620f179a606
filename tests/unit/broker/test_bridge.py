"""Lines for a bridge between two Mosquittos."""

from __future__ import annotations

import pytest

from grapevine_broker.bridge import FILTERS, Bridge
from grapevine_proto.errors import ConfigError, RequestError
from grapevine_proto.topics import ChunkTopic, InboxTopic, PeerTopic, TaskTopic


def lines(**changed: object) -> list[str]:
    bridge = {"name": "far", "host": "hub", "port": 1883, "client_id": "far-1", "root": "farm/v1"} | changed
    return Bridge(**bridge).config().splitlines()  # type: ignore[arg-type]


def matches(topic_filter: str, topic: str) -> bool:
    levels, said = topic_filter.split("/"), topic.split("/")
    return len(levels) == len(said) and all(a in ("+", b) for a, b in zip(levels, said, strict=True))


@pytest.mark.parametrize(
    ("topic", "qos"),
    [
        *((PeerTopic("ada", leaf), 1) for leaf in ("announcement", "state")),
        *((TaskTopic("ada", "t", leaf), 1) for leaf in ("manifest", "review", "server", "model")),
        (InboxTopic("ada", "bob"), 1),
        (ChunkTopic("ada", "bob", "x"), 1),
        (PeerTopic("ada", "heartbeat"), 0),
        (TaskTopic("ada", "t", "metrics"), 0),
    ],
)
def test_each_kind_of_topic_is_carried_once_and_both_ways(topic: PeerTopic | TaskTopic, qos: int) -> None:
    assert [each for name, each in FILTERS if matches(name, topic.below_root())] == [qos]
    carried = [line.split() for line in lines() if line.startswith("topic ")]
    assert [
        (direction, level, here, there)
        for _, name, direction, level, here, there in carried
        if matches(name, topic.below_root())
    ] == [("both", str(qos), "farm/v1/", "farm/v1/")]


def test_nothing_is_kept_and_no_password_is_written() -> None:
    written = lines()
    assert {"cleansession true", "try_private true", "notifications false", "restart_timeout 1 30"} <= set(written)
    assert not any("bridge_ca" in line for line in written)
    assert all(line.startswith("#") for line in written if "password" in line or "username" in line)
    assert "bridge_capath /etc/ssl/certs" in lines(has_tls=True)


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"name": "a b"}, RequestError),
        ({"host": "hub\nlistener 1"}, RequestError),
        ({"root": "a/b/c"}, ConfigError),
        ({"root": "a\nb"}, ConfigError),
    ],
)
def test_what_would_be_another_line_is_refused(changed: dict[str, object], error: type[Exception]) -> None:
    with pytest.raises(error):
        lines(**changed)
