"""`grapevine agent run` and `grapevine server run`: the service itself."""

from __future__ import annotations

from typing import Annotated

import typer

from grapevine_agent.cli.command_line import finite
from grapevine_agent.cli.output import ConfigOption, configuration
from grapevine_agent.cli.owner_commands import show_status
from grapevine_agent.serve import become


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
        become("member", configuration(config).path)

    @server.command("run")
    def run_server(
        config: ConfigOption = None,
        heartbeat_s: Annotated[
            float,
            typer.Option(help="Aggregate and publish this often, in seconds.", min=0.05, max=3600, callback=finite),
        ] = 1.0,
    ) -> None:
        """Run a server in the foreground: aggregate every approved task whose manifest names this peer."""
        become("server", configuration(config).path, heartbeat_s)
