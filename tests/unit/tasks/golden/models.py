"""The models behind the golden programs: together they use every operator of the set. Each takes [batch, 8, 8]."""

from __future__ import annotations

from collections.abc import Callable

import torch
from tests.unit.tasks.models_to_interpret import MORE_MODELS
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812


class Convolutions(nn.Module):
    """Two dimensions and one, pools, three kinds of normalisation, dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.images = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.2)
        )
        self.pools = nn.Sequential(nn.AvgPool2d(2, stride=1, padding=1, count_include_pad=False), nn.GELU())
        self.waves = nn.Sequential(nn.Conv1d(8, 6, 3, groups=2), nn.GroupNorm(3, 6), nn.LayerNorm(6))
        self.out = nn.Linear(16 + 36, 3)

    def forward(self, x: Tensor) -> Tensor:
        pooled = F.adaptive_avg_pool2d(self.pools(self.images(x.unsqueeze(1))), 2)
        output: Tensor = self.out(torch.cat([pooled.flatten(1), self.waves(x).flatten(1)], 1))
        return F.log_softmax(output, 1)


class Arithmetic(nn.Module):
    """What is done to one element at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(64, 5)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.fc((x @ x.transpose(1, 2)).flatten(1))
        for f in (F.silu, F.hardswish, F.hardsigmoid, F.softplus, F.mish, F.elu, F.leaky_relu, F.hardtanh, torch.tanh):
            y = y + f(y)
        y = F.softmax(torch.sigmoid(y), dim=-1) + F.gelu(y, approximate="tanh")
        y = (1 - y) * 2 / 3 - y.abs().clamp(min=0.1).log() + y.exp().clamp(0, 5).sqrt() + y.pow(2).add(1).rsqrt()
        y = y + (y * y + 1).reciprocal() - torch.sin(y) * torch.cos(y) + torch.maximum(y, -y) - torch.minimum(y, 2 * y)
        y = y + torch.log1p(y.abs()) + torch.expm1(-y.abs())
        return y / y.amax(1, keepdim=True) + y.sum(1, keepdim=True) + y.mean((0, 1))


class Shapes(nn.Module):
    """What moves elements about, and sizes that follow the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.scale = nn.Linear(18, 5), nn.Parameter(torch.tensor(2.0))
        self.order: Tensor
        self.register_buffer("order", torch.tensor([5, 3, 0, 1, 2, 4]))

    def forward(self, x: Tensor) -> Tensor:
        y = F.pad(x[:, 1:-1, ::2], (1, 1), value=0.5).permute(0, 2, 1)
        y = torch.cat([y, y.transpose(1, 2).reshape(x.shape[0], 6, 6)], dim=1)
        y = torch.stack([y[:, 0], y[:, -1]], dim=1).unsqueeze(2).expand(-1, -1, 3, -1)
        y = y[:, :1].squeeze(1).unsqueeze(3).transpose(2, 3).flip(3)[..., self.order]
        rows = y.reshape(x.size(0) * 3, -1).reshape(x.size(0), 18)
        best = rows.argmax(1, keepdim=True)
        picked = rows.gather(1, best) + torch.zeros(x.shape[0] + 1, 1).sum(0)
        either = ((rows > 1) | (rows < -1)).float()
        output: Tensor = self.fc(rows * self.scale + either) + picked
        return output


GOLDEN_MODELS: dict[str, Callable[[], nn.Module]] = {
    "convolutions": Convolutions,
    "arithmetic": Arithmetic,
    "shapes": Shapes,
    **{name.removeprefix("a ").replace(" ", "-").lower(): model for name, model in MORE_MODELS.items()},
}
