"""The composed testbed: what its file says, against what we know, and what its machines find in their folders."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from grapevine_agent.config.agent_toml import load_config
from grapevine_agent.net.urls import BrokerUrl
from grapevine_lab.testbed.composed import NUM_AGENTS, PORT, PROFILES, REVIEWERS, prepare
from grapevine_lab.testbed.images import CHECKOUT
from grapevine_proto import distribution
from grapevine_proto.errors import ConfigError


@pytest.fixture(scope="module")
def testbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("composed") / "testbed"
    prepare(folder)
    return folder


@pytest.fixture(scope="module")
def composed(testbed: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((testbed / "compose.yaml").read_text())
    return found


def test_every_machine_of_the_file_has_its_folder_and_nothing_else_is_mounted(
    testbed: Path, composed: dict[str, Any]
) -> None:
    services = composed["services"]
    for name, service in services.items():
        (volume,) = service["volumes"]
        source = volume.split(":")[0]
        assert (testbed / source).exists(), name
        assert set(service["networks"]) <= set(composed["networks"])
    assert [name for name in services if name.startswith("agent")] == [f"agent-{k}" for k in range(NUM_AGENTS)]


def test_every_agent_has_the_memory_of_a_board_of_its_profile(testbed: Path, composed: dict[str, Any]) -> None:
    for agent in range(NUM_AGENTS):
        service = composed["services"][f"agent-{agent}"]
        config = load_config(testbed / f"agent-{agent}/agent.toml", {})
        profile = tomllib.loads((CHECKOUT / f"firmware_profiles/{PROFILES[agent % 2]}.toml").read_text())
        memory_mb = int(service["mem_limit"].removesuffix("m"))
        assert service["memswap_limit"] == service["mem_limit"]
        assert memory_mb in ([size["ram_mb"] for size in profile.get("size", ())] or [512])
        assert config.agent.profile == profile["name"]
        broker = BrokerUrl.parse(config.mqtt.brokers[0])
        assert broker.host in service["networks"]
        assert broker.port == PORT
        assert len(config.review.trusted) == len(REVIEWERS)


def test_no_machine_has_rights_and_each_runs_an_image_of_this_version(composed: dict[str, Any]) -> None:
    for name, service in composed["services"].items():
        if name in ("north", "south", "prometheus"):
            continue
        assert service["cap_drop"] == ["ALL"]
        assert service["read_only"]
        assert service["user"].startswith("${TESTBED_USER:-10001")
        assert re.search(r":-grapevine-(agent|relay|server):(.*)\}$", service["image"])[2] == distribution.version()  # type: ignore[index]
    ports = [port for service in composed["services"].values() for port in service.get("ports", ())]
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_a_folder_that_is_there_is_not_written_over(testbed: Path) -> None:
    with pytest.raises(ConfigError, match="is there already"):
        prepare(testbed)


@pytest.mark.skipif(shutil.which("docker-compose") is None, reason="needs Compose: apt-get install docker-compose")
def test_compose_itself_reads_the_file(testbed: Path) -> None:
    done = subprocess.run(
        ["docker-compose", "--file", testbed / "compose.yaml", "--profile", "prometheus", "config"],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
        cwd=testbed,
    )
    assert done.returncode == 0, done.stderr
    assert set(yaml.safe_load(done.stdout)["services"]) >= {"north", "south", "server", "prometheus"}
