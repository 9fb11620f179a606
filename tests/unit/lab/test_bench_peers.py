"""What the comparison with peers does around the systems. How they do, `make bench-peers` measures."""

import json
import os
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from tests.unit.lab.contestants import KILOBYTE, TALKS, TELL, code, measured, system

from grapevine_lab.bench_simulator import roster
from grapevine_lab.bench_simulator.our_agents import Window
from grapevine_lab.bench_simulator.peer_code import crew, learner
from grapevine_lab.bench_simulator.peers import Peer, PeerMissingError, bytes_below, ensure_installed
from grapevine_lab.bench_simulator.runs import Command, Run, Story, Traffic, run
from grapevine_lab.bench_simulator.wires import wires
from grapevine_lab.fidelity.onlooker import Notes, Passed


@pytest.fixture(autouse=True)
def no_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GRAPEVINE_DATA", raising=False)


# --- what passes between the nodes --------------------------------------------------------------------


def test_what_a_node_says_to_a_hub_is_counted_on_the_way_and_the_first_round_is_left_out(tmp_path: Path) -> None:
    (found,) = measured([system("talks", TALKS, ports="one")], tmp_path)
    assert found.failed == ""
    assert found.weighed is not None
    assert (found.weighed.bytes_a_round, found.weighed.models_a_round) == (KILOBYTE, 2.0)
    assert 0 < (found.weighed.node_bytes or 0) <= (found.weighed.peak_bytes or 0)  # it is the one node
    assert all(each.num_bytes is None for each in found.runs[0].traffic)  # nothing stood in between in a timed run


def test_ports_are_free_and_different_and_lines_before_them_lead_there() -> None:
    with wires(3, counted=True) as ways:
        assert len({*ways.listen, *ways.meet}) == 6
        with socket.create_server(("127.0.0.1", ways.listen[1])) as hub:
            with socket.create_connection(("127.0.0.1", ways.meet[1])) as node:
                taken, _ = hub.accept()
                with taken:
                    node.sendall(b"there")
                    assert taken.recv(5) == b"there"
                    taken.sendall(b"and back")
                    assert node.recv(8) == b"and back"
            assert ways.carried() == len(b"thereand back")


def test_what_only_the_nodes_can_count_is_taken_from_them() -> None:
    story = Story()
    story.hear('{"event": "round", "round": 1, "t": 1, "bytes": 10, "models": 1}')
    story.hear('{"event": "round", "round": 2, "t": 2, "bytes": 30, "models": null}', carried=0)  # not by these lines
    assert story.traffic == [Traffic(num_bytes=10, num_models=1), Traffic(num_bytes=30)]
    found = Run(started_s=0.0, ready_s=None, round_ends_s=(1.0, 2.0), traffic=tuple(story.traffic))
    assert (found.bytes_a_round, found.models_a_round) == (20.0, None)


# --- nodes that are processes -------------------------------------------------------------------------

NODE = """
    number = int(sys.argv[-1])
    tell(event="ready", t=0.0)
    for round in (1, 2, 3):
        time.sleep(0.05 * number)
        tell(event="round", round=round, t=0.0, models=round, bytes=100 * round)
        if number == {dies}:
            sys.exit(3)
    tell(event="learned", accuracy=0.25 + 0.5 * number)
    time.sleep(60)
    """


def crew_of_two(tmp_path: Path, *, dies: int = -1) -> list[str]:
    """A package with a node in it, and the command of a system that runs two of them."""
    package = tmp_path / "peer_code"
    package.mkdir()
    for module in ("learner", "crew"):
        (package / f"{module}.py").symlink_to(Path(learner.__file__).with_name(f"{module}.py"))
    (package / "__init__.py").touch()
    (package / "node.py").write_text(TELL + textwrap.dedent(NODE.format(dies=dies)), encoding="utf-8")
    runs = "run_crew('node', 'plan', num_nodes=2, num_rounds=3, harness=Harness())"
    imports = "from peer_code.crew import run_crew; from peer_code.learner import Harness"
    return [sys.executable, "-c", f"{imports}; {runs}"]


