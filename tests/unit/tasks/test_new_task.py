"""A new task's folder can be built as it stands; what is half written is not published."""

from __future__ import annotations

import re
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from grapevine_agent.merge.plan import check_merge_plan
from grapevine_proto.errors import RequestError, TaskError
from grapevine_tasks.authoring.build import build_task
from grapevine_tasks.authoring.task_file import read_task_file
from grapevine_tasks.built import FINGERPRINT_FILE, load_built
from grapevine_tasks.new_task import new_task


def test_a_new_folder_can_be_built_as_it_stands(tmp_path: Path) -> None:
    folder = new_task("my-task", into=tmp_path)
    built = build_task(folder, check_merging=check_merge_plan)
    assert built.draft.name == "my-task"
    assert "my-task" in (folder / "README.md").read_text()
    assert load_built(folder) == built


def test_every_setting_that_is_commented_out_shows_its_default_or_a_valid_value(tmp_path: Path) -> None:
    folder = new_task("full", into=tmp_path)
    text = (folder / "task.toml").read_text()
    shown = re.sub(r"^#(?=[\w\[])", "", text, flags=re.MULTILINE)
    assert len(tomllib.loads(shown)["merging"]) > 10
    (folder / "task.toml").write_text(shown)
    full = read_task_file(folder / "task.toml")
    (folder / "task.toml").write_text(text)
    plain = read_task_file(folder / "task.toml")
    # What has no default to show is shown by an example.
    assert (full.training.schedule.name, len(full.data.pipeline), len(full.data.classes)) == ("cosine", 1, 3)
    assert replace(full.training, schedule=plain.training.schedule) == plain.training
    assert replace(full.data, classes=(), pipeline=(), features=plain.data.features) == plain.data
    assert full.requirements == plain.requirements
    assert full.merging.strategy == plain.merging.strategy


def test_a_new_folder_may_start_from_the_catalogue(tmp_path: Path) -> None:
    folder = new_task("mine", into=tmp_path, catalogue="digits")
    task_file = read_task_file(folder / "task.toml")
    assert (task_file.name, task_file.data.kind) == ("mine", "digits-8x8")
    with pytest.raises(TaskError, match="did you mean 'digits'"):
        new_task("other", into=tmp_path, catalogue="digit")


@pytest.mark.parametrize("name", ["", "a/b", "../up", "-dash", "sp ace", 'quo"te', "ü", "x" * 65, "a\nb"])
def test_a_name_that_is_no_folder_everywhere_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(RequestError, match="write 1 to 64 letters"):
        new_task(name, into=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_there_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    with pytest.raises(TaskError, match="is there already"):
        new_task("mine", into=tmp_path)
    assert list((tmp_path / "mine").iterdir()) == []


def test_a_build_that_was_cut_short_counts_as_not_built(tmp_path: Path) -> None:
    folder = new_task("cut", into=tmp_path)
    build_task(folder, check_merging=check_merge_plan)
    (folder / "build" / FINGERPRINT_FILE).unlink()
    with pytest.raises(TaskError, match="has not been built"):
        load_built(folder)


def test_what_is_saved_while_it_is_built_is_not_what_was_built(tmp_path: Path) -> None:
    folder = new_task("racing", into=tmp_path)
    model = folder / "model.py"
    edit = (
        "from pathlib import Path\np = Path(__file__).with_name('task.toml')\np.write_text(p.read_text() + '# more')\n"
    )
    model.write_text(model.read_text() + edit)
    build_task(folder, check_merging=check_merge_plan)
    with pytest.raises(TaskError, match="changed after it was built"):
        load_built(folder)
