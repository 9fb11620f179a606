"""`grapevine trust`: whose word counts on this device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from grapevine_agent.cli.asking import ask
from grapevine_agent.cli.output import ConfigOption, JsonOption, answer, configuration, console, counted, shown
from grapevine_agent.control.protocol import NoServiceError

if TYPE_CHECKING:
    from grapevine_agent.config.agent_toml import Config

PeerArgument = Annotated[str, typer.Argument(help="A peer id: 20 characters, as `grapevine id` shows there.")]
RemovedPeerArgument = Annotated[
    str, typer.Argument(help="A peer id, the beginning of it (8 or more), or your name for it.")
]
AsOption = Annotated[str, typer.Option("--as", help="reviewer, publisher, server or denied.")]


def register(app: typer.Typer) -> None:
    """Attach these commands."""
    trust = typer.Typer(help="Say whose word counts on this device.", no_args_is_help=True)
    app.add_typer(trust, name="trust")

    @trust.command()
    def add(
        peer: PeerArgument,
        relation: AsOption = "reviewer",
        role: Annotated[
            list[str] | None, typer.Option(help="A role of a reviewer, such as security; may be repeated.")
        ] = None,
        name: Annotated[str, typer.Option(help="Your name for the peer, for tables.")] = "",
        config: ConfigOption = None,
        as_json: JsonOption = False,
    ) -> None:
        """Trust a peer: as a reviewer, as a publisher, as a server. Or deny its tasks (--as denied)."""
        change = {"action": "add", "peer": peer, "relation": relation, "roles": role or [], "name": name}
        result = _changed(configuration(config), change)
        answer(result, as_json=as_json, text=_told(f"{shown(peer)} is trusted as {relation}", relation, result))

    @trust.command()
    def remove(
        peer: RemovedPeerArgument,
        relation: Annotated[
            str | None,
            typer.Option("--as", help="Only as this; default: as everything that it is.", show_default=False),
        ] = None,
        config: ConfigOption = None,
        as_json: JsonOption = False,
    ) -> None:
        """Take back what `grapevine trust add` said of a peer."""
        result = _changed(configuration(config), {"action": "remove", "peer": peer, "relation": relation})
        answer(result, as_json=as_json, text=_told(f"{shown(result['peer'])} is taken off the list", "", result))

    @trust.command("list")
    def show(config: ConfigOption = None, as_json: JsonOption = False) -> None:
        """List who is trusted, as what, and where that is written."""
        from grapevine_agent.requests.trusting import change_trust

        result = change_trust(configuration(config), None)
        answer(result, as_json=as_json, text=f"{counted(len(result['peers']), 'peer')}; {shown(result['file'])}")
        if result["peers"] and not as_json:
            from rich.table import Table

            table = Table()
            for heading in ("peer", "name", "as", "roles", "written in"):
                table.add_column(heading, overflow="fold", no_wrap=heading == "peer")
            for each in result["peers"]:
                roles = ", ".join(each["roles"])
                table.add_row(each["peer"], shown(each["name"]), each["as"], shown(roles), shown(each["from"]))
            console().print(table)


def _changed(config: Config, change: dict[str, Any]) -> dict[str, Any]:
    """Let the running agent do it, which judges its tasks again at once; without one, change the file."""
    try:
        result: dict[str, Any] = ask(config, "trust", {"change": change})
    except NoServiceError:
        from grapevine_agent.requests.trusting import change_trust

        return change_trust(config, change) | {"running": False}
    return result | {"running": True}


def _told(text: str, relation: str, result: dict[str, Any]) -> str:
    text = text.replace("is trusted as denied", "is denied: its tasks never run here") if relation == "denied" else text
    when = "the agent has judged its tasks again" if result["running"] else "no agent runs here; the next one reads it"
    notes = "".join(f"\n[yellow]note:[/] {shown(note)}" for note in result["notes"])
    return f"{text} ({shown(result['file'])}); {when}{notes}"
