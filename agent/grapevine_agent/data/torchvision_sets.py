"""torchvision's data sets and models, also where its compiled operators do not fit the PyTorch that is installed.

torchvision's wheels are built against one build of PyTorch each. Beside another one (a wheel for CUDA
beside PyTorch for the CPU, say) its library does not load, which it tolerates, and then its import
fails because two operators of that library were never defined. Data sets, transforms and
classifiers use neither, so a definition without an implementation is enough for them.
"""

from __future__ import annotations

import importlib
from types import ModuleType

from grapevine_proto import distribution
from grapevine_proto.errors import ConfigError

_OPERATORS = ("nms", "qnms")
_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_definitions: list[object] = []  # they last as long as the object that made them


def torchvision_datasets() -> ModuleType:
    """The module `torchvision.datasets`. Raises `ConfigError` if torchvision is not installed or does not load."""
    return _loaded("torchvision.datasets")


def torchvision_models() -> ModuleType:
    """The module `torchvision.models`, under the same conditions."""
    return _loaded("torchvision.models")


def _loaded(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        lacking = (error.name or "torchvision").partition(".")[0]
        remedy = distribution.to_add_packages("torch", "torchvision")
        raise ConfigError(f"{lacking} is not installed: {remedy}") from None
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise ConfigError(f"torchvision does not load ({error}); install the one that fits your torch") from None
    _define_operators()
    return importlib.import_module(name)


def _define_operators() -> None:
    import torch  # noqa: PLC0415 - it takes seconds to import

    if _definitions:
        return
    library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    for operator in _OPERATORS:
        library.define(operator + _SCHEMA)  # type: ignore[no-untyped-call]
    _definitions.append(library)
