"""A model that was fetched: checked against its manifest, and written as files that other tools read.

model.safetensors   the module's own names, for `load_state_dict`; lineage in the header, as strings
model.json          the same facts for people and scripts
model.pt2           optional: a program that plain PyTorch loads and runs
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from grapevine_agent.store.durable import replace_durably
from grapevine_proto import distribution
from grapevine_proto.errors import TaskError
from grapevine_proto.manifest import TaskManifest
from grapevine_proto.manifest_codec import decode_manifest, task_id
from grapevine_proto.messages import Vector
from grapevine_tasks.checks import ProgramLimits, check_program
from grapevine_tasks.layout import ModelLayout
from grapevine_tasks.weights import check_finite


@dataclass(frozen=True, kw_only=True)
class PulledModel:
    """A released model, float32 [p] and [b], with what is known of it. Its numbers are the giver's claims."""

    manifest: TaskManifest
    parameters: Vector = field(repr=False)
    buffers: Vector = field(repr=False)
    facts: Mapping[str, Any]

    @classmethod
    def of(cls, answer: Mapping[str, Any]) -> PulledModel:
        """From a service's answer to "model". Raises TaskError if it does not fit the task's manifest."""
        content = base64.b64decode(answer["manifest"])
        manifest = decode_manifest(content)
        if task_id(content) != answer["task"]:
            raise TaskError(f"the manifest that came with the model is not that of {answer['task']}: fetch it again")
        parameters, buffers = (np.frombuffer(base64.b64decode(answer[key]), "<f4") for key in ("full", "buffers"))
        check_finite(ModelLayout.of(manifest.program), parameters, buffers)
        return cls(manifest=manifest, parameters=parameters, buffers=buffers, facts=_facts(manifest, answer))

    def tensors(self) -> dict[str, Vector]:
        """The tensors, copied, by the names that they have in the engineer's module."""
        named = ModelLayout.of(self.manifest.program).split(self.parameters, self.buffers)
        return {name: np.array(tensor) for name, tensor in named.items()}

    def save(self, path: Path) -> None:
        """Write `path` (safetensors), and its facts beside it as .json. Raises `StoreError`."""
        header = {key: value if isinstance(value, str) else json.dumps(value) for key, value in self.facts.items()}
        content = safetensors.numpy.save(self.tensors(), metadata=header)
        replace_durably(path, lambda temporary: _write(temporary, content))
        facts = json.dumps(self.facts, indent=2).encode() + b"\n"
        replace_durably(path.with_suffix(".json"), lambda temporary: _write(temporary, facts))

    def save_pt2(self, path: Path) -> None:
        """Write a program that `torch.export.load` loads without Grapevine. Raises TaskError without PyTorch."""
        try:
            from grapevine_tasks.authoring.standalone import standalone_bytes  # noqa: PLC0415 - it needs torch
        except ImportError as error:
            raise TaskError(f"a .pt2 needs PyTorch ({error}): {distribution.to_add_extra('train')}") from None
        check_program(self.manifest.program, ProgramLimits())  # it is run now, if only once
        content = standalone_bytes(self.manifest.program, self.parameters, self.buffers)
        replace_durably(path, lambda temporary: _write(temporary, content))


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def _facts(manifest: TaskManifest, answer: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "task": answer["task"],
        "name": manifest.name,
        "task_version": manifest.version,
        "parent": manifest.parent,
        "publisher": manifest.publisher,
        "model_of": answer["peer"],
        "kind": "server" if answer["server"] else "peer",
        "cluster": answer["cluster"],
        "members": answer["members"],
        "strategy": answer["strategy"],
        "age": answer["age"],
        "round": answer["round"],
        "version": answer["version"],
        "contributors": answer["contributions"],
        "metric_name": manifest.training.metric,
        "metric": answer["metric"],
        "loss": answer["loss"],
        "num_evaluated": answer["num_evaluated"],
        "which": answer["which"],
        "best": answer["best"],
        "latest": answer["latest"],
        "baseline": answer["baseline"],
        "baseline_name": answer["baseline_name"],
        "fetched_at": datetime.fromtimestamp(answer["at_ms"] / 1000, UTC).isoformat(timespec="seconds"),
    }
