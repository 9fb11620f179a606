"""`encodings`: what an update takes in each encoding, and how long a parameter takes to write and to read.

Weights are trained ones, since what zstd finds in random numbers says nothing: the catalogue's digits, for a few
rounds, in the task's own perceptron of 4,810 parameters and in a wider one of 250,570. Of each model the *whole* is
written, and the *change* of its last round; the ratio is to float32 of the same vector. An *update* is a base and a
change, as members send them who sum changes; the target is of its smallest form. Times are of one thread, of the wider
model.
"""

from __future__ import annotations

import importlib.util
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from grapevine_lab.bench.figures import Figure, Target, figure
from grapevine_proto.encoding import ENCODINGS, Encoding
from grapevine_proto.encodings import decode, encode

if TYPE_CHECKING:
    from grapevine_proto.messages import Vector

NAME = "encodings"
TARGET = Target(limit=1 / 7, at_most=True)  # of an update in the smallest encoding
SMALLEST = "top-k+zstd"
UPDATES = ("float16", "int8+zstd", SMALLEST)
NUM_ROUNDS = 20
NUM_REPETITIONS = 15
WIDTH = 464

WIDE_MODEL = f"""
from torch import nn

def build() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, {WIDTH}), nn.ReLU(), nn.Linear({WIDTH}, {WIDTH}), nn.ReLU(), nn.Linear({WIDTH}, 10)
    )
"""


def missing() -> str:
    """Why this machine cannot run it; empty if it can."""
    lacking = [name for name in ("torch", "sklearn") if importlib.util.find_spec(name) is None]
    return f"needs {' and '.join(lacking)}" if lacking else ""


def run(say: Callable[[str], None]) -> list[Figure]:
    """Train both models, and write what came of it in every encoding."""
    found: list[Figure] = []
    for model in (None, WIDE_MODEL):
        say("training the digits" if model is None else "training a wider perceptron")
        whole, change = trained(model)
        what = f"{whole.size:,} parameters"
        for kind, vector in (("whole", whole), ("change", change)):
            for name, encoding in ENCODINGS.items():
                if not encoding.is_whole and kind == "whole":
                    continue
                ratio = len(encode(vector, encoding)) / vector.nbytes
                found.append(figure(NAME, f"{what}, {kind}, {name}: bytes / float32", [ratio]))
        for name in UPDATES:
            ratio = update_bytes(whole - change, whole, name) / (whole.nbytes + change.nbytes)
            target = TARGET if name == SMALLEST else None
            found.append(figure(NAME, f"{what}, update, {name}: bytes / float32", [ratio], target=target))
    for name, encoding in ENCODINGS.items():
        say(name)
        for what, seconds in timed(change, encoding).items():
            found.append(figure(NAME, f"{name}: {what}", seconds, unit="ns/parameter", scale=1e9 / change.size))
    return found


def trained(model: str | None, num_rounds: int = NUM_ROUNDS) -> tuple[Vector, Vector]:
    """The digits' parameters after some rounds on all samples, and the change of the last one. None: its own model."""
    from sklearn.datasets import load_digits  # noqa: PLC0415 - heavy, as are the others

    from grapevine_agent.data.preparing import Samples  # noqa: PLC0415
    from grapevine_agent.merge.plan import check_merge_plan  # noqa: PLC0415
    from grapevine_agent.training.local_training import LocalTrainer  # noqa: PLC0415
    from grapevine_tasks.authoring.build import build_task  # noqa: PLC0415
    from grapevine_tasks.catalogue import catalogue_task  # noqa: PLC0415
    from grapevine_tasks.layout import ModelLayout  # noqa: PLC0415
    from grapevine_tasks.weights import decode_weights  # noqa: PLC0415

    with tempfile.TemporaryDirectory(prefix="grapevine-bench-") as folder:
        source = catalogue_task("digits")
        if model is not None:
            own = Path(folder) / "task"
            own.mkdir()
            (own / "task.toml").write_bytes((source / "task.toml").read_bytes())
            (own / "model.py").write_text(model, encoding="utf-8")
            source = own
        built = build_task(source, check_merging=check_merge_plan, into=Path(folder) / "built")
    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype(np.float32).reshape(-1, 8, 8)
    samples = Samples(x=x[:1_400], y=y[:1_400].astype(np.int64), x_test=x[1_400:], y_test=y[1_400:].astype(np.int64))
    trainer = LocalTrainer(built.draft.program, built.draft.training, samples, seed=0, num_threads=1)
    parameters, buffers = decode_weights(ModelLayout.of(built.draft.program), built.weights)
    before = parameters
    for _ in range(num_rounds):
        before = parameters
        result = trainer.train(parameters, buffers, built.draft.training.steps_per_round)
        parameters, buffers = result.parameters, result.buffers
    return parameters, parameters - before


def update_bytes(base: Vector, model: Vector, name: str) -> int:
    """What base and change since take where members sum changes, and their task allows this encoding."""
    from grapevine_agent.core.learning.encodings import Encodings  # noqa: PLC0415 - as above
    from grapevine_proto.manifest import MergePlan  # noqa: PLC0415

    chosen = Encodings.of(MergePlan(strategy="delta-sum", encodings=("float32", name)))
    sent = encode(base, chosen.base, steps=chosen.base_steps)
    return len(sent) + len(encode(model - decode(sent, base.size, chosen.base), chosen.change))


def timed(vector: Vector, encoding: Encoding) -> Mapping[str, list[float]]:
    """Seconds to write the vector, and to read it."""
    content = encode(vector, encoding)
    seconds: dict[str, list[float]] = {"encode": [], "decode": []}
    for _ in range(NUM_REPETITIONS):
        started_s = time.perf_counter()
        encode(vector, encoding)
        written_s = time.perf_counter()
        decode(content, vector.size, encoding)
        seconds["encode"].append(written_s - started_s)
        seconds["decode"].append(time.perf_counter() - written_s)
    return seconds
