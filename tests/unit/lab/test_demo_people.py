import io
from pathlib import Path

import pytest
from rich.console import Console

from grapevine_agent.config.agent_toml import load_config
from grapevine_agent.identity import load_identity
from grapevine_agent.net.urls import BrokerUrl
from grapevine_lab.demo.cast import make_cast
from grapevine_lab.demo.display import SPARK_CELLS, LiveVoice, PlainVoice, Row, Scene, choose_voice, sparkline
from grapevine_lab.demo.plan import make_timeline
from grapevine_lab.demo.samples import Share
from grapevine_lab.demo.tasks import UNREVIEWED_NAME, copy_task, copy_task_renamed
from grapevine_tasks.authoring.task_file import read_task_file


def test_everybody_gets_an_identity_and_a_configuration_that_the_agent_accepts(tmp_path: Path) -> None:
    shares = [Share(path=tmp_path / f"digits-{i}.npz", classes=(i,), num_samples=60) for i in range(3)]
    url = BrokerUrl.parse("mqtt://user:secret@127.0.0.1:1884?version=3.1.1")

    cast = make_cast(tmp_path, broker=url, root="grapevine/demo-test", shares=shares)

    reviewers = tuple(actor.peer_id for actor in cast.reviewers)
    everybody = (*cast.agents, cast.engineer, *cast.reviewers, cast.server)
    assert len({actor.peer_id for actor in everybody}) == 7
    for actor in everybody:
        config = load_config(actor.config, {})
        assert load_identity(config.agent.state_dir).peer_id == actor.peer_id
        assert config.agent.state_dir == actor.state_dir
        assert config.mqtt.brokers == ("mqtt://127.0.0.1:1884?version=3.1.1",)
        assert config.mqtt.username == "user"
        assert config.mqtt.root == "grapevine/demo-test"
        assert config.review.approvals == 2
        assert config.review.trusted == reviewers
        assert "secret" not in actor.config.read_text()
        assert 'username = ""' in actor.written
        assert f'name = "{actor.name}"' in actor.written
    assert [load_config(actor.config, {}).agent.consent for actor in cast.agents] == ["auto"] * 3
    assert {load_config(actor.config, {}).agent.consent for actor in (cast.engineer, *cast.reviewers)} == {"never"}
    assert load_config(cast.agents[1].config, {}).data[0].path == shares[1].path


def test_the_unreviewed_task_differs_from_the_other_in_its_name_alone(tmp_path: Path) -> None:
    name, other = copy_task(tmp_path / "one"), copy_task_renamed(tmp_path / "two")

    first, second = read_task_file(tmp_path / "one" / "task.toml"), read_task_file(tmp_path / "two" / "task.toml")
    assert (first.name, second.name) == (name, other) == (name, UNREVIEWED_NAME)
    assert name != other
    assert (first.data, first.training, first.merging) == (second.data, second.training, second.merging)


def scene(t_s: float) -> Scene:
    rows = (
        Row(name="agent 0", classes=(0, 1), together=0.9, alone=0.4, history=(0.1, 0.5, 0.9), server="reachable"),
        Row(name="agent 1", classes=(1, 2), together=0.8, alone=None),
    )
    return Scene(t_s=t_s, timeline=make_timeline(90.0, with_server=True), rows=rows)


def test_where_the_output_is_no_terminal_there_are_plain_lines_every_ten_seconds() -> None:
    out = io.StringIO()
    voice = choose_voice(Console(file=out, width=40))
    assert isinstance(voice, PlainVoice)

    with voice:
        voice.say("something [bold]happened[/bold] " + "and is told " * 5)
        for t_s in (0.0, 0.5, 9.9, 10.1, 19.0, 45.0):
            voice.show(scene(t_s))

    lines = out.getvalue().splitlines()
    assert len(lines) == 4
    assert "something [bold]happened[/bold]" in lines[0]
    assert "together 85.0% (worst 80.0%); each alone 40.0%" in lines[1]
    assert "with a server" in lines[3]
    assert "\x1b" not in out.getvalue()


def test_on_a_terminal_the_table_shows_who_learns_how_well() -> None:
    out = io.StringIO()
    voice = choose_voice(Console(file=out, width=120, force_terminal=True, _environ={"TERM": "xterm"}))
    assert isinstance(voice, LiveVoice)

    with voice:
        voice.say("a server appears")
        voice.show(scene(45.0))

    shown = out.getvalue()
    for text in ("a server appears", "agent 0", "90.0%", "40.0%", "reachable", "with a server"):
        assert text in shown


@pytest.mark.parametrize(("values", "shown"), [((), ""), ((0.0, 0.5, 1.0), "▁▅█"), ((-1.0, 2.0), "▁█")])
def test_a_sparkline_stays_within_its_bars(values: tuple[float, ...], shown: str) -> None:
    assert sparkline(values) == shown


def test_a_long_history_is_shown_from_its_beginning_to_its_end() -> None:
    shown = sparkline(tuple([0.0] * 500 + [1.0] * 500))

    assert len(shown) == SPARK_CELLS
    assert shown == "▁" * (SPARK_CELLS // 2) + "█" * (SPARK_CELLS // 2)
