"""How much memory a trial really takes, in a process of its own: the kernel's high-water mark.

The mark is honest about everything: PyTorch's blocks, what kernels, oneDNN and MKL take beside them, nodes of
autograd, small objects. A trial is forked from a parent that has PyTorch loaded and warmed up as a trainer
process has. Before its baseline it maps in every file-backed page (`MADV_POPULATE_READ`), since code that is
paged in is no memory that the program takes; glibc is told to map every block of 128 kB by itself, which gives
it back to the kernel as it is freed: resident is then what is in use (docs/decisions/0022). Then the kernel's mark is
set back (`5` into /proc/self/clear_refs), the device's trainer takes a round of two steps, so that what the first
leaves is there in the second, and evaluates; models go through shared memory, as in a trainer process.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tests.unit.tasks.hostile.memory.programs import Trial

from grapevine_agent.data.preparing import Samples
from grapevine_agent.training.local_training import LocalTrainer
from grapevine_agent.training.shared_vectors import SharedVectors
from grapevine_agent.training.warm_up import warm_up
from grapevine_proto.errors import TaskError
from grapevine_tasks.checks import EVALUATION_BATCH
from grapevine_tasks.layout import ModelLayout

M_MMAP_THRESHOLD, PROMPT_BYTES = -3, 128 * 1024
MADV_POPULATE_READ = 22
LONGEST_S = 120
_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What a trial took."""

    num_bytes: int = 0  # beyond the baseline
    seconds: float = 0.0
    error: str = ""  # for which it did not run to its end; diverging is none


def prepare() -> None:
    """Make this process one that trials can be forked from: one thread, all loaded, nothing held back."""
    _LIBC.mallopt(M_MMAP_THRESHOLD, PROMPT_BYTES)
    warm_up()


def measure(trial: Trial) -> Measured:
    """Run a trial in a child of this process, which `prepare` must have seen."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.close(reader)
        with suppress(BaseException), os.fdopen(writer, "w") as answer:
            signal.alarm(LONGEST_S)
            try:
                found = _run(trial)
            except Exception as error:
                found = {"error": f"{type(error).__name__}: {error}"[:300]}
            answer.write(json.dumps(found))
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        text = answer.read()
    _, status = os.waitpid(child, 0)
    if not text:
        return Measured(error=f"ended by {status}, after {LONGEST_S} s at the latest")
    return Measured(**json.loads(text))


def _run(trial: Trial) -> dict[str, int | float | str]:
    torch.backends.mkldnn.set_flags(trial.with_onednn)  # type: ignore[no-untyped-call]
    torch.set_num_threads(trial.num_threads)
    samples = _samples(trial)
    gc.collect()
    _map_files_in()
    began = time.monotonic()
    baseline = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    error = _train_and_evaluate(trial, samples)
    return {"num_bytes": _status("VmHWM") - baseline, "seconds": time.monotonic() - began, "error": error}


def _train_and_evaluate(trial: Trial, samples: Samples) -> str:
    trainer = LocalTrainer(trial.program, trial.plan, samples)
    layout = ModelLayout.of(trial.program)
    memory = SharedVectors.create(layout.num_parameters, layout.num_buffers)
    rng = np.random.default_rng(1)

    for number in range(2):
        parameters = rng.standard_normal(layout.num_parameters, dtype=np.float32)
        parameters *= 0.1
        memory.write(number, parameters, np.full(layout.num_buffers, 0.5, np.float32))
        del parameters

    def train() -> None:
        result = trainer.train(*memory.read(0), trial.plan.steps_per_round)
        memory.write(0, result.parameters, result.buffers)

    attempts: tuple[Callable[[], object], ...] = (train, lambda: trainer.evaluate(*memory.read(1)))
    errors = []
    for attempt in attempts:
        try:
            attempt()
        except TaskError as error:
            if "training diverged" not in str(error):  # it is found after the last step: all memory was taken
                errors.append(str(error)[:300])
    return "; ".join(errors)


def _samples(trial: Trial) -> Samples:
    rng = np.random.default_rng(trial.seed)
    feature = trial.program.inputs[0]
    number = max(trial.plan.batch_size, EVALUATION_BATCH)
    shape = (number, *feature.shape)
    x = rng.random(shape, dtype=np.float32) if feature.dtype == "float32" else rng.integers(0, 3, shape)
    if trial.plan.loss == "cross-entropy":
        y = rng.integers(0, 2, number)
    else:
        y = rng.integers(0, 2, (number, *trial.target_shape)).astype(np.float32)
    return Samples(x=x, y=y, x_test=x[:EVALUATION_BATCH], y_test=y[:EVALUATION_BATCH])


def _map_files_in() -> None:
    for line in Path("/proc/self/maps").read_text().splitlines():
        fields = line.split()
        if len(fields) > 5 and fields[5].startswith("/") and fields[1][0] == "r":
            begin, end = (int(each, 16) for each in fields[0].split("-"))
            _LIBC.madvise(begin, end - begin, MADV_POPULATE_READ)


def _status(name: str) -> int:
    """A field of /proc/self/status, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name + ":"))
