"""The named models that are written here: what engineers build from `torch.nn`, in its usual shapes."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 — its usual name


def perceptron() -> nn.Module:
    """Two hidden layers with dropout, for [batch, 1, 28, 28]."""
    layers = [nn.Flatten(), nn.Linear(784, 256), nn.ReLU(), nn.Dropout(0.2), nn.Linear(256, 128), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(128, 10))


def cnn() -> nn.Module:
    """Two convolutions with batch normalisation and dropout, for [batch, 1, 28, 28]."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(64 * 49, 128),
        nn.ReLU(),
        nn.Linear(128, 10),
    )


def lenet5() -> nn.Module:
    """LeCun et al. 1998, with 62 classes as for FEMNIST, for [batch, 1, 28, 28]."""
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2),
        nn.Tanh(),
        nn.AvgPool2d(2),
        nn.Conv2d(6, 16, 5),
        nn.Tanh(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(400, 120),
        nn.Tanh(),
        nn.Linear(120, 84),
        nn.Tanh(),
        nn.Linear(84, 62),
    )


def wave_net() -> nn.Module:
    """Convolutions over time with three kinds of pools, for [batch, 3, 128]."""
    return nn.Sequential(
        nn.Conv1d(3, 32, 7, stride=2, padding=3),
        nn.BatchNorm1d(32),
        nn.ReLU(),
        nn.MaxPool1d(2),
        nn.Conv1d(32, 64, 3, padding="same", dilation=2),
        nn.InstanceNorm1d(64, affine=True),
        nn.ELU(),
        nn.AvgPool1d(2),
        nn.Conv1d(64, 64, 3, padding=1, groups=8),
        nn.PReLU(64),
        nn.AdaptiveAvgPool1d(4),
        nn.Flatten(),
        nn.Linear(256, 6),
    )


def group_norm_net() -> nn.Module:
    """Convolutions with group and instance normalisation, for [batch, 3, 32, 32]."""
    return nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1),
        nn.GroupNorm(8, 32),
        nn.SiLU(),
        nn.Conv2d(32, 64, 3, stride=2, padding=1),
        nn.InstanceNorm2d(64),
        nn.Mish(),
        nn.Conv2d(64, 64, 3, stride=2, padding=1),
        nn.GroupNorm(1, 64),
        nn.Softsign(),
        nn.AdaptiveMaxPool2d(2),
        nn.Flatten(),
        nn.Linear(256, 10),
    )


class UNet(nn.Module):
    """Ronneberger et al. 2015 with two levels: one goes up by a transposed convolution, one by interpolation."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.bottom = _double(1, 16), _double(16, 32), _double(32, 64)
        self.up = nn.ConvTranspose2d(64, 32, 2, stride=2)
        self.upsample = nn.Sequential(nn.Upsample(scale_factor=2, mode="bilinear"), nn.Conv2d(32, 16, 1))
        self.second_up, self.first_up, self.out = _double(64, 32), _double(32, 16), nn.Conv2d(16, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, 1, 32, 32] → a mask of two classes [batch, 2, 32, 32]."""
        first = self.first(x)
        second = self.second(F.max_pool2d(first, 2))
        y = self.up(self.bottom(F.max_pool2d(second, 2)))
        y = self.upsample(self.second_up(torch.cat([second, y], 1)))
        output: Tensor = self.out(self.first_up(torch.cat([first, y], 1)))
        return output


