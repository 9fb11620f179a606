"""A real step of a tiny program: a trainer process, its sandbox and PyTorch, as a task would have them.

It is the agent's own `Trainer`, within the owner's limits, on a few samples that are made for it; so what hinders a
task hinders this as well, and for the same reason. Trainers of the owner's own are asked whether they are there.
"""

from __future__ import annotations

import json
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import numpy as np
import psutil

from grapevine_agent.config.agent_toml import Config
from grapevine_agent.config.trainers import TrainerConfig
from grapevine_agent.data.source import DataSource
from grapevine_agent.doctor.findings import Finding
from grapevine_agent.doctor.machine import is_narrow
from grapevine_agent.doctor.situation import Situation
from grapevine_agent.service.assembly import trainer_limits, why_no_processes
from grapevine_agent.training.attached import DESCRIBE_TIMEOUT_S, MOST_WORDS
from grapevine_agent.training.exchange import exchange
from grapevine_agent.training.trainer import Trainer
from grapevine_proto import distribution
from grapevine_proto.errors import TaskError
from grapevine_proto.manifest import DataContract, FeatureSpec, TaskManifest, TrainingPlan, WeightsRef
from grapevine_proto.program import Graph, InputSpec, Node, Operator, Program, Ref, TensorSpec
from grapevine_tasks.layout import ModelLayout

NUM_SAMPLES: Final = 8
_TRAINER_MB: Final = 260  # a process with PyTorch, before its samples
_MB: Final = 1 << 20


def tiny_task() -> TaskManifest:
    """One linear layer, of four features for two classes."""
    graph = Graph(nodes=(Node(operator=Operator.LINEAR, arguments=(Ref(0), Ref(1), Ref(2))),), output=3)
    return TaskManifest(
        name="doctor",
        publisher="doctor",
        program=Program(
            inputs=(InputSpec(name="input", shape=(4,)),),
            parameters=(TensorSpec(name="weight", shape=(2, 4)), TensorSpec(name="bias", shape=(2,))),
            buffers=(),
            train=graph,
            eval=graph,
        ),
        initial_weights=WeightsRef(digest="0" * 64, num_bytes=1),
        data=DataContract(
            kind="doctor",
            features=FeatureSpec(name="x", dtype="float32", shape=(4,)),
            target=FeatureSpec(name="y", dtype="int64", shape=()),
            num_classes=2,
        ),
        training=TrainingPlan(batch_size=NUM_SAMPLES),
    )


async def trainer(situation: Situation, within_s: float) -> list[Finding]:
    """Whether this device trains. Ends within about `within_s`."""
    config, profile = situation.config, situation.profile
    if config is None or profile is None:
        return [Finding(check="trainer", level="skip", says="what a trainer may take is not known")]
    if not profile.can_train:
        return [Finding(check="trainer", level="skip", says=f"profile {profile.name} trains nothing here")]
    if missing := why_no_processes():
        if config.trainers:
            return [Finding(check="trainer", level="skip", says="PyTorch is not installed; the owner's trainers train")]
        remedy = f"{distribution.to_add_extra('train')}; or write can_train = false into [limits]"
        if is_narrow():
            remedy = "see board above"
        says = missing.partition(": ")[0]
        return [Finding(check="trainer", level="warn", says=says, remedy=remedy, facts={"torch": False})]
    running = [each["name"] for each in situation.status.get("trainers") or () if each.get("running")]
    if psutil.virtual_memory().available < _TRAINER_MB * _MB:
        if running:
            says = f"trains {', '.join(running)} now; there is no memory for another one to try it with"
            return [Finding(check="trainer", level="ok", says=says, facts={"torch": True})]
        says = f"not tried: less than the {_TRAINER_MB} MB are free that a trainer takes"
        return [Finding(check="trainer", level="warn", says=says, remedy="see memory", facts={"torch": True})]
    with tempfile.TemporaryDirectory(prefix="grapevine-doctor-") as folder:
        return [await _step(config, situation, Path(folder) / "samples.npz", within_s)]


async def _step(config: Config, situation: Situation, path: Path, within_s: float) -> Finding:
    assert situation.profile is not None
    rng = np.random.default_rng(0)
    y = np.arange(NUM_SAMPLES) % 2
    np.savez(path, x=rng.standard_normal((NUM_SAMPLES, 4)).astype(np.float32), y=y)
    manifest, layout = tiny_task(), ModelLayout.of(tiny_task().program)
    ours = Trainer(
        manifest, DataSource(name="doctor", kind="doctor", path=path), trainer_limits(situation.profile, config)
    )
    facts: dict[str, Any] = {"torch": True}
    before, began_s = np.zeros(layout.num_parameters, np.float32), time.monotonic()
    try:
        await ours.start(within_s)
        ready_s = time.monotonic()
        result = await ours.train(before, np.zeros(0, np.float32), 1, max(1.0, within_s - (ready_s - began_s)))
        stepped_s = time.monotonic()
        with suppress(psutil.Error):
            facts["memory_mb"] = round(psutil.Process(ours.pid).memory_info().rss / _MB, 1)
    except TaskError as error:
        return _failed(str(error), facts)
    finally:
        await ours.stop()
    facts |= {
        "start_s": round(ready_s - began_s, 3),
        "step_ms": round((stepped_s - ready_s) * 1e3, 2),
        "protection": ours.protection,
    }
    if np.array_equal(result.parameters, before):
        return _failed("a training step changed nothing", facts)
    says = f"a step of a tiny program took {facts['step_ms']:.0f} ms, after {facts['start_s']:.1f} s to start; "
    says += f"{facts.get('memory_mb', 0):.0f} MB of {situation.profile.memory_mb:,}; {ours.protection}"
    if config.limits.sandbox == "off":
        remedy = 'write sandbox = "strict" into [limits]: a stranger\'s program runs in this process'
        return Finding(check="trainer", level="warn", says=says, remedy=remedy, facts=facts)
    return Finding(check="trainer", level="ok", says=says, facts=facts)


def _failed(why: str, facts: dict[str, Any]) -> Finding:
    remedy = "mend what it says; what else it prints is in the log of an agent that trains"
    if "memory" in why:
        remedy = "raise limits.memory_mb, or free memory (see above)"
    return Finding(check="trainer", level="fail", says=f"no training here: {why}", remedy=remedy, facts=facts)


async def attached(each: TrainerConfig) -> list[Finding]:
    """Whether a trainer of the owner's own is there, and what it says that it has."""
    facts: dict[str, Any] = {"url": each.url}
    try:
        reply = await exchange(each.url, "GET", "/v1/describe", most_bytes=MOST_WORDS, timeout_s=DESCRIBE_TIMEOUT_S)
        kinds = json.loads(reply.body)["kinds"]
        told = ", ".join(sorted(map(str, kinds)))[:200]
    except (TaskError, OSError, TimeoutError, ValueError, KeyError, TypeError) as error:
        says = f"it does not describe itself ({str(error) or type(error).__name__})"
        remedy = "start it, or correct url in [[trainer]] (docs/trainers.md)"
        return [Finding(check="trainer", about=each.url, level="fail", says=says, remedy=remedy, facts=facts)]
    return [Finding(check="trainer", about=each.url, level="ok", says=f"it is there, with data of {told}", facts=facts)]
