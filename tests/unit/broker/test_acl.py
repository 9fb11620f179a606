from __future__ import annotations

import pytest

from grapevine_agent.config.homeassistant import HomeAssistantConfig
from grapevine_broker.acl import HOME_ASSISTANT_PREFIX, HOME_ASSISTANT_ROOT, acl_text
from grapevine_proto.errors import ConfigError


def test_four_lines_let_a_peer_write_only_under_its_own_id() -> None:
    assert acl_text("grapevine/v1") == (
        "pattern write grapevine/v1/peer/%u/#\n"
        "pattern read grapevine/v1/peer/#\n"
        "pattern write grapevine/v1/inbox/+/%u/#\n"
        "pattern read grapevine/v1/inbox/%u/#\n"
    )


def test_home_assistants_user_alone_may_command() -> None:
    lines = acl_text("grapevine/v1", "hass").splitlines()
    assert lines[:4] == acl_text("grapevine/v1").splitlines()
    assert lines[4:] == [
        "pattern readwrite homeassistant/device/%u/config",
        "pattern read homeassistant/status",
        "pattern write grapevine-homeassistant/%u/#",
        "pattern read grapevine-homeassistant/%u/set/#",
        "user hass",
        "topic readwrite homeassistant/#",
        "topic readwrite grapevine-homeassistant/#",
    ]


def test_servers_alone_take_what_everybody_may_say_to_their_group() -> None:
    lines = acl_text("grapevine/v1", "hass", ["barn", "loft"]).splitlines()
    assert lines[:4] == acl_text("grapevine/v1").splitlines()
    assert lines[4] == "pattern write grapevine/v1/group/+/+/%u"
    assert lines[5:-4] == acl_text("grapevine/v1", "hass").splitlines()[4:]
    assert lines[-4:] == [
        "user barn",
        "topic read grapevine/v1/group/#",
        "user loft",
        "topic read grapevine/v1/group/#",
    ]
    with pytest.raises(ConfigError, match="a server's is its peer id"):
        acl_text("grapevine/v1", servers=["a\ntopic readwrite #"])


def test_the_rules_are_for_the_topics_that_agents_take_by_themselves() -> None:
    config = HomeAssistantConfig()
    assert (config.prefix, config.root) == (HOME_ASSISTANT_PREFIX, HOME_ASSISTANT_ROOT)
    assert config.status == f"{HOME_ASSISTANT_PREFIX}/status"


@pytest.mark.parametrize("user", [" ", "a b", "a\ntopic readwrite #", "#", "a/b"])
def test_a_user_name_that_could_change_the_rules_is_refused(user: str) -> None:
    with pytest.raises(ConfigError, match="give Home Assistant such a one"):
        acl_text("grapevine/v1", user)


@pytest.mark.parametrize("root", ["", "/", "a/b/c", "a/+", "#", "a\ntopic readwrite #", "a b", "%u", "a/"])
def test_a_root_that_could_change_the_rules_is_refused(root: str) -> None:
    with pytest.raises(ConfigError, match="write for example grapevine/v1"):
        acl_text(root)
