import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import grapevine_agent
import grapevine_proto
from grapevine_agent.config.agent_toml import Limits
from grapevine_agent.config.firmware import device_limits, load_profile, with_limits
from grapevine_agent.config.machine import Machine, detect_machine
from grapevine_agent.config.mistakes import MistakesError
from grapevine_agent.config.profile_files import profile_names
from grapevine_agent.core.learning.encodings import Encodings
from grapevine_proto.errors import ConfigError
from grapevine_proto.manifest import MergePlan

VALID = 'name = "board"\ncores = 2\nthreads = 2\nmemory_mb = 512\n'


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "board.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("name", profile_names())
def test_every_profile_that_ships_is_complete(name: str) -> None:
    profile = load_profile(name)
    assert profile.name == name
    assert profile.description
    assert profile.power.source
    assert min(profile.cores, profile.memory_mb, profile.threads, profile.max_batch, profile.max_parameters) >= 1


def test_the_profiles_of_the_first_release_are_there() -> None:
    assert {"generic", "raspberry-pi-4b"} <= set(profile_names())


def test_a_512_mb_board_ships_without_training_and_every_speed_names_its_source() -> None:
    assert not load_profile("small-board-512mb").can_train
    for name in profile_names():
        profile = load_profile(name)
        assert bool(profile.gflops) == bool(profile.gflops_source)
        assert profile.gflops or name in ("generic", "small-board-512mb", "relay-only")


def test_a_raspberry_pi_is_told_as_measured() -> None:
    profile = load_profile("raspberry-pi-4b", Machine(cores=64, memory_mb=100_000))
    assert (profile.cores, profile.threads, profile.memory_mb, profile.can_train) == (4, 3, 600, True)
    assert (profile.power.idle_w, profile.power.training_w) == (2.7, 6.4)
    assert "Pi Dramble" in profile.power.source


def test_the_generic_profile_asks_the_machine() -> None:
    profile = load_profile("generic", Machine(cores=8, memory_mb=4000))
    assert (profile.cores, profile.threads, profile.memory_mb) == (8, 7, 2000)
    # Ten copies of the largest model fit into the memory.
    assert profile.max_parameters * 4 * 10 <= 2000 * 2**20 < (profile.max_parameters + 1) * 4 * 10
    small = load_profile("generic", Machine(cores=1, memory_mb=512))
    assert (small.threads, small.can_train) == (1, False)


def test_the_machine_reports_something_usable() -> None:
    machine = detect_machine()
    assert machine.cores >= 1
    assert machine.memory_mb >= 64


def test_an_unknown_name_gets_a_suggestion() -> None:
    with pytest.raises(ConfigError, match="did you mean 'raspberry-pi-4b'"):
        load_profile("raspberry-pi-4")
    with pytest.raises(ConfigError, match=r"known here: generic, .*raspberry-pi-4b"):
        load_profile("zzz")


