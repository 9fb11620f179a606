"""`grapevine init`: a configuration to start from, and this device's identity."""

from __future__ import annotations

import json
import os
import socket
import textwrap
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from grapevine_agent.cli.output import ConfigOption, JsonOption, answer, configuration, errors, escaped, shown
from grapevine_agent.printable import printable
from grapevine_agent.units import unit_name_of
from grapevine_proto.errors import ConfigError, StoreError

if TYPE_CHECKING:
    from grapevine_agent.config.board import Proposal
    from grapevine_agent.identity import Identity


def register(app: typer.Typer) -> None:
    """Attach this command."""
    app.command("init")(init)


def init(
    config: ConfigOption = None,
    state_dir: Annotated[
        Path | None,
        typer.Option(help="Where key, records and models are to lie; it is written into the new file."),
    ] = None,
    new_peer: Annotated[
        bool,
        typer.Option(
            "--new-identity",
            help="Be another peer from now on: make a new key, and keep the old one beside it. Reviews, trust and "
            "records of the old one are void.",
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Write a configuration file to start from, and make this device's identity. What is there already stays.

    It looks at the board (device tree, DMI, processor, memory, system), proposes a firmware profile, and says why,
    and what would keep this device from training. `grapevine profile` shows all profiles.

    Without --config it is the file that GRAPEVINE_CONFIG names, or grapevine.toml in this folder. With --new-identity
    it is the configuration in force, as for every other command.
    """
    from grapevine_agent.cli.board_words import board_json, board_words, proposal_words
    from grapevine_agent.config.board import propose, read_board
    from grapevine_agent.identity import IDENTITY_FILE, first_identity, load_identity

    path = _in_force(config) if new_peer else config or Path(os.environ.get("GRAPEVINE_CONFIG") or "grapevine.toml")
    wrote = not path.exists()
    board = read_board()
    proposal = propose(board)
    if wrote:
        write_config(path, proposal, state_dir)
    loaded = configuration(path)
    _confirm_state_dir(path, loaded.agent.state_dir, state_dir)
    state_dir = loaded.agent.state_dir
    if not (wrote or new_peer) and (state_dir / IDENTITY_FILE).exists():
        raise ConfigError(f"{path} is there already, and so is the key of {load_identity(state_dir).peer_id}: edit it")
    had_peer = (state_dir / IDENTITY_FILE).exists()
    peer = (_another_identity(state_dir) if new_peer else first_identity(state_dir)).peer_id
    did = f"wrote {path}" if wrote else f"{path} stays as it is"
    if had_peer and not new_peer:
        did += f"; its state folder {state_dir} has a key already: for another device set agent.state_dir first"
    answer(
        {
            "config": str(path),
            "peer": peer,
            "state_dir": str(state_dir),
            "profile": loaded.agent.profile,
            **board_json(board, proposal),
        },
        as_json=as_json,
        text=f"{board_words(board)}\n{proposal_words(proposal, loaded.agent.profile)}\n"
        f"{escaped(did)}; this device is peer [bold]{peer}[/]\n"
        f"edit the file, then: {escaped(_to_begin(path))}",
    )
    for warning in () if as_json else proposal.warnings:
        errors().print(f"[yellow]warning:[/] {shown(warning)}")


def _to_begin(path: Path) -> str:
    """The command that starts what runs this configuration: a unit, where there is one for it."""
    if unit := unit_name_of(config=path):
        return f"sudo systemctl enable --now {unit}"
    return f"grapevine {'server' if path.stem == 'server' else 'agent'} run --config {path}"


def _in_force(config: Path | None) -> Path:
    """Whose identity is to be another one: a device that has a configuration. Raises `ConfigError`."""
    from grapevine_agent.config.agent_toml import find_config

    path = find_config(config, os.environ)
    if path is None or not os.path.lexists(path):
        where = f"{path} is not there" if path else "there is no configuration in force"
        raise ConfigError(f"{where}, so no identity was changed: name the device's configuration with --config")
    return path


def write_config(path: Path, proposal: Proposal, state_dir: Path | None) -> None:
    """Write a configuration to start from. Raises `StoreError`."""
    from grapevine_agent.config.agent_toml import default_state_dir
    from grapevine_agent.config.example import EXAMPLE_CONFIG

    lines = textwrap.wrap(printable(f"Proposed by `grapevine init`: {proposal.why}."), 110)
    why = "".join(f"# {line}\n" for line in lines)
    text = EXAMPLE_CONFIG.replace('#profile = "generic"', f'{why}profile = "{proposal.profile}"')
    if state_dir is not None:
        example = next(line for line in EXAMPLE_CONFIG.splitlines() if line.startswith("#state_dir = "))
        text = text.replace(example, f"state_dir = {json.dumps(str(state_dir.absolute()))}", 1)
        if state_dir.absolute() != default_state_dir(os.environ, is_root=os.geteuid() == 0):
            # Another one on this machine, perhaps: of two peers with the machine's name nobody knows which is which.
            name = json.dumps(f"{socket.gethostname()}-{state_dir.absolute().name.removeprefix('grapevine-')}"[:64])
            text = text.replace('\n#name = "kitchen"', f"\nname = {name}", 1)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    except OSError as error:
        raise StoreError(f"{path}: cannot be written ({error.strerror}); check free space and permissions") from None


def _confirm_state_dir(path: Path, found: Path, wanted: Path | None) -> None:
    """Before a key is made: it must lie where the owner said. Raises ConfigError."""
    if wanted is not None and wanted.absolute() != found.absolute():
        raise ConfigError(
            f"{path} is there already, or the environment has its say, and the state folder is {found}, not {wanted}: "
            f'write state_dir = "{wanted.absolute()}" into its [agent], or unset GRAPEVINE_STATE_DIR'
        )


def _another_identity(state_dir: Path) -> Identity:
    """A new key, known to the folder; no agent may run there meanwhile."""
    from grapevine_agent.identity import new_identity
    from grapevine_agent.store.store import Store

    with Store.open(state_dir) as store:
        identity = new_identity(state_dir, time.time())
        store.remember_peer(identity.peer_id)
    return identity
