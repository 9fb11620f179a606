"""`grapevine data`: an owner sees what is in a source, and what is wrong with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from grapevine_agent.cli import build_app
from grapevine_proto.errors import ConfigError


@pytest.fixture
def config(tmp_path: Path) -> Path:
    lines = ["temperature,room", *(f"{20 + k},{'attic' if k % 4 else 'kitchen'}" for k in range(8)), ",attic"]
    (tmp_path / "climate.csv").write_text("\n".join(lines) + "\n")
    np.savez(tmp_path / "digits.npz", x=np.eye(8)[None].repeat(5, 0), y=np.arange(5))
    text = "[agent]\nstate_dir = 'state'\n[[data]]\nkind = 'climate'\npath = 'climate.csv'\ntarget = 'room'\n"
    (tmp_path / "agent.toml").write_text(text + "[[data]]\nkind = 'digits'\npath = 'digits.npz'\n")
    return tmp_path / "agent.toml"


def test_check_shows_numbers_classes_and_samples(config: Path) -> None:
    done = CliRunner().invoke(build_app(), ["data", "check", "--json", "--config", str(config)])
    assert done.exit_code == 0, done.output
    climate, digits = json.loads(done.stdout)
    assert climate["samples"] == 9
    assert climate["classes"] == {"attic": 7, "kitchen": 2}
    (column,) = climate["columns"]
    assert (column["name"], column["min"], column["max"], column["missing"]) == ("temperature", 20.0, 27.0, 1)
    assert climate["preview"][0] == {"x": 20.0, "y": "kitchen"}
    assert digits["preview"][0]["image"].splitlines()[0] == "@"


def test_check_is_readable_for_people_and_list_is_short(config: Path) -> None:
    done = CliRunner().invoke(build_app(), ["data", "check", "climate", "--config", str(config)])
    assert "attic: 7, kitchen: 2" in done.stdout
    assert "digits" not in done.stdout
    done = CliRunner().invoke(build_app(), ["data", "list", "--json", "--config", str(config)])
    assert [line["samples"] for line in json.loads(done.stdout)] == [9, 5]


def test_a_source_that_cannot_be_read_ends_with_1_and_says_why(config: Path) -> None:
    (config.parent / "climate.csv").unlink()
    done = CliRunner().invoke(build_app(), ["data", "check", "climate", "--json", "--config", str(config)])
    assert done.exit_code == 1
    assert "climate.csv" in json.loads(done.stdout)[0]["trouble"]


def test_a_name_that_is_not_configured_is_told_with_the_nearest(config: Path) -> None:
    done = CliRunner().invoke(build_app(), ["data", "check", "climat", "--config", str(config)])
    assert isinstance(done.exception, ConfigError)
    assert "did you mean 'climate'" in str(done.exception)


def test_one_is_one(config: Path) -> None:
    done = CliRunner().invoke(build_app(), ["data", "check", "climate", "--config", str(config)])
    assert done.stdout.startswith("1 source\n")
    done = CliRunner().invoke(build_app(), ["data", "list", "--config", str(config)])
    assert done.stdout.startswith("2 sources\n")


@pytest.mark.parametrize("dtype", [np.longdouble, np.clongdouble, "M8[us]", "m8[s]", np.float16, bool, "S3"])
def test_whatever_an_array_holds_the_answer_is_json(config: Path, dtype: Any) -> None:
    np.savez(config.parent / "digits.npz", x=np.zeros((5, 8), dtype), y=np.zeros(5, np.longdouble))
    done = CliRunner().invoke(build_app(), ["data", "check", "digits", "--json", "--config", str(config)])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    (answer,) = json.loads(done.stdout)
    assert answer["trouble"] or [sample["y"] for sample in answer["preview"]] in ([], [0.0] * 3)
