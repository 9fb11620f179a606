"""A PyTorch module as a code-free program: `torch.export`, then translation node by node.

The module is exported twice, in train and in eval mode, because the two may differ in more than a
flag. `run_decompositions({})` makes the graphs functional: no operator changes a value in place,
and what a module did to its buffers becomes outputs.
"""

from __future__ import annotations

import copy
import logging
import math
import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram, default_decompositions, export
from torch.export.graph_signature import InputKind, OutputKind

from grapevine_proto.errors import TaskError
from grapevine_proto.program import Constant, Graph, InputSpec, Program, TensorSpec
from grapevine_tasks.authoring.graph_builder import GraphBuilder, is_known
from grapevine_tasks.authoring.places import place_in_traceback
from grapevine_tasks.checks import ProgramLimits
from grapevine_tasks.layout import ModelLayout
from grapevine_tasks.opset import LARGEST_OPERAND
from grapevine_tasks.weights import check_finite, encode_weights

LARGEST_BATCH = 65536
_DECOMPOSITIONS = 3  # what an operator decomposes into may need the same once more
_DTYPES = {torch.float32: "float32", torch.int64: "int64"}


def build_program(module: nn.Module, example_input: Tensor) -> tuple[Program, bytes]:
    """Export a module.

    Args:
        module: Takes one tensor [batch, …] and returns one tensor [batch, …], on the CPU. It is
            not changed.
        example_input: A batch, float32 or int64 [n, …]; only its shape and dtype matter.

    Returns:
        The program, and its initial weights: a safetensors file of the parameters and buffers.

    Raises:
        TaskError: When the module cannot be captured, or uses operators that the opset lacks.
    """
    example = _example(example_input)
    module = copy.deepcopy(module)  # the engineer's stays in the mode in which it is
    train = _export(module.train(), example)
    evaluation = _export(module.eval(), example)
    state = _State.of(module, train)
    constants = _Constants(state)
    graphs = [_graph(exported, state, constants) for exported in (train, evaluation)]
    # Constants come before results, so values are numbered once both graphs have named theirs.
    first_result = 1 + len(state.parameters) + len(state.buffers) + len(constants.kept)
    program = Program(
        inputs=(InputSpec(name="input", shape=tuple(example.shape[1:]), dtype=_DTYPES[example.dtype]),),
        parameters=tuple(TensorSpec(name=n, shape=tuple(t.shape)) for n, t in state.parameters.items()),
        buffers=tuple(TensorSpec(name=n, shape=tuple(t.shape)) for n, t in state.buffers.items()),
        constants=tuple(constants.kept),
        train=graphs[0].finish(first_result),
        eval=_without_updates(graphs[1].finish(first_result)),
    )
    return program, _initial_weights(program, state)


def _example(example: Tensor) -> Tensor:
    if not isinstance(example, Tensor) or example.dim() < 1 or example.dtype not in _DTYPES:
        raise TaskError(f"example() must give one float32 or int64 tensor [batch, …], not {type(example).__name__}")
    # A batch of one would be taken for a constant.
    return example.new_zeros((3, *example.shape[1:]))


def _export(module: nn.Module, example: Tensor) -> ExportedProgram:
    shapes = ({0: Dim("batch", min=2, max=LARGEST_BATCH)},)
    noisy = logging.getLogger("torch.export")
    level = noisy.level
    noisy.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch's own deprecations, which the engineer cannot mend
            exported: ExportedProgram = export(module, (example,), dynamic_shapes=shapes, strict=False)
            return _decomposed(exported.run_decompositions({}))
    except Exception as error:  # whatever the engineer's own forward() raises
        reason = str(error).strip().split("\n")[0][:300]
        where = place_in_traceback(error)
        raise TaskError(
            f"{where}torch.export cannot capture the model: {type(error).__name__}: {reason}. {_way_out(error)}"
        ) from error
    finally:
        noisy.setLevel(level)


def _decomposed(functional: ExportedProgram) -> ExportedProgram:
    """The same graph, with operators that the opset lacks written with simpler ones where PyTorch knows how."""
    for _ in range(_DECOMPOSITIONS):
        unknown = {node.target for node in functional.graph.nodes if node.op == "call_function" and not is_known(node)}
        known_how = default_decompositions() if unknown else {}
        table = {target: known_how[target] for target in unknown if target in known_how}
        if not table:
            break
        functional = functional.run_decompositions(table)
    return functional


def _way_out(error: Exception) -> str:
    """What an engineer can do about a model that cannot be captured."""
    text = f"{type(error).__name__} {error}"
    if any(
        word in text for word in ("GuardOnDataDependent", "data-dependent", "Could not guard", "DynamicControlFlow")
    ):
        return "Do not branch on the values of tensors: choose between two with torch.where."
    if any(word in text for word in ("batch", "specialized", "Constraints violated", "divisible")):
        return "The model must take any batch size: write x.shape[0] or -1 where it has a number for the batch."
    return "The model must take any batch size and must not branch on the values of tensors."


