"""A commit as a build that can be run: its files and an environment, kept below the user's cache.

    compare-…/source            the commit's files, laid out anew for each comparison
    compare-…/venv              what its own `make setup` installs
    compare-….log, ….lock       what that said; who uses it

The folder's name says the Python and the contents of `pyproject.toml` and `constraints.txt`: commits that agree in them
share one environment, which finds the code of whichever is laid out. Files come out of Git by an index that lies there
too, so that the repository itself does not notice.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from grapevine_lab.bench_compare.children import environment_of, run_to_the_end
from grapevine_lab.commits import described, git
from grapevine_proto.errors import GrapevineError

Say = Callable[[str], None]

TAIL_LINES: Final = 20
_PINS: Final = ("pyproject.toml", "constraints.txt")
_DONE: Final = "installed"  # written last: without it an environment is half made


@dataclass(frozen=True, kw_only=True)
class Build:
    """A commit that can be run."""

    commit: str  # abbreviated, and "-dirty" where files differ from it
    source: Path
    python: Path


def build_here(repository: Path) -> Build:
    """What is checked out, as it is, in the environment that runs this."""
    return Build(commit=described(repository), source=repository, python=Path(sys.executable))


@contextmanager
def built(repository: Path, commit: str, root: Path, say: Say, *, like: Path | None = None) -> Iterator[Build]:
    """Lay a commit out below `root`, in an environment that is made unless it is there, and is ours until the end.

    Args:
        repository: Where the commit is.
        commit: As 40 hex digits.
        root: The folder of all environments.
        say: Is told what takes long.
        like: A folder that is about as large as a new environment will be; by default the environment that runs this.

    Raises:
        GrapevineError: There is no room, another comparison uses the environment, or it does not build: then nothing is
            left of it but the log.
    """
    folder = root / f"compare-{_pins_of(repository, commit)}"
    log = folder.with_name(f"{folder.name}.log")
    root.mkdir(parents=True, exist_ok=True)
    with _alone(folder.with_name(f"{folder.name}.lock")):
        try:
            if not (folder / _DONE).is_file():
                shutil.rmtree(folder, ignore_errors=True)
                _check_room(root, like or Path(sys.prefix))
            _lay_out(repository, commit, folder)
            if not (folder / _DONE).is_file():
                say(f"building {commit[:12]} in {folder}; it takes minutes, once for all commits of the same pins")
                _make(commit, folder, log)
        except BaseException:
            if not (folder / _DONE).is_file():
                shutil.rmtree(folder, ignore_errors=True)
            raise
        yield Build(commit=commit[:12], source=folder / "source", python=folder / "venv" / "bin" / "python")


def _pins_of(repository: Path, commit: str) -> str:
    found = git(repository, "rev-parse", *(f"{commit}:{name}" for name in _PINS))
    if found.returncode != 0:
        raise GrapevineError(f"{commit[:12]} has no {' and '.join(_PINS)}: it is older than what can be built here")
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    return f"{version}-{hashlib.sha256(found.stdout.encode()).hexdigest()[:12]}"


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    with lock.open("w") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise GrapevineError(f"another comparison uses {lock.with_suffix('')}; wait until it has ended") from None
        yield


def _check_room(root: Path, like: Path) -> None:
    needed = sum(path.lstat().st_size for path in like.rglob("*") if not path.is_dir())
    free = shutil.disk_usage(root).free
    if free < needed:
        raise GrapevineError(
            f"{root}: another environment takes about {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free; delete what "
            "is not needed there, or let XDG_CACHE_HOME name a folder on another disk"
        )


def _lay_out(repository: Path, commit: str, folder: Path) -> None:
    source, index = folder / "source", folder / "index"
    shutil.rmtree(source, ignore_errors=True)
    folder.mkdir(exist_ok=True)
    for words in (("read-tree", commit), ("checkout-index", "--all", f"--prefix={source}/")):
        done = git(repository, *words, index=index)
        if done.returncode != 0:
            raise GrapevineError(f"{commit[:12]} cannot be laid out in {source}: {done.stderr.strip()}")


def _make(commit: str, folder: Path, log: Path) -> None:
    source, venv = folder / "source", folder / "venv"
    command = ["make", "--directory", str(source), "setup", f"VENV={venv}", f"PYTHON={sys.executable}"]
    with log.open("wb") as output:
        code = run_to_the_end(command, cwd=source, environment=environment_of(None), stdout=output, stderr=output)
    if code != 0 or not (venv / "bin" / "python").exists():
        why = f"`make setup` ended with {code}" if code else "its `make setup` makes no environment where VENV says"
        raise GrapevineError(f"{commit[:12]} does not build: {why}; the end of {log}:\n{tail_of(log)}")
    (folder / _DONE).touch()


def tail_of(log: Path) -> str:
    """The last lines of a log."""
    lines = log.read_text(encoding="utf-8", errors="replace").rstrip().splitlines()
    return "\n".join(lines[-TAIL_LINES:]) or "(it is empty)"
