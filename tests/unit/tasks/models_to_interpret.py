"""Models for the interpreter's tests that use the operators of layers beyond perceptrons and convolutions.

Each takes [batch, 8, 8].
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812


class Recurrent(nn.Module):
    """Sequences in, sequences out, and the last states of three kinds of recurrent layers."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(8, 6, num_layers=2, dropout=0.3, bidirectional=True, batch_first=True)
        self.gru = nn.GRU(12, 5, batch_first=True)
        self.rnn, self.relu = nn.RNN(5, 4), nn.RNN(4, 4, nonlinearity="relu", bias=False)
        self.out = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        y, (hidden, cell) = self.lstm(x)
        y, last = self.gru(y)
        y = self.relu(self.rnn(y.transpose(0, 1))[0])[0]
        output: Tensor = self.out(y[-1]) + hidden.mean() + cell.mean() + last.mean()
        return output


class Cells(nn.Module):
    """A loop over steps that PyTorch unrolls."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.gru, self.out = nn.LSTMCell(8, 5), nn.GRUCell(5, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        hidden, cell = x.new_zeros(x.shape[0], 5), torch.zeros(x.shape[0], 5)
        state = torch.ones_like(hidden)[:, :4]
        for step in range(3):
            hidden, cell = self.lstm(x[:, step], (hidden, cell))
            state = self.gru(hidden, state)
        output: Tensor = self.out(state)
        return output


class Words(nn.Module):
    """Embedded words with a mask, and the mean of those that are there."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.out = nn.Embedding(10, 6, padding_idx=0), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        words = (x.abs().clamp(max=2.9) * 3).to(torch.int64)[:, 0]
        there = (words != 0).unsqueeze(2)
        mean = (self.words(words) * there.float()).sum(1) / there.float().sum(1).clamp(min=1)
        output: Tensor = self.out(mean)
        return output


class Transformer(nn.Module):
    """PyTorch's own encoder, with positions that are computed and a causal mask."""

    def __init__(self) -> None:
        super().__init__()
        self.positions = nn.Embedding(8, 8)
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, 0.1, batch_first=True), 1)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.out = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.encoder(x + self.positions(torch.arange(8)))
        later = torch.ones(8, 8, dtype=torch.bool).triu(1)
        y = y + self.attention(y, y, y, attn_mask=later, need_weights=False)[0]
        output: Tensor = self.out(y.mean(1))
        return output


class Images(nn.Module):
    """Images made larger and smaller in every way."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(1, 4, 3, padding=1), nn.ConvTranspose2d(4, 2, 3, stride=2, output_padding=1)
        self.wave, self.slope = nn.ConvTranspose1d(8, 4, 4, stride=2, padding=1), nn.PReLU(4)
        self.out = nn.Linear(9 + 16 + 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.slope(self.down(x.unsqueeze(1)))
        y = F.pad(F.pad(F.pixel_shuffle(y, 2), (1, 2, 1, 0), mode="reflect"), (0, 1, 1, 1), mode="replicate")
        larger = F.interpolate(y, scale_factor=2) + F.interpolate(y, size=(38, 40), mode="bilinear")
        z = self.up(F.max_pool2d(larger.repeat(1, 4, 1, 1), 4))
        waves = F.adaptive_avg_pool1d(F.max_pool1d(self.wave(x), 2), 4)
        first, second = z.split(1, dim=1)
        pooled = [F.adaptive_max_pool2d(first + second, 3), waves, F.adaptive_avg_pool2d(larger, 2)]
        output: Tensor = self.out(torch.cat([each.flatten(1) for each in pooled], 1))
        return output


class Choices(nn.Module):
    """Comparisons, masks, and what is the largest of several."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(64, 6)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.fc(x.flatten(1))
        y = torch.where((y > 0.1) & ~(y >= 2), y, y * 0.5) + y.masked_fill(y < -1, 0.0) + torch.where(y == 3, y, 1.0)
        y = y + (y <= 0.3).float() + (y == y.max(1, keepdim=True)[0]).float() + y.min(1, keepdim=True)[0].detach()
        best = y.argmax(1, keepdim=True).float()
        return y + best + F.threshold(y, 0.1, 0.0) + F.logsigmoid(y) + F.glu(y.repeat(1, 2), 1) + F.softsign(y)


