"""A PyTorch module as a code-free program: `torch.export`, then translation node by node.

The module is exported twice, in train and in eval mode, because the two may differ in more than a
flag. `run_decompositions({})` makes the graphs functional: no operator changes a value in place,
and what a module did to its buffers becomes outputs. What records no gradients is detached before (`regions.py`);
what comes out is then held against the module (`faithful.py`).
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export import Dim, ExportedProgram, default_decompositions, export
from torch.export.graph_signature import InputKind, OutputKind

from grapevine_proto.errors import TaskError
from grapevine_proto.program import Constant, Graph, InputSpec, Program, TensorSpec
from grapevine_tasks.authoring.faithful import check_faithful
from grapevine_tasks.authoring.graph_builder import GraphBuilder, is_known
from grapevine_tasks.authoring.places import Origins, layer_of, place_of, place_of_function
from grapevine_tasks.authoring.refusals import CallsNoted, cannot_capture, check_layers, check_nodes
from grapevine_tasks.authoring.regions import DataIsDetached, detach_regions
from grapevine_tasks.authoring.state import State
from grapevine_tasks.authoring.untouched import put_back
from grapevine_tasks.layout import ModelLayout
from grapevine_tasks.opset import LARGEST_OPERAND
from grapevine_tasks.weights import check_finite, encode_weights

LARGEST_BATCH = 65536
_DECOMPOSITIONS = 3  # what an operator decomposes into may need the same once more
_DTYPES = {torch.float32: "float32", torch.int64: "int64"}


@dataclass(frozen=True, kw_only=True)
class Captured:
    """What a module became: its program, its initial weights (safetensors), and where each value comes from."""

    program: Program
    weights: bytes
    places: Mapping[str, Mapping[int, str]]  # by graph and number of a value: `model.py, line 17: `


def build_program(module: nn.Module, example_input: Tensor, origins: Origins | None = None) -> tuple[Program, bytes]:
    """Export a module, and see that what comes out is this module.

    Args:
        module: Takes one tensor [batch, …] and returns one tensor [batch, …], on the CPU. It is
            not changed.
        example_input: A batch, float32 or int64 [n, …]. The program is compared with the module on samples
            like it, if they are not all the same; else only its shape and dtype matter.
        origins: Where the module's layers were made.

    Returns:
        The program, and its initial weights: a safetensors file of the parameters and buffers.

    Raises:
        TaskError: When the module cannot be captured, uses operators that the opset lacks, or trains
            otherwise than the program would.
    """
    captured = capture(module, example_input, origins)
    check_faithful(module, captured.program, example_input, origins or Origins())
    return captured.program, captured.weights


def capture(module: nn.Module, example_input: Tensor, origins: Origins | None = None) -> Captured:
    """`build_program` without seeing whether what comes out is this module."""
    example = _example(example_input)
    origins = origins or Origins()

    def where(node: fx.Node) -> str:
        return place_of(node) or origins.place(module, layer_of(node))

    check_layers(module, origins)
    with put_back(module):
        train = _export(module.train(), example, where, origins)
        evaluation = _export(module.eval(), example, where, origins)
    state = State.of(module, train, origins)
    constants = _Constants(state)
    forward = place_of_function(module.forward)
    graphs = [_graph(exported, state, constants, where, forward) for exported in (train, evaluation)]
    # Constants come before results, so values are numbered once both graphs have named theirs.
    first_result = 1 + len(state.parameters) + len(state.buffers) + len(constants.kept)
    program = Program(
        inputs=(InputSpec(name="input", shape=tuple(example.shape[1:]), dtype=_DTYPES[example.dtype]),),
        parameters=tuple(TensorSpec(name=n, shape=tuple(t.shape)) for n, t in state.parameters.items()),
        buffers=tuple(TensorSpec(name=n, shape=tuple(t.shape)) for n, t in state.buffers.items()),
        constants=tuple(constants.kept),
        train=graphs[0].finish(first_result),
        eval=_without_updates(graphs[1].finish(first_result), evaluation, where),
    )
    places = {name: graph.places(first_result) for name, graph in zip(("train", "eval"), graphs, strict=True)}
    return Captured(program=program, weights=_initial_weights(program, state), places=places)


def _example(example: Tensor) -> Tensor:
    if not isinstance(example, Tensor) or example.dim() < 1 or example.dtype not in _DTYPES:
        raise TaskError(f"example() must give one float32 or int64 tensor [batch, …], not {type(example).__name__}")
    # A batch of one would be taken for a constant.
    return example.new_zeros((3, *example.shape[1:]))


def _export(module: nn.Module, example: Tensor, where: Callable[[fx.Node], str], origins: Origins) -> ExportedProgram:
    shapes = ({0: Dim("batch", min=2, max=LARGEST_BATCH)},)
    trainable = {name for name, each in module.named_parameters(remove_duplicate=False) if each.requires_grad}
    noted = CallsNoted()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch's own deprecations, which the engineer cannot mend
            with _without_its_logs(), DataIsDetached(), noted:
                exported: ExportedProgram = export(module, (example,), dynamic_shapes=shapes, strict=False)
            detach_regions(exported, trainable)
            functional = exported.run_decompositions({})
            check_nodes(functional.graph.nodes, where)
            return _decomposed(functional)
    except TaskError:
        raise
    except Exception as error:  # whatever the engineer's own forward() raises
        raise (noted.refused(error) or cannot_capture(error, module, example, origins)) from error


@contextmanager
def _without_its_logs() -> Iterator[None]:
    """Within, PyTorch writes nothing of its own to stderr: what is wrong with a model stands in one error of ours."""
    known = [name for name in logging.root.manager.loggerDict if name == "torch" or name.startswith("torch.")]
    levels = {name: logging.getLogger(name).level for name in ("torch", *known)}
    for name in levels:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


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


class _Constants:
    """The constants of both graphs, each once: the graphs may have the same name for different ones."""

    def __init__(self, state: State) -> None:
        self._state = state
        self.kept: list[Constant] = []

    def number(self, name: str, tensor: Tensor) -> int:
        """The value's number of a tensor that never changes."""
        kept = tensor.detach().to(torch.float32) if tensor.is_floating_point() else tensor.detach()
        if kept.is_floating_point():  # numbers on the wire are finite; no softmax tells this from the −∞ of a mask
            kept = kept.nan_to_num(nan=math.nan, posinf=LARGEST_OPERAND, neginf=-LARGEST_OPERAND)
        if kept.numel() == 0:
            raise TaskError(f"the tensor {name!r} has no elements (shape {list(kept.shape)}): leave it out")
        if kept.dtype not in _DTYPES:
            raise TaskError(f"the constant {name!r} is {tensor.dtype}; use float32 or int64")
        array = kept.cpu().numpy()
        content = array.astype(array.dtype.newbyteorder("<")).tobytes()
        constant = Constant(dtype=_DTYPES[kept.dtype], shape=tuple(kept.shape), content=content)
        if constant not in self.kept:
            self.kept.append(constant)
        return 1 + len(self._state.parameters) + len(self._state.buffers) + self.kept.index(constant)


