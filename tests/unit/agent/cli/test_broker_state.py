"""Where a broker that an owner starts keeps its records."""

from __future__ import annotations

from pathlib import Path

import pytest

from grapevine_agent.cli.broker_commands import _state_dir


def test_a_mosquitto_of_ours_has_a_folder_of_its_port_or_that_of_its_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_STATE_HOME", "/home/ada/state")
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    assert _state_dir("mosquitto", 1883) == Path("/home/ada/state/grapevine-broker-1883")
    assert _state_dir("mosquitto", 0) is None, "the next start has another port"
    assert _state_dir("embedded", 1883) is None, "it keeps nothing"
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/grapevine-broker")
    assert _state_dir("mosquitto", 0) == Path("/var/lib/grapevine-broker")
