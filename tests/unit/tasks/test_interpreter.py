"""An interpreted program computes what the module computed: outputs, gradients and buffers, to the bit."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal

import pytest
import torch
from tests.unit.tasks.models_to_interpret import MORE_MODELS
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from grapevine_proto.errors import TaskError
from grapevine_proto.program import Graph, Program
from grapevine_proto.program_codec import decode_program, encode_program
from grapevine_tasks.authoring.export import build_program
from grapevine_tasks.checks import ProgramLimits, check_program
from grapevine_tasks.interpreter import Interpreter
from grapevine_tasks.layout import ModelLayout
from grapevine_tasks.sizes import Size
from grapevine_tasks.weights import decode_weights

Layer = Callable[[Tensor], Tensor]


class Net(nn.Module):
    """One function as a module, with layers under their own names."""

    def __init__(self, function: Callable[..., Any], **layers: nn.Module) -> None:
        super().__init__()
        self.function = function
        self.layers = nn.ModuleDict(layers)

    def forward(self, x: Tensor) -> Any:
        return self.function(x, **self.layers)


def mlp() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Dropout(0.3), nn.Linear(32, 10))


def cnn() -> nn.Module:
    return nn.Sequential(
        nn.Unflatten(1, (1, 8)),
        nn.Conv2d(1, 6, 3, padding="same"),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Dropout(0.2),
        nn.Conv2d(6, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8, momentum=0.3),
        nn.GELU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(32, 10),
        nn.LogSoftmax(1),
    )


def _activations(x: Tensor, fc: Layer) -> Tensor:
    y = fc(x.flatten(1))
    for f in (
        F.silu,
        F.hardswish,
        F.hardsigmoid,
        F.softplus,
        F.mish,
        F.elu,
        F.leaky_relu,
        F.hardtanh,
        F.relu6,
        torch.tanh,
    ):
        y = y + f(y)
    return F.softmax(torch.sigmoid(y), dim=-1) + F.gelu(y, approximate="tanh") + F.selu(y) + F.celu(y)


def _arithmetic(x: Tensor, fc: Layer) -> Tensor:
    y = fc(x.flatten(1))
    y = (1 - y) * 2 / 3 - y.abs().clamp(min=0.1).log() + y.exp().clamp(0, 5).sqrt() + y.pow(2).add(1).rsqrt()
    y = y + (y * y + 1).reciprocal() - torch.sin(y) * torch.cos(y) + torch.maximum(y, -y) - torch.minimum(y, 2 * y)
    return y / y.amax(1, keepdim=True) + y.sum(1, keepdim=True) + y.mean((0, 1)) + y.mean() + y.sum()


def _shapes(x: Tensor, fc: Layer) -> Tensor:
    y = F.pad(x[:, 1:-1, ::2], (1, 1), value=0.5).permute(0, 2, 1)
    y = torch.cat([y, y.transpose(1, 2).reshape(x.shape[0], 6, 6)], dim=1)
    y = torch.stack([y[:, 0], y[:, -1]], dim=1).unsqueeze(2).expand(-1, -1, 3, -1)
    y = y[:, :1].squeeze(1).unsqueeze(3).transpose(2, 3)
    return fc(y.reshape(x.size(0), -1))


def _attention(x: Tensor, q: Layer, k: Layer, norm: Layer, out: Layer) -> Tensor:
    scores = q(x) @ k(x).transpose(1, 2) / 8**0.5
    return out(norm(torch.matmul(F.softmax(scores, 2), x)).mean(1))


def _sequence(x: Tensor, conv: Layer, norm: Layer, out: Layer) -> Tensor:
    return out(norm(conv(x)).relu().mean(2))


MODELS: dict[str, Callable[[], nn.Module]] = {
    "perceptron with dropout": mlp,
    "convolutions with batch normalisation and dropout": cnn,
    "activations": lambda: Net(_activations, fc=nn.Linear(64, 5)),
    "arithmetic": lambda: Net(_arithmetic, fc=nn.Linear(64, 5)),
    "shapes": lambda: Net(_shapes, fc=nn.Linear(18, 5)),
    "attention": lambda: Net(
        _attention, q=nn.Linear(8, 8), k=nn.Linear(8, 8), norm=nn.LayerNorm(8), out=nn.Linear(8, 3)
    ),
    "a sequence": lambda: Net(
        _sequence,
        conv=nn.Conv1d(8, 12, 3, stride=2, padding=1, groups=2),
        norm=nn.GroupNorm(3, 12),
        out=nn.Linear(12, 3),
    ),
    "pools": lambda: nn.Sequential(
        nn.Unflatten(1, (1, 8)),
        nn.Conv2d(1, 4, (3, 1), stride=(1, 2), dilation=(2, 1)),
        nn.MaxPool2d(2, stride=1, padding=1, ceil_mode=True),
        nn.AvgPool2d(3, stride=2, padding=1, ceil_mode=True, count_include_pad=False),
        nn.Flatten(),
        nn.LazyLinear(3),
    ),
    **MORE_MODELS,
}


@dataclass(frozen=True)
class Built:
    module: nn.Module
    program: Program
    weights: bytes

    def tensors(self) -> tuple[list[Tensor], list[Tensor]]:
        """Parameters that require gradients, and buffers."""
        return _tensors(self.program, self.weights)


@cache  # exporting takes most of the time of these tests
def built(name: str) -> Built:
    torch.manual_seed(0)
    module = MODELS[name]()
    module.eval()(torch.randn(2, 8, 8))  # lazy layers take their shapes
    for tensor in module.parameters():
        tensor.data.add_(0.1 * torch.randn_like(tensor))
    return Built(module, *build_program(module, torch.zeros(2, 8, 8)))


def _tensors(program: Program, weights: bytes) -> tuple[list[Tensor], list[Tensor]]:
    layout = ModelLayout.of(program)
    named = {n: torch.from_numpy(t.copy()) for n, t in layout.split(*decode_weights(layout, weights)).items()}
    return [named[e.name].requires_grad_() for e in layout.parameters], [named[e.name] for e in layout.buffers]


@pytest.mark.parametrize("name", MODELS)
def test_outputs_gradients_and_buffers_are_those_of_the_module(name: str) -> None:
    model = built(name)
    interpreter = Interpreter(decode_program(encode_program(model.program)))
    parameters, buffers = model.tensors()
    eager = copy.deepcopy(model.module).train()
    for seed in (1, 2):  # the second step starts from moved buffers
        x = torch.randn(5 + seed, 8, 8)
        torch.manual_seed(seed)
        expected = eager(x)
        eager.zero_grad()
        expected.square().mean().backward()
        torch.manual_seed(seed)
        output, buffers = interpreter.run("train", (x,), parameters, buffers)
        gradients = torch.autograd.grad(output.square().mean(), parameters)
        assert torch.equal(output, expected)
        for gradient, (parameter_name, parameter) in zip(gradients, eager.named_parameters(), strict=True):
            assert parameter.grad is not None
            assert torch.equal(gradient, parameter.grad), parameter_name
        moved = dict(eager.named_buffers())
        for spec, buffer in zip(model.program.buffers, buffers, strict=True):
            assert torch.equal(buffer, moved[spec.name]), spec.name
    torch.manual_seed(3)
    output, unchanged = interpreter.run("eval", (x,), parameters, buffers)
    torch.manual_seed(3)
    assert torch.equal(output, eager.eval()(x))
    assert all(a is b for a, b in zip(unchanged, buffers, strict=True))


@pytest.mark.parametrize("graph", ["train", "eval"])
@pytest.mark.parametrize("name", MODELS)
def test_the_checked_shapes_are_the_shapes_of_a_run_at_every_batch(name: str, graph: Literal["train", "eval"]) -> None:
    model = built(name)
    program = model.program
    report = check_program(program, ProgramLimits())
    parameters, buffers = model.tensors()
    nodes = (program.train if graph == "train" else program.eval).nodes
    for batch in (2, 7):
        x = torch.randn(batch, 8, 8)
        for row in report.train if graph == "train" else report.eval:
            for number, checked in enumerate(row.types, start=row.number):
                cut = Graph(nodes=nodes, output=number)
                stopped = Interpreter(replace(program, train=cut, eval=cut))
                value: Any = stopped.run(graph, (x,), parameters, buffers)[0]
                if isinstance(checked, Size):
                    assert value == checked.at(batch)
                else:
                    assert tuple(value.shape) == tuple(size.at(batch) for size in checked.shape), row


def test_dropout_drops_in_training_only_and_as_the_seed_says() -> None:
    model = built("perceptron with dropout")
    parameters, buffers = model.tensors()
    interpreter = Interpreter(model.program)
    x = torch.randn(4, 8, 8)

    def run(graph: Literal["train", "eval"], seed: int) -> Tensor:
        torch.manual_seed(seed)
        return interpreter.run(graph, (x,), parameters, buffers)[0]

    assert torch.equal(run("train", 1), run("train", 1))
    assert not torch.equal(run("train", 1), run("train", 2))
    assert torch.equal(run("eval", 1), run("eval", 2))


def test_tied_parameters_are_one_parameter() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(8, 8), nn.Linear(8, 8)
            self.b.weight = self.a.weight

        def forward(self, x: Tensor) -> Tensor:
            output: Tensor = self.b(self.a(x).relu())
            return output

    program, _ = build_program(Tied(), torch.zeros(2, 8))
    assert [p.name for p in program.parameters] == ["a.weight", "a.bias", "b.bias"]


def test_buffers_that_never_change_become_constants() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 2)
            self.scale: Tensor
            self.register_buffer("scale", torch.tensor([1.0, 2.0, 3.0, 4.0]))

        def forward(self, x: Tensor) -> Tensor:
            output: Tensor = self.fc(x * self.scale + torch.tensor([0.5]))
            return output

    module = Scaled()
    program, weights = build_program(module, torch.zeros(2, 4))
    assert not program.buffers
    assert len(program.constants) == 2
    parameters, _ = _tensors(program, weights)
    x = torch.randn(3, 4)
    assert torch.equal(Interpreter(program).run("eval", (x,), parameters, ())[0], module(x))


def test_building_leaves_the_module_as_it_was() -> None:
    module = cnn().eval()
    normalisation = next(m for m in module.modules() if isinstance(m, nn.BatchNorm2d))
    normalisation.train()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    build_program(module, torch.zeros(2, 8, 8))
    assert torch.equal(torch.rand(1), expected)
    assert not module.training
    assert normalisation.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())


def test_operators_that_the_opset_lacks_are_all_named() -> None:
    module = Net(lambda x, fc: torch.erfinv(fc(x)).cumprod(1), fc=nn.Linear(4, 2))
    with pytest.raises(TaskError, match=r"test_interpreter.py, line \d+: .*aten\.cumprod\.default, aten\.erfinv"):
        build_program(module, torch.zeros(2, 4))


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x, fc: fc(x) if x.sum() > 0 else -fc(x), "cannot capture"),
        (lambda x, fc: fc(x).reshape(6), "cannot capture"),
        (lambda x, fc: (fc(x), x), "returns 2 values"),
        (lambda x, fc: 1 / 0, "ZeroDivisionError"),
        (lambda x, fc: fc(x).double().float(), "converts"),
    ],
)
def test_a_model_that_cannot_be_expressed_is_refused_with_a_reason(function: Any, message: str) -> None:
    with pytest.raises(TaskError, match=message):
        build_program(Net(function, fc=nn.Linear(4, 2)), torch.zeros(2, 4))


def test_frozen_parameters_become_constants() -> None:
    module = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    for tensor in module[0].parameters():
        tensor.requires_grad_(False)
    program, weights = build_program(module, torch.zeros(2, 4))
    assert [p.name for p in program.parameters] == ["2.weight", "2.bias"]
    parameters, _ = _tensors(program, weights)
    x = torch.randn(3, 4)
    assert torch.equal(Interpreter(program).run("eval", (x,), parameters, ())[0], module(x))


def test_frozen_parameters_that_the_manifest_has_no_room_for_are_refused() -> None:
    module = nn.Sequential(nn.Linear(512, 512), nn.Linear(512, 2))
    module[0].weight.requires_grad_(False)
    with pytest.raises(TaskError, match=r"frozen parameters \(0.weight …\) take 1,048,576 bytes"):
        build_program(module, torch.zeros(2, 512))


def test_a_branch_on_values_is_refused_with_the_line_and_the_way_out() -> None:
    module = Net(lambda x, fc: fc(x) if x.sum() > 0 else -fc(x), fc=nn.Linear(4, 2))
    with pytest.raises(TaskError, match=r"test_interpreter.py, line \d+: .*torch.where"):
        build_program(module, torch.zeros(2, 4))


def test_an_operator_that_fails_names_itself() -> None:
    program, weights = build_program(nn.Linear(4, 2), torch.zeros(2, 4))
    parameters, _ = _tensors(program, weights)
    with pytest.raises(TaskError, match="value 3, LINEAR"):
        Interpreter(program).run("eval", (torch.zeros(2, 5),), parameters, ())
