"""Who takes part: an identity and a configuration file for each process, made before any of them starts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from grapevine_agent.control.protocol import SOCKET_FILE
from grapevine_agent.identity import first_identity
from grapevine_agent.net.urls import BrokerUrl
from grapevine_lab.demo.samples import Share

HEARTBEAT_S = 2.0
NUM_REVIEWERS = 2
DATA_KIND = "digits-8x8"


@dataclass(frozen=True, kw_only=True)
class Actor:
    """One peer: `config` is its configuration file, and `written` what is in it, without a login."""

    name: str
    peer_id: str
    config: Path
    state_dir: Path
    share: Share | None = None
    written: str = ""

    @property
    def socket(self) -> Path:
        """Where its service listens for commands."""
        return self.state_dir / SOCKET_FILE


@dataclass(frozen=True, kw_only=True)
class Cast:
    """Everybody. All of them have identities; not all of them are started at once."""

    agents: tuple[Actor, ...]
    engineer: Actor
    reviewers: tuple[Actor, ...]
    server: Actor

    def name_of(self, peer_id: str) -> str:
        """How an onlooker calls a peer; its id if it is none of ours."""
        everybody = (*self.agents, self.engineer, *self.reviewers, self.server)
        return next((actor.name for actor in everybody if actor.peer_id == peer_id), peer_id)


def make_cast(folder: Path, *, broker: BrokerUrl, root: str, shares: Sequence[Share]) -> Cast:
    """Make keys and write configurations below `folder`: one agent for each share."""
    trusted = [_peer_id(folder, name) for name in reviewer_names()]

    def actor(name: str, consent: str, share: Share | None = None) -> Actor:
        place = folder / _folder_name(name)
        config = place / "agent.toml"
        peer_id = _peer_id(folder, name)

        def configured(at: BrokerUrl) -> str:
            return _configuration(name, consent, share, broker=at, root=root, trusted=trusted)

        config.write_text(configured(broker), encoding="utf-8")
        written = configured(broker.without_credentials())
        return Actor(name=name, peer_id=peer_id, config=config, state_dir=place / "state", share=share, written=written)

    return Cast(
        agents=tuple(actor(f"agent {k}", "auto", share) for k, share in enumerate(shares)),
        engineer=actor("engineer", "never"),
        reviewers=tuple(actor(name, "never") for name in reviewer_names()),
        server=actor("server", "auto"),
    )


def reviewer_names() -> list[str]:
    """What the reviewers are called."""
    return [f"reviewer {i + 1}" for i in range(NUM_REVIEWERS)]


def _folder_name(name: str) -> str:
    return name.replace(" ", "-")


def _peer_id(folder: Path, name: str) -> str:
    return first_identity(folder / _folder_name(name) / "state").peer_id


def _configuration(
    name: str, consent: str, share: Share | None, *, broker: BrokerUrl, root: str, trusted: Sequence[str]
) -> str:
    """TOML. JSON's strings, numbers and lists are TOML's as well."""
    sections: list[tuple[str, dict[str, object]]] = [
        ("[agent]", {"name": name, "state_dir": "state", "profile": "generic", "consent": consent}),
        (
            "[mqtt]",
            {
                "brokers": [str(broker.without_credentials())],
                "username": broker.username,
                "root": root,
                "heartbeat_s": HEARTBEAT_S,
            },
        ),
        ("[review]", {"approvals": NUM_REVIEWERS, "trusted": list(trusted)}),
        # All of them share this machine's few cores.
        ("[limits]", {"threads": 1}),
    ]
    if share is not None:
        sections.append(("[[data]]", {"kind": DATA_KIND, "path": str(share.path), "name": "digits"}))
    lines = [
        "\n".join([title, *(f"{key} = {json.dumps(value)}" for key, value in entries.items()), ""])
        for title, entries in sections
    ]
    return "\n".join(lines)
