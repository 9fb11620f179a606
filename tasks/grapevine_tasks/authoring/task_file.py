"""`task.toml`: what an engineer writes about a task, read strictly.

Sections: [task], [data] with [data.features], [data.target] and [[data.pipeline]], [training] with
[training.optimiser], [training.schedule] and [training.loss_constants], [merging] with
[merging.constants], [requirements]. Only [task] and [data] must be there; everything else has the
defaults of `grapevine_proto.manifest`. What else optimisers, schedules and steps of the pipeline take is
written beside their names. [data.target] may be left out when a step of the pipeline makes the target.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from grapevine_proto.encoding import PLAIN
from grapevine_proto.errors import TaskError
from grapevine_proto.manifest import (
    DataContract,
    FeatureSpec,
    MergePlan,
    Optimiser,
    PipelineStep,
    Requirements,
    Schedule,
    TrainingPlan,
)
from grapevine_tasks.closed_sets import LOSSES, OPTIMISERS, SCHEDULES, Named
from grapevine_tasks.field_errors import FieldTaskError
from grapevine_tasks.pipelines import STEPS, derives_target, last_form, model_specs
from grapevine_tasks.suggestions import did_you_mean
from grapevine_tasks.toml_lines import line_of as find_line

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
_FEATURE = {"name": str, "dtype": str, "shape": list, "columns": list}
_DATA = {
    "kind": str,
    "features": dict,
    "target": dict,
    "num_classes": int,
    "minimum_samples": int,
    "scale": float,
    "offset": float,
    "classes": list,
    "max_age_s": float,
    "pipeline": list,
    "holdout": str,
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
    "loss_constants": dict,
    "schedule": dict,
    "max_gradient_norm": float,
    "patience": int,
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
    "encodings": list,
    "exchange": str,
    "stale_after": int,
    "stale": str,
}
_REQUIREMENTS = {"memory_mb": int, "cores": int}
_SCHEDULE = {"name": str}
# By what chooses: the constants beside it that belong to the one chosen, and what all of a table's kind have.
_CONSTANTS = {"strategy": "constants", "server_strategy": "server_constants", "loss": "loss_constants"}
_CHOSEN = {"optimiser": _OPTIMISER.keys() - {"momentum"}, "schedule": _SCHEDULE.keys()}
_KEYS_OF: Mapping[str, Mapping[str, type]] = {
    "task": _TASK,
    "data": _DATA,
    "training": _TRAINING,
    "merging": _MERGING,
    "requirements": _REQUIREMENTS,
}
# Of [merging]: a key, what it has no effect without, and what to write.
_NEEDED = {"stale": ("stale_after", "stale_after = 200, in optimiser steps")}
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
    warnings: tuple[str, ...] = ()  # what was written in vain


def read_task_file(path: Path, changes: Mapping[str, Mapping[str, Any]] | None = None) -> TaskFile:
    """Read a `task.toml`. Raises TaskError naming the file, the key and what to write instead.

    `changes` are tables that are laid over the file's own, key by key, by whoever tries a task out.
    """
    try:
        text = path.read_text(encoding="utf-8")
        content = tomllib.loads(text)
    except OSError as error:
        raise TaskError(
            f"cannot read {path}: {error.strerror}; a task's folder holds a task.toml and a model.py"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise TaskError(f"{path} is not TOML: {error}") from error
    try:
        task = _read(_overlaid(content, changes or {}))
    except TaskError as error:
        line = line_of(text, error.field, changes or {}) if isinstance(error, FieldTaskError) else 0
        raise TaskError(f"{path}{f', line {line}' if line else ''}: {error}") from error
    return replace(task, warnings=_written_in_vain(path, text, content.get("merging", {})))


def _written_in_vain(path: Path, text: str, merging: Mapping[str, Any]) -> tuple[str, ...]:
    """Keys of [merging] that have no effect, for another is missing."""
    return tuple(
        f"{path.name}, line {line_of(text, f'merging.{key}', {})}: merging.{key} is {merging[key]!r} and has no effect "
        f"without {other}: write {remedy}, or leave {key} out"
        for key, (other, remedy) in _NEEDED.items()
        if key in merging and not merging.get(other)
    )


def line_of(text: str, field: str, changes: Mapping[str, Mapping[str, Any]]) -> int:
    """The line on which a field such as `merging.stale` or `data.pipeline[2].name` is written, or else its table.

    0: on none of its own, or `changes` has it.
    """
    path: list[str | int] = []
    for part in field.split("."):
        key, _, number = part.partition("[")
        path += [key, int(number.rstrip("]")) - 1] if number else [key]
    laid_over: Any = changes
    for each in path:
        laid_over = laid_over.get(each) if isinstance(laid_over, Mapping) else None
        if laid_over is not None and not isinstance(laid_over, Mapping):
            return 0
    return 0 if laid_over is not None else find_line(text, tuple(path))


def _read(content: Mapping[str, Any]) -> TaskFile:
    sections = _table(content, "the file", _SECTIONS, need=("task", "data"))
    task = _table(sections["task"], "[task]", _TASK, need=("name",))
    task["servers"] = tuple(_strings(task.get("servers", []), "task.servers"))
    merging = _table(sections.get("merging", {}), "[merging]", _MERGING)
    for key in ("constants", "server_constants"):
        if key in merging:
            constants = merging[key]
            merging[key] = _table(constants, f"[merging.{key}]", dict.fromkeys(constants, float))
    if "encodings" in merging:
        named = _strings(merging["encodings"], "merging.encodings")
        merging["encodings"] = (PLAIN.name, *(name for name in named if name != PLAIN.name))  # every task allows it
    return TaskFile(
        **task,
        data=_data(sections["data"]),
        training=_training(sections.get("training", {})),
        merging=MergePlan(**merging),
        requirements=Requirements(**_table(sections.get("requirements", {}), "[requirements]", _REQUIREMENTS)),
    )


def _overlaid(content: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`changes` over `content`, table by table; constants belong to what has a name, and go when that does."""
    result = dict(content)
    for key, value in changes.items():
        held = result.get(key)
        if isinstance(held, dict) and isinstance(value, Mapping) and key not in _CONSTANTS.values():
            gone = {constants for name, constants in _CONSTANTS.items() if name in value}
            held = {name: entry for name, entry in held.items() if name not in gone}
            if key in _CHOSEN and value.get("name", held.get("name")) != held.get("name"):
                held = {name: entry for name, entry in held.items() if name in _CHOSEN[key]}
            result[key] = _overlaid(held, value)
        else:
            result[key] = value
    return result


