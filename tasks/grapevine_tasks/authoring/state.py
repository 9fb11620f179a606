"""A module's tensors by what they become: parameters, buffers that training changes, constants."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, OutputKind

from grapevine_proto.errors import TaskError
from grapevine_proto.program_codec import MAX_DIMENSIONS, MAX_NAME, is_tensor_name
from grapevine_tasks.authoring.places import Origins
from grapevine_tasks.authoring.regions import reached_inputs
from grapevine_tasks.checks import ProgramLimits


@dataclass
class State:
    """The tensors of a module."""

    parameters: dict[str, Tensor]
    buffers: dict[str, Tensor]  # float32, and changed by training
    others: dict[str, Tensor]  # everything else that a graph may read: constants
    canonical: dict[str, str]  # of tied parameters, the name that is kept
    origin: Callable[[str], str]  # the line where a tensor was made, by its name: `model.py, line 17: `

    @classmethod
    def of(cls, module: nn.Module, train: ExportedProgram, origins: Origins) -> State:
        """Sort a module's tensors; `train` is its functional training graph.

        Raises TaskError, with the line of `origins`, for tensors that no program can hold.
        """
        named: dict[str, Tensor] = dict(module.named_parameters())
        unreached = _unreached(module, train)
        parameters = {n: t for n, t in named.items() if t.requires_grad and n not in unreached}
        # What does not train is a constant: it goes into the manifest itself, so there is not much room.
        frozen = {n: t for n, t in named.items() if n not in parameters}
        if (num_bytes := sum(4 * tensor.numel() for tensor in frozen.values())) > ProgramLimits().constant_bytes:
            raise TaskError(
                f"{origins.place(module, next(iter(frozen)))}the frozen parameters ({', '.join(list(frozen)[:3])} …) "
                f"take {num_bytes:,} bytes; a task has room for {ProgramLimits().constant_bytes:,}: train them too, or "
                "apply that part of the model to the data beforehand"
            )
        for name, tensor in parameters.items():
            if tensor.dtype != torch.float32:
                raise TaskError(f"{origins.place(module, name)}the parameter {name!r} is {tensor.dtype}; use float32")
        by_identity = {id(tensor): name for name, tensor in named.items()}
        all_names = list(module.named_parameters(remove_duplicate=False))
        changed = set(train.graph_signature.buffers_to_mutate.values())
        buffers_by_name = dict(module.named_buffers(remove_duplicate=False))
        buffers = {n: t for n, t in buffers_by_name.items() if n in changed and t.dtype == torch.float32}
        # Integer buffers that training changes only count batches: their updates are dropped, and
        # reading one is an error because it is neither here nor there.
        others: dict[str, Tensor] = {n: t for n, t in buffers_by_name.items() if n not in changed}
        others |= {n: t for n, t in all_names if by_identity[id(t)] in frozen}
        canonical = {n: by_identity[id(t)] for n, t in all_names if by_identity[id(t)] in parameters}
        for name, tensor in (*parameters.items(), *buffers.items()):
            _check_sendable(name, tensor, origins.place(module, name))
        return cls(parameters, buffers, others, canonical, partial(origins.place, module))


def _unreached(module: nn.Module, train: ExportedProgram) -> set[str]:
    """Parameters that training reads but no gradient comes to, as under `no_grad`: nothing would ever change them.

    Where that is all of them they stay parameters, and the checks say that nothing is learnt.
    """
    signature = train.graph_signature
    output = next((str(s.arg.name) for s in signature.output_specs if s.kind is OutputKind.USER_OUTPUT), "")
    if output not in {node.name for node in train.graph.nodes}:
        return set()
    reached = reached_inputs(train.graph, output)
    read = {node.name for node in train.graph.nodes if node.op == "placeholder" and node.users}
    by_identity = {id(tensor): name for name, tensor in module.named_parameters() if tensor.requires_grad}
    tied = {n: by_identity[id(t)] for n, t in module.named_parameters(remove_duplicate=False) if id(t) in by_identity}
    specs = [s for s in signature.input_specs if s.kind is InputKind.PARAMETER and s.target in tied]
    trained = {tied[s.target] for s in specs if s.arg.name in reached}
    unreached = {tied[s.target] for s in specs if s.arg.name in read} - trained
    return unreached if trained else set()


def _check_sendable(name: str, tensor: Tensor, place: str) -> None:
    what = f"{place}the tensor {name[:80]!r}"
    if not is_tensor_name(name):
        long = f" and {MAX_NAME} characters at most, not {len(name)}" if len(name) > MAX_NAME else ""
        raise TaskError(
            f"{what} cannot be sent by this name: call its layer by letters a to z, digits, '_' and '-'{long}"
        )
    if tensor.numel() == 0:
        raise TaskError(f"{what} has no elements (shape {list(tensor.shape)}): leave it out")
    if tensor.dim() > MAX_DIMENSIONS:
        raise TaskError(f"{what} has {tensor.dim()} dimensions; {MAX_DIMENSIONS} at most: make it flatter")
