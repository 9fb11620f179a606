"""The formats of sources: a name in the configuration, and the module that describes and loads it.

Modules are imported when a source of theirs is asked for: a device pays only for what its owner configured.
"""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, cast

from grapevine_agent.data.source import DataSource, Description, Format, RawSamples, Visitor
from grapevine_proto import distribution
from grapevine_proto.errors import TaskError

if TYPE_CHECKING:
    from grapevine_proto.manifest import DataContract

logger = logging.getLogger(__name__)

FORMATS: Final = {
    "npz": "grapevine_agent.data.npz",
    "csv": "grapevine_agent.data.csv_files",
    "parquet": "grapevine_agent.data.parquet_files",
    "images": "grapevine_agent.data.image_folders",
    "torchvision": "grapevine_agent.data.torchvision_source",
    "sqlite": "grapevine_agent.data.sqlite_queries",
    "mqtt": "grapevine_agent.data.recordings",
}

# Its own reserves a gigabyte before the first row, and keeps what it has had.
_ARROWS_ALLOCATOR: Final = ("ARROW_DEFAULT_MEMORY_POOL", "system")
_LONGEST_TOLD: Final = 300
_FILES: Final = ("npz", "csv", "parquet", "sqlite")


def describe(source: DataSource, contract: DataContract | None) -> Description:
    """What is in a source, from its headers. Raises TaskError when it cannot be told."""
    with _as_task_error(source):
        _check_place(source)
        return _format(source).describe(source, contract)


def examine(source: DataSource, contract: DataContract | None, visitors: Sequence[Visitor]) -> Description:
    """The same, with all samples read once and shown to visitors. Raises TaskError, as visitors may."""
    with _as_task_error(source):
        _check_place(source)
        return _format(source).examine(source, contract, visitors)


def load(source: DataSource, contract: DataContract | None) -> RawSamples:
    """A source's arrays. Raises TaskError when they cannot be read, MemoryError when there is no room for them."""
    with _as_task_error(source, memory=False):
        _check_place(source)
        return _format(source).load(source, contract)


@contextmanager
def _as_task_error(source: DataSource, *, memory: bool = True) -> Iterator[None]:
    """Whatever a file makes a library let out is that file's fault, and ends no more than what wanted to read it."""
    try:
        yield
    except TaskError:
        raise
    except OSError as error:  # it went away meanwhile
        raise source.error(f"cannot read {source.path}: {error.strerror or error}") from error
    except MemoryError as error:
        if not memory:
            raise
        raise source.error(f"looking at {source.path} takes more memory than there is; offer less of it") from error
    except Exception as error:
        logger.debug("%s", source.path, exc_info=True)
        told = " ".join(str(error).split())[:_LONGEST_TOLD]
        raise source.error(f"cannot read {source.path}: {type(error).__name__}: {told}") from error


def prepare_to_load(source: DataSource) -> None:
    """Import what a source's format needs. Raises TaskError when it is not installed."""
    _format(source)


def _check_place(source: DataSource) -> None:
    """A pipe, a device or a socket may have no end, or never begin."""
    if source.format in _FILES and source.path.exists() and not source.path.is_file():
        raise source.error(f"cannot read {source.path}: it is a folder, a pipe or a device, and path must name a file")


def _format(source: DataSource) -> Format:
    os.environ.setdefault(*_ARROWS_ALLOCATOR)  # Arrow looks once, when it is imported
    try:
        return cast(Format, importlib.import_module(FORMATS[source.format]))
    except ImportError as error:
        remedy = distribution.to_add_extra("data")
        raise source.error(f"{source.format} needs {error.name}, which is not installed: {remedy}") from error
