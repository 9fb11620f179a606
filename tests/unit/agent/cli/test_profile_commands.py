"""`grapevine profile list | show | check`, and what `init` says of the machine."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import grapevine_agent
from grapevine_agent.cli import build_app
from grapevine_agent.config.agent_toml import load_config
from grapevine_agent.config.board import Board, System
from grapevine_agent.config.machine import Machine
from grapevine_agent.config.profile_files import profile_names

PROFILES = Path(grapevine_agent.__path__[0]).parents[1] / "firmware_profiles"
OLD_PI = Board(
    machine=Machine(cores=4, memory_mb=906),
    system=System(kernel="aarch64", bits=32, libc="glibc", libc_version=(2, 36)),
    model="Raspberry Pi 4 Model B Rev 1.1",
)


def run(*words: str) -> Result:
    return CliRunner().invoke(build_app(), list(words))


def test_the_list_has_a_line_for_each_and_marks_this_machines() -> None:
    said = run("profile", "list")
    assert said.exit_code == 0, said.output
    assert all(name in said.stdout for name in profile_names())
    assert all(len(line) <= 80 for line in said.stdout.splitlines()[: len(profile_names()) + 1])
    listed = json.loads(run("profile", "list", "--json").stdout)
    assert [each["name"] for each in listed] == profile_names()
    assert sum(each["here"] for each in listed) == 1


@pytest.mark.parametrize("name", profile_names())
def test_all_numbers_of_a_profile_are_shown_with_their_sources(name: str) -> None:
    shown = json.loads(run("profile", "show", name, "--json").stdout)
    said = " ".join(run("profile", "show", name).stdout.split())
    for key in ("storage_source", "network_source", "thermal_source", "gflops_source", "accelerator_source"):
        assert " ".join(shown[key].split()) in said
    assert f"{shown['save_mb_per_day']:,} MB a day" in said
    for key, unit in (("slow_above_c", "°C"), ("pause_above_c", "°C"), ("keepalive_s", "s")):
        assert not shown[key] or f"{shown[key]:g} {unit}" in said
    for size in shown["sizes"]:
        assert f"with {size['ram_mb']:,} MB {size['memory_mb']:,} MB for tasks" in said


def test_without_a_name_it_is_this_devices_own_with_its_owners_limits(tmp_path: Path) -> None:
    config = tmp_path / "agent.toml"
    config.write_text("[agent]\nstate_dir = 'state'\nprofile = 'raspberry-pi-4b'\n[limits]\nmemory_mb = 444\n")
    assert json.loads(run("profile", "show", "--config", str(config), "--json").stdout)["memory_mb"] == 444


def test_a_profile_of_ones_own_is_checked_and_all_its_mistakes_are_told(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.toml", tmp_path / "bad.toml"
    shutil.copy(PROFILES / "raspberry-pi-5.toml", good)
    done = run("profile", "check", str(good))
    assert done.exit_code == 0, done.output
    assert f'agent.profile = "{good}"' in " ".join(done.stdout.split())
    assert json.loads(run("profile", "check", str(good), "--json").stdout)["valid"] is True
    text = good.read_text().replace("slow_above_c = 70", "slow_above_c = 90").replace("[network]", "[netwrok]")
    bad.write_text(text)
    done = run("profile", "check", str(bad))
    assert done.exit_code == 1
    line = next(i for i, each in enumerate(text.splitlines(), 1) if "[netwrok]" in each)
    assert f"line {line}: netwrok: unknown table; did you mean 'network'?" in done.stderr
    assert "thermal.slow_above_c = 90: is above pause_above_c = 80; write 80 or less" in done.stderr
    told = json.loads(run("profile", "check", str(bad), "--json").stdout)
    assert told["valid"] is False
    assert [mistake["key"] for mistake in told["mistakes"]] == ["thermal.slow_above_c", "netwrok"]
    missing = json.loads(run("profile", "check", str(tmp_path / "lost.toml"), "--json").stdout)
    assert "no such file" in missing["mistakes"][0]["said"]


def test_init_says_what_it_saw_what_it_proposes_and_what_is_in_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("grapevine_agent.config.board.read_board", lambda: OLD_PI)
    config, state = tmp_path / "agent.toml", tmp_path / "state"
    done = run("init", "--config", str(config), "--state-dir", str(state))
    assert done.exit_code == 0, done.output
    said = " ".join(done.stdout.split())
    assert "this machine: Raspberry Pi 4 Model B Rev 1.1; 4 cores, 906 MB; aarch64, programs of 32 bits" in said
    assert "firmware profile raspberry-pi-4b: its device tree says 'Raspberry Pi 4 Model B Rev 1.1'" in said
    assert "warning: this device trains nothing: the kernel is 64-bit (aarch64)" in " ".join(done.stderr.split())
    assert load_config(config, {}).agent.profile == "raspberry-pi-4b"
    assert "# Proposed by `grapevine init`: its device tree says" in config.read_text()


def test_an_agents_configuration_that_is_checked_as_a_profile_is_recognised(tmp_path: Path) -> None:
    config = tmp_path / "agent.toml"
    config.write_text('[agent]\nname = "kitchen"\n')
    done = run("profile", "check", str(config))
    assert done.exit_code == 1
    assert f"grapevine profile show --config {config}" in " ".join(done.stderr.split())


def test_init_leaves_the_owners_choice_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("grapevine_agent.config.board.read_board", lambda: OLD_PI)
    config = tmp_path / "agent.toml"
    config.write_text("[agent]\nstate_dir = 'state'\nprofile = 'relay-only'\n")
    done = run("init", "--config", str(config), "--json")
    told = json.loads(done.stdout)
    assert (told["profile"], told["proposed"]) == ("relay-only", "raspberry-pi-4b")
    assert told["warnings"]
    assert told["machine"]["model"] == OLD_PI.model
    assert config.read_text().count("profile") == 1


def test_a_model_that_is_hostile_stays_a_comment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A device tree is the firmware's word, and it goes into a file that is read as TOML."""
    hostile = Board(
        machine=Machine(cores=1, memory_mb=2000),
        system=System(kernel="x86_64", bits=64, libc="glibc"),
        model='x"\n[mqtt]\r\nbrokers = []\x1b[31m [red]' + "y" * 200,
    )
    monkeypatch.setattr("grapevine_agent.config.board.read_board", lambda: hostile)
    config = tmp_path / "agent.toml"
    done = run("init", "--config", str(config), "--state-dir", str(tmp_path / "state"))
    assert done.exit_code == 0, done.output
    assert "\x1b[31m" not in done.output
    assert load_config(config, {}).agent.profile == "generic"
