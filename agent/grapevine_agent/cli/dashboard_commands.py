"""`grapevine dashboard`: a page that shows the swarm."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from grapevine_agent.cli.command_line import finite
from grapevine_agent.cli.output import ConfigOption, configuration, tell
from grapevine_proto.errors import ConfigError, RequestError

if TYPE_CHECKING:
    from grapevine_agent.dashboard.sources import Sources

DEFAULT_PORT = 8765
FASTEST = 100_000.0


def register(app: typer.Typer) -> None:
    """Attach the command."""
    app.command("dashboard")(dashboard)


def dashboard(
    config: ConfigOption = None,
    port: Annotated[int, typer.Option(help="Where to listen; 0: any that is free.", min=0, max=65_535)] = DEFAULT_PORT,
    host: Annotated[
        str, typer.Option(help="The address to listen on. Any other than this one lets others look, unencrypted.")
    ] = "127.0.0.1",
    replay: Annotated[
        Path | None,
        typer.Option(
            help="Show a file of `grapevine events --json` instead of the running agent.",
            dir_okay=False,
            exists=True,
            show_default=False,
        ),
    ] = None,
    speed: Annotated[
        float,
        typer.Option(
            help="How many of the file's seconds pass in one; 0: all at once.", min=0, max=FASTEST, callback=finite
        ),
    ] = 10.0,
    lab: Annotated[str, typer.Option(help="Show the lab of this name.", show_default=False)] = "",
    agents: Annotated[
        list[str] | None,
        typer.Option(
            help="Show the agents with these sockets; a pattern, such as '/srv/*/agent.sock'.", show_default=False
        ),
    ] = None,
    open_page: Annotated[bool, typer.Option("--open/--no-open", help="Whether to open the page in a browser.")] = True,
) -> None:
    """Show the swarm as it learns, in a browser: peers, tasks, reviews, curves, what is sent.

    Without options it shows what the running agent sees. The page only shows; what it can do besides needs the second
    address that is printed. Ends with Ctrl-C.
    """
    if sum((replay is not None, bool(lab), bool(agents))) > 1:
        raise RequestError("--replay, --lab and --agents name different things to show; say one of them")
    _check_installed()
    from grapevine_agent.dashboard.serving import serve

    sources = _sources(config, replay, lab, agents or [])
    serve(sources, host=host, port=port, speed=speed, say=_say, open_page=open_page)


def _check_installed() -> None:
    from importlib.util import find_spec

    from grapevine_proto import distribution

    missing = [name for name in ("starlette", "uvicorn") if find_spec(name) is None]
    if missing:
        hint = distribution.to_add_extra("dashboard")
        raise ConfigError(f"the dashboard needs {' and '.join(missing)}, which is not installed here: {hint}")


def _sources(config: Path | None, replay: Path | None, lab: str, agents: list[str]) -> Sources:
    from grapevine_agent.dashboard.sources import Sources

    if replay is not None:
        from grapevine_agent.dashboard.replaying import check

        check(replay)
        return Sources(kind="replay", name=replay.name, file=replay)
    if lab:
        return _of_lab(lab)
    if agents:
        return Sources(kind="agent", name="agents of this machine", sockets=tuple(agents))
    from glob import escape

    from grapevine_agent.cli.asking import ask
    from grapevine_agent.control.protocol import SOCKET_FILE

    settings = configuration(config)
    status = ask(settings, "status", {})  # says so, if none is running
    return Sources(
        kind="agent",
        name=str(status.get("name") or "agent"),
        sockets=(escape(str(settings.agent.state_dir / SOCKET_FILE)),),
    )


def _of_lab(name: str) -> Sources:
    """What the lab says of itself: the agent does not know it."""
    from importlib.metadata import entry_points

    from grapevine_agent.dashboard.sources import Sources
    from grapevine_proto import distribution

    point = next((each for each in entry_points(group="grapevine.dashboards") if each.name == "lab"), None)
    try:
        found = point.load()(name) if point is not None else None
    except ImportError:
        found = None
    if found is None:
        raise ConfigError(f"--lab {name}: labs need what is not installed here: {distribution.to_add_extra('lab')}")
    assert isinstance(found, Sources)
    return found


def _say(text: str) -> None:
    sys.stdout.write(text + "\n") if text.startswith("dashboard: ") else tell(text)
    sys.stdout.flush()
