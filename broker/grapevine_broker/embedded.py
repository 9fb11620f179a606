"""The embedded broker: amqtt in a child process, for the demo, tests and one trusted host."""

from __future__ import annotations

import importlib.util
import os
import sys

from grapevine_broker.child import ChildProcess
from grapevine_broker.limits import Limits
from grapevine_broker.probe import answers_mqtt, claim_port, is_loopback
from grapevine_broker.running import BrokerProcess
from grapevine_proto import distribution
from grapevine_proto.errors import BrokerError


def check_installed() -> None:
    """Raise `BrokerError`, with what to install, where the embedded broker cannot run."""
    if importlib.util.find_spec("amqtt") is None:
        msg = f"the embedded broker needs amqtt: {distribution.to_add_extra('broker')}, or use --engine mosquitto"
        raise BrokerError(msg)


class EmbeddedBroker(BrokerProcess):
    """amqtt on a loopback address, speaking MQTT 3.1.1.

    Its URL carries `?version=3.1.1`, so that our transport does not first try version 5.

    Args:
        host: A loopback IPv4 address, or `localhost`; any IPv4 address if `is_open`.
        port: The TCP port; 0 picks a free one, which a restart keeps.
        retained_max_age_s: Age at which a retained message is forgotten, in seconds.
        log_to_terminal: Whether the child's warnings go to our standard error.
        is_open: Other machines may connect, and do there what they like: for the broker that agents elect among
            themselves, on networks whose owner asks for it.

    Raises:
        BrokerError: `host` is not a loopback address, or amqtt is not installed.
    """

    name = "the embedded broker"

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        retained_max_age_s: float = Limits.retained_max_age_s,
        log_to_terminal: bool = False,
        is_open: bool = False,
    ) -> None:
        host = "127.0.0.1" if host == "localhost" else host
        if not is_open and not is_loopback(host):
            msg = (
                f"the embedded broker does not listen on {host}, only on 127.0.0.1: it has no users and no access "
                "rules, so that a stranger could displace any peer's session and erase any record. For other machines "
                "run `grapevine broker run --engine mosquitto` with --password-file"
            )
            raise BrokerError(msg)
        if ":" in host:
            msg = f"the embedded broker listens on IPv4 only, not on {host}: use 127.0.0.1, or --engine mosquitto"
            raise BrokerError(msg)
        check_installed()
        super().__init__(host=host, port=port, url_query="?version=3.1.1")
        self._retained_max_age_s = retained_max_age_s
        self._child = ChildProcess(log_to_terminal=log_to_terminal)

    def start(self) -> None:
        """Start the child and return once it answers a CONNECT.

        Raises:
            BrokerError: The port is taken, or the broker does not come up.
        """
        if self.port:
            claim_port(self.host, self.port)
        command = [sys.executable, "-m", "grapevine_broker.embedded_process", "--host", self.host]
        command += ["--port", str(self.port), "--parent-pid", str(os.getpid())]
        command += ["--retained-max-age-s", str(self._retained_max_age_s)]
        self._child.spawn(command, reads_stdout=True)
        report = self._child.report(f"the embedded broker does not start on {self.host}:{self.port}")
        self.port = int(report["port"])
        probe_host = "127.0.0.1" if self.host == "0.0.0.0" else self.host  # noqa: S104 - compared, not bound
        self._child.wait_until(lambda: answers_mqtt(probe_host, self.port), what=self.name)
