"""The non-linear model of the scale-robust paper: f(x, θ) = θ₁x₁ + θ₁θ₂x₂."""

import torch
from torch import Tensor, nn


class ProductRegression(nn.Module):
    """Two parameters, of which one is a factor of the other's coefficient."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.full((1, 1), 0.1))  # at 0 the second one would have no gradient
        self.second = nn.Parameter(torch.full((1, 1), 0.1))

    def forward(self, x: Tensor) -> Tensor:
        """X of [batch, 2] to y of [batch, 1]."""
        return x @ torch.cat([self.first, self.first * self.second])


def build() -> nn.Module:
    """2 parameters."""
    return ProductRegression()
