"""docs/training.md says what the closed sets say, and its examples are read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from grapevine_tasks.authoring.task_file import read_task_file
from grapevine_tasks.checks.contract import check_contract
from grapevine_tasks.checks.training import check_training
from grapevine_tasks.closed_sets import LOSSES, METRICS, OPTIMISERS, SCHEDULES, Constant, Named
from grapevine_tasks.pipelines import STEPS, model_specs
from grapevine_tasks.pipelines.steps import Argument

PAGE = (Path(__file__).parents[3] / "docs" / "training.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```toml\n(.*?)```", PAGE, flags=re.DOTALL)


def _rows(section: str) -> dict[str, list[str]]:
    """The rows of a section's table by the name in their first cell."""
    text = PAGE.split(f"\n## {section}\n")[1].split("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| `")]
    return {cells[0].strip("`"): cells[1:] for cells in rows}


def _shown(constants: Mapping[str, Constant] | Mapping[str, Argument]) -> str:
    return "; ".join(_constant(name, each) for name, each in constants.items()) or "–"


def _constant(name: str, each: Constant | Argument) -> str:
    default = each.default[0] if isinstance(each.default, tuple) else each.default
    what = "numbers" if isinstance(each, Argument) and each.is_list else "number"
    text = f"`{name}`: {'whole ' if each.is_whole else ''}{what}, {each.low:g} to {each.high:g}"
    return text if default is None else f"{text}, default {default:g}"


def test_every_step_is_there_with_its_arguments() -> None:
    assert _rows("Pipeline") == {name: [_shown(step.arguments), step.summary] for name, step in STEPS.items()}


def test_every_loss_is_there_with_its_constants() -> None:
    assert _rows("Losses") == {
        name: [loss.takes, _shown(loss.constants), loss.summary.replace("|", r"\|")] for name, loss in LOSSES.items()
    }


def test_every_metric_is_there_with_its_losses() -> None:
    assert _rows("Metrics") == {
        name: [", ".join(f"`{loss}`" for loss in metric.losses), metric.summary] for name, metric in METRICS.items()
    }


@pytest.mark.parametrize(("section", "named"), [("Optimisers", OPTIMISERS), ("Schedules", SCHEDULES)])
def test_every_optimiser_and_schedule_is_there_with_its_constants(section: str, named: Mapping[str, Named]) -> None:
    assert _rows(section) == {name: [_shown(each.constants), each.summary] for name, each in named.items()}


@pytest.mark.parametrize(("number", "takes", "compared"), [(0, (3, 32, 32), ()), (1, (24, 3), (6,)), (2, (64,), (64,))])
def test_an_example_is_read_and_makes_what_the_page_says(
    number: int, takes: tuple[int, ...], compared: tuple[int, ...], tmp_path: Path
) -> None:
    (tmp_path / "task.toml").write_text(EXAMPLES[number], encoding="utf-8")
    task = read_task_file(tmp_path / "task.toml")
    check_contract(task.data)
    check_training(task.training)
    features, target = model_specs(task.data)
    assert (features.shape, target.shape) == (takes, compared)
    assert f"`{list(takes)}`" in PAGE


def test_errors_are_better_when_they_are_lower() -> None:
    assert {name for name, metric in METRICS.items() if not metric.higher_is_better} == {"mse", "mae", "rmse"}
