"""The peers' own virtual environments: made once, kept below the user's cache.

An environment is named after the peer and its version, e.g. `~/.cache/grapevine/bench/flwr-1.29.0`. PyTorch, where it
is needed, is the version that this project itself is tested with, and is installed first, so that no peer chooses
another.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from grapevine_proto import distribution
from grapevine_proto.errors import GrapevineError

Say = Callable[[str], None]

INSTALL_TIMEOUT_S = 1_800.0
PROBE_TIMEOUT_S = 120.0
_DONE = "installed.json"  # written last: what is in the environment
_CONSTRAINTS = Path(__file__).parents[3] / "constraints.txt"  # there in a checkout only
_PIP = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--retries", "1")


class PeerMissingError(GrapevineError):
    """A peer cannot be installed or started here, and why."""


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A package that we compare with, at the version that it is compared at."""

    distribution: str
    version: str
    extra: str = ""
    probe: str  # imports what a run will import
    named: tuple[str, ...]  # distributions whose versions belong beside the figures
    needs_torch: bool = True

    @property
    def requirement(self) -> str:
        """As pip wants it."""
        return f"{self.distribution}{f'[{self.extra}]' if self.extra else ''}=={self.version}"

    @property
    def folder(self) -> str:
        """Of its environment."""
        return f"{self.distribution}-{self.version}{'' if self.needs_torch else '-without-torch'}"


@dataclass(frozen=True, kw_only=True)
class Installed:
    """A peer that is ready to run."""

    python: Path
    versions: dict[str, str]


def environments_folder() -> Path:
    """`$XDG_CACHE_HOME/grapevine/bench`, or the same below `~/.cache`."""
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "grapevine" / "bench"


def torch_requirement(constraints: Path = _CONSTRAINTS) -> str:
    """`torch==…`: as the checkout's constraints.txt pins it, else the version that we run ourselves.

    Raises:
        PeerMissingError: There is neither.
    """
    if constraints.is_file():
        for line in constraints.read_text(encoding="utf-8").splitlines():
            if line.strip().startswith("torch=="):
                return line.strip()
    try:
        version = importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        raise PeerMissingError(f"PyTorch is not installed here: {distribution.to_add_extra('lab')}") from None
    return f"torch=={version.partition('+')[0]}"


def ensure_installed(peer: Peer, root: Path, say: Say) -> Installed:
    """Make the peer's environment below `root` unless it is there; import the peer once, which also warms the disk.

    Raises:
        PeerMissingError: It cannot be installed (no network, nothing that fits) or imported.
    """
    folder = root / peer.folder
    python = folder / "bin" / "python"
    wanted = [*([torch_requirement()] if peer.needs_torch else []), peer.requirement]
    if _installed(folder) != wanted:
        say(f"installing {' and '.join(wanted)} into {folder}")
        shutil.rmtree(folder, ignore_errors=True)
        _run([sys.executable, "-m", "venv", str(folder)], f"{folder} could not be made")
        for requirements in ([wanted[:1]] if peer.needs_torch else []) + [wanted]:
            _run([str(python), *_PIP, *requirements], f"{peer.requirement} could not be installed")
        (folder / _DONE).write_text(json.dumps(wanted), encoding="utf-8")
    _run([str(python), "-c", peer.probe], f"{peer.requirement} is installed but cannot be imported", PROBE_TIMEOUT_S)
    named = (*(("torch",) if peer.needs_torch else ()), "numpy", *peer.named)
    return Installed(python=python, versions=_versions(python, named))


def _installed(folder: Path) -> object:
    try:
        return json.loads((folder / _DONE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _versions(python: Path, named: Sequence[str]) -> dict[str, str]:
    code = "import importlib.metadata as m, json, sys; print(json.dumps({n: m.version(n) for n in sys.argv[1:]}))"
    found: dict[str, str] = json.loads(_run([str(python), "-c", code, *named], "its versions cannot be read"))
    return found


def _run(command: Sequence[str], complaint: str, timeout_s: float = INSTALL_TIMEOUT_S) -> str:
    try:
        ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout_s)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PeerMissingError(f"{complaint}: {error}") from None
    if ran.returncode != 0:
        lines = [line for line in ran.stderr.splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith("ERROR")] or lines[-1:] or ["no reason given"]
        raise PeerMissingError(f"{complaint}: {errors[-1].strip()}")
    return ran.stdout
