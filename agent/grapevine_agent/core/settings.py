"""What an agent's core is told once: who it is, what its owner allows, what its device can do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from grapevine_proto.manifest import DataContract, TaskManifest

Consent: TypeAlias = Literal["auto", "ask", "never"]
GiveModels: TypeAlias = Literal["members", "anyone", "nobody"]
Role: TypeAlias = Literal["member", "server", "observer"]


@dataclass(frozen=True, kw_only=True)
class ReviewPolicy:
    """When a task counts as approved: `approvals` trusted keys say yes and no trusted key says no."""

    approvals: int = 2
    trusted: frozenset[str] = frozenset()
    publishers: frozenset[str] = frozenset()  # empty: anybody may publish


@dataclass(frozen=True, kw_only=True)
class DeviceLimits:
    """What this device can and may do, from its firmware profile and its owner."""

    profile: str = "generic"
    cores: int = 1
    memory_mb: int = 1024
    max_parameters: int = 10_000_000
    max_batch: int = 256
    cannot_train: str = ""  # why this device trains nothing; empty: it does
    watts_idle: float = 0.0
    watts_training: float = 0.0


def _matches_nothing(contract: DataContract) -> str:
    return f"no data source of kind {contract.kind!r} is configured"


def _finds_nothing(_manifest: TaskManifest) -> str:
    return ""


@dataclass(frozen=True, kw_only=True)
class CoreSettings:
    """All of it. The two functions are pure; "" means yes, anything else is the reason for no."""

    peer: str
    name: str = ""
    role: Role = "member"
    consent: Consent = "auto"
    review: ReviewPolicy = ReviewPolicy()
    limits: DeviceLimits = DeviceLimits()
    give_models: GiveModels = "members"  # who is given a released model that it asks for; members: and the publisher
    trusted_servers: frozenset[str] = frozenset()
    brokers: tuple[str, ...] = ()
    data_kinds: tuple[str, ...] = ()
    neighbours: frozenset[str] | None = None  # the only peers whose presence is listened to; None: everybody's
    max_share: float = 0.5  # of a single peer in a merge: one voice does not outvote all the others
    max_pending: int = 64  # updates gathered between two merges
    heartbeat_s: float = 10.0
    server_heartbeat_s: float = 1.0
    evaluate_every_rounds: int = 1
    save_every_s: float = 5.0
    match_data: Callable[[DataContract], str] = _matches_nothing
    check_task: Callable[[TaskManifest], str] = _finds_nothing