def _training(section: Mapping[str, Any]) -> TrainingPlan:
    training = _table(section, "[training]", _TRAINING)
    loss = training.get("loss", TrainingPlan.loss)
    if "loss_constants" in training:
        if loss not in LOSSES:
            raise FieldTaskError("training.loss", f"[training]: loss is {loss!r}; {did_you_mean(loss, LOSSES)}")
        known = dict.fromkeys(LOSSES[loss].constants, float)
        training["loss_constants"] = _table(training["loss_constants"], "[training.loss_constants]", known)
    if "optimiser" in training:
        optimiser, constants = _named(training["optimiser"], "[training.optimiser]", OPTIMISERS, _OPTIMISER)
        training["optimiser"] = Optimiser(**optimiser, constants=constants)
    if "schedule" in training:
        schedule, constants = _named(training["schedule"], "[training.schedule]", SCHEDULES, _SCHEDULE, need=("name",))
        training["schedule"] = Schedule(**schedule, constants=constants)
    return TrainingPlan(**training)


def _named(
    table: Mapping[str, Any],
    where: str,
    closed_set: Mapping[str, Named],
    known: Mapping[str, type],
    need: tuple[str, ...] = (),
) -> tuple[dict[str, Any], dict[str, float]]:
    """The keys that all of a closed set have, and the constants of the one that is named."""
    name = table.get("name", next(iter(closed_set)))
    if not isinstance(name, str) or (name not in closed_set and "name" in table):
        remedy = did_you_mean(name, closed_set) if isinstance(name, str) else "write a string"
        raise FieldTaskError(f"{where.strip('[]')}.name", f"{where}: name is {name!r}; {remedy}")
    constants = closed_set[name].constants
    read = _table(table, where, {**known, **dict.fromkeys(constants, float)}, need)
    return ({key: read[key] for key in read if key in known}, {key: read[key] for key in read if key in constants})


def _data(section: Mapping[str, Any]) -> DataContract:
    data = _table(section, "[data]", _DATA, need=("kind", "features"))
    data["features"] = _feature(data["features"], "data.features")
    data["classes"] = tuple(_strings(data.get("classes", []), "data.classes"))
    if "classes" in section and "num_classes" not in section:
        data["num_classes"] = len(data["classes"])
    data["pipeline"] = _steps(data)
    if "target" in data:
        return DataContract(**{**data, "target": _feature(data["target"], "data.target")})
    contract = DataContract(**data, target=data["features"])
    if not derives_target(contract):
        said = "[data] lacks 'target': write it, or a step of the pipeline that makes it, such as forecast"
        raise FieldTaskError("data", said)
    return replace(contract, target=replace(model_specs(contract)[1], name="target", columns=()))


