"""A Mosquitto in a container, for tests of brokers that do not share our machine's network; and our own images."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.testbed.contained import ContainedHousehold, built_image, contained_household, previous_image
from tests.testbed.image import NoImageError, ensure_image

from grapevine_broker.probe import answers_mqtt

_CONFIG = r"listener 1883 0.0.0.0\nallow_anonymous true\nmax_packet_size 1048576\n"
_START = f"printf '{_CONFIG}' > /tmp/grapevine.conf && exec mosquitto -c /tmp/grapevine.conf"


@pytest.fixture(scope="session")
def mosquitto_image() -> str:
    """The name of an image with Mosquitto; skips where there is none."""
    try:
        return ensure_image()
    except NoImageError as obstacle:
        pytest.skip(str(obstacle))


@pytest.fixture(scope="session")
def container_broker_url(mosquitto_image: str) -> Iterator[str]:
    """The URL of a Mosquitto in a container of its own, for the whole session."""
    testcontainers_core = pytest.importorskip("testcontainers.core", reason="needs the package testcontainers")
    from testcontainers.core.config import testcontainers_config
    from testcontainers.core.container import DockerContainer

    assert testcontainers_core
    # Its reaper is one more image to pull; the `with` below removes our container.
    testcontainers_config.ryuk_disabled = True
    container = DockerContainer(mosquitto_image).with_exposed_ports(1883).with_command(["sh", "-c", _START])
    with container:
        host, port = container.get_container_host_ip(), int(container.get_exposed_port(1883))
        give_up_at = time.monotonic() + 30
        while not answers_mqtt(host, port):
            if time.monotonic() > give_up_at:
                out, err = container.get_logs()
                pytest.fail(f"Mosquitto in a container did not answer on {host}:{port}: {(out + err)[-500:]!r}")
            time.sleep(0.1)
        yield f"mqtt://{host}:{port}"
    container.get_docker_client().client.close()


@pytest.fixture(scope="session")
def our_image() -> str:
    """The name of our image without PyTorch, of this checkout; skips where there is no way to it."""
    try:
        return built_image()
    except NoImageError as obstacle:
        pytest.skip(str(obstacle))


@pytest.fixture(scope="session")
def image_before(our_image: str) -> str:
    """The same of the previous release; skips where its code is not in this clone."""
    try:
        return previous_image()
    except NoImageError as obstacle:
        pytest.skip(str(obstacle))


@pytest.fixture
def contained(tmp_path: Path, our_image: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[ContainedHousehold]:
    """A household in containers of our image; nothing of it is left afterwards."""
    with contained_household(tmp_path, f"testbed/{secrets.token_hex(4)}", our_image, monkeypatch) as home:
        yield home
