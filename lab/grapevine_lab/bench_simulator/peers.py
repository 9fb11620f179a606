"""The peers' own virtual environments: made once, kept below the user's cache.

An environment is named after the peer and its version, e.g. `~/.cache/grapevine/bench/flwr-1.42.0`. PyTorch, where it
is needed, is the version that this project itself is tested with: a peer that would have another cannot be installed.
Everything is downloaded as wheels first, which are weighed and thrown away once they are unpacked.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grapevine_proto import distribution
from grapevine_proto.errors import GrapevineError

Say = Callable[[str], None]

INSTALL_TIMEOUT_S = 1_800.0
PROBE_TIMEOUT_S = 120.0
_DONE = "installed.json"  # written last: what is in the environment
_CONSTRAINTS = Path(__file__).parents[3] / "constraints.txt"  # there in a checkout only
_PIP_OPTIONS = ("--quiet", "--disable-pip-version-check", "--retries", "1")


class PeerMissingError(GrapevineError):
    """A peer cannot be installed or started here, and why."""


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A package that we compare with, at the version that it is compared at.

    `also` are packages that it imports without saying so. `source` is what is installed under its name where that is
    no release: a folder, or nothing.
    """

    distribution: str
    version: str
    extra: str = ""
    probe: str  # imports what a run will import
    named: tuple[str, ...]  # distributions whose versions belong beside the figures
    needs_torch: bool = True
    also: tuple[str, ...] = ()
    source: str = ""

    @property
    def requirement(self) -> str:
        """As pip wants it."""
        named = f"{self.distribution}{f'[{self.extra}]' if self.extra else ''}"
        return f"{named} @ file://{self.source}" if self.source else f"{named}=={self.version}"

    @property
    def folder(self) -> str:
        """Of its environment."""
        extra = f"-{self.extra}" if self.source and self.extra else ""
        return f"{self.distribution}-{self.version}{extra}{'' if self.needs_torch else '-without-torch'}"


@dataclass(frozen=True, kw_only=True)
class Weight:
    """What an environment costs whoever wants one: bytes to download (wheels, dependencies too), and bytes on disk.

    Neither has the environment's own interpreter and pip in it. None: it was made before anybody weighed it.
    """

    download_bytes: int | None = None
    installed_bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class Installed:
    """A peer that is ready to run."""

    python: Path
    versions: dict[str, str]
    weight: Weight = Weight()


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
    wanted = [*([torch_requirement()] if peer.needs_torch else []), peer.requirement, *peer.also]
    written = _installed(folder)
    if written.get("wanted") != wanted:
        say(f"installing {' and '.join(wanted)} into {folder}")
        weight = _install(peer, wanted, folder)
        written = {"wanted": wanted, "download_bytes": weight.download_bytes, "installed_bytes": weight.installed_bytes}
        (folder / _DONE).write_text(json.dumps(written), encoding="utf-8")
    complaint = f"{peer.requirement} is installed but cannot be imported"
    _run([str(python), "-c", peer.probe], complaint, PROBE_TIMEOUT_S, folder=folder)  # some leave files where they are
    named = (*(("torch",) if peer.needs_torch else ()), "numpy", *peer.named)
    weight = Weight(download_bytes=written["download_bytes"], installed_bytes=written["installed_bytes"])
    return Installed(python=python, versions=_versions(python, named), weight=weight)


def _install(peer: Peer, wanted: Sequence[str], folder: Path) -> Weight:
    """Make the environment anew, and weigh it; what an earlier attempt has left is not part of it.

    Raises PeerMissingError.
    """
    complaint, python = f"{peer.requirement} could not be installed", str(folder / "bin" / "python")
    shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():  # pip would not install what is there already, and nobody would know what it weighs
        raise PeerMissingError(f"{complaint}: {folder} cannot be deleted; delete it")
    _run([sys.executable, "-m", "venv", str(folder)], f"{folder} could not be made")
    bare_bytes = bytes_below(folder)
    with tempfile.TemporaryDirectory(prefix="gv-wheels-", dir=folder) as wheels:
        # In one call, so that a peer which cannot have this PyTorch says so, and downloads no other.
        _run([python, "-m", "pip", "wheel", *_PIP_OPTIONS, "--wheel-dir", wheels, *wanted], complaint)
        download_bytes = bytes_below(Path(wheels))
        names = [_in_wheels(peer, requirement) for requirement in wanted]
        found = ("--no-index", "--find-links", wheels)
        _run([python, "-m", "pip", "install", *_PIP_OPTIONS, *found, *names], complaint)
    return Weight(download_bytes=download_bytes, installed_bytes=bytes_below(folder) - bare_bytes)


def _in_wheels(peer: Peer, requirement: str) -> str:
    """A requirement once it lies among the wheels: what came of a folder has a name there."""
    return f"{peer.distribution}{f'[{peer.extra}]' if peer.extra else ''}" if "@" in requirement else requirement


def bytes_below(folder: Path) -> int:
    """What all files of a folder have in them; a link is itself alone."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file() or path.is_symlink())


def _installed(folder: Path) -> dict[str, Any]:
    """What was written when the environment was done; nothing where that was by another version of this module."""
    try:
        written = json.loads((folder / _DONE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return written if isinstance(written, dict) and written.keys() >= {"download_bytes", "installed_bytes"} else {}


def _versions(python: Path, named: Sequence[str]) -> dict[str, str]:
    code = "import importlib.metadata as m, json, sys; print(json.dumps({n: m.version(n) for n in sys.argv[1:]}))"
    found: dict[str, str] = json.loads(_run([str(python), "-c", code, *named], "its versions cannot be read"))
    return found


def _run(
    command: Sequence[str], complaint: str, timeout_s: float = INSTALL_TIMEOUT_S, *, folder: Path | None = None
) -> str:
    try:
        ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout_s, cwd=folder)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PeerMissingError(f"{complaint}: {error}") from None
    if ran.returncode != 0:
        lines = [line for line in ran.stderr.splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith("ERROR")] or lines[-1:] or ["no reason given"]
        raise PeerMissingError(f"{complaint}: {errors[-1].strip()}")
    return ran.stdout
