"""Programs that were published with this operator set are understood, and compute what they did."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from tests.unit.tasks.golden.generate import FOLDER, computed, write
from tests.unit.tasks.golden.sizes import sizes

from grapevine_proto.program import Operator, Program
from grapevine_proto.program_codec import decode_program, encode_program
from grapevine_tasks.checks import ProgramLimits, check_program

NAMES = sorted(path.stem for path in FOLDER.glob("*.program"))


def _program(name: str) -> Program:
    return decode_program((FOLDER / f"{name}.program").read_bytes())


def test_there_is_one_for_every_operator() -> None:
    programs = map(_program, NAMES)
    used = {node.operator for program in programs for node in (*program.train.nodes, *program.eval.nodes)}
    missing = sorted(operator.name for operator in set(Operator) - used)
    assert not missing, f"give {missing} a model in models.py and run python -m tests.unit.tasks.golden.generate"


@pytest.mark.parametrize("name", NAMES)
def test_it_is_read_checked_and_computes_what_it_did(name: str) -> None:
    program = _program(name)
    assert encode_program(program) == (FOLDER / f"{name}.program").read_bytes()
    check_program(program, ProgramLimits())
    kept = safetensors.numpy.load((FOLDER / f"{name}.safetensors").read_bytes())
    for what, found in computed(program, kept).items():
        # As close as another machine and another version of PyTorch come.
        scale = float(np.abs(kept[what]).max(initial=0.0))
        np.testing.assert_allclose(found, kept[what], rtol=1e-4, atol=1e-5 * max(scale, 1e-3), err_msg=what)


def test_what_is_there_is_not_written_again() -> None:
    before = (FOLDER / "sizes.program").read_bytes()
    with pytest.raises(FileExistsError):
        write("sizes", sizes)
    assert (FOLDER / "sizes.program").read_bytes() == before


def test_they_are_small() -> None:
    assert sum(Path(path).stat().st_size for path in FOLDER.iterdir() if path.is_file()) < 300_000
