"""What `task check` and `review show` say of a task's choices of sending and merging."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from grapevine_agent.cli import build_app
from grapevine_agent.cli.review_show import _plans
from grapevine_agent.merge.plan import check_merge_plan
from grapevine_agent.requests.merging_words import merging_lines
from grapevine_lab.bench import floods
from grapevine_proto.errors import TaskError
from grapevine_proto.manifest import MergePlan, TaskManifest
from grapevine_tasks.authoring.build import build_task
from grapevine_tasks.catalogue import catalogue_task


def manifest(**merging: object) -> TaskManifest:
    found = floods.manifest("e" * 20)
    training = replace(found.training, steps_per_round=10)
    return replace(found, training=training, merging=MergePlan(**merging))  # type: ignore[arg-type]


def said(line: str, **merging: object) -> str:
    return merging_lines(manifest(**merging))[line]


def test_what_is_sent_and_how_often() -> None:
    assert said("sending") == "full models; log-n × 1: 2.3 sends a round among 10 members, 4.61 among 100"
    assert said("sending", send_rate="constant", sends_per_round=2.0, update_form="delta") == (
        "a base, and the change since; constant × 2: 2 sends a round among 10 members, 2 among 100"
    )
    assert said("sending", strategy="delta-sum").startswith(
        "a base, and the change since, as the strategy sums changes; log-n"
    )
    assert said("sending", send_rate="token-account").endswith("; what there is no news for is saved")
    assert said("sending", send_rate="every-round").endswith(
        "every-round: to every neighbour when a round is over, 9 sends among 10 members"
    )


def test_what_comes_back() -> None:
    assert said("exchange") == "push: a model is sent, and none comes back for it"
    assert said("exchange", exchange="push-pull") == (
        "push-pull: whoever sends a model is sent one back, within the same number of sends"
    )


def test_how_it_is_written() -> None:
    assert said("encodings").startswith("float32: ")
    assert said("encodings").endswith(" bytes an update, exact")
    smaller = said("encodings", encodings=("float32", "int8"))
    assert smaller.startswith("float32, int8: ")
    least, most = (int(word.replace(",", "")) for word in smaller.split() if word.replace(",", "").isdigit())
    assert 3.5 < most / least < 4.1
    partial = said("encodings", encodings=("float32", "top-k+zstd"), update_form="delta")
    assert partial.endswith("; top-k+zstd leaves most of a change for later")


def test_what_is_stale() -> None:
    assert said("stale") == "no update is, however far behind"
    assert said("stale", stale="refuse") == (
        'no update is, however far behind; stale = "refuse" does nothing without stale_after'
    )
    assert said("stale", stale_after=500) == (
        "discount: what is more than 500 steps (50 rounds) behind weighs less, 0.71 at 1,000 steps, 0.5 at 2,000"
    )
    assert said("stale", stale_after=5, stale="refuse") == (
        "refuse: what is more than 5 steps (0.5 rounds) behind is dropped, and its sender hears the others until it "
        "has caught up"
    )


def test_a_reviewer_reads_the_same_lines() -> None:
    task = manifest(exchange="push-pull", stale_after=500)
    assert merging_lines(task).items() <= _plans(task, is_sound=True).items()


def test_of_an_unsound_task_a_reviewer_reads_what_is_written() -> None:
    shown = _plans(manifest(strategy="none", exchange="pull", encodings=("int9",), stale="drop"), is_sound=False)
    assert (shown["exchange"], shown["encodings"], shown["stale"]) == ("pull", "int9", "drop after 0 steps")
    assert shown["sending"] == "full, log-n × 1 a round"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(catalogue_task("digits"), tmp_path / "digits")
    return tmp_path / "digits"


def test_task_check_says_them(folder: Path) -> None:
    built = build_task(folder, check_merging=check_merge_plan)
    done = CliRunner().invoke(build_app(), ["task", "check", str(folder)])
    assert done.exit_code == 0, done.output
    shown = " ".join(done.stdout.split())
    for name, line in merging_lines(built.draft).items():
        assert f"{name} {line}" in shown
    plain = CliRunner().invoke(build_app(), ["task", "check", str(folder), "--json"])
    assert json.loads(plain.stdout)["merging"] == merging_lines(built.draft)


@pytest.mark.parametrize(
    ("line", "remedy"),
    [
        ('stale = "drop"', r"merging\.stale is 'drop'; known here: discount, refuse"),
        ('exchange = "pull"', r"merging\.exchange is 'pull'; did you mean 'push-pull'\? Allowed: push, push-pull"),
        ('send_rate = "logn"', r"'log-n'\? Allowed: constant, every-round, linear, log-log-n, log-n, token-account"),
        ('encodings = ["int9"]', r"merging\.encodings is 'int9'; did you mean 'int8'\? Allowed: .*float16"),
        ("stale_after = -1", r"merging\.stale_after is -1, outside 0 to 1e\+12"),
        ("stale_after = 1.5", r"stale_after is 1\.5; write a whole number"),
    ],
)
def test_a_wrong_choice_points_to_its_line_and_to_what_may_stand_there(folder: Path, line: str, remedy: str) -> None:
    file = folder / "task.toml"
    text = "".join(each for each in file.read_text().split("[merging]")[0].splitlines(keepends=True))
    file.write_text(f"{text.rstrip()}\n\n[merging]\n# how it merges\n{line}\n")
    number = len(file.read_text().splitlines())
    with pytest.raises(TaskError, match=rf"task\.toml, line {number}: .*{remedy}"):
        build_task(folder, check_merging=check_merge_plan)


def test_what_somebody_laid_over_the_file_has_no_line_of_it(folder: Path) -> None:
    with pytest.raises(TaskError, match=r"^merging\.stale is 'drop'"):
        build_task(folder, check_merging=check_merge_plan, changes={"merging": {"stale": "drop"}})
