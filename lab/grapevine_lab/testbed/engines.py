"""The engines by their names; what one of them needs is imported when it is asked for."""

from __future__ import annotations

import importlib
from pathlib import Path

from grapevine_agent.config.toml_reader import suggestion
from grapevine_lab.testbed.engine import ENGINES, Engine
from grapevine_proto import distribution
from grapevine_proto.errors import ConfigError, RequestError


def make_engine(name: str, folder: Path, lab: str) -> Engine:
    """The engine of a lab. Raises RequestError for a name that is none, ConfigError where its package is missing."""
    match name:
        case "processes":
            from grapevine_lab.testbed.processes import ProcessEngine  # noqa: PLC0415 - only where it is used

            return ProcessEngine(folder, lab)
        case "docker":
            try:
                module = importlib.import_module("grapevine_lab.testbed.docker_engine")
            except ImportError as error:
                raise ConfigError(f"--engine docker: {error}: {distribution.to_add_extra('lab')}") from error
            engine: Engine = module.DockerEngine(folder, lab)
            return engine
    raise RequestError(f"--engine {name}: there is no such engine; {suggestion(name, ENGINES)}")