def test_a_crew_tells_of_its_slowest_node_and_of_what_all_have_sent_and_ends_them(tmp_path: Path) -> None:
    command = Command(arguments=crew_of_two(tmp_path), environment={}, folder=tmp_path)
    found = run(command, num_rounds=3, num_cores=1, log=tmp_path / "log", weigh=True)
    assert len(found.round_ends_s) == 3
    assert found.accuracy == 0.5  # the mean of both
    last = found.traffic[-1]
    assert (last.num_models, last.num_bytes) == (6, 600)
    assert found.node_bytes is not None
    assert found.peak_bytes is not None
    assert 1_000_000 < found.node_bytes < found.peak_bytes  # the one that leads them is no node


def test_a_crew_that_loses_a_node_has_failed_and_says_which(tmp_path: Path) -> None:
    command = crew_of_two(tmp_path, dies=1)
    ran = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, timeout=60)
    assert ran.returncode == 1
    assert "node 1 has ended after 1 rounds" in ran.stderr


def test_a_crew_that_loses_what_it_needs_beside_it_has_failed_and_says_what(tmp_path: Path) -> None:
    *python, text = crew_of_two(tmp_path)
    text = text.replace("harness=", "beside={'a broker': subprocess.Popen(['true'])}, harness=")
    command = [*python, f"import subprocess; {text}"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, timeout=60)
    assert ran.returncode == 1
    assert "a broker has ended before the nodes" in ran.stderr


def test_waiting_for_somebody_who_never_listens_ends() -> None:
    with wires(1, counted=False) as ways, pytest.raises(OSError, match="refused"):
        crew.wait_for(ways.listen[0], limit_s=0.0)


def test_what_a_process_tells_in_a_file_is_handed_on_up_to_its_last_word(tmp_path: Path) -> None:
    told = tmp_path / "told"
    text = f"""
        from pathlib import Path
        from grapevine_lab.bench_simulator.peer_code.learner import Harness
        other = Harness({str(told)!r})
        other.round_ended(1, models=4)
        other.learned(0.5)
        Harness().follow(Path({str(told)!r}), going_on=lambda: False)
        """
    ran = subprocess.run(code(text), capture_output=True, text=True, check=True, timeout=60)
    assert [json.loads(line)["event"] for line in ran.stdout.splitlines()] == ["round", "learned"]
    told.write_text('{"event": "round"}\n', encoding="utf-8")
    text = text.replace("other.learned(0.5)", "").replace(f"Harness({str(told)!r})", "Harness(os.devnull)")
    ran = subprocess.run(code(text), capture_output=True, text=True, check=False, timeout=60)
    assert "it has ended before its rounds were over" in ran.stderr


def passed(sender: str, version: int, t_s: float = 0.0) -> Passed:
    return Passed(t_s=t_s, sender=sender, leaf="inbox", num_bytes=1, versions={sender: version, "another": 9})


def test_rounds_of_real_agents_count_from_when_each_has_trained_and_end_with_the_slowest() -> None:
    told: list[tuple[int, int, float]] = []
    begun: list[float] = []
    window = Window(
        num_agents=2,
        num_rounds=2,
        begun=begun.append,
        tell=lambda *round_: told.append(round_),
    )
    notes = Notes(root="gv")
    notes.passed += [passed("early", 40), passed("early", 0)]  # the last one has never trained
    assert not window.is_over(notes)
    assert not begun
    notes.passed.append(passed("late", 1, 5.0))
    assert not window.is_over(notes)
    assert (begun, told) == ([5.0], [])
    notes.passed += [passed("late", 3, 6.0), passed("early", 41, 6.5)]
    assert not window.is_over(notes)
    assert told == [(1, 8, 6.5)]  # four models, each to the broker and from it
    notes.passed += [passed("early", 50, 7.0), passed("late", 9, 8.0)]  # heard at once
    assert window.is_over(notes)
    assert told == [(1, 8, 6.5), (2, 10, 7.0)]


# --- what is skipped ----------------------------------------------------------------------------------


