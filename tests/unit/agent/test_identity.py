import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from grapevine_agent.config.agent_toml import load_config
from grapevine_agent.identity import (
    IDENTITY_FILE,
    PEER_FILE,
    IdentityError,
    NoIdentityError,
    first_identity,
    load_identity,
    make_if_new,
    new_identity,
)
from grapevine_agent.service.assembly import assembled
from grapevine_agent.store.store import Store
from grapevine_proto.errors import ConfigError, StoreError, WireError
from grapevine_proto.signing import SigningKey, peer_id_of, verify


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_an_identity_is_made_once_and_kept(tmp_path: Path) -> None:
    first = first_identity(tmp_path / "state")
    again = first_identity(tmp_path / "state")
    assert again.peer_id == first.peer_id == peer_id_of(first.public_key)
    assert again.public_key == first.public_key
    assert len(first.public_key) == 32
    assert sorted(entry.name for entry in (tmp_path / "state").iterdir()) == [PEER_FILE, IDENTITY_FILE]
    assert (tmp_path / "state" / PEER_FILE).read_text() == f"{first.peer_id}\n"


def test_only_the_owner_can_read_it(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        identity = first_identity(tmp_path / "state")
    finally:
        os.umask(old)
    assert mode_of(identity.path) == 0o600
    assert mode_of(tmp_path / "state") == 0o700


def test_what_it_signs_verifies_with_its_public_key_alone(tmp_path: Path) -> None:
    identity = first_identity(tmp_path)
    signature = identity.sign(b"hello")
    verify(identity.public_key, signature, b"hello")
    with pytest.raises(WireError):
        verify(identity.public_key, signature, b"hullo")


def test_the_file_is_an_ordinary_key(tmp_path: Path) -> None:
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "identity.pem").write_bytes(pem)
    (tmp_path / "identity.pem").chmod(0o600)
    assert load_identity(tmp_path).peer_id == SigningKey(key.private_bytes_raw()).peer_id
    assert (tmp_path / "identity.pem").read_bytes() == pem


def test_an_open_file_is_closed_to_others_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    peer = first_identity(tmp_path).peer_id
    (tmp_path / "identity.pem").chmod(0o644)
    assert load_identity(tmp_path).peer_id == peer
    assert mode_of(tmp_path / "identity.pem") == 0o600
    assert "mode 644" in caplog.text


def test_a_key_of_another_kind_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "identity.pem"
    encrypted = Ed25519PrivateKey.generate().private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")
    )
    elliptic = generate_private_key(SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for content, says in ((encrypted, "encrypted"), (elliptic, "not the Ed25519 key")):
        path.write_bytes(content)
        path.chmod(0o600)
        with pytest.raises(ConfigError, match=says):
            load_identity(tmp_path)
        assert path.read_bytes() == content
        assert len(list(tmp_path.iterdir())) == 1


def test_nothing_is_made_by_who_only_reads(tmp_path: Path) -> None:
    with pytest.raises(NoIdentityError, match="no identity yet; run `grapevine init`"):
        load_identity(tmp_path / "state")
    assert not (tmp_path / "state").exists()


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"GRAPEVINE_STATE_DIR|cannot be read"):
        first_identity(tmp_path / "file")


# --- one flipped bit, a lost key, another's -------------------------------------------------------


def configured(folder: Path) -> Path:
    path = folder / "agent.toml"
    path.write_text('[agent]\nstate_dir = "state"\n[mqtt]\nbrokers = ["mqtt://127.0.0.1:1"]\n')
    return path


async def peer_of_service(folder: Path, *, guest: bool = False) -> str:
    """Start an agent on the folder, or a guest for one command."""
    with assembled(load_config(configured(folder), {}), guest=guest) as service:
        return service.identity.peer_id


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place // 8] ^= 1 << place % 8
    path.write_bytes(content)


async def test_no_flipped_bit_of_the_key_makes_another_peer(tmp_path: Path) -> None:
    state = tmp_path / "state"
    peer = await peer_of_service(tmp_path)
    pem = (state / IDENTITY_FILE).read_bytes()
    found = []
    for place in range(0, 8 * len(pem), 7):
        flip(state / IDENTITY_FILE, place)
        for load in (load_identity, first_identity):
            try:
                found.append(load(state).peer_id)
            except (IdentityError, ConfigError) as error:
                found.append(str(error))
        (state / IDENTITY_FILE).write_bytes(pem)
    told = {text for text in found if text != peer}
    assert all(f"belongs to peer {peer}" in text or "not the Ed25519 key" in text for text in told)
    # Keys as good as the first, which only the remembered id tells from it.
    assert sum("the key is that of" in text for text in told) > 20


async def test_another_key_is_refused_by_service_and_command_with_both_ids(tmp_path: Path) -> None:
    state = tmp_path / "state"
    peer = await peer_of_service(tmp_path)
    other = first_identity(tmp_path / "elsewhere")
    for forgotten in ((), (PEER_FILE,), ("grapevine.db",)):
        (state / IDENTITY_FILE).write_bytes(other.path.read_bytes())
        kept = {name: (state / name).read_bytes() for name in forgotten}
        for name in forgotten:  # either of the two that remember is enough
            (state / name).unlink()
        for guest in (False, True):
            with pytest.raises(IdentityError, match=f"belongs to peer {peer}, .* the key is that of {other.peer_id}"):
                await peer_of_service(tmp_path, guest=guest)
        with pytest.raises(IdentityError, match="grapevine init --new-identity"):
            load_identity(state)
        for name, content in kept.items():
            (state / name).write_bytes(content)
    assert not list(state.glob("identity.pem.*"))


