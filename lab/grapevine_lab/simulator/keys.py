"""Keys of simulated peers, and numbers for what they say.

With signatures every message is signed and verified as on a device. Without them, which is the
default, a message has 64 bytes of zeros in their place: as long on the wire, and no time lost, since
nobody in a simulation can forge anything unless the scenario's author made it so.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from grapevine_agent.service.unsaved import Unsaved
from grapevine_proto.signing import SigningKey, peer_id_of

_NO_SIGNATURE = bytes(64)


class UnsignedKey:
    """A peer id that nobody has the private key of."""

    def __init__(self, seed: bytes) -> None:
        self.public_key = hashlib.sha256(seed).digest()
        self.peer_id = peer_id_of(self.public_key)

    def sign_message(self, topic: str, *message: bytes | memoryview) -> bytes:  # noqa: ARG002 — a Signer
        """Zeros, of a signature's length."""
        return _NO_SIGNATURE


class SigningKeyOfRun(SigningKey):
    """A real key that may lie in a run's checkpoint: it was drawn from the run's seed, and protects nothing."""

    def __reduce__(self) -> tuple[type[SigningKeyOfRun], tuple[bytes]]:
        return SigningKeyOfRun, (self.seed,)


PeerKey: TypeAlias = UnsignedKey | SigningKeyOfRun | SigningKey


def no_check(public_key: bytes, signature: bytes, topic: str, message: bytes | memoryview) -> None:
    """Take every signature for good."""


@dataclass
class Numbering:
    """Sessions and sequences of one peer: what the store keeps on a device, by the same rules."""

    last_session: int = 0
    sequences: dict[str, int] = field(default_factory=dict)

    def next_session(self, now_ms: int) -> int:
        """A number for an attempt to connect: larger than every one before."""
        self.last_session = max(self.last_session + 1, now_ms)
        return self.last_session

    def next_sequence(self, topic: str, now_ms: int) -> int:
        """A number for a record: larger than every one before on its topic."""
        self.sequences[topic] = max(self.sequences.get(topic, 0) + 1, now_ms)
        return self.sequences[topic]

    def last_sequence(self, topic: str) -> int:
        """The last number that was given on a topic; -1 if none was."""
        return self.sequences.get(topic, -1)

    def keep_sequences(self, sequences: Mapping[str, int]) -> None:
        """Remember numbers that were given without asking."""
        for topic, number in sequences.items():
            self.sequences[topic] = max(self.sequences.get(topic, -1), number)


class SoundDisk(Unsaved):
    """A disk that takes everything, for whoever asks before writing. It has no lock, so a checkpoint can hold it."""

    def __init__(self) -> None:
        """Nothing is ever in trouble."""

    def may_try(self, kind: str) -> bool:  # noqa: ARG002 - as in `Unsaved`
        """Always."""
        return True

    def is_in_trouble(self, kind: str) -> bool:  # noqa: ARG002
        """Never."""
        return False

    def failed(self, kind: str, error: BaseException) -> None:
        """It does not."""
        raise AssertionError(f"{kind}: {error}")

    def saved(self, kind: str) -> None:
        """As always."""


@dataclass(frozen=True)
class Holder:
    """Who a peer is, as the sealer asks for it."""

    key: PeerKey

    @property
    def peer_id(self) -> str:
        """The id that follows from the public key."""
        return self.key.peer_id
