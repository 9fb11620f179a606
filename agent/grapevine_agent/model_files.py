"""Models in safetensors files, merged by the code that agents merge with: what `grapevine merge` does.

A file holds one model: its tensors are θ, in float32. Tensors named `base/…` are the base that the
model's delta is taken from; in the local file, the model before its last training. Running
statistics (`…running_mean`, `…running_var`) are buffers and are merged as such; integer tensors
(`…num_batches_tracked`) are taken from the freshest model. What is known of a model stands in the
file's header, as strings; which of it a strategy needs, `NEEDS` says.

Claims are taken as they are here: these are the owner's own files, not messages of strangers.
"""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from grapevine_agent.merge import STRATEGIES, Context, Merged, Voice
from grapevine_agent.merge.clip import Clip
from grapevine_agent.merge.constants import check_constants
from grapevine_agent.merge.geometry import LARGEST, squared_distance
from grapevine_proto.errors import RequestError, TaskError
from grapevine_tasks.suggestions import did_you_mean

BASE: Final = "base/"
BUFFER_ENDINGS: Final = ("running_mean", "running_var")
COUNTERS: Final = ("age", "experience", "samples", "epoch")
KEYS: Final = (*COUNTERS, "kind", "contributors", "silent_s", "heartbeat_s", "peer")
OPTIONS: Final = ("clip", "seed", "server_trust_cap")  # for any strategy
DEFAULT_TRUST_CAP: Final = 100.0

# What the header of the local file, and of each update, must say. Δ is taken from the local base.
NEEDS: Final[Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "age-weighted": (("age",), ("age",)),
    "doubly-weighted": (("age",), ("age",)),
    "fedavg": (("samples",), ("samples",)),
    "cos-sim-dfl": (("samples", BASE), ("samples",)),
    "chisme": (("experience", BASE), ("experience",)),
    "delta-sum": (("epoch", BASE), (BASE,)),
}
SERVER_NEEDS: Final = ("contributors", "silent_s", "heartbeat_s")

Tensor = NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class ModelFile:
    """One file, read and checked."""

    path: Path
    tensors: Mapping[str, Tensor]
    facts: Mapping[str, str]

    def names(self, kind: str) -> list[str]:
        """The names of θ's tensors of a kind ("parameters", "buffers", "integers"), sorted."""
        return sorted(n for n, t in self.tensors.items() if not n.startswith(BASE) and _kind_of(n, t) == kind)

    def vector(self, names: Sequence[str], prefix: str = "") -> NDArray[np.float32]:
        """These tensors, one after the other, as one float32 vector."""
        if not names:
            return np.empty(0, np.float32)
        return np.concatenate([self.tensors[prefix + name].reshape(-1) for name in names])

    def count(self, key: str) -> int:
        """A counter of the header, 0 where it does not say."""
        return int(float(self.facts.get(key, "0")))


def merge_files(
    strategy: str, *, local: Path, updates: Sequence[Path], out: Path, settings: Mapping[str, str]
) -> Mapping[str, float]:
    """Merge the models in `updates` into the one in `local`, write the result to `out`, return the shares.

    Raises `TaskError`, naming file and tensor, or key, and `RequestError` for a strategy or setting that there is
    not; nothing is written then.
    """
    constants, options = _read_settings(strategy, settings)
    mine = read_model(local)
    others = [read_model(path) for path in updates]
    local_needs, update_needs = NEEDS.get(strategy, ((), ()))
    _check_needs(mine, local_needs, strategy)
    for other in others:
        _check_same_tensors(mine, other)
        server = SERVER_NEEDS if other.facts.get("kind") == "server" and strategy == "doubly-weighted" else ()
        _check_needs(other, (*update_needs, *server), strategy)
    voice = _voice(mine, options)
    received = [_voice(other, options) for other in others]
    if "clip" in options:
        received = clipped(voice, received, options["clip"])
    merged = merge_voices(strategy, voice, received, constants, mine, seed=int(options.get("seed", 0)))
    _write(out, mine, others, merged, strategy)
    return merged.shares


def merge_voices(
    strategy: str,
    local: Voice,
    received: Sequence[Voice],
    constants: Mapping[str, float],
    mine: ModelFile,
    *,
    seed: int,
) -> Merged:
    """Merge as a live agent would that hears these updates, in this order."""
    entry = STRATEGIES[strategy]
    spans, at = [], 0
    for name in mine.names("parameters"):
        spans.append(slice(at, at + mine.tensors[name].size))
        at = spans[-1].stop
    context = Context(
        constants=entry.with_defaults(constants),
        epoch=mine.count("epoch"),
        spans=spans,
        rng=np.random.default_rng(seed),
    )
    return entry.merge(local=local, received=received, context=context)


