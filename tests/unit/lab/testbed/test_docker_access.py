"""What is said where no Docker engine can be asked, and what an image is built of."""

from __future__ import annotations

import gc
import re
import shutil
import socket
import sys
from pathlib import Path

import pytest

from grapevine_lab.testbed.docker_access import connect
from grapevine_lab.testbed.images import CHECKOUT, image_of, name_of, source_of
from grapevine_proto import distribution
from grapevine_proto.errors import ConfigError


def test_who_has_no_engine_is_told_how_to_get_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/docker.sock")
    with pytest.raises(ConfigError, match=r"no Docker engine answers at unix://.*apt-get install docker.io.*processes"):
        connect()


def _told() -> str:
    try:
        connect()
    except ConfigError as error:
        return str(error)
    return "nothing"


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # urllib3 leaves such a socket to the collector
def test_who_may_not_ask_it_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/docker.sock")
    monkeypatch.setattr(socket.socket, "connect", refuse)  # root may connect to whatever there is
    told = _told()
    gc.collect()
    assert re.search(r"may not talk to Docker at unix://.*usermod -aG docker", told)


def test_another_machines_engine_that_is_silent_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{port}")
    with pytest.raises(ConfigError, match=f"no Docker engine answers at tcp://127.0.0.1:{port}"):
        connect()


def test_without_the_library_its_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "docker", None)
    with pytest.raises(ConfigError, match=r"Docker's library is not here: .*lab"):
        connect()


def test_each_machine_runs_the_image_of_its_part_or_the_one_that_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for each in ("AGENT", "SERVER", "RELAY", "BROKER"):
        monkeypatch.delenv(f"LAB_IMAGE_{each}", raising=False)
    version = distribution.version()
    assert image_of("peer") == f"grapevine-agent:{version}"
    assert image_of("server") == f"grapevine-server:{version}"
    assert image_of("engineer") == image_of("reviewer") == f"grapevine-relay:{version}"
    monkeypatch.setenv("LAB_IMAGE_BROKER", "hub:1")
    assert image_of("broker") == name_of("broker") == "hub:1"


def test_an_image_is_of_the_code_that_it_holds_and_of_nothing_else(tmp_path: Path) -> None:
    for name in (".dockerignore", "pyproject.toml", "constraints.txt", "README.md", "LICENSE"):
        shutil.copy(CHECKOUT / name, tmp_path)
    for name in ("proto", "agent/packaging/docker"):
        shutil.copytree(CHECKOUT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    before = source_of(tmp_path)
    for other in ("notes.txt", "proto/__pycache__/x.pyc", "agent/packaging/docker/wheels/numpy.whl", "tests/test_x.py"):
        (tmp_path / other).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / other).write_text("x")
    assert source_of(tmp_path) == before
    (tmp_path / "proto/grapevine_proto/errors.py").write_text("x")
    assert source_of(tmp_path) != before
