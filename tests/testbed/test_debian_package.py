"""The Debian package in a bare Debian: installed, reloaded, stuck, upgraded, removed and purged.

Once under systemd, and once without any supervisor, as in most containers. Which of the two could be tried is in the
names of the tests that ran.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.testbed.debian import ADDED, OLD, Machine, as_before, built_package, machine
from tests.testbed.image import NoImageError

pytestmark = [pytest.mark.containers, pytest.mark.timeout(1500)]

UNIT = "grapevine-agent.service"
ACTIVE = f"systemctl is-active --quiet {UNIT}"
MOST_EXPOSED = 2.0
DRAIN_S = 10.0


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    try:
        return built_package(tmp_path_factory.mktemp("deb"))
    except NoImageError as obstacle:
        pytest.skip(str(obstacle))


@pytest.fixture
def debian(request: pytest.FixtureRequest) -> Iterator[Machine]:
    try:
        with machine(with_systemd=request.param) as made:
            yield made
    except NoImageError as obstacle:
        pytest.skip(str(obstacle))


@pytest.mark.parametrize("debian", [True], indirect=True, ids=["under systemd"])
def test_it_installs_upgrades_and_purges(debian: Machine, package: Path, tmp_path: Path) -> None:
    old, new = debian.bring(as_before(package, tmp_path)), debian.bring(package)
    debian.run(f"dpkg -i {old}")
    assert debian.run("dpkg-query -W -f '${Version}' grapevine") == OLD
    debian.wait(f"{ACTIVE} && grapevine status | grep -q 'connected to mqtt://localhost:1883'")
    peer = debian.run("grapevine id")
    assert debian.run("stat -c %U /var/lib/grapevine/identity.pem").strip() == "grapevine"
    exposed = debian.run(f"systemd-analyze security {UNIT} | tail -1").split("level for")[1].split(": ")[1].split()[0]
    assert float(exposed) <= MOST_EXPOSED
    _check_journal(debian)
    _check_reload(debian)
    _check_failed_start(debian)
    _check_credentials(debian)
    _check_restored(debian)
    _check_stuck(debian)
    _check_server_and_broker(debian)

    debian.run(f"dpkg -i {new}")
    assert debian.run("dpkg-query -W -f '${Version}' grapevine") != OLD
    assert not debian.succeeds(f"test -e /{ADDED}")
    debian.wait(f"{ACTIVE} && grapevine status | grep -q kitchen")
    assert debian.run("grapevine id") == peer

    began_s = time.monotonic()
    debian.run(f"systemctl stop {UNIT}")
    assert time.monotonic() - began_s < DRAIN_S
    assert debian.run(f"systemctl show -p Result --value {UNIT}").strip() == "success"
    assert "start it with `sudo systemctl start grapevine-agent`" in debian.run("grapevine status", check=False)
    debian.run(f"systemctl start {UNIT}")

    debian.run("dpkg -r grapevine")
    assert not debian.succeeds(ACTIVE)
    assert not debian.succeeds("command -v grapevine")
    assert debian.succeeds("test -d /opt"), "which is the system's"
    assert debian.succeeds("test -s /etc/grapevine/agent.toml && test -s /var/lib/grapevine/identity.pem")
    debian.run(f"dpkg -i {new}")
    assert debian.run("grapevine id") == peer
    _check_purged(debian)
    assert not debian.succeeds(f"systemctl cat {UNIT}")


@pytest.mark.parametrize("debian", [False], indirect=True, ids=["without a supervisor"])
def test_it_installs_and_runs(debian: Machine, package: Path) -> None:
    debian.run(f"dpkg -i {debian.bring(package)}")
    peer = debian.run("grapevine id")
    # Root, as in most containers; the agent acts as the user whose the folder is.
    debian.run("grapevine agent run > /tmp/log 2>&1 & echo $! > /tmp/pid")
    debian.wait("grapevine status")
    assert debian.run("stat -c %U /var/lib/grapevine/agent.sock").strip() == "grapevine"
    debian.run("kill $(cat /tmp/pid)")
    debian.wait("! kill -0 $(cat /tmp/pid) 2>/dev/null || grep -q ' Z ' /proc/$(cat /tmp/pid)/stat", within_s=DRAIN_S)
    assert "not PyTorch" not in debian.run("cat /tmp/log")
    debian.run("/opt/grapevine/bin/python -c 'import amqtt, prometheus_client, zeroconf'")
    debian.run("dpkg -r grapevine")
    assert debian.succeeds("test -s /var/lib/grapevine/identity.pem")
    debian.run(f"dpkg -i /root/{package.name}")
    assert debian.run("grapevine id") == peer
    _check_purged(debian)


@pytest.mark.skipif(shutil.which("lintian") is None, reason="needs lintian: apt-get install lintian")
def test_lintian_has_nothing_to_say_but_what_is_overridden_with_a_reason(package: Path) -> None:
    command = ["lintian", "--fail-on", "error,warning", str(package)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr


def _check_journal(debian: Machine) -> None:
    lines = [json.loads(line) for line in debian.run(f"journalctl -u {UNIT} -o json").splitlines()]
    ours = [line for line in lines if line.get("_TRANSPORT") == "stdout"]
    assert any(line["MESSAGE"].startswith("connected to") and line["PRIORITY"] == "6" for line in ours)
    assert not any(line["MESSAGE"].startswith(("<", "INFO", "WARNING")) for line in ours)


def _check_reload(debian: Machine) -> None:
    config = "/etc/grapevine/agent.toml"
    debian.run(f"""sed -i '0,/^#name = .*/s//name = "kitchen"/; 0,/^#root = .*/s//root = "other"/' {config}""")
    debian.run(f"systemctl reload {UNIT}")
    said = debian.run(f"journalctl -u {UNIT} -o cat")
    assert "in force now: agent.name; needs a restart: mqtt.root" in said
    assert "kitchen" in debian.run("grapevine status")
    debian.run(f"cp {config} /root/good && echo '[limitz]' >> {config}")
    assert not debian.succeeds(f"systemctl reload {UNIT}")
    assert "did you mean 'limits'" in debian.run(f"journalctl -u {UNIT} -o cat")
    assert debian.succeeds(ACTIVE)
    debian.run(f"""cp /root/good {config}; sed -i 's,^state_dir = .*,state_dir = "/mnt/disk/gv",' {config}""")
    assert "needs a restart: agent.state_dir" in debian.run("grapevine agent reload")
    looked = debian.run("grapevine doctor", check=False)
    assert "its state is in /var/lib/grapevine, and state_dir is /mnt/disk/gv by now" in looked
    assert "[Service] ReadWritePaths=/mnt/disk/gv" in looked
    assert "there is no key in /mnt/disk/gv, and one in /var/lib/grapevine" in looked
    debian.run(f"cp /root/good {config}")


def _check_failed_start(debian: Machine) -> None:
    """A password of root's that is not among the credentials: the doctor says that the start failed, and why."""
    config = "/etc/grapevine/agent.toml"
    debian.run(f"cp {config} /root/good; umask 077; echo secret > /etc/grapevine/mqtt-password")
    debian.run(f"""sed -i 's,^#password_file = .*,password_file = "mqtt-password",' {config}""")
    assert not debian.succeeds(f"systemctl restart {UNIT}")
    looked = debian.run("grapevine doctor", check=False)
    assert "the service may not read /etc/grapevine/mqtt-password" in looked
    assert "the service's last start failed (exit code 1): error: " in looked
    debian.run(f"cp /root/good {config}; rm /etc/grapevine/mqtt-password; systemctl restart {UNIT}")
    debian.wait(ACTIVE)


