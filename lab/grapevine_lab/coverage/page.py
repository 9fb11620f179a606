"""docs/coverage.md: what was measured, as a page."""

from __future__ import annotations

import platform
import re
from collections.abc import Mapping

import torch

from grapevine_lab.bench.figures import quartiles
from grapevine_lab.coverage.measure import Coverage
from grapevine_proto.program import Operator
from grapevine_tasks.checks import EVALUATION_BATCH

_HEAD = """# What the operator set covers

A task's model may be any module that `torch.export` captures, with the {num_operators} operators of
[operator set 1](operators.md). Each model below was built, sent through the wire codec, checked, and trained for a step
beside eager PyTorch: same weights, samples and seed. Written by `python -m grapevine_lab.coverage` with PyTorch
{torch} on {machine}, one thread.

- *nodes, operators*: of the training graph, and how many different ones it has.
- *program*: encoded, in bytes; a manifest carries it. Parameters travel apart.
- *gradients differ*: the largest difference of any parameter's gradient, over the largest gradient; *outputs differ*:
  the largest of the outputs in training and in evaluation. 0 is equality to the bit. Across machines and versions of
  PyTorch no more is promised than PyTorch does. Every model that is built is compared like this, its buffers too, and
  refused beyond 1e-4 ([decision 50](decisions/0050-the-program-is-the-module.md)).
- *speed*: eager PyTorch's time of a training step (forward, loss, backward) over the interpreter's, both in one process
  in turn; the median of the pairs, its quartiles in brackets, and how many pairs. 1 is as fast as eager.
- *fits*: by the limits that a device has unless its owner sets others, with this batch and samples of this size. Models
  are evaluated with {evaluation_batch} samples at a time, which is what large images are refused for.

| model | nodes | operators | program | parameters | gradients differ | outputs differ | batch | speed | fits |
| --- | --: | --: | --: | --: | --: | --: | --: | --- | --- |
"""
_MEASURED = "the gradient of … is up to … and the module's own …. "
_REFUSED = """
## What is refused

Building names the line of `model.py` and a way out.

| model | error |
| --- | --- |
"""


def page(covered: Mapping[str, Coverage], refused: Mapping[str, str]) -> str:
    """The whole page. Models are rows, in the order given."""
    head = _HEAD.format(
        num_operators=len(Operator), torch=torch.__version__, machine=_machine(), evaluation_batch=EVALUATION_BATCH
    )
    rows = "".join(_row(name, found) for name, found in covered.items())
    return head + rows + _REFUSED + "".join(f"| {name} | {_quoted(error)} |\n" for name, error in refused.items())


def _row(name: str, found: Coverage) -> str:
    cells = (
        name,
        f"{found.num_nodes}",
        f"{found.num_operators}",
        f"{found.program_bytes:,}",
        f"{found.num_parameters:,}",
        _difference(found.gradient_difference),
        _difference(found.output_difference),
        f"{found.batch}",
        _speed(found.pairs),
        "yes" if found.fits else "no",
    )
    return f"| {' | '.join(cells)} |\n"


def _difference(number: float) -> str:
    return f"{number:.0e}" if number else "0"


def _speed(pairs: tuple[float, ...]) -> str:
    if not pairs:
        return "–"
    low, middle, high = quartiles(pairs)
    return f"{middle:.2f} ({low:.2f} … {high:.2f}), {len(pairs)} pairs"


def _quoted(error: str) -> str:
    """An error in a cell, without measured numbers; lines of this package's own files stand for the engineer's."""
    plain = re.sub(r"refused\.py, line \d+", "model.py, line …", error)
    plain = re.sub(r"the gradient of .* is up to \S+ and the module's own \S+\. ", _MEASURED, plain)
    return plain.replace("|", r"\|").replace("\n", " ")


def _machine() -> str:
    return f"{platform.system()} {platform.machine()}"
