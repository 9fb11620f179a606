"""Who said it: Ed25519 keys, peer ids and the bytes that a signature covers.

Brokers, bridges and retained stores are untrusted, so the signature is the only authority. It
covers three things, each prefixed by its length (uint32, big-endian) so that no two different
triples give the same bytes:

    "grapevine/v1"  ‖  topic below the root  ‖  sha256(message)

The topic is covered because it says *to whom* and *about what*: a message that is replayed on
another topic does not verify. It is the topic below the root, so a bridge may remap the root. The
message enters by its hash: one pass of SHA-256 is three times faster than Ed25519's two passes over
a model.
"""

from __future__ import annotations

import base64
import hashlib
import struct
from collections.abc import Callable
from functools import lru_cache
from typing import Protocol, TypeAlias

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from grapevine_proto.errors import WireError

DOMAIN = b"grapevine/v1"
PEER_ID_LENGTH = 20  # 100 bits of the key's hash: enough against a second key with the same id


@lru_cache(maxsize=1 << 14)
def peer_id_of(public_key: bytes) -> str:
    """The id of the peer that holds this Ed25519 public key (32 bytes): 20 characters of `[a-z2-7]`."""
    return base64.b32encode(hashlib.sha256(public_key).digest()).decode("ascii")[:PEER_ID_LENGTH].lower()


def signed_bytes(topic: str, *message: bytes | memoryview) -> bytes:
    """What a signature over `message`, whole or in parts, on `topic` (below the root) covers."""
    digest = hashlib.sha256()
    for part in message:
        digest.update(part)
    parts = (DOMAIN, topic.encode("utf-8"), digest.digest())
    return b"".join(struct.pack(">I", len(part)) + part for part in parts)


class SigningKey:
    """A peer's private key. `seed` is the 32 raw private bytes."""

    def __init__(self, seed: bytes) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.public_key: bytes = self._key.public_key().public_bytes_raw()
        self.peer_id: str = peer_id_of(self.public_key)

    @classmethod
    def generate(cls) -> SigningKey:
        """A new key from the system's randomness."""
        return cls(Ed25519PrivateKey.generate().private_bytes_raw())

    @property
    def seed(self) -> bytes:
        """The 32 raw private bytes, for storing."""
        return self._key.private_bytes_raw()

    def sign(self, signed: bytes) -> bytes:
        """The 64-byte signature over `signed`."""
        return self._key.sign(signed)

    def sign_message(self, topic: str, *message: bytes | memoryview) -> bytes:
        """The signature over `message`, whole or in parts, on `topic` (below the root)."""
        return self.sign(signed_bytes(topic, *message))


class Signer(Protocol):
    """What a message is sealed with."""

    public_key: bytes

    def sign_message(self, topic: str, *message: bytes | memoryview) -> bytes:
        """64 bytes that vouch for `message`, whole or in parts, on `topic` (below the root)."""
        ...


Check: TypeAlias = Callable[
    [bytes, bytes, str, bytes | memoryview], None
]  # public key, signature, topic, message; raises WireError


def check_signature(public_key: bytes, signature: bytes, topic: str, message: bytes | memoryview) -> None:
    """Raise `WireError("bad-signature")` unless `signature` is by `public_key`, over `message` on `topic`."""
    verify(public_key, signature, signed_bytes(topic, message))


def verify(public_key: bytes, signature: bytes, signed: bytes) -> None:
    """Raise `WireError("bad-signature")` unless `signature` over `signed` is by `public_key`."""
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, signed)
    except (InvalidSignature, ValueError) as error:
        raise WireError("bad-signature", str(error)) from None
