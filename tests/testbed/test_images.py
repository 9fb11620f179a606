"""Our images as somebody meets them who knows Docker and not the lab: `docker run`."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator

import pytest
from tests.e2e.household import wait_for
from tests.testbed.debian import _docker

from grapevine_lab.testbed.docker_access import connect
from grapevine_lab.testbed.images import SOURCE, check_images, name_of
from grapevine_proto.errors import ConfigError

pytestmark = [pytest.mark.containers, pytest.mark.timeout(600)]


@pytest.fixture
def running(our_image: str) -> Iterator[str]:
    """The name of a container that runs as `docker run IMAGE` starts it, but is asked for its health more often."""
    started = _docker("run", "--detach", "--health-interval=1s", our_image)
    assert started.returncode == 0, started.stdout
    name = started.stdout.strip()
    yield name
    _docker("rm", "--force", "--volumes", name)


def _state(name: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(_docker("inspect", "--format", "{{json .State}}", name).stdout)
    return found


def test_a_container_is_healthy_when_its_agent_answers_and_leaves_in_good_order(running: str) -> None:
    wait_for(lambda: _state(running)["Health"]["Status"] == "healthy", within_s=120, why=str(_state(running)))  # type: ignore[index]
    said = _docker("exec", running, "grapevine", "status").stdout
    assert said.startswith("member ")
    assert "127.0.0.1" in said or "localhost" in said
    peer = _docker("exec", running, "grapevine", "id").stdout
    assert _docker("stop", "--time", "20", running).returncode == 0
    assert _state(running)["ExitCode"] == 0, _docker("logs", running).stdout
    assert _docker("start", running).returncode == 0
    wait_for(lambda: _docker("exec", running, "grapevine", "id").stdout == peer, why="its volume has its key")


def test_a_container_whose_agent_stands_still_is_not_healthy(running: str) -> None:
    wait_for(lambda: _state(running)["Health"]["Status"] == "healthy", within_s=120)  # type: ignore[index]
    assert _docker("kill", "--signal", "STOP", running).returncode == 0
    said = _docker("exec", running, "grapevine", "status", "--json")
    assert said.returncode != 0
    assert "no answer" in said.stdout


def test_an_image_has_what_a_device_needs_and_nothing_else(our_image: str) -> None:
    labels = connect().images.get(our_image).labels
    assert labels["org.opencontainers.image.title"] == "Grapevine"
    assert labels["org.opencontainers.image.version"] != "0"
    assert labels["org.grapevine.variant"] == "relay"
    assert len(labels[SOURCE]) == 64
    look = (
        "import importlib.util as u, os; print(os.getuid(), [n for n in ('torch', 'pip', 'grapevine_lab', 'amqtt', "
        "'zeroconf', 'prometheus_client') if u.find_spec(n)], os.access('/opt/grapevine', os.W_OK))"
    )
    said = _docker("run", "--rm", our_image, "python", "-c", look).stdout
    assert said.strip() == "10001 ['amqtt', 'zeroconf', 'prometheus_client'] False"


def test_the_image_that_trains_does_so_in_its_sandbox() -> None:
    """PyTorch takes minutes to install: looked at where `make images` has built it."""
    try:
        check_images(connect(), ["peer"])
    except ConfigError as obstacle:
        pytest.skip(str(obstacle))
    doctor = ["docker", "run", "--rm", name_of("agent"), "grapevine", "doctor", "--json"]
    told = json.loads(subprocess.run(doctor, check=False, capture_output=True, timeout=300).stdout)
    (trainer,) = (each for each in told["findings"] if each["check"] == "trainer")
    assert trainer["level"] == "ok", trainer
    assert "seccomp" in trainer["facts"]["protection"]
