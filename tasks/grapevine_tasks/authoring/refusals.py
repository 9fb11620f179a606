"""What to write instead of what cannot be captured: the remedy that applies, and the line that it applies to."""

from __future__ import annotations

import inspect
import re
import traceback
from collections.abc import Iterable
from types import FrameType
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.parameter import is_lazy
from torch.overrides import TorchFunctionMode

from grapevine_proto.errors import TaskError
from grapevine_tasks.authoring.places import Origins, is_own, line_now, place_in, place_in_traceback

aten = torch.ops.aten
ONE_INPUT = (
    "a task's model takes one tensor [batch, …], because data.features is one: let the data have all of them side by "
    "side, and take them apart in forward(), such as a, b = x[:, :4], x[:, 4:]"
)
_BRANCHES = ("GuardOnDataDependent", "data-dependent", "Could not guard", "DynamicControlFlow")
# What Python and PyTorch say where a tensor is taken for a dict or a tuple.
_NOT_ONE = ("invalid data type 'str'", "indices must be", "only integers, slices", "values to unpack")
_BY_NAME = re.compile(r"""\w\[["']""")
_BATCHES = ("batch", "specialized", "Constraints violated", "divisible")
_PADDED = (
    "A packed sequence is as long as its numbers say: give the whole padded batch to the recurrent layer, and multiply "
    "its output by a mask, or take each last step with torch.gather"
)
# By names that stand in the lines of forward() which failed.
_CALLED = {
    "pack_padded_sequence": _PADDED,
    "pack_sequence": _PADDED,
    "numpy": "Write with PyTorch's operators what NumPy does there",
}
# By operators that the set lacks: what says the same with those that it has.
_INSTEAD = {
    "cdist": "write the distances as (a.unsqueeze(-2) - b.unsqueeze(-3)).square().sum(-1).clamp(min=1e-12).sqrt()",
    "cumprod": "write torch.exp(torch.cumsum(torch.log(x), dim)) for numbers above 0",
    "topk": "take the largest with max(dim), or weigh all with softmax",
    "sort": "take the largest with max(dim) and the smallest with min(dim)",
    "median": "use the mean, or the largest and smallest by max(dim) and min(dim)",
    "nonzero": "multiply by the mask, or choose with torch.where",
    "masked_select": "multiply by the mask, or choose with torch.where",
    "one_hot": "write (x.unsqueeze(-1) == torch.arange(n)).float()",
    "scatter": "write (index.unsqueeze(-1) == torch.arange(n)).float() and multiply by it",
    "multinomial": "draw with torch.bernoulli or torch.randn_like",
    "fmod": "write x - y * torch.floor(x / y)",
    "remainder": "write x - y * torch.floor(x / y)",
    "round": "write torch.floor(x + 0.5)",
    "ceil": "write -torch.floor(-x)",
    "local_scalar_dense": "keep numbers as tensors: item(), float() and int() take them out of the program",
    "arange": "a sample's place in its batch means nothing: use torch.gather to choose within each sample",
}

_UNTOLD = {torch.cdist: _INSTEAD["cdist"]}


def check_layers(module: nn.Module, origins: Origins) -> None:
    """Raise TaskError for what no export is needed to see: forward()'s inputs, and layers that cannot be captured."""
    _check_inputs(module)
    for path, layer in module.named_modules():
        where = origins.place(module, path) if path else ""
        named = f"{where}the layer {path!r} ({type(layer).__name__})"
        if any(is_lazy(each) for each in (*layer._parameters.values(), *layer._buffers.values())):
            raise TaskError(f"{named} has no sizes yet: write them, or call the module once in build()")
        if isinstance(layer, _NormBase) and layer.track_running_stats and layer.momentum is None:
            raise TaskError(
                f"{named} has momentum=None, an average over all batches so far, which a device would have to count: "
                "write a number, such as momentum=0.1"
            )


def _check_inputs(module: nn.Module) -> None:
    try:
        inputs = list(inspect.signature(module.forward).parameters.values())
    except (TypeError, ValueError):
        return
    ordered = [each for each in inputs if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)]
    needed = [each.name for each in ordered if each.default is each.empty]
    needed += [each.name for each in inputs if each.kind is each.KEYWORD_ONLY and each.default is each.empty]
    takes = ordered or [each for each in inputs if each.kind is each.VAR_POSITIONAL]
    if len(needed) > 1 or not takes:
        code = getattr(inspect.unwrap(module.forward), "__code__", None)
        where = place_in(code.co_filename, code.co_firstlineno) if code else ""
        names = ", ".join(needed)
        raise TaskError(f"{where}forward({names}) takes {len(needed) or 'no'} inputs; {ONE_INPUT}")


