"""What an agent's core is told once: who it is, what its owner allows, what its device can do."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

if TYPE_CHECKING:
    from grapevine_proto.location import Location
    from grapevine_proto.manifest import ManifestHead, TaskManifest

Consent: TypeAlias = Literal["auto", "ask", "never"]
GiveModels: TypeAlias = Literal["members", "anyone", "nobody"]
Role: TypeAlias = Literal["member", "server", "observer"]
Veto: TypeAlias = Literal["trusted", "roles", "none"]
Obeys: TypeAlias = Literal["pause", "slow", "train"]  # what becomes of training


AUTO: Final = "auto"  # an encoding: the smallest that a task allows and a vector can bear
MOST_ASLEEP_S: Final = 86_400.0  # of what a peer says that it will sleep


@dataclass(frozen=True, kw_only=True)
class ReviewPolicy:
    """When a task counts as approved: enough trusted keys say yes, in the roles that are asked for, and none says no.

    `roles` name reviewers by what they are good at; whoever has a role is trusted.
    """

    approvals: int = 2
    trusted: frozenset[str] = frozenset()
    roles: Mapping[str, frozenset[str]] = field(default_factory=dict)
    need: Mapping[str, int] = field(default_factory=dict)  # role: approvals by reviewers who have it
    veto: Veto = "trusted"  # whose single rejection stops a task: anybody's trusted, some roles', nobody's
    veto_roles: frozenset[str] = frozenset()  # with "roles": which; empty: all of them
    rejections: int = 2  # with "roles" and "none": so many trusted rejections stop it all the same
    max_valid_days: float = 7.0  # an approval counts for so long after its date, whatever it says
    publishers: frozenset[str] = frozenset()  # empty: anybody may publish
    deny_publishers: frozenset[str] = frozenset()
    approvals_of: Mapping[str, int] = field(default_factory=dict)  # publisher: instead of `approvals`; 0: no reviews

    @property
    def reviewers(self) -> frozenset[str]:
        """Everybody whose verdicts count."""
        return self.trusted.union(*self.roles.values())

    def roles_of(self, reviewer: str) -> tuple[str, ...]:
        """The roles of a reviewer, sorted."""
        return tuple(sorted(role for role, reviewers in self.roles.items() if reviewer in reviewers))


@dataclass(frozen=True, kw_only=True)
class ConsentRule:
    """What the owner answers for tasks of this kind of data, name (a shell pattern) and publisher; "": any."""

    answer: Consent
    kind: str = ""
    name: str = ""
    publisher: str = ""


@dataclass(frozen=True, kw_only=True)
class Scope:
    """With which members models are exchanged: all that is set must hold. See `overlay/scope`."""

    site: str = ""  # those that say that they are there; empty: any
    within_km: float = math.inf
    within_ms: float = math.inf  # a message and its answer
    brokers: frozenset[str] = frozenset()  # those that are at one of them; none: any


@dataclass(frozen=True, kw_only=True)
class DeviceLimits:
    """What this device can and may do, from its firmware profile and its owner."""

    profile: str = "generic"
    cores: int = 1
    memory_mb: int = 1024
    max_parameters: int = 10_000_000
    max_batch: int = 256
    cannot_train: str = ""  # why this device trains nothing; empty: it does
    disk_mb: int = 2_000  # of the whole state folder
    watts_idle: float = 0.0
    watts_training: float = 0.0


@dataclass(frozen=True, kw_only=True)
class EngineRules:
    """Which containers of applications may run here, by the owner's word, and what they may take together."""

    images: frozenset[str] = frozenset()  # by digest
    ports: frozenset[int] = frozenset()
    memory_mb: int = 256
    cpu_thousandths: int = 1_000
    most: int = 4


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What a task takes of a device for as long as it is joined."""

    memory_mb: int = 0  # of our trainer process, none for a trainer of the owner's; and of what members say
    cores: int = 0
    disk_mb: int = 0  # of its model in the state folder, with the one before it and the next one


def _declared(_task: str, manifest: ManifestHead) -> Needs:
    return Needs(memory_mb=manifest.requirements.memory_mb, cores=manifest.requirements.cores)


def _matches_nothing(_task: str, manifest: ManifestHead) -> str:
    return f"no data source of kind {manifest.data.kind!r} is configured"


def _finds_nothing(_task: str, _manifest: TaskManifest) -> str:
    return ""


@dataclass(frozen=True, kw_only=True)
class SleepPlan:
    """When this device is connected: for `online_s` from each multiple of `every_s` since the epoch on."""

    online_s: float
    every_s: float


@dataclass(frozen=True, kw_only=True)
class GovernorLimits:
    """When this device trains, and what it may use of a day: see `core/governor`. 0 and the defaults are no limit."""

    slow_above_c: float = 0.0
    pause_above_c: float = 0.0
    on_battery: Obeys = "train"
    battery_above_percent: float = 0.0  # on battery; below, it pauses
    throttling: Obeys = "train"  # where the board slows itself down: heat, or a weak supply
    memory_pressure_percent: float = 0.0  # of the time, somebody waits for memory
    free_disk_mb: int = 0  # where the state folder lies
    quiet_hours: tuple[tuple[int, int], ...] = ()  # from, until; minutes since local midnight; over it if until < from
    upload_bytes_per_day: int = 0
    joules_per_day: float = 0.0  # drawn while it trains
    duty_cycle: float = 1.0  # the share of the time in which it may train that it does


@dataclass(frozen=True, kw_only=True)
class CoreSettings:
    """All of it. Of the functions `match_data` and `check_task` say "" for yes, anything else is the reason for no."""

    peer: str
    name: str = ""
    role: Role = "member"
    consent: Consent = "auto"
    consent_rules: tuple[ConsentRule, ...] = ()  # the first that fits answers instead of `consent`
    review: ReviewPolicy = ReviewPolicy()
    renew_reviews: bool = False  # this peer's own verdicts are signed again before they run out
    limits: DeviceLimits = DeviceLimits()
    give_models: GiveModels = "members"  # who is given a released model that it asks for; members: and the publisher
    trusted_servers: frozenset[str] = frozenset()
    brokers: tuple[str, ...] = ()
    site: str = ""  # where this peer is
    location: Location | None = None  # as closely as peers are told
    scope: Scope = Scope()  # with whom of them models are exchanged
    is_gateway: bool = False  # between them: see `overlay/gateway`
    data_kinds: tuple[str, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()  # the owner's, sorted: what applications ask for
    traits: tuple[str, ...] = ()  # what this device has: the same
    engine: EngineRules | None = None  # None: no containers run here
    neighbours: frozenset[str] | None = None  # the only peers whose presence is listened to; None: everybody's
    max_share: float = 0.5  # of a single peer in a merge: one voice does not outvote all the others
    max_pending: int = 64  # updates gathered between two merges
    judge_updates: bool = True  # each is held against what the others send before it is merged: see `learning/guard`
    shortest_round_s: float = 0.0  # a round is no shorter, whatever its task says
    upload_bytes_per_s: float = math.inf  # of a task's updates, on average: what more a task asks for is not sent
    encoding: str = "auto"  # of vectors that are sent: "auto", the smallest that a task allows, or a name
    heartbeat_s: float = 10.0
    sleep: SleepPlan | None = None  # None: connected all the time
    governor: GovernorLimits = GovernorLimits()
    server_heartbeat_s: float = 1.0
    server_group: str = ""  # as a server it shares the members with all of this group; empty: it has every member
    evaluate_every_rounds: int = 1
    save_every_s: float = 5.0  # no task's model is saved more often
    save_bytes_per_day: float = math.inf  # of all tasks' models: where they are large, they are saved more seldom
    look_every_s: float = 10.0  # at the owner's data, which come and go without a word
    match_data: Callable[[str, ManifestHead], str] = _matches_nothing  # of a task's id and manifest
    check_task: Callable[[str, TaskManifest], str] = _finds_nothing
    needs: Callable[[str, ManifestHead], Needs] = _declared  # asked after the other two

    @property
    def trusted_authors(self) -> frozenset[str]:
        """Whose records are never turned away: this peer's, and those of whomever the owner trusts with anything."""
        review = self.review
        return frozenset(
            (self.peer, *review.reviewers, *review.publishers, *review.approvals_of, *self.trusted_servers)
        )
