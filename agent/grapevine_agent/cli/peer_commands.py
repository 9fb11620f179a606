"""`grapevine peers`: who is there, how far away, and who is out of scope."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from grapevine_agent.cli.asking import ask
from grapevine_agent.cli.output import ConfigOption, JsonOption, answer, configuration, console, counted, shown

if TYPE_CHECKING:
    from rich.table import Table


def register(app: typer.Typer) -> None:
    """Attach the command."""
    app.command("peers")(show_peers)


def show_peers(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show the peers that the running agent knows: how far each is, and why it is out of scope, if it is."""
    result = ask(configuration(config), "peers", {})
    limits = result["scope"]["limits"]
    here = "this device is asleep, and not connected; " if result["asleep"] else ""
    text = f"{here}{counted(result['num_peers'], 'peer')} known; models are exchanged with "
    answer(result, as_json=as_json, text=text + (f"those {shown(limits)}" if limits else "all members"))
    if not as_json and result["peers"]:
        console().print(peer_table(result["peers"]))


def peer_table(peers: list[dict[str, Any]]) -> Table:
    """A row for each; what is not known is a dash."""
    from rich.table import Table

    table = Table()
    for name in ("peer", "name", "state", "site", "km", "ms", "scope"):
        table.add_column(name, overflow="fold", no_wrap=name == "peer")
    for each in peers:
        table.add_row(
            each["peer"],
            shown(each["name"], 64),
            _state(each),
            shown(each["site"], 64) or "—",
            "—" if each["km"] is None else f"{each['km']:.0f}",
            "—" if each["trip_ms"] is None else f"{each['trip_ms']:.0f}",
            f"out: {shown(each['out_of_scope'])}" if each["out_of_scope"] else "in",
        )
    return table


def _state(peer: dict[str, Any]) -> str:
    if not peer["member"]:
        return "not heard yet"
    if peer["alive"]:
        return "there"
    return "asleep" if peer["asleep"] else "away"


def scope_words(scope: dict[str, Any] | None) -> str:
    """For `status`: `, 3 at lakeside, 2 out of scope (models stay within 5 km)`."""
    if not scope:
        return ""
    at_site = f", {scope['at_site']} at {shown(scope['site'])}" if scope["site"] else ""
    if not scope["limits"]:
        return at_site
    return f"{at_site}, {scope['num_out']} out of scope (models go to those {shown(scope['limits'])}: grapevine peers)"
