"""A perceptron for images of 28x28 pixels."""

from torch import nn


def build() -> nn.Module:
    """784 pixels, 64 hidden units, 10 classes: 50,890 parameters."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(784, 64),
        nn.ReLU(),
        nn.Linear(64, 10),
    )
