"""What the service may have in memory for as long as the device runs."""

from __future__ import annotations

import json
import subprocess
import sys

# What reads a command line and draws; what trains; and parts of NumPy that nothing here needs.
COMMANDS = {"typer", "rich", "pydantic", "grapevine_agent.cli", "grapevine_agent.dashboard", "grapevine_lab"}
TRAINING = {"torch", "torchvision", "multiprocessing"}
NUMPY = {"numpy.ma", "numpy.polynomial", "numpy.fft", "numpy.testing"}
SCRIPT = "import grapevine_agent.serve, json, sys; print(json.dumps(sorted(sys.modules)))"


def test_the_service_begins_without_commands_trainers_and_what_numpy_has_besides() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, timeout=60)
    loaded = set(json.loads(done.stdout))
    assert loaded >= {"numpy", "paho.mqtt.client", "asyncio"}
    assert loaded & {*COMMANDS, *TRAINING, *NUMPY, "importlib.resources", "importlib.metadata"} == set()
