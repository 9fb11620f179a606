"""How the demo logs in to a broker of somebody's."""

from __future__ import annotations

from pathlib import Path

import pytest

from grapevine_agent.net.urls import BrokerUrl
from grapevine_lab.demo.login import with_login
from grapevine_proto.errors import ConfigError

PLAIN = BrokerUrl.parse("mqtt://hub.local")


def test_the_login_comes_from_the_variables_of_an_agent(tmp_path: Path) -> None:
    found = with_login(PLAIN, {"GRAPEVINE_MQTT_USERNAME": "ada", "GRAPEVINE_MQTT_PASSWORD": "secret"})
    assert (found.username, found.password) == ("ada", "secret")
    file = tmp_path / "password"
    file.write_text("kept\n")
    found = with_login(PLAIN, {"GRAPEVINE_MQTT_USERNAME": "ada", "GRAPEVINE_MQTT_PASSWORD_FILE": str(file)})
    assert (found.username, found.password) == ("ada", "kept")
    assert with_login(PLAIN, {}) == PLAIN


def test_a_url_that_names_a_user_is_taken_at_its_word() -> None:
    url = BrokerUrl.parse("mqtt://grace:hers@hub.local")
    assert with_login(url, {"GRAPEVINE_MQTT_USERNAME": "ada", "GRAPEVINE_MQTT_PASSWORD": "secret"}) == url


@pytest.mark.parametrize(
    ("environ", "told"),
    [
        ({"GRAPEVINE_MQTT_PASSWORD": "secret"}, "GRAPEVINE_MQTT_USERNAME"),
        ({"GRAPEVINE_MQTT_USERNAME": "a", "GRAPEVINE_MQTT_PASSWORD_FILE": "/nowhere"}, "'/nowhere': cannot be read"),
        ({"GRAPEVINE_MQTT_USERNAME": "a", "GRAPEVINE_MQTT_PASSWORD_FILE": "/dev/null"}, "is empty"),
    ],
)
def test_what_is_missing_is_said(environ: dict[str, str], told: str) -> None:
    with pytest.raises(ConfigError, match=told) as error:
        with_login(PLAIN, environ)
    assert "secret" not in str(error.value)
