"""What the owner of a device asks and decides: `status`, `join`, `leave`, `forget`, `id`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from grapevine_agent.cli.asking import ask, ask_despite
from grapevine_agent.cli.governor_commands import governor_lines, held_back_words
from grapevine_agent.cli.holding import folder_line, held_lines
from grapevine_agent.cli.output import (
    ConfigOption,
    JsonOption,
    answer,
    configuration,
    console,
    counted,
    errors,
    escaped,
    shown,
    shown_task,
    tell,
    time_here,
)
from grapevine_agent.cli.peer_commands import scope_words
from grapevine_agent.cli.publications import meant
from grapevine_agent.cli.serving import served_line
from grapevine_agent.cli.turned_away import turned_away_words
from grapevine_agent.control.protocol import SOCKET_FILE, NoServiceError
from grapevine_proto.errors import ConfigError
from grapevine_proto.manifest_fields import labelled

if TYPE_CHECKING:
    from rich.table import Table

    from grapevine_agent.config.agent_toml import Config

WORTH_TELLING_MS = 1_000.0  # of a stop of the agent's event loop

# Of an id, four characters are enough to look at a task, eight to decide or sign: requests/naming.py.
_HELP = "The task's id, the beginning of it ({} or more), its name, or the folder that it was published from."
TaskArgument = Annotated[str, typer.Argument(help=_HELP.format(4), callback=meant)]
ActedTaskArgument = Annotated[str, typer.Argument(help=_HELP.format(8), callback=meant)]


def register(app: typer.Typer) -> None:
    """Attach these commands."""
    app.command("status")(show_status)

    @app.command()
    def join(task: ActedTaskArgument, config: ConfigOption = None, as_json: JsonOption = False) -> None:
        """Consent to a task: train it as soon as it is approved and fits this device.

        A new version of the task is another task and needs a word of its own, unless a consent rule says `auto`.
        """
        result = ask(configuration(config), "consent", {"task": task, "joined": True})
        text = f"{shown(result['name'])}: {shown(result['why']) or 'joined'}; this word is for this version alone"
        answer(result, as_json=as_json, text=f"{text}\n{shown_task(result)}")
        _warn_of_unsaved(result)

    @app.command()
    def leave(task: ActedTaskArgument, config: ConfigOption = None, as_json: JsonOption = False) -> None:
        """Leave a task and do not come back. Its model stays on disk, until `forget` or for want of room."""
        result = ask(configuration(config), "consent", {"task": task, "joined": False})
        answer(result, as_json=as_json, text=f"left {shown(result['name'])}\n{shown_task(result)}")
        _warn_of_unsaved(result)

    @app.command()
    def forget(task: ActedTaskArgument, config: ConfigOption = None, as_json: JsonOption = False) -> None:
        """Delete what is kept of a task that is not joined: its model, its metrics and its initial weights.

        That you left it is remembered. What others publish of it stays with them, and is heard of again.
        """
        result = ask(configuration(config), "forget", {"task": task})
        name = f"{shown(result['name'])} " if result["name"] else ""
        text = f"forgot {name}({result['task'][:12]}): its models took {result['freed_mb']:.1f} MB"
        answer(result, as_json=as_json, text=text)

    @app.command("id")
    def show_id(config: ConfigOption = None, as_json: JsonOption = False) -> None:
        """Show this device's peer id: what others write into `trusted`."""
        from grapevine_agent.identity import load_identity

        loaded = configuration(config)
        peer = load_identity(loaded.agent.state_dir).peer_id
        answer({"peer": peer, "socket": str(loaded.agent.state_dir / SOCKET_FILE)}, as_json=as_json, text=peer)


def _warn_of_unsaved(result: dict[str, Any]) -> None:
    if why := result["not_saved"]:
        errors().print(
            f"[yellow]warning:[/] the agent does as you said, but that is not on disk yet ({escaped(why)}): a power "
            "cut would undo it. `grapevine status` says what is not saved"
        )


