"""What a task costs and where it fits: the figures, the reasons, the warnings and the command."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from tests.unit.tasks.hostile.attack import FIRST, graph_of, honest_manifest, honest_program, node
from typer.testing import CliRunner, Result

from grapevine_agent.cli import check_commands
from grapevine_agent.config.firmware import FirmwareProfile, load_profile
from grapevine_agent.config.machine import Machine
from grapevine_agent.core.settings import DeviceLimits
from grapevine_agent.core.tasks.deadlines import FLOPS_TO_START
from grapevine_agent.core.tasks.fitting import (
    READER_MB,
    TRAINER_MB,
    memory_reason,
    reasons_not_to_fit,
    samples_reason,
    trainer_mb,
)
from grapevine_agent.requests.costs import ENVELOPE_BYTES, cost_report, update_bytes
from grapevine_proto.errors import TaskError
from grapevine_proto.manifest import MergePlan, Optimiser, Requirements, TaskManifest, TrainingPlan
from grapevine_proto.manifest_codec import encode_manifest
from grapevine_proto.program import Operator, Ref
from grapevine_tasks.built import BuiltTask, write_built
from grapevine_tasks.checks import MemoryEstimate
from grapevine_tasks.checks.traffic import STEP_PASSES
from grapevine_tasks.layout import ModelLayout
from grapevine_tasks.pipelines import SampleMemory
from grapevine_tasks.weights import encode_weights, reference_to

MIB = 2**20
MEMORY = MemoryEstimate(
    model_bytes=40 * MIB,
    optimiser_bytes=20 * MIB,
    gradient_bytes=20 * MIB,
    activation_bytes=20 * MIB,
    training_bytes=100 * MIB,
    evaluation_bytes=70 * MIB,
)
CALM = replace(honest_manifest(), expires_at_ms=1, data=replace(honest_manifest().data, minimum_samples=64))


def profile(**changed: Any) -> FirmwareProfile:
    return replace(load_profile("raspberry-pi-4b", Machine(cores=4, memory_mb=4000)), **changed)


def test_the_figures_of_a_small_task() -> None:
    report = cost_report(CALM, [profile(gflops=2.0, memory_gbs=0.5)])
    assert (report.num_parameters, report.num_buffers, report.num_nodes) == (15, 4, 2)
    assert report.operators == {"LINEAR": 1}
    assert report.manifest_bytes == len(encode_manifest(CALM))
    assert report.flops_per_sample == 2 * 4 * 3
    assert report.step_flops == 3 * 32 * report.flops_per_sample  # forward and twice that backward, 32 samples
    assert report.update_bytes == 4 * (15 + 4)
    # log-n with ten members: about 2.3 sends a round.
    assert report.round_bytes == round(np.log(10) * (4 * 19 + ENVELOPE_BYTES))
    assert report.trainer_mb == TRAINER_MB + 1
    (fit,) = report.fits
    assert fit.fits
    # Forward, x, weight and bias are read and the result is written: (4 · 32 + 12 + 3 + 3 · 32) floats; backward they
    # are read again, the result's gradient is read and those of weight and bias are written and added to.
    forward = 4 * (4 * 32 + 15 + 3 * 32)
    assert report.step_bytes_moved == forward + forward + 4 * (3 * 32 + 2 * 15) + 4 * STEP_PASSES * 15
    assert report.step_kernels == 3 + STEP_PASSES
    assert report.evaluation_samples == 64 // 5
    assert report.evaluation_flops == 12 * report.flops_per_sample
    assert report.evaluation_bytes_moved == 4 * (7 * 12 + 15)
    starting = FLOPS_TO_START * report.step_kernels
    assert fit.step_s == pytest.approx((report.step_flops + starting) / 2e9 + report.step_bytes_moved / 0.5e9)
    assert fit.step_s is not None
    assert fit.evaluation_s is not None
    assert fit.round_s == pytest.approx(10 * fit.step_s + fit.evaluation_s)
    assert report.warnings == ()


def test_base_and_change_are_two_models() -> None:
    assert update_bytes(replace(CALM, merging=MergePlan(update_form="delta"))) == 4 * (2 * 15 + 4)


def test_the_report_is_plain_json() -> None:
    plain = json.loads(json.dumps(cost_report(honest_manifest()).as_json()))
    assert plain["memory"]["peak_bytes"] > 0
    fits = {fit["profile"]: fit for fit in plain["fits"]}
    assert fits["raspberry-pi-zero-2-w"]["fits"]
    assert fits["small-board-512mb"]["reasons"] == ["does not train"]
    assert "it never expires: set task.lifetime_days" in plain["warnings"]


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ({"max_parameters": 10}, "needs 15 parameters, profile allows 10"),
        ({"max_batch": 16}, "needs batches of 32, profile allows 16"),
        ({"cores": 1}, "needs 2 cores, this device has 1"),
        ({"memory_mb": 250}, "needs 260 MB, profile allows 250"),
        ({"cannot_train": "no PyTorch here"}, "no PyTorch here"),
    ],
)
def test_what_is_too_large_is_said_with_both_numbers(limits: dict[str, Any], reason: str) -> None:
    manifest = replace(CALM, requirements=Requirements(memory_mb=260, cores=2))
    large = DeviceLimits(cores=4, memory_mb=4000, max_parameters=100, max_batch=100)
    assert reasons_not_to_fit(manifest, large) == []
    assert reasons_not_to_fit(manifest, replace(large, **limits)) == [reason]


def test_memory_is_held_against_what_pytorch_leaves_of_it() -> None:
    data = replace(CALM.data, minimum_samples=MIB)  # 24 bytes each, and their order twice
    needed = TRAINER_MB + 24 + 16 + 100 + 1
    assert trainer_mb(data, MEMORY) == needed
    manifest = replace(CALM, data=data)
    assert memory_reason(manifest, MEMORY, needed) == ""
    assert memory_reason(manifest, MEMORY, 300) == (
        f"needs about {needed} MB to train ({TRAINER_MB} of them for PyTorch itself), profile allows 300"
    )


def test_samples_that_are_large_only_while_they_are_prepared_are_held_against_memory_too() -> None:
    small = replace(MEMORY, training_bytes=MIB, evaluation_bytes=MIB)
    samples = SampleMemory(libraries=36 * MIB, preparing=900 * MIB, kept=20 * MIB)
    assert samples_reason(small, samples, READER_MB + 936) == ""
    assert samples_reason(small, samples, 500) == (
        f"needs about {READER_MB + 936} MB to prepare its samples, profile allows 500"
    )


def flipping(times: int, *, batch_size: int = 32, width: int = 60_000) -> TaskManifest:
    """The honest task, with 3 · `width` numbers a sample that are flipped: no arithmetic, and much to move."""
    program = honest_program()
    last = FIRST + 3 + times
    graph = graph_of(
        node(Operator.LINEAR, Ref(0), Ref(1), Ref(2)),
        node(Operator.UNSQUEEZE, Ref(FIRST), 2),
        node(Operator.REPEAT, Ref(FIRST + 1), (1, 1, width)),
        *(node(Operator.FLIP, Ref(FIRST + 2 + k), (2,)) for k in range(times)),
        node(Operator.SELECT, Ref(last - 1), 2, 0),
    )
    plan = replace(CALM.training, batch_size=batch_size)
    return replace(CALM, program=replace(program, train=graph, eval=graph), training=plan)


def test_what_is_only_moved_takes_time_too() -> None:
    few, many = (cost_report(flipping(times), [profile(memory_gbs=2.5, memory_mb=10**6)]) for times in (1, 101))
    assert many.step_flops == few.step_flops  # a flip computes nothing …
    flipped = 4 * 3 * 60_000 * 32
    # … but reads and writes forward; backward so does its gradient, which is added to what it flows to.
    assert many.step_bytes_moved - few.step_bytes_moved == 100 * (2 + 2 + 3) * flipped
    assert many.fits[0].step_s == pytest.approx(100 * 7 * flipped / 2.5e9, rel=0.1)
    assert few.fits[0].fits


def test_what_takes_too_long_on_a_profile_does_not_fit_it() -> None:
    fast, slow = (profile(name=f"{gbs}", memory_gbs=gbs, memory_mb=10**6) for gbs in (20.0, 0.02))
    fits = {fit.profile: fit for fit in cost_report(flipping(101), [fast, slow]).fits}
    assert fits["20.0"].fits
    (reason,) = fits["0.02"].reasons
    assert "GB moved" in reason


def test_a_device_of_unknown_pace_is_held_to_no_time() -> None:
    report = cost_report(flipping(101), [profile(gflops=0.0, memory_gbs=0.0, memory_mb=10**6)])
    (fit,) = report.fits
    assert fit.fits
    assert fit.step_s is fit.round_s is fit.evaluation_s is None


def test_a_task_that_is_far_too_large_is_described_all_the_same() -> None:
    """64 channels of 1024 × 1024: more than any device takes, and still a table and no error."""
    program = honest_program()
    graph = graph_of(
        node(Operator.LINEAR, Ref(0), Ref(1), Ref(2)),
        node(Operator.UNSQUEEZE, Ref(FIRST), 2),
        node(Operator.EXPAND, Ref(FIRST + 1), (-1, -1, 2**20)),
        node(Operator.EXP, Ref(FIRST + 2)),
        node(Operator.SUM, Ref(FIRST + 3), (2,), False),
    )
    report = cost_report(replace(CALM, program=replace(program, train=graph, eval=graph)), [profile()])
    assert report.largest_value_bytes == 4 * 32 * 3 * 2**20
    assert not report.fits[0].fits
    assert "MB to train" in report.fits[0].reasons[0]


def test_an_unsound_task_is_an_error() -> None:
    with pytest.raises(TaskError, match="batch_size"):
        cost_report(replace(CALM, training=TrainingPlan(batch_size=0)))


@pytest.mark.parametrize(
    ("manifest", "warning"),
    [
        (replace(CALM, expires_at_ms=0), "it never expires"),
        (replace(CALM, training=TrainingPlan(optimiser=Optimiser(learning_rate=3.0))), "learning rate of 3 is unusual"),
        (
            replace(CALM, training=TrainingPlan(optimiser=Optimiser(name="adam", learning_rate=0.1))),
            "unusual for adam",
        ),
        (replace(CALM, training=TrainingPlan(batch_size=100)), "a batch of 100 is more than the 64 samples"),
        (replace(CALM, requirements=Requirements(memory_mb=100)), "requirements.memory_mb is 100, but training"),
        (replace(CALM, name="Three сlasses"), "mixes letters of CYRILLIC and LATIN"),
        (
            replace(
                CALM,
                program=replace(honest_program(), train=graph_of(node(Operator.LINEAR, Ref(0), Ref(1), None))),
            ),
            "never reads layer.bias",
        ),
    ],
)
def test_what_is_odd_is_warned_of(manifest: TaskManifest, warning: str) -> None:
    (found,) = cost_report(manifest, [profile()]).warnings
    assert warning in found


def test_a_model_that_takes_long_on_a_narrow_line_is_warned_of() -> None:
    program = honest_program()
    buffers = (replace(program.buffers[0], shape=(6_000_000,)),)  # as many values, and as many numbers as it takes
    weights = replace(CALM.initial_weights, num_bytes=4 * 6_000_015 + 100)
    large = replace(CALM, program=replace(program, buffers=buffers), initial_weights=weights)
    assert any("s each on a line of 20 Mbit/s" in w for w in cost_report(large, [profile()]).warnings)


# --- the command ----------------------------------------------------------------------------------


@pytest.fixture
def built(tmp_path: Path) -> Path:
    """A task's folder, as `grapevine task build` leaves it."""
    layout = ModelLayout.of(honest_program())
    weights = encode_weights(
        layout, np.zeros(layout.num_parameters, np.float32), np.zeros(layout.num_buffers, np.float32)
    )
    (tmp_path / "task.toml").write_text("[task]\n")
    draft = replace(honest_manifest(), initial_weights=reference_to(weights))
    write_built(BuiltTask(draft=draft, weights=weights), tmp_path, tmp_path / "build")
    return tmp_path