def _graph(
    exported: ExportedProgram, state: State, constants: _Constants, where: Callable[[fx.Node], str], forward: str
) -> GraphBuilder:
    """Read one exported graph: name its inputs, keep the nodes that its outputs need."""
    builder = GraphBuilder(exported.graph, constants.number, where)
    parameters, buffers = list(state.parameters), list(state.buffers)
    used = builder.used_inputs(_wanted_outputs(exported, state, where, forward))
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
            builder.know(name, target, _constant_tensor(exported, state, target, where))
    builder.translate()
    return builder


def _constant_tensor(exported: ExportedProgram, state: State, target: str, where: Callable[[fx.Node], str]) -> Tensor:
    tensor = state.others.get(target, exported.constants.get(target))
    if not isinstance(tensor, Tensor):
        place = _reader(exported, target, where) or state.origin(target)
        raise TaskError(
            f"{place}the model reads {target!r}, which training changes and which is not float32: only float32 buffers "
            "are kept between steps"
        )
    return tensor


def _wanted_outputs(
    exported: ExportedProgram, state: State, where: Callable[[fx.Node], str], forward: str
) -> tuple[str, dict[int, str]]:
    """The names of the output and, by buffer, of the updates."""
    buffers = list(state.buffers)
    outputs: list[str] = []
    updates: dict[int, str] = {}
    for spec in exported.graph_signature.output_specs:
        name: Any = getattr(spec.arg, "name", None)
        if spec.kind is OutputKind.USER_OUTPUT:
            outputs.append(name)
        elif spec.kind is OutputKind.BUFFER_MUTATION and spec.target in buffers:
            updates[buffers.index(spec.target)] = name
        elif spec.kind is not OutputKind.BUFFER_MUTATION:
            place = _reader(exported, spec.target, where) or state.origin(spec.target or "")
            raise TaskError(
                f"{place}the model changes {spec.target!r} while it runs; only buffers may change: compute with a "
                "changed copy, such as weight.clamp(-1, 1), or make it a buffer"
            )
    if outputs and not any(outputs):  # None is a constant, which has no name
        raise TaskError(f"{forward}forward() returns no tensor: let it end with return, and one tensor [batch, …]")
    if len(outputs) != 1 or not outputs[0]:
        made = {node.name: node for node in exported.graph.nodes}
        place = next((where(made[each]) for each in outputs if each), "")
        raise TaskError(f"{place}the model returns {len(outputs)} values; return one tensor")
    if not exported.call_spec.out_spec.is_leaf():
        kind = exported.call_spec.out_spec.type
        raise TaskError(f"{forward}forward() returns a {kind.__name__ if kind else 'container'}; return one tensor")
    return outputs[0], updates


def _reader(exported: ExportedProgram, target: str | None, where: Callable[[fx.Node], str]) -> str:
    """A line that reads a parameter; empty if none is known."""
    names = {spec.arg.name for spec in exported.graph_signature.input_specs if spec.target == target}
    readers = [user for node in exported.graph.nodes if node.name in names for user in node.users]
    return next((place for reader in readers if (place := where(reader))), "")


def _without_updates(graph: Graph, exported: ExportedProgram, where: Callable[[fx.Node], str]) -> Graph:
    if graph.updates:
        changed = next(iter(exported.graph_signature.buffers_to_mutate.values()), None)
        place = _reader(exported, changed, where)
        raise TaskError(f"{place}the model changes the buffer {changed!r} in eval mode; let it do so if self.training")
    return graph


def _initial_weights(program: Program, state: State) -> bytes:
    layout = ModelLayout.of(program)
    named = {n: t.detach().cpu().numpy() for n, t in (*state.parameters.items(), *state.buffers.items())}
    parameters, buffers = layout.join(named)
    check_finite(layout, parameters, buffers)
    return encode_weights(layout, parameters, buffers)
