"""The table of attacks: what is kept of runs, what is made of them, and what may be asked for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from grapevine_lab.robust import runs
from grapevine_lab.robust.__main__ import app, report, runs_of
from grapevine_lab.robust.attacks import ATTACKS, SHORT
from grapevine_lab.robust.columns import COLUMNS, SCENARIO, Column, changes_of
from grapevine_lab.robust.runs import Asked, Found, last_accuracies, run_all
from grapevine_lab.robust.table import accuracy_table, refusal_table
from grapevine_lab.simulator.measurements import Measurements, Reading
from grapevine_lab.simulator.scenario import read_scenario
from grapevine_proto.errors import ConfigError

ASKED = Asked(column="digits-4", strategy="median", attack="none", seed=0, rounds=60)


def found(attack: str, seed: int, mean: float, worst: float, **updates: dict[str, int]) -> Found:
    return Found(asked=replace(ASKED, attack=attack, seed=seed), mean=mean, worst=worst, updates=updates, wall_s=1.0)


MADE = [
    found("none", 0, 0.96, 0.95, honest={"taken": 99, "far-away": 1}),
    found("none", 1, 0.94, 0.90, honest={"taken": 100}),
    found("silent", 0, 0.95, 0.93, honest={"taken": 80}),
    found("silent", 1, 0.93, 0.91, honest={"taken": 80}),
    found("sign-flip", 1, 0.90, 0.80, honest={"taken": 80}, hostile={"taken": 5, "far-away": 10, "quarantined": 5}),
]


def test_a_row_has_the_mean_the_worst_agent_and_the_points_to_the_seeds_that_both_have() -> None:
    assert str(accuracy_table(MADE, "median")).splitlines()[2:] == [
        "| attack | digits, 4 of 10 classes each | to silent | to none |",
        "| --- | --- | --- | --- |",
        "| none | 0.950 (0.900) | +1.0 | – |",
        "| hostile ones silent | 0.940 (0.910) | – | −1.0 |",
        "| sign flip | 0.900 (0.800) | −3.0 | −4.0 |",
    ]


def test_refusals_are_shares_of_what_honest_agents_got_of_either_kind() -> None:
    assert str(refusal_table(MADE, "median")).splitlines()[4:] == [
        "| none | – | 0.5 % |",
        "| hostile ones silent | – | 0.0 % |",
        "| sign flip | 75.0 % | 0.0 % |",
    ]


def test_a_task_that_lacks_a_row_has_dashes_there_and_other_strategies_are_left_out() -> None:
    other = replace(ASKED, column="digits-2", attack="silent")
    more = [*MADE, replace(MADE[2], asked=other), replace(MADE[0], asked=replace(ASKED, strategy="krum"))]
    rows = accuracy_table(more, "median").rows
    assert rows[0] == ["none", "0.950 (0.900)", "+1.0", "–", "–", "–", "–"]
    assert rows[1] == ["hostile ones silent", "0.940 (0.910)", "–", "−1.0", "0.950 (0.930)", "–", "–"]


def test_some_strategies_have_the_short_list_on_the_first_task_alone() -> None:
    wanted = runs_of(["median", "chisme"], list(COLUMNS), list(ATTACKS), num_seeds=2, shorter=["chisme"])
    whole = [each for each in wanted if each.strategy == "median"]
    short = [each for each in wanted if each.strategy == "chisme"]
    assert len(whole) == 2 * len(COLUMNS) * len(ATTACKS)
    assert {(each.column, each.attack) for each in short} == {("digits-4", attack) for attack in SHORT}
    assert [each.seed for each in wanted] == sorted(each.seed for each in wanted)
    assert len(set(wanted)) == len(wanted)


def test_the_page_begins_with_its_command_and_has_two_tables_a_strategy() -> None:
    text = report(MADE, ["median"], "python -m grapevine_lab.robust --seeds 2")
    assert text.startswith(
        "    python -m grapevine_lab.robust --seeds 2\n\n2 seeds, 60 rounds.\n\n### median: accuracy"
    )
    assert text.count("### median") == 2
    without = replace(MADE[0], asked=replace(MADE[0].asked, defences=False))
    assert "1 seed, 60 rounds, without defences." in report([without], ["median"], "")


def test_an_agents_last_five_readings_count_whatever_their_order() -> None:
    rows = Measurements()
    for node in (3, 1):
        for round_ in (6, 0, 1, 2, 3, 4, 5):
            rows.add(_reading(node, round_, metric=round_ / 10 if node == 1 else 0.5))
    assert last_accuracies(rows) == pytest.approx([0.4, 0.5])


def _reading(node: int, round_: int, *, metric: float) -> Reading:
    return Reading(
        seed=0, time_s=0.0, round=round_, node=node, model="released", loss=1.0, metric=metric, num_evaluated=1
    )


def test_a_broken_off_table_goes_on_and_what_was_asked_for_otherwise_is_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Asked] = []

    def run(each: Asked) -> Found:
        asked.append(each)
        if each.seed == 2:
            raise ConfigError("no room")
        return replace(MADE[0], asked=each)

    monkeypatch.setattr(runs, "run_one", run)
    wanted = [replace(ASKED, seed=seed) for seed in range(3)]
    with pytest.raises(ConfigError, match=r"digits-4, median, none: no room"):
        list(run_all(wanted, tmp_path))
    assert [each.asked.seed for each in run_all(wanted[:2], tmp_path)] == [0, 1]
    assert [each.seed for each in asked] == [0, 1, 2]
    list(run_all([replace(ASKED, defences=False), replace(ASKED, rounds=30)], tmp_path))
    assert len(asked) == 5
    list(run_all([replace(ASKED, defences=False)], tmp_path))
    assert len(asked) == 5


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"asked": 3}', '{"asked": {"seed": 1}, "mean": 1}'])
def test_a_damaged_result_is_named_with_what_to_do(tmp_path: Path, content: str) -> None:
    path = ASKED.path(tmp_path)
    path.parent.mkdir(parents=True)
    path.write_text(content)
    with pytest.raises(ConfigError, match=r"none-0\.json: cannot be read .*delete it"):
        list(run_all([ASKED], tmp_path))


@pytest.mark.parametrize("column", COLUMNS.values(), ids=lambda column: column.name)
def test_every_attack_is_a_scenario_on_every_task(column: Column) -> None:
    for attack in ATTACKS.values():
        scenario = read_scenario(SCENARIO, changes=changes_of(column, "median", attack, rounds=60))
        nodes = [node for plan in scenario.attacks for node in plan.nodes]
        assert nodes == (list(range(20 - attack.num_hostile, 20)) if attack.kind else [])
        assert scenario.rounds == 60
    sleepers = read_scenario(SCENARIO, changes=changes_of(column, "median", ATTACKS["sleepers"], rounds=60))
    assert sleepers.attacks[0].from_s == 15.0


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--only", "sign-flop"], "'sign-flop' is not known; did you mean sign-flip?"),
        (["--task", "xyz"], "'xyz' is not known; choose of digits-4, digits-2"),
        (["--strategy", "medium"], "did you mean median?"),
        (["--defences", "of"], "'of' is not one of 'on', 'off'"),
        (["--seeds", "0"], "should be greater than or equal to 1"),
        (["--processes", "0"], "should be greater than or equal to 1"),
    ],
)
def test_what_there_is_not_is_named_before_anything_runs(tmp_path: Path, arguments: list[str], why: str) -> None:
    result = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "out")], terminal_width=200)
    assert result.exit_code == 2
    assert why in " ".join(result.output.replace("│", " ").split())
    assert not (tmp_path / "out").exists()


def test_tables_are_made_of_what_is_there_without_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "run_one", lambda asked: found(asked.attack, asked.seed, 0.5, 0.25, honest={"taken": 3}))
    out = tmp_path / "out"
    arguments = ["--strategy", "median", "--task", "digits-4", "--only", "nan", "--seeds", "1", "--out", str(out)]
    nothing = CliRunner().invoke(app, [*arguments, "--kept"])
    assert nothing.exit_code == 1
    assert "nothing that is asked for is in" in nothing.output
    assert not out.exists()
    assert CliRunner().invoke(app, arguments).exit_code == 0
    monkeypatch.delattr(runs, "run_one")
    again = CliRunner().invoke(app, [*arguments, "--strategy", "krum", "--seeds", "5", "--kept"])
    assert again.exit_code == 0
    assert "### krum" not in again.output, "of which there is no run"
    assert "| NaN | 0.500 (0.250) | +0.0 | +0.0 |" in (out / "robust.md").read_text()


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = CliRunner().invoke(app, ["--quick", "--out", str(tmp_path / "file")])
    assert result.exit_code == 1
    assert "cannot be written (File exists); give another folder" in result.output


def test_data_that_are_not_there_end_it_with_where_to_get_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAPEVINE_DATA", str(tmp_path))
    result = CliRunner().invoke(app, ["--task", "mnist-by-writer", "--out", str(tmp_path / "out")])
    assert result.exit_code == 1
    assert "mnist-by-writer, doubly-weighted, none: data set 'mnist-by-writer'" in result.output
