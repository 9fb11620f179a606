"""`grapevine task build`: an engineer's folder becomes a draft of a manifest and initial weights.

The folder holds `task.toml` and `model.py`. The latter is the engineer's own code on the engineer's
own machine, and is imported as such; what leaves the machine is the program made from it.

    def build() -> nn.Module: ...
    def example() -> Tensor: ...     # optional: a batch, by default zeros of what the pipeline gives
"""

from __future__ import annotations

import importlib.util
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from grapevine_proto.errors import TaskError
from grapevine_proto.manifest import DataContract, MergePlan, TaskManifest
from grapevine_tasks.authoring.export import Captured, capture
from grapevine_tasks.authoring.faithful import check_faithful
from grapevine_tasks.authoring.places import Origins
from grapevine_tasks.authoring.task_file import TASK_FILE, line_of, read_task_file
from grapevine_tasks.built import DRAFT_PUBLISHER, MODEL_FILE, BuiltTask, fingerprint_of, read_back, write_built
from grapevine_tasks.checks import ValueTaskError, check_manifest
from grapevine_tasks.field_errors import FieldTaskError
from grapevine_tasks.pipelines import model_specs
from grapevine_tasks.weights import reference_to

MS_PER_DAY = 24 * 3600 * 1000
_MODULE = "grapevine_task_model"
_DTYPES = {"float32": torch.float32, "int64": torch.int64}


def build_task(
    folder: Path,
    *,
    check_merging: Callable[[MergePlan], None],
    into: Path | None = None,
    changes: Mapping[str, Mapping[str, Any]] | None = None,
    compared: bool = True,
) -> BuiltTask:
    """Export the model, check the task, and write both to `into` (by default `folder/build`).

    `changes` are laid over the tables of `task.toml`. `compared` leaves out, when False, to hold the program against
    the module: to measure what that takes.

    `check_merging` knows the agent's merge tables. Building twice gives the same weights:
    `build()` runs with PyTorch seeded by `task.seed`. Raises TaskError, and writes nothing then.
    """
    fingerprint = fingerprint_of(folder)  # what is saved while we build is not what we build
    task_file = read_task_file(folder / TASK_FILE, changes)
    model = _import_model(folder / MODEL_FILE)
    origins = Origins()
    with torch.random.fork_rng(devices=[]), origins.noted():
        torch.manual_seed(task_file.seed)
        module = _call(model, "build")
        example = _call(model, "example") if hasattr(model, "example") else _zeros(task_file.data)
    if not isinstance(module, nn.Module) or not isinstance(example, Tensor):
        raise TaskError(f"{MODEL_FILE}: build() must return an nn.Module and example() a tensor")
    origins.begin_at(model.build)
    captured = capture(module, example, origins)
    draft = TaskManifest(
        name=task_file.name,
        description=task_file.description,
        publisher=DRAFT_PUBLISHER,
        version=task_file.version,
        parent=task_file.parent,
        expires_at_ms=round(task_file.lifetime_days * MS_PER_DAY),  # from a publication at 0
        program=captured.program,
        initial_weights=reference_to(captured.weights),
        data=task_file.data,
        training=task_file.training,
        merging=task_file.merging,
        requirements=task_file.requirements,
        servers=task_file.servers,
    )
    _check(draft, captured, check_merging, lambda field: _place(folder / TASK_FILE, field, changes or {}))
    built = BuiltTask(draft=draft, weights=captured.weights)
    read_back(built)
    if compared:
        built = replace(built, warnings=check_faithful(module, captured.program, example, origins))
    built = replace(built, warnings=(*task_file.warnings, *built.warnings))
    write_built(built, folder, into or folder / "build", fingerprint=fingerprint)
    return built


def _check(
    draft: TaskManifest,
    captured: Captured,
    check_merging: Callable[[MergePlan], None],
    place_of: Callable[[str], str],
) -> None:
    """Check what would be published; what is wrong has its line: of the model, or of the task's file."""
    try:
        check_manifest(draft, check_merging=check_merging)
    except ValueTaskError as error:
        place = captured.places.get(error.graph, {}).get(error.value, "")
        raise TaskError(f"{place}{error}") from error
    except FieldTaskError as error:
        raise TaskError(f"{place_of(error.field)}{error}") from error


def _place(path: Path, field: str, changes: Mapping[str, Mapping[str, Any]]) -> str:
    line = line_of(path.read_text(encoding="utf-8"), field, changes)
    return f"{path.name}, line {line}: " if line else ""


def _import_model(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(_MODULE, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise TaskError(f"there is no {path}; write one with a function build() that returns an nn.Module")
    module = importlib.util.module_from_spec(spec)
    sys.modules[_MODULE] = module  # dataclasses and the like look their module up
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise _engineers_error(path, error) from error
    finally:
        del sys.modules[_MODULE]
    return module


def _call(model: ModuleType, function: str) -> object:
    called = getattr(model, function, None)
    if not callable(called):
        raise TaskError(f"{MODEL_FILE} has no function {function}(): write it")
    try:
        return called()
    except Exception as error:
        raise _engineers_error(Path(MODEL_FILE), error) from error


def _engineers_error(path: Path, error: Exception) -> TaskError:
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename.endswith(path.name)]
    said = str(error)
    if isinstance(error, SyntaxError) and (error.filename or "").endswith(path.name):
        lines.append(error.lineno)  # of what cannot be read there is no frame
        said = f"{error.msg}: correct {(error.text or '').strip()!r}" if error.text else error.msg
    where = f", line {lines[-1]}" if lines and lines[-1] else ""
    return TaskError(f"{path.name}{where}: {type(error).__name__}: {said}")


def _zeros(data: DataContract) -> Tensor:
    features, _ = model_specs(data)
    return torch.zeros((3, *features.shape), dtype=_DTYPES[features.dtype])
