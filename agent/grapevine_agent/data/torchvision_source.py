"""Data sets that torchvision knows, out of a closed list. What they hold is known without importing it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from grapevine_agent.data.source import DataSource, Description, Header, RawSamples, Visitor
from grapevine_agent.data.torchvision_names import TORCHVISION_SETS, TorchvisionSet
from grapevine_agent.data.torchvision_sets import torchvision_datasets
from grapevine_proto.errors import ConfigError
from grapevine_proto.manifest import DataContract
from grapevine_tasks.suggestions import did_you_mean

_PYTORCH_BYTES: Final = 230 * 2**20  # torchvision does not load without it
_LIBRARY_BYTES: Final = 88 * 2**20
_COPIES: Final = 2  # of the training samples, on their way: as they are in files, as torchvision turns them


def describe(source: DataSource, contract: DataContract | None) -> Description:
    """Counts and shapes, by name; whether the files are there, by their folder."""
    known = _known(source)
    folder = source.path / known.folder
    if not folder.exists() and not source.download:
        raise source.error(f"there is no {folder}; write download = true to have torchvision fetch it")
    shape = _shape(known, contract)
    headers = {
        "x": Header(np.dtype(np.uint8), (known.num_train, *shape)),
        "y": Header(np.dtype(np.int64), (known.num_train,)),
        "x_test": Header(np.dtype(np.uint8), (known.num_test, *shape)),
        "y_test": Header(np.dtype(np.int64), (known.num_test,)),
    }
    image_bytes = math.prod(shape)
    return Description(
        arrays=headers,
        num_bytes=(known.num_train + known.num_test) * (image_bytes + 8),
        working_bytes=_PYTORCH_BYTES + _COPIES * known.num_train * (image_bytes + 8),
        library_bytes=_LIBRARY_BYTES,
        newest_s=folder.stat().st_mtime if folder.exists() else None,
    )


def examine(source: DataSource, contract: DataContract | None, visitors: Sequence[Visitor]) -> Description:
    """The same. Which labels each set has is known: visitors see those, and no images."""
    description, known = describe(source, contract), _known(source)
    for visitor in visitors:
        visitor.begin(("x", "x_test"), ("y", "y_test"))
        visitor.visit(0, {"y": np.arange(known.num_classes)})
    return description


def load(source: DataSource, contract: DataContract | None) -> RawSamples:
    """The images as uint8 [n, …] and the numbers of their classes; EMNIST's lie upright."""
    known = _known(source)
    options = {"split": known.split} if known.split else {}
    arrays: dict[str, Any] = {}
    try:
        loader = getattr(torchvision_datasets(), known.loader)
        for ending, is_train in (("", True), ("_test", False)):
            found = loader(str(source.path), train=is_train, download=source.download, **options)
            x, y = np.asarray(found.data), np.asarray(found.targets, np.int64)
            if known.loader == "EMNIST":
                x = x.transpose(0, 2, 1)  # it is stored on its side
            if known.split == "letters":
                y = y - 1  # torchvision counts letters from 1
            arrays["x" + ending] = x.reshape(len(x), *_shape(known, contract)) if x.ndim == 3 else _turned(x, contract)
            arrays["y" + ending] = y
    except ConfigError as error:
        raise source.error(str(error)) from error
    except (OSError, RuntimeError, ValueError) as error:
        told = " ".join(str(error).split())  # torchvision tells each attempt on a line of its own
        raise source.error(f"{source.dataset} in {source.path}: {told}") from error
    return RawSamples(**arrays)


def _known(source: DataSource) -> TorchvisionSet:
    if source.dataset not in TORCHVISION_SETS:
        raise source.error(f"dataset = {source.dataset!r}: {did_you_mean(source.dataset, TORCHVISION_SETS)}")
    return TORCHVISION_SETS[source.dataset]


def _shape(known: TorchvisionSet, contract: DataContract | None) -> tuple[int, ...]:
    """As the task's features stand: [h, w] or [1, h, w] of grey ones, [h, w, 3] or [3, h, w] of coloured ones."""
    wanted = contract.features.shape if contract is not None else ()
    if len(known.shape) == 2:
        return (1, *known.shape) if len(wanted) == 3 and wanted[0] == 1 else known.shape
    return (3, *known.shape[:2]) if len(wanted) == 3 and wanted[0] == 3 else known.shape


def _turned(x: Any, contract: DataContract | None) -> Any:
    is_first = contract is not None and len(contract.features.shape) == 3 and contract.features.shape[0] == 3
    return np.ascontiguousarray(np.moveaxis(x, -1, 1)) if is_first else x
