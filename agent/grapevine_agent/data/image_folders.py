"""Folders of images: one sub-folder for each class, named as the class.

All images of one source have one size; grey ones become [h, w], coloured ones [h, w, 3], or as the task's
features say ([1, h, w], [3, h, w]). Another size is the business of the task's pipeline, which can resize.
How large an image is stands in its header, and is looked at before anything of it is unpacked.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from grapevine_agent.data.source import DataSource, Description, Header, RawSamples, Visitor
from grapevine_proto.manifest import DataContract
from grapevine_tasks.pipelines import derives_target

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".pgm", ".ppm")
MAX_IMAGES = 1_000_000
_PIXEL_BYTES: Final = 16  # of the image that is being read: as it is, converted, as an array
_FILE_BYTES: Final = 160  # of a file's name
_WORKING_BYTES: Final = 8 * 2**20  # of the decoders
_LIBRARY_BYTES: Final = 8 * 2**20
_GREY_MODES = ("1", "L", "LA", "I", "I;16", "F")


def describe(source: DataSource, contract: DataContract | None) -> Description:
    """Counts from the folders' entries, and size and mode from the header of the first image of each class."""
    names, files = _files(source)
    shape = _shape(source, contract, _first(source, files))
    num_images = sum(map(len, files.values()))
    folders = [source.path, *(source.path / name for name in names)]
    num_pixels = shape[1] * shape[2] if _is_channels_first(shape) else shape[0] * shape[1]
    arrays = {"x": Header(np.dtype(np.uint8), (num_images, *shape))}
    if contract is None or not derives_target(contract):
        arrays["y"] = Header(np.dtype(np.int64), (num_images,))
    return Description(
        arrays=arrays,
        classes=tuple(names),
        newest_s=max(folder.stat().st_mtime for folder in folders),
        num_bytes=num_images * (math.prod(shape) + 8),
        working_bytes=_PIXEL_BYTES * num_pixels + _FILE_BYTES * num_images + _WORKING_BYTES,
        library_bytes=_LIBRARY_BYTES,
        facts={"images": {name: len(files[name]) for name in names}},
    )


def examine(source: DataSource, contract: DataContract | None, visitors: Sequence[Visitor]) -> Description:
    """The same, with each image unpacked, and shown to visitors: of `x` one at a time."""
    description = describe(source, contract)
    if 0 < source.max_bytes < description.num_bytes:
        return description
    for visitor in visitors:
        visitor.begin(("x",), ("y",))
    shape = description.arrays["x"].shape[1:]
    for row, (path, number) in enumerate(_in_order(source, contract) if visitors else ()):
        sample = {"x": _read(source, path, shape)[None], "y": np.array([number])}
        for visitor in visitors:
            visitor.visit(row, sample)
    return description


def load(source: DataSource, contract: DataContract | None) -> RawSamples:
    """The images as uint8 [n, …], and the numbers of their classes."""
    names, files = _files(source)
    classes = contract.classes if contract is not None and contract.classes else tuple(names)
    shape = _shape(source, contract, _first(source, files))
    x = np.empty((sum(map(len, files.values())), *shape), np.uint8)
    y = np.empty(len(x), np.int64)
    for row, (path, number) in enumerate(_in_order(source, contract)):
        x[row], y[row] = _read(source, path, shape), number
    return RawSamples(x=x, y=y, classes=classes)


def _in_order(source: DataSource, contract: DataContract | None) -> Iterator[tuple[Path, int]]:
    """Each image, and the number of its class; -1 for a class that the task does not have."""
    names, files = _files(source)
    classes = contract.classes if contract is not None and contract.classes else tuple(names)
    for name in names:
        for file in files[name]:
            yield source.path / name / file, classes.index(name) if name in classes else -1


def _files(source: DataSource) -> tuple[list[str], dict[str, list[str]]]:
    """The classes that have images, in alphabetical order, and the images of each."""
    try:
        stamp = source.path.stat().st_mtime_ns
        folders = sorted(entry for entry in source.path.iterdir() if entry.is_dir() and not entry.name.startswith("."))
        stamps = tuple((folder, folder.stat().st_mtime_ns) for folder in folders)
    except OSError as error:
        raise source.error(
            f"cannot read {source.path}: {error.strerror}; path is a folder with one for each class"
        ) from error
    files = _listed(stamp, stamps)
    if not files:
        raise source.error(
            f"{source.path} has no images: put them into one folder for each class, as in {source.path}/cat/1.png"
        )
    if sum(map(len, files.values())) > MAX_IMAGES:
        raise source.error(f"{source.path} has more than {MAX_IMAGES:,} images; offer fewer")
    return list(files), files


@lru_cache(maxsize=8)
def _listed(stamp: int, folders: tuple[tuple[Path, int], ...]) -> dict[str, list[str]]:  # noqa: ARG001 — it dates the entry
    listed = {}
    for folder, _ in folders:
        with os.scandir(folder) as entries:
            images = sorted(e.name for e in entries if Path(e.name).suffix.lower() in SUFFIXES and e.is_file())
        if images:
            listed[folder.name] = images
    return listed


def _first(source: DataSource, files: dict[str, list[str]]) -> Path:
    name, images = next(iter(files.items()))
    return source.path / name / images[0]


def _is_channels_first(shape: tuple[int, ...]) -> bool:
    return len(shape) == 3 and shape[0] in (1, 3)


def _shape(source: DataSource, contract: DataContract | None, path: Path) -> tuple[int, ...]:
    """What one image becomes: as the task's features stand (channels first or last, or none), of the image's size."""
    with _opened(source, path) as image:
        width, height = image.size
        is_grey = image.mode in _GREY_MODES
    wanted = contract.features.shape if contract is not None else ()
    if len(wanted) == 3 and wanted[0] in (1, 3):
        return (wanted[0], height, width)
    if len(wanted) == 3 and wanted[2] in (1, 3):
        return (height, width, wanted[2])
    if len(wanted) == 2 or is_grey:
        return (height, width)
    return (height, width, 3)


def _read(source: DataSource, path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    is_first = _is_channels_first(shape)
    channels = 1 if len(shape) == 2 else shape[0] if is_first else shape[2]
    size = shape[1:] if is_first else shape[:2]
    with _opened(source, path) as image:
        if image.size != size[::-1]:
            raise source.error(
                f"{path} is {image.size[0]} x {image.size[1]} pixels and others are {size[1]} x {size[0]}: "
                "give all images one size"
            )
        try:
            pixels = np.asarray(image.convert("L" if channels == 1 else "RGB"))
        except MemoryError:
            raise
        except Exception as error:  # decoders let out whatever a damaged file makes them stumble over
            raise source.error(f"{path} is damaged: {error}; leave it out") from error
    if len(shape) == 2:
        return pixels
    pixels = pixels[:, :, None] if channels == 1 else pixels
    return np.moveaxis(pixels, -1, 0) if is_first else pixels


def _opened(source: DataSource, path: Path) -> Any:
    try:
        with warnings.catch_warnings():  # Pillow's warning of large images: here they are counted
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            return Image.open(path)
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError, ValueError) as error:
        raise source.error(f"{path} is no image that can be read: {error}; leave it out") from error
