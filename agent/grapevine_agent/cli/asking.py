"""Asking the running service, or acting in its place where none runs: one request of one command."""

from __future__ import annotations

from typing import Any

from grapevine_agent.cli.output import tell
from grapevine_agent.config.agent_toml import Config
from grapevine_agent.control import call
from grapevine_agent.line import open_line
from grapevine_agent.service.assembly import state_socket


def ask(config: Config, method: str, params: dict[str, Any]) -> Any:
    """Ask the running service. Raises `NoServiceError` if there is none."""
    return call(state_socket(config), method, params)


def ask_or_connect(config: Config, method: str, params: dict[str, Any]) -> Any:
    """Ask the running service, or connect for this one request."""
    with open_line(config, tell=tell) as line:
        return line.ask(method, **params)
