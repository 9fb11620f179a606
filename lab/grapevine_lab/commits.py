"""Commits of the checkout that this runs from, by Git."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Final

from grapevine_proto.errors import ConfigError
from grapevine_tasks.suggestions import near_to

CHECKOUT: Final = Path(__file__).parents[2]
_HOW_TO_FIND: Final = "`git log --oneline` lists commits, `git branch --all` and `git tag` names of them"


def full_commit(repository: Path, base: str) -> str:
    """The commit that `base` names, as 40 hex digits. Raises ConfigError where it names none."""
    found = git(repository, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{base}^{{commit}}")
    if found.returncode == 0:
        return found.stdout.strip()
    if git(repository, "rev-parse").returncode != 0:
        raise ConfigError(f"{repository} is no Git repository: builds are compared in a checkout")
    names = git(repository, "for-each-ref", "--format=%(refname:short)").stdout.split()
    near = near_to(base, names)
    raise ConfigError(f"BASE: {base!r} is no commit here; {f'did you mean {near}? ' if near else ''}{_HOW_TO_FIND}")


def described(repository: Path) -> str:
    """The commit that is checked out, abbreviated; "-dirty" if code but tests differs, "unknown" without one."""
    found = git(repository, "rev-parse", "--short=12", "HEAD")
    if found.returncode != 0:
        return "unknown"
    code = ("*.py", "*.proto", "*.toml", "constraints.txt", ":!tests")
    changed = git(repository, "status", "--porcelain", "--", *code).stdout
    return found.stdout.strip() + ("-dirty" if changed else "")


def git(repository: Path, *words: str, index: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run Git in a repository, with an index of its own if one is given. Raises ConfigError where there is no Git."""
    environment = os.environ if index is None else {**os.environ, "GIT_INDEX_FILE": str(index)}
    try:
        return subprocess.run(
            ["git", "-C", str(repository), *words], capture_output=True, text=True, check=False, env=environment
        )
    except FileNotFoundError:
        raise ConfigError("git is not installed: commits are found and laid out by it") from None
