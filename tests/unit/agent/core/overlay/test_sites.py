"""Sites: with whom models are exchanged, where an owner keeps to one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from grapevine_agent.config.agent_toml import load_config
from grapevine_agent.core.overlay.members import Members
from grapevine_agent.core.settings import Scope
from grapevine_proto.codec import open_envelope, seal
from grapevine_proto.errors import ConfigError
from grapevine_proto.location import Location
from grapevine_proto.messages import Heartbeat, Message, PeerAnnouncement, PeerState
from grapevine_proto.signing import SigningKey
from grapevine_proto.topics import PeerTopic

TASK = "7" * 64
NEAR, FAR, SILENT = "n" * 20, "f" * 20, "s" * 20


def members(only: str = "") -> Members:
    found = Members(1.0, np.random.default_rng(0), scope=Scope(site=only))
    for peer, site in ((NEAR, "lake"), (FAR, "hill"), (SILENT, "")):
        found.hear_state(peer, PeerState(online=True), 1, 0.0)
        found.hear_announcement(peer, PeerAnnouncement(tasks=(TASK,), site=site))
        found.hear_heartbeat(peer, Heartbeat(), 0.0, session=1)
    return found


def test_members_of_other_sites_are_not_counted_where_the_owner_keeps_to_one() -> None:
    assert members().of_task(TASK, 0.0) == sorted((NEAR, FAR, SILENT))
    kept = members("lake")
    assert kept.of_task(TASK, 0.0) == [NEAR]
    assert [kept.reach.holds(peer) for peer in (NEAR, FAR, SILENT, "x" * 20)] == [True, False, False, False]


def test_who_moves_counts_from_then_on_and_who_is_named_everywhere() -> None:
    kept = members("lake")
    assert kept.of_task(TASK, 0.0) == [NEAR]
    kept.hear_announcement(FAR, PeerAnnouncement(tasks=(TASK,), site="lake"))
    assert kept.of_task(TASK, 0.0) == sorted((NEAR, FAR))
    kept.name((SILENT,))
    assert kept.reach.holds(SILENT)


def test_a_site_and_a_place_are_announced() -> None:
    key = SigningKey(bytes([9] * 32))
    topic = PeerTopic(key.peer_id, "announcement")
    said = PeerAnnouncement(name="kitchen", site="lake", location=Location(latitude=-9000, longitude=18000))
    message = Message(sender=key.peer_id, session=1, sequence=1, body=said)
    assert open_envelope(seal(message, topic, key), topic).message.body == said


def test_to_keep_to_a_site_one_has_to_have_one(tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    file.write_text('[mqtt]\nscope = "site"\n')
    with pytest.raises(ConfigError, match=r'mqtt.scope = .site.: .*site = "lakeside"'):
        load_config(file, {})
    file.write_text('[agent]\nsite = "lake"\n[mqtt]\nscope = "site"\n')
    assert load_config(file, {}).agent.site == "lake"
