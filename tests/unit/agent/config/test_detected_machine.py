"""What a machine says of itself, in a folder that stands for its /sys and /proc."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from grapevine_agent.config.machine import detect_machine, line_of, memory_limits, number_of, text_of, throttle_word

GROUPS = "sys/fs/cgroup"
SLICE = f"{GROUPS}/system.slice"
SERVICE = f"{SLICE}/grapevine.service"
PI_4 = "sys/devices/platform/soc/soc:firmware/get_throttled"
PI_5 = "sys/devices/platform/soc@107c000000/soc@107c000000:firmware/get_throttled"


def put(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def mb(number: int) -> str:
    return f"{number << 20}\n"


@pytest.mark.parametrize(
    ("own", "limits", "wanted_mb"),
    [
        ("0::/system.slice/grapevine.service\n", {SERVICE: mb(60)}, [60]),
        ("0::/system.slice/grapevine.service\n", {SERVICE: "max\n", SLICE: mb(50)}, [50]),
        ("0::/system.slice/grapevine.service\n", {SERVICE: mb(60), SLICE: mb(50), GROUPS: mb(40)}, [60, 50, 40]),
        ("12:memory:/x\n0::/system.slice/grapevine.service\n", {SLICE: mb(50)}, [50]),
        ("0::/docker/0123\n", {GROUPS: mb(40)}, [40]),  # which is its own, seen from within
        ("0::/../other\n", {GROUPS: mb(40)}, [40]),
        ("0::/\n", {GROUPS: mb(40)}, [40]),
        ("", {GROUPS: mb(40)}, [40]),
        ("0::/system.slice/grapevine.service\n", {SERVICE: "max\n", SLICE: "much\n"}, []),
        ("0::/\n", {}, []),
    ],
)
def test_memory_is_what_the_control_groups_above_this_process_lend(
    tmp_path: Path, own: str, limits: dict[str, str], wanted_mb: list[int]
) -> None:
    put(tmp_path, {"proc/self/cgroup": own, **{f"{folder}/memory.max": text for folder, text in limits.items()}})
    assert memory_limits(tmp_path) == tuple(each << 20 for each in wanted_mb)
    if wanted_mb:
        assert detect_machine(tmp_path).memory_mb == min(wanted_mb)


@pytest.mark.parametrize(
    ("own", "limits", "wanted_mb"),
    [
        ("4:memory:/docker/01\n0::/docker/01\n", {"memory/docker/01": mb(60), "memory": mb(70)}, [60, 70]),
        ("4:cpu,memory:/docker/01\n0::/x\n", {"memory": mb(60)}, [60]),  # which is its own, seen from within
        ("4:memory:/docker/01\n", {"memory/docker/01": "9223372036854771712\n"}, []),
        ("4:mymemory:/docker/01\n", {"memory/docker/01": mb(60)}, []),
    ],
)
def test_memory_is_what_groups_of_the_first_version_lend(
    tmp_path: Path, own: str, limits: dict[str, str], wanted_mb: list[int]
) -> None:
    files = {f"{GROUPS}/{folder}/memory.limit_in_bytes": text for folder, text in limits.items()}
    put(tmp_path, {"proc/self/cgroup": own, **files})
    assert memory_limits(tmp_path) == tuple(each << 20 for each in wanted_mb)


def test_a_limit_above_the_memory_there_is_lends_no_more(tmp_path: Path) -> None:
    unlimited_mb = detect_machine(tmp_path).memory_mb
    put(tmp_path, {"proc/self/cgroup": "0::/\n", f"{GROUPS}/memory.max": mb(unlimited_mb + 1)})
    assert detect_machine(tmp_path).memory_mb == unlimited_mb


@pytest.mark.parametrize("path", [PI_4, PI_5])
@pytest.mark.parametrize(("said", "word"), [("0x50005\n", 0x50005), ("8", 8), ("0x0", 0), ("what", None), ("", None)])
def test_the_firmware_of_every_raspberry_pi_is_asked(tmp_path: Path, path: str, said: str, word: int | None) -> None:
    assert throttle_word(tmp_path) is None
    put(tmp_path, {path: said})
    assert throttle_word(tmp_path) == word


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(content=st.binary(max_size=60))
def test_whatever_a_file_holds_it_is_read(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    assert line_of(path) in text_of(path)
    assert number_of(path) is None or line_of(path).lstrip("+-").isdecimal()


def test_a_file_that_is_not_there_says_nothing(tmp_path: Path) -> None:
    assert (text_of(tmp_path), line_of(tmp_path / "none"), number_of(tmp_path / "none")) == ("", "", None)
    (tmp_path / "long").write_text("x" * 9_000)
    assert (len(text_of(tmp_path / "long")), len(text_of(tmp_path / "long", 10))) == (4_096, 10)
