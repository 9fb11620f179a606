"""A folder stands for the newest task that it was published as."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from grapevine_agent.cli import build_app
from grapevine_agent.cli.owner_commands import ActedTaskArgument, TaskArgument
from grapevine_agent.cli.publications import FILE, copied_from, meant, note, published_as
from grapevine_proto.errors import GrapevineError, RequestError, TaskError

ONE, TWO = "1" * 64, "2" * 64


def test_a_folder_is_its_newest_publication_and_other_words_stay_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (wine := tmp_path / "wine").mkdir()
    assert meant("wine") == "wine"  # a name, though there is a folder of that name
    assert note(wine, task=ONE, name="wine", version=1) == ""
    assert note(wine, task=TWO, name="wine", version=2) == ""
    assert [each["version"] for each in published_as(wine)] == [1, 2]
    assert meant("wine") == meant("wine/") == meant(str(wine)) == TWO
    monkeypatch.chdir(wine)
    assert meant(".") == TWO
    assert [meant(word) for word in ("", "beer", ONE, "a/b")] == ["", "beer", ONE, "a/b"]


def test_a_folder_that_nobody_published_is_told_as_one(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="is a folder that nobody has published from here: name the task by its id"):
        meant(str(tmp_path))


@pytest.mark.parametrize("text", ["", "{}", '[{"task": "abc"}]', "[1]", '[{"task": 1}]', "\xff"])
def test_a_damaged_note_names_the_file_and_the_remedy(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_bytes(text.encode("latin-1"))
    with pytest.raises(RequestError, match=rf"{FILE} .*: delete it, and name the task by its id"):
        meant(str(tmp_path))


def test_a_copied_folder_is_not_the_task_of_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (wine := tmp_path / "wine").mkdir()
    note(wine, task=ONE, name="wine", version=1)
    shutil.copytree(wine, beer := tmp_path / "beer")
    assert copied_from(wine) == ""
    assert copied_from(beer) == str(wine)
    with pytest.raises(RequestError, match=rf"was not published itself: its {FILE} is that of {wine}"):
        meant(str(beer))
    monkeypatch.chdir(tmp_path)
    assert meant("beer") == "beer"  # a name
    assert note(beer, task=TWO, name="beer", version=1) == ""
    assert [each["task"] for each in published_as(beer)] == [TWO]
    assert copied_from(beer) == ""
    assert (meant("wine"), meant("beer")) == (ONE, TWO)


def test_a_folder_that_was_moved_keeps_its_note(tmp_path: Path) -> None:
    (wine := tmp_path / "wine").mkdir()
    note(wine, task=ONE, name="wine", version=1)
    wine.rename(cellar := tmp_path / "cellar")
    assert meant(str(cellar)) == ONE
    wine.mkdir()  # another one, in its old place
    assert meant(str(cellar)) == ONE
    (tmp_path / "link").symlink_to(cellar)
    note(tmp_path / "link", task=TWO, name="wine", version=2)
    assert meant(str(cellar)) == TWO


def test_in_a_note_without_a_folder_the_name_tells(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(json.dumps([{"task": ONE, "name": "wine", "version": 1}]))
    assert meant(str(tmp_path)) == ONE
    for text in ('[task]\nname = "wine"\n', "[task", "task = 1"):
        (tmp_path / "task.toml").write_text(text)
        assert meant(str(tmp_path)) == ONE
    (tmp_path / "task.toml").write_text('[task]\nname = "beer"\n')
    assert copied_from(tmp_path) == "another task, wine"
    with pytest.raises(RequestError, match="is that of another task, wine"):
        meant(str(tmp_path))


def test_a_folder_that_takes_no_file_is_published_all_the_same(tmp_path: Path) -> None:
    assert "cannot be written" in note(tmp_path / "gone", task=ONE, name="wine", version=1)


def test_every_command_that_takes_a_task_takes_its_folder(tmp_path: Path) -> None:
    note(tmp_path, task=TWO, name="wine", version=1)
    app = typer.Typer()
    seen: list[str] = []

    @app.command()
    def look(task: TaskArgument, acted: ActedTaskArgument) -> None:
        seen.extend((task, acted))

    assert CliRunner().invoke(app, [str(tmp_path), f"{tmp_path}/"]).exit_code == 0
    assert seen == [TWO, TWO]


@pytest.mark.parametrize("option", ["-o", "--pt2"])
def test_where_a_pulled_model_goes_is_checked_before_anybody_is_asked(tmp_path: Path, option: str) -> None:
    config = tmp_path / "agent.toml"
    config.write_text(f'[agent]\nstate_dir = "{tmp_path / "state"}"\n[mqtt]\nbrokers = ["mqtt://127.0.0.1:1"]\n')
    path = tmp_path / "models" / "wine.safetensors"
    done = CliRunner().invoke(build_app(), ["task", "pull", ONE, option, str(path), "--config", str(config)])
    assert isinstance(done.exception, TaskError | GrapevineError)
    assert (
        str(done.exception) == f"{path}: there is no folder {path.parent}; make it first, as in mkdir -p {path.parent}"
    )
