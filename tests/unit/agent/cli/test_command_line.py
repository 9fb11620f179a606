"""Every command with values that cannot be meant. Commands and options are found by looking at the command itself."""

from __future__ import annotations

import inspect
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import typer
from typer.testing import CliRunner

from grapevine_agent.cli import build_app, main
from grapevine_agent.config.agent_toml import load_config
from grapevine_proto import distribution

BLANK = ["", " ", "\t \n", "\u200b", "\u3000"]
NO_NUMBER = ["nan", "NaN", "inf", "-inf", "-1", "1e999", "seven", "--"]
TOO_LONG = "x" * 5_000


def test_the_command_says_its_version() -> None:
    done = CliRunner().invoke(build_app(), ["--version"])
    assert (done.exit_code, done.stdout) == (0, f"grapevine {distribution.version()}\n")
    assert "--version" in CliRunner().invoke(build_app(), ["--help"]).stdout


class Reached(Exception):  # noqa: N818 - no error: the command line was taken
    """A command began."""


def leaves(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if subcommands := getattr(command, "commands", None):
        for name, each in subcommands.items():
            yield from leaves(each, (*path, name))
    else:
        yield path, command


def never(**_values: Any) -> None:
    raise Reached


def types_of(command: Any) -> dict[str, set[Any]]:
    """What the function behind a command takes: the types of each parameter, without None and list."""
    found = {}
    for name, hint in inspect.get_annotations(inspect.unwrap(command.callback), eval_str=True).items():
        parts, flat = [hint], set()
        while parts:
            part = parts.pop()
            inner = [each for each in get_args(part) if isinstance(each, type) or get_args(each)]
            parts.extend(inner)
            if not inner:
                flat.add(part)
        found[name] = flat - {type(None)}
    return found


ROOT: Any = typer.main.get_command(build_app())
COMMANDS = dict(leaves(ROOT))
TYPES = {path: types_of(command) for path, command in COMMANDS.items()}
for each_command in COMMANDS.values():
    each_command.callback = never
VALUED = [
    (path, parameter)
    for path, command in COMMANDS.items()
    for parameter in command.params
    if not getattr(parameter, "is_flag", False)
]
NUMBERS = [(path, parameter) for path, parameter in VALUED if TYPES[path][parameter.name] & {int, float}]


def words(path: tuple[str, ...], there: Path, changed: Any = None, value: str = "") -> list[str]:
    """A command line that would be taken, but for the value of one parameter."""
    options, arguments = [], []
    for parameter in COMMANDS[path].params:
        if parameter is not changed and not parameter.required:
            continue
        good = str(there) if Path in TYPES[path][parameter.name] else "abcdefgh"
        if TYPES[path][parameter.name] & {int, float}:
            good = "1"
        if path == ("merge",):
            good = str(there / "file")
        word = value if parameter is changed else good
        if parameter.param_type_name == "option":
            options += [parameter.opts[0], word] if word not in ("-1", "-inf") else [f"{parameter.opts[0]}={word}"]
        else:
            arguments.append(word)
    return [*path, *options, *(["--"] if "--" in arguments else []), *arguments]


def run(arguments: list[str]) -> int:
    with pytest.raises(SystemExit) as ended:
        ROOT.main(args=arguments, prog_name="grapevine")
    return int(ended.value.code or 0)


def named(case: Any) -> str:
    return " ".join(case) if isinstance(case, tuple) else str(getattr(case, "name", case))[:12]


@pytest.mark.parametrize("path", COMMANDS, ids=named)
def test_the_command_lines_of_these_tests_are_taken_where_nothing_is_wrong(
    path: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Reached):
        ROOT.main(args=words(path, tmp_path), prog_name="grapevine")


@pytest.mark.parametrize(("path", "parameter"), VALUED, ids=named)
def test_nothing_takes_an_empty_or_blank_or_endless_value(
    path: tuple[str, ...], parameter: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    for value in (*BLANK, TOO_LONG):
        assert run(words(path, tmp_path, parameter, value)) == 2
        told = capsys.readouterr().err
        assert "is empty" in told if value in BLANK else "5,000 characters" in told
        if parameter.param_type_name == "option":
            assert run([*words(path, tmp_path), f"--{parameter.opts[0].lstrip('-')}={value}"]) == 2
            assert parameter.opts[0] in capsys.readouterr().err


@pytest.mark.parametrize(("path", "parameter"), NUMBERS, ids=named)
def test_no_number_is_nan_infinite_or_negative(
    path: tuple[str, ...], parameter: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    for value in NO_NUMBER:
        assert run(words(path, tmp_path, parameter, value)) == 2, value
        assert parameter.opts[0] in capsys.readouterr().err, value


def test_there_is_something_to_test() -> None:
    assert len(COMMANDS) > 30
    assert {name for path, parameter in NUMBERS for name in parameter.opts} >= {"--days", "--within", "--for", "--port"}


def outcome(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    """Run the command itself, in this process."""
    monkeypatch.setattr(sys, "argv", ["grapevine", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("review show abcdefgh --graph loss", "train and eval"),
        ("review verify {here} --at soon", "write for example 2026-03-01"),
        ("review verify {here} --at 0001-01-01T00:00+14:00", "write for example 2026-03-01"),
        ("task watch abcdefgh --until soon", "write round=40"),
        ("task watch abcdefgh --until round=-1", "write round=40"),
        ("task new ../up", "write 1 to 64 letters"),
        ("merge --local {here}/m --out {here}/o --strategy fedavgg", "did you mean 'fedavg'"),
        ("merge --local {here}/m --out {here}/o --set clip=nan", "from 0 to 1e6"),
        ("merge --local {here}/m --out {here}/o --set clip", "write key=value"),
        ("merge --local {here}/m --out {here}/o --set p=-1", "write a number from"),
        ("broker run --engine rabbit", "embedded, mosquitto or rumqtt"),
        ("broker run --engine rumqt", "did you mean 'rumqtt'?"),
        ("demo --engine rumqt", "did you mean 'rumqtt'?"),
        ("demo --engine rumqtt --broker mqtt://hub", "leave it out, or leave out --broker"),
        ("broker run --root a/b/c", "one or two levels"),
        ("trust add kitchen", "is no peer id"),
        ("trust add aaaaaaaaaaaaaaaaaaaa --as friend", "must be one of"),
        ("trust add aaaaaaaaaaaaaaaaaaaa --role Big", "right form"),
        ("trust remove aaaa", "at least 8 characters"),
        ("trust remove aaaaaaaaaaaaaaaaaaaa --as friend", "write one of"),
    ],
)
def test_a_value_that_is_none_of_those_that_there_are_ends_with_2(
    line: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GRAPEVINE_STATE_DIR", str(tmp_path / "state"))
    assert outcome(line.format(here=tmp_path).split(), monkeypatch) == 2
    assert says in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "state" / "trust.toml").exists()


@pytest.mark.parametrize(
    "line",
    [
        "status --config {long}",
        "data check --task {long} --config {config}",
        "task check {long}",
        "task build {long}",
        "task check {here} --profile {long}",
        "task publish {long} --config {config}",
        "task new fine --dir {long}",
        "merge --local {long} --out {here}/o",
        "review verify {long} --config {config}",
        "simulate {long}",
    ],
)
def test_a_name_that_no_file_can_have_is_told_in_a_line(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "agent.toml").write_text(
        f'[agent]\nstate_dir = "{tmp_path / "state"}"\n[mqtt]\nbrokers = ["mqtt://127.0.0.1:1"]\n'
    )
    monkeypatch.setattr("grapevine_agent.line.CONNECT_S", 0.5)
    arguments = line.format(long="x" * 300, here=tmp_path, config=tmp_path / "agent.toml").split()
    assert outcome(arguments, monkeypatch) in (1, 2)
    told = capsys.readouterr().err
    assert told
    assert "Traceback" not in told


def test_the_demo_is_named_where_it_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "grapevine demo" in str(typer.main.get_command(build_app()).epilog)
    monkeypatch.setattr("importlib.metadata.entry_points", lambda **_: ())  # as in the Debian package
    said = str(typer.main.get_command(build_app()).epilog)
    assert "demo" not in said
    assert "grapevine init" in said


def test_init_writes_the_file_that_the_environment_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "etc" / "agent.toml"
    monkeypatch.setenv("GRAPEVINE_CONFIG", str(path))
    monkeypatch.setenv("GRAPEVINE_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(build_app(), ["init"])
    assert done.exit_code == 0, done.output
    assert f"wrote {path}" in done.output
    assert not (tmp_path / "grapevine.toml").exists()
    another = CliRunner().invoke(build_app(), ["init", "--config", str(tmp_path / "b.toml")])
    assert "has a key already" in " ".join(another.output.split())


def test_another_identity_is_made_for_the_configuration_in_force_and_for_none_besides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, home = tmp_path / "here", tmp_path / "home"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.delenv("GRAPEVINE_CONFIG", raising=False)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home))
    monkeypatch.setattr("grapevine_agent.config.agent_toml.find_config.__kwdefaults__", {"system_config": here / "no"})
    none = CliRunner().invoke(build_app(), ["init", "--new-identity"])
    assert "no identity was changed" in str(none.exception)
    path = home / "grapevine" / "agent.toml"
    first = CliRunner().invoke(build_app(), ["init", "--config", str(path), "--state-dir", str(tmp_path / "state")])
    assert first.exit_code == 0, first.output
    key = (tmp_path / "state" / "identity.pem").read_bytes()
    done = CliRunner().invoke(build_app(), ["init", "--new-identity"])
    assert done.exit_code == 0, done.output
    assert f"{path} stays as it is" in done.output
    assert (tmp_path / "state" / "identity.pem").read_bytes() != key
    assert list(here.iterdir()) == []


def test_init_makes_the_key_where_the_owner_says_and_the_file_says_so_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path, state = tmp_path / "agent.toml", tmp_path / 'st"ate'
    done = CliRunner().invoke(build_app(), ["init", "--config", str(path), "--state-dir", state.name])
    assert done.exit_code == 0, done.output
    assert (state / "identity.pem").exists()
    assert load_config(path, {}).agent.state_dir == state
    assert "\n#state_dir" not in path.read_text()
    assert load_config(path, {}).agent.name == f"{socket.gethostname()}-{state.name}"[:64], "not another's"
    again = CliRunner().invoke(build_app(), ["init", "--config", str(path), "--state-dir", str(tmp_path / "other")])
    assert again.exit_code != 0
    assert str(again.exception).startswith(f"{path} is there already, or the environment has its say, and the state")
    assert not (tmp_path / "other").exists()


def test_a_path_is_told_as_it_is_whatever_stands_in_brackets(tmp_path: Path) -> None:
    config, state = tmp_path / "[red]agent.toml", tmp_path / "[bold]state"
    done = CliRunner().invoke(build_app(), ["init", "--config", str(config), "--state-dir", str(state)])
    assert f"wrote {config}" in done.stdout
    assert f"grapevine agent run --config {config}" in done.stdout
