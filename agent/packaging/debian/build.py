#!/usr/bin/env python3
"""Builds grapevine_VERSION_ARCH.deb, and grapevine-train_VERSION_ARCH.deb with PyTorch: `make deb`.

    wheels (PyPI, constraints.txt) ─pip --target▶ site-packages of /opt/grapevine, a virtual environment
                                                  of Debian's own Python
    units, manual, changelog, maintainer scripts ─▶ dpkg-deb

pip takes wheels for the architecture that is asked for and runs none of their code, so a package for arm64 is built
on amd64 with the same words: `make deb ARCH=arm64`. What the second package adds is what an environment with the
extras `train` and `data` has and the first one, with `broker`, `discovery` and `metrics`, has not: both unpack into
the same environment.

The bytecode is made here, because the service may not write beside its code. It belongs to one minor version of
Python: that which runs this, of the Debian that the package is for. Needs pip, and dpkg-deb.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterable, Sequence
from email.utils import formatdate
from pathlib import Path

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parents[2]
OPT = Path("opt/grapevine")
UNITS = Path("lib/systemd/system")
DOC = Path("usr/share/doc/grapevine")
MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
GLIBC = range(17, 37)  # manylinux_2_17 … 2_36, which is Debian 12's
BASE = ("broker", "discovery", "metrics")
TRAIN = (*BASE, "train", "data")
MAINTAINER = "Grapevine developers <grapevine@localhost>"
# What a device has no use for: the lab, tests, and what C and Fortran are compiled with.
LEFT_OUT = (
    "bin",
    "grapevine_lab",
    "numpy/**/tests",
    "numpy/_core/*_tests.*.so",
    "numpy/distutils",
    "numpy/f2py",
    "torch/include",
    "torch/share",
    "torch/test",
    "torch/lib/*.a",
    "torchgen/packaged/ATen",
    "functorch/docs",
    "sympy/**/tests",
    "networkx/**/tests",
    "pyarrow/include",
    "pyarrow/tests",
    "pyarrow/**/*.pyx",
    "pyarrow/**/*.pxd",
    "pyarrow/src",
)


def main() -> None:
    """Build what is asked for; its path goes to stdout."""
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    words.add_argument("--arch", default=_said(["dpkg", "--print-architecture"]), choices=MACHINES)
    words.add_argument("--out", type=Path, default=CHECKOUT / "dist")
    words.add_argument("--compress", default="zstd", help="as dpkg-deb's -Z, with a level: zstd, zstd:19, gzip:1")
    words.add_argument("--revision", default="1", help="counts builds of one version, so that apt takes a newer one")
    words.add_argument("--no-train", action="store_true", help="only the package without PyTorch")
    words.add_argument("--torch-index", default="", help="where pip finds PyTorch for the CPU alone")
    options = words.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    version = f"{tomllib.loads((CHECKOUT / 'pyproject.toml').read_text())['project']['version']}-{options.revision}"
    with tempfile.TemporaryDirectory(prefix="grapevine-deb-") as folder:
        work = Path(folder)
        wheel = _wheel(work / "wheel")
        base, both = work / "base", work / "both"
        _install(wheel, BASE, base, arch=options.arch)
        tree = _tree(work / "grapevine", base)
        _fill(tree)
        _debian(tree, "grapevine", version, options)
        if not options.no_train:
            _install(wheel, TRAIN, both, arch=options.arch, index=options.torch_index)
            if any(both.glob("nvidia*")):
                sys.exit(
                    "pip has brought PyTorch for CUDA, gigabytes of it: name the index of PyTorch for the CPU alone, "
                    "which pytorch.org tells (make deb TORCH_INDEX=…)"
                )
            _subtract(both, base)
            tree = _tree(work / "grapevine-train", both)
            _debian(tree, "grapevine-train", version, options)


# --- what is installed ------------------------------------------------------------------------------


def _wheel(folder: Path) -> Path:
    _run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, CHECKOUT], constrain=True
    )
    (wheel,) = folder.glob("grapevine_learning-*.whl")
    return wheel


def _install(wheel: Path, extras: Sequence[str], target: Path, *, arch: str, index: str = "") -> None:
    """An environment's packages, of wheels alone; no code of theirs runs."""
    machine, python = MACHINES[arch], f"{sys.version_info.major}{sys.version_info.minor}"
    tags = [f"manylinux_2_{minor}_{machine}" for minor in reversed(GLIBC)] + [f"manylinux2014_{machine}"]
    command: list[object] = [sys.executable, "-m", "pip", "install", "--quiet", "--target", target, "--no-compile"]
    command += ["--only-binary=:all:", "--implementation", "cp", "--python-version", python]
    command += [f"--abi=cp{python}", "--abi=abi3", "--abi=none", *(f"--platform={tag}" for tag in tags)]
    command += ["--extra-index-url", index] if index else []
    _run([*command, f"{wheel}[{','.join(extras)}]"], constrain=True)
    for pattern in LEFT_OUT:
        for path in sorted(target.glob(pattern)):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for path in target.rglob("__pycache__"):
        shutil.rmtree(path)
    for info in target.glob("grapevine_learning-*.dist-info"):
        (info / "INSTALLER").write_text("dpkg\n")  # what hints to install something go by
        (info / "direct_url.json").unlink(missing_ok=True)  # where the wheel lay on the machine that built it


