"""The demo on a broker that asks for a login."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.e2e.test_demo import running_demo

from grapevine_broker.mosquitto import MosquittoBroker

pytestmark = [
    pytest.mark.timeout(240),
    pytest.mark.mosquitto,
    pytest.mark.skipif(
        shutil.which("mosquitto_passwd") is None, reason="needs mosquitto_passwd: apt-get install mosquitto"
    ),
]


def test_the_demo_logs_in_with_the_variables_of_an_agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    users, rules, password = tmp_path / "users", tmp_path / "rules", tmp_path / "password"
    subprocess.run(["mosquitto_passwd", "-b", "-c", str(users), "ada", "secret"], check=True, capture_output=True)
    rules.write_text("user ada\ntopic readwrite #\n")
    password.write_text("secret\n")
    for each in (tmp_path, *tmp_path.parents):  # as root, Mosquitto reads them as a user of its own
        if each.stat().st_uid == os.getuid() and "pytest" in str(each):
            each.chmod(0o755)
    users.chmod(0o644)
    monkeypatch.setenv("GRAPEVINE_MQTT_USERNAME", "ada")
    monkeypatch.setenv("GRAPEVINE_MQTT_PASSWORD_FILE", str(password))
    with MosquittoBroker(password_file=users, acl_file=rules) as broker:
        options = ("--seconds", "15", "--peers", "2", "--no-server", "--broker", broker.url)
        with running_demo(tmp_path, *options) as demo:
            demo.end(200.0)
            assert (demo.out / "report.json").exists(), demo.text
            assert "secret" not in demo.text
