"""Dropout's masks, drawn faster: the same numbers, bit for bit.

Where PyTorch draws a mask it asks its generator for 64 bits an element, makes a double of 53 of them and
compares that with a probability. Whole numbers of 64 bits come from the same generator, two draws each as
well, and faster; compared as they are they give the same mask and leave the generator in the same state.

On some processors PyTorch draws masks otherwise, fast, from a library's own streams. So the two are compared
once, and where they differ masks are drawn as ever.
"""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 — its usual name

_BITS = 53  # of a double's fraction
_PIECE = 2**16  # numbers drawn at a time: they stay in a core's cache
_TRIED = 1000  # elements


def dropout(x: Tensor, p: float) -> Tensor:
    """What `torch.nn.functional.dropout` computes in training, from PyTorch's global generator."""
    if p in {0, 1} or not x.is_contiguous():
        return F.dropout(x, p, training=True)
    return x * kept(torch.empty_like(x, dtype=torch.bool), p, torch.default_generator).mul(share(p))


def share(p: float) -> float:
    """What elements that are kept are multiplied by: 1/(1 − p) in PyTorch's precision."""
    return float(torch.ones(()).div_(1 - p))


def kept(mask: Tensor, p: float, generator: torch.Generator) -> Tensor:
    """Draw into `mask`, contiguous booleans of any shape, which elements are kept; `mask`."""
    if not _draws_doubles():
        return mask.copy_(torch.empty(mask.shape).bernoulli_(1 - p, generator=generator))
    limit = math.ceil((1 - p) * 2.0**_BITS)
    flat = mask.view(-1)
    numbers = torch.empty(min(_PIECE, len(flat)), dtype=torch.int64)
    for part in torch.split(flat, _PIECE):
        drawn = numbers[: len(part)].random_(-(2**63), None, generator=generator).bitwise_and_(2**_BITS - 1)
        torch.lt(drawn, limit, out=part)
    return mask


@cache
def _draws_doubles() -> bool:
    """Whether PyTorch draws a mask as this file does."""
    one, other = torch.Generator().manual_seed(0), torch.Generator().manual_seed(0)
    mask = torch.empty(_TRIED).bernoulli_(0.3, generator=one).bool()
    numbers = torch.empty(_TRIED, dtype=torch.int64).random_(-(2**63), None, generator=other)
    same = (numbers.bitwise_and_(2**_BITS - 1) < math.ceil(0.3 * 2.0**_BITS)).equal(mask)
    return same and one.get_state().equal(other.get_state())
