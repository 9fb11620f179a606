"""Payloads in a simulation: a message to many is decoded once."""

from __future__ import annotations

from dataclasses import replace

from grapevine_proto.codec import Received, open_envelope
from grapevine_proto.errors import WireError
from grapevine_proto.signing import Check
from grapevine_proto.topics import parse_below_root


class Letter(bytes):
    """A payload that remembers what it was decoded to. There is one object of it, however many it reaches."""

    opened: Received | WireError | None = None


def opened(payload: bytes, topic: str, check: Check, *, retained: bool) -> Received:
    """What a payload that arrived on `topic` (below the root) says. Raises the `WireError` that it is, every time."""
    found = payload.opened if isinstance(payload, Letter) else None
    if found is None:
        try:
            found = open_envelope(payload, parse_below_root(topic), check=check)
        except WireError as error:
            found = error
        if isinstance(payload, Letter):
            payload.opened = found
    if isinstance(found, WireError):
        raise found
    return replace(found, retained=True) if retained else found
