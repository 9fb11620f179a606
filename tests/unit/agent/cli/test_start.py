"""What a command may import before it has something to do: on a small board each module costs a tenth of a second."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {"numpy", "google.protobuf", "paho", "cryptography", "sqlite3", "torch", "zstandard", "yaml", "psutil"}
OWN = {
    *("grapevine_agent.core.agent", "grapevine_agent.service.shell", "grapevine_agent.api"),
    *("grapevine_agent.requests.dispatch", "grapevine_lab.simulator.simulation"),
}
SCRIPT = (
    "import json, sys\nfrom grapevine_agent.cli import main\n"
    "try:\n    main()\nexcept SystemExit:\n    pass\n"
    "sys.stderr.write('\\n' + json.dumps(sorted(sys.modules)))"
)


def loaded(folder: Path, *arguments: str) -> set[str]:
    """The modules that a process has loaded after a command."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *arguments], capture_output=True, text=True, check=True, cwd=folder, timeout=60
    )
    return set(json.loads(done.stderr.splitlines()[-1]))


@pytest.mark.parametrize(
    ("command", "more"),
    [
        (("--help",), ("asyncio", "grapevine_agent.config.agent_toml")),
        (("review", "--help"), ("asyncio", "grapevine_agent.config.agent_toml")),
        (("task", "watch", "--help"), ("asyncio", "grapevine_agent.config.agent_toml")),
        (("status",), ("grapevine_agent.line",)),
        (("peers",), ("grapevine_agent.line",)),
        (("join", "digits"), ("grapevine_agent.line",)),
        (("pause",), ("grapevine_agent.line",)),
        (("events", "--kind", "merged"), ("grapevine_agent.line",)),
        (("agent", "reload"), ("grapevine_agent.line",)),
    ],
)
def test_a_command_loads_what_it_needs_and_no_more(
    tmp_path: Path, command: tuple[str, ...], more: tuple[str, ...]
) -> None:
    (tmp_path / "grapevine.toml").write_text('[agent]\nstate_dir = "state"\n')
    options = () if "--help" in command else ("--config", "grapevine.toml")
    assert loaded(tmp_path, *command, *options) & {*HEAVY, *OWN, *more} == set()


def test_what_is_asked_for_is_found(tmp_path: Path) -> None:
    assert loaded(tmp_path, "merge", "--local", "none.safetensors", "--out", "x") & HEAVY >= {"numpy"}
