"""Scenarios that come with Grapevine: `grapevine simulate NAME`."""

from __future__ import annotations

from pathlib import Path

from grapevine_agent.config.toml_reader import suggestion
from grapevine_proto.errors import ConfigError

_HERE = Path(__file__).parent


def scenario_names() -> tuple[str, ...]:
    """The scenarios that there are."""
    return tuple(sorted(path.stem for path in _HERE.glob("*.toml")))


def find_scenario(named: str) -> Path:
    """The file of that path, or the scenario of that name. Raises ConfigError if there is neither."""
    path = Path(named)
    if path.exists() or path.suffix == ".toml":
        return path
    if named in scenario_names():
        return _HERE / f"{named}.toml"
    raise ConfigError(
        f"there is no file {named!r}, and no scenario of that name comes with Grapevine; "
        f"{suggestion(named, scenario_names())}"
    )


def named(source: str, folder: Path) -> str:
    """How a command names the scenario that was read from the file `source` in `folder`."""
    return source.removesuffix(".toml") if folder == _HERE.resolve() else source