def test_a_profile_of_ones_own_is_named_by_its_path(tmp_path: Path) -> None:
    path = write(tmp_path, VALID)
    assert load_profile(path).memory_mb == 512
    assert load_profile(str(path)).name == "board"
    with pytest.raises(ConfigError, match="no such file"):
        load_profile(tmp_path / "other.toml")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("cores = 2", "name is missing"),
        (VALID + "max_bach = 3", "did you mean 'max_batch'?"),
        (VALID + 'network_class = "wifi"', "network_class: unknown key; known here: accelerator, boards"),  # no table
        (VALID + '[networks]\nclass = "wifi"', "networks: unknown table; did you mean 'network'?"),
        (VALID + "[chasis]\nnumbers = [35]", "chasis: unknown table; known here: accelerator, boards"),  # no key
        (VALID + "chassis = [0]", "must be a list of DMI's chassis types from 1 to 255; write chassis = [35]"),
        (VALID + "chassis = 35", "must be a list of DMI's chassis types from 1 to 255; write chassis = [35]"),
        (VALID + "[power]\nidle = 3", "power.idle: unknown key; did you mean 'idle_w'?"),
        (VALID + "[power]\nidle_w = 3", "power.source is missing: say who measured"),
        (VALID + "[power]\nidle_w = 3\ntraining_w = 2\nsource = 'me'", "less than idle_w = 3"),
        (VALID + "chunk_window = 2", "chunk_window = 2: must be 1"),
        (VALID + "encoding = 'int9'", "must be one of"),
        (VALID + "max_batch = 0", "max_batch = 0: must be a whole number from 1"),
        ('name = "board"\ncores = 2\nthreads = 3', "threads = 3: is more than cores = 2"),
        ('name = "board"\nmemory_mb = 200', "memory_mb = 200: training needs 300 MB"),
        ('name = "Board 1"', "name = 'Board 1'"),
        (VALID + "gflops = 3", "gflops_source is missing: say who measured"),
        (VALID + "can_train = 1", "can_train = 1: must be true or false"),
    ],
)
def test_a_mistake_in_a_profile_is_told(tmp_path: Path, text: str, says: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load_profile(path)
    assert says in str(caught.value)
    assert str(path) in str(caught.value)


def test_the_owner_has_the_last_word_on_limits(tmp_path: Path) -> None:
    profile = load_profile(write(tmp_path, VALID))
    assert with_limits(profile, Limits()) == profile
    assert with_limits(profile, Limits(memory_mb=2000, threads=1)).memory_mb == 2000
    assert with_limits(profile, Limits(can_train=False)).can_train is False
    # Too little memory to train is no training, unless training was asked for.
    assert with_limits(profile, Limits(memory_mb=100)).can_train is False
    with pytest.raises(ConfigError, match=r"training needs 300 MB"):
        with_limits(profile, Limits(memory_mb=100, can_train=True))


def test_a_profile_says_how_vectors_are_written_and_the_owner_may_say_otherwise(tmp_path: Path) -> None:
    assert load_profile(write(tmp_path, VALID)).encoding == "auto"
    wired = load_profile(write(tmp_path, VALID + "encoding = 'float16'"))
    assert with_limits(wired, Limits()).encoding == "float16"
    assert with_limits(wired, Limits(encoding="auto")).encoding == "auto"
    assert with_limits(wired, Limits(encoding="int8+zstd")).encoding == "int8+zstd"


@pytest.mark.parametrize("name", profile_names())
def test_profiles_that_ship_take_the_smallest_since_receivers_pay_for_the_line_as_well(name: str) -> None:
    profile = load_profile(name)
    assert profile.encoding == "auto"
    plan = MergePlan(encodings=("float32", "int8+zstd", "top-k+zstd"))
    assert Encodings.of(plan, profile.encoding).change.name == "top-k+zstd"
    assert Encodings.of(MergePlan(), profile.encoding) == Encodings()


def test_an_installed_package_finds_the_profiles_inside_it(tmp_path: Path) -> None:
    """As the wheel lays it out: no checkout around it, and the profiles in the package."""
    ignore = shutil.ignore_patterns("__pycache__")
    for package in (grapevine_agent, grapevine_proto):
        source = Path(package.__path__[0])
        shutil.copytree(source, tmp_path / source.name, ignore=ignore)
    checkout = Path(grapevine_agent.__path__[0]).parents[1]
    shutil.copytree(checkout / "firmware_profiles", tmp_path / "grapevine_agent" / "profiles")
    program = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from grapevine_agent.config import firmware\n"
        "print(firmware.__file__); print(firmware.profile_names()); print(firmware.load_profile('generic').name)"
    )
    # -I keeps PYTHONPATH out; inserted first, the copy wins over an editable install.
    said = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True).stdout
    file, names, name = said.splitlines()
    assert file.startswith(str(tmp_path))
    assert "'raspberry-pi-4b'" in names
    assert name == "generic"


def test_the_owner_says_how_many_cores_all_tasks_may_ask_for_together() -> None:
    profile = load_profile("generic", Machine(cores=2, memory_mb=4000))
    assert device_limits(with_limits(profile, Limits())).cores == 2
    assert device_limits(with_limits(profile, Limits(cores=6))).cores == 6


