"""PyTorch's libraries look at the processor when they are first used: have them do it while they still can.

They read /proc and /sys for it, and the sandbox closes both. What is computed here is our own.
"""

from __future__ import annotations

import logging

import torch
from torch.nn import functional as F  # noqa: N812 — its usual name

logger = logging.getLogger(__name__)


def warm_up() -> None:
    """Take one step of a tiny network, in one thread: others are started in the sandbox.

    Where memory may not be made executable (MemoryDenyWriteExecute= of systemd), oneDNN cannot write
    its kernels, and is switched off.
    """
    torch.set_num_threads(1)
    try:
        _step()
    except RuntimeError:
        torch.backends.mkldnn.set_flags(False)  # type: ignore[no-untyped-call]
        logger.info("oneDNN is off, as memory may not be made executable here: convolutions take up to 4 times as long")
        _step()


def _step() -> None:
    images, classes = torch.ones(2, 1, 8, 8), torch.zeros(2, dtype=torch.int64)
    kernels, weights = torch.ones(4, 1, 3, 3, requires_grad=True), torch.ones(3, 144, requires_grad=True)
    hidden = F.relu(F.conv2d(images, kernels)).flatten(1)
    torch.autograd.grad(F.cross_entropy(F.linear(hidden, weights), classes), [kernels, weights])