def check_nodes(nodes: Iterable[fx.Node], where: Any) -> None:
    """Raise TaskError for operators that mean another thing at a batch of one sample; `where` says a node's line."""
    for node in nodes:
        if node.target is aten.squeeze.default and not _is_fixed(node.args[0]):
            raise TaskError(
                f"{where(node)}squeeze() without a dimension also takes away the batch where it is one sample: "
                "name the dimension, such as squeeze(-1)"
            )


def _is_fixed(node: Any) -> bool:
    value = node.meta.get("val")
    return isinstance(value, Tensor) and all(isinstance(side, int) for side in value.shape)


class CallsNoted(TorchFunctionMode):
    """Notes the first call of a function whose failure says nothing of it."""

    def __init__(self) -> None:
        super().__init__()
        self.said = ""  # the line, the function and the remedy

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _UNTOLD and not self.said:
            self.said = f"{line_now()}the model uses {func.__name__}, which cannot be captured: {_UNTOLD[func]}"
        return func(*args, **(kwargs or {}))


def cannot_capture(error: Exception, module: nn.Module, example: Tensor) -> TaskError:
    """The error for what `torch.export` raised."""
    reason = str(error).strip().split("\n")[0][:300].rstrip(". ")
    where = place_in_traceback(error) or _place_by_running(module, example)
    return TaskError(
        f"{where}torch.export cannot capture the model: {type(error).__name__}: {reason}. {_way_out(error)}"
    )


def _way_out(error: Exception) -> str:
    text = f"{type(error).__name__} {error}"
    called = {name for frame, _ in traceback.walk_tb(error.__traceback__) for name in _names_in(frame)}
    for name, remedy in _CALLED.items():
        if name in called:
            return f"{remedy}."
    if any(word in text for word in _BRANCHES):
        return "Do not branch on the values of tensors: choose between two with torch.where."
    if any(words in text for words in _NOT_ONE) or _reads_by_name(error):
        return f"Probably it takes several inputs: {ONE_INPUT}."
    if any(word in text for word in _BATCHES):
        return "The model must take any batch size: write x.shape[0] or -1 where it has a number for the batch."
    return "The model must take any batch size and must not branch on the values of tensors."


def _reads_by_name(error: Exception) -> bool:
    """Whether the line that failed looks something up by a word, as in x["a"]."""
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if is_own(frame.filename)]
    return isinstance(error, IndexError | TypeError | KeyError) and bool(own and _BY_NAME.search(own[-1].line or ""))


def _names_in(frame: FrameType) -> tuple[str, ...]:
    """What the code of one of the engineer's functions calls by name."""
    return frame.f_code.co_names if is_own(frame.f_code.co_filename) else ()


def _place_by_running(module: nn.Module, example: Tensor) -> str:
    """Where the module itself fails with another number of samples; empty if it does not."""
    try:
        with torch.no_grad():
            module(example.new_zeros((5, *example.shape[1:])))
    except Exception as error:  # whatever the engineer's own forward() raises
        return place_in_traceback(error)
    return ""


def unsupported(targets: list[str], place: str = "", layer: str = "") -> TaskError:
    """The error for operators that opset 1 does not have; `place` and `layer` are where the first of them stands."""
    before, _, weight = layer.partition("parametrizations.")
    if weight:
        names = ", ".join(sorted(set(targets)))
        return TaskError(
            f"{place}the parametrisation of {before + weight.split('.')[0]!r} uses operators that opset 1 does not "
            f"have: {names}. Take it away in build() (torch.nn.utils.parametrize.remove_parametrizations), or "
            "use weight_norm or spectral_norm"
        )
    plain = [target.split(".")[1].strip("_") if "." in target else target for target in targets]
    remedy = next((words for name in plain for key, words in _INSTEAD.items() if name.startswith(key)), "")
    remedy = (
        f"{remedy[:1].upper()}{remedy[1:]}." if remedy else "Write the layer with others, or ask for them to be added."
    )
    names = ", ".join(sorted(set(targets)))
    return TaskError(f"{place}the model uses operators that opset 1 does not have: {names}. {remedy}")
