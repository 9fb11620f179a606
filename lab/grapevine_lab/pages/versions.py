"""What made a page: versions, for whoever tries the same."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib import metadata

from grapevine_lab.pages.sections import Table
from grapevine_proto import distribution

LIBRARIES = ("numpy", "torch", "paho-mqtt", "scikit-learn")  # that numbers may depend on


def versions_here() -> dict[str, str]:
    """Of Grapevine, Python and the libraries that learn, as far as they are there; and the kind of machine."""
    versions = {"grapevine": distribution.version(), "python": platform.python_version()}
    for name in LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions | {"machine": f"{platform.system()} on {platform.machine()}"}


def version_table(versions: Mapping[str, str]) -> Table:
    """Versions as a table of a page."""
    return Table(["made with", "version"], list(versions.items()))
