"""`[agent] labels` and `[engine]`: what an owner allows applications, and what is refused with its remedy."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.containers import IMAGE

from grapevine_agent.config.agent_toml import Config, load_config
from grapevine_proto.errors import ConfigError


def load(tmp_path: Path, text: str, environ: dict[str, str] | None = None) -> Config:
    path = tmp_path / "agent.toml"
    path.write_text(text)
    return load_config(path, {"HOME": str(tmp_path), **(environ or {})})


def test_there_is_no_engine_unless_the_owner_says_so(tmp_path: Path) -> None:
    assert load(tmp_path, "").engine is None
    assert load(tmp_path, f'[engine]\nallow_images = ["{IMAGE}"]').engine is None


def test_an_engine_has_bounds(tmp_path: Path) -> None:
    text = f'[engine]\nenabled = true\nallow_images = ["{IMAGE}"]\nallow_ports = [8080]\ncpus = 0.5\nmemory_mb = 64'
    engine = load(tmp_path, text).engine
    assert engine is not None
    rules = engine.rules
    assert (rules.images, rules.ports) == (frozenset({IMAGE}), frozenset({8080}))
    assert (rules.memory_mb, rules.cpu_thousandths, rules.most) == (64, 500, 4)
    assert engine.publish_on == "127.0.0.1"


@pytest.mark.parametrize("ports", ["8080, 9090", "+8080,9090,8080,"])
def test_ports_may_come_from_the_environment(tmp_path: Path, ports: str) -> None:
    text = f'[engine]\nenabled = true\nallow_images = ["{IMAGE}"]\nallow_ports = [1]'
    engine = load(tmp_path, text, {"GRAPEVINE_ENGINE_ALLOW_PORTS": ports}).engine
    assert engine is not None
    assert engine.allow_ports == (8080, 9090)


@pytest.mark.parametrize("ports", ["http", "8080 9090", "0", "8080.0", "9" * 400])
def test_ports_in_the_environment_are_refused_as_those_in_the_file_are(tmp_path: Path, ports: str) -> None:
    with pytest.raises(ConfigError, match=r"must be a list of ports from 1 to 65535; write allow_ports = \[8080\]"):
        load(tmp_path, "", {"GRAPEVINE_ENGINE_ALLOW_PORTS": ports})


def test_labels_are_sorted_and_may_come_from_the_environment(tmp_path: Path) -> None:
    wanted = (("floor", "2"), ("room", "kitchen"))
    assert load(tmp_path, '[agent]\nlabels = { room = "kitchen", floor = "2" }').agent.labels == wanted
    assert load(tmp_path, "", {"GRAPEVINE_LABELS": "room=kitchen,floor=2"}).agent.labels == wanted


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[engine]\nenabled = true", "engine.allow_images is missing: an engine that may run nothing"),
        ('[engine]\nenabled = true\nallow_images = ["nginx:latest"]', "does not have the right form"),
        ("[engine]\nenabeld = true", "did you mean 'enabled'?"),
        ("[engine]\nallow_ports = [0]", "must be a list of ports from 1 to 65535"),
        ("[engine]\nallow_ports = [true]", "must be a list of ports from 1 to 65535"),
        ("[engine]\nallow_ports = 8080", "must be a list of ports from 1 to 65535"),
        ('[engine]\ncommand = "docker; rm"', "does not have the right form"),
        ('[agent]\nlabels = { site = "x" }', "'site' is what every agent says of itself"),
        ('[agent]\nlabels = { "A b" = "x" }', "'A b' is no label"),
        ("[agent]\nlabels = { floor = 2 }", "floor = 2 is no label's value"),
        ('[agent]\nlabels = "kitchen"', "must be a table; write labels = {"),
        ("[agent]\nlabels = [1]", "must be a table; write labels = {"),
    ],
)
def test_a_mistake_is_told_with_its_remedy(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ConfigError) as raised:
        load(tmp_path, text)
    assert says in str(raised.value)
