"""What to write instead of what cannot be captured: the remedy that applies, and the line that it applies to."""

from __future__ import annotations

import inspect
import re
import traceback
import warnings
from collections.abc import Iterable
from types import FrameType
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.experimental.symbolic_shapes import free_unbacked_symbols
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.nn.parameter import is_lazy
from torch.overrides import TorchFunctionMode

from grapevine_proto.errors import TaskError
from grapevine_tasks.authoring.places import Origins, is_own, line_now, place_in_traceback, place_of_function

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

_ARITHMETIC = (aten.add, aten.sub, aten.rsub, aten.mul, aten.div, aten.pow, aten.remainder, aten.fmod)
_LEN = (
    "len() makes a fixed number of the batch's size: in shapes write x.shape[0] or -1, and to compute with it leave it "
    "out; a mean over the batch is x.mean(0)"
)
_UNTOLD = {torch.cdist: _INSTEAD["cdist"]}


def check_layers(module: nn.Module, origins: Origins) -> None:
    """Raise TaskError for what no export is needed to see: forward()'s inputs, and layers that cannot be captured."""
    for path, layer in module.named_modules():
        where = origins.place(module, path) if path else origins.build
        named = f"{where}{f'the layer {path!r}' if path else 'what build() returns'} ({type(layer).__name__})"
        if isinstance(layer, torch.jit.ScriptModule):
            raise TaskError(f"{named} was made by torch.jit, and cannot be captured: give the nn.Module that it is of")
        if isinstance(getattr(layer, "_orig_mod", None), nn.Module):
            raise TaskError(f"{named} was made by torch.compile, and cannot be captured: give the nn.Module itself")
        if isinstance(layer, nn.DataParallel):
            raise TaskError(f"{named} spreads its samples over devices, which no program does: give its .module")
        if any(is_lazy(each) for each in (*layer._parameters.values(), *layer._buffers.values())):
            raise TaskError(f"{named} has no sizes yet: write them, or call the module once in build()")
        if isinstance(layer, _NormBase) and layer.track_running_stats and layer.momentum is None:
            raise TaskError(
                f"{named} has momentum=None, an average over all batches so far, which a device would have to count: "
                "write a number, such as momentum=0.1"
            )
    _check_inputs(module)


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
        where = place_of_function(module.forward)
        names = ", ".join(needed)
        raise TaskError(f"{where}forward({names}) takes {len(needed) or 'no'} inputs; {ONE_INPUT}")


def check_nodes(nodes: Iterable[fx.Node], where: Any) -> None:
    """Raise TaskError for operators that mean another thing at a batch of one sample; `where` says a node's line."""
    for node in nodes:
        if node.op == "call_function" and _counts_samples(node):
            raise TaskError(
                f"{where(node)}the model computes with the number of samples in its batch, which says nothing of a "
                "sample and is another on each device: leave it out; a mean over the batch is x.mean(0)"
            )
        if node.target in (aten.squeeze.dim, aten.squeeze.dims) and _takes_the_batch(node):
            raise TaskError(
                f"{where(node)}squeeze(0) takes away the batch where it is one sample: name a dimension of the "
                "samples that is 1, such as squeeze(1)"
            )
        if node.target is aten.squeeze.default and not _is_fixed(node.args[0]):
            raise TaskError(
                f"{where(node)}squeeze() without a dimension also takes away the batch where it is one sample: "
                "name the dimension, such as squeeze(-1)"
            )


def _counts_samples(node: fx.Node) -> bool:
    """Whether a number that depends on the size of the batch is an operand beside a tensor."""
    packet = getattr(node.target, "overloadpacket", None)
    operands = [each.meta.get("val") for each in node.args if isinstance(each, fx.Node)]
    return packet in _ARITHMETIC and any(
        isinstance(each, torch.SymInt | torch.SymFloat) and not free_unbacked_symbols(each)  # those come from item()
        for each in operands
    )


def _takes_the_batch(node: fx.Node) -> bool:
    value = node.args[0].meta.get("val") if isinstance(node.args[0], fx.Node) else None
    named = node.args[1] if isinstance(node.args[1], list | tuple) else [node.args[1]]
    if not isinstance(value, Tensor) or isinstance(value.shape[0], int):
        return False
    return any(dim in (0, -value.dim()) for dim in named)


def _is_fixed(node: Any) -> bool:
    value = node.meta.get("val")
    return isinstance(value, Tensor) and all(isinstance(side, int) for side in value.shape)


