"""The faster masks are PyTorch's, and leave its generator where PyTorch would."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F  # noqa: N812 — its usual name

from grapevine_lab.simulator.training import quick_dropout
from grapevine_lab.simulator.training.quick_dropout import dropout, kept


@pytest.mark.parametrize("quick", [True, False])
@pytest.mark.parametrize("p", [0.1, 0.2, 0.3, 0.5, 0.999])
def test_a_mask_and_the_generator_after_it_are_the_same_to_the_bit(
    p: float, quick: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not quick:
        monkeypatch.setattr(quick_dropout, "_draws_doubles", lambda: False)
    one, other = torch.Generator().manual_seed(7), torch.Generator().manual_seed(7)
    for shape in ((3, 5), (70, 31, 33), (1,)):  # the second in more than one piece
        wanted = torch.empty(shape).bernoulli_(1 - p, generator=one).bool()
        assert torch.equal(kept(torch.empty(shape, dtype=torch.bool), p, other), wanted)
        assert torch.equal(one.get_state(), other.get_state())


@pytest.mark.parametrize("p", [0.0, 0.2, 0.7, 1.0])
def test_dropout_and_its_gradient_are_pytorchs_to_the_bit(p: float) -> None:
    for x in (torch.rand(4, 3, 5, 6), torch.rand(4, 3, 5, 6).contiguous(memory_format=torch.channels_last)):
        given, wanted = x.clone().requires_grad_(), x.clone().requires_grad_()
        torch.manual_seed(3)
        expected = F.dropout(wanted, p, training=True)
        torch.manual_seed(3)
        found = dropout(given, p)
        assert torch.equal(found, expected)
        weights = torch.rand(4, 3, 5, 6)
        (gradient,) = torch.autograd.grad((found * weights).sum(), given)
        (expected_gradient,) = torch.autograd.grad((expected * weights).sum(), wanted)
        assert torch.equal(gradient, expected_gradient)
