"""The errors of Grapevine, from the wire up.

GrapevineError
├── ConfigError    the owner's configuration: says what to write
├── WireError      a peer's fault: counted by reason, dropped, on we go
├── TaskError      a task that cannot be built, checked or run
├── RequestError   what was asked for is wrong as it stands, whatever is known here: ask again, otherwise
├── BrokerError    a broker that cannot be reached or started: retried with jitter
└── StoreError     state on disk that cannot be read or written
"""

from __future__ import annotations


class GrapevineError(Exception):
    """Anything that Grapevine raises on purpose. The message names the value and the remedy."""


class ConfigError(GrapevineError):
    """The owner's configuration is wrong; the message says what to write instead."""


class WireError(GrapevineError):
    """Bytes from a peer that are not what they should be.

    `reason` is one of a few short words and is what is counted; the text is for debugging.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason


class TaskError(GrapevineError):
    """A task cannot be built, checked, joined or trained."""


class RequestError(GrapevineError):
    """What was asked for says too little, or nothing that can be done: empty, too short, ambiguous, out of range.

    Whoever asked has to write it otherwise; waiting does not help. On the command line it is exit code 2.
    """


class BrokerError(GrapevineError):
    """A broker cannot be reached or started."""


class StoreError(GrapevineError):
    """State on disk cannot be read or written."""