@dataclass
class _State:
    """The module's tensors by what they become."""

    parameters: dict[str, Tensor]
    buffers: dict[str, Tensor]  # float32, and changed by training
    others: dict[str, Tensor]  # everything else that a graph may read: constants
    canonical: dict[str, str]  # of tied parameters, the name that is kept

    @classmethod
    def of(cls, module: nn.Module, train: ExportedProgram) -> _State:
        named_parameters: dict[str, Tensor] = dict(module.named_parameters())
        parameters = {name: tensor for name, tensor in named_parameters.items() if tensor.requires_grad}
        # What does not train is a constant: it goes into the manifest itself, so there is not much room.
        frozen = {name: tensor for name, tensor in named_parameters.items() if not tensor.requires_grad}
        if (num_bytes := sum(4 * tensor.numel() for tensor in frozen.values())) > ProgramLimits().constant_bytes:
            raise TaskError(
                f"the frozen parameters ({', '.join(list(frozen)[:3])} …) take {num_bytes:,} bytes; a task has room "
                f"for {ProgramLimits().constant_bytes:,}: train them too, or apply that part of the model to the data "
                "beforehand"
            )
        for name, tensor in parameters.items():
            if tensor.dtype != torch.float32:
                raise TaskError(f"the parameter {name!r} is {tensor.dtype}; use float32")
        by_identity = {id(tensor): name for name, tensor in parameters.items()}
        tied = module.named_parameters(remove_duplicate=False)
        changed = set(train.graph_signature.buffers_to_mutate.values())
        named = dict(module.named_buffers())
        buffers = {n: t for n, t in named.items() if n in changed and t.dtype == torch.float32}
        # Integer buffers that training changes only count batches: their updates are dropped, and
        # reading one is an error because it is neither here nor there.
        others = {n: t for n, t in named.items() if n not in changed} | frozen
        canonical = {name: by_identity[id(tensor)] for name, tensor in tied if id(tensor) in by_identity}
        return cls(parameters, buffers, others, canonical)


class _Constants:
    """The constants of both graphs, each once: the graphs may have the same name for different ones."""

    def __init__(self, state: _State) -> None:
        self._state = state
        self.kept: list[Constant] = []

    def number(self, name: str, tensor: Tensor) -> int:
        """The value's number of a tensor that never changes."""
        kept = tensor.detach().to(torch.float32) if tensor.is_floating_point() else tensor.detach()
        if kept.is_floating_point():  # numbers on the wire are finite; no softmax tells this from the −∞ of a mask
            kept = kept.nan_to_num(nan=math.nan, posinf=LARGEST_OPERAND, neginf=-LARGEST_OPERAND)
        if kept.dtype not in _DTYPES:
            raise TaskError(f"the constant {name!r} is {tensor.dtype}; use float32 or int64")
        array = kept.cpu().numpy()
        content = array.astype(array.dtype.newbyteorder("<")).tobytes()
        constant = Constant(dtype=_DTYPES[kept.dtype], shape=tuple(kept.shape), content=content)
        if constant not in self.kept:
            self.kept.append(constant)
        return 1 + len(self._state.parameters) + len(self._state.buffers) + self.kept.index(constant)


def _graph(exported: ExportedProgram, state: _State, constants: _Constants) -> GraphBuilder:
    """Read one exported graph: name its inputs, keep the nodes that its outputs need."""
    builder = GraphBuilder(exported.graph, constants.number)
    parameters, buffers = list(state.parameters), list(state.buffers)
    used = builder.used_inputs(_wanted_outputs(exported, buffers))
    for spec in exported.graph_signature.input_specs:
        name = getattr(spec.arg, "name", "")
        target = spec.target or ""
        if spec.kind is InputKind.USER_INPUT:
            builder.give(name, 0)
        elif spec.kind is InputKind.PARAMETER and target in state.canonical:
            builder.give(name, 1 + parameters.index(state.canonical[target]))
        elif target in state.buffers:
            builder.give(name, 1 + len(parameters) + buffers.index(target))
        elif name in used:
            builder.know(name, target, _constant_tensor(exported, state, target))
    builder.translate()
    return builder


def _constant_tensor(exported: ExportedProgram, state: _State, target: str) -> Tensor:
    tensor = state.others.get(target, exported.constants.get(target))
    if not isinstance(tensor, Tensor):
        raise TaskError(
            f"the model reads {target!r}, which training changes and which is not float32: only float32 buffers "
            "are kept between steps"
        )
    return tensor


def _wanted_outputs(exported: ExportedProgram, buffers: list[str]) -> tuple[str, dict[int, str]]:
    """The names of the output and, by buffer, of the updates."""
    outputs: list[str] = []
    updates: dict[int, str] = {}
    for spec in exported.graph_signature.output_specs:
        name: Any = getattr(spec.arg, "name", None)
        if spec.kind is OutputKind.USER_OUTPUT:
            outputs.append(name)
        elif spec.kind is OutputKind.BUFFER_MUTATION and spec.target in buffers:
            updates[buffers.index(spec.target)] = name
        elif spec.kind is not OutputKind.BUFFER_MUTATION:
            raise TaskError(f"the model changes {spec.target!r} while it runs; only buffers may change")
    if len(outputs) != 1 or outputs[0] is None:
        raise TaskError(f"the model returns {len(outputs)} values; return one tensor")
    return outputs[0], updates


def _without_updates(graph: Graph) -> Graph:
    if graph.updates:
        raise TaskError("the model changes buffers in eval mode; let it do so in train mode only")
    return graph


def _initial_weights(program: Program, state: _State) -> bytes:
    layout = ModelLayout.of(program)
    named = {n: t.detach().cpu().numpy() for n, t in (*state.parameters.items(), *state.buffers.items())}
    parameters, buffers = layout.join(named)
    check_finite(layout, parameters, buffers)
    return encode_weights(layout, parameters, buffers)
