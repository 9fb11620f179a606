"""`report.html`: the demo on one page, to be sent to whoever was not there."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from grapevine_lab.demo.listening import Point
from grapevine_lab.demo.plan import DEFAULT_ENGINE, DEFAULT_PEERS, DEFAULT_SECONDS
from grapevine_lab.demo.plot import MAX_NAMED, mean_over_agents
from grapevine_lab.demo.report import EXTERNAL, GOAL_ACCURACY, Report, goals_of, mean
from grapevine_lab.demo.summary import result_table
from grapevine_lab.pages import Cell, Chart, Checks, Details, Figures, Heading, Page, Section, Series, Table, Text
from grapevine_lab.pages.versions import version_table

MEAN, AGENTS, ALONE, GOAL = "mean of the agents", "each agent", "the same agents, each alone", "the goal"
INK, BLUE, ORANGE, GREEN = 6, 0, 1, 2  # in the page's palette
ABOUT = (
    "Each agent is a process of its own that holds images of a few of the ten digits, and never those of the others. "
    "What travels are models. All accuracies are of released models, on a test set of all ten digits, as the agents "
    "have said it, signed, over MQTT. To compare, a twin of each agent learns from the same images by itself."
)


def page_of(report: Report, *, date: str) -> Page:
    """The page of a demo that is over."""
    with_server = "" if report.server is None else ", for a while with a server that is then killed"
    sections: list[Section] = [
        Figures(_figures(report)),
        Heading("What was to be shown"),
        Checks([(goal.what, goal.reached) for goal in goals_of(report)]),
        Heading("How well they learn"),
        Text(ABOUT),
        _chart(report),
        result_table(report),
        Heading("Who took part"),
        _people(report),
        Heading("What was sent"),
        Text(_traffic(report)),
        *([_rejected(report)] if report.rejected_messages else []),
        Heading("The same again"),
        Details("Command", _command(report), is_open=True),
        *([Details(f"Configuration of {report.peers[0].name}", report.configuration)] if report.configuration else []),
        version_table(report.versions),
    ]
    return Page(
        f"{len(report.peers)} agents learn together",
        sections,
        kind="Grapevine · demo",
        lead=f"Devices that have each seen a few of the ten digits learn all of them, over MQTT{with_server}.",
        made=f"Made by grapevine demo, {report.versions.get('grapevine', '')}, on {date}. For programs: report.json.",
    )


def _figures(report: Report) -> dict[str, Cell]:
    finals = [peer.accuracy_final for peer in report.peers]
    known = [share for share in finals if share is not None]
    return {
        "mean accuracy, together": _percent(mean(finals)),
        "the worst agent": _percent(min(known) if len(known) == len(finals) and known else None),
        "mean accuracy, each alone": _percent(mean([peer.accuracy_alone for peer in report.peers])),
        "of learning": f"{report.duration_s:.0f} s",
        "messages": report.num_messages,
    }


def _percent(share: float | None) -> str | None:
    return None if share is None else f"{100 * share:.1f} %"


def _chart(report: Report) -> Chart:
    times, means = mean_over_agents([peer.together for peer in report.peers], report.duration_s)
    is_named = len(report.peers) <= MAX_NAMED
    series = [Series(MEAN, times, means, colour=INK)]
    for i, peer in enumerate(report.peers):
        name, colour = (peer.name, None) if is_named else (AGENTS, BLUE)
        series.append(_line(name, peer.together, like="" if is_named or not i else AGENTS, colour=colour))
    for i, peer in enumerate(report.peers):
        series.append(_line(ALONE, peer.alone, like=ALONE if i else "", colour=ORANGE, dashed=True))
    goal = Series(GOAL, [0.0, report.duration_s], [GOAL_ACCURACY] * 2, dashed=True, thin=True, colour=GREEN)
    marks, spans = _server(report)
    return Chart(
        "Accuracy over time",
        "seconds since learning began",
        "accuracy on all ten digits",
        [*series, goal],
        marks=marks,
        spans=spans,
        percent=True,
        from_zero=True,
        wide=True,
    )


def _line(name: str, points: Sequence[Point], *, like: str, colour: int | None, dashed: bool = False) -> Series:
    xs, ys = [point.t_s for point in points], [point.accuracy for point in points]
    return Series(name, xs, ys, thin=True, dashed=dashed, like=like, colour=colour)


def _server(report: Report) -> tuple[list[tuple[float, str]], list[tuple[float, float, str]]]:
    server = report.server
    if server is None or server.appeared_s is None:
        return [], []
    marks = [(server.appeared_s, "server appears")]
    if server.killed_s is not None:
        marks.append((server.killed_s, "server killed"))
    end_s = report.duration_s if server.killed_s is None else server.killed_s
    return marks, [(server.appeared_s, end_s, "server there")]


def _people(report: Report) -> Table:
    rows: list[list[Cell]] = [
        [peer.name, f"learns from {peer.num_samples} images of {', '.join(map(str, peer.classes))}", peer.id]
        for peer in report.peers
    ]
    rows += [[person.name, person.part, person.id] for person in report.others]
    return Table(["peer", "what it does", "its id"], rows, words=(0, 1, 2))


def _traffic(report: Report) -> str:
    is_own = report.broker_engine != EXTERNAL
    broker = "a broker of the demo's own" if is_own else f"the broker at {report.broker_url}"
    version = f", MQTT {report.mqtt_version}" if report.mqtt_version else ""
    sent = f"{report.num_messages:,} messages went over {broker}{version}; the whole took {report.total_s:.0f} s."
    return sent if report.rejected_messages else f"{sent} The peers rejected none."


def _rejected(report: Report) -> Table:
    rows = sorted(report.rejected_messages.items())
    return Table(["rejected by the peers, because", "messages"], rows)


def _command(report: Report) -> str:
    command = ["grapevine", "demo"]
    if len(report.peers) != DEFAULT_PEERS:
        command += ["--peers", str(len(report.peers))]
    if report.seed:
        command += ["--seed", str(report.seed)]
    if report.server is None:
        command.append("--no-server")
    if report.broker_engine == EXTERNAL:
        command += ["--broker", report.broker_url]
    elif report.broker_engine != DEFAULT_ENGINE:
        command += ["--engine", report.broker_engine]
    if round(report.duration_s) != DEFAULT_SECONDS:
        command += ["--seconds", f"{report.duration_s:.0f}"]
    return shlex.join(command)
