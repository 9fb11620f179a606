"""`grapevine lab`.

Exit codes: 0 it did what was asked; 1 it did not, or a run did not come to its end; 2 the command line is wrong; 130
ended by Ctrl-C, 143 by SIGTERM, 129 by a terminal that was closed, with everything removed that was made.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from grapevine_agent.cli.command_line import finite
from grapevine_agent.cli.output import JsonOption, answer, counted, shown, tell
from grapevine_proto import distribution
from grapevine_proto.errors import ConfigError, StoreError

if TYPE_CHECKING:
    from grapevine_lab.testbed.store import Lab

DEFAULT_NAME = "lab"
NEEDED = ("torch", "sklearn", "scipy", "networkx", "pyarrow", "matplotlib")
ON_MACHINE: Final[Mapping[str, str]] = {  # what can be done to one machine
    "kill": "End a machine as a power cut would.",
    "stop": "End a machine in an orderly way: it says goodbye.",
    "pause": "Let a machine stand still, with its connections open.",
    "resume": "Let a paused machine go on.",
    "restart": "Start a machine again from its disk, whether it runs or not.",
}
MOST_MS, MOST_KBIT = 60_000.0, 10_000_000.0

NameOption = Annotated[
    str, typer.Option("--name", help="Which lab; not needed where there is one.", show_default=False)
]
MachineArgument = Annotated[str, typer.Argument(help="A machine's name, as status tells them.")]
ScenarioArgument = Annotated[str, typer.Argument(help="A scenario file (TOML), or one that comes with Grapevine.")]
SidesArgument = Annotated[str, typer.Argument(help="Names of brokers or peers, separated by commas.")]
PeersOption = Annotated[int | None, typer.Option(help="How many peers learn.", min=2, max=200, show_default=False)]
BrokersOption = Annotated[
    int | None, typer.Option(help="How many brokers, bridged to the first one.", min=1, max=50, show_default=False)
]
ServerOption = Annotated[bool, typer.Option("--server", help="A server takes part, from the beginning.")]
TaskOption = Annotated[str, typer.Option(help="A task of the catalogue.", show_default=False)]
ProfilesOption = Annotated[
    str,
    typer.Option(help="Profiles, and how many have each: raspberry-pi-4b:10,generic:5", show_default=False),
]
EngineOption = Annotated[str, typer.Option(help="processes (of this host), or docker.")]
NewNameOption = Annotated[str, typer.Option("--name", help="What the lab is called.")]
QuickOption = Annotated[bool, typer.Option("--quick", help="The scenario's small size.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="A key of the scenario, as nodes.num=10; may be repeated."),
]
SimulatedOption = Annotated[bool, typer.Option(help="Simulate the same beside it, with two seeds, to compare.")]
DashboardOption = Annotated[bool, typer.Option("--dashboard", help="Show it in a browser meanwhile.")]


def register(app: typer.Typer) -> None:
    """Attach the commands."""
    lab = typer.Typer(
        help="Many agents and several brokers as real machines: learn, cut, kill, heal, compare.", no_args_is_help=True
    )
    app.add_typer(lab, name="lab")
    _register_up(lab)
    _register_run_and_down(lab)
    _register_looking(lab)
    _register_report(lab)
    for method, what in ON_MACHINE.items():
        _register_on_machine(lab, method, what)
    _register_acting(lab)


def _register_up(lab: typer.Typer) -> None:
    @lab.command()
    def up(
        scenario: Annotated[
            str, typer.Argument(help="A scenario file (TOML), or one that comes with Grapevine.", show_default=False)
        ] = "",
        peers: PeersOption = None,
        brokers: BrokersOption = None,
        server: ServerOption = False,
        task: TaskOption = "",
        profiles: ProfilesOption = "",
        engine: EngineOption = "processes",
        name: NewNameOption = DEFAULT_NAME,
        folder: Annotated[
            Path | None, typer.Option(help="Where its files go.", show_default=False, file_okay=False)
        ] = None,
        dashboard: DashboardOption = False,
        quick: QuickOption = False,
        set_: SetOption = None,
        as_json: JsonOption = False,
    ) -> None:
        """Start brokers and agents, publish a task, have it approved, and leave them learning.

        What a scenario's timeline says is not done: `grapevine lab run` does that.
        """
        _check_installed()
        from grapevine_lab.testbed.making import Wanted, bring_up  # noqa: PLC0415 - other commands start without it

        wanted = Wanted(
            scenario=scenario,
            engine=engine,
            name=name,
            folder=folder,
            quick=quick,
            dashboard=dashboard,
            peers=peers,
            brokers=brokers,
            server=server,
            task=task,
            profiles=profiles,
            changes=tuple(set_ or ()),
        )
        told = bring_up(wanted, tell)
        answer(told, as_json=as_json, text=_up_text(told))


def _register_run_and_down(lab: typer.Typer) -> None:
    @lab.command()
    def run(
        scenario: ScenarioArgument,
        engine: EngineOption = "processes",
        name: Annotated[
            str,
            typer.Option("--name", help="What the lab is called. By default as the file.", show_default=False),
        ] = "",
        out: Annotated[
            Path | None,
            typer.Option(help="Where results go. By default testbed-runs/<name of the file>.", show_default=False),
        ] = None,
        simulated: SimulatedOption = True,
        dashboard: DashboardOption = False,
        quick: QuickOption = False,
        set_: SetOption = None,
        as_json: JsonOption = False,
    ) -> None:
        """Bring a scenario up, let its timeline happen in real time, write the report, and take it down."""
        _check_installed()
        from grapevine_lab.testbed.making import Wanted, run_through  # noqa: PLC0415

        wanted = Wanted(
            scenario=scenario,
            engine=engine,
            name=name,
            quick=quick,
            dashboard=dashboard,
            changes=tuple(set_ or ()),
        )
        told = run_through(wanted, out, simulated=simulated, say=tell)
        answer(told, as_json=as_json, text=_report_text(told))
        if not told["in_time"] or told["failed"]:
            raise typer.Exit(1)

    @lab.command()
    def down(name: NameOption = "", as_json: JsonOption = False) -> None:
        """End all machines of a lab and remove what it made. Reports that were written stay."""
        from grapevine_lab.testbed.ending import take_down  # noqa: PLC0415

        found = find_lab(name)
        take_down(found)
        answer({"name": found.name}, as_json=as_json, text=f"lab {shown(found.name)} is gone")


def _register_looking(lab: typer.Typer) -> None:
    @lab.command()
    def status(name: NameOption = "", as_json: JsonOption = False) -> None:
        """How each machine is: its state, round, metric, peers and broker."""
        from grapevine_agent.cli.output import console  # noqa: PLC0415
        from grapevine_lab.pages.printed import print_table  # noqa: PLC0415
        from grapevine_lab.testbed.telling import status_of, table_of  # noqa: PLC0415

        told = status_of(find_lab(name))
        since = f", learning for {told['seconds']:.0f} s" if told["seconds"] is not None else ""
        answer(told, as_json=as_json, text=f"{shown(told['name'])}: {shown(told['scenario'])}, {told['engine']}{since}")
        if not as_json:
            print_table(table_of(told), console())

    @lab.command("list")
    def list_labs(as_json: JsonOption = False) -> None:
        """All labs of this user."""
        from grapevine_lab.testbed.store import lab_names, labs_folder  # noqa: PLC0415

        found = []
        for name in lab_names():
            try:
                found.append(_line(find_lab(name)))
            except StoreError as error:
                tell(str(error))  # the others are there all the same
        lines = [
            f"{shown(each['name']):<12} {each['state']:<8} {each['num_peers']} peers, {each['engine']}: "
            f"{shown(each['scenario'])}"
            for each in found
        ]
        answer(found, as_json=as_json, text="\n".join(lines) or f"there is no lab in {labs_folder()}")

    @lab.command()
    def logs(
        machine: MachineArgument,
        name: NameOption = "",
        tail: Annotated[int, typer.Option(help="How many lines, from the last one back; 0: all.", min=0)] = 50,
        as_json: JsonOption = False,
    ) -> None:
        """What a machine has printed."""
        from grapevine_lab.testbed.acting import ask  # noqa: PLC0415

        found = find_lab(name)
        text: str = ask(found, "logs", {"machine": found.machine(machine).name, "tail": tail or None})
        shown_text = "\n".join(shown(line, 2000) for line in text.splitlines())
        answer({"machine": machine, "log": text}, as_json=as_json, text=shown_text)


def _register_report(lab: typer.Typer) -> None:
    @lab.command()
    def report(
        name: NameOption = "",
        out: Annotated[
            Path | None, typer.Option(help="Where it goes. By default lab-reports/<name>.", show_default=False)
        ] = None,
        simulated: SimulatedOption = True,
        as_json: JsonOption = False,
    ) -> None:
        """Write what the lab has learned so far: tables, and a page to send to a colleague."""
        _check_installed()
        from grapevine_lab.testbed.making import report_on  # noqa: PLC0415

        found = find_lab(name)
        told = report_on(found, out or Path("lab-reports") / found.name, simulated=simulated, say=tell)
        answer(told, as_json=as_json, text=_report_text(told))


def _register_on_machine(lab: typer.Typer, method: str, what: str) -> None:
    @lab.command(method, help=what)
    def on_machine(machine: MachineArgument, name: NameOption = "", as_json: JsonOption = False) -> None:
        from grapevine_lab.testbed import acting  # noqa: PLC0415

        told = acting.on_machine(find_lab(name), method, machine)
        answer(told, as_json=as_json, text=f"{shown(told['machine'])} is {told['state']}")


def _register_acting(lab: typer.Typer) -> None:
    @lab.command()
    def partition(a: SidesArgument, b: SidesArgument, name: NameOption = "", as_json: JsonOption = False) -> None:
        """Let nothing pass between two sides. A broker has those on its side that are at it first."""
        from grapevine_lab.testbed import acting  # noqa: PLC0415

        told = acting.partition(find_lab(name), _names(a), _names(b))
        cut = ", ".join(f"{shown(x)} | {shown(y)}" for x, y in told["cut"])
        answer(told, as_json=as_json, text=f"cut: {cut}")

    @lab.command()
    def heal(name: NameOption = "", as_json: JsonOption = False) -> None:
        """Let everything pass again."""
        from grapevine_lab.testbed import acting  # noqa: PLC0415

        told = acting.heal(find_lab(name))
        answer(told, as_json=as_json, text=f"cut no more: {counted(len(told['healed']), 'line')}")

    @lab.command()
    def delay(
        machine: MachineArgument,
        ms: Annotated[
            float, typer.Argument(help="Milliseconds, in each direction; 0: none.", min=0, max=MOST_MS, callback=finite)
        ],
        name: NameOption = "",
        as_json: JsonOption = False,
    ) -> None:
        """Delay all that a machine says to its brokers, and hears of them."""
        from grapevine_lab.testbed import acting  # noqa: PLC0415

        _shaped(acting.shape(find_lab(name), machine, delay_ms=ms), as_json)

    @lab.command()
    def limit(
        machine: MachineArgument,
        kbit: Annotated[
            float,
            typer.Argument(help="kbit/s, in each direction; 0: any.", min=0, max=MOST_KBIT, callback=finite),
        ],
        name: NameOption = "",
        as_json: JsonOption = False,
    ) -> None:
        """Narrow a machine's lines to its brokers."""
        from grapevine_lab.testbed import acting  # noqa: PLC0415

        _shaped(acting.shape(find_lab(name), machine, kbit_per_s=kbit), as_json)


