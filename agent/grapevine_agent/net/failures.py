"""Why there is no connection."""

from __future__ import annotations

from grapevine_proto.errors import BrokerError


class WrongVersionError(BrokerError):
    """The broker does not speak this version of MQTT, or does not answer it."""


class RefusedError(BrokerError):
    """The broker will not take us before somebody mends something: a login, a URL, a certificate."""


class RetainedWillError(BrokerError):
    """The broker retains nothing, and so does not take a client whose will is to be retained (MQTT 5, 3.2.2.3.5)."""


class NotAllowedError(BrokerError):
    """The broker's access rules do not let us write on this topic (MQTT 5, reason code 0x87)."""


class ConnectionLostError(BrokerError):
    """There is no connection, or it ended before the answer: what was sent may have arrived all the same."""
