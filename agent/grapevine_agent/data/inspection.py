"""A look at a source on behalf of a task: what is in it, and whether the task can take every sample of it.

It reads all samples, so it may take minutes; `service.inspector` has it done in a process of its own, and keeps the
answer. `grapevine data check` does it at once. What is found out here no trainer has to refuse:

    what is in it           the format's own pass, in which the judge sees each sample as it is in the source
    what the steps refuse   of sources that are small once prepared: by preparing them, as a trainer does; of larger
                            ones, where steps take each sample for itself, some samples at a time
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from grapevine_agent.data.formats import describe, examine
from grapevine_agent.data.judging import TABLES, Judge
from grapevine_agent.data.source import DataSource, Description, Header, Visitor
from grapevine_proto.errors import TaskError
from grapevine_proto.manifest import DataContract
from grapevine_tasks import pipelines

MOST_PREPARED_BYTES: Final = 64 * 2**20
_TOLD_BY_HEADERS: Final = ("npz", "images", "torchvision")  # whose descriptions cost little beside their samples


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """What was found. `trouble` is empty where every sample can be taken; without a description nothing was told."""

    description: Description | None = None
    trouble: str = ""

    def found(self) -> Description:
        """What is in the source. Raises TaskError for what is wrong with it."""
        if self.description is None or self.trouble:
            raise TaskError(self.trouble)
        return self.description

    def to_json(self) -> str:
        """As one line, from the process that looked."""
        described = self.description
        if described is None:
            return json.dumps({"trouble": self.trouble})
        arrays = {name: [header.dtype.str, list(header.shape)] for name, header in described.arrays.items()}
        return json.dumps({"trouble": self.trouble, "description": {**_fields(described), "arrays": arrays}})

    @staticmethod
    def from_json(text: str | bytes) -> Inspection:
        """What `to_json` wrote. Raises TaskError when it is something else."""
        try:
            read = json.loads(text)
            if (told := read.get("description")) is None:
                return Inspection(trouble=str(read["trouble"]))
            arrays = {name: Header(np.dtype(dtype), tuple(shape)) for name, (dtype, shape) in told["arrays"].items()}
            lists = {key: tuple(told[key]) for key in ("columns", "classes")}
            return Inspection(
                description=Description(**told | lists | {"arrays": arrays}), trouble=str(read["trouble"])
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise TaskError(f"what looked at the source answered with {text[:80]!r}") from error


def _fields(described: Description) -> dict[str, Any]:
    told = asdict(replace(described, arrays={}))
    return told | {"facts": json.loads(json.dumps(dict(described.facts), default=str))}


def inspect(source: DataSource, contract: DataContract | None, also: Sequence[Visitor] = ()) -> Inspection:
    """Look at a source; with a contract, judge its samples. Raises nothing.

    `also` sees the samples too. What is wrong with whole columns stands in the description (`matching.check_fit`).
    """
    try:
        return _inspected(source, contract, also)
    except TaskError as error:
        return Inspection(trouble=str(error))
    except MemoryError:
        return Inspection(trouble=str(source.error(f"looking at {source.path} takes more memory than there is")))


def _inspected(source: DataSource, contract: DataContract | None, also: Sequence[Visitor]) -> Inspection:
    if contract is None:
        return Inspection(description=examine(source, None, also))
    if source.format in _TOLD_BY_HEADERS:
        described = describe(source, contract)
        if not _fits(source, contract, described):
            return Inspection(description=described)
    visitors: list[Visitor] = [Judge(source, contract), *also]
    if _takes_each_for_itself(contract):
        visitors.append(Preparer(source, contract))
    described = examine(source, contract, visitors)
    if source.format != "torchvision" and _fits(source, contract, described) and _is_small(contract, described):
        from grapevine_agent.data.preparing import load_samples  # noqa: PLC0415 — it looks at sources, as this does

        load_samples(contract, source)
    return Inspection(description=described)


def _fits(source: DataSource, contract: DataContract, described: Description) -> bool:
    from grapevine_agent.data.matching import check_fit  # noqa: PLC0415

    try:
        check_fit(contract, source, described)
    except TaskError:
        return False
    return True


def _is_small(contract: DataContract, described: Description) -> bool:
    num = {name: header.shape[0] for name, header in described.arrays.items()}
    memory = pipelines.sample_memory(
        contract,
        num=num["x"],
        num_test=num.get("x_test"),
        num_gaps=described.num_gaps,
        raw_bytes=described.num_bytes,
        working_bytes=described.working_bytes,
    )
    return memory.preparing <= MOST_PREPARED_BYTES


def _takes_each_for_itself(contract: DataContract) -> bool:
    """Whether steps make of each sample one, and may refuse it."""
    return bool(contract.pipeline) and not pipelines.is_series(contract)


class Preparer:
    """A visitor that has the steps of a task's pipeline refuse what they refuse, some samples at a time."""

    def __init__(self, source: DataSource, contract: DataContract) -> None:
        self._source, self._contract = source, contract
        self._features: tuple[str, ...] = ()

    def begin(self, features: tuple[str, ...], target: tuple[str, ...]) -> None:  # noqa: ARG002 — steps refuse features
        """What the columns, or arrays, are called."""
        self._features = features

    def visit(self, row: int, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Prepare some rows. Raises TaskError."""
        present = [arrays[name] for name in self._features if name in arrays]
        shape = self._contract.features.shape
        if not present or any(array.dtype.kind not in "buif" for array in present):
            return
        is_table = self._source.format in TABLES
        x = np.stack(present, axis=-1) if is_table and (len(present) > 1 or shape) else present[0]
        if x.shape[1:] != shape:
            return  # `check_fit` says it
        where = f"{self._source.name}: rows {row + 1:,} to {row + len(x):,}"
        target = np.zeros((len(x), *self._contract.target.shape), self._contract.target.dtype)
        try:
            pipelines.prepare(x, target, self._contract, where)
        except pipelines.NumberRefused as fault:
            at = row + fault.sample  # steps that make of each sample one leave it where it was
            if not is_table:
                name = next(name for name in self._features if name in arrays)
                raise fault.told(self._source.name, f"{name}[{at}]") from fault
            column, num = fault.unnamed or (0, 0)
            own = f"column {self._features[column]!r}" if num == len(self._features) else ""
            raise fault.told(self._source.name, f"row {at + 1:,}", own) from fault
