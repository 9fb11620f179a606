"""Our own simulator, as a process like any other: the scenario that it is given, and how it is started."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

from grapevine_lab.bench_simulator.peers import PROBE_TIMEOUT_S, PeerMissingError
from grapevine_lab.bench_simulator.workload import NUM_CLASSES, SIDE, Workload
from grapevine_proto import distribution

DATA_KIND = "mnist-28x28"
NUM_EVALUATED = 10  # nodes, once the rounds are over
LEAST_INTERVAL_S = 0.01  # no task's rounds are shorter
_PEER_CODE = Path(__file__).parent / "peer_code"
_NEEDED = "grapevine_lab.simulator.results"

# The same push as gossipy's: one model a round, to a random other node, which takes the plain average.
_TASK = """\
[task]
name = "Benchmark"
version = 1
seed = {seed}

[data]
kind = "{kind}"
num_classes = {num_classes}
minimum_samples = 10

[data.features]
name = "image"
dtype = "float32"
shape = [{side}, {side}]

[data.target]
name = "digit"
dtype = "int64"
shape = []

[training]
loss = "cross-entropy"
metric = "accuracy"
batch_size = {batch_size}
steps_per_round = {num_steps}
round_interval_s = {interval_s}

[training.optimiser]
name = "sgd"
learning_rate = {learning_rate}

[merging]
strategy = "age-weighted"
send_rate = "constant"
sends_per_round = 1.0

[requirements]
memory_mb = 300
cores = 1
"""

_SCENARIO = """\
[scenario]
name = "benchmark"
rounds = {num_rounds}
seed = {seed}

[task]
path = "task"

[data]
name = "{samples}"
kind = "{kind}"

[partition]
kind = "iid"
samples_per_node = {num_samples}

[nodes]
num = {num_nodes}
workers = {num_cores}

[topology]
kind = "complete"

# Nothing is evaluated before the rounds are over.
[measure]
every_rounds = {num_rounds}
models = ["working"]
num_nodes = {num_evaluated}
"""


def check_ours() -> None:
    """Import what a run will import, which also warms the disk.

    Raises:
        PeerMissingError: The simulator, or something that it needs, is not installed.
    """
    if importlib.util.find_spec("grapevine_lab.simulator") is None:
        raise PeerMissingError("this installation has no simulator")
    ran = subprocess.run(
        [sys.executable, "-c", f"import {_NEEDED}"],
        capture_output=True,
        text=True,
        check=False,
        timeout=PROBE_TIMEOUT_S,
    )
    if ran.returncode != 0:
        last = (ran.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise PeerMissingError(f"the simulator cannot be imported ({last}): {distribution.to_add_extra('lab')}")


def run_agents(workload: Workload, folder: Path, samples: Path) -> list[str]:
    """The same for real agents over Mosquitto; a round may follow the one before at once."""
    write_task(folder / "task", workload, interval_s=LEAST_INTERVAL_S)
    scenario = write_scenario(folder / "benchmark.toml", workload, samples)
    return [sys.executable, "-m", "grapevine_lab.bench_simulator.our_agents", str(scenario), str(workload.num_rounds)]


def run_ours(workload: Workload, folder: Path, samples: Path) -> list[str]:
    """Write task and scenario to `folder`; return the command line that simulates them and tells of rounds."""
    write_task(folder / "task", workload)
    scenario = write_scenario(folder / "benchmark.toml", workload, samples)
    return [sys.executable, "-m", "grapevine_lab.bench_simulator.our_run", str(scenario), str(folder / "results")]


def write_scenario(path: Path, workload: Workload, samples: Path) -> Path:
    """Write the workload as a scenario, beside its task's folder; return its path."""
    text = _SCENARIO.format(
        num_rounds=workload.num_rounds,
        seed=workload.seed,
        samples=samples,
        kind=DATA_KIND,
        num_samples=workload.num_samples,
        num_nodes=workload.num_nodes,
        num_cores=workload.num_cores,
        num_evaluated=min(NUM_EVALUATED, workload.num_nodes),
    )
    path.write_text(text, encoding="utf-8")
    return path


def write_task(folder: Path, workload: Workload, *, interval_s: float = 1.0) -> Path:
    """Write the workload as a task, with the very model that the peers train; return its folder."""
    folder.mkdir(parents=True)
    shutil.copy(_PEER_CODE / f"{workload.model}.py", folder / "model.py")
    text = _TASK.format(
        seed=workload.seed,
        kind=DATA_KIND,
        num_classes=NUM_CLASSES,
        side=SIDE,
        batch_size=workload.batch_size,
        num_steps=workload.num_steps,
        learning_rate=workload.learning_rate,
        interval_s=interval_s,
    )
    (folder / "task.toml").write_text(text, encoding="utf-8")
    return folder
