"""A connection to a host that may have several addresses, and the error that says most when none of them answers."""

from __future__ import annotations

import socket
from collections.abc import Sequence


def connect_to(host: str, port: int, timeout_s: float) -> socket.socket:
    """Connect to the first of a host's addresses that answers; each gets `timeout_s`.

    Raises OSError. `localhost` is often 127.0.0.1 and ::1, and where IPv6 is off, the second fails in its own way: that
    nothing listens at the first is what an owner needs to know.
    """
    try:
        return socket.create_connection((host, port), timeout=timeout_s, all_errors=True)
    except ExceptionGroup as group:
        raise telling([each for each in group.exceptions if isinstance(each, OSError)]) from None


def telling(errors: Sequence[OSError]) -> OSError:
    """Of several addresses' errors, in their order, the one that says most: refused, then silent, then the first."""
    for kind in (ConnectionRefusedError, TimeoutError):
        for error in errors:
            if isinstance(error, kind):
                return error
    return errors[0]
