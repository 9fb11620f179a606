"""The tree of commands, of which a command line gets what it can need."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import typer

from grapevine_agent import cli
from grapevine_agent.cli import build_app, tree
from grapevine_agent.cli.values import spare


def command_of(*words: str) -> Any:
    return typer.main.get_command(build_app(words))


def names(app: typer.Typer) -> tuple[str, ...]:
    return tuple(typer.main.get_command(app).commands)  # type: ignore[attr-defined]


WHOLE: Any = typer.main.get_command(build_app())


def test_every_module_attaches_the_commands_that_it_is_named_for() -> None:
    folder = Path(str(cli.__file__)).parent
    of_tasks = {"check_commands"}  # attached to `grapevine task` by its module
    assert {path.stem for path in folder.glob("*_commands.py")} - of_tasks == set(tree.MODULES)
    for module, expected in tree.MODULES.items():
        app = typer.Typer()
        app.callback()(lambda: None)
        import_module(f"grapevine_agent.cli.{module}").register(app)
        assert names(app) == expected


@pytest.mark.parametrize("name", [name for names in tree.MODULES.values() for name in names])
def test_a_command_by_itself_is_the_one_of_the_whole_tree(name: str) -> None:
    alone: Any = command_of(name)
    assert list(alone.commands) == [name]
    ours, whole = alone.commands[name], WHOLE.commands[name]
    assert (ours.help, len(ours.params)) == (whole.help, len(whole.params))
    assert list(getattr(ours, "commands", {})) == list(getattr(whole, "commands", {}))


def test_of_the_extensions_the_command_that_is_called_is_there() -> None:
    demo = command_of("demo", "--peers", "3").commands
    assert list(demo) == ["demo"]
    assert len(demo["demo"].params) == len(WHOLE.commands["demo"].params)


def test_what_was_meant_by_a_slip_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["grapevine", "simulat"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    assert "Did you mean 'simulate'" in capsys.readouterr().err


def test_of_a_group_the_command_that_is_called_is_there() -> None:
    assert list(command_of("task", "watch", "wine").commands["task"].commands) == ["watch"]


@pytest.mark.parametrize("words", [("task", "wach"), ("task", "--help"), ("task",)])
def test_of_a_group_all_commands_are_there_where_none_is_called(words: tuple[str, ...]) -> None:
    assert list(command_of(*words).commands["task"].commands) == list(WHOLE.commands["task"].commands)


@pytest.mark.parametrize("words", [("stauts",), ("--", "status"), ("--version",)])
def test_for_a_word_that_is_no_command_all_of_them_are_there(words: tuple[str, ...]) -> None:
    assert sorted(command_of(*words).commands) == sorted(WHOLE.commands)


@pytest.mark.parametrize("words", [(), ("--help",)])
def test_a_list_of_commands_shows_them_as_they_are(words: tuple[str, ...]) -> None:
    listed = command_of(*words)
    assert {name: each.help for name, each in listed.commands.items()} == {
        name: each.help for name, each in WHOLE.commands.items()
    }
    assert listed.epilog == WHOLE.epilog
    assert [each.opts for each in listed.params] == [each.opts for each in WHOLE.params]


def test_a_shell_that_completes_is_offered_every_command(tmp_path: Path) -> None:
    code = "import sys\nfrom grapevine_agent.cli import main\nsys.argv = ['grapevine']\nmain()"
    told = {"_GRAPEVINE_COMPLETE": "complete_bash", "COMP_WORDS": "grapevine task wat", "COMP_CWORD": "2"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path, env=told, timeout=60
    )
    assert done.stdout.split() == ["watch"], done.stderr


def test_a_number_is_still_held_against_its_bounds_and_a_default_is_what_the_function_has() -> None:
    app, taken = typer.Typer(), list[object]()
    app.callback()(lambda: None)

    @app.command()
    def take(
        where: Path = Path("here"),
        num: int = typer.Option(3, min=1, max=5),
        word: str = "a",
        many: list[str] | None = None,
    ) -> None:
        taken.extend((where, num, word, many))

    spare(app)
    command: Any = typer.main.get_command(app)
    command.main(["take"], standalone_mode=False)
    command.main(["take", "--where", "x", "--num", "4", "--word", "b", "--many", "c"], standalone_mode=False)
    assert taken == [Path("here"), 3, "a", None, Path("x"), 4, "b", ["c"]]
    with pytest.raises(SystemExit) as ended:
        command.main(["take", "--num", "6"])
    assert ended.value.code == 2


def test_values_that_need_no_conversion_load_nothing_to_convert_them(tmp_path: Path) -> None:
    script = (
        "import json, sys\nfrom grapevine_agent.cli import main\nsys.argv = ['grapevine', 'join', 'digits']\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\nprint(json.dumps('pydantic' in sys.modules))"
    )
    state = {"GRAPEVINE_STATE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=state)
    assert json.loads(done.stdout) is False