def _double(channels: int, out: int) -> nn.Module:
    layers: list[nn.Module] = []
    for source in (channels, out):
        layers += [nn.Conv2d(source, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.LeakyReLU(0.1)]
    return nn.Sequential(*layers)


class Forecaster(nn.Module):
    """A sequence to a sequence: a recurrent layer reads [batch, 24, 4], a cell writes [batch, 6, 4] step by step."""

    def __init__(self, kind: type[nn.LSTM | nn.GRU]) -> None:
        super().__init__()
        self.encoder = kind(4, 32, num_layers=2, dropout=0.1, batch_first=True)
        self.decoder: nn.LSTMCell | nn.GRUCell = nn.LSTMCell(4, 32) if kind is nn.LSTM else nn.GRUCell(4, 32)
        self.out = nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        """What comes after a sequence."""
        state = self.encoder(x)[1]
        last = (state[0][-1], state[1][-1]) if isinstance(self.decoder, nn.LSTMCell) else state[-1]
        step, steps = x[:, -1], []
        for _ in range(6):
            last = self.decoder(step, last)
            step = step + self.out(last[0] if isinstance(last, tuple) else last)
            steps.append(step)
        return torch.stack(steps, 1)


class Cells(nn.Module):
    """Cells in a loop over time, from states that begin at zero: [batch, 12, 8] → [batch, 5]."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.gru, self.out = nn.LSTMCell(8, 24), nn.GRUCell(24, 16), nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        """The last state, classified."""
        hidden, cell = x.new_zeros(x.shape[0], 24), x.new_zeros(x.shape[0], 24)
        state = torch.zeros(x.shape[0], 16)
        for t in range(x.shape[1]):
            hidden, cell = self.lstm(x[:, t], (hidden, cell))
            state = self.gru(hidden, state)
        output: Tensor = self.out(state)
        return output


class Tagger(nn.Module):
    """A bidirectional LSTM over embedded words: tokens [batch, 20] → a tag for each [batch, 20, 7]."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(1000, 32, padding_idx=0)
        self.lstm = nn.LSTM(32, 24, batch_first=True, bidirectional=True)
        self.out = nn.Linear(48, 7)

    def forward(self, tokens: Tensor) -> Tensor:
        """A tag for each word."""
        output: Tensor = self.out(self.lstm(self.words(tokens))[0])
        return output


class TextClassifier(nn.Module):
    """The mean of the words that are there: tokens [batch, 32] → [batch, 4]."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(2000, 48, padding_idx=0)
        self.out = nn.Sequential(nn.Linear(48, 64), nn.GELU(), nn.Dropout(0.1), nn.Linear(64, 4))

    def forward(self, tokens: Tensor) -> Tensor:
        """The class of a text."""
        words = self.words(tokens)
        there = (tokens != 0).unsqueeze(-1)
        mean = words.masked_fill(~there, 0.0).sum(1) / there.float().sum(1).clamp(min=1)
        output: Tensor = self.out(mean)
        return output


class TransformerClassifier(nn.Module):
    """`nn.TransformerEncoder` over tokens with sines for positions and padding masked: [batch, 32] → [batch, 4]."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(1000, 32, padding_idx=0)
        layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.1, activation="gelu", batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.out = nn.Linear(32, 4)

    def forward(self, tokens: Tensor) -> Tensor:
        """The class of a text."""
        time = torch.arange(tokens.shape[1], dtype=torch.float32).unsqueeze(1)
        rate = torch.exp(torch.arange(0, 32, 2, dtype=torch.float32) * (-math.log(10_000) / 32))
        positions = torch.cat([torch.sin(time * rate), torch.cos(time * rate)], 1)
        y = self.encoder(self.words(tokens) + positions, src_key_padding_mask=tokens == 0)
        output: Tensor = self.out(y.mean(1))
        return output


class LanguageModel(nn.Module):
    """A small GPT (pre-norm, causal attention, tied embedding): tokens [batch, 32] → the next [batch, 32, 200]."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.positions = nn.Embedding(200, 32), nn.Parameter(0.02 * torch.randn(32, 32))
        self.norms = nn.ModuleList(nn.LayerNorm(32) for _ in range(5))
        self.mixes = nn.ModuleList(nn.Linear(32, 96) for _ in range(2))
        self.feeds = nn.ModuleList(
            nn.Sequential(nn.Linear(32, 128), nn.GELU(approximate="tanh"), nn.Linear(128, 32), nn.Dropout(0.1))
            for _ in range(2)
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """The logits of each next token."""
        x = self.words(tokens) + self.positions
        for layer in range(2):
            mixed = self.mixes[layer](self.norms[2 * layer](x)).unflatten(-1, (3, 4, 8))
            query, key, value = (part.transpose(1, 2) for part in mixed.unbind(2))
            dropout = 0.1 if self.training else 0.0
            seen = F.scaled_dot_product_attention(query, key, value, dropout_p=dropout, is_causal=True)
            x = x + seen.transpose(1, 2).flatten(2)
            x = x + self.feeds[layer](self.norms[2 * layer + 1](x))
        return F.linear(self.norms[4](x), self.words.weight)


class AttentionPool(nn.Module):
    """`nn.MultiheadAttention` with a learned query over a series: [batch, 24, 16] → [batch, 3]."""

    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.randn(1, 1, 16))
        self.attention = nn.MultiheadAttention(16, 4, dropout=0.1, batch_first=True)
        self.out = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        """The class of a series."""
        pooled, weights = self.attention(self.query.expand(x.shape[0], -1, -1), x, x)
        output: Tensor = self.out(pooled.squeeze(1)) + weights.std(-1)
        return output


def autoencoder() -> nn.Module:
    """Down to 16 numbers and up again by transposed convolutions, for [batch, 1, 28, 28]."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, stride=2, padding=1),
        nn.GELU(),
        nn.Conv2d(8, 16, 3, stride=2, padding=1),
        nn.SiLU(),
        nn.Flatten(),
        nn.Linear(784, 16),
        nn.Linear(16, 784),
        nn.Unflatten(1, (16, 7, 7)),
        nn.ConvTranspose2d(16, 8, 3, stride=2, padding=1, output_padding=1),
        nn.ReLU(),
        nn.ConvTranspose2d(8, 1, 3, stride=2, padding=1, output_padding=1),
        nn.Sigmoid(),
    )


