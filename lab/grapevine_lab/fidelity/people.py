"""Who takes part in the real run: a folder, a key and a configuration file for each process."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from grapevine_agent.control.protocol import SOCKET_FILE
from grapevine_agent.core.settings import CoreSettings
from grapevine_agent.data.preparing import Samples
from grapevine_agent.identity import first_identity
from grapevine_lab.fidelity.shares import write_share
from grapevine_lab.simulator.brokers import Places
from grapevine_proto.manifest import DataContract

THREADS = 1  # of each trainer: all of them share this machine's few cores
SHARE = "share.npz"


@dataclass(frozen=True, kw_only=True)
class Person:
    """One process: its configuration file, and the socket that it answers on."""

    name: str
    peer_id: str
    config: Path

    @property
    def socket(self) -> Path:
        """Where its service listens for commands."""
        return self.config.parent / "state" / SOCKET_FILE


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is configured as a simulated node has it."""

    root: str
    heartbeat_s: float
    profile: str
    approvals: int
    save_every_s: float
    renew: bool = False

    @classmethod
    def of(cls, settings: CoreSettings, root: str) -> Settings:
        """Those of a simulated node."""
        return cls(
            root=root,
            heartbeat_s=settings.heartbeat_s,
            profile=settings.limits.profile,
            approvals=settings.review.approvals,
            save_every_s=settings.save_every_s,
            renew=settings.renew_reviews,
        )


@dataclass(frozen=True, kw_only=True)
class People:
    """Everybody. `agents` are the scenario's nodes, in their order."""

    agents: tuple[Person, ...]
    engineer: Person
    reviewers: tuple[Person, ...]

    @property
    def all(self) -> tuple[Person, ...]:
        """Those who publish and review first: they are to be there when the agents come."""
        return (self.engineer, *self.reviewers, *self.agents)


def make_people(
    folder: Path,
    *,
    urls: Sequence[str],
    places: Places = (),
    gateways: Collection[int] = (),
    root: str,
    settings: CoreSettings,
    shares: Sequence[Samples],
    contract: DataContract,
    shortest_round_s: float | None = None,
) -> People:
    """Make keys, data files and configurations below `folder`: an agent for each share.

    `urls` are of all brokers. `places` says at which of them each agent is, none: all at the first; the others are at
    all of them. `settings` are those of a simulated node: what can be configured is configured alike.
    `shortest_round_s` is what agents allow where that is not what they allow by themselves.
    """
    everywhere = tuple(range(len(urls)))
    written = Settings.of(settings, root)

    def person(
        name: str,
        consent: str,
        trusted: Sequence[str] = (),
        share: Samples | None = None,
        at: Sequence[int] = everywhere,
        gateway: bool = False,
    ) -> Person:
        place = folder / name
        peer_id = first_identity(place / "state").peer_id
        if share is not None:
            write_share(place / SHARE, share, contract)
        config = write_config(
            place,
            name,
            written,
            consent=consent,
            urls=[urls[k] for k in at],
            gateway=gateway,
            trusted=trusted,
            data_kind=contract.kind if share is not None else "",
            shortest_round_s=shortest_round_s,
        )
        return Person(name=name, peer_id=peer_id, config=config)

    reviewers = tuple(person(f"reviewer-{k}", "never") for k in range(settings.review.approvals))
    trusted = [reviewer.peer_id for reviewer in reviewers]
    return People(
        agents=tuple(
            person(f"agent-{k}", "auto", trusted, share, places[k] if places else (0,), k in gateways)
            for k, share in enumerate(shares)
        ),
        engineer=person("engineer", "never"),
        reviewers=reviewers,
    )


def write_config(
    place: Path,
    name: str,
    settings: Settings,
    *,
    consent: str,
    urls: Sequence[str],
    gateway: bool = False,
    trusted: Sequence[str] = (),
    data_kind: str = "",
    governor: Mapping[str, object] | None = None,
    shortest_round_s: float | None = None,
) -> Path:
    """Write the `agent.toml` of one process into its folder `place`, beside the samples if it has a kind of them."""
    joined: dict[str, object] = {"connect": "all", "gateway": gateway} if len(urls) > 1 else {}
    review: dict[str, object] = {"approvals": settings.approvals, "trusted": list(trusted)}
    limits: dict[str, object] = {"threads": THREADS, "save_every_s": settings.save_every_s}
    limits |= {} if shortest_round_s is None else {"round_interval_s": shortest_round_s}
    tables: list[tuple[str, Mapping[str, object]]] = [
        ("[agent]", {"name": name, "state_dir": "state", "profile": settings.profile, "consent": consent}),
        ("[mqtt]", {"brokers": list(urls), "root": settings.root, "heartbeat_s": settings.heartbeat_s} | joined),
        ("[review]", review | ({"renew": True} if settings.renew else {})),
        ("[limits]", limits),
    ]
    if governor:
        tables.append(("[governor]", governor))
    if data_kind:
        tables.append(("[[data]]", {"kind": data_kind, "path": SHARE}))
    config = place / "agent.toml"
    # JSON's strings, numbers and lists are TOML's as well.
    lines = [line for title, keys in tables for line in ("", title, *(f"{k} = {json.dumps(keys[k])}" for k in keys))]
    config.write_text("\n".join([*lines, ""]), encoding="utf-8")
    return config
