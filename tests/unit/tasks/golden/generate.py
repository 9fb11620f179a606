"""`python -m tests.unit.tasks.golden.generate`: write golden programs that are not there yet.

A golden program is what a task published with this version holds, with what it computes. It is never
written again: a later version that reads one differently would read published tasks differently. A new
operator gets a new model in `models.py` (or a new name), and with it a new file.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import safetensors.numpy
import torch
from numpy.typing import NDArray
from tests.unit.tasks.golden.models import GOLDEN_MODELS
from tests.unit.tasks.golden.sizes import sizes

from grapevine_proto.program import Program
from grapevine_proto.program_codec import encode_program
from grapevine_tasks.authoring.export import build_program
from grapevine_tasks.interpreter import Interpreter
from grapevine_tasks.layout import ModelLayout
from grapevine_tasks.weights import decode_weights

FOLDER = Path(__file__).parent
SEED = 7
Arrays = dict[str, NDArray[np.float32]]


def computed(program: Program, given: Arrays) -> Arrays:
    """A training step of loss mean(output²) and an evaluation, from `x` [n, …], `parameters` [p], `buffers` [b]."""
    layout = ModelLayout.of(program)
    named = {n: torch.from_numpy(t.copy()) for n, t in layout.split(given["parameters"], given["buffers"]).items()}
    parameters = [named[entry.name].requires_grad_() for entry in layout.parameters]
    buffers = [named[entry.name] for entry in layout.buffers]
    x = torch.from_numpy(given["x"])
    interpreter = Interpreter(program)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        output, moved = interpreter.run("train", (x,), parameters, buffers)
        evaluated, _ = interpreter.run("eval", (x,), parameters, buffers)
    gradients = torch.autograd.grad(output.square().mean(), parameters)
    return {
        "output": output.detach().numpy(),
        "gradients": _flat(gradients),
        "moved": _flat(moved),
        "evaluated": evaluated.detach().numpy(),
    }


def _flat(tensors: list[torch.Tensor] | tuple[torch.Tensor, ...]) -> NDArray[np.float32]:
    return np.concatenate([np.zeros(0, np.float32), *(tensor.numpy().reshape(-1) for tensor in tensors)])


def write(name: str, make: Callable[[], tuple[Program, bytes]]) -> None:
    """Write one golden program. Raises FileExistsError if it is there."""
    torch.manual_seed(SEED)
    program, weights = make()
    parameters, buffers = decode_weights(ModelLayout.of(program), weights)
    given = {"x": torch.randn(4, 8, 8).numpy(), "parameters": parameters, "buffers": buffers}
    with (FOLDER / f"{name}.program").open("xb") as file:
        file.write(encode_program(program))
    with (FOLDER / f"{name}.safetensors").open("xb") as file:
        file.write(safetensors.numpy.save(given | computed(program, given)))


def main() -> None:
    """Write what is missing, and say what was left alone."""
    made: dict[str, Callable[[], tuple[Program, bytes]]] = {"sizes": sizes}
    for name, model in GOLDEN_MODELS.items():
        made[name] = lambda model=model: build_program(model(), torch.zeros(2, 8, 8))  # type: ignore[misc]
    for name, make in made.items():
        if (FOLDER / f"{name}.program").exists():
            sys.stdout.write(f"{name}: is there, and is never written again\n")
        else:
            write(name, make)
            sys.stdout.write(f"{name}: written\n")


if __name__ == "__main__":
    main()
