"""A trained program as a `.pt2` that plain PyTorch loads: what an engineer takes home.

The checked program is run once by our own kernels under `torch.export`, which records them as ATen
operators with the parameters inside. Nothing that a peer sent is loaded or executed on the way.
"""

from __future__ import annotations

import io
import warnings

import torch
from torch import Tensor, nn
from torch.export import Dim

from grapevine_proto.errors import TaskError
from grapevine_proto.messages import Vector
from grapevine_proto.program import Program
from grapevine_tasks.authoring.export import LARGEST_BATCH
from grapevine_tasks.interpreter import Interpreter
from grapevine_tasks.layout import ModelLayout

_DTYPES = {"float32": torch.float32, "int64": torch.int64}


class ProgramModule(nn.Module):
    """A program in eval mode as a module. Its tensors are `tensor_0`, `tensor_1`, … in the program's order.

    A program's own names may hold dots, which a flat module cannot have.
    """

    def __init__(self, program: Program, parameters: Vector, buffers: Vector) -> None:
        super().__init__()
        self._interpreter = Interpreter(program)
        named = ModelLayout.of(program).split(parameters, buffers)
        self._parameter_names = [f"tensor_{i}" for i in range(len(program.parameters))]
        self._buffer_names = [f"buffer_{i}" for i in range(len(program.buffers))]
        for name, spec in zip(self._parameter_names, program.parameters, strict=True):
            self.register_parameter(name, nn.Parameter(torch.from_numpy(named[spec.name].copy())))
        for name, spec in zip(self._buffer_names, program.buffers, strict=True):
            self.register_buffer(name, torch.from_numpy(named[spec.name].copy()))

    def forward(self, batch: Tensor) -> Tensor:
        """[batch, …] as the program's input says → [batch, …]."""
        parameters = [self.get_parameter(name) for name in self._parameter_names]
        buffers = [self.get_buffer(name) for name in self._buffer_names]
        output, _ = self._interpreter.run("eval", [batch], parameters, buffers)
        return output


def standalone_bytes(program: Program, parameters: Vector, buffers: Vector) -> bytes:
    """The content of a `.pt2` file with the program's eval graph and these weights, for any batch size.

    The program must have passed `check_program`. Raises TaskError where PyTorch cannot capture it.
    """
    module = ProgramModule(program, parameters, buffers).eval()
    spec = program.inputs[0]
    example = torch.zeros((3, *spec.shape), dtype=_DTYPES[spec.dtype])
    file = io.BytesIO()
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # PyTorch's own deprecations
            shapes = ({0: Dim("batch", min=2, max=LARGEST_BATCH)},)
            exported = torch.export.export(module, (example,), dynamic_shapes=shapes, strict=False)
            torch.export.save(exported, file)
    except Exception as error:  # whatever torch.export raises; its classes are not public
        reason = str(error).strip().split("\n")[0][:300]
        raise TaskError(
            f"torch.export cannot write the program as .pt2: {type(error).__name__}: {reason}; "
            "the safetensors file holds the same weights"
        ) from error
    return file.getvalue()
