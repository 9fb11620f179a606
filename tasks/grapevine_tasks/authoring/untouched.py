"""A module that is run and traced here, and is afterwards what it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

_OWN = ("_parameters", "_buffers", "_modules")  # dicts, changed in place


@contextmanager
def put_back(module: nn.Module) -> Iterator[None]:
    """Within, the module may be trained and may change; then its numbers, attributes and modes are put back.

    A copy would not do: PyTorch cannot copy every module (weights that a hook computes), and a copy has lost
    the hooks of its parameters. What lies in lists and other objects of the module's is not put back.
    """
    attributes = [
        (each, dict(each.__dict__), {name: dict(each.__dict__[name]) for name in _OWN}) for each in module.modules()
    ]
    numbers: list[tuple[Tensor, Tensor]] = [
        (tensor, tensor.detach().clone()) for tensor in (*module.parameters(), *module.buffers())
    ]
    gradients = [(parameter, parameter.grad) for parameter in module.parameters()]
    try:
        yield
    finally:
        for each, held, own in attributes:
            each.__dict__.clear()
            each.__dict__.update(held)
            for name, entries in own.items():
                each.__dict__[name].clear()
                each.__dict__[name].update(entries)
        with torch.no_grad():
            for tensor, kept in numbers:
                tensor.copy_(kept)
        for parameter, gradient in gradients:
            parameter.grad = gradient
