"""What is built is the engineer's module, gradients and buffers included, or building says which line is not."""

# mypy: disable-error-code="no-untyped-call, operator, index, no-any-return, assignment, arg-type, unused-ignore"
from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm

from grapevine_proto.errors import TaskError
from grapevine_proto.program import Operator, Program
from grapevine_tasks.authoring.export import build_program, capture
from grapevine_tasks.authoring.faithful import check_faithful
from grapevine_tasks.authoring.places import Origins
from grapevine_tasks.interpreter import Interpreter

X = torch.zeros(3, 4)


class Net(nn.Module):
    """4 numbers ▶ a ▶ 8 numbers ▶ b ▶ 3 numbers, with a function of both layers for forward()."""

    def __init__(self, function: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.a, self.b, self.function = nn.Linear(4, 8), nn.Linear(8, 3), function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


class Sign(torch.autograd.Function):
    """The sign, with the gradient of x."""

    @staticmethod
    def forward(_context: Any, x: Tensor) -> Tensor:
        return torch.sign(x)

    @staticmethod
    def backward(_context: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        return gradient


class Reversed(torch.autograd.Function):
    """x, with its gradient reversed."""

    @staticmethod
    def forward(_context: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(_context: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        return -gradient


class Shortened(torch.autograd.Function):
    """x, with a gradient that is cut off at 10."""

    @staticmethod
    def forward(_context: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(_context: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        return gradient.clamp(-10, 10)


class Swish(torch.autograd.Function):
    """x · sigmoid(x), with its own gradient written by hand to keep less."""

    @staticmethod
    def forward(context: Any, x: Tensor) -> Tensor:
        context.save_for_backward(x)
        return x * torch.sigmoid(x)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        (x,) = context.saved_tensors
        s = torch.sigmoid(x)
        return gradient * s * (1 + x * (1 - s))


def _halved(net: Any, x: Tensor) -> Tensor:
    y = net.a(x)
    if y.requires_grad:
        y.register_hook(lambda gradient: 0.5 * gradient)
    return net.b(y)  # type: ignore[no-any-return]


def _hooked_layer() -> nn.Module:
    net = Net(lambda net, x: net.b(net.a(x)))
    net.b.register_full_backward_hook(lambda _module, given, _got: (2 * given[0],))
    return net


def _hooked_parameter() -> nn.Module:
    net = Net(lambda net, x: net.b(net.a(x)))
    net.a.weight.register_hook(lambda gradient: 2 * gradient)
    return net


def _hooked_later() -> nn.Module:
    net = Net(lambda net, x: net.b(net.a(x)))
    net.a.weight.register_post_accumulate_grad_hook(lambda parameter: None)
    return net


def _hidden_by_zeros() -> nn.Module:
    net = Net(lambda net, x: net.b(Sign.apply(net.a(x))))
    nn.init.zeros_(net.b.weight)
    return net


class Counting(Net):
    """Divides by how often it was called."""

    def __init__(self) -> None:
        super().__init__(lambda net, x: net.b(net.a(x)))
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return super().forward(x) / self.calls


class Replacing(Net):
    """A running mean that is put in the place of the buffer's numbers."""

    def __init__(self) -> None:
        super().__init__(lambda net, x: net.b(net.a(x)))
        self.register_buffer("mean", torch.zeros(8))

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x)
        if self.training:
            self.mean.data = 0.9 * self.mean + 0.1 * y.detach().mean(0)
        output: Tensor = self.b(y - self.mean)
        return output


class OwnGenerator(Net):
    """Draws from a generator that is its own."""

    def __init__(self, generator: np.random.Generator | random.Random) -> None:
        super().__init__(lambda net, x: net.b(net.a(x)))
        self.generator = generator

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * float(self.generator.random())


def _sometimes_twice(net: Any, x: Tensor) -> Tensor:
    y: Tensor = net.b(net.a(x))
    return 2 * y if random.random() < 0.5 else y


OTHERS: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "a straight-through function": (lambda: Net(lambda n, x: n.b(Sign.apply(n.a(x)))), r"'a\..* Sign has a backward"),
    "a reversed gradient": (lambda: Net(lambda n, x: n.b(Reversed.apply(n.a(x)))), "Reversed has a backward"),
    "a gradient cut off where it is large": (lambda: Net(lambda n, x: n.b(Shortened.apply(n.a(x)))), "Shortened has a"),
    "behind a layer that begins at zero": (_hidden_by_zeros, "Sign has a backward"),
    "a hook on a tensor": (lambda: Net(_halved), "hook changes the gradient of a tensor"),
    "a hook on a layer": (_hooked_layer, "hook changes the gradients of a layer"),
    "a hook on a parameter": (_hooked_parameter, r"'a.weight' has a hook .*max_gradient_norm"),
    "a hook behind a parameter": (_hooked_later, r"'a.weight' has a hook"),
    "a checkpoint of the old kind": (
        lambda: Net(
            lambda n, x: n.b(torch.utils.checkpoint.checkpoint(lambda y: y.tanh(), n.a(x), use_reentrant=True))
        ),
        "write use_reentrant=False",
    ),
    "a counter": (Counting, r"attribute 'calls', and .*register_buffer"),
    "a buffer whose numbers are replaced": (Replacing, r"buffer 'mean' .*in place"),
    "Python's random": (lambda: Net(_sometimes_twice), "draw with torch.rand_like"),
    "NumPy's random": (
        lambda: Net(lambda n, x: n.b(n.a(x)) * float(np.random.rand())),
        "draw with torch.rand_like",
    ),
    "a generator of its own": (lambda: OwnGenerator(np.random.default_rng(0)), "draw with torch.rand_like"),
    "one of Python's of its own": (lambda: OwnGenerator(random.Random(0)), "draw with torch.rand_like"),
    "other numbers without gradients": (
        lambda: Net(lambda n, x: n.b(n.a(x)) * (1 if torch.is_grad_enabled() else 2)),
        "without gradients .*is_grad_enabled",
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_module_that_would_be_another_function_is_refused_with_the_way_out(name: str) -> None:
    make, words = OTHERS[name]
    torch.manual_seed(0)
    origins = Origins()
    with origins.noted():
        module = make()
    with pytest.raises(TaskError, match=words) as caught:
        build_program(module, X, origins)
    if "without gradients" not in name:
        assert str(caught.value).startswith("test_faithful.py, line ")


def _under_no_grad(net: Any, x: Tensor) -> Tensor:
    with torch.no_grad():
        y = net.a(x).relu()
    output: Tensor = net.b(y)
    return output


def _partly_under_no_grad(net: Any, x: Tensor) -> Tensor:
    y = net.a(x)
    with torch.no_grad():
        scale = y.abs().amax(1, keepdim=True) + 1
    output: Tensor = net.b(y / scale)
    return output


@torch.no_grad()
def _centred(x: Tensor) -> Tensor:
    return x - x.mean(1, keepdim=True)


def _straight_through(net: Any, x: Tensor) -> Tensor:
    y = net.a(x)
    output: Tensor = net.b(y + (y.sign() - y).detach())
    return output


class Averaging(Net):
    """A running mean of a layer, and of its weights."""

    def __init__(self) -> None:
        super().__init__(lambda net, x: net.b(net.a(x)))
        self.register_buffer("mean", torch.zeros(8))
        self.register_buffer("weight", torch.zeros(8, 4))
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x)
        if self.training:
            self.mean.mul_(0.9).add_(y.detach().mean(0), alpha=0.1)
            with torch.no_grad():
                self.weight.lerp_(self.a.weight, 0.1)
            self.seen += 1
        output: Tensor = self.b(y - self.mean) + F.linear(x, self.weight).sum(1, keepdim=True) / (1 + self.seen)
        return output


class Tied(nn.Module):
    """Two layers with one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.c, self.b = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3)
        self.c.weight = self.a.weight

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.b(self.c(self.a(x).tanh()))
        return output


def _with(change: Callable[[Net], object]) -> nn.Module:
    net = Net(lambda net, x: net.b(net.a(x).relu()))
    change(net)
    return net


class Noisy(nn.Module):
    """Dropout in three places, one of them within a recurrent layer, and noise."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(2, 4, num_layers=2, dropout=0.3, batch_first=True)
        self.drop, self.out = nn.Dropout(0.2), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.drop(self.lstm(x.reshape(-1, 2, 2))[0][:, -1])
        y = F.dropout(y, 0.3, self.training)
        if self.training:
            y = y + 0.1 * torch.randn_like(y)
        output: Tensor = self.out(y)
        return output


SAME: dict[str, Callable[[], nn.Module]] = {
    "no_grad": lambda: Net(_under_no_grad),
    "no_grad around a part that gradients pass by": lambda: Net(_partly_under_no_grad),
    "no_grad as a decorator": lambda: Net(lambda n, x: n.b(n.a(x) * _centred(n.a(x)))),
    "data": lambda: Net(lambda n, x: n.b(n.a(x) * n.a(x).data)),
    "detach": lambda: Net(lambda n, x: n.b(n.a(x) * n.a(x).detach())),
    "straight through by detach": lambda: Net(_straight_through),
    "a gradient reversed by detach": lambda: Net(lambda n, x: n.b(2 * n.a(x).detach() - n.a(x))),
    "a backward that is what autograd does": lambda: Net(lambda n, x: n.b(Swish.apply(n.a(x)))),
    "a checkpoint": lambda: Net(lambda n, x: n.b(torch.utils.checkpoint.checkpoint(n.a, x, use_reentrant=False))),
    "frozen layers": lambda: _with(lambda n: n.a.requires_grad_(False)),
    "running means": Averaging,
    "tied weights": Tied,
    "batch normalisation": lambda: nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3)),
    "a bias that batch normalisation takes away": lambda: nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)),
    "weight_norm of old": lambda: _with(lambda n: weight_norm(n.b)),
    "weight_norm of old over all": lambda: _with(lambda n: weight_norm(n.b, dim=None)),
    "weight_norm": lambda: _with(lambda n: parametrizations.weight_norm(n.b)),
    "spectral_norm of old": lambda: _with(lambda n: spectral_norm(n.b)),
    "spectral_norm": lambda: _with(lambda n: parametrizations.spectral_norm(n.b)),
    "pruned weights": lambda: _with(lambda n: prune.l1_unstructured(n.b, "weight", 0.5)),
    "dropout and noise": Noisy,
    "logarithms": lambda: Net(lambda n, x: n.b(n.a(torch.log(x)))),
    "a scale of one number": lambda: nn.Sequential(nn.Linear(4, 3), nn.PReLU()),
}


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("name", SAME)
def test_three_steps_of_what_is_built_are_the_modules_own(name: str) -> None:
    """By another way than the comparison that building makes: the trainer's steps beside PyTorch's own optimiser."""
    torch.manual_seed(0)
    module = SAME[name]()
    program, _ = build_program(module, X)
    named = dict(module.named_parameters())
    leaves = [named[p.name].detach().clone().requires_grad_() for p in program.parameters]
    buffers = [module.get_buffer(b.name).detach().clone() for b in program.buffers]
    interpreter = Interpreter(program)
    optimiser = torch.optim.SGD([p for p in module.parameters() if p.requires_grad], lr=0.1)
    for step in range(3):
        x = torch.rand(6, 4) + 0.1
        torch.manual_seed(step)
        optimiser.zero_grad()
        module.train()(x).square().mean().backward()
        optimiser.step()
        torch.manual_seed(step)
        output, buffers = interpreter.run("train", [x], leaves, buffers)
        gradients = torch.autograd.grad(output.square().mean(), leaves)
        leaves = [(a - 0.1 * g).detach().requires_grad_() for a, g in zip(leaves, gradients, strict=True)]
    now = dict(module.named_parameters())
    for spec, leaf in zip(program.parameters, leaves, strict=True):
        torch.testing.assert_close(leaf.detach(), now[spec.name].detach(), rtol=1e-5, atol=1e-6)
    for held, buffer in zip(program.buffers, buffers, strict=True):
        torch.testing.assert_close(buffer, module.get_buffer(held.name), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(interpreter.run("eval", [x], leaves, buffers)[0], module.eval()(x), rtol=1e-4, atol=1e-5)


def test_what_no_gradient_comes_to_is_a_constant_and_not_sent() -> None:
    program, _ = build_program(Net(_under_no_grad), X)
    assert [p.name for p in program.parameters] == ["b.weight", "b.bias"]
    large = Net(_under_no_grad)
    large.a, large.b = nn.Linear(4, 100_000), nn.Linear(100_000, 3)
    with pytest.raises(TaskError, match=r"the frozen parameters \(a.weight, a.bias …\) take"):
        build_program(large, X)


def test_a_stretch_without_gradients_is_detached_only_where_gradients_could_leave_it() -> None:
    program, _ = build_program(Net(_partly_under_no_grad), X)
    assert [n.operator for n in program.train.nodes].count(Operator.DETACH) == 1


def test_building_leaves_modules_that_cannot_be_copied_as_they_were() -> None:
    with pytest.warns(FutureWarning):
        module = _with(lambda n: weight_norm(n.b))
    state = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    weight, attributes = module.b.weight, set(vars(module.b))  # type: ignore[union-attr]
    module.a.weight.grad = torch.ones(8, 4)  # type: ignore[union-attr]
    build_program(module, X)
    assert module.training
    assert module.b.weight is weight  # type: ignore[union-attr]
    assert set(vars(module.b)) == attributes  # type: ignore[arg-type]
    assert torch.equal(module.a.weight.grad, torch.ones(8, 4))  # type: ignore[union-attr,arg-type]
    assert all(torch.equal(tensor, state[name]) for name, tensor in module.state_dict().items())


def test_building_leaves_the_generators_where_they_were() -> None:
    module = Noisy()
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    expected = random.random(), np.random.rand(), torch.rand(1)
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    build_program(module, X)
    assert (random.random(), np.random.rand(), torch.rand(1)) == expected


def test_a_module_that_cannot_be_trained_says_where_it_fails() -> None:
    def spoilt(net: Any, x: Tensor) -> Tensor:
        y = net.a(x).exp()
        output: Tensor = net.b(y)
        y.mul_(2)  # what exp() kept for its gradient
        return output

    with pytest.raises(TaskError, match=r"cannot be trained as it is: RuntimeError: .*inplace operation"):
        build_program(Net(spoilt), X)


def test_samples_of_the_engineers_are_what_the_module_is_compared_with() -> None:
    def far(net: Any, x: Tensor) -> Tensor:
        return net.b(net.a(torch.log(x - 100)))  # type: ignore[no-any-return]

    with pytest.raises(TaskError, match=r"not finite; .* let example\(\) in model.py return"):
        build_program(Net(far), X)
    build_program(Net(far), 200 + torch.rand(4, 4))


class Words(nn.Module):
    """Words that are looked up in a table, with a hand-written gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.out = nn.Embedding(7, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.out(Reversed.apply(self.words(x).mean(1)))
        return output


class Padded(nn.Module):
    """A transformer as PyTorch makes it, with padding that is masked: without gradients it takes another way."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.out = nn.Embedding(9, 8, padding_idx=0), nn.Linear(8, 3)
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, 0.1, batch_first=True), 1)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.out(self.encoder(self.words(x), src_key_padding_mask=x == 0).sum(1))
        return output


def test_what_pytorch_shortens_without_gradients_is_no_difference() -> None:
    example = torch.tensor([[1, 2, 0, 0], [3, 4, 5, 0], [6, 7, 8, 1]])
    build_program(Padded(), example)


def test_indices_are_drawn_from_what_the_model_looks_up() -> None:
    with pytest.raises(TaskError, match="Reversed has a backward"):
        build_program(Words(), torch.zeros(2, 5, dtype=torch.int64))


def test_rounding_is_no_difference_and_a_thousandth_is_one() -> None:
    """A program whose learning differs by little, as that of a power iteration through which gradients pass."""

    def scaled(factor: float) -> Program:
        return capture(Net(lambda n, x: n.b(n.a(x) + (factor - 1) * (n.a(x) - n.a(x).detach()))), X).program

    torch.manual_seed(0)
    module = Net(lambda n, x: n.b(n.a(x)))
    check_faithful(module, scaled(1 + 1e-7), X, Origins())
    with pytest.raises(TaskError, match="the gradient of 'a"):
        check_faithful(module, scaled(1.001), X, Origins())
