"""Asking the running service, or acting in its place where none runs: one request of one command."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grapevine_agent.cli.acting_as import act_as_service
from grapevine_agent.cli.output import configuration, tell
from grapevine_agent.control.protocol import SOCKET_FILE, NoServiceError
from grapevine_proto.errors import ConfigError

if TYPE_CHECKING:
    from grapevine_agent.api import Grapevine
    from grapevine_agent.config.agent_toml import Config


def ask(config: Config, method: str, params: dict[str, Any]) -> Any:
    """Ask the running service. Raises `NoServiceError` if there is none."""
    from grapevine_agent.control.client import call

    return call(config.agent.state_dir / SOCKET_FILE, method, params)


def ask_running(path: Path | None, method: str, params: dict[str, Any]) -> Any:
    """Ask the running service, which goes on with what it has read, even where the configuration has a fault by now."""
    try:
        config = configuration(path)
    except ConfigError as error:
        return ask_despite(error, path, method, params)
    return ask(config, method, params)


def ask_despite(fault: ConfigError, path: Path | None, method: str, params: dict[str, Any]) -> Any:
    """Ask the running service where the configuration cannot be read. Raises `fault` if there is no service."""
    from grapevine_agent.config.agent_toml import state_dir_of
    from grapevine_agent.control.client import call

    folder = state_dir_of(path, os.environ)
    act_as_service(folder)
    try:
        result = call(folder / SOCKET_FILE, method, params)
    except NoServiceError:
        raise fault from None
    tell(f"warning: {fault}\nthe running agent goes on with what it read before")
    return result


def opened(path: Path | None) -> Grapevine:
    """The Python API on the owner's configuration: what a command does with a task, a program can do as well."""
    from grapevine_agent.api import Grapevine

    return Grapevine(configuration(path), tell=tell)


def ask_or_connect(config: Config, method: str, params: dict[str, Any]) -> Any:
    """Ask the running service, or connect for this one request."""
    from grapevine_agent.line import open_line

    with open_line(config, tell=tell) as line:
        return line.ask(method, **params)