def show_status(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show what the running agent does: its broker, its tasks, and why it has not joined the others."""
    try:
        loaded = configuration(config)
    except ConfigError as error:
        result = ask_despite(error, config, "status", {})
    else:
        result = _ask_status(loaded)
    answer(result, as_json=as_json, text=_describe(result))
    if not as_json and result["tasks"]:
        console().print(_task_table(result["tasks"]))


def _ask_status(config: Config) -> Any:
    """The status; or, where no agent runs, what it would not start with. Beside an agent that is a warning."""
    fault = _fault_of(config)
    try:
        result = ask(config, "status", {})
    except NoServiceError as error:
        raise (fault or error) from None
    if fault is not None:
        tell(f"warning: {fault}")
    return result


def _fault_of(config: Config) -> ConfigError | None:
    """What `agent run` would not start with, beside mistakes in the configuration itself."""
    from grapevine_agent.config.agent_toml import check_files
    from grapevine_agent.config.firmware import load_profile

    try:
        load_profile(config.agent.profile)
        check_files(config, by_owner=False)
    except ConfigError as error:
        return error
    return None


def _describe(status: dict[str, Any]) -> str:
    sleep = status.get("sleep")
    if sleep and sleep["asleep"]:
        where = _sleep_line(sleep)
    elif len(status["brokers"]) > 1:
        where = "\n".join(map(_broker_line, status["brokers"])) + _gateway_line(status["gateway"])
    elif status["connected"]:
        where = f"connected to {shown(status['broker'])} (MQTT {status['mqtt_version']})"
        where += f"\n[yellow]{shown(status['trouble'])}[/]" if status["trouble"] else ""
        where += "".join(f"\n[yellow]{shown(line)}[/]" for line in status.get("broker_cannot", ()))
    else:
        where = f"[yellow]not connected[/]: {shown(status['trouble']) or 'still trying'}; goes on trying"
    rejected = ", ".join(f"{count} {reason}" for reason, count in sorted(status["rejected"].items())) or "none"
    return (
        f"{status['role']} [bold]{status['peer']}[/] ({shown(status['name'])}), profile {shown(status['profile'])}, "
        f"{status['memory_mb']:.0f} MB, up {status['uptime_s']:.0f} s\n"
        f"{where}{_discovery_lines(status.get('discovery'))}\n"
        f"peers: {status['peers']['alive']} alive{_asleep_words(status['peers'])} of {status['peers']['known']} known"
        f"{scope_words(status.get('scope'))}; messages dropped: {rejected}"
        + "".join(map(_transfer_line, status["transfers"]["under_way"]))
        + held_lines(status["held"])
        + folder_line(status["state_folder"])
        + governor_lines(status.get("governor"))
        + _unsaved_line(status["unsaved"])
        + _stop_line(status.get("longest_stop_ms", 0.0))
        + "".join(map(_sensor_lines, status["sensors"]))
        + "".join(map(_trainer_line, status["trainers"]))
        + _shown_lines(status.get("homeassistant"), status.get("metrics"))
        + ("" if status["tasks"] else "\nno tasks have been heard of yet")
    )


def _sleep_line(sleep: dict[str, Any]) -> str:
    """`asleep until 14:00: connected for 300 s of every 3,600 s; learning goes on`."""
    until = time_here(sleep["until_ms"] / 1000, to_the_second=True)
    often = f"connected for {sleep['online_s']:,g} s of every {sleep['every_s']:,g} s"
    return f"asleep until {until}: {often}; learning goes on"


def _asleep_words(peers: dict[str, Any]) -> str:
    """Those who sleep: `, 2 asleep`."""
    return f", {peers['asleep']} asleep" if peers.get("asleep") else ""


def _broker_line(broker: dict[str, Any]) -> str:
    """One of several: `connected to mqtt://hub.local (MQTT 5): 3 peers, 4 ms`."""
    found = ", which was found" if broker["found"] else ""
    if not broker["connected"]:
        return (
            f"[yellow]not connected[/] to {shown(broker['url'])}{found}: {shown(broker['trouble']) or 'still trying'}"
        )
    delay = f", {broker['delay_ms']:.0f} ms" if broker["delay_ms"] is not None else ""
    line = f"connected to {shown(broker['url'])}{found} (MQTT {broker['mqtt_version']}): "
    line += f"{counted(broker['peers'], 'peer')}{delay}"
    return line + "".join(f"\n[yellow]{shown(each)}[/]" for each in (*broker["cannot"], broker["trouble"]) if each)


def _gateway_line(gateway: dict[str, Any]) -> str:
    """What we carry between them: `gateway: 5 peers made known, 1,200 messages carried (3.1 MB)`."""
    if not gateway["is_open"]:
        return ""
    known, carried = sum(gateway["known_at"].values()), gateway["messages"]
    return f"\ngateway: {known} peers made known, {carried:,} messages carried ({gateway['bytes'] / 1e6:.1f} MB)"


def _discovery_lines(discovery: dict[str, Any] | None) -> str:
    """What looking for brokers came to: those found, the one hosted here, and what is in the way."""
    if discovery is None:
        return ""
    found = ", ".join(map(shown, discovery["found"])) or "none yet"
    lines = [f"brokers found: {found}"]
    if discovery["hosting"]:
        lines.append(f"hosting a broker at {shown(discovery['hosting'])}: {shown(discovery['why'])}")
    if discovery["trouble"]:
        lines.append(f"[yellow]{shown(discovery['trouble'])}[/]")
    return "".join(f"\n{line}" for line in lines)


def _transfer_line(transfer: dict[str, Any]) -> str:
    """What is on its way in chunks: `fetching 50.0 MB from kzdv…: 31 %`."""
    whole, missing = transfer["chunks"], transfer["missing"]
    here = f"{100 * (whole - missing) // whole} %"
    return f"\nfetching {transfer['bytes'] / 1e6:.1f} MB from {shown(transfer['from'] or 'nobody')}: {here}"


def _unsaved_line(unsaved: list[dict[str, Any]]) -> str:
    """What the disk does not take: `not saved since 12:03: models, records (No space left on device)`."""
    if not unsaved:
        return ""
    since_s = min(each["since_s"] for each in unsaved)
    kinds: dict[str, list[str]] = {}
    for each in unsaved:
        kinds.setdefault(each["reason"], []).append(each["kind"])
    why = "; ".join(f"{', '.join(found)} ({shown(reason)})" for reason, found in kinds.items())
    return f"\n[yellow]not saved since {time_here(since_s)}:[/] {why}"


def _stop_line(longest_stop_ms: float) -> str:
    """Whether the agent has let somebody wait, lately."""
    if longest_stop_ms < WORTH_TELLING_MS:
        return ""
    return f"\n[yellow]it stood still for {longest_stop_ms / 1e3:.1f} s in the last ten minutes[/]: the device is busy"


def _sensor_lines(sensors: dict[str, Any]) -> str:
    """A source of live topics that records nothing, with why not for each column."""
    if not sensors["why"]:
        return ""
    why = "".join(f"\n  {shown(each)}" for each in sensors["why"])
    return f"\n[yellow]{shown(sensors['name'])} records nothing:[/]{why}"


def _trainer_line(trainer: dict[str, Any]) -> str:
    state = shown(trainer["protection"]) if trainer["running"] else "not running"
    failures = (
        f"; {counted(trainer['failures'], 'failure')}, the last: {shown(trainer['trouble'])}"
        if trainer["failures"]
        else ""
    )
    return f"\ntrainer of {shown(trainer['name'])}: {state}{failures}"


def _shown_lines(homeassistant: dict[str, Any] | None, metrics: dict[str, Any] | None) -> str:
    """Where this device is shown, and what is in the way."""
    lines = []
    if homeassistant is not None:
        counts = homeassistant["counts"]
        refused = sum(count for reason, count in counts.items() if reason.startswith("command-"))
        taken = f"{counted(counts.get('commands', 0), 'command')} taken, {refused} refused"
        lines.append(f"Home Assistant: {shown(homeassistant['topic'])}; {taken}")
    if metrics is not None and metrics["listening"]:
        lines.append(f"metrics: {shown(metrics['url'])}, fetched {counted(metrics['answered'], 'time')}")
    troubles = [each["trouble"] for each in (homeassistant, metrics) if each is not None and each["trouble"]]
    return "".join(f"\n{line}" for line in [*lines, *(f"[yellow]{shown(each)}[/]" for each in troubles)])


def _task_table(tasks: list[dict[str, Any]]) -> Table:
    from rich.table import Table

    table = Table()
    for name in ("task", "id", "standing", "here", "decided by"):
        table.add_column(name, overflow="fold", no_wrap=name == "id")
    for task in tasks:
        if not task["joined"]:
            here = shown(task["why"])
        elif "model_version" in task:
            here = served_line(task)
        else:
            here = _progress_line(task)
        name = labelled(shown(task["name"], 60), task["version"])
        decided_by = shown(task["decided_by"])
        table.add_row(name, task["id"][:12], task["standing"], here, "—" if decided_by in here else decided_by)
    return table


def _progress_line(task: dict[str, Any]) -> str:
    """How a task that is learned here goes; what was not measured is a dash."""
    staleness = "—" if task["staleness"] is None else f"{task['staleness']:.1f}"
    bound = "" if task["staleness_bound"] is None else f" (bound {task['staleness_bound']:.1f})"
    state = ", enough: no member improves" if task["enough"] else ""
    return held_back_words(task) + (
        f"round {task['round']}, {_quality(task)}, {counted(task['peers'], 'peer')}, server {task['server']}"
        f"{_refused_servers(task)}, "
        f"n {task['n']}, {_sends(task)}, "
        f"staleness {staleness}{bound}{state}"
        + (", at rest" if task["resting"] else "")
        + _travel_words(task)
        + turned_away_words(task)
    )


def _refused_servers(task: dict[str, Any]) -> str:
    """The servers whose newest model was not taken, and why not: ` (fnuvdgp4pigw3wrnjztv refused: server-far-away)`."""
    refused = [
        f"{shown(each['peer'])} refused: {shown(each['refused'])}"
        for each in task.get("servers", ())
        if each["refused"]
    ]
    return f" ({'; '.join(refused)})" if refused else ""


def _sends(task: dict[str, Any]) -> str:
    """How often it sends, where somebody is there to send to: `4.4 sends/s`."""
    is_alone = not task["peers"] and task["server"] != "reachable"
    return "nobody to send to" if is_alone else f"{task['send_rate']:.2g} sends/s"


def _travel_words(task: dict[str, Any]) -> str:
    """How its updates go out, where that is not as it could be: `, 1.2 MB an update, in chunks`."""
    words = f", {task['update_bytes'] / 1e6:.1f} MB an update, in chunks" if task.get("in_chunks") else ""
    if why := task.get("encoding_why"):
        words += f", sent as {task['encoding']}: {shown(why)}"
    return words


def _quality(task: dict[str, Any]) -> str:
    """The metric, in the owner's units too, the best so far and what a model without any learning comes to."""
    name, metric, best = task["metric_name"], task["metric"], task["best"]
    if metric is None:
        return f"{name} — (no held-out samples)" if task["num_evaluated"] == 0 else f"{name} —"
    units = f" ({task['metric_in_units']:.3g} in its data's units)" if task["metric_in_units"] is not None else ""
    parts = [f"{name} {metric:.3f}{units}"]
    if best is not None:
        parts.append(f"best {best['metric']:.3f} at age {best['age']}")
    if task["baseline"] is not None:
        parts.append(f"{shown(task['baseline_name'])} {task['baseline']:.3f}")
    return ", ".join(parts)
