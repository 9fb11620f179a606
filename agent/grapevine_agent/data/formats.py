"""The formats of sources: a name in the configuration, and the module that describes and loads it.

Modules are imported when a source of theirs is asked for: a device pays only for what its owner configured.
"""

from __future__ import annotations

import importlib
from typing import Final, cast

from grapevine_agent.data.source import DataSource, Description, Format, RawSamples
from grapevine_proto import distribution
from grapevine_proto.manifest import DataContract

FORMATS: Final = {
    "npz": "grapevine_agent.data.npz",
    "csv": "grapevine_agent.data.csv_files",
    "parquet": "grapevine_agent.data.parquet_files",
    "images": "grapevine_agent.data.image_folders",
    "torchvision": "grapevine_agent.data.torchvision_source",
    "sqlite": "grapevine_agent.data.sqlite_queries",
    "mqtt": "grapevine_agent.data.recordings",
}


def describe(source: DataSource, contract: DataContract | None) -> Description:
    """What is in a source, from its headers. Raises TaskError when it cannot be told."""
    try:
        return _format(source).describe(source, contract)
    except OSError as error:  # it went away meanwhile
        raise source.error(f"cannot read {source.path}: {error.strerror or error}") from error


def load(source: DataSource, contract: DataContract | None) -> RawSamples:
    """A source's arrays. Raises TaskError when they cannot be read."""
    try:
        return _format(source).load(source, contract)
    except OSError as error:
        raise source.error(f"cannot read {source.path}: {error.strerror or error}") from error


def _format(source: DataSource) -> Format:
    try:
        return cast(Format, importlib.import_module(FORMATS[source.format]))
    except ImportError as error:
        remedy = distribution.to_add_extra("data")
        raise source.error(f"{source.format} needs {error.name}, which is not installed: {remedy}") from error