def _subtract(whole: Path, part: Path) -> None:
    """Leave in `whole` what `part` has not."""
    for path in sorted(whole.rglob("*"), reverse=True):
        other = part / path.relative_to(whole)
        if path.is_dir() and not path.is_symlink():
            if not any(path.iterdir()):
                path.rmdir()
        elif other.exists():
            path.unlink()


def _tree(root: Path, packages: Path) -> Path:
    """A package's tree with the packages in their place, compiled."""
    site = root / OPT / "lib" / _python() / "site-packages"
    site.parent.mkdir(parents=True)
    shutil.copytree(packages, site, symlinks=True)  # the first is needed once more
    _compile(site, root)
    return root


def _compile(site: Path, root: Path) -> None:
    command = [sys.executable, "-m", "compileall", "-q", "-j", "0", "--invalidation-mode", "unchecked-hash"]
    # A module for another Python, or a template that ends in .py, is no reason to stop.
    subprocess.run([*command, "-s", str(root), "-p", "/", str(site)], check=False, stdout=subprocess.DEVNULL)


def _fill(root: Path) -> None:
    """What belongs to the first package beside its libraries."""
    opt = root / OPT
    (opt / "bin").mkdir()
    (opt / "bin" / "python").symlink_to(f"/usr/bin/{_python()}")
    (opt / "pyvenv.cfg").write_text(
        f"home = /usr/bin\ninclude-system-site-packages = false\nversion = {'.'.join(map(str, sys.version_info[:3]))}\n"
    )
    # -I: neither the environment nor the folder that somebody is in has a say in what is imported.
    script = "#!/opt/grapevine/bin/python -I\nimport sys\n\nfrom grapevine_agent.cli import main\n\nsys.exit(main())\n"
    (opt / "bin" / "grapevine").write_text(script)
    (opt / "bin" / "grapevine").chmod(0o755)
    (root / "usr/bin").mkdir(parents=True)
    (root / "usr/bin/grapevine").symlink_to("/opt/grapevine/bin/grapevine")
    (root / UNITS).mkdir(parents=True)
    for kind, text in _units().items():
        (root / UNITS / f"grapevine-{kind}.service").write_text(text)
    _zipped((HERE / "grapevine.1").read_bytes(), root / "usr/share/man/man1/grapevine.1.gz")
    for path, source in documents().items():
        if source.suffix == ".md":
            _zipped(source.read_bytes(), root / DOC / f"{path}.gz")
        else:
            (root / DOC / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, root / DOC / path)


def documents() -> dict[Path, Path]:
    """The guides and what they refer to, by their paths below `DOC`; what was measured is for a checkout."""
    docs = CHECKOUT / "docs"
    found = [*docs.glob("*.md"), *docs.glob("decisions/*.md"), *docs.glob("examples/*")]
    return {path.relative_to(docs): path for path in sorted(found) if path.is_file()} | {
        Path("README.md"): CHECKOUT / "README.md"
    }


def _units() -> dict[str, str]:
    sys.path[:0] = [str(CHECKOUT / "agent"), str(CHECKOUT / "proto")]
    from grapevine_agent.units import KINDS, SYSTEM_FOLDER, Unit  # noqa: PLC0415 - of this checkout

    command = Path("/usr/bin/grapevine")
    files = {"server": SYSTEM_FOLDER / "server.toml"}
    return {
        kind: Unit(kind=kind, command=command, config=files.get(kind, SYSTEM_FOLDER / "agent.toml")).text()
        for kind in KINDS
    }


