"""Ports for programs that tests start."""

from __future__ import annotations

import socket


def free_port() -> int:
    """A TCP port that nothing listens on at present."""
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        port: int = trial.getsockname()[1]
        return port
