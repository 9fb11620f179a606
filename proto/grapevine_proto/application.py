"""What is to run where, as frozen dataclasses: an application, its components, and which agents qualify for each.

Made of an engineer's YAML by `grapevine_agent.intent`, and of the bytes that travel by `application_codec`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal, TypeAlias

Operator: TypeAlias = Literal["In", "NotIn", "Exists", "DoesNotExist"]  # as Kubernetes writes them

SHORT: Final = 12  # hexadecimal digits that stand for an author and a name, where an announcement names a component
# Where every agent says what it is; an owner's labels have other keys.
PEER, SITE, PROFILE = "peer", "site", "profile"
RESERVED: Final = (PEER, SITE, PROFILE)
MEMORY_MB, CPU_THOUSANDTHS = 128, 500  # of a container that says nothing of it
DAY_MINUTES: Final = 24 * 60
DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelTest:
    """Something that holds, or does not, for an agent's labels."""

    key: str
    operator: Operator
    values: tuple[str, ...] = ()


Term: TypeAlias = tuple[LabelTest, ...]  # all of them must hold


@dataclass(frozen=True, kw_only=True, slots=True)
class Preference:
    """Agents for which the term holds come first, by the sum of such weights (1 to 100)."""

    weight: int
    term: Term


@dataclass(frozen=True, kw_only=True, slots=True)
class Where:
    """Which agents qualify. All of it must hold; of `terms` one at least, where there are any."""

    traits: tuple[str, ...] = ()
    data_kinds: tuple[str, ...] = ()
    cores: int = 0
    memory_mb: int = 0
    terms: tuple[Term, ...] = ()
    preferred: tuple[Preference, ...] = ()
    apart_by: str = ""  # no two replicas where this label has the same value


@dataclass(frozen=True, kw_only=True, slots=True)
class Hours:
    """When something is active: minutes after midnight, and days of the week (0 is Monday), of a place's clock."""

    utc_offset_minutes: int = 0
    spans: tuple[tuple[int, int], ...] = ()  # begin and end; none: the whole day
    days: tuple[int, ...] = ()  # none: every day


@dataclass(frozen=True, kw_only=True, slots=True)
class LearningTask:
    """To take part in a published task, by its id; and what must be true of it."""

    task: str
    strategy: str = ""
    server: bool = False
    servers: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Container:
    """To run an image, which is named by its digest. `cpu_thousandths` of a core."""

    image: str
    command: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    memory_mb: int = MEMORY_MB
    cpu_thousandths: int = CPU_THOUSANDTHS
    ports: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Component:
    """One part of an application. `replicas` 0: on all agents that qualify."""

    name: str
    workload: LearningTask | Container
    replicas: int = 0
    where: Where = Where()
    hours: Hours | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ApplicationSpec:
    """An application, as its author means it."""

    name: str
    author: str
    components: tuple[Component, ...]
    description: str = ""


@lru_cache(maxsize=1 << 12)
def offer(author: str, application: str, component: str) -> str:
    """How an announcement names a component: the same in all versions of its application."""
    return f"{hashlib.sha256(f'{author}/{application}'.encode()).hexdigest()[:SHORT]}/{component}"
