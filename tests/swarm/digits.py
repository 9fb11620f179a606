"""The catalogue's digits, cut up so that no agent can learn them alone."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from tests.figures import loss_of, metric_of
from tests.swarm.world import Trained, Trainer

from grapevine_agent.data.preparing import Samples
from grapevine_agent.merge.plan import check_merge_plan
from grapevine_agent.training.local_training import LocalTrainer
from grapevine_proto.manifest import TaskManifest
from grapevine_proto.messages import Vector
from grapevine_tasks.authoring.build import build_task
from grapevine_tasks.built import BuiltTask
from grapevine_tasks.catalogue import catalogue_task


@cache
def built_digits() -> BuiltTask:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        return build_task(catalogue_task("digits"), check_merging=check_merge_plan, into=Path(folder))


@cache
def _all_digits() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Read and put in order once: each agent's samples are copies."""
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    return (x[order] / 16).astype(np.float32).reshape(-1, 8, 8), y[order].astype(np.int64)


def samples_of(agent: int, num_classes: int = 4) -> Samples:
    """Agent k holds classes 2k … 2k+3 (mod 10) of the training part; the test part is everybody's."""
    x, y = _all_digits()
    num_train = int(0.8 * len(x))
    own = np.isin(y[:num_train], [(2 * agent + i) % 10 for i in range(num_classes)])
    return Samples(x=x[:num_train][own], y=y[:num_train][own], x_test=x[num_train:], y_test=y[num_train:])


class DigitsTrainer(Trainer):
    """Trains for real, in this process."""

    def __init__(self, manifest: TaskManifest, samples: Samples, seed: int) -> None:
        self._local = LocalTrainer(manifest.program, manifest.training, samples, seed=seed, num_threads=1)
        self.dataset_size = self._local.num_samples

    def train(self, parameters: Vector, buffers: Vector, num_steps: int) -> Trained:
        result = self._local.train(parameters, buffers, num_steps)
        return result.parameters, result.buffers, result.loss, result.num_samples

    def evaluate(self, parameters: Vector, buffers: Vector) -> tuple[float, float, int]:
        found = self._local.evaluate(parameters, buffers)
        return loss_of(found), metric_of(found), found.num_samples


def digits_manifest(publisher: str, *, created_at_ms: int, num_rounds: int = 0, **merging: object) -> TaskManifest:
    """The built task as `publisher` would publish it, at a faster pace, with changes to its merge plan."""
    draft = built_digits().draft
    plan = replace(draft.merging, **merging)  # type: ignore[arg-type]
    optimiser = replace(draft.training.optimiser, learning_rate=0.5)
    training = replace(draft.training, round_interval_s=0.25, num_rounds=num_rounds, optimiser=optimiser)
    return replace(
        draft, publisher=publisher, created_at_ms=created_at_ms, expires_at_ms=0, training=training, merging=plan
    )


Labels = NDArray[np.int64]
