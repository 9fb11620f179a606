"""What the service and its trainer process say to each other: JSON lines over a socket pair.

    service                                trainer
      Setup            ──────────────────►   loads PyTorch and the samples
                       ◄──────────────────  Ready | Failed
      TrainRequest     ──────────────────►   takes steps
                       ◄──────────────────  Trained | Failed
      EvaluateRequest  ──────────────────►
                       ◄──────────────────  Evaluated | Failed

Models do not travel here but in shared memory (`shared_vectors`): request `number` finds its model
in the slot of its parity, and leaves its answer in the same slot. When the socket closes, the
trainer ends.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import TypeAlias

from grapevine_proto.errors import TaskError


@dataclass(frozen=True, kw_only=True)
class Setup:
    """Which task to train, on what, and within which limits."""

    manifest: str  # base64 of the manifest's bytes
    source: str  # the data source, as JSON
    seed: int
    num_threads: int
    memory_mb: int  # of the whole process; 0: no limit
    sandbox: str = "strict"  # or "off"


@dataclass(frozen=True, kw_only=True)
class TrainRequest:
    """Take `num_steps` steps from the model in the slot, which has `age` optimiser steps in it."""

    number: int
    num_steps: int
    age: int = 0


@dataclass(frozen=True, kw_only=True)
class EvaluateRequest:
    """Evaluate the model in the slot on the test samples."""

    number: int


@dataclass(frozen=True, kw_only=True)
class Ready:
    """Samples are loaded, and the sandbox is closed."""

    num_samples: int
    num_test: int
    protection: str = ""  # what holds the process from now on, for people
    bare_mb: int = 0  # what the process takes with PyTorch and without samples; 0: it does not tell
    baseline: float | None = None  # see `Yardstick`
    baseline_name: str = ""
    unit: float | None = None


@dataclass(frozen=True, kw_only=True)
class Trained:
    """The trained model is in the slot."""

    number: int
    loss: float
    num_samples: int


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """How the model in the slot does; without test samples there are no figures."""

    number: int
    loss: float | None
    metric: float | None
    num_samples: int


@dataclass(frozen=True, kw_only=True)
class Failed:
    """It did not work; `fatal` says that the process ends now, and that the next one may do better."""

    number: int
    reason: str
    fatal: bool = False
    bare_mb: int = 0  # as in `Ready`, where that alone was too much


Request: TypeAlias = Setup | TrainRequest | EvaluateRequest
Answer: TypeAlias = Ready | Trained | Evaluated | Failed

_KINDS: dict[str, type[Request | Answer]] = {
    "setup": Setup,
    "train": TrainRequest,
    "evaluate": EvaluateRequest,
    "ready": Ready,
    "trained": Trained,
    "evaluated": Evaluated,
    "failed": Failed,
}
_NAMES = {kind: name for name, kind in _KINDS.items()}
_TYPES: dict[str, type | tuple[type, ...]] = {
    "str": str,
    "int": int,
    "float": (int, float),
    "float | None": (int, float, type(None)),
    "bool": bool,
}


def to_line(message: Request | Answer) -> bytes:
    """One line of JSON, with its line feed."""
    return json.dumps({"kind": _NAMES[type(message)], **asdict(message)}).encode() + b"\n"


def from_line(line: bytes) -> Request | Answer:
    """The message in a line.

    Raises TaskError when it is none: the two sides are not of one version, or the trainer is not itself any more.
    """
    try:
        facts = json.loads(line)
        message = _KINDS[facts.pop("kind")](**facts)
        _check_types(message)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise TaskError(f"the trainer and the service do not understand each other: {line[:80]!r}") from error
    return message


def _check_types(message: Request | Answer) -> None:
    for field in fields(message):
        value = getattr(message, field.name)
        expected = _TYPES.get(str(field.type))
        if expected and (not isinstance(value, expected) or (isinstance(value, bool) and field.type != "bool")):
            raise TypeError(field.name)
        if str(field.type).startswith("float") and value is not None:
            float(value)  # JSON's whole numbers have no end
