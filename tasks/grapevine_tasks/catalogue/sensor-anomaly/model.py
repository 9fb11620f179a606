"""An autoencoder with a narrow middle: 12 readings of 3 columns through 6 numbers."""

from torch import nn

READINGS, COLUMNS, MIDDLE = 12, 3, 6


def build() -> nn.Module:
    """Takes [batch, 12, 3] and gives as much."""
    numbers = READINGS * COLUMNS
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(numbers, 24),
        nn.Tanh(),
        nn.Linear(24, MIDDLE),
        nn.Tanh(),
        nn.Linear(MIDDLE, 24),
        nn.Tanh(),
        nn.Linear(24, numbers),
        nn.Unflatten(1, (READINGS, COLUMNS)),
    )
