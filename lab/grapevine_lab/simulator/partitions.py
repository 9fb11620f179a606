"""Who holds what: a data set shared out among the nodes of a simulation, the same for the same seed.

| kind | keys | a node holds |
|---|---|---|
| `iid` | `samples_per_node`, `size_spread` | a cut of one permutation of all samples |
| `delta-sum` | `samples_per_node` | the same as coded by Delta Sum Learning's authors (`deal_as_delta_sum`) |
| `dirichlet` | `alpha`, `min_samples` | of each class a share drawn from Dirichlet(alpha) |
| `classes` | `classes_per_node`, `class_step`, `is_shared` | a few classes |
| `by-writer`, `by-station`, `by-user`, `by-group` | `choose`, `min_samples`, `max_samples_per_node` | one group |
| `label-swap` | `num_groups`, `pairs_per_group`, `samples_per_node`, `size_spread` | a cut with swapped labels |

All know `test` and `test_samples_per_node`. A node is tested on the common test set, or with
`test = "own"` on what is of its group (the `by-…` kinds) or of its classes (`classes`) in it; with
`test_samples_per_node`, on so many of those at random. `label-swap` is Chisme's (section IV-A, after
Sattler et al.): node k is of group k mod num_groups, every group swaps other pairs of labels, and
its nodes' test samples have swapped labels as well.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

import numpy as np

from grapevine_agent.config.toml_reader import Table, suggestion
from grapevine_lab.simulator import deals
from grapevine_lab.simulator.datasets.dataset import Array, Dataset, DatasetFacts, Indices
from grapevine_proto.errors import ConfigError

_GROUPED: Final = {"by-writer": "writer", "by-station": "station", "by-user": "user", "by-group": "group"}
_NEEDS_CLASSES: Final = ("dirichlet", "classes", "label-swap")
PARTITION_KINDS: Final = ("iid", "delta-sum", "dirichlet", "classes", *_GROUPED, "label-swap")

_LARGEST: Final = 10**9


@dataclass(frozen=True, kw_only=True)
class PartitionPlan:
    """How samples are shared out. A kind reads the fields that the module's table gives it, and ignores the others."""

    kind: str = "iid"
    samples_per_node: int = 0  # 0: as many as there are for each; with a spread, on average
    size_spread: float = 0.0  # s: sizes vary from 1 − s to 1 + s times the average
    alpha: float = 0.5
    min_samples: int = 10
    classes_per_node: int = 2
    class_step: int = 0  # from one node's first class to the next node's; 0: half of classes_per_node
    is_shared: bool = False  # whether nodes hold the same samples of a class that they have in common
    choose: Literal["random", "first"] = "random"
    max_samples_per_node: int = 0  # 0: no maximum
    num_groups: int = 5
    pairs_per_group: int = 1
    test: Literal["common", "own"] = "common"
    test_samples_per_node: int = 0  # 0: all


def _nothing() -> Indices:
    return np.empty(0, np.int64)


@dataclass(frozen=True, kw_only=True, eq=False)
class Share:
    """What one node holds: indices into a data set.

    Attributes:
        train: int64 [k], into `x` and `y`.
        test: int64 [t], into `x_test` and `y_test`; None: the whole of the common test set.
        label_map: int64 [num_classes], from a class to the label that it has at this node, for samples
            to train on and to test with alike; None: labels are as they are.
        validation: int64 [v], into `x` and `y`: held back from training (`delta-sum`).
        group: The group of the data set, or of swapped labels, that the node belongs to.
    """

    train: Indices
    test: Indices | None = None
    label_map: Indices | None = None
    validation: Indices = field(default_factory=_nothing)
    group: int | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class RawSamples:
    """The samples of one node, with its labels; not yet scaled."""

    x: Array
    y: Array
    x_test: Array
    y_test: Array


def needed_groups(kind: str) -> str:
    """What a sample's group must be for this kind: "writer", "station", "user" or "group" (any); "" for none."""
    return _GROUPED.get(kind, "")


def check_partition(plan: PartitionPlan, facts: DatasetFacts, num_nodes: int) -> None:
    """Raise `ConfigError` for a partition that this data set cannot give, before any sample is loaded.

    What only the samples themselves can tell (how many a writer has, say) `share_out` tells.
    """
    kind, name, num_samples = plan.kind, facts.name, facts.num_samples
    if kind not in PARTITION_KINDS:
        raise ConfigError(f"partition.kind = {kind!r}: there is no such kind; {suggestion(kind, PARTITION_KINDS)}")
    if not 1 <= num_nodes <= num_samples:
        raise ConfigError(f"{num_nodes} nodes cannot share {num_samples} samples of {name!r}: have 1 to {num_samples}")
    if kind in _NEEDS_CLASSES and facts.num_classes < 2:
        raise ConfigError(f'partition.kind = {kind!r} needs classes, and {name!r} has none; write kind = "iid"')
    wanted = needed_groups(kind)
    if wanted:
        _check_groups(plan, facts, num_nodes, wanted)
    if plan.test == "own" and not (kind == "classes" or (wanted and facts.has_test_groups)):
        why = "no samples of these groups to test with" if wanted else "one test set for all nodes of this kind"
        raise ConfigError(f'partition.test = "own": {name!r} has {why}; write test = "common"')
    _check_constants(plan, facts, num_nodes)


