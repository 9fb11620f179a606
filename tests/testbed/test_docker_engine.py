"""The engine of containers: what it makes, what it holds to limits, and that nothing of it is left."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.household import wait_for
from tests.testbed.contained import ContainedHousehold
from tests.testbed.image import ensure_image

from grapevine_broker.probe import answers_mqtt
from grapevine_lab.proxy import HERE
from grapevine_lab.testbed.docker_access import connect
from grapevine_lab.testbed.docker_engine import LABEL, DockerEngine
from grapevine_lab.testbed.engine import Machine
from grapevine_proto.errors import ConfigError, GrapevineError

pytestmark = [pytest.mark.containers, pytest.mark.timeout(600)]

_CRASHES = """\
import os, sys
from pathlib import Path
from grapevine_lab.testbed.docker_engine import DockerEngine
from grapevine_lab.testbed.engine import Machine
folder = Path(sys.argv[1])
engine = DockerEngine(folder, "crash")
broker = folder / "hub"
broker.mkdir()
(broker / "mosquitto.conf").write_text("listener 1883 0.0.0.0\\nallow_anonymous true\\n")
command = ("mosquitto", "-c", str(broker / "mosquitto.conf"))
engine.start(Machine(name="hub", kind="broker", folder=broker, command=command))
print("up", flush=True)
sys.stdin.read()
"""


def _left(folder: Path) -> list[Any]:
    """What there is of the lab in this folder."""
    client, label = connect(), {"label": f"{LABEL}.folder={folder}"}
    return [*client.containers.list(all=True, filters=label), *client.networks.list(filters=label)]


def test_a_machine_is_held_to_its_limits_and_has_no_rights(contained: ContainedHousehold) -> None:
    home = contained
    hub = home.add_broker("hub")
    member = home.move_in("member")
    member.start()
    host = member.container().attrs["HostConfig"]
    assert host["Memory"] == host["MemorySwap"] == 1024 * 2**20
    assert host["NanoCpus"] == 1e9
    assert host["CapDrop"] == ["ALL"]
    said = member.container().exec_run("sh -c 'id -u; touch /x; python -c \"import torch\"'").output.decode()
    assert said.startswith("10001\n" if os.getuid() == 0 else f"{os.getuid()}\n")
    assert "Read-only file system" in said
    assert "No module named 'torch'" in said
    member_here = "from grapevine_agent.config.machine import detect_machine; print(detect_machine().memory_mb)"
    assert member.container().exec_run(["python", "-c", member_here]).output == b"1024\n", "and it knows of them"
    assert _reaches(member.container(), home.engine.lines.host, home.engine.lines.port("member", "hub", hub.port))
    at = home.engine._find("hub").attrs["NetworkSettings"]["Networks"].popitem()[1]["IPAddress"]
    assert not _reaches(member.container(), at, hub.port), "containers reach each other by their lines alone"


def _reaches(container: Any, host: str, port: int) -> bool:
    code = f"import socket; socket.create_connection(('{host}', {port}), 2)"
    return bool(container.exec_run(["python", "-c", code]).exit_code == 0)


def test_a_machine_is_paused_killed_and_started_again_with_its_state(contained: ContainedHousehold) -> None:
    home = contained
    home.add_broker("hub")
    member = home.move_in("member")
    assert home.engine.state("member") == "absent"
    with pytest.raises(GrapevineError, match="member has not been started"):
        home.engine.stop("member")
    member.start()
    peer = member.status()["peer"]  # type: ignore[index]
    with pytest.raises(GrapevineError, match="runs already"):
        member.start()
    home.engine.pause("member")
    assert home.engine.state("member") == "paused"
    home.engine.kill("member")
    assert home.engine.state("member") == "killed"
    with pytest.raises(GrapevineError, match="grapevine lab restart member"):
        home.engine.pause("member")
    home.engine.restart("member")
    member.answers()
    assert home.engine.state("member") == "running"
    assert member.status()["peer"] == peer  # type: ignore[index]
    wait_for(lambda: (member.status() or {}).get("connected"), why=member.log())
    home.engine.stop("member")
    assert home.engine.state("member") == "stopped"
    assert "Traceback" not in home.engine.logs("member", 5)
    assert len(home.engine.logs("member", 2).splitlines()) == 2
    home.engine.remove()
    assert not _left(home.folder)
    home.engine.remove()


def test_a_taken_port_and_too_little_memory_are_told_before_anything_starts(contained: ContainedHousehold) -> None:
    home = contained
    with socket.create_server((HERE, 0)) as taken:
        port = taken.getsockname()[1]
        broker = Machine(name="hub", kind="broker", folder=home.folder, command=("mosquitto",), port=port)
        with pytest.raises(ConfigError, match=f"port {port}, which hub was to listen on, is taken"):
            home.engine.check([broker])
        with pytest.raises(ConfigError, match="a port that hub was to listen on is taken"):
            home.engine.start(broker)
    peers = [Machine(name=f"peer-{k}", kind="peer", folder=home.folder, command=("grapevine",)) for k in range(10_000)]
    with pytest.raises(ConfigError, match=r"10000 peers take about .* take --peers \d+ or fewer"):
        home.engine.check(peers)


def test_a_missing_image_and_one_of_other_code_are_refused_with_what_to_do(
    contained: ContainedHousehold, our_image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    peer = Machine(name="peer-0", kind="peer", folder=contained.folder, command=("grapevine",))
    contained.engine.check([peer])
    monkeypatch.setenv("LAB_IMAGE_AGENT", "grapevine-nowhere:1")
    with pytest.raises(ConfigError, match="there is no image grapevine-nowhere:1: `make images` in a checkout"):
        contained.engine.check([peer])
    monkeypatch.delenv("LAB_IMAGE_AGENT")
    monkeypatch.setattr("grapevine_lab.testbed.images.name_of", lambda _what: ensure_image())
    with pytest.raises(ConfigError, match="was built of other code"):
        contained.engine.check([peer])


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_is_left_of_a_lab_whose_process_is_killed(
    tmp_path: Path, mosquitto_image: str, number: signal.Signals
) -> None:
    command = [sys.executable, "-c", _CRASHES, str(tmp_path)]
    environ = os.environ | {"LAB_IMAGE_BROKER": mosquitto_image}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        assert len(_left(tmp_path)) == 2
        process.send_signal(number)
    wait_for(lambda: not _left(tmp_path), why="the warden removes what is left")


def test_two_labs_of_one_name_in_two_folders_are_told_apart(tmp_path: Path, mosquitto_image: str) -> None:
    folder = tmp_path / "one"
    folder.mkdir()
    one, other = DockerEngine(folder, "twin"), DockerEngine(tmp_path / "other", "twin")
    try:
        one.host_of(Machine(name="hub", kind="broker", folder=folder, command=()), seen_by=None)
        network = one._network()
        other.remove()
        assert [each.name for each in _left(folder)] == [network]
    finally:
        one.remove()
    assert not _left(folder)


def test_a_line_that_is_delayed_is_slow_and_one_that_is_cut_hangs(contained: ContainedHousehold) -> None:
    home = contained
    hub = home.add_broker("hub")
    host, port = home.engine.host_of(hub, seen_by=Machine(name="m", kind="peer", folder=home.folder, command=()))
    wait_for(lambda: answers_mqtt(HERE, hub.port))
    began_s = time.monotonic()
    assert answers_mqtt(host, port, timeout_s=10)
    swift_s = time.monotonic() - began_s
    home.engine.lines.shape("m", delay_ms=300, kbit_per_s=0)
    began_s = time.monotonic()
    assert answers_mqtt(host, port, timeout_s=10)
    assert time.monotonic() - began_s > max(0.6, swift_s)
    home.engine.lines.cut([("m", "hub")])
    assert not answers_mqtt(host, port, timeout_s=1)
    assert answers_mqtt(HERE, hub.port)
    home.engine.lines.heal([("m", "hub")])
    assert answers_mqtt(host, port, timeout_s=10)