def check(*arguments: str | Path) -> Result:
    """The command alone, in this process: an error comes out as it is raised."""
    app = typer.Typer()
    check_commands.register(app)
    return CliRunner().invoke(app, list(map(str, arguments)))


def test_the_command_describes_a_folder_its_file_and_its_manifest(built: Path) -> None:
    said = [check(path, "--json") for path in (built, built / "task.toml", built / "build" / "manifest.draft")]
    assert [each.exit_code for each in said] == [0, 0, 0], said
    assert len({each.stdout for each in said}) == 1
    assert json.loads(said[0].stdout)["num_parameters"] == 15


def test_the_command_is_for_people_too_and_fails_where_nothing_fits(built: Path) -> None:
    done = check(built, "--profile", "small-board-512mb")
    assert "does not train" in done.stdout
    assert "warning: it never expires" in done.stdout
    assert isinstance(done.exception, TaskError)  # which is exit code 1
    assert str(done.exception).startswith("Three classes fits none of these profiles: small-board-512mb")


def test_the_command_says_what_is_wrong_with_a_file(built: Path) -> None:
    done = check(built / "build" / "initial.safetensors")
    assert isinstance(done.exception, TaskError)
    assert "is no manifest" in str(done.exception)


def test_the_command_hangs_under_task() -> None:
    command = [sys.executable, "-m", "grapevine_agent", "task", "check", "no-such-folder"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "no-such-folder" in done.stderr


def test_a_task_that_fits_a_larger_size_of_a_board_says_from_which_on() -> None:
    asking = replace(CALM, requirements=Requirements(memory_mb=2500))
    (fit,) = cost_report(asking, [profile()]).fits
    assert not fit.fits
    assert fit.fits_from_mb == 4096
    (fit,) = cost_report(replace(CALM, requirements=Requirements(memory_mb=9000)), [profile()]).fits
    assert (fit.fits, fit.fits_from_mb) == (False, 0)
    (fit,) = cost_report(CALM, [profile()]).fits
    assert (fit.fits, fit.fits_from_mb) == (True, 0)
