"""`task.toml`: what an engineer writes about a task, read strictly.

Sections: [task], [data] with [data.features] and [data.target], [training] with
[training.optimiser], [merging] with [merging.constants], [requirements]. Only [task] and [data]
must be there; everything else has the defaults of `grapevine_proto.manifest`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from grapevine_proto.errors import TaskError
from grapevine_proto.manifest import DataContract, FeatureSpec, MergePlan, Optimiser, Requirements, TrainingPlan
from grapevine_tasks.suggestions import did_you_mean

TASK_FILE = "task.toml"

_TASK = {
    "name": str,
    "description": str,
    "version": int,
    "parent": str,
    "servers": list,
    "lifetime_days": float,
    "seed": int,
}
_FEATURE = {"name": str, "dtype": str, "shape": list}
_DATA = {
    "kind": str,
    "features": dict,
    "target": dict,
    "num_classes": int,
    "minimum_samples": int,
    "scale": float,
    "offset": float,
}
_OPTIMISER = {"name": str, "learning_rate": float, "momentum": float, "weight_decay": float}
_TRAINING = {
    "loss": str,
    "metric": str,
    "optimiser": dict,
    "batch_size": int,
    "steps_per_round": int,
    "round_interval_s": float,
    "num_rounds": int,
}
_MERGING = {
    "strategy": str,
    "constants": dict,
    "window_rounds": int,
    "server_strategy": str,
    "server_constants": dict,
    "update_form": str,
    "send_rate": str,
    "sends_per_round": float,
    "gossip_share_with_server": float,
    "server_trust_cap": float,
    "clip": float,
    "ema": float,
}
_REQUIREMENTS = {"memory_mb": int, "cores": int}
_SECTIONS = {"task": dict, "data": dict, "training": dict, "merging": dict, "requirements": dict}


@dataclass(frozen=True, kw_only=True)
class TaskFile:
    """A `task.toml`, read. Whether names are known and numbers in range, `check_manifest` says."""

    name: str
    data: DataContract
    description: str = ""
    version: int = 1
    parent: str = ""
    servers: tuple[str, ...] = ()
    lifetime_days: float = 0.0  # from publication on; 0: the task never expires
    seed: int = 0  # of the initial weights
    training: TrainingPlan = field(default_factory=TrainingPlan)
    merging: MergePlan = field(default_factory=MergePlan)
    requirements: Requirements = field(default_factory=Requirements)


def read_task_file(path: Path, changes: Mapping[str, Mapping[str, Any]] | None = None) -> TaskFile:
    """Read a `task.toml`. Raises TaskError naming the key and what to write instead.

    `changes` are tables that are laid over the file's own, key by key, by whoever tries a task out.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise TaskError(
            f"cannot read {path}: {error.strerror}; a task's folder holds a task.toml and a model.py"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise TaskError(f"{path} is not TOML: {error}") from error
    content = _overlaid(content, changes or {})
    sections = _table(content, path.name, _SECTIONS, need=("task", "data"))
    task = _table(sections["task"], "[task]", _TASK, need=("name",))
    task["servers"] = tuple(_strings(task.get("servers", []), "task.servers"))
    training = _table(sections.get("training", {}), "[training]", _TRAINING)
    if "optimiser" in training:
        training["optimiser"] = Optimiser(**_table(training["optimiser"], "[training.optimiser]", _OPTIMISER))
    merging = _table(sections.get("merging", {}), "[merging]", _MERGING)
    for key in ("constants", "server_constants"):
        if key in merging:
            constants = merging[key]
            merging[key] = _table(constants, f"[merging.{key}]", dict.fromkeys(constants, float))
    return TaskFile(
        **task,
        data=_data(sections["data"]),
        training=TrainingPlan(**training),
        merging=MergePlan(**merging),
        requirements=Requirements(**_table(sections.get("requirements", {}), "[requirements]", _REQUIREMENTS)),
    )


def _overlaid(content: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`changes` over `content`, table by table; constants belong to their strategy, and go when it does."""
    result = dict(content)
    for key, value in changes.items():
        held = result.get(key)
        if isinstance(held, dict) and isinstance(value, Mapping) and key not in ("constants", "server_constants"):
            if "strategy" in value:
                held = {name: entry for name, entry in held.items() if name != "constants"}
            if "server_strategy" in value:
                held = {name: entry for name, entry in held.items() if name != "server_constants"}
            result[key] = _overlaid(held, value)
        else:
            result[key] = value
    return result


def _data(section: Mapping[str, Any]) -> DataContract:
    data = _table(section, "[data]", _DATA, need=("kind", "features", "target"))
    for part in ("features", "target"):
        feature = _table(data[part], f"[data.{part}]", _FEATURE, need=("name", "dtype", "shape"))
        shape = feature["shape"]
        if any(not isinstance(n, int) or isinstance(n, bool) or n < 1 for n in shape):
            raise TaskError(f"data.{part}.shape is {shape}; write positive whole numbers, as in [8, 8], or [] for one")
        if feature["dtype"] not in ("float32", "int64"):
            raise TaskError(f"data.{part}.dtype is {feature['dtype']!r}; use 'float32' or 'int64'")
        data[part] = FeatureSpec(name=feature["name"], dtype=feature["dtype"], shape=tuple(shape))
    return DataContract(**data)


def _table(
    table: Mapping[str, Any], where: str, known: Mapping[str, type], need: tuple[str, ...] = ()
) -> dict[str, Any]:
    """The table's entries with the types that `known` gives; whole numbers stand for reals."""
    for key in need:
        if key not in table:
            raise TaskError(f"{where} lacks {key!r}: write it")
    read: dict[str, Any] = {}
    for key, value in table.items():
        if key not in known:
            raise TaskError(f"{where} has no key {key!r}; {did_you_mean(key, known)}")
        wanted = known[key]
        is_whole = isinstance(value, int) and not isinstance(value, bool)
        if wanted is float and is_whole:
            read[key] = float(value)
        elif isinstance(value, wanted) and (wanted is not int or is_whole):
            read[key] = value
        else:
            raise TaskError(f"{where}: {key} is {value!r}; write {_WORDS[wanted]}")
    return read


_WORDS = {str: "a string", int: "a whole number", float: "a number", list: "a list", dict: "a table"}


def _strings(items: list[Any], where: str) -> list[str]:
    if not all(isinstance(item, str) for item in items):
        raise TaskError(f"{where} is {items}; write a list of strings")
    return items