def test_a_system_with_too_little_memory_is_skipped_with_the_figures_and_the_others_go_on(tmp_path: Path) -> None:
    greedy, talks = measured(
        [system("greedy", TALKS, ports="one", node_mb=10**9), system("talks", TALKS, ports="one")], tmp_path
    )
    assert "2 nodes need about 2,000,000,000 MB of memory" in greedy.skipped
    assert not greedy.runs
    assert len(talks.runs) == 1


def test_a_name_that_is_not_known_brings_a_suggestion() -> None:
    command = [sys.executable, "-m", "grapevine_lab.bench_peers", "--only", "quinkgle"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | {"COLUMNS": "200"})
    assert ran.returncode == 2
    assert "did you mean quinkgl?" in ran.stderr


def test_every_system_has_a_name_of_its_own_and_says_how_it_was_set_up() -> None:
    systems = (*roster.SIMULATED, *roster.REAL)
    assert len({each.name for each in systems}) == len(systems)
    for each in systems:
        assert each.set_up.startswith(f"{each.name}: ")
        assert (each.num_ports(4) > 0) == (each.kind == "real")
        assert (each.node_mb > 0) == (each.kind == "real")


# --- environments -------------------------------------------------------------------------------------


def test_bytes_are_those_of_all_files_and_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "one").write_bytes(bytes(1_000))
    (tmp_path / "two").symlink_to(tmp_path / "in" / "one")
    assert 1_000 < bytes_below(tmp_path) < 2_000


@pytest.mark.timeout(300)
def test_an_environment_is_weighed_when_it_is_made_and_not_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A package of our own, from a folder, that needs nothing: no network is asked."""
    for name in ("PIP_NO_INDEX", "PIP_NO_BUILD_ISOLATION"):
        monkeypatch.setenv(name, "1")
    wheel = tmp_path / "tiny"
    wheel.mkdir()
    (wheel / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "back"\nbackend-path = ["."]\n'
        '[project]\nname = "tiny"\nversion = "1.0"\n',
        encoding="utf-8",
    )
    (wheel / "back.py").write_text(textwrap.dedent(BACKEND), encoding="utf-8")
    probe = "import tiny; open('left-behind', 'w').close()"
    tiny = Peer(distribution="tiny", version="1.0", source=str(wheel), probe=probe, named=(), needs_torch=False)
    broken_off = tmp_path / "envs" / tiny.folder  # an earlier attempt, with a folder that it worked in
    (broken_off / "gv-wheels-earlier").mkdir(parents=True)
    (broken_off / "gv-wheels-earlier" / "tiny").write_bytes(bytes(1_000_000))
    monkeypatch.chdir(wheel)
    with pytest.raises(PeerMissingError, match="versions"):  # there is no numpy in it
        ensure_installed(tiny, tmp_path / "envs", lambda _: None)
    written = json.loads((tmp_path / "envs" / tiny.folder / "installed.json").read_text(encoding="utf-8"))
    assert 100 < written["download_bytes"] < 10_000
    assert 10_000 < written["installed_bytes"] < 200_000  # as it was unpacked
    assert (broken_off / "left-behind").exists()  # by the probe
    assert not (wheel / "left-behind").exists()
    assert not (broken_off / "gv-wheels-earlier").exists()
    said: list[str] = []
    with pytest.raises(PeerMissingError, match="versions"):
        ensure_installed(tiny, tmp_path / "envs", said.append)
    assert said == []


BACKEND = """
    import zipfile

    def build_wheel(folder, config_settings=None, metadata_directory=None):
        name = "tiny-1.0-py3-none-any.whl"
        with zipfile.ZipFile(f"{folder}/{name}", "w", zipfile.ZIP_DEFLATED) as wheel:
            wheel.writestr("tiny.py", "x = 1\\n" * 3_000)
            wheel.writestr("tiny-1.0.dist-info/METADATA", "Metadata-Version: 2.1\\nName: tiny\\nVersion: 1.0\\n")
            wheel.writestr("tiny-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\\nTag: py3-none-any\\n")
            wheel.writestr("tiny-1.0.dist-info/RECORD", "")
        return name
    """
