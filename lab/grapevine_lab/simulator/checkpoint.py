"""A run's checkpoint: the whole world, so that what comes after it is what would have come without a break.

    line 1   "grapevine checkpoint 1"
    line 2   JSON: version of Grapevine, seed, and a digest of everything that the run depends on
    rest     the world and the trainer's state, pickled

A checkpoint is a run's own memory and is not meant to be passed on. All the same it is read as if it
came from a stranger, since folders with results are passed on: a pickle may name any function to call,
so this reader knows only classes of our own rooms without I/O and what rebuilds numpy's arrays, by the
lists below. See docs/decisions.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle  # read by `_Reader` alone
import sys
import types
from dataclasses import replace
from pathlib import Path
from typing import Any

from grapevine_lab.simulator.experiment import Prepared, begin, give_trainer
from grapevine_lab.simulator.sitting import Sitting
from grapevine_proto import distribution
from grapevine_proto.errors import ConfigError
from grapevine_proto.manifest_codec import encode_manifest

MAGIC = b"grapevine checkpoint 1\n"

# What a world holds that is not ours: containers, and the functions that rebuild arrays and generators.
_FOREIGN = {
    "builtins": {"set", "frozenset", "bytearray", "slice", "object"},
    "collections": {"OrderedDict", "Counter", "deque"},
    "array": {"array", "_array_reconstructor"},
    "copyreg": {"_reconstructor"},
    "numpy": {"ndarray", "dtype"},
    "numpy._core.multiarray": {"_reconstruct", "scalar"},
    "numpy._core.numeric": {"_frombuffer"},
    "numpy.random._pickle": {"__generator_ctor", "__bit_generator_ctor"},
    "numpy.random._pcg64": {"PCG64"},
    "numpy.random.bit_generator": {"SeedSequence", "__pyx_unpickle_SeedSequence"},
}
# Rooms whose classes only hold and compute. Nothing in them opens, starts or connects.
_OURS = (
    "grapevine_agent.core.",
    "grapevine_agent.merge.",
    "grapevine_agent.net.outbox",
    "grapevine_agent.net.packet_limit",
    "grapevine_agent.service.numbering",
    "grapevine_agent.service.sealer",
    "grapevine_agent.training.results",
    "grapevine_agent.transfers.carrier",
    "grapevine_agent.transfers.fetching",
    "grapevine_agent.transfers.giving",
    "grapevine_agent.transfers.pacing",
    "grapevine_agent.transfers.window",
    "grapevine_lab.simulator.",
    "grapevine_proto.",
    "grapevine_tasks.layout",
)
# Functions that a world refers to: the strategies' own, and what settings are made of.
_FUNCTIONS = {
    "grapevine_agent.transfers.assembly": {"Assembly"},  # its rooms are files
    "grapevine_agent.core.settings": {"_declared", "_finds_nothing", "_matches_nothing"},
    "grapevine_lab.simulator.experiment": {"_matches"},
    "grapevine_lab.simulator.keys": {"no_check"},
    "grapevine_proto.signing": {"check_signature"},
}
_MERGES = "grapevine_agent.merge."


def save(path: Path, sitting: Sitting, prepared: Prepared) -> None:
    """Write a checkpoint in place of the one before; a crash leaves one of the two."""
    world = sitting.run.world
    world.work.settle()
    trainer, world.work.trainer = world.work.trainer, None
    try:
        state = {
            "world": world,
            "trainer": trainer.state() if trainer is not None else None,
            "wall_s": sitting.wall_s,
            "num_events": sitting.num_events,
            "finished": sorted(sitting.finished),
        }
        head = json.dumps(_identity(sitting, prepared)).encode() + b"\n"
        beside = path.with_suffix(".part")
        path.parent.mkdir(parents=True, exist_ok=True)
        with beside.open("wb") as file:
            file.write(MAGIC + head)
            pickle.dump(state, file, protocol=5)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        world.work.trainer = trainer


def load(path: Path, prepared: Prepared, seed: int) -> Sitting | None:
    """The run as the checkpoint has it, with a trainer; None if there is no checkpoint.

    Raises ConfigError if it is damaged, or of something else than this scenario and seed.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None
    sitting = Sitting(run=begin(prepared, seed), seed=seed)
    body = _body(path, content, _identity(sitting, prepared))
    try:
        state = _Reader(io.BytesIO(body)).load()
        world, trainer_state = state["world"], state["trainer"]
        sitting.wall_s, sitting.num_events = float(state["wall_s"]), int(state["num_events"])
        sitting.finished = set(state["finished"])
        measurements = world.work.measurements
    except Exception as error:  # whatever a damaged pickle leads to
        raise ConfigError(f"{path}: damaged ({error}); delete it, and the run starts from its beginning") from error
    sitting.run = replace(sitting.run, world=world, measurements=measurements)
    give_trainer(sitting.run, prepared.scenario, seed)
    if world.work.trainer is not None:
        world.work.trainer.restore(trainer_state)
    return sitting


def _identity(sitting: Sitting, prepared: Prepared) -> dict[str, object]:
    """What a checkpoint must agree in with the run that goes on from it."""
    scenario = prepared.scenario
    # How long it runs and who trains may change; everything else decides what happens. What is measured does, too:
    # a node tells its metrics when its released model was evaluated.
    fixed = [
        encode_manifest(sitting.run.manifest).hex(),
        *(
            repr(part)
            for part in (scenario.mode, scenario.data, scenario.partition, replace(scenario.nodes, workers=0))
        ),
        *(
            repr(part)
            for part in (scenario.topology, scenario.network, scenario.availability, scenario.server, scenario.measure)
        ),
        *(
            repr(part)
            for part in (
                scenario.review,
                scenario.words,
                scenario.faults,
                scenario.life,
                scenario.brokers,
                scenario.bridges,
                scenario.governor,
                scenario.surroundings,
                scenario.attacks,
            )
            if part
        ),
    ]
    digest = hashlib.sha256("\n".join(fixed).encode()).hexdigest()
    return {"grapevine": distribution.version(), "seed": sitting.seed, "scenario": digest}


def _body(path: Path, content: bytes, identity: dict[str, object]) -> bytes:
    if not content.startswith(MAGIC):
        raise ConfigError(f"{path}: this is no checkpoint; delete it, and the run starts from its beginning")
    head, _, body = content[len(MAGIC) :].partition(b"\n")
    try:
        found = json.loads(head)
    except ValueError:
        found = {}
    for key, value in identity.items():
        if not isinstance(found, dict) or found.get(key) != value:
            raise ConfigError(
                f"{path}: this checkpoint is of another {key}: run without --resume, or with another --out"
            )
    return body


class _Reader(pickle.Unpickler):
    """Knows what a world is made of, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if name in _FOREIGN.get(module, ()) or name in _FUNCTIONS.get(module, ()):
            return getattr(sys.modules[module], name)
        found = getattr(sys.modules.get(module), name, None) if module.startswith(_OURS) else None
        is_merge = isinstance(found, types.FunctionType) and module.startswith(_MERGES)
        if (isinstance(found, type) or is_merge) and getattr(found, "__module__", "") == module:
            return found
        raise pickle.UnpicklingError(f"a checkpoint has no business with {module}.{name}")