def find_lab(name: str) -> Lab:
    """The lab that is meant; see `store.find_lab`."""
    from grapevine_lab.testbed import store  # noqa: PLC0415

    return store.find_lab(name)


def _shaped(told: dict[str, Any], as_json: bool) -> None:
    rate = f"{told['kbit_per_s']:g} kbit/s" if told["kbit_per_s"] else "any rate"
    answer(told, as_json=as_json, text=f"{shown(told['machine'])}: {told['delay_ms']:g} ms, {rate}")


def _names(text: str) -> list[str]:
    return [each.strip() for each in text.split(",") if each.strip()]


def _line(lab: Lab) -> dict[str, Any]:
    from grapevine_lab.testbed.ending import is_kept  # noqa: PLC0415

    return {
        "name": lab.name,
        "state": ("up" if lab.is_up else "starting") if is_kept(lab) else "broken",
        "engine": lab.engine,
        "num_peers": len(lab.peers),
        "scenario": lab.title,
        "folder": str(lab.folder),
    }


def _up_text(told: dict[str, Any]) -> str:
    merge_s = told["first_merge_s"]
    merged = "nobody has merged yet" if merge_s is None else f"first merge {merge_s:.1f} s later"
    return (
        f"lab {told['name']} is up: {told['num_peers']} peers at {counted(told['num_brokers'], 'broker')} "
        f"after {told['up_s']:.1f} s, {merged}\n  look   grapevine lab status --name {told['name']}\n"
        f"  end    grapevine lab down --name {told['name']}"
        + (f"\n  see    {told['dashboard']}" if told["dashboard"] else "")
    )


def _report_text(told: dict[str, Any]) -> str:
    lines = [f"tables and page: {shown(told['folder'])}"]
    compared = told.get("compared")
    if compared:
        mean = compared["simulated_real"]["mean"]
        chance = max(each["mean"] for each in compared["two_simulated"])
        lines.append(
            f"over {compared['num_rounds']} rounds the lab is {mean:.3f} from the simulation in the mean, and two "
            f"simulated seeds are {chance:.3f} apart"
        )
    lines += [f"did not work: {shown(each)}" for each in told.get("failed", ())]
    if not told.get("in_time", True):
        lines.append("given up: not every peer had its rounds behind it in time")
    return "\n".join(lines)


def _check_installed() -> None:
    """Raise `ConfigError` unless the `lab` extra is there."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(f"the lab needs {', '.join(missing)}: {distribution.to_add_extra('lab')}")