class Spreads(nn.Module):
    """Reductions with options, sums along the way, and what rounds."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(64, 6)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.fc(x.flatten(1))
        y = y + y.std(1, keepdim=True) + y.var((0, 1), unbiased=False) + y.norm(dim=1, keepdim=True)
        y = F.normalize(y, dim=1) + y.logsumexp(1, keepdim=True) + y.prod(1, keepdim=True) + y.amin(1, keepdim=True)
        y = y.cumsum(1) + y.floor() + y.sign() * torch.erf(y) + torch.einsum("bi,bj->bij", y, y).sum(2)
        return y + y.clamp_max(0.5) + y.clamp_min(-0.5)


class Noise(nn.Module):
    """A variational autoencoder's middle, and layers that are left out at random."""

    def __init__(self) -> None:
        super().__init__()
        self.encode, self.decode = nn.Linear(64, 8), nn.Linear(4, 6)

    def forward(self, x: Tensor) -> Tensor:
        mean, log_variance = self.encode(x.flatten(1)).chunk(2, 1)
        y = self.decode(mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean))
        kept = torch.empty(x.shape[0], 1).bernoulli_(0.8) if self.training else torch.ones(1, 1)
        output: Tensor = F.dropout(y, 0.2, self.training, inplace=True) * kept
        return output


class Volumes(nn.Module):
    """Three dimensions."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.out = nn.Conv3d(1, 2, 3, padding=1), nn.Linear(2 * 1 * 4 * 2, 3)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.out(F.max_pool3d(self.conv(x.reshape(-1, 1, 2, 8, 4)), 2).flatten(1))
        return output


class LookedUp(nn.Module):
    """Rows by number, the other way round, what is picked from each sample, and masks of infinity."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.scale = nn.Linear(8, 6), nn.Parameter(torch.tensor(2.0))
        self.order: Tensor
        self.allowed: Tensor
        self.register_buffer("order", torch.tensor([5, 3, 0, 1, 2, 4, 3, 3]))
        self.register_buffer("allowed", torch.eye(8) > 0)

    def forward(self, x: Tensor) -> Tensor:
        y = self.fc(x)[:, self.order].flip(1) * self.scale
        y = y.index_select(2, torch.arange(5, -1, -1)).roll(1, 2)
        scores = (y @ y.mT).masked_fill(~self.allowed, -torch.inf).masked_fill(y[:, :1, :1] > 100, -torch.inf)
        y = torch.softmax(scores, 2) @ y
        y = y + torch.log1p(y.abs()) + torch.expm1(-y.abs()) + ((y > 1) | (y < -1)).float()
        y = torch.clamp(y, min=self.scale - 3) + torch.clamp(y, max=self.scale)
        written = y.clone()
        written[:, 2:4] = y[:, :2] * 2
        written[:, :, 0] = 0.5
        best = written.argmax(1, keepdim=True)
        return written.gather(1, best).squeeze(1) + torch.full((x.shape[0], 6), 0.25)


class Different(nn.Module):
    """Training and evaluation compute other constants, in nodes of the same names."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(64, 4)

    def forward(self, x: Tensor) -> Tensor:
        steps = torch.arange(4, dtype=torch.float32) * (2.0 if self.training else 3.0)
        output: Tensor = self.fc(x.flatten(1)) * steps
        return output


MORE_MODELS: dict[str, Callable[[], nn.Module]] = {
    "recurrent layers": Recurrent,
    "recurrent cells": Cells,
    "embedded words": Words,
    "a Transformer": Transformer,
    "images resampled": Images,
    "choices": Choices,
    "spreads": Spreads,
    "noise": Noise,
    "volumes": Volumes,
    "what is looked up": LookedUp,
    "two modes": Different,
}