def clipped(local: Voice, received: Sequence[Voice], factor: float) -> list[Voice]:
    """Every update's distance from the local model clipped to `factor` × the median of their distances.

    As in an agent, below three distances there is no telling what is usual, and nothing is clipped.
    """
    distances = (math.sqrt(squared_distance(local.parameters, voice.parameters)) for voice in received)
    usual = [distance for distance in distances if distance > 0]
    return [Clip(factor, deque(usual)).apply(local, voice) for voice in received]


# --- reading --------------------------------------------------------------------------------------


def read_model(path: Path) -> ModelFile:
    """Read and check one file. Raises `TaskError` naming the file, and the tensor or key."""
    try:
        with safe_open(path, framework="numpy") as file:
            facts = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except FileNotFoundError:
        raise TaskError(f"{path}: there is no such file") from None
    except (OSError, SafetensorError, TypeError, ValueError, KeyError, AttributeError) as error:
        raise TaskError(f"{path}: not a safetensors file that numpy can read ({error})") from None
    model = ModelFile(path=path, tensors=tensors, facts=facts)
    _check_facts(model)
    if not model.names("parameters"):
        raise TaskError(f"{path}: holds no float32 tensors: there is nothing to merge")
    for name, tensor in tensors.items():
        if _kind_of(name, tensor) == "unknown":
            raise TaskError(f"{path}: tensor {name!r} is {tensor.dtype}; convert it to float32")
        if tensor.dtype == np.float32 and not np.isfinite(tensor).all():
            raise TaskError(f"{path}: tensor {name!r} holds NaN or infinity")
        if name.startswith(BASE):
            held = tensors.get(name.removeprefix(BASE))
            if held is None or held.shape != tensor.shape:
                raise TaskError(
                    f"{path}: {name!r} is {list(tensor.shape)}, the base of a tensor "
                    f"{name.removeprefix(BASE)!r} of that shape, which is not there"
                )
    based = {name.removeprefix(BASE) for name in tensors if name.startswith(BASE)}
    if based and (missing := sorted(set(model.names("parameters")) - based)):
        raise TaskError(f"{path}: has a base, but not for {missing[0]!r}")
    return model


def _kind_of(name: str, tensor: Tensor) -> str:
    if np.issubdtype(tensor.dtype, np.integer) or tensor.dtype == np.bool_:
        return "integers"
    if tensor.dtype != np.float32:
        return "unknown"
    return "buffers" if name.endswith(BUFFER_ENDINGS) else "parameters"


def _check_facts(model: ModelFile) -> None:
    for key, value in model.facts.items():
        if key in (*COUNTERS, "silent_s", "heartbeat_s"):
            try:
                number = float(value)
            except ValueError:
                number = math.nan
            if not math.isfinite(number) or number < 0 or (key == "heartbeat_s" and number == 0):
                raise TaskError(f"{model.path}: metadata {key} = {value!r}; write a number, not negative, as a string")
    if model.facts.get("kind", "peer") not in ("peer", "server"):
        raise TaskError(f"{model.path}: metadata kind = {model.facts['kind']!r}; write 'peer' or 'server'")


def _check_needs(model: ModelFile, needs: Sequence[str], strategy: str) -> None:
    for key in needs:
        if key == BASE:
            if not any(name.startswith(BASE) for name in model.tensors):
                first = model.names("parameters")[0]
                raise TaskError(f"{model.path}: {strategy} needs the base: tensors named {BASE + first!r}, and so on")
        elif key not in model.facts:
            raise TaskError(f"{model.path}: {strategy} needs {key!r} in the file's metadata")


def _check_same_tensors(mine: ModelFile, other: ModelFile) -> None:
    for name in sorted(n for n in {*mine.tensors, *other.tensors} if not n.startswith(BASE)):
        if name not in other.tensors:
            raise TaskError(f"{other.path}: lacks the tensor {name!r} of {mine.path}")
        if name not in mine.tensors:
            raise TaskError(f"{other.path}: tensor {name!r} is not in {mine.path}")
        one, two = mine.tensors[name], other.tensors[name]
        if one.shape != two.shape or one.dtype != two.dtype:
            raise TaskError(
                f"{other.path}: tensor {name!r} is {two.dtype}{list(two.shape)}, "
                f"{mine.path} has {one.dtype}{list(one.shape)}"
            )


