"""The faster max-pooling computes what PyTorch's does, ties and gradients included."""

from __future__ import annotations

import itertools

import pytest
import torch
from tests.unit.lab.simulator.training.crowds import net_of
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from grapevine_lab.simulator.training.quick_pooling import QuickInterpreter, max_pool2d
from grapevine_proto.program import Operator
from grapevine_tasks.interpreter import Interpreter
from grapevine_tasks.layout import ModelLayout

WINDOWS = [
    ((2, 2), (2, 2), (0, 0), (1, 1), False),
    ((3, 2), (1, 2), (0, 0), (1, 1), False),
    ((3, 3), (2, 2), (1, 1), (1, 1), False),
    ((2, 2), (2, 2), (0, 0), (2, 1), False),
    ((2, 2), (2, 2), (0, 0), (1, 1), True),
    ((5, 5), (3, 3), (0, 0), (1, 1), False),
]


@pytest.mark.parametrize(("window", "size"), list(itertools.product(WINDOWS, [(8, 8), (11, 9)])))
def test_values_and_gradients_are_the_same_to_the_bit(window: tuple, size: tuple[int, int]) -> None:  # type: ignore[type-arg]
    torch.manual_seed(0)
    x = torch.randint(-2, 3, (3, 5, *size)).float()  # so few values that most windows have ties
    given, wanted = x.clone().requires_grad_(), x.clone().requires_grad_()
    pooled, expected = max_pool2d(given, *window), F.max_pool2d(wanted, *window)
    assert torch.equal(pooled, expected)
    weights = torch.randn_like(expected)
    (gradient,) = torch.autograd.grad((pooled * weights).sum(), given)
    (expected_gradient,) = torch.autograd.grad((expected * weights).sum(), wanted)
    assert torch.equal(gradient, expected_gradient)
    with torch.no_grad():
        assert torch.equal(max_pool2d(x, *window), expected)
    assert torch.equal(max_pool2d(x, *window), expected)


def test_what_is_not_finite_stays_so() -> None:
    x = torch.tensor([[[[1.0, torch.nan], [2.0, 3.0]]]])
    assert max_pool2d(x, (2, 2), (2, 2), (0, 0), (1, 1), False).isnan().all()


class _Pooled(nn.Module):
    """A ReLU that only a pooling reads, and one whose result is read twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 3, 3), nn.Conv2d(3, 3, 3, padding="same")
        self.out = nn.Linear(27, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(torch.relu(self.first(x)), 2)
        both = torch.relu(self.second(x))
        pooled = F.max_pool2d(both, 2, stride=1) + both[:, :, 1:, 1:]
        out: Tensor = self.out(F.max_pool2d(torch.relu(pooled - 1), 2, stride=1).flatten(1))
        return out


def test_a_program_runs_the_same_to_the_bit_with_relu_after_pooling() -> None:
    torch.manual_seed(0)
    given = net_of(_Pooled(), (1, 12, 12))
    layout = ModelLayout.of(given.program)
    flat = torch.from_numpy(given.model[0])
    x = torch.randint(-1, 2, (5, 1, 12, 12)).float()  # flat regions, and ties in them
    results = []
    for interpreter in (Interpreter(given.program), QuickInterpreter(given.program)):
        leaves = [flat[entry.span].view(entry.shape).clone().requires_grad_() for entry in layout.parameters]
        output, _ = interpreter.run("train", (x,), leaves, [])
        gradients = torch.autograd.grad(output.square().sum(), leaves)
        with torch.no_grad():
            results.append([output, *gradients, interpreter.run("eval", (x,), leaves, [])[0]])
    for one, other in zip(*results, strict=True):
        assert torch.equal(one, other)
    changed = [
        step.operator
        for step, quick in zip(
            Interpreter(given.program)._steps["train"], QuickInterpreter(given.program)._steps["train"], strict=True
        )
        if step.kernel is not quick.kernel
    ]
    assert sorted(changed) == [Operator.MAX_POOL2D] * 3 + [Operator.RELU] * 2