def share_out(dataset: Dataset, plan: PartitionPlan, num_nodes: int, rng: np.random.Generator) -> list[Share]:
    """Give every node its share, in the order of nodes.

    Raises `ConfigError`, naming the numbers and the remedy, as `check_partition` does and when a
    node would get too little.
    """
    check_partition(plan, dataset.facts(), num_nodes)
    match plan.kind:
        case "delta-sum":
            size = plan.samples_per_node or len(dataset.y) // num_nodes
            dealt = deals.deal_as_delta_sum(len(dataset.y), num_nodes, size)
            shares = [Share(train=train, validation=validation) for train, validation in dealt]
        case "dirichlet":
            parts = deals.deal_dirichlet(dataset.y, num_nodes, plan.alpha, plan.min_samples, rng)
            shares = [Share(train=part) for part in parts]
        case "classes":
            shares = _share_classes(dataset, plan, num_nodes, rng)
        case "label-swap":
            maps = deals.swapped_labels(dataset.num_classes, plan.num_groups, plan.pairs_per_group)
            parts = _cuts(dataset, plan, num_nodes, rng)
            groups = [node % plan.num_groups for node in range(num_nodes)]
            shares = [
                Share(train=part, label_map=maps[group], group=group) for part, group in zip(parts, groups, strict=True)
            ]
        case "iid":
            shares = [Share(train=part) for part in _cuts(dataset, plan, num_nodes, rng)]
        case _:
            shares = _share_groups(dataset, plan, num_nodes, rng)
    return [_with_fewer_tests(share, dataset, plan, rng) for share in shares]


def raw_samples(dataset: Dataset, share: Share) -> RawSamples:
    """Copy a node's samples out of the data set. A test set that is everybody's is not copied."""
    y, y_test = dataset.y[share.train], dataset.y_test
    x_test = dataset.x_test
    if share.test is not None:
        x_test, y_test = x_test[share.test], y_test[share.test]
    if share.label_map is not None:
        y, y_test = share.label_map[y], share.label_map[y_test]
    return RawSamples(x=dataset.x[share.train], y=y, x_test=x_test, y_test=y_test)


def read_partition(table: Table) -> PartitionPlan:
    """Read `kind` and the keys that this kind knows (see the module's table); any other key is an error.

    Raises `ConfigError` naming key, value and remedy.
    """
    kind = table.text("kind", PartitionPlan.kind)
    if kind not in PARTITION_KINDS:
        raise table.error("kind", f"there is no such partition; {suggestion(kind, PARTITION_KINDS)}")
    default = PartitionPlan()
    read: dict[str, Any] = {}

    def count(key: str, low: int, high: int = _LARGEST) -> None:
        read[key] = table.integer(key, getattr(default, key), low=low, high=high)

    if kind in ("iid", "delta-sum", "label-swap"):
        count("samples_per_node", 0)
    if kind in ("iid", "label-swap"):
        read["size_spread"] = table.number("size_spread", default.size_spread, low=0.0, high=0.9)
    if kind == "label-swap":
        count("num_groups", 1, 1000)
        count("pairs_per_group", 1, 1000)
    if kind == "dirichlet":
        read["alpha"] = table.number("alpha", default.alpha, low=1e-3, high=1e6)
    if kind == "classes":
        count("classes_per_node", 1)
        count("class_step", 0)
        read["is_shared"] = table.boolean("is_shared", default.is_shared)
    if kind in _GROUPED:
        read["choose"] = table.text("choose", default.choose, choices=("random", "first"))
        count("max_samples_per_node", 0)
    if kind == "dirichlet" or kind in _GROUPED:
        count("min_samples", 1)
    read["test"] = table.text("test", default.test, choices=("common", "own"))
    count("test_samples_per_node", 0)
    table.finish()
    return PartitionPlan(kind=kind, **read)


