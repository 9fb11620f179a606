"""`grapevine dashboard` where it cannot begin: what it says, and what it imports before that."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from tests.unit.agent.cli.test_start import loaded
from tests.unit.agent.dashboard.browsing import made_file
from typer.testing import CliRunner

from grapevine_agent.cli import build_app
from grapevine_proto.errors import ConfigError, RequestError


def refusal(*words: str) -> BaseException:
    """What the command raises."""
    done = CliRunner().invoke(build_app(), ["dashboard", "--no-open", *words])
    assert done.exception is not None
    return done.exception


def test_a_port_that_is_taken_is_named_with_another_way(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        error = refusal("--replay", str(made_file(tmp_path)), "--port", port)
    assert isinstance(error, ConfigError)
    assert f"127.0.0.1:{port}: cannot listen there" in str(error)
    assert "Choose another port" in str(error)


def test_an_address_of_nobody_is_named(tmp_path: Path) -> None:
    for host in ("192.0.2.1", "no-such-host.invalid"):
        error = refusal("--replay", str(made_file(tmp_path)), "--host", host)
        assert isinstance(error, ConfigError)
        assert host in str(error)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "holds no events"),
        ("\n\n", "holds no events"),
        ('{"metric": 0.5}\n', "its first line has no `event`"),
        ("[1]\n", "line 1: is no event"),
        ("hello\n", "line 1: is no event"),
        ("[" * 200_000, "line 1: is no event"),
        ("x" * 300_000, "longer than"),
    ],
)
def test_a_file_that_holds_no_events_is_named_with_its_line(tmp_path: Path, content: str, says: str) -> None:
    path = tmp_path / "a"
    path.write_text(content)
    error = refusal("--replay", str(path))
    assert isinstance(error, ConfigError)
    assert says in str(error)


def test_two_things_to_show_are_one_too_many(tmp_path: Path) -> None:
    error = refusal("--replay", str(made_file(tmp_path)), "--lab", "one")
    assert isinstance(error, RequestError)


def test_what_is_missing_is_named_with_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    error = refusal("--replay", str(made_file(tmp_path)))
    assert isinstance(error, ConfigError)
    assert "starlette and uvicorn" in str(error)
    assert "[dashboard]" in str(error)


def test_other_commands_load_nothing_of_the_dashboard(tmp_path: Path) -> None:
    for words in (("--help",), ("dashboard", "--help")):
        found = loaded(tmp_path, *words)
        assert not {each for each in found if each.startswith(("starlette", "uvicorn", "grapevine_agent.dashboard"))}
