"""The images that containers of a lab run: found by their names, or built of a checkout.

    python -m grapevine_lab.testbed.images            all three (`make images`)
    python -m grapevine_lab.testbed.images relay      one of them, and whatever it needs

A built image bears a digest of what it was built of: one that was made of other code than this checkout's is built
again by this command, and refused by a lab. An image that `LAB_IMAGE_AGENT` and its like name is taken as it is.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, get_args

from grapevine_lab.testbed.docker_access import connect, told
from grapevine_lab.testbed.engine import MachineKind
from grapevine_proto import distribution
from grapevine_proto.errors import ConfigError, GrapevineError

Variant: TypeAlias = Literal["relay", "server", "agent"]
VARIANTS: Final[tuple[Variant, ...]] = get_args(Variant)
BROKER: Final = "eclipse-mosquitto:2"
SOURCE: Final = "org.grapevine.source"
CHECKOUT: Final = Path(__file__).resolve().parents[3]
PACKAGING: Final = Path("agent/packaging/docker")
_RUNS: Final[Mapping[MachineKind, str]] = {
    "peer": "agent",
    "server": "server",
    "engineer": "relay",
    "reviewer": "relay",
    "broker": "broker",
}
_EXTRAS: Final = ("broker", "discovery", "metrics", "train", "data")
_PASSED_ON: Final = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_TRUSTED_HOST", "TORCH_INDEX_URL")


def name_of(what: str) -> str:
    """The image of a variant, or of "broker", as the environment or this version names it."""
    standard = BROKER if what == "broker" else f"grapevine-{what}:{distribution.version()}"
    return os.environ.get(f"LAB_IMAGE_{what.upper()}", standard)


def image_of(kind: MachineKind) -> str:
    """The image that a machine of a lab runs."""
    return name_of(_RUNS[kind])


def check_images(client: Any, kinds: Iterable[MachineKind], *, checkout: Path = CHECKOUT) -> None:
    """Raise `ConfigError` where an image for these is missing, and cannot be had, or is of other code than ours."""
    for what in sorted({_RUNS[kind] for kind in kinds}):
        name, variable = name_of(what), f"LAB_IMAGE_{what.upper()}"
        image = _found(client, name)
        if what == "broker":
            if image is None and not _pulled(client, name):
                raise ConfigError(
                    f"there is no image {name} and it cannot be pulled: name one that has Mosquitto with {variable}=…"
                )
            continue
        if image is None:
            raise ConfigError(
                f"there is no image {name}: `make images` in a checkout builds it, or name another with {variable}=…"
            )
        made_of = image.labels.get(SOURCE)
        if variable not in os.environ and is_checkout(checkout) and made_of != source_of(checkout):
            raise ConfigError(
                f"the image {name} was built of other code than {checkout}: `make images` builds it again, and "
                f"{variable}={name} takes it as it is"
            )


def is_checkout(folder: Path) -> bool:
    """Whether images can be built of it."""
    return (folder / PACKAGING / "Dockerfile").is_file()


def source_of(checkout: Path, frame: Path | None = None) -> str:
    """A digest of what an image is built of, but for wheels."""
    digest = hashlib.sha256()
    for name, path in sorted(_files(checkout, frame).items()):
        digest.update(f"{name}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def build(
    client: Any,
    variant: Variant,
    *,
    checkout: Path = CHECKOUT,
    frame: Path | None = None,
    name: str = "",
    base: str = "",
    wheels: Path | None = None,
    say: Callable[[str], object] = str,  # nobody listens
) -> str:
    """Build an image if there is none of this code; its name.

    Args:
        client: Of the engine.
        variant: Which.
        checkout: What it is built of.
        frame: Another checkout, whose Dockerfile and libraries are taken: for code from before there was one.
        name: How it is called, if not as `name_of` says.
        base: What it is built on, if not `LAB_IMAGE_BASE` or what the Dockerfile says.
        wheels: A folder of wheels to take instead of an index.
        say: Told what is done.

    Raises:
        ConfigError: The base is not there and cannot be pulled.
        GrapevineError: It does not build; the message has the end of what was said.
    """
    name, base = name or name_of(variant), base or os.environ.get("LAB_IMAGE_BASE", "")
    source = source_of(checkout, frame)
    image = _found(client, name)
    if image is not None and image.labels.get(SOURCE) == source:
        say(f"{name} is there already, of this code")
        return name
    if base and _found(client, base) is None and not _pulled(client, base):
        raise ConfigError(
            f"there is no image {base} to build on, and it cannot be pulled: name one with Python 3.11 and its venv "
            "(LAB_IMAGE_BASE=…)"
        )
    arguments = {key: os.environ[key] for key in _PASSED_ON if key in os.environ}
    arguments |= {"VERSION": distribution.version()}
    arguments |= {"BASE": base} if base else {}
    say(f"building {name}")
    with tempfile.TemporaryFile() as context:
        _pack(context, _files(checkout, frame), wheels)
        context.seek(0)
        with told(f"building {name}"):
            lines = client.api.build(
                fileobj=context,
                custom_context=True,
                dockerfile=str(PACKAGING / "Dockerfile"),
                target=variant,
                tag=name,
                buildargs=arguments,
                labels={SOURCE: source, "org.opencontainers.image.created": time.strftime("%FT%TZ", time.gmtime())},
                rm=True,
                forcerm=True,
                decode=True,
            )
            _follow(lines, name, say)
    return name


def gather_wheels(folder: Path, extras: Sequence[str] = _EXTRAS, *, checkout: Path = CHECKOUT) -> Path:
    """Have this machine's pip bring what an image needs, where the engine's knows no way; the folder.

    They fit a base whose Python and processor are this machine's.
    """
    command = [sys.executable, str(checkout / PACKAGING / "libraries.py"), "--print", *extras]
    wanted = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split("\n")
    folder.mkdir(parents=True, exist_ok=True)
    constraints = checkout / "constraints.txt"
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--wheel-dir", str(folder)]
    done = subprocess.run(
        [*command, "--constraint", str(constraints), "hatchling", *filter(None, wanted)],
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise GrapevineError(f"pip cannot bring what the images need: {done.stderr[-500:]}")
    return folder


def _found(client: Any, name: str) -> Any:
    import docker.errors  # noqa: PLC0415

    with told(f"looking for the image {name}"):
        try:
            return client.images.get(name)
        except docker.errors.ImageNotFound:
            return None


def _pulled(client: Any, name: str) -> bool:
    try:
        with told(f"pulling {name}"):
            client.images.pull(name)
    except GrapevineError:
        return False
    return True


def _files(checkout: Path, frame: Path | None) -> dict[str, Path]:
    """What the Dockerfile sees, by its path there."""
    files = _sent(checkout, frame or checkout)
    if frame is not None:
        framed = (str(PACKAGING.parent), "pyproject.toml", "constraints.txt")
        files |= {name: path for name, path in _sent(frame, frame).items() if name.startswith(framed)}
    return {name: path for name, path in files.items() if not name.startswith(f"{PACKAGING}/wheels/")}


def _sent(checkout: Path, ruler: Path) -> dict[str, Path]:
    """What the `.dockerignore` of `ruler` lets through."""
    from docker.utils.build import exclude_paths  # noqa: PLC0415

    lines = (ruler / ".dockerignore").read_text().splitlines()
    patterns = [line for line in lines if line.strip() and not line.startswith("#")]
    return {name: checkout / name for name in exclude_paths(str(checkout), patterns) if (checkout / name).is_file()}


def _pack(target: Any, files: Mapping[str, Path], wheels: Path | None) -> None:
    """A build context. Owners and rights are always the same, so that the engine's cache holds."""
    own = CHECKOUT / PACKAGING / "wheels"
    brought = [path for folder in (own, wheels) if folder is not None for path in sorted(folder.glob("*"))]
    with tarfile.open(fileobj=target, mode="w") as tar:
        whole = dict(sorted(files.items())) | {
            f"{PACKAGING}/wheels/{path.name}": path for path in brought if path.suffix in (".whl", ".md", ".conf")
        }
        for name, path in whole.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = path.stat().st_size, 0o755 if os.access(path, os.X_OK) else 0o644
            with path.open("rb") as file:
                tar.addfile(info, file)


