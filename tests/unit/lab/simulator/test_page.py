"""The page of a run: what is drawn, what is told, and how to run it again."""

from dataclasses import replace
from pathlib import Path

from tests.unit.lab.pages.reading import all_of, asks_for, parsed, rows_of, tag, text_of
from tests.unit.lab.simulator.test_measurements import swarm

from grapevine_lab.pages import Table, html_of
from grapevine_lab.scenarios import find_scenario
from grapevine_lab.simulator.invariants import Invariant
from grapevine_lab.simulator.life_report import LifeReport
from grapevine_lab.simulator.page import Run, page_of, spans_of
from grapevine_lab.simulator.panels import plots_of
from grapevine_lab.simulator.scenario import read_scenario
from grapevine_lab.simulator.summary import Facts, summarise

EVE = "<b>eight</b> & co"
SCENARIO = f"""
[scenario]
name = "{EVE}"
rounds = 30
targets = [0.8, 0.99]
[task]
name = "digits"  # <i>
[data]
name = "digits"
[server]
present = [[20, 60], [90, inf]]
[[network.cut]]
from_s = 30
until_s = 50
groups = [[0], [1]]
"""


def run_of(folder: Path, *changes: str, seeds: tuple[int, ...] = (1, 2, 3)) -> Run:
    path = folder / "eight.toml"
    path.write_text(SCENARIO)
    scenario = read_scenario(path, changes=changes)
    measured = swarm(seeds=seeds)
    facts = Facts(
        scenario=scenario.name,
        seeds=seeds,
        num_nodes=8,
        num_rounds=30,
        metric_name="accuracy",
        targets=scenario.targets,
    )
    return Run(
        scenario=scenario,
        summary=summarise(measured, facts),
        plots=plots_of(measured, metric_name="accuracy", higher_is_better=True, spans=spans_of(scenario)),
        runs=Table(["seed"], [[seed] for seed in seeds]),
        notes=["seed 1: <u>somebody</u> was away"],
        lives={},
        versions={"grapevine": "0.1"},
        date="2026-11-30",
    )


def test_a_run_is_told_on_one_valid_page_that_asks_nobody_for_anything(tmp_path: Path) -> None:
    html = html_of(page_of(run_of(tmp_path)))

    root = parsed(html)
    assert asks_for(root) == []
    assert len(html) < 300_000
    titles = [text_of(each) for each in all_of(root, "h3")]
    assert titles == [
        "Accuracy over time",
        "Accuracy by rounds",
        "Loss by rounds",
        "Staleness against its bound",
        "Messages per node and round",
        "kB per node and round",
        "Energy",
    ]
    assert [text_of(each) for each in all_of(root, "h1")] == [EVE]
    assert "<u>somebody</u> was away" in text_of(root)
    assert not [each for each in root.iter() if tag(each) in ("i", "u", "b") and "class" not in each.attrib]
    assert html == html_of(page_of(run_of(tmp_path)))


def test_nodes_and_seeds_are_seen_apart_and_the_server_and_cuts_are_shaded(tmp_path: Path) -> None:
    over_time, by_rounds = all_of(parsed(html_of(page_of(run_of(tmp_path)))), "figure")[:2]

    legend = [text_of(each) for each in next(each for each in over_time if each.get("class") == "legend")]
    assert legend == ["released", "merged", "working", "server there", "network cut"]
    assert len([each for each in all_of(over_time, "rect") if each.get("class") == "span"]) == 3
    assert not [each for each in all_of(by_rounds, "rect") if each.get("class") == "span"]
    for chart in (over_time, by_rounds):
        assert len([each for each in all_of(chart, "path") if "like" in each.get("class", "").split()]) == 3 * 3
        assert len([each for each in all_of(chart, "path") if "band" in each.get("class", "").split()]) == 3


def test_whoever_gets_the_page_can_run_it_again(tmp_path: Path) -> None:
    run = run_of(tmp_path, "nodes.num=8", 'topology={ kind = "ring" }')
    root = parsed(html_of(page_of(run)))

    command, file = ("".join(each.itertext()) for each in all_of(root, "code"))
    assert command == ("grapevine simulate eight.toml --set nodes.num=8 --set 'topology={ kind = \"ring\" }' --seeds 3")
    assert file == SCENARIO.rstrip("\n")
    shipped = replace(run, scenario=read_scenario(find_scenario("digits"), quick=True))
    assert "grapevine simulate digits --quick --seeds 3" in html_of(page_of(shipped))


def test_a_long_run_says_what_had_to_hold(tmp_path: Path) -> None:
    invariants = [
        Invariant(name="writes, a day", bound=71_000, found=5.25, unit="MB", holds=True),
        Invariant(name="claims", bound=1, found=2, unit="%", holds=False, note="node <7>"),
        Invariant(name="growth", bound=1, found=1, unit="", holds=None),
    ]
    days = tuple((day, *[1.0] * 20) for day in range(3))
    life = LifeReport(invariants=tuple(invariants), days=days, sizes=((0, "whole", 1, 2, 3.0),))

    root = parsed(html_of(page_of(replace(run_of(tmp_path), lives={1: life}))))

    rows = rows_of(root)
    assert rows["writes, a day"] == ["71,000 MB", "5.25 MB", "yes", ""]
    assert rows["claims"][2:] == ["NO", "node <7>"]
    assert rows["growth"][2] == "too short to tell"
    assert "1 of 2" in [text_of(each) for each in all_of(root, "dd")]
