"""The engine `rumqtt`: rumqttd, a broker in Rust, in a child process; fast, and less exact than the others.

It comes as the package `iotcore`, whose part in it is to start rumqttd with a file of ours. What rumqttd does otherwise
than MQTT says, and otherwise than our other brokers do, is listed in `docs/brokers.md`.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import sys
import tempfile
from typing import Final

from grapevine_broker.child import ChildProcess
from grapevine_broker.probe import answers_mqtt, claim_port, is_loopback
from grapevine_broker.rumqtt_config import Version
from grapevine_broker.running import ANSWERS_WITHIN_S, BrokerProcess
from grapevine_proto import distribution
from grapevine_proto.errors import BrokerError

ITS_WHEELS: Final = "Linux on x86-64, aarch64 and armv7 with glibc 2.28 or later, and macOS"


def check_installed() -> None:
    """Raise `BrokerError`, with what to install, where rumqttd cannot run."""
    if importlib.util.find_spec("iotcore") is None:
        msg = (
            f"the engine rumqtt needs iotcore: {distribution.to_add_extra('rumqtt')}, or use --engine embedded "
            f"(it is built for {ITS_WHEELS}; this is {platform.system()} on {platform.machine()})"
        )
        raise BrokerError(msg)


class RumqttBroker(BrokerProcess):
    """rumqttd on a loopback address, speaking one version of MQTT, without users; nothing outlives it.

    Its URL carries that version, so that our transport does not try the other one first.

    Args:
        host: A loopback address, or `localhost`.
        port: The TCP port; 0 picks a free one, which a restart keeps.
        version: What it speaks.
        log_to_terminal: Whether the child's warnings go to our standard error.

    Raises:
        BrokerError: `host` is not a loopback address, or iotcore is not installed.
    """

    name = "rumqttd"

    def __init__(
        self, *, host: str = "127.0.0.1", port: int = 0, version: Version = "3.1.1", log_to_terminal: bool = False
    ) -> None:
        if not is_loopback(host):
            msg = (
                f"rumqttd does not listen on {host}, only on 127.0.0.1: it has no users and no access rules here, and "
                "a single packet of a stranger can end it. For other machines run "
                "`grapevine broker run --engine mosquitto` with --password-file"
            )
            raise BrokerError(msg)
        check_installed()
        super().__init__(host="127.0.0.1" if host == "localhost" else host, port=port, url_query=f"?version={version}")
        self.version: Version = version
        self._child = ChildProcess(log_to_terminal=log_to_terminal)

    def start(self) -> None:
        """Start the child and return once it answers a CONNECT.

        Raises:
            BrokerError: The port is taken, or the broker does not come up.
        """
        self.port = claim_port(self.host, self.port)
        command = [sys.executable, "-m", "grapevine_broker.rumqtt_process", "--host", self.host]
        command += ["--port", str(self.port), "--parent-pid", str(os.getpid()), "--mqtt-version", self.version]
        with tempfile.TemporaryDirectory(prefix="grapevine-rumqttd-") as folder:  # for its configuration, read once
            self._child.spawn([*command, "--folder", folder], reads_stdout=True)
            self._child.report(f"{self.name} does not start on {self.host}:{self.port}")
        self._child.wait_until(lambda: self._answers(1.0), what=self.name)

    def answers(self) -> bool:
        """Whether it answers a client now; a refusal is an answer."""
        return self._answers(ANSWERS_WITHIN_S)

    def _answers(self, timeout_s: float) -> bool:
        """Ask, always by the same name: it remembers every name that it has heard, for as long as it runs."""
        ours = f"grapevine-probe-{os.getpid()}"
        return answers_mqtt(self.host, self.port, timeout_s, version=self.version, client_id=ours)