def _follow(lines: Iterable[Mapping[str, Any]], name: str, say: Callable[[str], object]) -> None:
    said: list[str] = []
    for line in lines:
        if "error" in line:
            end = "".join(said[-12:]).strip()
            raise GrapevineError(
                f"{name} does not build: {line['error']}\n{end}\nwhere pip reaches no index from a container: "
                "`make images IMAGES=--wheels`, or --build-arg PIP_INDEX_URL=… (agent/packaging/docker/Dockerfile)"
            )
        text = str(line.get("stream", ""))
        said.append(text)
        if text.startswith("Step "):
            say(text.strip())


def main() -> None:
    """The command of the module's docstring."""
    words = argparse.ArgumentParser(description="Build the images of this checkout.")
    words.add_argument("variants", nargs="*", choices=[*VARIANTS, []], default=[], help="which; all without a word")
    words.add_argument("--base", default="", help="what they are built on; LAB_IMAGE_BASE says so as well")
    words.add_argument(
        "--wheels", nargs="?", const="", help="take wheels of this folder, or have pip of here bring them"
    )
    options = words.parse_args()
    wheels = None if options.wheels is None else Path(options.wheels or Path.home() / ".cache/grapevine/wheels")
    variants: Sequence[Variant] = options.variants or VARIANTS
    try:
        if not is_checkout(CHECKOUT):
            raise ConfigError(f"{CHECKOUT} is no checkout: images are built of one")
        client = connect()
        if options.wheels == "" and wheels is not None:
            gather_wheels(wheels, _EXTRAS if "agent" in variants else _EXTRAS[:3])
        for variant in variants:
            print(build(client, variant, base=options.base, wheels=wheels, say=_to_stderr))  # noqa: T201
    except GrapevineError as error:
        sys.exit(f"error: {error}")


def _to_stderr(line: str) -> None:
    sys.stderr.write(f"{line}\n")


if __name__ == "__main__":
    main()
