"""The governor's shell: from files of sensors to what the core decides, and the owner's word to what is kept."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from typer import BadParameter

from grapevine_agent.cli.governor_commands import governor_lines, span_s
from grapevine_agent.core import effects as fx
from grapevine_agent.core import events as ev
from grapevine_agent.core.agent import AgentCore
from grapevine_agent.core.settings import CoreSettings, DeviceLimits, GovernorLimits
from grapevine_agent.service import clock
from grapevine_agent.service.beside import Beside
from grapevine_agent.service.governing import Governing
from grapevine_agent.service.saving import GOVERNOR, Saver
from grapevine_agent.service.sensors import SensorFiles
from grapevine_agent.service.turns import Turns
from grapevine_agent.store.store import Store

LIMITS = GovernorLimits(pause_above_c=80.0, upload_bytes_per_day=1_000_000)


class Shell:
    def __init__(self, root: Path, limits: GovernorLimits = LIMITS) -> None:
        self.zone = root / "sys/class/thermal/thermal_zone0/temp"
        self.zone.parent.mkdir(parents=True, exist_ok=True)
        self.warm(50)
        settings = CoreSettings(
            peer="a" * 20, governor=limits, limits=DeviceLimits(profile="board", watts_training=5.0)
        )
        self.core = AgentCore(settings=settings, rng=np.random.default_rng(0))
        self.done: list[fx.Effect] = []
        self.why_unsaved = ""
        self.governor = Governing(
            core=self.core,
            turns=Turns(Beside(), self._perform),
            read=lambda trouble: SensorFiles(root).readings(root, disk_trouble=trouble),
            why_unsaved=lambda: self.why_unsaved,
        )
        self._perform(self.core.start([], {}, clock.now()))

    def _perform(self, effects: Iterable[fx.Effect]) -> None:
        self.done += effects

    def warm(self, degrees: int) -> None:
        self.zone.write_text(f"{degrees * 1000}\n")

    @property
    def lines(self) -> list[str]:
        return [each.text for each in self.done if isinstance(each, ev.Event)]


async def test_what_a_file_says_pauses_the_core(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    await shell.governor.look()
    snapshot = shell.governor.snapshot
    assert (snapshot.paused, snapshot.limit, snapshot.temperature_c) == (False, "", 50.0)
    assert (snapshot.since, snapshot.until) == (None, None)
    shell.warm(82)
    await shell.governor.look()
    snapshot = shell.governor.snapshot
    assert (snapshot.paused, snapshot.limit, snapshot.temperature_c) == (True, "pause_above_c", 82.0)
    assert snapshot.since == pytest.approx(clock.now().wall_ms / 1000, abs=5)
    assert shell.lines[-1] == "training is paused: it is 82 °C hot, 80 °C is the limit [pause_above_c]"
    with pytest.raises(dataclasses.FrozenInstanceError):
        snapshot.paused = False  # type: ignore[misc]


async def test_models_that_cannot_be_saved_pause_and_once_they_are_it_goes_on(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    shell.why_unsaved = "No space left on device"
    await shell.governor.look()
    assert shell.governor.snapshot.limit == "free_disk_mb"
    assert "models cannot be saved: No space left on device" in shell.governor.snapshot.why


async def test_the_owners_word_is_kept_on_disk_and_counts_in_the_next_life(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    shell.governor.sent(1_234)
    snapshot = await shell.governor.pause(7_200.0)
    assert (snapshot.paused, snapshot.limit, snapshot.bytes_today) == (True, "pause", 1_234)
    assert snapshot.until == pytest.approx(clock.now().wall_ms / 1000 + 7_200, abs=5)
    saved = [each for each in shell.done if isinstance(each, fx.SaveGovernor)]
    with Store.open(tmp_path / "state") as store:
        saver = Saver(store)
        saver.save(saved[-1])
        await saver.finish()
        state = store.setting(GOVERNOR)
    again = Shell(tmp_path)
    again.core.governing.restore(state, clock.now())
    assert again.governor.snapshot.limit == "pause"
    assert again.governor.snapshot.bytes_today == 1_234
    snapshot = await again.governor.resume()
    assert (snapshot.paused, snapshot.limit) == (False, "")


async def test_a_task_that_was_paused_by_itself_stays_so_when_the_pause_of_all_ends(tmp_path: Path) -> None:
    shell, task = Shell(tmp_path), "a" * 64
    await shell.governor.pause(task=task)
    await shell.governor.pause()
    snapshot = await shell.governor.resume(keeps_single=True)
    assert not snapshot.paused
    assert shell.governor.of_task(task) is not None
    await shell.governor.resume()
    assert shell.governor.of_task(task) is None


async def test_energy_is_known_by_the_profile_or_not_at_all(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    shell.core.governing.governor.trained(2.0, 10.0)
    assert shell.governor.snapshot.energy_j_today == 10.0
    assert shell.governor.energy_by == "modelled by the profile board"
    shell.core.settings = dataclasses.replace(shell.core.settings, limits=DeviceLimits())
    assert shell.governor.snapshot.energy_j_today is None
    assert shell.governor.energy_by == ""


async def test_status_says_what_holds_since_when_and_what_was_used(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    shell.warm(85)
    shell.governor.sent(1_000_000)
    await shell.governor.look()
    lines = governor_lines(shell.governor.status()).splitlines()
    assert lines[1].startswith("[yellow]training is paused[/] since ")
    assert lines[1].endswith(r"it is 85 °C hot, 80 °C is the limit \[pause_above_c]")
    assert lines[2].startswith("[yellow]no more models are sent today[/] since ")
    assert "today: 85 °C, 1.0 MB sent (0.0 MB left), 0.0 kJ by training (modelled by the profile board)" in lines[3]


async def test_a_limit_without_a_sensor_is_said_once_and_shown(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    shell.zone.unlink()
    for _ in range(2):
        await shell.governor.look()
    told = [line for line in shell.lines if "nothing can be held against" in line]
    assert told == ["[governor] nothing can be held against pause_above_c: no thermal sensor is found"]
    assert "nothing can be held against[/] pause_above_c" in governor_lines(shell.governor.status())


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2h", 7_200),
        ("30m", 1_800),
        ("1d12h", 129_600),
        ("90s", 90),
        ("1.5h", 5_400),
        ("1h 30min", 5_400),
        ("2H", 7_200),
    ],
)
def test_spans_are_written_as_people_write_them(text: str, seconds: float) -> None:
    assert span_s(text) == span_s(text.upper()) == seconds


@pytest.mark.parametrize(
    "text", ["2", "h", "two hours", "-2h", "2h!", "0s", "400d", "1e3h", "2h3", "١h", "9" * 400 + "h"]
)
def test_a_span_that_is_none_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(BadParameter, match=r"2h, 30m or 1d12h|from 1s to 366d"):
        span_s(text)