def _check_groups(plan: PartitionPlan, facts: DatasetFacts, num_nodes: int, wanted: str) -> None:
    if not facts.grouped_by or (facts.grouped_by != wanted and "group" not in (wanted, facts.grouped_by)):
        fits = [kind for kind, group in _GROUPED.items() if group == facts.grouped_by] or ["iid"]
        has = f"the {facts.grouped_by}" if facts.grouped_by else "nothing"
        raise ConfigError(
            f"partition.kind = {plan.kind!r} needs a {wanted} for each sample, and {facts.name!r} names {has}; "
            f'write kind = "{fits[0]}" or take another data set'
        )
    if facts.num_groups < num_nodes:
        raise ConfigError(
            f"partition.kind = {plan.kind!r}: {num_nodes} nodes, but {facts.name!r} has {facts.num_groups} "
            f"{facts.grouped_by}s: have at most {facts.num_groups} nodes"
        )


def _check_constants(plan: PartitionPlan, facts: DatasetFacts, num_nodes: int) -> None:
    num_samples = facts.num_samples
    cuts = plan.kind in ("iid", "delta-sum", "label-swap")
    if cuts and plan.samples_per_node * num_nodes > num_samples:
        raise ConfigError(
            f"partition.samples_per_node = {plan.samples_per_node}: {num_nodes} nodes need "
            f"{plan.samples_per_node * num_nodes} samples, and {facts.name!r} has {num_samples}: "
            f"write at most {num_samples // num_nodes}, or have fewer nodes"
        )
    if plan.kind == "dirichlet" and plan.min_samples * num_nodes > num_samples:
        raise ConfigError(
            f"partition.min_samples = {plan.min_samples}: {num_nodes} nodes need {plan.min_samples * num_nodes} "
            f"samples, and {facts.name!r} has {num_samples}: write at most {num_samples // num_nodes}"
        )
    if plan.kind == "classes" and plan.classes_per_node > facts.num_classes:
        raise ConfigError(
            f"partition.classes_per_node = {plan.classes_per_node}: {facts.name!r} has {facts.num_classes} classes; "
            "write at most as many"
        )
    if plan.kind == "label-swap":
        if 2 * plan.num_groups * plan.pairs_per_group > facts.num_classes:
            raise ConfigError(
                f"partition.num_groups = {plan.num_groups} with pairs_per_group = {plan.pairs_per_group}: every group "
                f"swaps pairs of its own, and {facts.num_classes} classes make {facts.num_classes // 2} pairs: "
                "lower one of them"
            )
        if plan.num_groups > num_nodes:
            raise ConfigError(
                f"partition.num_groups = {plan.num_groups}: there are {num_nodes} nodes; write at most {num_nodes}"
            )


def _cuts(dataset: Dataset, plan: PartitionPlan, num_nodes: int, rng: np.random.Generator) -> list[Indices]:
    mean_size = plan.samples_per_node or len(dataset.y) // num_nodes
    sizes = deals.cut_sizes(num_nodes, mean_size, plan.size_spread, rng)
    return deals.deal_iid(len(dataset.y), sizes, rng)


def _share_classes(dataset: Dataset, plan: PartitionPlan, num_nodes: int, rng: np.random.Generator) -> list[Share]:
    step = plan.class_step or max(1, plan.classes_per_node // 2)
    classes = [
        deals.classes_of(node, num_nodes, dataset.num_classes, plan.classes_per_node, step) for node in range(num_nodes)
    ]
    parts = deals.deal_classes(dataset.y, classes, rng, is_shared=plan.is_shared)
    tests = [np.flatnonzero(np.isin(dataset.y_test, own)) if plan.test == "own" else None for own in classes]
    return [Share(train=part, test=test) for part, test in zip(parts, tests, strict=True)]


def _share_groups(dataset: Dataset, plan: PartitionPlan, num_nodes: int, rng: np.random.Generator) -> list[Share]:
    assert dataset.groups is not None
    chosen = deals.choose_groups(
        dataset.groups, num_nodes, rng, at_random=plan.choose == "random", min_samples=plan.min_samples
    )
    shares = []
    for group in chosen:
        own = np.flatnonzero(dataset.groups == group)
        test = None
        if plan.test == "own":
            test = np.flatnonzero(dataset.test_groups == group)
            if len(test) == 0:
                raise ConfigError(
                    f'partition.test = "own": {dataset.grouped_by} {group} has no samples to test with; '
                    'raise min_samples or write test = "common"'
                )
        shares.append(Share(train=deals.at_most(own, plan.max_samples_per_node, rng), test=test, group=group))
    return shares


def _with_fewer_tests(share: Share, dataset: Dataset, plan: PartitionPlan, rng: np.random.Generator) -> Share:
    if not plan.test_samples_per_node:
        return share
    test = np.arange(len(dataset.y_test)) if share.test is None else share.test
    return replace(share, test=deals.at_most(test, plan.test_samples_per_node, rng))
