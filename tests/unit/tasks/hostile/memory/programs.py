"""Random legal programs over all operators, large enough to be measured: a seed gives one, always the same."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from tests.unit.tasks.hostile.memory.draft import Draft, is_fixed
from tests.unit.tasks.hostile.memory.layers import LAYERS
from tests.unit.tasks.hostile.memory.proposals import PROPOSALS

from grapevine_proto.errors import TaskError
from grapevine_proto.manifest import Optimiser, TrainingPlan
from grapevine_proto.program import Operator, Program, Ref
from grapevine_tasks.checks import EVALUATION_BATCH, check_program
from grapevine_tasks.checks.report import TO_LOOK_AT
from grapevine_tasks.opset import RULES
from grapevine_tasks.sizes import BATCH

ALL_PROPOSALS = {**PROPOSALS, **LAYERS}
MOST_ATTEMPTS = 8
MOST_DRAFTS = 50
LIMITS = replace(TO_LOOK_AT, num_nodes=2**62)
MOST_BYTES = 120 * 2**20  # of all values of a draft
SHAPES = ((64,), (3, 32), (16, 24), (50, 8), (1, 28, 28), (3, 16, 16), (8, 12, 12), (2, 6, 8, 8), (400, 2))
OPTIMISERS = (
    Optimiser(learning_rate=1e-6),
    Optimiser(learning_rate=1e-6, momentum=0.9, weight_decay=0.01),
    Optimiser(name="adam", learning_rate=1e-9, weight_decay=0.01),
)


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A program, and all that its memory may depend on."""

    seed: int
    program: Program
    plan: TrainingPlan
    target_shape: tuple[int, ...]
    with_onednn: bool
    num_threads: int

    @property
    def operators(self) -> tuple[str, ...]:
        """The names of what it computes, in order."""
        return tuple(node.operator.name for node in self.program.train.nodes)


def trial(seed: int) -> Trial:
    """The trial of this seed: the first of its drafts that the checks take."""
    for number in range(MOST_DRAFTS):
        drafted = _draft(seed, random.Random(f"{seed}.{number}" if number else seed))
        try:
            check_program(drafted.program, replace(LIMITS, largest_batch=drafted.plan.batch_size))
        except TaskError:  # legal node by node, and refused as a whole: no gradient arrives, say
            continue
        return drafted
    raise AssertionError(f"seed {seed}: {MOST_DRAFTS} drafts were refused")


def _draft(seed: int, rng: random.Random) -> Trial:
    """A batch, a program and a plan."""
    batch = rng.choice((1, 8, 32, 128, 256, 256, 400))
    draft = _begun(rng, batch)
    for _ in range(rng.choice((1, 2, 4, 8, 16))):
        operator = rng.choice(list(RULES))
        for _ in range(rng.choice((1, 1, 1, 4))):
            _grow(draft, operator)
        if draft.num_bytes > MOST_BYTES:
            break
    for value in rng.sample(draft.made, min(len(draft.made), 2)):
        if is_fixed(draft.type_of(value).shape) and draft.type_of(value).dtype == "float32" and rng.random() < 0.5:
            draft.update(Ref(value))
    output = _output(draft)
    loss, metric, target = _plan(draft, output)
    plan = TrainingPlan(
        optimiser=rng.choice(OPTIMISERS),
        loss=loss,
        metric=metric,
        batch_size=batch,
        steps_per_round=2,
        max_gradient_norm=rng.choice((0.0, 1.0)),
    )
    return Trial(
        seed=seed,
        program=draft.finished(output),
        plan=plan,
        target_shape=target,
        with_onednn=rng.random() < 0.7,
        num_threads=1 if rng.random() < 0.8 else 2,
    )


def _begun(rng: random.Random, batch: int) -> Draft:
    """An input, and a learned value of its size to go on from."""
    shape = rng.choice(SHAPES)
    widest = rng.choice((2**21, 2**22, 2**22)) // (4 * max(batch, EVALUATION_BATCH))
    per_sample = 1
    for side in shape:
        per_sample *= side
    wider = max(1, rng.choice((widest, widest, widest // 4)) // per_sample)
    features = (wider * shape[0], *shape[1:])
    integers = rng.random() < 0.1
    draft = Draft(rng, features, dtype="int64" if integers else "float32", batch=batch)
    x = draft.put(Operator.TO_FLOAT32, Ref(0)) if integers else Ref(0)
    draft.put(Operator.MUL, x, draft.parameter(*(() if rng.random() < 0.5 else (features[-1],))))
    return draft


def _grow(draft: Draft, operator: Operator) -> None:
    for _ in range(MOST_ATTEMPTS):
        try:
            first = draft.put(operator, *ALL_PROPOSALS[operator.name](draft, draft.rng))
        except TaskError:
            continue
        if operator is Operator.BATCH_NORM_TRAIN:
            for result in (1, 2):
                draft.update(Ref(first.value + result))
        return


def _output(draft: Draft) -> Ref:
    """A late value as it is, or small; with what is left of other values added, so that gradients reach them."""
    rng = draft.rng
    if rng.random() < 0.15:
        draft.put(Operator.MUL, Ref(draft.made[1] if draft.type_of(0).dtype == "int64" else 0), draft.parameter(1))
    late = [v for v in reversed(draft.made) if v in draft.learns and draft.type_of(v).dtype == "float32"]
    fitting = [v for v in late if draft.type_of(v).shape[:1] == (BATCH,) and is_fixed(draft.type_of(v).shape[1:]) and v]
    output = Ref(fitting[0] if rng.random() < 0.3 else rng.choice(fitting[:3]))
    if rng.random() < 0.7 and len(draft.type_of(output.value).shape) > 1:
        flat = draft.reshaped(output, 2)
        output = draft.put(Operator.MEAN, flat, (1,), True)
        if rng.random() < 0.5:
            output = draft.put(Operator.LINEAR, output, draft.parameter(10, 1), None)
    for value in late[: rng.randint(0, 4)]:
        rank = len(draft.type_of(value).shape)
        left = draft.put(Operator.MEAN, Ref(value), tuple(range(rank)), False) if rank else Ref(value)
        output = draft.put(Operator.ADD, output, left)
    return output


def _plan(draft: Draft, output: Ref) -> tuple[str, str, tuple[int, ...]]:
    """A loss and a metric that go with the output, and the shape of a target; () with cross-entropy: a class."""
    shape = tuple(size or 0 for size in draft.numbers(output)[1:])
    choices = [("mse", "mae"), ("l1", "mse"), ("huber", "rmse"), ("smooth-l1", "mse")]
    choices.append(("binary-cross-entropy", "binary-accuracy"))
    if len(shape) == 1 and shape[0] >= 6:
        choices += 2 * [("cross-entropy", "top-5-accuracy"), ("cross-entropy", "accuracy"), ("elbo", "mse")]
    loss, metric = draft.rng.choice(choices)
    if loss == "elbo":
        latent = draft.rng.choice((1, (shape[0] - 1) // 2))
        return loss, metric, (shape[0] - 2 * latent,)
    return loss, metric, () if loss == "cross-entropy" else shape
