"""`[[trainer]]`: which trainers of the owner's there are, and which task goes to which."""

from __future__ import annotations

from pathlib import Path

import pytest

from grapevine_agent.config.agent_toml import Config, Limits, load_config
from grapevine_agent.config.trainers import TrainerConfig, choose_trainer
from grapevine_proto.errors import ConfigError

TASK = "d8c9fad13b84" + "0" * 52


def _load(tmp_path: Path, text: str) -> Config:
    path = tmp_path / "agent.toml"
    path.write_text(text)
    return load_config(path, {"HOME": str(tmp_path)})


def test_a_trainer_is_for_a_task_or_for_a_kind_of_data(tmp_path: Path) -> None:
    config = _load(
        tmp_path,
        """
        [[trainer]]
        task = "Handwritten digits"
        url = "unix:///run/digits.sock"
        [[trainer]]
        kind = "digits-8x8"
        url = "http://127.0.0.1:9000"
        [[trainer]]
        kind = "weather"
        url = "https://farm.example:9443"
        allow_remote = true
        """,
    )
    assert config.trainers == (
        TrainerConfig(url="unix:///run/digits.sock", task="Handwritten digits"),
        TrainerConfig(url="http://127.0.0.1:9000", kind="digits-8x8"),
        TrainerConfig(url="https://farm.example:9443", kind="weather"),
    )


@pytest.mark.parametrize(
    "url", ["http://localhost:1", "http://127.8.9.1:9000/", "http://[::1]:9000", "https://localhost", "unix:///a b"]
)
def test_this_machine_needs_no_permission(tmp_path: Path, url: str) -> None:
    assert _load(tmp_path, f'[[trainer]]\nkind = "k"\nurl = "{url}"').trainers[0].url == url


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ('kind = "k"', "url is missing"),
        ('url = "http://127.0.0.1:1"', "either task = … or kind = …"),
        ('url = "http://127.0.0.1:1"\nkind = "k"\ntask = "t"', "either task = … or kind = …"),
        ('url = "http://10.0.0.7:9000"\nkind = "k"', "allow_remote = true"),
        ('url = "http://127.0.0.1.example.com"\nkind = "k"', "allow_remote = true"),
        ('url = "http://me:secret@127.0.0.1:1"\nkind = "k"', "holds more than where"),
        ('url = "http://127.0.0.1:1/api"\nkind = "k"', "is no trainer's URL"),
        ('url = "http://127.0.0.1:70000"\nkind = "k"', "is no URL"),
        ('url = "ftp://127.0.0.1"\nkind = "k"', "is no trainer's URL"),
        ('url = "unix://run/x.sock"\nkind = "k"', "whole path of a socket"),
        (f'url = "unix:///{"x" * 120}"\nkind = "k"', "whole path of a socket"),
        ('url = "http://127.0.0.1:1"\nkind = "K!"', "does not have the right form"),
        ('url = "http://127.0.0.1:1"\nkinds = "k"', "did you mean 'kind'|either task"),
    ],
)
def test_a_mistake_is_told_with_what_to_write(tmp_path: Path, lines: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        _load(tmp_path, f"[[trainer]]\n{lines}")


def test_a_task_that_is_named_comes_before_its_kind() -> None:
    by_kind = TrainerConfig(url="a", kind="digits")
    by_name = TrainerConfig(url="b", task="Digits")
    by_id = TrainerConfig(url="c", task="d8c9fad13b84")
    assert choose_trainer((by_kind, by_name), task=TASK, name="Digits", kind="digits") is by_name
    assert choose_trainer((by_kind, by_id), task=TASK, name="Digits", kind="digits") is by_id
    assert choose_trainer((by_name, by_kind), task=TASK, name="Other", kind="digits") is by_kind
    assert choose_trainer((by_name, by_kind), task=TASK, name="Other", kind="weather") is None
    # Too little of an id is a name.
    assert choose_trainer((TrainerConfig(url="d", task="d8"),), task=TASK, name="Digits", kind="k") is None


def test_the_sandbox_is_closed_unless_the_owner_says_off(tmp_path: Path) -> None:
    assert Limits().sandbox == "strict"
    limits = _load(tmp_path, '[limits]\nsandbox = "off"\ncpu_s = 30').limits
    assert (limits.sandbox, limits.cpu_s) == ("off", 30.0)
    with pytest.raises(ConfigError, match="must be one of"):
        _load(tmp_path, '[limits]\nsandbox = "lax"')


def test_the_owner_chooses_how_vectors_are_written(tmp_path: Path) -> None:
    assert _load(tmp_path, "").limits.encoding is None
    assert _load(tmp_path, '[limits]\nencoding = "int8+zstd"').limits.encoding == "int8+zstd"
    with pytest.raises(ConfigError, match="must be one of"):
        _load(tmp_path, '[limits]\nencoding = "int9"')
