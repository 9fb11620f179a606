"""`grapevine agent run` and `grapevine server run`: the service itself."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from grapevine_agent.cli.asking import ask
from grapevine_agent.cli.becoming import become
from grapevine_agent.cli.command_line import finite
from grapevine_agent.cli.output import ConfigOption, JsonOption, answer, configuration, shown
from grapevine_agent.cli.owner_commands import show_status
from grapevine_agent.control.protocol import NoServiceError
from grapevine_agent.units import USER
from grapevine_proto.errors import ConfigError


def register(app: typer.Typer) -> None:
    """Attach these commands."""
    agent = typer.Typer(help="The device service.", no_args_is_help=True)
    server = typer.Typer(help="The optional server of a task.", no_args_is_help=True)
    app.add_typer(agent, name="agent")
    agent.command("status")(show_status)
    app.add_typer(server, name="server")

    @agent.command("run")
    def run_agent(config: ConfigOption = None) -> None:
        """Run the agent in the foreground: discover tasks, learn, gossip."""
        become("member", _checked(config))

    @agent.command("reload")
    def reload(config: ConfigOption = None, as_json: JsonOption = False) -> None:
        """Have the running agent, or server, read its configuration again: what is in force now, what needs a restart.

        A configuration with a fault changes nothing: the agent goes on with the old one.
        """
        try:
            loaded = configuration(config)
        except ConfigError as error:
            raise ConfigError(f"{error}\nnothing was changed: a running agent goes on with what it has") from None
        try:
            result = ask(loaded, "reload", {})
        except NoServiceError:
            from grapevine_agent.control.client import agent_of, call

            # With the state folder that it began with: the file names another one since.
            elsewhere = agent_of(loaded.path, USER) if loaded.path is not None else None
            if elsewhere is None:
                raise
            result = call(elsewhere, "reload")
        answer(result, as_json=as_json, text=f"{shown(result['config'])}: {shown(result['text'], 2_000)}")

    @server.command("run")
    def run_server(
        config: ConfigOption = None,
        heartbeat_s: Annotated[
            float,
            typer.Option(help="Aggregate and publish this often, in seconds.", min=0.05, max=3600, callback=finite),
        ] = 1.0,
    ) -> None:
        """Run a server in the foreground: aggregate every approved task whose manifest names this peer."""
        become("server", _checked(config), heartbeat_s)


def _checked(config: Path | None) -> Path | None:
    """The path of a configuration that can be read. The service reads it again, and tells what there is to warn of."""
    from grapevine_agent.journal import quietly

    with quietly():
        return configuration(config).path
