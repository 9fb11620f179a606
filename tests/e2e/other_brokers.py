"""Brokers of others, as owners run them: RabbitMQ with its MQTT plugin, and aedes in Node.js. For tests only."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.ports import free_port

from grapevine_broker.probe import answers_mqtt

RABBITMQ = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")  # Debian's; the one on the PATH changes user
AEDES = "aedes@1.2.0"
STARTS_WITHIN_S = 90.0
INSTALLS_WITHIN_S = 90.0

_AEDES_SERVER = """
import { Aedes } from 'aedes'
import { createServer } from 'node:net'
const broker = await Aedes.createBroker()
createServer(broker.handle).listen(Number(process.argv[2]), '127.0.0.1')
"""


class NotHereError(Exception):
    """This broker is not installed, and what to do about it."""


@contextmanager
def rabbitmq() -> Iterator[str]:
    """The URL of a RabbitMQ of our own: its own node, ports, folders and port mapper."""
    if not RABBITMQ.exists():
        raise NotHereError("needs RabbitMQ on this machine: apt-get install rabbitmq-server")
    with tempfile.TemporaryDirectory(prefix="grapevine-rabbitmq-") as name:
        folder, port, mapper = Path(name), free_port(), free_port()
        (folder / "plugins").write_text("[rabbitmq_mqtt].\n")
        (folder / "rabbitmq.conf").write_text(
            f"listeners.tcp = none\nmqtt.listeners.tcp.1 = 127.0.0.1:{port}\nmqtt.allow_anonymous = true\n"
        )
        environment = os.environ | {
            "HOME": name,  # its cookie
            "RABBITMQ_NODENAME": f"grapevine{port}@localhost",
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
            "RABBITMQ_MNESIA_BASE": str(folder / "data"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1",
            "ERL_EPMD_PORT": str(mapper),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
        }
        try:
            with _running([str(RABBITMQ)], folder, port, environment):
                yield f"mqtt://127.0.0.1:{port}"
        finally:  # it leaves its port mapper behind
            subprocess.run(["epmd", "-port", str(mapper), "-kill"], capture_output=True, check=False, timeout=10)


@contextmanager
def aedes(installed: Path) -> Iterator[str]:
    """The URL of an aedes of our own; `installed` is what `install_aedes` gave."""
    port = free_port()
    command = ["node", "server.mjs", str(port)]
    with _running(command, installed, port, dict(os.environ)):
        yield f"mqtt://127.0.0.1:{port}"


def install_aedes(folder: Path) -> Path:
    """Have npm put aedes into a folder."""
    if shutil.which("npm") is None or shutil.which("node") is None:
        raise NotHereError("needs Node.js on this machine: apt-get install nodejs npm")
    (folder / "server.mjs").write_text(_AEDES_SERVER)
    command = ["npm", "install", "--no-audit", "--no-fund", "--no-update-notifier", AEDES]
    try:
        subprocess.run(command, cwd=folder, capture_output=True, check=True, timeout=INSTALLS_WITHIN_S)
    except (subprocess.SubprocessError, OSError) as error:
        raise NotHereError(f"npm does not install {AEDES} here: {error}") from None
    return folder


@contextmanager
def _running(command: list[str], folder: Path, port: int, environment: dict[str, str]) -> Iterator[None]:
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=output, stderr=output, start_new_session=True
        )
    try:
        deadline_s = time.monotonic() + STARTS_WITHIN_S
        while not answers_mqtt("127.0.0.1", port):
            log = (folder / "output").read_text(errors="replace")[-2_000:]
            assert process.poll() is None, f"{command[0]} ended: {log}"
            assert time.monotonic() < deadline_s, f"{command[0]} does not answer: {log}"
            time.sleep(0.2)
        yield
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=15)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
