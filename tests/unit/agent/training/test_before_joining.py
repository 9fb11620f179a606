"""What does not fit is refused before a task is joined, in words for the owner, and his limits reach the core."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.unit.agent.training.conftest import three_classes
from typer.testing import CliRunner

from grapevine_agent.cli import build_app
from grapevine_agent.config.agent_toml import Config, load_config
from grapevine_agent.config.firmware import load_profile
from grapevine_agent.config.machine import Machine
from grapevine_agent.core.settings import CoreSettings, Needs
from grapevine_agent.service import fitting
from grapevine_agent.service.assembly import assembled
from grapevine_agent.service.fitting import BareTrainer, DeviceFit
from grapevine_proto.errors import ConfigError
from grapevine_proto.manifest import Requirements, TaskManifest
from grapevine_tasks.built import BuiltTask, write_built

PI = "raspberry-pi-zero-2-w"  # its speed is known


@pytest.fixture
def manifest(manifest: TaskManifest) -> TaskManifest:
    """Its model normalises over a batch, so a device comes with more than one sample."""
    return replace(manifest, data=replace(manifest.data, minimum_samples=16))


def _config(folder: Path, limits: str, num: int = 200) -> Config:
    samples = three_classes(num)
    np.savez(folder / "points.npz", x=samples["x"], y=samples["y"])
    (folder / "agent.toml").write_text(
        f"[agent]\nname = 'a'\nstate_dir = 'state'\nprofile = '{PI}'\nconsent = 'auto'\n"
        f"[[data]]\nkind = 'points'\nname = 'garden'\npath = 'points.npz'\nmax_bytes = 1000000000\n[limits]\n{limits}\n"
    )
    return load_config(folder / "agent.toml", {})


async def _settings(config: Config) -> CoreSettings:
    with assembled(config) as service:
        return service.core.settings


async def _reasons(config: Config, manifest: TaskManifest) -> list[str]:
    """Why an approved task is not joined: what the core asks about it, in its order."""
    return (await _judged(config, manifest))[1]


async def _judged(config: Config, manifest: TaskManifest) -> tuple[CoreSettings, list[str]]:
    with assembled(config) as service:
        settings = service.core.settings
        unfit = settings.check_task("t", manifest)
        while "are being checked" in (mismatch := settings.match_data("t", manifest)):
            await asyncio.sleep(0.02)
        return settings, [reason for reason in (unfit, mismatch) if reason]


async def test_a_task_that_fits_is_joined(manifest: TaskManifest, tmp_path: Path) -> None:
    assert await _reasons(_config(tmp_path, ""), manifest) == []


async def test_a_source_that_is_too_large_for_the_trainer_is_a_reason_not_to_join(
    manifest: TaskManifest, tmp_path: Path
) -> None:
    (reason,) = await _reasons(_config(tmp_path, "memory_mb = 400", 4_000_000), manifest)
    assert reason.startswith("garden: 4,000,000 samples are too many: it needs about")
    assert await _reasons(_config(tmp_path, "memory_mb = 900", 4_000_000), manifest) == []


async def test_a_task_that_is_too_large_without_any_samples_says_so_once(
    manifest: TaskManifest, tmp_path: Path
) -> None:
    many = replace(manifest, data=replace(manifest.data, minimum_samples=3_000_000))
    (reason,) = await _reasons(_config(tmp_path, "memory_mb = 320", 3_000_001), many)
    assert reason.startswith("needs about")


def test_what_pytorch_takes_on_this_device_is_held_against_its_limit(manifest: TaskManifest) -> None:
    profile, bare = (
        replace(load_profile("raspberry-pi-4b", Machine(cores=4, memory_mb=4000)), memory_mb=320),
        BareTrainer(),
    )
    fitting = DeviceFit(profile, 600.0, bare)
    assert fitting.reason("t", manifest) == ""
    bare.mb = 350
    assert "(350 of them for PyTorch itself), profile allows 320" in fitting.reason("t", manifest)


async def test_rounds_that_cannot_end_in_the_owners_time_are_a_reason_not_to_join(
    manifest: TaskManifest, tmp_path: Path
) -> None:
    """A million steps of a few operators each."""
    long = replace(manifest, training=replace(manifest.training, steps_per_round=1_000_000))
    (reason,) = await _reasons(_config(tmp_path, "step_timeout_s = 600"), long)
    assert "a round of 1,000,000 training steps takes about" in reason
    assert "limits.step_timeout_s allows 600" in reason
    assert await _reasons(_config(tmp_path, "step_timeout_s = 604800"), long) == []


async def test_the_owners_pace_reaches_the_core(tmp_path: Path) -> None:
    usual = await _settings(_config(tmp_path, ""))
    assert (usual.shortest_round_s, usual.upload_bytes_per_s) == (0.2, 4 * 2**20)
    slow = await _settings(_config(tmp_path, "round_interval_s = 5\nupload_mb_per_s = 0.5"))
    assert (slow.shortest_round_s, slow.upload_bytes_per_s) == (5.0, 2**19)


@pytest.mark.parametrize(
    "limit", ["step_timeout_s = 1", "step_timeout_s = 1e9", "round_interval_s = 0", "upload_mb_per_s = 0"]
)
def test_limits_that_are_none_are_refused(limit: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=limit.split(" ", maxsplit=1)[0]):
        _config(tmp_path, limit)


def test_data_check_tells_what_a_task_would_take(manifest: TaskManifest, weights: bytes, tmp_path: Path) -> None:
    (tmp_path / "sources").mkdir()
    write_built(BuiltTask(draft=manifest, weights=weights), tmp_path / "sources", tmp_path / "task")
    config = _config(tmp_path, "memory_mb = 400").path
    arguments = ["data", "check", "--task", str(tmp_path / "task"), "--config", str(config)]
    done = CliRunner().invoke(build_app(), [*arguments, "--json"])
    (found,) = json.loads(done.stdout)
    assert found["fits"]
    assert 50 < found["prepare_mb"] < 80
    assert 290 < found["train_mb"] < 300
    assert "memory: about" in CliRunner().invoke(build_app(), arguments).stdout
    _config(tmp_path, "memory_mb = 400", 4_000_000)
    done = CliRunner().invoke(build_app(), [*arguments, "--json"])
    assert done.exit_code == 1
    assert "4,000,000 samples are too many" in json.loads(done.stdout)[0]["why"]


def test_data_check_says_of_a_task_that_no_source_is_good_for_it(
    manifest: TaskManifest, weights: bytes, tmp_path: Path
) -> None:
    (tmp_path / "sources").mkdir()
    long = replace(manifest, training=replace(manifest.training, steps_per_round=1_000_000))
    write_built(BuiltTask(draft=long, weights=weights), tmp_path / "sources", tmp_path / "task")
    config = _config(tmp_path, "step_timeout_s = 600").path
    done = CliRunner().invoke(
        build_app(), ["data", "check", "--task", str(tmp_path / "task"), "--config", str(config), "--json"]
    )
    (found,) = json.loads(done.stdout)
    assert done.exit_code == 1
    assert not found["fits"]
    assert "a round of 1,000,000 training steps takes about" in found["why"]


async def test_what_a_task_holds_is_what_its_samples_take_and_a_trainer_of_the_owners_holds_nothing(
    manifest: TaskManifest, tmp_path: Path
) -> None:
    settings, reasons = await _judged(_config(tmp_path, "memory_mb = 900", 2_000_000), manifest)
    assert reasons == []
    many = settings.needs("t", manifest)
    few_settings, reasons = await _judged(_config(tmp_path, "memory_mb = 900"), manifest)
    assert reasons == []
    few = few_settings.needs("t", manifest)
    assert 290 <= few.memory_mb < 300 < many.memory_mb < 900
    assert (few.cores, few.disk_mb) == (1, 1)
    asks_more = replace(manifest, requirements=Requirements(memory_mb=800, cores=2))
    assert (few_settings.needs("t", asks_more).memory_mb, few_settings.needs("t", asks_more).cores) == (800, 2)
    config = _config(tmp_path, "memory_mb = 900\n[[trainer]]\nkind = 'points'\nurl = 'unix:///run/trainer.sock'")
    attached, reasons = await _judged(config, asks_more)
    assert reasons == []
    assert attached.needs("t", asks_more) == Needs(disk_mb=1)


def test_what_is_held_of_others_counts_in_what_a_task_needs(
    manifest: TaskManifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fitting, "held_bytes", lambda *_args, **_given: 50 * 2**20)
    profile = replace(load_profile(PI, machine=Machine(cores=4, memory_mb=512)), memory_mb=400)
    fit = DeviceFit(profile, 3600.0)
    assert fit.reason("t", manifest) == ""
    for asked, needed in ((300, 350), (380, 400), (500, 500)):  # no task that fits alone is refused for it
        asks = replace(manifest, requirements=Requirements(memory_mb=asked))
        assert fit.needs("t", asks).memory_mb == needed
    assert fit.needs("t", manifest, attached=True).memory_mb == 50


async def test_what_is_written_and_kept_is_the_profiles_unless_the_owner_says_otherwise(tmp_path: Path) -> None:
    usual = await _settings(_config(tmp_path, ""))
    assert (usual.save_every_s, usual.save_bytes_per_day, usual.limits.disk_mb) == (60.0, 500 * 2**20, 1000)
    own = await _settings(_config(tmp_path, "save_every_s = 5\nsave_mb_per_day = 20\nstate_mb = 64"))
    assert (own.save_every_s, own.save_bytes_per_day, own.limits.disk_mb) == (5.0, 20 * 2**20, 64)
    for limit in ("save_every_s = 0", "save_mb_per_day = 0", "state_mb = 1"):
        with pytest.raises(ConfigError, match=limit.split(" ", maxsplit=1)[0]):
            _config(tmp_path, limit)