class VariationalAutoencoder(nn.Module):
    """Kingma & Welling 2014: [batch, 64] → the reconstruction, the mean and the log variance, [batch, 64 + 2 · 8]."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(64, 48), nn.Softplus(), nn.Linear(48, 16))
        self.decoder = nn.Sequential(nn.Linear(8, 48), nn.LeakyReLU(), nn.Linear(48, 64))

    def forward(self, x: Tensor) -> Tensor:
        """All that the loss needs, side by side, because a task's model returns one tensor."""
        mean, log_variance = self.encoder(x).chunk(2, dim=1)
        z = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean) if self.training else mean
        return torch.cat([self.decoder(z), mean, log_variance], 1)


class SuperResolution(nn.Module):
    """Shi et al. 2016, sub-pixel convolution: [batch, 1, 16, 16] → [batch, 1, 32, 32]."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 16, 5, padding=2, padding_mode="reflect"), nn.Conv2d(16, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """The image at twice the size."""
        sharp = F.pixel_shuffle(self.second(torch.tanh(self.first(x))), 2)
        smooth = F.interpolate(x, size=(32, 32), mode="bilinear", align_corners=True) + F.interpolate(x, scale_factor=2)
        output: Tensor = sharp + 0.5 * smooth
        return output


def voxels() -> nn.Module:
    """Three dimensions, for [batch, 1, 8, 16, 16]."""
    return nn.Sequential(
        nn.Conv3d(1, 8, 3, padding=1),
        nn.BatchNorm3d(8),
        nn.ReLU(),
        nn.MaxPool3d(2),
        nn.Conv3d(8, 16, 3, stride=2, padding=1),
        nn.Hardtanh(),
        nn.Flatten(),
        nn.Linear(16 * 2 * 4 * 4, 5),
    )


class Mixture(nn.Module):
    """A softmax over experts, einsum, normalised prototypes: the arithmetic that people write by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.experts = nn.Linear(20, 4), nn.Parameter(0.1 * torch.randn(4, 20, 16))
        self.prototypes, self.scale = nn.Parameter(torch.randn(6, 16)), nn.Parameter(torch.tensor(5.0))

    def forward(self, x: Tensor) -> Tensor:
        """[batch, 20] → the similarity with each of six prototypes."""
        gate = torch.softmax(self.gate(x), -1)
        gate = torch.where(gate < 0.05, torch.zeros_like(gate), gate)
        y = F.glu(torch.einsum("be,bi,eio->bo", gate, x, self.experts).repeat(1, 2), -1)
        y = y - y.logsumexp(1, keepdim=True) + y.var(1, keepdim=True).sqrt()
        return self.scale * F.cosine_similarity(y.unsqueeze(1), self.prototypes.unsqueeze(0), dim=-1)


class Transferred(nn.Module):
    """A transferred network: a frozen first layer, a layer that trains."""

    def __init__(self) -> None:
        super().__init__()
        self.features, self.head = nn.Sequential(nn.Linear(32, 64), nn.ReLU()), nn.Linear(64, 5)
        self.features.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, 32] → [batch, 5]."""
        output: Tensor = self.head(self.features(x))
        return output
