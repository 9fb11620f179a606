"""`training_step`: a training step of a small CNN from a program, against eager PyTorch.

A step is forward, loss and gradients, with the same weights and the same batch; both take turns, which comes first
changes from pair to pair, and a ratio is of one pair. In one thread. Other models: `python -m grapevine_lab.coverage`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from grapevine_lab.bench.figures import Figure, Target, figure

NAME: Final = "training_step"
MODEL: Final = "CNN with batch norm and dropout"
WHAT: Final = f"{MODEL}: eager PyTorch's time / a program's"
TARGET: Final = Target(limit=0.95, at_most=False)
SECONDS: Final = 15.0


def missing() -> str:
    """Nothing that this needs can be missing."""
    return ""


def run(say: Callable[[str], None]) -> Sequence[Figure]:
    """Measure it; about twenty seconds."""
    import torch  # noqa: PLC0415 - in the process of this benchmark alone

    from grapevine_lab.coverage.measure import cover  # noqa: PLC0415
    from grapevine_lab.coverage.models import MODELS  # noqa: PLC0415

    torch.set_num_threads(1)
    say(f"steps of {MODEL}, both ways in turn, for {SECONDS:g} s")
    return [figure(NAME, WHAT, cover(MODELS[MODEL], seconds=SECONDS).pairs, target=TARGET)]