@pytest.mark.parametrize("name", profile_names())
def test_what_a_day_may_take_is_said_with_its_source_and_fits_together(name: str) -> None:
    profile = load_profile(name)
    assert profile.storage_source
    assert profile.network_source
    assert profile.thermal_source
    assert bool(profile.accelerator) == bool(profile.accelerator_source)
    assert profile.keepalive_s >= 30
    assert profile.slow_above_c <= profile.pause_above_c <= 95
    draw = profile.power
    if draw.training_w:
        # What a day at this duty cycle draws, and a board that trains all day has a temperature to stop at.
        watts = draw.idle_w + profile.duty_cycle * (draw.training_w - draw.idle_w)
        assert profile.energy_kj_per_day == pytest.approx(86.4 * watts, abs=0.5)
        assert profile.pause_above_c > 0
        assert profile.upload_mb_per_day > 0
    else:
        assert profile.energy_kj_per_day == 0


@pytest.mark.parametrize(
    ("memory_mb", "memory", "parameters"),
    # What a Raspberry Pi 4 with 1, 2, 4 and 8 GB reports, and a container with less than any of them.
    [(906, 600, 5_000_000), (1_845, 1_400, 15_000_000), (3_792, 3_000, 30_000_000), (7_812, 6_000, 60_000_000)],
)
def test_limits_follow_the_memory_that_the_machine_has(memory_mb: int, memory: int, parameters: int) -> None:
    machine = Machine(cores=4, memory_mb=memory_mb)
    profile = load_profile("raspberry-pi-4b", machine, follows_machine=True)
    assert (profile.memory_mb, profile.max_parameters) == (memory, parameters)
    # Of somebody else's the smallest is said, whatever machine asks.
    assert load_profile("raspberry-pi-4b", machine).memory_mb == 600


def test_a_container_with_less_than_the_board_is_held_to_four_fifths_of_it() -> None:
    profile = load_profile("raspberry-pi-4b", Machine(cores=4, memory_mb=512), follows_machine=True)
    assert (profile.memory_mb, profile.can_train) == (409, True)
    assert profile.max_parameters * 4 * 10 <= 409 * 2**20
    tiny = load_profile("raspberry-pi-4b", Machine(cores=4, memory_mb=256), follows_machine=True)
    assert (tiny.memory_mb, tiny.can_train) == (204, False)


def test_all_mistakes_of_a_profile_are_told_at_once_with_their_lines(tmp_path: Path) -> None:
    text = (
        'name = "Board 1"\n'
        "cores = 2\n"
        "threads = 3\n"
        "memory_mb = 400\n"
        "slow_above_c = 60\n"
        "[[size]]\n"
        "ram_mb = 1024\n"
        "memory_mb = 2000\n"
        "[thermal]\n"
        "slow_above_c = 90\n"
        "pause_above_c = 80\n"
        "[network]\n"
        'class = "wifi"\n'
        "keepalive_s = 3\n"
        'source = "assumed"\n'
        "[power]\n"
        "duty_cycle = 2\n"
    )
    path = write(tmp_path, text)
    with pytest.raises(MistakesError) as caught:
        load_profile(path)
    assert [(mistake.line, mistake.key) for mistake in caught.value.mistakes] == [
        (1, "name"),
        (3, "threads"),
        (4, "memory_mb"),
        (5, "slow_above_c"),
        (8, "size[1].memory_mb"),
        (9, "thermal.source"),
        (10, "thermal.slow_above_c"),
        (14, "network.keepalive_s"),
        (16, "power.source"),
        (17, "power.duty_cycle"),
    ]
    assert "line 5: slow_above_c: unknown key; did you mean [thermal] slow_above_c?" in str(caught.value)
    assert "line 17: power.duty_cycle = 2: must be a number from 0.01 to 1; the nearest is 1" in str(caught.value)


def test_a_profile_from_before_there_was_a_table_of_storage_is_read_as_it_was(tmp_path: Path) -> None:
    profile = load_profile(write(tmp_path, VALID + "state_mb = 500\nsave_mb_per_day = 50\n"))
    assert (profile.state_mb, profile.save_mb_per_day) == (500, 50)
    assert (profile.slow_above_c, profile.duty_cycle, profile.keepalive_s, profile.upload_mb_per_day) == (0, 1, 0, 0)


def test_zeros_need_no_source_for_they_say_that_nothing_is_known(tmp_path: Path) -> None:
    load_profile(write(tmp_path, VALID + "[thermal]\nslow_above_c = 0\n[power]\nidle_w = 0\n"))
