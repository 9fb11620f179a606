"""`merge_bandwidth`: how near a merge comes to the speed at which this machine copies memory.

Conventions. The raw limit is `np.copyto` between two arrays of one model's size, both of them written
before: it touches each byte twice, once to read and once to write. A merge of n models at once touches
n + 1 of them: it reads each once and writes one. The pairwise strategy merges what is received one by
one, each of n - 1 merges reading two models and writing one.

The result of a merge is new memory, which the kernel clears first; a copy into new memory, `.copy()`,
pays for that too, and is shown beside the other.

A device merges what is so large in two halves at once (`service/beside`), and so it is here; beside it stands what
one thread does. Copies run in one. Ages differ, so that every weight does.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext

import numpy as np
import psutil

from grapevine_agent.core.settings import CoreSettings
from grapevine_agent.merge import STRATEGIES, Context, Merged, Voice
from grapevine_agent.merge.halves import two_at_once
from grapevine_agent.service.beside import run_both
from grapevine_lab.bench.figures import Figure, Target, bandwidth_share, figure
from grapevine_proto.messages import Vector

NAME = "merge_bandwidth"
WHAT = "doubly-weighted, 8 at once / copy"
TARGET = Target(limit=0.75, at_most=False)
NUM_MODELS = 8
NUM_PARAMETERS = 25_000_000
NUM_REPETITIONS = 15
COPIES_PER_REPETITION = 5  # about as long as one merge: whatever else this machine does disturbs both alike
COPY_TOUCHES = 2
COPY_NEW = "copy into new memory"
ONE_THREAD = "doubly-weighted, 8 at once, one thread"
AGE_STEP = 100


def missing(num_held: int = NUM_MODELS + 3) -> str:
    """Why this machine cannot hold so many models; empty if it can."""
    needed = num_held * NUM_PARAMETERS * np.dtype(np.float32).itemsize
    available = psutil.virtual_memory().available
    if available > needed * 1.2:
        return ""
    return f"needs {needed * 1.2 / 1e9:.1f} GB of free memory, {available / 1e9:.1f} GB are free"


def run(say: Callable[[str], None]) -> list[Figure]:
    """Measure both strategies against copying."""
    say(f"{NUM_MODELS} models of {NUM_PARAMETERS:,} parameters, merged {NUM_REPETITIONS} times")
    rng = np.random.default_rng(0)
    voices = [
        Voice(
            peer=f"peer-{k}",
            parameters=rng.standard_normal(NUM_PARAMETERS, dtype=np.float32),
            buffers=np.empty(0, np.float32),
            age=AGE_STEP * (k + 1),
        )
        for k in range(NUM_MODELS)
    ]
    model = voices[0].parameters
    copy = model.copy()
    steps: dict[str, tuple[int, Callable[[], object]]] = {
        COPY_NEW: (COPY_TOUCHES * model.nbytes, model.copy),
        "doubly-weighted": ((NUM_MODELS + 1) * model.nbytes, lambda: _merge("doubly-weighted", voices)),
        "age-weighted": ((NUM_MODELS - 1) * 3 * model.nbytes, lambda: _merge("age-weighted", voices)),
        ONE_THREAD: ((NUM_MODELS + 1) * model.nbytes, lambda: _merge("doubly-weighted", voices, threads=1)),
    }
    ratios: dict[str, list[float]] = {name: [] for name in steps}
    copies: list[float] = []
    for repetition in range(NUM_REPETITIONS + 1):  # the first warms up
        for name, (num_bytes, step) in steps.items():
            copy_s = _seconds(lambda: _copy_often(copy, model)) / COPIES_PER_REPETITION
            step_s = _seconds(step)
            if repetition:
                copies.append(COPY_TOUCHES * model.nbytes / copy_s)
                ratios[name].append(bandwidth_share(num_bytes, step_s, COPY_TOUCHES * model.nbytes, copy_s))
    return [
        figure(NAME, WHAT, ratios["doubly-weighted"], target=TARGET),
        figure(NAME, "age-weighted, 7 one by one / copy", ratios["age-weighted"]),
        figure(NAME, f"{ONE_THREAD} / copy", ratios[ONE_THREAD]),
        figure(NAME, "copy into new memory / copy", ratios[COPY_NEW]),
        figure(NAME, "copy: bytes read and written", copies, unit="GB/s", scale=1e-9),
    ]


def _copy_often(into: Vector, model: Vector) -> None:
    for _ in range(COPIES_PER_REPETITION):
        np.copyto(into, model)


def _merge(name: str, voices: list[Voice], *, threads: int = 2) -> Merged:
    local, *received = voices
    strategy = STRATEGIES[name]
    context = Context(constants=strategy.with_defaults({}), max_share=CoreSettings.max_share)
    with two_at_once(run_both) if threads > 1 else nullcontext():
        return strategy.merge(local=local, received=received, context=context)


def _seconds(work: Callable[[], object]) -> float:
    started_s = time.perf_counter()
    result = work()
    elapsed_s = time.perf_counter() - started_s
    del result  # giving its memory back is not part of a merge
    return elapsed_s
