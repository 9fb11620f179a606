"""The ways to deal samples out to nodes, as pure functions: numbers and a generator in, indices out.

Every function gives, for each node, int64 indices into the training set; what it returns depends on
its arguments and on the generator alone. All raise `ConfigError` when there is too little to deal.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from grapevine_lab.simulator.datasets.dataset import Array, Indices
from grapevine_proto.errors import ConfigError

DELTA_SUM_SEED: Final = 42
DELTA_SUM_VALIDATION: Final = 0.2

_MAX_TRIES: Final = 1000


def cut_sizes(num_nodes: int, mean_size: int, spread: float, rng: np.random.Generator) -> list[int]:
    """How many samples each node gets: `mean_size`, or with a spread s from (1 − s) to (1 + s) times it or so.

    With a spread the sizes are drawn uniformly and scaled to the mean, so that their sum is at most
    num_nodes · mean_size. Without one, nothing is drawn.
    """
    if not spread:
        return [mean_size] * num_nodes
    drawn = rng.uniform(1 - spread, 1 + spread, num_nodes)
    return [max(1, int(size)) for size in mean_size * drawn / drawn.mean()]


def deal_iid(num_samples: int, sizes: list[int], rng: np.random.Generator) -> list[Indices]:
    """Consecutive cuts of one permutation of all samples; what is left over stays out."""
    if sum(sizes) > num_samples:
        raise ConfigError(
            f"partition: {len(sizes)} nodes with {sum(sizes)} samples in all, but there are {num_samples}: "
            "write fewer samples_per_node or fewer nodes"
        )
    ends = np.cumsum(sizes)
    return np.split(rng.permutation(num_samples)[: ends[-1]].astype(np.int64), ends[:-1])


def deal_as_delta_sum(num_samples: int, num_nodes: int, samples_per_node: int) -> list[tuple[Indices, Indices]]:
    """Training and validation indices of each node, as the evaluation of Delta Sum Learning makes them.

    All samples are permuted by NumPy's old generator with seed 42, as scikit-learn's `shuffle` does;
    node k holds the k-th cut of `samples_per_node` (60,000/N there). Of each cut, a fifth is for
    validation by `train_test_split(random_state=42)`, in the order that it gives.
    """
    from sklearn.model_selection import train_test_split  # noqa: PLC0415 - it takes a second to import

    if samples_per_node < 2:
        raise ConfigError(f"partition: {samples_per_node} samples a node cannot be split; have fewer nodes")
    order = np.arange(num_samples)
    np.random.RandomState(DELTA_SUM_SEED).shuffle(order)
    dealt = []
    for node in range(num_nodes):
        own = order[node * samples_per_node : (node + 1) * samples_per_node]
        train, validation = train_test_split(own, test_size=DELTA_SUM_VALIDATION, random_state=DELTA_SUM_SEED)
        dealt.append((train.astype(np.int64), validation.astype(np.int64)))
    return dealt


def deal_dirichlet(
    labels: Array, num_nodes: int, alpha: float, min_samples: int, rng: np.random.Generator
) -> list[Indices]:
    """Deal out every class by proportions drawn from Dirichlet(alpha, …, alpha), every sample to one node.

    Small alpha: each node holds a few classes; large: all alike (Hsu et al., arXiv 1909.06335, who draw for
    each node instead). Drawn again, up to 1000 times, until every node holds `min_samples` or more.
    """
    of_class = [rng.permutation(np.flatnonzero(labels == label)) for label in np.unique(labels)]
    for _ in range(_MAX_TRIES):
        shares = rng.dirichlet(np.full(num_nodes, alpha), size=len(of_class))
        ends = [
            np.round(np.cumsum(share) * len(members)).astype(np.int64)
            for share, members in zip(shares, of_class, strict=True)
        ]
        sizes = np.sum([np.diff(end, prepend=0) for end in ends], axis=0)
        if sizes.min() >= min_samples:
            cuts = [np.split(members, end[:-1]) for members, end in zip(of_class, ends, strict=True)]
            return [
                np.sort(np.concatenate(parts)).astype(np.int64)
                for parts in ([cut[node] for cut in cuts] for node in range(num_nodes))
            ]
    raise ConfigError(
        f"partition: {_MAX_TRIES} draws with alpha = {alpha:g} gave none of {num_nodes} nodes fewer than min_samples = "
        f"{min_samples} of {len(labels)} samples: raise alpha, or lower min_samples or the number of nodes"
    )


def classes_of(node: int, num_nodes: int, num_classes: int, classes_per_node: int, step: int) -> list[int]:
    """The classes of a node: `classes_per_node` in a row from `node · step` on, modulo the number of classes.

    Where so few nodes would leave classes to nobody, their first classes are spread evenly instead.
    """
    first = node * num_classes // num_nodes if num_nodes * step < num_classes else node * step
    return [(first + i) % num_classes for i in range(classes_per_node)]


def deal_classes(
    labels: Array, classes: list[list[int]], rng: np.random.Generator, *, is_shared: bool
) -> list[Indices]:
    """For each node the samples of its `classes`, all of them when shared, else dealt out among those who hold them."""
    held: list[list[Indices]] = [[] for _ in classes]
    for label in sorted({label for own in classes for label in own}):
        members = rng.permutation(np.flatnonzero(labels == label)).astype(np.int64)
        holders = [node for node, own in enumerate(classes) if label in own]
        if len(members) < (1 if is_shared else len(holders)):
            raise ConfigError(
                f"partition: {len(holders)} nodes hold class {label}, which has {len(members)} samples: have fewer "
                "nodes, fewer classes_per_node or is_shared = true"
            )
        for i, node in enumerate(holders):
            held[node].append(members if is_shared else members[i :: len(holders)])
    return [np.sort(np.concatenate(parts)) for parts in held]


def choose_groups(
    groups: Indices, num_nodes: int, rng: np.random.Generator, *, at_random: bool, min_samples: int = 1
) -> list[int]:
    """`num_nodes` of the groups that have `min_samples` or more, ascending: drawn, or the first ones."""
    found, counts = np.unique(groups, return_counts=True)
    eligible = found[counts >= min_samples]
    if len(eligible) < num_nodes:
        raise ConfigError(
            f"partition: {num_nodes} nodes, but {len(eligible)} groups with {min_samples} samples or more "
            f"(of {len(found)}): have at most {len(eligible)} nodes, or lower min_samples"
        )
    chosen = rng.choice(eligible, num_nodes, replace=False) if at_random else eligible[:num_nodes]
    return sorted(int(group) for group in chosen)


def at_most(indices: Indices, maximum: int, rng: np.random.Generator) -> Indices:
    """`maximum` of the indices, drawn and in their old order; all of them when they are not more, or it is 0."""
    if not maximum or len(indices) <= maximum:
        return indices
    return indices[np.sort(rng.choice(len(indices), maximum, replace=False))]


def swapped_labels(num_classes: int, num_groups: int, pairs_per_group: int) -> list[Indices]:
    """For each group a map [num_classes] from class to label, in which pairs of classes of its own are swapped.

    Group g swaps the pairs (2j, 2j + 1) with j from g · pairs_per_group on.
    """
    maps = []
    for group in range(num_groups):
        labels = np.arange(num_classes, dtype=np.int64)
        for pair in range(group * pairs_per_group, (group + 1) * pairs_per_group):
            labels[[2 * pair, 2 * pair + 1]] = 2 * pair + 1, 2 * pair
        maps.append(labels)
    return maps
