"""`grapevine demo`.

Exit codes: 0 it showed what it claims; 1 it did not, or failed; 2 the command line is wrong; 130
ended by Ctrl-C, 143 by SIGTERM, 129 by a terminal that was closed.
"""

from __future__ import annotations

import importlib.util
import signal
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from grapevine_agent.cli.command_line import finite
from grapevine_lab.demo.plan import DEFAULT_ENGINE, DEFAULT_PEERS, DEFAULT_SECONDS, MAX_PEERS, DemoPlan, make_timeline
from grapevine_proto import distribution
from grapevine_proto.errors import ConfigError, RequestError

if TYPE_CHECKING:
    from grapevine_lab.demo.report import Report

SHORTEST_S = 15.0
SIGNAL_EXIT = 128
NEEDED_BY_ENGINES = {"embedded": ("amqtt",), "rumqtt": ("iotcore",)}


def register(app: typer.Typer) -> None:
    """Attach the command."""

    @app.command()
    def demo(
        peers: Annotated[int, typer.Option(help="How many agents learn.", min=2, max=MAX_PEERS)] = DEFAULT_PEERS,
        seed: Annotated[int, typer.Option(help="Of how the images are shared out.", min=0)] = 0,
        server: Annotated[
            bool, typer.Option(help="Whether a server takes part from one third of the time to two thirds.")
        ] = True,
        broker: Annotated[
            str,
            typer.Option(
                help="The URL of a running broker; without it, one is started. A login: GRAPEVINE_MQTT_USERNAME, "
                "and GRAPEVINE_MQTT_PASSWORD or GRAPEVINE_MQTT_PASSWORD_FILE.",
                show_default=False,
            ),
        ] = "",
        engine: Annotated[
            str, typer.Option(help="The broker that is started: embedded, rumqtt or mosquitto.", show_default=False)
        ] = "",
        out: Annotated[Path, typer.Option(help="Where the plot and the report go.", file_okay=False)] = Path(
            "demo-report"
        ),
        keep: Annotated[bool, typer.Option(help="Keep the folder with all keys, models and logs.")] = False,
        seconds: Annotated[
            float, typer.Option(help="How long they learn.", min=SHORTEST_S, max=3600.0, callback=finite)
        ] = DEFAULT_SECONDS,
        dashboard: Annotated[bool, typer.Option(help="Whether to show it in a browser, too.")] = False,
        dashboard_port: Annotated[
            int, typer.Option(help="Where the page is; 0: any port that is free.", min=0, max=65_535)
        ] = 8765,
    ) -> None:
        """Watch devices learn together, on this machine, in about two minutes.

        Starts a broker, agents that have each seen a few of the ten digits only, an engineer who publishes
        two tasks, and two reviewers who approve one of them. A server comes, and is killed. Ends with a table,
        a plot and a page to send to a colleague.
        """
        _check_engine(engine, broker)
        _check_installed(
            *(NEEDED_BY_ENGINES.get(engine or DEFAULT_ENGINE, ()) if not broker else ()),
            *(("starlette", "uvicorn") if dashboard else ()),
        )
        plan = DemoPlan(
            timeline=make_timeline(seconds, with_server=server),
            out=out,
            num_peers=peers,
            seed=seed,
            broker_url=broker,
            engine=engine or DEFAULT_ENGINE,
            keep=keep,
            dashboard_port=dashboard_port if dashboard else None,
        )
        status = _demonstrate(plan, Console())
        if status:
            raise typer.Exit(status)


def _check_engine(engine: str, broker_url: str) -> None:
    """Raise `RequestError` for an engine that there is not, and where a broker is named that runs already."""
    from grapevine_broker import check_engine  # noqa: PLC0415 - other commands start without it

    if engine:
        check_engine(engine)
    if engine and broker_url:
        raise RequestError(f"--engine {engine} is for a broker of the demo's own: leave it out, or leave out --broker")


def _check_installed(*more: str) -> None:
    """Raise `ConfigError` unless the `lab` extra is there: better now than half a minute into the demo."""
    needed = ("torch", "sklearn", "matplotlib", *more)
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(f"the demo needs {', '.join(missing)}: {distribution.to_add_extra('lab')}")


def _demonstrate(plan: DemoPlan, console: Console) -> int:
    """Run it, write and print what came out; the exit status."""
    import asyncio  # noqa: PLC0415 - other commands start without all this

    from grapevine_lab.demo.display import choose_voice  # noqa: PLC0415
    from grapevine_lab.demo.page import page_of  # noqa: PLC0415
    from grapevine_lab.demo.plot import draw_accuracy  # noqa: PLC0415
    from grapevine_lab.demo.report import goals_of, write_report  # noqa: PLC0415
    from grapevine_lab.demo.run import run_demo  # noqa: PLC0415
    from grapevine_lab.demo.summary import PAGE_FILE, PLOT_FILE, REPORT_FILE, print_summary  # noqa: PLC0415
    from grapevine_lab.pages import write  # noqa: PLC0415

    plan.out.mkdir(parents=True, exist_ok=True)
    received: list[signal.Signals] = []

    async def until_a_signal() -> Report:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None

        def stop(number: signal.Signals) -> None:
            received.append(number)
            if len(received) == 1:  # what follows is putting things away, which takes a few seconds at most
                voice.say(f"{number.name}: ending every process")
                task.cancel()

        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, stop, number)
        return await run_demo(plan, voice)

    with choose_voice(console) as voice:
        try:
            report = asyncio.run(until_a_signal())
        except asyncio.CancelledError:
            return SIGNAL_EXIT + received[0]
    write_report(report, plan.out / REPORT_FILE)
    draw_accuracy(report, plan.out / PLOT_FILE)
    write(page_of(report, date=datetime.now(UTC).date().isoformat()), plan.out / PAGE_FILE)
    print_summary(report, plan.out, console)
    return 0 if all(goal.reached for goal in goals_of(report)) else 1
