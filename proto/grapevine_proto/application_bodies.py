"""What peers say of applications on the wire: the record of one, and what an announcement says that bears on them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from grapevine_proto import messages as m
from grapevine_proto import reading
from grapevine_proto import wire_pb2 as pb
from grapevine_proto.application import SHORT
from grapevine_proto.application_codec import MAX_SPEC_BYTES
from grapevine_proto.errors import WireError
from grapevine_proto.labels import LABEL_KEY, LABEL_VALUE, MAX_LABELS, NAME, TRAIT

_OFFER: Final = re.compile(rf"[0-9a-f]{{{SHORT}}}/{NAME.pattern}")


def write_publication(body: m.ApplicationPublication) -> pb.ApplicationPublication:
    """Its protobuf form."""
    if body.deleted:
        return pb.ApplicationPublication(deletion=pb.Retraction(reason=body.reason))
    return pb.ApplicationPublication(spec=body.spec)


def read_publication(wire: pb.ApplicationPublication) -> m.ApplicationPublication:
    """Raises `WireError`. What the bytes of an application say is not looked at."""
    match wire.WhichOneof("statement"):
        case "spec":
            if len(wire.spec) > MAX_SPEC_BYTES:
                raise WireError("too-big", f"an application of {len(wire.spec)} bytes; at most {MAX_SPEC_BYTES}")
            return m.ApplicationPublication(spec=wire.spec)
        case "deletion":
            return m.ApplicationPublication(deleted=True, reason=reading.text(wire.deletion.reason, "reason"))
    raise WireError("malformed", "an application without its bytes or its deletion")


def read_labels(wire: Sequence[pb.Label]) -> tuple[tuple[str, str], ...]:
    """The labels of a peer, sorted, each key once. Raises `WireError`."""
    _check_number(wire, "labels")
    labels = {_word(LABEL_KEY, each.key, "a label"): _word(LABEL_VALUE, each.value, "a label") for each in wire}
    if len(labels) != len(wire):
        raise WireError("malformed", "a label twice")
    return tuple(sorted(labels.items()))


def read_traits(wire: Sequence[str]) -> tuple[str, ...]:
    """What a peer has. Raises `WireError`."""
    _check_number(wire, "traits")
    return tuple(_word(TRAIT, each, "a trait") for each in wire)


def read_offers(wire: Sequence[str], what: str) -> tuple[str, ...]:
    """Components that a peer would run, or runs. Raises `WireError`."""
    _check_number(wire, what)
    return tuple(_word(_OFFER, each, what) for each in wire)


def _check_number(items: Sequence[object], what: str) -> None:
    if len(items) > MAX_LABELS:  # before anything is made of an item: what is said here is kept of every peer
        raise WireError("out-of-range", f"{len(items)} {what}, at most {MAX_LABELS}")


def _word(form: re.Pattern[str], text: str, what: str) -> str:
    if not form.fullmatch(text):
        raise WireError("malformed", f"{what}: {text[:80]!r} has not its form")
    return text
