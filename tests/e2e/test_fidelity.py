"""One short check with real processes: simulated and real runs of the same scenario, through the command."""

import json
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from grapevine_lab.bench.mosquitto import why_no_mosquitto
from grapevine_lab.simulator.tables import read_tables

SCENARIO = """
[scenario]
name = "Three for ten seconds"
rounds = 40

[task]
name = "digits"

[task.training]
round_interval_s = 0.25
optimiser = { name = "sgd", learning_rate = 0.5 }

[task.merging]
ema = 0.8

[data]
name = "digits"

[partition]
kind = "classes"
classes_per_node = 4

[nodes]
num = 3
workers = 1
step_s = 0.00025
max_share = 0.5
max_pending = 64
heartbeat_s = 10.0

[network]
latency_s = 0.002
signatures = true

[measure]
models = ["released"]
"""

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.mosquitto,
    pytest.mark.skipif(bool(why_no_mosquitto()), reason=why_no_mosquitto() or "there is one"),
]


@dataclass(frozen=True)
class Done:
    """A check that has ended, and every process that was seen to be its own."""

    status: int
    output: str
    errors: str
    family: frozenset[psutil.Process]


def check(folder: Path, text: str) -> Done:
    (folder / "scenario.toml").write_text(text)
    options = ["--out", str(folder / "out"), "--seeds", "1", "--controls", "0"]
    family: set[psutil.Process] = set()
    with (folder / "output").open("wb") as output, (folder / "errors").open("wb") as errors:
        command = [sys.executable, "-m", "grapevine_lab.fidelity", str(folder / "scenario.toml"), *options]
        process = subprocess.Popen(command, stdout=output, stderr=errors)
        try:
            while process.poll() is None:
                with suppress(psutil.NoSuchProcess):
                    family.update(psutil.Process(process.pid).children(recursive=True))
                time.sleep(0.2)
        finally:
            process.kill()
            process.wait()
    texts = [(folder / name).read_text() for name in ("output", "errors")]
    return Done(process.returncode, texts[0], texts[1], frozenset(family))


def test_simulated_and_real_agents_both_learn_what_none_could_alone(tmp_path: Path) -> None:
    done = check(tmp_path, SCENARIO)

    assert done.status == 0, done.errors
    out = tmp_path / "out"
    report = json.loads((out / "fidelity.json").read_text())
    alone = report["alone_at_most"]
    assert 0.35 < alone < 0.45
    assert f"by itself no node could pass {100 * alone:.1f} %" in (out / "fidelity.html").read_text()
    for side in ("simulated", "real"):
        readings = read_tables(out / side).readings
        assert set(zip(readings.column("node"), readings.column("round"), strict=True)) >= {
            (node, round_) for node in range(3) for round_ in (0, 1, 20, 40)
        }
        at_the_end = [row.metric for row in readings if row.round == 40]
        assert len(at_the_end) == 3
        assert min(at_the_end) > alone + 0.2
    assert min(report["runs"][0]["rounds"]) >= 40
    sent = next(each for each in report["comparison"]["figures"] if each["name"] == "messages sent per node and round")
    assert sent["simulated"][0] > 1
    assert sent["real"][0] > 1
    assert {path.name for path in out.glob("*.svg")} == {"metric.svg", "metric-over-time.svg", "more.svg"}
    assert "accuracy by rounds" in done.output
    assert len(done.family) > 9  # a broker, six agents, three trainers
    _, alive = psutil.wait_procs(done.family, timeout=5.0)
    assert alive == []


def test_a_scenario_that_real_agents_cannot_follow_is_refused_before_anything_runs(tmp_path: Path) -> None:
    done = check(tmp_path, SCENARIO.replace("max_share = 0.5", "max_share = 1.0"))

    assert done.status == 1
    assert "nodes.max_share = 1.0" in done.errors
    assert not (tmp_path / "out").exists()
