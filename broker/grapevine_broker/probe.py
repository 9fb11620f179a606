"""Asks a port whether an MQTT broker answers there, with one real CONNECT; and finds ports."""

from __future__ import annotations

import errno
import ipaddress
import secrets
import socket

from grapevine_proto.errors import BrokerError

_CONNACK = 0x20


def answers_mqtt(host: str, port: int, timeout_s: float = 1.0, *, version: str = "3.1.1", client_id: str = "") -> bool:
    """Tell whether a broker answers a CONNECT on `host:port`.

    A refusal (say, of an anonymous client) is an answer too: whoever sends CONNACK is ready.

    Args:
        host: Whom to ask.
        port: Where.
        timeout_s: How long to wait for each step.
        version: Of MQTT: `3.1.1` or `5`.
        client_id: Who asks; empty: a new name each time, so that questions do not take over each other's sessions.
    """
    name = client_id.encode() or b"grapevine-probe-" + secrets.token_hex(3).encode()
    level, properties = (b"\x05", b"\x00") if version == "5" else (b"\x04", b"")
    body = b"\x00\x04MQTT" + level + b"\x02\x00\x05" + properties  # clean session, 5 s
    body += len(name).to_bytes(2, "big") + name
    try:
        with socket.create_connection((host, port), timeout=timeout_s) as connection:
            connection.settimeout(timeout_s)
            connection.sendall(bytes([0x10, len(body)]) + body)
            answer = connection.recv(4)
            connection.sendall(b"\xe0\x00")  # DISCONNECT
    except OSError:
        return False
    return len(answer) > 0 and answer[0] == _CONNACK


def is_loopback(host: str) -> bool:
    """Tell whether `host` is `localhost` or an address that only this machine can reach."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def claim_port(host: str, port: int) -> int:
    """Check that we could listen on `host:port`, and pick a free port for port 0.

    Another process may take the port before the broker does: its own error is reported then.

    Raises:
        BrokerError: The port is taken, the address is not ours, or we may not use the port.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((host, port))
            # Bound is not yet ours: with SO_REUSEADDR only listen() fails beside a broker on a wildcard address.
            trial.listen(1)
        except OSError as error:
            raise BrokerError(_why_not(host, port, error)) from error
        return int(trial.getsockname()[1])


def _why_not(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} on {host} is taken: stop what listens there, or choose another with --port"
    if error.errno == errno.EACCES:
        return f"port {port} needs root's rights: choose one above 1023 with --port"
    return f"cannot listen on {host}:{port} ({error.strerror or error}): give an address of this machine with --host"
