"""The convolutional network of the Delta Sum Learning paper, for handwritten digits of 28×28 pixels."""

from torch import Tensor, nn


class DigitsNetwork(nn.Module):
    """Two convolutions and two dense layers, 55,338 parameters; images [n, 28, 28] in, scores [n, 10] out."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding="same"),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Dropout(0.2),
            nn.Conv2d(16, 32, 3, padding="same"),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Dropout(0.3),
            nn.Flatten(),
            nn.Linear(32 * 7 * 7, 32),
            nn.ReLU(),
            nn.Dropout(0.2),
            nn.Linear(32, 10),
        )
        for layer in self.layers:
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.xavier_uniform_(layer.weight)  # Glorot & Bengio 2010, as Keras begins
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Scores of the ten digits."""
        scores: Tensor = self.layers(images.unsqueeze(1))  # one channel
        return scores


def build() -> nn.Module:
    """The initial model."""
    return DigitsNetwork()
