"""Board, memory, disk and its wear: as the kernel's files say, which are written here as a device has them."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from tests.disks import small_disk

from grapevine_agent.config.agent_toml import load_config
from grapevine_agent.config.firmware import load_profile
from grapevine_agent.doctor import disk, machine, wear
from grapevine_agent.doctor.situation import Situation

MMC = os.makedev(179, 2)  # mmcblk0p2
DAY_S = 86_400


def situation_of(folder: Path, **limits: int) -> Situation:
    path = folder / "agent.toml"
    path.write_text(f'[agent]\nstate_dir = "{folder / "state"}"\n')
    profile = replace(load_profile("raspberry-pi-4b"), **limits)  # type: ignore[arg-type]
    return Situation(path=path, config=load_config(path, {}), profile=profile)


def put(root: Path, name: str, text: str) -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.fixture
def card(tmp_path: Path) -> Path:
    """A machine that runs for two days from an eMMC, to which 4 GB were written."""
    root = tmp_path / "root"
    put(root, "sys/devices/mmcblk0/stat", "1 2 3 4 5 6 7812500 8 9 10 11")
    put(root, "sys/devices/mmcblk0/queue/rotational", "0")
    put(root, "sys/devices/mmcblk0/mmcblk0p2/partition", "2")
    (root / "sys/dev/block").mkdir(parents=True)
    (root / "sys/dev/block/179:2").symlink_to(root / "sys/devices/mmcblk0/mmcblk0p2")
    put(root, "proc/uptime", f"{2 * DAY_S}.00 1.00")
    return root


@pytest.mark.parametrize(
    ("life", "end", "level", "says"),
    [
        ("0x01 0x02\n", "0x01\n", "ok", "up to 20 % of its life is used"),
        ("0x08 0x01", "0x01", "warn", "up to 80 %"),
        ("0x02 0x02", "0x02", "warn", "most of its spare blocks"),
        ("0x02 0x02", "0x03", "fail", "nearly all of its spare blocks"),
        ("0x0b 0x01", "0x01", "fail", "up to 101 %"),
        ("0x00 0x00", "0x00", "ok", "which does not say how worn it is"),
        ("nonsense", "", "ok", "which does not say how worn it is"),
    ],
)
def test_a_worn_disk_is_told_before_it_fails(
    card: Path, tmp_path: Path, life: str, end: str, level: str, says: str
) -> None:
    put(card, "sys/devices/mmcblk0/device/life_time", life)
    put(card, "sys/devices/mmcblk0/device/pre_eol_info", end)
    (line,) = wear.wear(situation_of(tmp_path), root=card, number=MMC)
    assert line.level == level
    assert says in line.says
    assert line.facts["written_mb_per_day"] == 2_000.0
    assert "2,000 MB a day are written" in line.says
    assert bool(line.remedy) == (level != "ok")


def test_an_sd_card_says_nothing_and_encryption_is_looked_through(card: Path, tmp_path: Path) -> None:
    put(card, "sys/devices/mmcblk0/device/type", "SD")
    put(card, "sys/devices/dm-0/queue/rotational", "0")
    (card / "sys/devices/dm-0/slaves").mkdir()
    (card / "sys/devices/dm-0/slaves/mmcblk0p2").symlink_to(card / "sys/devices/mmcblk0/mmcblk0p2")
    (card / "sys/dev/block/254:0").symlink_to(card / "sys/devices/dm-0")
    (line,) = wear.wear(situation_of(tmp_path), root=card, number=os.makedev(254, 0))
    assert line.says.startswith("mmcblk0, an SD card, which does not say how worn it is")


def test_what_the_agent_writes_is_told_beside_it(card: Path, tmp_path: Path) -> None:
    situation = replace(situation_of(tmp_path), status={"uptime_s": float(DAY_S)})
    put(tmp_path, "state/service.lock", "77\n")
    put(card, "proc/77/io", "rchar: 1\nwrite_bytes: 500000000\ncancelled_write_bytes: 0\n")
    (line,) = wear.wear(situation, root=card, number=MMC)
    assert line.facts["agent_mb_per_day"] == 500.0


def test_no_disk_is_no_failure(tmp_path: Path) -> None:
    (line,) = wear.wear(situation_of(tmp_path), root=tmp_path, number=MMC)
    assert line.level == "skip"


@pytest.mark.parametrize(
    ("told", "facts"),
    [
        ({"smart_status": {"passed": False}}, {"smart_passed": False}),
        (
            {"smart_status": {"passed": True}, "nvme_smart_health_information_log": {"percentage_used": 7}},
            {"smart_passed": True, "used_percent": 7},
        ),
        ([], {}),
        ({"smart_status": 5, "nvme_smart_health_information_log": {"percentage_used": "x"}}, {}),
    ],
)
def test_what_smartctl_says_is_taken_as_far_as_it_goes(told: object, facts: dict[str, object]) -> None:
    assert wear.smart_facts(told) == facts


@pytest.mark.parametrize("folder", ["soc/soc:firmware", "soc@107c000000/soc@107c000000:firmware"])  # of model 4, and 5
@pytest.mark.parametrize(
    ("bits", "levels"),
    [("0x0\n", ["ok"]), ("50000", ["ok", "warn"]), ("50005", ["ok", "fail"]), ("what", ["ok"])],
)
def test_too_little_voltage_is_told(
    tmp_path: Path, folder: str, bits: str, levels: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "_hottest", lambda: None)
    put(tmp_path, f"sys/devices/platform/{folder}/get_throttled", bits)
    put(tmp_path, "proc/device-tree/model", "Raspberry Pi 4 Model B Rev 1.4\x00")
    lines = machine.board(root=tmp_path)
    assert [each.level for each in lines] == levels
    assert lines[0].says.startswith("Raspberry Pi 4 Model B Rev 1.4, ")
    assert all("voltage" in each.says for each in lines[1:])


def test_the_smallest_of_the_limits_above_this_process_counts(tmp_path: Path) -> None:
    put(tmp_path, "proc/self/cgroup", "0::/system.slice/grapevine.service\n")
    put(tmp_path, "sys/fs/cgroup/system.slice/grapevine.service/memory.max", "max\n")
    put(tmp_path, "sys/fs/cgroup/system.slice/memory.max", f"{500 << 20}\n")
    (line,) = machine.memory(situation_of(tmp_path, memory_mb=900), root=tmp_path)
    assert line.level == "fail"
    assert line.facts["cgroup_limit_mb"] == 500
    assert "a control group lends 500" in line.says
    assert "write memory_mb = 300 into [limits]" in line.remedy
    (line,) = machine.memory(situation_of(tmp_path, memory_mb=400), root=tmp_path)
    assert line.level == "ok"


# --- the state folder -----------------------------------------------------------------------------


def test_a_state_folder_is_tried_and_left_as_it_was(tmp_path: Path) -> None:
    situation = situation_of(tmp_path)
    folder = tmp_path / "state"
    assert disk.state(situation)[0].level == "warn"  # not there yet
    assert disk.disk(situation)[0].level in ("ok", "warn")
    folder.mkdir(mode=0o700)
    (line,) = disk.state(situation)
    assert line.level == "ok"
    assert list(folder.iterdir()) == []
    folder.chmod(0o755)
    assert [each.level for each in disk.state(situation)] == ["warn", "ok"]
    folder.chmod(0o777)
    assert [each.level for each in disk.state(situation)] == ["fail", "ok"]
    folder.rmdir()
    folder.write_text("")
    (line,) = disk.state(situation)
    assert (line.level, line.says) == ("fail", f"{folder} is no folder")


def test_a_full_disk_and_a_read_only_one_are_told(tmp_path: Path) -> None:
    situation = situation_of(tmp_path)
    with small_disk(tmp_path / "state", num_kb=100_000) as small:
        (line,) = disk.disk(situation)
        assert line.level == "warn"
        assert "it may grow by more than is free" in line.says
        small.fill()
        (line,) = disk.disk(situation)
        assert (line.level, line.facts["free_mb"]) == ("fail", 0)
        (line,) = disk.state(situation)
        assert line.level == "fail"
        assert "No space left on device" in line.says
        small.free()
        small.remount("ro")
        (line,) = disk.disk(situation)
        assert line.level == "fail"
        assert "read-only" in line.says
        (line,) = disk.state(situation)
        assert "Read-only file system" in line.says
