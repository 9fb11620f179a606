"""How the named arguments of an ATen call become those of our operators: written out, and of our types.

Each takes the arguments by ATen's names and returns them with what `translations` asks for beside them.
"""

# ruff: noqa: D103 — named after their operators
from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import torch

from grapevine_proto.errors import TaskError
from grapevine_tasks.opset import LARGEST_OPERAND

Named: TypeAlias = Mapping[str, Any]


def repeated(named: dict[str, Any], length: int, *names: str) -> None:
    """ATen lets one number stand for all dimensions of a window; we write them all out."""
    for name in names:
        values = list(named[name])
        named[name] = values * length if len(values) == 1 else values


def rank(node: Any) -> int:
    return len(node.meta["val"].shape)


def convolution(dimensions: int) -> Callable[[dict[str, Any]], dict[str, Any]]:
    def convert(named: dict[str, Any]) -> dict[str, Any]:
        if isinstance(named["padding"], str):
            named["padding"] = padding(named, dimensions)
        repeated(named, dimensions, "stride", "padding", "dilation")
        return named

    return convert


def padding(named: Named, dimensions: int) -> list[int]:
    """Padding "valid" or "same" as numbers. Raises TaskError when "same" is lopsided."""
    if named["padding"] == "valid":
        return [0] * dimensions
    kernel = named["weight"].meta["val"].shape[2:]
    dilation = list(named["dilation"]) * (dimensions if len(named["dilation"]) == 1 else 1)
    totals = [d * (int(k) - 1) for d, k in zip(dilation, kernel, strict=True)]
    if any(total % 2 for total in totals):
        raise TaskError('padding="same" with an even kernel pads one side more: use an odd kernel, or nn.ZeroPad2d')
    return [total // 2 for total in totals]


def pooling(named: dict[str, Any]) -> dict[str, Any]:
    repeated(named, 2, "kernel_size")
    named["stride"] = list(named["stride"]) or list(named["kernel_size"])
    repeated(named, 2, *(name for name in ("stride", "padding", "dilation") if name in named))
    return named


def instance_norm(named: dict[str, Any]) -> dict[str, Any]:
    return named | {"groups": int(named["input"].meta["val"].shape[1]), "eps": float(named["eps"])}


def output_size(named: dict[str, Any]) -> dict[str, Any]:
    repeated(named, 2, "output_size")
    return named


def all_dims(named: dict[str, Any]) -> dict[str, Any]:
    """No dims given means all of them."""
    if not named.get("dim"):
        named["dim"] = list(range(rank(named["self"])))
    named.setdefault("keepdim", False)
    return named


def one_dim(named: dict[str, Any]) -> dict[str, Any]:
    named["dims"] = [named["dim"]] if isinstance(named["dim"], int) else list(named["dim"])
    return named


def slice_(named: dict[str, Any]) -> dict[str, Any]:
    named["start"] = 0 if named["start"] is None else named["start"]
    named["end"] = 2**63 - 1 if named["end"] is None else named["end"]
    return named


def relu6(named: dict[str, Any]) -> dict[str, Any]:
    return named | {"low": 0.0, "high": 6.0}


def selu(named: dict[str, Any]) -> dict[str, Any]:
    # The two constants of Klambauer et al. 2017, with PyTorch's digits.
    return named | {"alpha": 1.6732632423543772848170429916717, "scale": 1.0507009873554804934193349852946, "one": 1.0}


def celu(named: dict[str, Any]) -> dict[str, Any]:
    alpha = float(named["alpha"])
    return named | {"alpha": alpha, "one": 1.0, "inverse": 1.0 / alpha}


def floats(*names: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    def convert(named: dict[str, Any]) -> dict[str, Any]:
        for name in names:
            if isinstance(named[name], int):
                named[name] = float(named[name])
        return named

    return convert


def gelu(named: dict[str, Any]) -> dict[str, Any]:
    named["tanh"] = named["approximate"] == "tanh"
    return named


def pooling_of(dimensions: int) -> Callable[[dict[str, Any]], dict[str, Any]]:
    def convert(named: dict[str, Any]) -> dict[str, Any]:
        repeated(named, dimensions, "kernel_size")
        named["stride"] = list(named["stride"]) or list(named["kernel_size"])
        repeated(named, dimensions, "stride", "padding", "dilation")
        return named

    return convert


def transposed(dimensions: int) -> Callable[[dict[str, Any]], dict[str, Any]]:
    def convert(named: dict[str, Any]) -> dict[str, Any]:
        repeated(named, dimensions, "stride", "padding", "output_padding", "dilation")
        return named

    return convert


def pad(named: dict[str, Any]) -> dict[str, Any]:
    return named | {"value": float(named["value"] or 0)}


def filled(value: float) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda named: named | {"value": value}


def number(named: dict[str, Any]) -> dict[str, Any]:
    return named | {"value": float(named["fill_value"])}


def mask(named: dict[str, Any]) -> dict[str, Any]:
    if isinstance(named["value"], int | float):
        named["value"] = min(max(float(named["value"]), -LARGEST_OPERAND), LARGEST_OPERAND)  # −∞ for a softmax
    return named


def clamp_low(named: dict[str, Any]) -> dict[str, Any]:
    return named | {"min": float(named["min"]), "max": None}


def clamp_high(named: dict[str, Any]) -> dict[str, Any]:
    return named | {"max": float(named["max"]), "min": None}


def recurrent(named: dict[str, Any]) -> dict[str, Any]:
    states = named["hx"] if isinstance(named["hx"], list | tuple) else [named["hx"]]
    per_direction = 4 if named["has_biases"] else 2
    directions = 2 if named["bidirectional"] else 1
    if len(named["params"]) != per_direction * directions * named["num_layers"]:
        raise TaskError("an LSTM with proj_size is not in operator set 1: follow it with a linear layer")
    return named | {
        "hidden": states[0],
        "cell": states[-1],
        "dropout": float(named["dropout"]),
        "tanh": False,
        "relu": True,
    }


def lstm_cell(named: dict[str, Any]) -> dict[str, Any]:
    return named | {"hidden": named["hx"][0], "cell": named["hx"][1]}


def attention(named: dict[str, Any]) -> dict[str, Any]:
    scale = named["scale"]
    return named | {"dropout_p": float(named["dropout_p"]), "scale": None if scale is None else float(scale)}


def correction(named: dict[str, Any]) -> dict[str, Any]:
    named = all_dims(named)
    if "unbiased" in named:
        named["correction"] = 1 if named["unbiased"] else 0
    return named | {"correction": float(1 if named["correction"] is None else named["correction"])}


def vector_norm(named: dict[str, Any]) -> dict[str, Any]:
    return all_dims(named) | {"ord": float(named["ord"])}


def resized(named: dict[str, Any]) -> dict[str, Any]:
    """Upsampling by a factor, as the size that it leads to."""
    if named.get("output_size") is None:
        sides = named["input"].meta["val"].shape[2:]
        named["output_size"] = [
            int(int(side) * factor) for side, factor in zip(sides, named["scale_factors"], strict=True)
        ]
    return named


def along_last(named: dict[str, Any]) -> dict[str, Any]:
    if named["dim"] is None:
        raise TaskError("argmax over all elements is not in operator set 1: name a dim")
    return named


def index(named: dict[str, Any]) -> dict[str, Any]:
    """`x[:, indices]`: one tensor of indices, of one dimension."""
    given = [(dim, index) for dim, index in enumerate(named["indices"]) if index is not None]
    if any(index.meta["val"].dtype == torch.bool for _, index in given):
        raise TaskError(
            "a mask between square brackets leaves a number of rows that depends on values: "
            "multiply by the mask, or choose with torch.where"
        )
    dim, index = given[0]
    if len(given) != 1 or rank(index) != 1 or index.meta["val"].dtype != torch.int64:
        raise TaskError(
            "indexing with several tensors, or with one of several dimensions, is not in operator set 1: "
            "use one of one dimension, torch.gather or nn.functional.embedding"
        )
    return named | {"dim": dim, "index": index}