class CallsNoted(TorchFunctionMode):
    """Notes the first call of a function whose failure says nothing of it, and where a batch's size was fixed."""

    def __init__(self) -> None:
        super().__init__()
        self.said = ""  # the line, the function and the remedy
        self.counted = ""  # the line of a len()

    def refused(self, error: Exception) -> TaskError | None:
        """What explains why capturing failed with this; None if nothing that was noted does."""
        if self.said:
            return TaskError(self.said)
        if self.counted and any(word in str(error) for word in _BATCHES):
            return TaskError(f"{self.counted}{_LEN}")
        return None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _UNTOLD and not self.said:
            self.said = f"{line_now()}the model uses {func.__name__}, which cannot be captured: {_UNTOLD[func]}"
        if func is Tensor.__len__ and not self.counted and args[0].dim() and isinstance(args[0].shape[0], torch.SymInt):
            self.counted = line_now()
        return func(*args, **(kwargs or {}))


def cannot_capture(error: Exception, module: nn.Module, example: Tensor, origins: Origins) -> TaskError:
    """The error for what `torch.export` raised."""
    if not _remedy_of_called(error) and (found := _fails_itself(module, example, origins)):
        return found
    reason = _reason(error)
    where = place_in_traceback(error) or _place_by_running(module, example)
    return TaskError(
        f"{where}torch.export cannot capture the model: {type(error).__name__}: {reason}. {_way_out(error)}"
    )


def _reason(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:300].rstrip(". ")


def _fails_itself(module: nn.Module, example: Tensor, origins: Origins) -> TaskError | None:
    """The error for a module that cannot take what `data.features` gives, such as one with a layer of another size."""
    entered: list[tuple[nn.Module, Any]] = []

    def enter(layer: nn.Module, inputs: Any) -> None:
        entered.append((layer, inputs))

    def leave(layer: nn.Module, *_: object) -> None:
        while entered.pop()[0] is not layer:
            pass  # what raised within, and was caught

    handles = [register_module_forward_pre_hook(enter), register_module_forward_hook(leave)]
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module(example)
    except (RuntimeError, ValueError) as error:
        if any(words in str(error) for words in _NOT_ONE):
            return None
        layer, inputs = entered[-1] if entered else (module, ())
        said = f"{type(error).__name__}: {_reason(error)}"
        given = _shape(example, len(example))
        path = next((path for path, each in module.named_modules() if each is layer), "")
        if not type(layer).__module__.startswith("torch.nn."):
            return TaskError(
                f"{place_in_traceback(error)}forward() fails with what data.features gives, {given}: {said}. Correct "
                "it, or data.features in task.toml"
            )
        where = (origins.place(module, path) if path else origins.build) or place_in_traceback(error)
        sizes = ", ".join(f"{name} = {size}" for name in _SIZES if (size := getattr(layer, name, None)) is not None)
        got = ", ".join(_shape(each, len(example)) for each in inputs if isinstance(each, Tensor))
        return TaskError(
            f"{where}{f'the layer {path!r}' if path else 'the model'} ({type(layer).__name__}"
            f"{' with ' if sizes else ''}{sizes}) cannot take {got}: "
            f"{said}. data.features gives the model {given}: correct the size of the layer, or data.features in "
            "task.toml"
        )
    except Exception:
        return None
    finally:
        for handle in handles:
            handle.remove()
    return None


# What layers call the size that they take.
_SIZES = (
    *("in_features", "in1_features", "in2_features", "in_channels", "num_features", "num_channels"),
    *("input_size", "normalized_shape", "embed_dim", "num_embeddings"),
)


def _shape(tensor: Tensor, num: int) -> str:
    """`float32[batch, 4]`; the first size is told as it is where it is not the number of samples."""
    sizes = [str(size) if number or size != num else "batch" for number, size in enumerate(tensor.shape)]
    return f"{str(tensor.dtype).removeprefix('torch.')}[{', '.join(sizes)}]"


def _way_out(error: Exception) -> str:
    text = f"{type(error).__name__} {error}"
    if remedy := _remedy_of_called(error):
        return f"{remedy}."
    if any(word in text for word in _BRANCHES):
        return "Do not branch on the values of tensors: choose between two with torch.where."
    if any(words in text for words in _NOT_ONE) or _reads_by_name(error):
        return f"Probably it takes several inputs: {ONE_INPUT}."
    if any(word in text for word in _BATCHES):
        return "The model must take any batch size: write x.shape[0] or -1 where it has a number for the batch."
    return "The model must take any batch size and must not branch on the values of tensors."


def _remedy_of_called(error: Exception) -> str:
    """What to write instead of a function that the lines which failed call; empty if they call none of those."""
    called = {name for frame, _ in traceback.walk_tb(error.__traceback__) for name in _names_in(frame)}
    return next((remedy for name, remedy in _CALLED.items() if name in called), "")


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
