"""How the demo logs in to a broker of somebody's: by the variables that agents know, or as its URL says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from grapevine_agent.config.brokers import PASSWORD_VARIABLE
from grapevine_agent.net.urls import BrokerUrl
from grapevine_proto.errors import ConfigError

USERNAME_VARIABLE = "GRAPEVINE_MQTT_USERNAME"
PASSWORD_FILE_VARIABLE = f"{PASSWORD_VARIABLE}_FILE"


def with_login(url: BrokerUrl, environ: Mapping[str, str]) -> BrokerUrl:
    """The broker with its login. All of the demo's processes share it, with client ids of their own.

    Raises:
        ConfigError: A password and no user, or a file that cannot be read.
    """
    if url.username:
        return url
    username = environ.get(USERNAME_VARIABLE, "")
    password = environ.get(PASSWORD_VARIABLE, "") or _from_file(environ.get(PASSWORD_FILE_VARIABLE, ""))
    if password and not username:
        raise ConfigError(f"there is a password for the demo's broker and no user name: set {USERNAME_VARIABLE} too")
    return replace(url, username=username, password=password)


def _from_file(name: str) -> str:
    if not name:
        return ""
    try:
        password = Path(name).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{PASSWORD_FILE_VARIABLE} = {name!r}: cannot be read ({error})") from None
    if not password:
        raise ConfigError(f"{PASSWORD_FILE_VARIABLE} = {name!r}: is empty; write the password into its first line")
    return password
