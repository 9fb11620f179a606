"""The end of the demo on the screen: a table, what was shown and what was not, and what to try next."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from grapevine_lab.demo.report import Report, goals_of, mean
from grapevine_lab.pages import Cell, Table
from grapevine_lab.pages.printed import print_table

PLOT_FILE = "accuracy.png"
REPORT_FILE = "report.json"
PAGE_FILE = "report.html"


def print_summary(report: Report, out: Path, console: Console) -> None:
    """Print the outcome for people."""
    console.print()
    print_table(result_table(report), console, boxed=True)
    console.print()
    for goal in goals_of(report):
        mark = "[green]yes[/]" if goal.reached else "[bold red]NO [/]"
        console.print(f"  {mark}  {goal.what}", highlight=False)
    rejected = ", ".join(f"{count} {reason}" for reason, count in sorted(report.rejected_messages.items())) or "none"
    console.print(
        f"\n{report.num_messages} messages in {report.total_s:.0f} s; rejected by the peers: {rejected}",
        highlight=False,
    )
    console.print(f"\n{_next_steps(report, out)}", markup=False, highlight=False, soft_wrap=True)


def result_table(report: Report) -> Table:
    """Each agent alone and together, for a terminal or a page."""
    headings = ["", "has seen", "alone", "before the kill", "at the end"]
    peers = report.peers
    rows: list[list[Cell]] = [
        [
            peer.name,
            " ".join(map(str, peer.classes)),
            *_cells(report, peer.accuracy_alone, peer.accuracy_before_loss, peer.accuracy_final),
        ]
        for peer in peers
    ]
    means = (
        mean([peer.accuracy_alone for peer in peers]),
        mean([peer.accuracy_before_loss for peer in peers]),
        mean([peer.accuracy_final for peer in peers]),
    )
    rows.append(["mean", "", *_cells(report, *means)])
    if report.server is None:
        headings.remove("before the kill")
    caption = "accuracy on all ten digits: each agent alone, and together"
    return Table(headings, rows, caption, last_is_total=True, words=(0, 1))


def _cells(report: Report, alone: float | None, before: float | None, final: float | None) -> list[str]:
    shown = [alone, before, final] if report.server is not None else [alone, final]
    return ["?" if share is None else f"{share:.1%}" for share in shown]


def _next_steps(report: Report, out: Path) -> str:
    other = "grapevine demo --no-server" if report.server is not None else "grapevine demo"
    what = "gossip alone" if report.server is not None else "with a server for a while"
    return "\n".join(
        [
            f"{out / PAGE_FILE} tells all of it on one page, to be sent to a colleague;",
            f"{out / PLOT_FILE} shows accuracy over time, {out / REPORT_FILE} holds the numbers.",
            "",
            "What to try next:",
            f"  {other:<44}{what}",
            f"  {'grapevine demo --peers 8':<44}more agents",
            f"  {'grapevine broker run --engine mosquitto':<44}a broker that is fit for more than a demo, and then",
            f"  {'grapevine demo --broker mqtt://127.0.0.1':<44}the same demo on it (or on a broker that you have)",
            f"  {'grapevine init':<44}make this device a peer that stays",
        ]
    )