def _check_restored(debian: Machine) -> None:
    """The commands of the guide for a backup, as they are written, put a device back."""
    page = (Path(__file__).parents[2] / "docs/operations.md").read_text()
    saving, restoring = page[page.index("## Back up, and move") : page.index("## Figures")].split("To put it back", 1)
    debian.run("mkdir -p /media/backup; grapevine trust add er53d3dfwgggwqyct64c")
    peer = debian.run("grapevine id")
    for text in (saving, restoring):
        for line in text.splitlines():
            if line.startswith("    sudo "):
                debian.run(line.strip().removeprefix("sudo "))
        if text is saving:
            debian.run(f"systemctl stop {UNIT}; grapevine init --new-identity; systemctl start {UNIT}")
            assert debian.run("grapevine id") != peer
    assert debian.run("grapevine id") == peer
    assert "er53d3dfwgggwqyct64c" in debian.run("grapevine trust list")
    debian.wait(ACTIVE)


def _check_credentials(debian: Machine) -> None:
    """A secret for root and the service's group is read, without a warning.

    Not the copy that systemd hands over: in a container its folder may be closed to the service.
    """
    debian.run("umask 077; echo secret > /etc/grapevine/credentials/mqtt-password")
    debian.run("cd /etc/grapevine/credentials; chgrp grapevine mqtt-password; chmod 640 mqtt-password")
    debian.run(
        """sed -i 's,^#password_file = .*,password_file = "credentials/mqtt-password",' /etc/grapevine/agent.toml"""
    )
    debian.run(f"systemctl restart {UNIT}")
    debian.wait(ACTIVE)
    assert "chmod 600" not in debian.run(f"journalctl -u {UNIT} -o cat")
    looked = debian.run("grapevine doctor", check=False)  # as root, which looks as the service's user
    assert "takes us in" in looked
    assert "chmod 600" not in looked
    assert "run this as" not in looked
    debian.run("rm /etc/grapevine/credentials/mqtt-password; sed -i '/^password_file/d' /etc/grapevine/agent.toml")
    debian.run(f"systemctl restart {UNIT}")