@pytest.mark.parametrize("harm", ["lost", "garbage", "empty", "folder", "cut"])
async def test_without_its_key_an_old_folder_stays_whose_it_is(tmp_path: Path, harm: str) -> None:
    state, path = tmp_path / "state", tmp_path / "state" / IDENTITY_FILE
    peer = await peer_of_service(tmp_path)
    pem = path.read_bytes()
    path.unlink()
    match harm:
        case "folder":
            path.mkdir()
        case "garbage" | "empty" | "cut":
            path.write_bytes({"garbage": b"garbage", "empty": b"", "cut": pem[:60]}[harm])
    for remembers in (PEER_FILE, "grapevine.db"):
        kept = (state / remembers).read_bytes()
        (state / remembers).unlink()
        for guest in (False, True):
            with pytest.raises(IdentityError, match=f"belongs to peer {peer}"):
                await peer_of_service(tmp_path, guest=guest)
        (state / remembers).write_bytes(kept)
    assert path.exists() == (harm != "lost")
    path.rmdir() if harm == "folder" else path.unlink(missing_ok=True)
    path.write_bytes(pem)  # from the backup
    assert await peer_of_service(tmp_path) == peer


async def test_a_folder_of_before_ids_were_remembered_tells_by_what_it_wrote(tmp_path: Path) -> None:
    state = tmp_path / "state"
    peer = await peer_of_service(tmp_path)
    with Store.open(state) as store:
        store.next_sequence(f"peer/{peer}/announcement", 5)
        store.set_setting("peer", "")
    (state / PEER_FILE).unlink()
    pem = (state / IDENTITY_FILE).read_bytes()
    other = first_identity(tmp_path / "elsewhere").path.read_bytes()
    (state / IDENTITY_FILE).write_bytes(other)
    with pytest.raises(IdentityError, match=f"belongs to peer {peer}"):
        await peer_of_service(tmp_path)
    (state / IDENTITY_FILE).write_bytes(pem)
    assert await peer_of_service(tmp_path) == peer
    assert (state / PEER_FILE).read_text().strip() == peer


@pytest.mark.parametrize("content", [b"", b"garbage", b"\xff" * 30, b"a" * 20 + b"\n", b"x" * 10_000])
async def test_a_damaged_note_of_the_id_is_put_right_by_key_and_database(tmp_path: Path, content: bytes) -> None:
    state = tmp_path / "state"
    peer = await peer_of_service(tmp_path)
    (state / PEER_FILE).write_bytes(content)
    assert await peer_of_service(tmp_path) == peer
    assert (state / PEER_FILE).read_text() == f"{peer}\n"


async def test_a_database_that_names_another_is_put_right_by_key_and_note(tmp_path: Path) -> None:
    peer = await peer_of_service(tmp_path)
    with Store.open(tmp_path / "state") as store:
        store.remember_peer("a" * 20)
    assert await peer_of_service(tmp_path) == peer
    with Store.open(tmp_path / "state") as store:
        assert store.remembered_peer() == peer


async def test_a_command_makes_no_identity_and_a_first_start_does(tmp_path: Path) -> None:
    with pytest.raises(NoIdentityError):
        await peer_of_service(tmp_path, guest=True)
    assert not (tmp_path / "state").exists()
    assert await peer_of_service(tmp_path) == await peer_of_service(tmp_path, guest=True)


def test_a_new_identity_keeps_the_old_key_beside_it(tmp_path: Path) -> None:
    old = first_identity(tmp_path)
    pem = old.path.read_bytes()
    new = new_identity(tmp_path, 1000)
    assert new.peer_id != old.peer_id
    assert first_identity(tmp_path).peer_id == new.peer_id
    assert (tmp_path / "identity.pem.before-1000").read_bytes() == pem
    assert mode_of(tmp_path / "identity.pem.before-1000") == 0o600


def test_two_first_starts_at_once_agree_on_one_identity(tmp_path: Path) -> None:
    program = "import sys, pathlib\nfrom grapevine_agent.identity import first_identity\nsys.stdin.readline()\n"
    program += "print(first_identity(pathlib.Path(sys.argv[1])).peer_id)"
    starts = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    for start in starts:
        assert start.stdin is not None
        start.stdin.write("go\n")
        start.stdin.flush()
    peers = {start.communicate(timeout=60)[0] for start in starts}
    assert [start.returncode for start in starts] == [0, 0, 0]
    assert len(peers) == 1
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [PEER_FILE, IDENTITY_FILE]


def test_a_folder_in_which_models_lie_was_somebodys_and_no_new_peer_is_made_there(tmp_path: Path) -> None:
    (tmp_path / "state" / "models").mkdir(parents=True)
    assert first_identity(tmp_path / "state").peer_id  # an empty folder of models is nobody's
    (tmp_path / "again" / "models" / "t").mkdir(parents=True)
    make_if_new(tmp_path / "again")
    with pytest.raises(IdentityError, match="this folder was used before, and there is no key"):
        load_identity(tmp_path / "again")
