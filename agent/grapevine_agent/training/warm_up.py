"""Whatever is loaded or looked at when it is first used: have it used while that is still possible.

PyTorch's libraries read /proc and /sys to know the processor, numpy and PyTorch import parts of themselves
late, and the sandbox closes all of that. So a tiny model of our own is trained and evaluated first, by the
code that will do it with a stranger's.
"""

from __future__ import annotations

import logging

import numpy as np
import torch
from torch.nn import functional as F  # noqa: N812 — its usual name

from grapevine_agent.data.preparing import Samples
from grapevine_agent.training.local_training import LocalTrainer
from grapevine_proto.manifest import Optimiser, TrainingPlan
from grapevine_proto.program import Graph, InputSpec, Node, Operator, Program, Ref, TensorSpec

logger = logging.getLogger(__name__)


def warm_up() -> None:
    """Train a little of everything, in one thread: others are started in the sandbox.

    Where memory may not be made executable (MemoryDenyWriteExecute= of systemd), oneDNN cannot write
    its kernels, and is switched off.
    """
    torch.set_num_threads(1)
    try:
        _convolve()
    except RuntimeError:
        torch.backends.mkldnn.set_flags(False)  # type: ignore[no-untyped-call]
        logger.info("oneDNN is off, as memory may not be made executable here: convolutions take up to 4 times as long")
        _convolve()
    _train()


def _convolve() -> None:
    images, classes = torch.ones(2, 1, 8, 8), torch.zeros(2, dtype=torch.int64)
    kernels, weights = torch.ones(4, 1, 3, 3, requires_grad=True), torch.ones(3, 144, requires_grad=True)
    hidden = F.relu(F.conv2d(images, kernels)).flatten(1)
    torch.autograd.grad(F.cross_entropy(F.linear(hidden, weights), classes), [kernels, weights])


def _train() -> None:
    """One dropped-out linear layer, a step of each optimiser."""
    layer = (Ref(1), Ref(2))
    train = (
        Node(operator=Operator.DROPOUT, arguments=(Ref(0), 0.5)),
        Node(operator=Operator.LINEAR, arguments=(Ref(3), *layer)),
    )
    program = Program(
        inputs=(InputSpec(name="input", shape=(2,)),),
        parameters=(TensorSpec(name="weight", shape=(2, 2)), TensorSpec(name="bias", shape=(2,))),
        buffers=(),
        train=Graph(nodes=train, output=4),
        eval=Graph(nodes=(Node(operator=Operator.LINEAR, arguments=(Ref(0), *layer)),), output=3),
    )
    x, y = np.ones((4, 2), np.float32), np.zeros(4, np.int64)
    for optimiser in (Optimiser(name="adam", learning_rate=0.1), Optimiser(learning_rate=0.1, momentum=0.5)):
        plan = TrainingPlan(batch_size=2, optimiser=optimiser)
        trainer = LocalTrainer(program, plan, Samples(x=x, y=y, x_test=x, y_test=y))
        result = trainer.train(np.zeros(6, np.float32), np.empty(0, np.float32), 1)
        trainer.evaluate(result.parameters, result.buffers)