def _read_settings(strategy: str, settings: Mapping[str, str]) -> tuple[dict[str, float], dict[str, float]]:
    """Constants of the strategy, and options of the command, as numbers. Raises `RequestError`."""
    if strategy not in STRATEGIES:
        raise RequestError(f"there is no strategy {strategy!r}; {did_you_mean(strategy, STRATEGIES)}")
    numbers: dict[str, float] = {}
    for key, value in settings.items():
        known = [*STRATEGIES[strategy].constants, *OPTIONS]
        if key not in known:
            raise RequestError(f"--set {key}={value}: {strategy} has no constant {key!r}; {did_you_mean(key, known)}")
        words = {"true": "1", "false": "0"}
        try:
            numbers[key] = float(words.get(value.lower(), value))
        except ValueError:
            raise RequestError(f"--set {key}={value}: write a number, or true or false") from None
    options: dict[str, float] = {key: numbers.pop(key) for key in OPTIONS if key in numbers}
    if options.get("seed", 0) < 0 or options.get("seed", 0) % 1:
        raise RequestError(f"--set seed={settings['seed']}: write a whole number, 0 or more")
    if not 0 <= options.get("clip", 0) <= 1e6 or not 0 <= options.get("server_trust_cap", 0) <= 1e6:
        raise RequestError("--set: clip and server_trust_cap are numbers from 0 to 1e6")
    try:
        check_constants(strategy, numbers)
    except TaskError as error:
        raise RequestError(f"--set: {error}") from None
    return numbers, options


def _voice(model: ModelFile, options: Mapping[str, float]) -> Voice:
    names = model.names("parameters")
    has_base = any(name.startswith(BASE) for name in model.tensors)
    is_server = model.facts.get("kind") == "server"
    return Voice(
        peer=model.facts.get("peer") or str(model.path),
        parameters=model.vector(names),
        buffers=model.vector(model.names("buffers")),
        base=model.vector(names, BASE) if has_base else None,
        age=model.count("age"),
        experience=model.count("experience"),
        samples=model.count("samples"),
        kind="server" if is_server else "peer",
        source_weight=_server_weight(model, options) if is_server else 1.0,
    )


def _server_weight(model: ModelFile, options: Mapping[str, float]) -> float:
    """S = ρ·h(τ): contributors, at most the cap, halved for each heartbeat interval of silence after the first."""
    text = model.facts.get("contributors", "1")
    voices = float(text) if text.isdigit() else float(len({name for name in text.split(",") if name.strip()}))
    silence = float(model.facts.get("silent_s", "0")) / float(model.facts.get("heartbeat_s", "1"))
    trusted = min(voices, options.get("server_trust_cap", DEFAULT_TRUST_CAP))
    return trusted * math.pow(2.0, -max(0.0, silence - 1.0))


# --- writing --------------------------------------------------------------------------------------


def _check_range(name: str, tensor: Tensor, strategy: str) -> None:
    """Raise TaskError if a merged tensor leaves float32: merges stop at the largest number (`geometry.store`)."""
    if tensor.size and not float(np.abs(tensor).max()) < LARGEST:
        raise TaskError(
            f"{strategy} takes tensor {name!r} beyond what float32 holds: nothing was written; one of these models "
            "has numbers that none which has learned something has"
        )


def _write(out: Path, mine: ModelFile, others: Sequence[ModelFile], merged: Merged, strategy: str) -> None:
    tensors: dict[str, Tensor] = {}
    for kind, vector in (("parameters", merged.parameters), ("buffers", merged.buffers)):
        at = 0
        for name in mine.names(kind):
            held = mine.tensors[name]
            tensors[name] = vector[at : at + held.size].reshape(held.shape)
            at += held.size
            _check_range(name, tensors[name], strategy)
    freshest = max((mine, *others), key=lambda model: model.count("age"))
    tensors |= {name: freshest.tensors[name] for name in mine.names("integers")}
    facts = {key: value for key, value in mine.facts.items() if key in ("samples", "epoch", "peer")}
    facts |= {"kind": "peer", "strategy": strategy, "shares": json.dumps(merged.shares)}
    for key, value in (("age", merged.age), ("experience", merged.experience)):
        if any(key in model.facts for model in (mine, *others)):
            facts[key] = str(value)  # what nobody told is not made up
    temporary = out.with_name(out.name + ".part")
    try:
        # order="C" and not ascontiguousarray, which gives a tensor without dimensions one.
        save_file({name: np.asarray(tensor, order="C") for name, tensor in tensors.items()}, temporary, metadata=facts)
        temporary.replace(out)
    except (OSError, SafetensorError) as error:
        temporary.unlink(missing_ok=True)
        raise TaskError(f"{out}: cannot be written ({error})") from None