def _feature(table: Mapping[str, Any], where: str) -> FeatureSpec:
    feature = _table(table, f"[{where}]", _FEATURE, need=("name", "dtype", "shape"))
    shape = feature["shape"]
    if any(not isinstance(n, int) or isinstance(n, bool) or n < 1 for n in shape):
        said = f"{where}.shape is {shape}; write positive whole numbers, as in [8, 8], or [] for one"
        raise FieldTaskError(f"{where}.shape", said)
    if feature["dtype"] not in ("float32", "int64"):
        said = f"{where}.dtype is {feature['dtype']!r}; use 'float32' or 'int64'"
        raise FieldTaskError(f"{where}.dtype", said)
    columns = tuple(_strings(feature.get("columns", []), f"{where}.columns"))
    return FeatureSpec(name=feature["name"], dtype=feature["dtype"], shape=tuple(shape), columns=columns)


def _steps(data: Mapping[str, Any]) -> tuple[PipelineStep, ...]:
    """The steps of [[data.pipeline]]; columns are called by the names that they have where the step stands."""
    steps: tuple[PipelineStep, ...] = ()
    features = data["features"]
    for number, table in enumerate(data.get("pipeline", []), 1):
        steps += (_step(table, number, features),)
        so_far = DataContract(kind="", features=data["features"], target=data["features"], pipeline=steps)
        with suppress(TaskError):  # what is not sound is told of once all is read
            features = last_form(so_far).features
    return steps


def _step(table: Any, number: int, features: FeatureSpec) -> PipelineStep:
    """One [[data.pipeline]]: its name, and numbers or lists of them; columns may be called by their names."""
    where, field = f"[[data.pipeline]], step {number}", f"data.pipeline[{number}]"
    if not isinstance(table, dict) or not isinstance(table.get("name"), str):
        raise FieldTaskError(field, f'{where} is {table!r}; write a table with a name, such as name = "flatten"')
    name = table["name"]
    if name not in STEPS:
        raise FieldTaskError(f"{field}.name", f"{where}: name is {name!r}; {did_you_mean(name, STEPS)}")
    arguments = {}
    for key, value in table.items():
        if key == "name":
            continue
        if key not in STEPS[name].arguments:
            known = STEPS[name].arguments
            said = f"{where} ({name}) has no key {key!r}; {did_you_mean(key, (*known, 'name'))}"
            raise FieldTaskError(f"{field}.{key}", said)
        numbers = value if isinstance(value, list) else [value]
        if key == "columns":
            numbers = [_place(each, features, where, field) for each in numbers]
        if any(isinstance(each, bool) or not isinstance(each, int | float) for each in numbers):
            said = f"{where} ({name}): {key} is {value!r}; write a number or a list of numbers"
            raise FieldTaskError(f"{field}.{key}", said)
        arguments[key] = tuple(map(float, numbers))
    return PipelineStep(name=name, arguments=arguments)


def _place(column: Any, features: FeatureSpec, where: str, field: str) -> Any:
    """A column's number, from 0, if it was called by its name."""
    if not isinstance(column, str):
        return column
    if column not in features.columns:
        remedy = did_you_mean(column, features.columns) if features.columns else "the columns have no names here"
        if remedy.startswith("did you mean"):
            remedy += f" There are {', '.join(features.columns[:40])}"
        raise FieldTaskError(f"{field}.columns", f"{where}: there is no column {column!r}; {remedy}")
    return features.columns.index(column)


def _table(
    table: Mapping[str, Any], where: str, known: Mapping[str, type], need: tuple[str, ...] = ()
) -> dict[str, Any]:
    """The table's entries with the types that `known` gives; whole numbers stand for reals."""
    for key in need:
        if key not in table:
            raise FieldTaskError(where.strip("[]"), f"{where} lacks {key!r}: write it")
    read: dict[str, Any] = {}
    for key, value in table.items():
        if key not in known:
            raise FieldTaskError(_field(where, key), f"{where} has no key {key!r}; {_nearest(where, key, known)}")
        wanted = known[key]
        is_whole = isinstance(value, int) and not isinstance(value, bool)
        if wanted is float and is_whole:
            read[key] = float(value)
        elif isinstance(value, wanted) and (wanted is not int or is_whole):
            read[key] = value
        else:
            said = f"{where}: {key} is {value!r}; write {_WORDS[wanted]}"
            raise FieldTaskError(_field(where, key), said)
    return read


def _field(where: str, key: str) -> str:
    return f"{where.strip('[]')}.{key}" if where.startswith("[") else key


def _nearest(where: str, key: str, known: Mapping[str, type]) -> str:
    """What was meant by an unknown key: one of another section, by this very name, or else one like it."""
    sections = [f"[{name}]" for name, keys in _KEYS_OF.items() if key in keys and f"[{name}]" != where]
    return f"did you mean {sections[0]} {key}?" if sections else did_you_mean(key, known)


_WORDS = {str: "a string", int: "a whole number", float: "a number", list: "a list", dict: "a table"}


def _strings(items: list[Any], where: str) -> list[str]:
    if not all(isinstance(item, str) for item in items):
        raise FieldTaskError(where, f"{where} is {items}; write a list of strings")
    return items
