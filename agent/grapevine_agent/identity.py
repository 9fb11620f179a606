"""A peer's identity: one Ed25519 key on disk, made once and kept for good.

Peers know us by the hash of this key. Whoever can read the file can speak in our name; whoever loses it is a new peer
to everybody, with no reviews, trust or history. So it is written once, atomically, readable by its owner alone, and
never overwritten; and nobody becomes a new peer without having said so.

    identity.pem    the key
    identity.peer   its peer id. One flipped bit in the key makes another key that is as good as the first: only
                    what remembers the id can tell. The database remembers it too.

                        │ `agent run`         │ a command that signs  │ `init`          │ `init --new-identity`
    a new folder        │ makes a key         │ refuses               │ makes a key     │ makes a key
    the key remembered  │ goes on             │ goes on               │ goes on         │ another key, the old one aside
    no key, broken,     │ refuses, names both │ refuses, names both   │ refuses         │ another key, the old one aside
    or another's        │                     │                       │                 │
"""

from __future__ import annotations

import logging
import os
import re
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from grapevine_agent.store.database import peer_of_copy
from grapevine_agent.store.durable import create_durably, make_state_dir, move_aside, replace_durably
from grapevine_proto.errors import ConfigError, GrapevineError, StoreError
from grapevine_proto.signing import SigningKey

logger = logging.getLogger(__name__)

IDENTITY_FILE = "identity.pem"
PEER_FILE = "identity.peer"
DATABASE_FILE = "grapevine.db"  # a folder that has one belonged to somebody
MODELS_FOLDER = "models"  # one in which models lie was somebody's, too
_PEER_ID = re.compile(rb"[a-z2-7]{20}\n?")


class NoIdentityError(ConfigError):
    """There is no key yet, and nobody may make one now."""


class IdentityError(GrapevineError):
    """The key is not the one that this folder belongs to. `expected`: its peer id, empty if nobody can tell."""

    def __init__(self, path: Path, *, expected: str, found: str) -> None:
        whose = f"this folder belongs to peer {expected}" if expected else "this folder was used before"
        super().__init__(
            f"{path}: {whose}, and {found}. Going on would make this device a peer that nobody knows. "
            f"Put {path.name} back from a backup; or, to be a new peer from now on: grapevine init --new-identity, "
            "with --config if this device's file is named so (reviews, trust and records of the old one are void then)"
        )
        self.path = path
        self.expected = expected


@dataclass(frozen=True)
class Identity:
    """Who we are: the key, and the file that keeps it."""

    key: SigningKey
    path: Path

    @property
    def peer_id(self) -> str:
        """The id by which peers and brokers know us."""
        return self.key.peer_id

    @property
    def public_key(self) -> bytes:
        """The 32 raw public bytes."""
        return self.key.public_key

    def sign(self, signed: bytes) -> bytes:
        """The 64-byte Ed25519 signature over `signed`."""
        return self.key.sign(signed)


def load_identity(state_dir: Path) -> Identity:
    """The identity of this folder, if it is the one that is remembered there.

    A file that other users can read is closed to them, with a warning.

    Raises:
        NoIdentityError: Nobody has made one yet.
        IdentityError: The key is lost, broken, or another one than remembered.
        ConfigError: The key is of another kind, or encrypted.
        StoreError: The file cannot be read.
    """
    identity = read_identity(state_dir)
    expected = _remembered(state_dir)
    if expected and expected != identity.peer_id:
        raise IdentityError(identity.path, expected=expected, found=f"the key is that of {identity.peer_id}")
    return identity


def first_identity(state_dir: Path) -> Identity:
    """As `load_identity`; in a folder that nobody has used yet, a new one is made. Raises what that raises."""
    make_if_new(state_dir)
    return load_identity(state_dir)


def make_if_new(state_dir: Path) -> None:
    """Make an identity in a folder that nobody has used yet; elsewhere change nothing. Raises `StoreError`."""
    path = state_dir / IDENTITY_FILE
    if os.path.lexists(path) or _was_used(state_dir):
        return
    make_state_dir(state_dir)
    if create_durably(path, _to_pem(SigningKey.generate()), mode=0o600):
        logger.info("made a new identity in %s", path)
    # Read back: had another process been faster, its key is the one that counts.
    _remember(state_dir, read_identity(state_dir).peer_id)


def new_identity(state_dir: Path, now_s: float) -> Identity:
    """Make another identity, whatever is there. The old key is kept beside it. Raises `StoreError`."""
    path = state_dir / IDENTITY_FILE
    make_state_dir(state_dir)
    if os.path.lexists(path):
        logger.warning("the key before was moved to %s", move_aside(path, now_s, word="before"))
    if os.path.lexists(state_dir / PEER_FILE):
        move_aside(state_dir / PEER_FILE, now_s, word="before")
    create_durably(path, _to_pem(SigningKey.generate()), mode=0o600)
    identity = read_identity(state_dir)
    _remember(state_dir, identity.peer_id)
    return identity


