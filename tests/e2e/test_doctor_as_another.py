"""`grapevine doctor` as another user than the agent's, and as root."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.test_doctor import by_check

from grapevine_agent.identity import first_identity

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be somebody else")

NOBODY = 65_534
BECOME_NOBODY = f"os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})"
NOBODY_IS_THE_SERVICE = f"acting_as.USER = pwd.getpwuid({NOBODY}).pw_name"


@pytest.fixture
def folder() -> Iterator[Path]:
    """One that everybody can enter, with a state folder, and a secret that only root can read."""
    with tempfile.TemporaryDirectory() as name:
        made = Path(name)
        made.chmod(0o755)
        first_identity(made / "state")
        closed(made / "secret")
        yield made


def closed(path: Path) -> None:
    path.write_text("for root alone")
    path.chmod(0o600)


def looked(folder: Path, port: int, *, after: str, extra: str = "") -> dict[str, dict[str, Any]]:
    """What is found after these statements; looked for before them, too, as the interpreter may be closed to others."""
    path = folder / "agent.toml"
    path.write_text(
        '[agent]\nstate_dir = "state"\n[limits]\ncan_train = false\n'
        f'[mqtt]\npassword_file = "secret"\nbrokers = ["mqtt://127.0.0.1:{port}"]\n{extra}'
    )
    script = (
        "import os, pwd, sys\nfrom typer.testing import CliRunner\n"
        "from grapevine_agent.cli import acting_as, build_app\n"
        "def ask(): return CliRunner().invoke(build_app(), ['doctor', '--json', '--config', sys.argv[1]])\n"
        f"ask()\n{after}\nsys.stdout.write(ask().stdout)\nassert os.geteuid() == {NOBODY}"
    )
    command = [sys.executable, "-c", script, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert "Traceback" not in done.stderr
    return by_check(done)


def test_another_user_is_told_what_it_may_not_see(folder: Path, unused_tcp_port: int) -> None:
    found = looked(folder, unused_tcp_port, after=BECOME_NOBODY)
    assert [found[check]["level"] for check in ("agent", "identity", "broker", "state")] == ["skip"] * 4
    assert "run this as" in found["state"]["remedy"]
    assert found["agent"]["remedy"] == found["identity"]["remedy"] == "see state below"
    assert found["configuration"]["level"] == "ok"


def test_root_sees_what_the_service_sees_and_the_password_that_is_handed_to_it(
    folder: Path, unused_tcp_port: int
) -> None:
    for each in (folder / "state", *(folder / "state").rglob("*")):
        os.chown(each, NOBODY, NOBODY)
    closed(folder / "samples.npz")
    data = '[[data]]\nkind = "x"\npath = "samples.npz"\n'
    found = looked(folder, unused_tcp_port, after=NOBODY_IS_THE_SERVICE, extra=data)
    assert found["identity"]["level"] == found["state"]["level"] == "ok"
    assert found["data"]["level"] == "fail"
    assert "nothing listens" in found["broker"]["says"]
