"""The linear model of the scale-robust paper: f(x, θ) = xᵀθ, θ in 100 dimensions."""

import torch
from torch import nn


def build() -> nn.Module:
    """100 parameters, 0 to begin with: no bias, as f(x, 0) = 0 whatever x is."""
    model = nn.Linear(100, 1, bias=False)
    with torch.no_grad():
        model.weight.zero_()
    return model
