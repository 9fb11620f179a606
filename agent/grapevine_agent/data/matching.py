"""Which of the owner's sources fits what a task needs, and if none does, why not."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from grapevine_agent.data.inspection import Inspection, inspect
from grapevine_agent.data.source import DataSource, Description, Header
from grapevine_agent.data.times import AHEAD_S
from grapevine_agent.spoken import span
from grapevine_proto.errors import TaskError
from grapevine_proto.manifest import DataContract, FeatureSpec
from grapevine_tasks.pipelines import (
    HELD_OUT,
    SampleMemory,
    derives_target,
    held_out,
    rows_needed,
    sample_memory,
)
from grapevine_tasks.pipelines import is_series as takes_series

MIB = 2**20
_TARGET_KINDS = {"float32": "buif", "int64": "bui"}  # numpy's dtype kinds that convert without surprise


WhyNoRoom: TypeAlias = Callable[[SampleMemory], str]
Look: TypeAlias = Callable[[DataSource, DataContract], Inspection]  # raises `PendingError`


class PendingError(TaskError):
    """Whether a source fits is not known yet."""


def has_room(_memory: SampleMemory) -> str:
    """There is room for anything."""
    return ""


@dataclass(frozen=True, kw_only=True)
class SourceMatch:
    """The source that fits a contract, or None and, for each source, why not."""

    source: DataSource | None = None
    num_samples: int = 0  # to train on; of a series in rows
    num_test: int = 0
    memory: SampleMemory | None = None  # what the samples take
    reasons: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return self.source is not None

    def __str__(self) -> str:
        if self.source is not None:
            return f"{self.source.name}: {_counted(self.num_samples)}, {self.num_test} to test with"
        return "; ".join(self.reasons)


def match_source(
    contract: DataContract,
    sources: Sequence[DataSource],
    *,
    now_s: float | None = None,
    why_no_room: WhyNoRoom = has_room,
    look: Look = inspect,
) -> SourceMatch:
    """The first source that fits the contract. Raises nothing: what does not fit is explained.

    `now_s` is the Unix time that the age of samples is told from; without it any age will do. `why_no_room`
    says of what samples take why it is too much, or nothing. `look` has a source looked at; while it has no answer yet
    (`PendingError`), no later source is taken in the place of that one.
    """
    reasons: list[str] = []
    for source in sources:
        if source.kind != contract.kind:
            continue
        try:
            description = look(source, contract).found()
            num_samples, num_test = check_fit(contract, source, description, now_s=now_s, why_no_room=why_no_room)
        except PendingError as pending:
            return SourceMatch(reasons=(*reasons, str(pending)))
        except TaskError as error:
            reasons.append(str(error))
        else:
            memory = _sample_memory(contract, description)
            return SourceMatch(source=source, num_samples=num_samples, num_test=num_test, memory=memory)
    if not reasons:
        kinds = ", ".join(sorted({source.kind for source in sources})) or "none"
        reasons.append(f"no data source of the kind {contract.kind!r} (configured kinds: {kinds})")
    return SourceMatch(reasons=tuple(reasons))


def check_fit(
    contract: DataContract,
    source: DataSource,
    description: Description,
    *,
    now_s: float | None = None,
    why_no_room: WhyNoRoom = has_room,
) -> tuple[int, int]:
    """How many samples there are to train and to test with. Raises TaskError, naming source, value and remedy."""
    _check_size(source, description)
    counts = _count_all(contract, source, description)
    _check_classes(contract, source, description)
    _check_age(contract, source, description, now_s)
    if counts["x"] < contract.minimum_samples:
        raise source.error(f"{_counted(counts['x'])}, the task needs {contract.minimum_samples}")
    num_test = counts.get("x_test", held_out(counts["x"]))
    needed = rows_needed(contract)
    if "x_test" not in counts and takes_series(contract) and num_test < needed:
        raise source.error(
            f"{counts['x']} rows of a series, the task needs {needed * HELD_OUT}: windows of {needed}, "
            "and a fifth is held out to test with"
        )
    _check_room(contract, source, description, why_no_room)
    return counts["x"] - (0 if "x_test" in counts else num_test), num_test


def _counted(num: int) -> str:
    return "1 sample" if num == 1 else f"{num} samples"


def _sample_memory(contract: DataContract, description: Description, share: float = 1.0) -> SampleMemory:
    """What loading and preparing a source takes, or a share of it."""
    num = {name: round(share * header.shape[0]) for name, header in description.arrays.items()}
    return sample_memory(
        contract,
        num=num["x"],
        num_test=num.get("x_test"),
        num_gaps=description.num_gaps,
        raw_bytes=round(share * description.num_bytes),
        working_bytes=description.working_bytes,
        library_bytes=description.library_bytes,
    )


def _check_room(contract: DataContract, source: DataSource, description: Description, why_no_room: WhyNoRoom) -> None:
    if why := why_no_room(_sample_memory(contract, description)):
        num = description.arrays["x"].shape[0]
        tried = range(num, -1, -max(1, num // 100))  # from all of them down, by a hundredth
        fits = bisect_left(tried, True, key=lambda k: not why_no_room(_sample_memory(contract, description, k / num)))
        most = tried[fits] if fits < len(tried) else 0
        offer = f"offer about {most:,}, or " if most >= contract.minimum_samples and most else ""
        raise source.error(f"{num:,} samples are too many: it {why}; {offer}raise limits.memory_mb")


def _count_all(contract: DataContract, source: DataSource, description: Description) -> dict[str, int]:
    """The samples in each array, after each was compared with the contract."""
    headers = description.arrays
    derives = derives_target(contract)
    if not derives and "y" not in headers:
        raise source.error(f"{source.path.name} has no array 'y'; save it with np.savez")
    if not derives and ("x_test" in headers) != ("y_test" in headers):
        raise source.error(f"x_test and y_test belong together; {source.path.name} has one of them")
    counts = {}
    for name, header in headers.items():
        if derives and name.startswith("y"):
            continue
        spec = contract.features if name.startswith("x") else contract.target
        counts[name] = _count(header, spec, f"{source.name}: {name}")
    for x, y in (("x", "y"), ("x_test", "y_test")):
        if not derives and counts.get(x) != counts.get(y):
            raise source.error(f"{counts[x]} samples in {x} but {counts[y]} in {y}")
    return counts


def _count(header: Header, spec: FeatureSpec, where: str) -> int:
    if header.shape[1:] != spec.shape or not header.shape:
        wanted = ", ".join(["n", *map(str, spec.shape)])
        raise TaskError(f"{where} has the shape {list(header.shape)}, the task takes [{wanted}]")
    if header.dtype.kind not in _TARGET_KINDS[spec.dtype]:
        raise TaskError(f"{where} holds {header.dtype}, the task takes {spec.dtype}")
    return header.shape[0]


def _check_size(source: DataSource, description: Description) -> None:
    if 0 < source.max_bytes < description.num_bytes:
        raise source.error(
            f"takes {description.num_bytes / MIB:,.0f} MB of memory, and max_bytes allows "
            f"{source.max_bytes / MIB:,.0f} MB; offer fewer samples, or raise max_bytes of this [[data]]"
        )


def _check_classes(contract: DataContract, source: DataSource, description: Description) -> None:
    unknown = [name for name in description.classes if name not in contract.classes]
    if not unknown or derives_target(contract):
        return
    told = ", ".join(map(repr, unknown[:5]))
    if not contract.classes:
        raise source.error(f"has classes with names ({told}) and the task gives its classes none: offer their numbers")
    known = ", ".join(map(repr, contract.classes[:20]))
    raise source.error(f"has the classes {told} that the task does not have; it has {known}: rename or leave them out")


def _check_age(contract: DataContract, source: DataSource, description: Description, now_s: float | None) -> None:
    if not contract.max_age_s or now_s is None:
        return
    if description.newest_s is None:
        raise source.error("no time is known of its samples, and the task wants them fresh: name a column as `time`")
    age_s = now_s - description.newest_s
    if age_s < -AHEAD_S:
        raise source.error(
            f"the newest sample is dated {span(-age_s)} ahead of this device's clock, and the task wants fresh ones: "
            "correct its time, or the clock"
        )
    if age_s > contract.max_age_s:
        raise source.error(
            f"the newest sample is {span(age_s)} old, the task takes {span(contract.max_age_s)} at most: bring newer"
        )
