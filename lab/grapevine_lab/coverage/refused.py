"""What cannot be a task, and what its engineer is told: the other half of the page."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 — its usual name

from grapevine_proto.errors import TaskError
from grapevine_tasks.authoring.export import build_program
from grapevine_tasks.authoring.places import Origins


class _Net(nn.Module):
    def __init__(self, function: Callable[[Tensor, Callable[[Tensor], Tensor]], object]) -> None:
        super().__init__()
        self.function, self.fc = function, nn.Linear(4, 2)

    def forward(self, x: Tensor) -> object:
        return self.function(x, self.fc)


class _Projected(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(4, 4, proj_size=2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.lstm(x.unsqueeze(1))[0][:, 0]
        return output


class _TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 2)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        output: Tensor = self.fc(x) * lengths
        return output


class _Sign(torch.autograd.Function):
    @staticmethod
    def forward(_context: Any, x: Tensor) -> Tensor:
        return torch.sign(x)

    @staticmethod
    def backward(_context: Any, gradient: Tensor) -> Tensor:
        return gradient


def _sign(x: Tensor) -> Any:
    return _Sign.apply(x)  # type: ignore[no-untyped-call]


class _Counting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc, self.calls = nn.Linear(4, 2), 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        output: Tensor = self.fc(x) / self.calls
        return output


def _frozen() -> nn.Module:
    model = nn.Sequential(nn.Linear(4, 65_536), nn.Linear(65_536, 2))
    model[0].requires_grad_(False)
    return model


REFUSED: dict[str, Callable[[], nn.Module]] = {
    "A branch on the values of a tensor": lambda: _Net(lambda x, fc: fc(x) if x.sum() > 0 else -fc(x)),
    "A number of rows that depends on values": lambda: _Net(lambda x, fc: fc(x[x[:, 0] > 0])),
    "A batch size written as a number": lambda: _Net(lambda x, fc: fc(x).reshape(6)),
    "Several outputs": lambda: _Net(lambda x, fc: (fc(x), x)),
    "An operator outside the set": lambda: _Net(lambda x, fc: torch.erfinv(torch.tanh(fc(x)))),
    "Half precision or double precision": lambda: _Net(lambda x, fc: fc(x).double().float()),
    "Indexing with several tensors": lambda: _Net(lambda x, fc: fc(x)[torch.arange(x.shape[0]), x.argmax(1) // 2]),
    "An LSTM with `proj_size`": _Projected,
    "Padding that differs between the sides": lambda: _Net(
        lambda x, fc: fc(F.conv1d(x.unsqueeze(1), torch.ones(1, 1, 2), padding="same").squeeze(1))
    ),
    "Many frozen parameters": _frozen,
    "Several inputs": _TwoInputs,
    "A backward of its own": lambda: _Net(lambda x, fc: fc(x) + fc(_sign(fc(x)) @ torch.ones(2, 4))),
    "A number kept from call to call": _Counting,
    "NumPy's random numbers": lambda: _Net(lambda x, fc: fc(x) * float(np.random.rand())),
    "A squeeze of all dimensions": lambda: _Net(lambda x, fc: fc(x).unsqueeze(2).squeeze()),
    "Batch normalisation with `momentum=None`": lambda: nn.Sequential(
        nn.Linear(4, 2), nn.BatchNorm1d(2, momentum=None)
    ),
    "A layer that is called `Größe`": lambda: nn.Sequential(OrderedDict({"Größe": nn.Linear(4, 2)})),
}


def refusal(build: Callable[[], nn.Module]) -> str:
    """What building says of a model. Raises AssertionError if nothing."""
    origins = Origins()
    with origins.noted():
        module = build()
    try:
        build_program(module, torch.zeros(3, 4), origins)
    except TaskError as error:
        return str(error)
    raise AssertionError("is built")
