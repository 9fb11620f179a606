"""LeNet-5 (LeCun et al. 1998) with ReLU and max-pooling: 66,126 parameters for 62 classes."""

from torch import nn

CLASSES = 62


def build() -> nn.Module:
    """Takes [batch, 1, 28, 28], gives a score for each character."""
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(400, 120),
        nn.ReLU(),
        nn.Linear(120, 84),
        nn.ReLU(),
        nn.Linear(84, CLASSES),
    )
