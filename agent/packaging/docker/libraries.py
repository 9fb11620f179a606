#!/usr/bin/env python3
"""Fills /opt/grapevine while an image is built: what we depend on, or our own packages.

    libraries.py broker discovery   what pyproject.toml names, with these extras, at the versions of constraints.txt
    libraries.py --ours             our packages, below /ours, so that they are a layer of their own

What a device has no use for is left out, as in the Debian package. Wheels that lie beside this file are taken instead
of an index.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parents[2]
ENVIRONMENT = Path("/opt/grapevine")
OURS = Path("/ours")

sys.path.append(str(HERE.parent / "debian"))
from build import LEFT_OUT  # noqa: E402


def main() -> None:
    """Install what is asked for."""
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    words.add_argument("extras", nargs="*", help="extras of pyproject.toml")
    words.add_argument("--ours", action="store_true", help="our packages, not what they depend on")
    words.add_argument("--torch-index", default="", help="where pip finds PyTorch for the CPU alone")
    words.add_argument("--print", action="store_true", help="only say what would be installed")
    options = words.parse_args()
    wanted = requirements(options.extras)
    if options.print:
        sys.stdout.write("\n".join(wanted) + "\n")
    elif options.ours:
        _pip("--root", OURS, "--no-deps", CHECKOUT)
        _trim(OURS)
    else:
        _pip(*(["--extra-index-url", options.torch_index] if options.torch_index else []), *wanted)
        if any(_site(Path("/")).glob("nvidia*")):
            sys.exit(
                "pip has brought PyTorch for CUDA: --build-arg TORCH_INDEX_URL=… names where it is for the CPU alone"
            )
        _trim(Path("/"))


def requirements(extras: Iterable[str]) -> list[str]:
    """What our packages need, with these extras."""
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    more = project["optional-dependencies"]
    return sorted({*project["dependencies"], *(each for extra in extras for each in more[extra])})


def _pip(*words: object) -> None:
    command: list[object] = ["/opt/pip/bin/pip", "--python", ENVIRONMENT / "bin/python", "install", "--quiet"]
    command += ["--constraint", CHECKOUT / "constraints.txt"]
    if any((HERE / "wheels").glob("*.whl")):
        command += ["--no-index", "--find-links", HERE / "wheels"]
    # What builds our packages is pinned as well.
    environ = os.environ | {"PIP_CONSTRAINT": str(CHECKOUT / "constraints.txt")}
    subprocess.run([str(word) for word in (*command, *words)], check=True, env=environ)


def _site(root: Path) -> Path:
    (site,) = (root / ENVIRONMENT.relative_to("/")).glob("lib/python3*/site-packages")
    return site


def _trim(root: Path) -> None:
    for pattern in LEFT_OUT:
        for path in sorted(_site(root).glob(pattern)):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


if __name__ == "__main__":
    main()