def _check_stuck(debian: Machine) -> None:
    """A loop that stands is started anew, without anybody's help."""
    folder = f"/run/systemd/system/{UNIT}.d"
    debian.run(f"mkdir -p {folder}; printf '[Service]\\nWatchdogSec=3\\nRestartSec=1\\n' > {folder}/soon.conf")
    debian.run(f"systemctl daemon-reload; systemctl restart {UNIT}")
    pid = debian.run(f"systemctl show -p MainPID --value {UNIT}").strip()
    debian.run(f"kill -STOP {pid}")
    debian.wait(f"{ACTIVE} && test $(systemctl show -p MainPID --value {UNIT}) != {pid}")
    assert "Watchdog timeout" in debian.run(f"journalctl -u {UNIT} -o cat")
    debian.run(f"rm -r {folder}; systemctl daemon-reload; systemctl restart {UNIT}")


def _check_server_and_broker(debian: Machine) -> None:
    """The two other units, as the guide has them started: each beside the agent, hardened alike."""
    config, units = "/etc/grapevine/server.toml", ("grapevine-server", "grapevine-broker")
    said = debian.run(f"grapevine init --config {config} --state-dir /var/lib/grapevine-server")
    assert "sudo systemctl enable --now grapevine-server" in said
    debian.run("echo 'BROKER_OPTIONS=--port 1884' > /etc/grapevine/broker.env")
    debian.run(f"systemctl enable --now {' '.join(units)}")
    debian.wait(f"grapevine status --config {config} | grep -q 'connected to mqtt://localhost:1883'")
    assert debian.run(f"grapevine status --config {config}").startswith("server ")
    assert debian.run(f"grapevine id --config {config}") != debian.run("grapevine id")
    debian.run("""sed -i 's,^#brokers = .*,brokers = ["mqtt://localhost:1884"],' /etc/grapevine/server.toml""")
    debian.run("systemctl restart grapevine-server")
    debian.wait(f"grapevine status --config {config} | grep -q 'connected to mqtt://localhost:1884'")
    debian.run("test -d /var/lib/grapevine-broker && systemctl reload grapevine-broker")
    debian.wait("journalctl -u grapevine-broker -o cat | grep -q 'no users to read again'")
    for unit in units:
        said = debian.run(f"systemd-analyze security {unit}.service | tail -1")
        assert float(said.split("level for")[1].split(": ")[1].split()[0]) <= MOST_EXPOSED, said
        debian.run(f"systemctl stop {unit}")
        assert debian.run(f"systemctl show -p Result --value {unit}").strip() == "success"


def _check_purged(debian: Machine) -> None:
    debian.run("dpkg -P grapevine")
    for gone in (
        "/etc/grapevine",
        "/var/lib/grapevine",
        "/var/lib/grapevine-server",
        "/var/lib/grapevine-broker",
        "/opt/grapevine",
        "/usr/bin/grapevine",
    ):
        assert not debian.succeeds(f"test -e {gone}"), gone
    assert debian.succeeds("test -d /opt")  # which is in no other package's list
    assert not debian.succeeds("getent passwd grapevine || getent group grapevine")
