"""What a command may import before it has something to do: on a small board each module costs a tenth of a second."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {
    *("numpy", "google.protobuf", "paho", "cryptography", "sqlite3", "torch", "zstandard", "yaml", "psutil"),
    *("ssl", "asyncio", "multiprocessing"),
}
CONVERTING = {"pydantic", "importlib.metadata", "importlib.resources", "email", "http"}
OTHERS = {"grapevine_agent.cli.task_commands", "grapevine_agent.cli.review_commands", "grapevine_lab"}
OWN = {
    *("grapevine_agent.core.agent", "grapevine_agent.service.shell", "grapevine_agent.api"),
    *("grapevine_agent.requests.dispatch", "grapevine_lab.simulator.simulation"),
}
SETTINGS = ("grapevine_agent.config.agent_toml", "grapevine_agent.core.settings")
ASKING = ("grapevine_agent.line", *OTHERS, *CONVERTING)
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
        (("--help",), ("pydantic", *SETTINGS)),
        (("review", "--help"), (*CONVERTING, *SETTINGS)),
        (("task", "watch", "--help"), (*CONVERTING, *SETTINGS)),
        (("status",), (*ASKING, "rich.table")),
        (("peers",), (*ASKING, "rich.table")),
        (("join", "digits"), ASKING),
        (("pause",), ASKING),
        (("events", "--kind", "merged"), ASKING),
        (("agent", "reload"), ASKING),
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
