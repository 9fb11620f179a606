"""The table of named models, and the ones that torchvision gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from grapevine_agent.data.torchvision_sets import torchvision_models
from grapevine_lab.coverage import own_models as own


@dataclass(frozen=True, kw_only=True)
class NamedModel:
    """A model, what it takes, and how many samples a step of it has."""

    build: Callable[[], nn.Module]
    shape: tuple[int, ...]  # of one sample
    batch: int = 32
    num_words: int | None = None  # tokens below this; None: float32

    def batch_of(self, num: int) -> Tensor:
        """Random samples, [num, …]."""
        if self.num_words is None:
            return torch.randn(num, *self.shape)
        return torch.randint(self.num_words, (num, *self.shape))


def _torchvision(name: str, **options: int | float) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        model: nn.Module = torchvision_models().__dict__[name](weights=None, num_classes=10, **options)
        return model

    return build


def _small_vit() -> nn.Module:
    model: nn.Module = torchvision_models().VisionTransformer(
        image_size=64, patch_size=8, num_layers=4, num_heads=4, hidden_dim=64, mlp_dim=128, dropout=0.1, num_classes=10
    )
    nn.init.normal_(model.heads.head.weight, std=0.1)  # type: ignore[union-attr,arg-type] # it begins at zero
    return model


def _photos(build: Callable[[], nn.Module], batch: int = 16) -> NamedModel:
    return NamedModel(build=build, shape=(3, 64, 64), batch=batch)


DIGITS, TEXT = (1, 28, 28), (32,)
MODELS: dict[str, NamedModel] = {
    "MLP": NamedModel(build=own.perceptron, shape=DIGITS),
    "CNN with batch norm and dropout": NamedModel(build=own.cnn, shape=DIGITS),
    "LeNet-5": NamedModel(build=own.lenet5, shape=DIGITS),
    "Conv1d net": NamedModel(build=own.wave_net, shape=(3, 128)),
    "GroupNorm and InstanceNorm net": NamedModel(build=own.group_norm_net, shape=(3, 32, 32)),
    "Conv3d net": NamedModel(build=own.voxels, shape=(1, 8, 16, 16)),
    "U-Net": NamedModel(build=own.UNet, shape=(1, 32, 32), batch=16),
    "Super-resolution": NamedModel(build=own.SuperResolution, shape=(1, 16, 16)),
    "Autoencoder": NamedModel(build=own.autoencoder, shape=DIGITS),
    "Variational autoencoder": NamedModel(build=own.VariationalAutoencoder, shape=(64,)),
    "LSTM Seq2Seq": NamedModel(build=partial(own.Forecaster, nn.LSTM), shape=(24, 4)),
    "GRU Seq2Seq": NamedModel(build=partial(own.Forecaster, nn.GRU), shape=(24, 4)),
    "LSTMCell and GRUCell": NamedModel(build=own.Cells, shape=(12, 8)),
    "Bidirectional LSTM tagger": NamedModel(build=own.Tagger, shape=(20,), num_words=1000),
    "Embedding classifier": NamedModel(build=own.TextClassifier, shape=TEXT, num_words=2000),
    "Transformer encoder": NamedModel(build=own.TransformerClassifier, shape=TEXT, num_words=1000),
    "Causal language model": NamedModel(build=own.LanguageModel, shape=TEXT, num_words=200),
    "MultiheadAttention pooling": NamedModel(build=own.AttentionPool, shape=(24, 16)),
    "Mixture of experts by einsum": NamedModel(build=own.Mixture, shape=(20,)),
    "Frozen features": NamedModel(build=own.Transferred, shape=(32,)),
    "torchvision ResNet-18": _photos(_torchvision("resnet18")),
    "torchvision DenseNet-121": _photos(_torchvision("densenet121")),
    "torchvision SqueezeNet 1.1": _photos(_torchvision("squeezenet1_1")),
    "torchvision ShuffleNet v2 x0.5": _photos(_torchvision("shufflenet_v2_x0_5")),
    "torchvision MNASNet 0.5": _photos(_torchvision("mnasnet0_5")),
    "torchvision RegNet Y 400MF": _photos(_torchvision("regnet_y_400mf")),
    "torchvision MobileNet v2": _photos(_torchvision("mobilenet_v2")),
    "torchvision MobileNet v3 small": _photos(_torchvision("mobilenet_v3_small")),
    "torchvision EfficientNet b0": _photos(_torchvision("efficientnet_b0")),
    "torchvision ConvNeXt tiny": _photos(_torchvision("convnext_tiny")),
    "torchvision Swin v2 tiny": _photos(_torchvision("swin_v2_t"), batch=4),
    "torchvision ViT, small": _photos(_small_vit),
}
