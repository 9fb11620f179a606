"""A Seq2Seq network: one LSTM reads a day, another writes the next hours as changes to the last one."""

import torch
from torch import Tensor, nn

COLUMNS, UNITS, HOURS = 4, 32, 6


class Seq2Seq(nn.Module):
    """Takes [batch, 24, 4], gives [batch, 6, 4]."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.LSTM(COLUMNS, UNITS, batch_first=True)
        self.decoder = nn.LSTM(COLUMNS, UNITS, batch_first=True)
        self.change = nn.Linear(UNITS, COLUMNS)

    def forward(self, day: Tensor) -> Tensor:
        """Each hour begins from the hour before it as predicted."""
        _, (hidden, cell) = self.encoder(day)
        hour = day[:, -1:]
        hours = []
        for _ in range(HOURS):
            output, (hidden, cell) = self.decoder(hour, (hidden, cell))
            hour = hour + self.change(output)
            hours.append(hour)
        return torch.cat(hours, 1)


def build() -> nn.Module:
    """The network."""
    return Seq2Seq()
