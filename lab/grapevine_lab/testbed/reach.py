"""Whether containers reach this host, where their lines begin: firewalls often keep them out."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import Any, Final

from grapevine_lab.testbed.docker_access import told
from grapevine_proto.errors import ConfigError

_TRIES_S: Final = 5
_TRY: Final = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), {}).close()"


def check_reach(client: Any, image: str, network: str, host: str, labels: Mapping[str, str]) -> None:
    """Have a container of the network connect to this host. Raises `ConfigError` with the remedy where it cannot."""
    try:
        listener = socket.create_server((host, 0))
    except OSError as error:
        raise ConfigError(
            f"the engine's network {network} does not end at this machine ({host}: {error.strerror}): Docker runs in a "
            "virtual machine or without root here; take an engine that is this machine's own, or `--engine processes`"
        ) from error
    with listener, told(f"trying the network {network}"):
        container = client.containers.create(
            image,
            command=["python", "-c", _TRY.format(_TRIES_S), host, str(listener.getsockname()[1])],
            entrypoint=[],
            network=network,
            labels=dict(labels),
        )
        try:
            container.start()
            if container.wait(timeout=60)["StatusCode"] != 0:
                raise ConfigError(
                    f"containers do not reach this host at {host}: a firewall keeps them out. With ufw: "
                    f"sudo ufw allow in from {host}/16, or take `--engine processes`"
                )
        finally:
            container.remove(force=True, v=True)