def read_identity(state_dir: Path) -> Identity:
    """The key of this folder, whoever it belongs to: as `load_identity`, and compared with nothing."""
    path = state_dir / IDENTITY_FILE
    try:
        with path.open("rb") as file:
            _close_to_others(path, file.fileno())
            pem = file.read(65_536)
    except FileNotFoundError:
        if _was_used(state_dir):
            raise IdentityError(path, expected=_remembered(state_dir), found="there is no key") from None
        raise NoIdentityError(
            f"{path}: this device has no identity yet; run `grapevine init` with the --config of this command"
        ) from None
    except IsADirectoryError:
        raise IdentityError(path, expected=_remembered(state_dir), found="a folder lies where the key was") from None
    except OSError as error:
        raise StoreError(f"{path}: cannot be read ({error.strerror}); run as the user that owns it") from None
    try:
        key = load_pem_private_key(pem, password=None)
    except TypeError:
        raise ConfigError(
            f"{path}: the key is encrypted; store it without a pass phrase, readable by its owner alone"
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        raise IdentityError(path, expected=_remembered(state_dir), found="the file holds no key") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(
            f"{path}: holds a {type(key).__name__}, not the Ed25519 key that an identity is; put the right one there, "
            "or make a new one: grapevine init --new-identity"
        )
    return Identity(SigningKey(key.private_bytes_raw()), path)


def confirm(identity: Identity, database_says: str) -> None:
    """Hold the key against all that remembers its peer id, and mend what was damaged.

    `database_says` may be empty. The key is believed if the file or the database confirms it, or if neither remembers
    anything: one of three may be damaged. Raises `IdentityError`.
    """
    file_says = _noted(identity.path.parent)
    if identity.peer_id not in (file_says, database_says) and (file_says or database_says):
        expected = database_says or file_says
        if file_says and database_says and file_says != database_says:
            expected = f"{file_says} (as {PEER_FILE} says) or {database_says} (as {DATABASE_FILE} says)"
        raise IdentityError(identity.path, expected=expected, found=f"the key is that of {identity.peer_id}")
    for says, where in ((file_says, PEER_FILE), (database_says, DATABASE_FILE)):
        if says and says != identity.peer_id:
            logger.warning("%s named the peer %s; it is %s, and that is put right", where, says, identity.peer_id)
    if file_says != identity.peer_id:
        _remember(identity.path.parent, identity.peer_id)


def _was_used(state_dir: Path) -> bool:
    """Whether the folder has belonged to a peer: then a key that is not there was lost."""
    if any(os.path.lexists(state_dir / name) for name in (PEER_FILE, DATABASE_FILE)):
        return True
    with suppress(OSError):
        return any((state_dir / MODELS_FOLDER).iterdir())
    return False


def _remembered(state_dir: Path) -> str:
    """Whose folder this is: as `identity.peer` says, or else the database; empty if nobody can tell."""
    return _noted(state_dir) or peer_of_copy(state_dir / DATABASE_FILE)


def _noted(state_dir: Path) -> str:
    """The peer id in `identity.peer`; empty if there is none that can be read."""
    with suppress(OSError):
        said = (state_dir / PEER_FILE).read_bytes()
        if _PEER_ID.fullmatch(said):
            return said.strip().decode("ascii")
    return ""


def _remember(state_dir: Path, peer_id: str) -> None:
    """Write `identity.peer`. A disk that takes nothing costs no start: the next one tries again."""
    path = state_dir / PEER_FILE

    def write(temporary: Path) -> None:
        temporary.write_text(f"{peer_id}\n", encoding="ascii")

    try:
        if path.is_dir():
            path.rmdir()
        replace_durably(path, write)
    except (StoreError, OSError) as error:
        logger.warning("%s: this device's peer id could not be written there: %s", path, error)


def _close_to_others(path: Path, descriptor: int) -> None:
    mode = os.fstat(descriptor).st_mode
    if not mode & (stat.S_IRWXG | stat.S_IRWXO):
        return
    try:
        os.fchmod(descriptor, 0o600)
    except OSError:
        raise ConfigError(
            f"{path}: other users can read this private key, and its permissions cannot be changed; run chmod 600 on it"
        ) from None
    logger.warning(
        "%s could be read by other users (mode %o) and was closed to them; if somebody may have copied it, "
        "be a new peer: grapevine init --new-identity",
        path,
        stat.S_IMODE(mode),
    )


def _to_pem(key: SigningKey) -> bytes:
    private = Ed25519PrivateKey.from_private_bytes(key.seed)
    return private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
