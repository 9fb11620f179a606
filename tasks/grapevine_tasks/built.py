"""A built task on the engineer's disk: read and published without PyTorch.

`grapevine task build` leaves, in `build/`, a draft of the manifest, the initial weights, and a
fingerprint of the sources that they were made from. A draft lacks what is known only when it is
published: who publishes it and when.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from pathlib import Path

from grapevine_proto.errors import TaskError, WireError
from grapevine_proto.manifest import TaskManifest
from grapevine_proto.manifest_codec import decode_manifest, encode_manifest
from grapevine_tasks.layout import ModelLayout
from grapevine_tasks.weights import load_initial

DRAFT_PUBLISHER = "draft"
DRAFT_FILE = "manifest.draft"
WEIGHTS_FILE = "initial.safetensors"
FINGERPRINT_FILE = "sources.sha256"
MODEL_FILE = "model.py"
_SOURCES = ("task.toml", MODEL_FILE)


@dataclass(frozen=True, kw_only=True)
class BuiltTask:
    """A task that can be published: `draft` counts its expiry from a publication at time 0."""

    draft: TaskManifest
    weights: bytes = field(repr=False)  # safetensors
    warnings: tuple[str, ...] = field(default=(), compare=False)  # for who built it; they are not kept


def write_built(built: BuiltTask, sources: Path, into: Path, *, fingerprint: str = "") -> None:
    """Write a built task, whose sources are in `sources`, to the folder `into`.

    `fingerprint` is that of the sources when they were read; by default it is taken now. It is written last
    and removed first: a folder whose writing was cut short counts as not built. Raises TaskError where the
    disk does not take it.
    """
    try:
        into.mkdir(parents=True, exist_ok=True)
        (into / FINGERPRINT_FILE).unlink(missing_ok=True)
        _replace(into / DRAFT_FILE, encode_manifest(built.draft))
        _replace(into / WEIGHTS_FILE, built.weights)
        _replace(into / FINGERPRINT_FILE, (fingerprint or fingerprint_of(sources)).encode() + b"\n")
    except OSError as error:
        raise TaskError(f"{into}: cannot be written ({error.strerror}); check free space and permissions") from None


def _replace(path: Path, content: bytes) -> None:
    temporary = path.with_name(f"{path.name}.tmp")
    temporary.write_bytes(content)
    temporary.replace(path)


def read_back(built: BuiltTask) -> None:
    """Raise TaskError unless the task, once it is written, can be read: by `load_built`, and by those it is sent to."""
    try:
        again = decode_manifest(encode_manifest(built.draft))
    except (WireError, ValueError, TypeError) as error:
        raise TaskError(f"the task cannot be sent: {error}; change that in task.toml or {MODEL_FILE}") from error
    if again != built.draft:
        raise TaskError(
            "the task is read otherwise than it was written: a number in task.toml is too large or too fine"
        )
    load_initial(ModelLayout.of(again.program), built.weights, again.initial_weights)


def load_built(folder: Path) -> BuiltTask:
    """Load a built task from its task folder, or from the folder that it was built into.

    Raises TaskError when it was not built, is damaged, or is older than its sources.
    """
    build = folder if (folder / DRAFT_FILE).exists() else folder / "build"
    try:
        draft = decode_manifest((build / DRAFT_FILE).read_bytes())
        weights = (build / WEIGHTS_FILE).read_bytes()
        fingerprint = (build / FINGERPRINT_FILE).read_text().strip()
    except OSError as error:
        raise TaskError(
            f"{folder} has not been built ({error.strerror}): run `grapevine task build {folder}`"
        ) from error
    except WireError as error:
        raise TaskError(f"{build / DRAFT_FILE} is damaged ({error}): run `grapevine task build {folder}`") from error
    if build != folder and fingerprint != fingerprint_of(folder):
        raise TaskError(f"{folder} was changed after it was built: run `grapevine task build {folder}`")
    load_initial(ModelLayout.of(draft.program), weights, draft.initial_weights)
    return BuiltTask(draft=draft, weights=weights)


def finish_manifest(draft: TaskManifest, *, publisher: str, now_ms: int) -> TaskManifest:
    """The manifest that is published: the draft with its publisher (a peer id) and its times."""
    expires_at_ms = now_ms + draft.expires_at_ms if draft.expires_at_ms else 0
    return replace(draft, publisher=publisher, created_at_ms=now_ms, expires_at_ms=expires_at_ms)


def fingerprint_of(sources: Path) -> str:
    """SHA-256 over the sources of a task, in hex: what was built is out of date when it changes."""
    digest = hashlib.sha256()
    for name in _SOURCES:
        content = (sources / name).read_bytes() if (sources / name).exists() else b""
        digest.update(len(content).to_bytes(8, "big") + content)
    return digest.hexdigest()
