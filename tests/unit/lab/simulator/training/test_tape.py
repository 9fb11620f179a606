"""What a tape finds is what autograd finds."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from tests.unit.lab.simulator.training.crowds import SEED, asks, crowd, devices, fine, net, net_of
from torch import Tensor, nn

from grapevine_agent.training.losses import each_loss
from grapevine_lab.simulator.training import make_trainer
from grapevine_lab.simulator.training.row_losses import by_rows, row_slopes
from grapevine_lab.simulator.training.stacked import why_no_tape
from grapevine_lab.simulator.training.stacked_interpreter import StackedInterpreter
from grapevine_lab.simulator.training.tape import IntoGradient, OntoParameters, Tape
from grapevine_proto.errors import TaskError
from grapevine_proto.manifest import Optimiser, TrainingPlan
from grapevine_tasks.layout import ModelLayout

NUM_MODELS = 3


class _Twice(nn.Module):
    """A layer that is applied twice."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.out = nn.Linear(6, 6), nn.Linear(6, 3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.out(torch.tanh(self.layer(torch.sigmoid(self.layer(x)))))
        return out


class _Unread(nn.Module):
    """A value that two operators read, and a layer whose result nobody reads."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.idle = nn.Linear(6, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        found = nn.functional.silu(self.layer(x))
        self.idle(found)
        return -nn.functional.elu(found)


NETWORKS: list[tuple[Callable[[], nn.Module], tuple[int, ...], int]] = [
    (_Twice, (6,), 5),
    (_Unread, (6,), 5),
    (lambda: nn.Sequential(nn.Linear(6, 9), nn.LeakyReLU(0.1), nn.Linear(9, 2)), (6,), 40),
    (lambda: nn.Sequential(nn.Linear(6, 9, bias=False), nn.ReLU(), nn.Linear(9, 2)), (4, 6), 7),
    (lambda: nn.Sequential(nn.Linear(6, 9, bias=False), nn.BatchNorm1d(9), nn.ReLU(), nn.Linear(9, 2)), (6,), 7),
    (
        lambda: nn.Sequential(
            *(nn.Conv2d(2, 4, 3, padding="same"), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(4, 4, 3, stride=2, groups=2, bias=False), nn.BatchNorm2d(4, affine=False), nn.ReLU()),
            *(nn.MaxPool2d(3, stride=1, padding=1), nn.Flatten(), nn.Linear(36, 3)),
        ),
        (2, 14, 14),
        5,
    ),
]


@pytest.mark.parametrize(("module", "shape", "batch"), NETWORKS)
def test_gradients_are_those_of_autograd(module: Callable[[], nn.Module], shape: tuple[int, ...], batch: int) -> None:
    torch.manual_seed(2)
    program = net_of(module(), shape).program
    layout = ModelLayout.of(program)
    leaves = [torch.randn(NUM_MODELS, *entry.shape).requires_grad_() for entry in layout.parameters]
    buffers = [torch.rand(NUM_MODELS, *entry.shape) for entry in layout.buffers]
    interpreter = StackedInterpreter(program, stacked_inputs=True)
    tape = Tape(interpreter)
    into = [torch.zeros_like(leaf) for leaf in leaves]
    sinks = [IntoGradient(view) for view in into]
    for _ in range(2):  # the second in the place of the first
        x = torch.randn(NUM_MODELS, batch, *shape)
        expected, expected_buffers = interpreter.run("train", (x,), leaves, buffers)
        slopes = torch.randn_like(expected)
        wanted = torch.autograd.grad(expected, leaves, slopes, allow_unused=True, materialize_grads=True)
        with torch.no_grad():
            output, updated = tape.forward((x,), leaves, buffers)
            for sink in sinks:
                sink.begin()
            tape.backward(slopes, sinks)
        for one, other in zip([output, *updated, *into], [expected, *expected_buffers, *wanted], strict=True):
            torch.testing.assert_close(one, other.detach(), atol=1e-5, rtol=1e-4)


def test_plain_descent_puts_gradients_onto_parameters() -> None:
    given = net("mlp")
    layout = ModelLayout.of(given.program)
    leaves = [torch.randn(NUM_MODELS, *entry.shape) for entry in layout.parameters]
    before = [leaf.clone() for leaf in leaves]
    tape = Tape(StackedInterpreter(given.program, stacked_inputs=True))
    into = [torch.zeros_like(leaf) for leaf in leaves]
    x = torch.randn(NUM_MODELS, 20, *given.shape)
    output, _ = tape.forward((x,), leaves, [])
    tape.backward(output.square(), [IntoGradient(view) for view in into])
    again, _ = tape.forward((x,), leaves, [])
    tape.backward(again.square(), [OntoParameters(leaf) for leaf in leaves])
    for leaf, old, gradient in zip(leaves, before, into, strict=True):
        torch.testing.assert_close(leaf, old + gradient)


@pytest.mark.parametrize("loss", ["cross-entropy", "mse", "binary-cross-entropy"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_slopes_are_the_gradient_of_the_weighted_losses(loss: str, smoothing: float) -> None:
    constants = {"label_smoothing": smoothing} if loss == "cross-entropy" else {}
    plan = TrainingPlan(optimiser=Optimiser(learning_rate=0.1), loss=loss, loss_constants=constants, batch_size=4)
    output = torch.randn(NUM_MODELS, 4, 5).requires_grad_()
    target = torch.randint(0, 5, (NUM_MODELS, 4)) if loss == "cross-entropy" else torch.rand(NUM_MODELS, 4, 5)
    weights = torch.tensor([1.0, -0.5, 0.0])
    wanted = by_rows(each_loss(plan))(output, target)
    losses, slopes = row_slopes(plan)(output.detach(), target, weights)
    torch.testing.assert_close(losses, wanted.detach())
    torch.testing.assert_close(slopes, torch.autograd.grad((wanted * weights).sum(), output)[0])


@pytest.mark.parametrize(
    "optimiser", [Optimiser(learning_rate=0.05), Optimiser(name="adam", learning_rate=0.01)], ids=["sgd", "adam"]
)
@pytest.mark.parametrize("module", [_Twice, _Unread])
def test_nodes_agree_with_devices_when_a_layer_is_read_twice_or_never(
    module: Callable[[], nn.Module], optimiser: Optimiser
) -> None:
    given, samples = net_of(module(), (6,)), crowd((6,), NUM_MODELS)
    plan = TrainingPlan(optimiser=optimiser, batch_size=8)
    for own in samples:
        own.y[:] = np.minimum(own.y, 2)
    trainer = make_trainer(given.program, plan, samples, seed=SEED, num_workers=1, how="stacked")
    results = trainer.train(asks(dict.fromkeys(range(NUM_MODELS), given.model), 5))
    for result, device in zip(results, devices(given.program, plan, samples), strict=True):
        expected = device.train(*given.model, 5)
        np.testing.assert_allclose(fine(result).parameters, expected.parameters, atol=1e-5)
        assert fine(result).loss == pytest.approx(expected.loss, abs=1e-5)


def test_what_has_no_rule_is_told() -> None:
    program = net_of(nn.Sequential(nn.Linear(4, 4), nn.Softmax(dim=1)), (4,)).program
    assert why_no_tape(program) == "SOFTMAX has no rule"
    with pytest.raises(TaskError, match="SOFTMAX"):
        Tape(StackedInterpreter(program, stacked_inputs=True))
    assert why_no_tape(net("cnn").program) == ""