# --- the package ------------------------------------------------------------------------------------


def _debian(root: Path, name: str, version: str, options: argparse.Namespace) -> None:
    doc = root / "usr/share/doc" / name
    doc.mkdir(parents=True, exist_ok=True)
    shutil.copy(HERE / "copyright", doc / "copyright")
    _zipped((CHECKOUT / "CHANGELOG.md").read_bytes(), doc / "changelog.gz")
    _zipped(_changelog(name, version), doc / "changelog.Debian.gz")
    if (overrides := HERE / f"{name}.lintian-overrides").exists():
        (root / "usr/share/lintian/overrides").mkdir(parents=True)
        shutil.copy(overrides, root / "usr/share/lintian/overrides" / name)
    _tidy(root)
    control = root / "DEBIAN"
    control.mkdir()
    everything = (path for path in root.rglob("*") if control not in path.parents)
    files = [path for path in everything if path.is_file() and not path.is_symlink()]
    size_kb = sum(-(-path.stat().st_size // 1024) for path in files)
    (control / "control").write_text(control_text(name, version, options.arch, size_kb))
    (control / "md5sums").write_text("".join(_sums(files, root)))
    for script in ("postinst", "prerm", "postrm"):
        if (source := HERE / f"{name}.{script}").exists():
            shutil.copy(source, control / script)
            (control / script).chmod(0o755)
    kind, _, level = options.compress.partition(":")
    deb = options.out / f"{name}_{version}_{options.arch}.deb"
    compress = [f"-Z{kind}", *([f"-z{level}"] if level else [])]
    _run(["dpkg-deb", "--root-owner-group", *compress, "--build", root, deb])
    sys.stdout.write(f"{deb}\n")


def control_text(name: str, version: str, arch: str, size_kb: int) -> str:
    """What dpkg is told of a package. The one with PyTorch fits every revision of the other one's version."""
    major, minor = sys.version_info[:2]
    values = {
        "VERSION": version,
        "UPSTREAM": version.rpartition("-")[0],
        "ARCH": arch,
        "SIZE": str(size_kb),
        "MAINTAINER": MAINTAINER,
        "PYTHON": f"python3 (>= {major}.{minor}~), python3 (<< {major}.{minor + 1}), {_python()}",
    }
    text = (HERE / f"{name}.control").read_text()
    for key, value in values.items():
        text = text.replace(f"@{key}@", value)
    return text


def _tidy(root: Path) -> None:
    """Rights as Debian has them, whatever ours were."""
    for path in root.rglob("*"):
        if path.is_symlink():
            continue
        path.chmod(0o755 if path.is_dir() or _is_program(path) else 0o644)


def _is_program(path: Path) -> bool:
    """A script or a program, and no library: wheels mark many a file that is none of these."""
    if not path.stat().st_mode & 0o100:
        return False
    with path.open("rb") as file:
        begins = file.read(4)
    return begins[:2] == b"#!" or (begins == b"\x7fELF" and ".so" not in path.name)


def _sums(files: Iterable[Path], root: Path) -> Iterable[str]:
    for path in sorted(files):
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "md5").hexdigest()
        yield f"{digest}  {path.relative_to(root)}\n"


def _zipped(text: bytes, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(gzip.compress(text, 9, mtime=0))


def _changelog(name: str, version: str) -> bytes:
    when = formatdate(int(_commit_time() or time.time()))
    line = "Built from this version; what has changed is in changelog.gz."
    return f"{name} ({version}) unstable; urgency=medium\n\n  * {line}\n\n -- {MAINTAINER}  {when}\n".encode()


# --- words to others --------------------------------------------------------------------------------


def _python() -> str:
    return f"python{sys.version_info.major}.{sys.version_info.minor}"


def _said(command: Sequence[str]) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def _run(command: Sequence[object], *, constrain: bool = False) -> None:
    environ = dict(os.environ)
    if constrain:
        environ["PIP_CONSTRAINT"] = str(CHECKOUT / "constraints.txt")
    if "SOURCE_DATE_EPOCH" not in environ and re.fullmatch(r"\d+", when := _commit_time()):
        environ["SOURCE_DATE_EPOCH"] = when
    subprocess.run([str(word) for word in command], check=True, env=environ)


def _commit_time() -> str:
    try:
        return _said(["git", "-C", str(CHECKOUT), "log", "-1", "--format=%ct"])
    except (OSError, subprocess.CalledProcessError):
        return ""


if __name__ == "__main__":
    main()
