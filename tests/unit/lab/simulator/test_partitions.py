"""Who holds what."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grapevine_agent.config.toml_reader import Table
from grapevine_lab.simulator.datasets import Dataset, DatasetPlan, dataset_facts, load_dataset
from grapevine_lab.simulator.partitions import (
    PARTITION_KINDS,
    PartitionPlan,
    Share,
    check_partition,
    needed_groups,
    raw_samples,
    read_partition,
    share_out,
)
from grapevine_proto.errors import ConfigError

GIVEN = os.environ.get("GRAPEVINE_DATA", "")
needs_data = pytest.mark.skipif(not GIVEN, reason="GRAPEVINE_DATA is not set")


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def written(num_writers: int = 6, own_tests: bool = True) -> Dataset:
    """Writer k wrote 10 + k samples of ten classes."""
    groups = np.repeat(np.arange(num_writers) * 3, 10 + np.arange(num_writers))
    tests = np.repeat(np.arange(num_writers) * 3 + (0 if own_tests else 1), 2)
    return Dataset(
        name="written",
        kind="k",
        x=np.arange(len(groups)),
        y=np.arange(len(groups)) % 10,
        x_test=np.arange(len(tests)),
        y_test=np.arange(len(tests)) % 10,
        groups=groups,
        test_groups=tests,
        num_classes=10,
        grouped_by="writer",
    )


def disjoint(shares: list[Share]) -> bool:
    joined = np.concatenate([share.train for share in shares])
    return len(np.unique(joined)) == len(joined)


def equal(one: list[Share], other: list[Share]) -> bool:
    return all(np.array_equal(a.train, b.train) for a, b in zip(one, other, strict=True))


# --- every kind -----------------------------------------------------------------------------------

PLANS = {
    "iid": PartitionPlan(),
    "delta-sum": PartitionPlan(kind="delta-sum"),
    "dirichlet": PartitionPlan(kind="dirichlet", alpha=1.0, min_samples=2),
    "classes": PartitionPlan(kind="classes", classes_per_node=4),
    "label-swap": PartitionPlan(kind="label-swap", num_groups=5),
}


@pytest.mark.parametrize("kind", PLANS)
def test_the_same_seed_gives_the_same_shares_of_samples_that_nobody_else_holds(kind: str) -> None:
    digits = load_dataset("digits")
    shares = share_out(digits, PLANS[kind], 10, rng())
    assert len(shares) == 10
    assert disjoint(shares)
    assert all(len(share.train) > 0 and share.train.dtype == np.int64 for share in shares)
    assert equal(shares, share_out(digits, PLANS[kind], 10, rng()))
    if kind != "delta-sum":
        assert not equal(shares, share_out(digits, PLANS[kind], 10, rng(1)))


def test_every_kind_is_tried_here() -> None:
    assert {*PLANS, "by-writer", "by-station", "by-user", "by-group"} == set(PARTITION_KINDS)


def test_shares_do_not_hang_on_the_order_of_hashes() -> None:
    program = (
        "import numpy as np, hashlib\n"
        "from grapevine_lab.simulator.datasets import load_dataset\n"
        "from grapevine_lab.simulator.partitions import PartitionPlan, share_out\n"
        "digits = load_dataset('digits')\n"
        "for kind in ('iid', 'dirichlet', 'classes', 'label-swap'):\n"
        "    plan = PartitionPlan(kind=kind, min_samples=2)\n"
        "    shares = share_out(digits, plan, 10, np.random.default_rng(0))\n"
        "    print(hashlib.sha256(b''.join(share.train.tobytes() for share in shares)).hexdigest())\n"
    )
    told = [
        subprocess.run(
            [sys.executable, "-c", program],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert told[0] == told[1]


@pytest.mark.parametrize(("kind", "group"), [("iid", ""), ("by-writer", "writer"), ("by-group", "group")])
def test_a_kind_says_which_groups_it_needs(kind: str, group: str) -> None:
    assert needed_groups(kind) == group


# --- iid and Delta Sum's own ----------------------------------------------------------------------


def test_iid_cuts_are_equal_and_use_all_that_divides() -> None:
    shares = share_out(load_dataset("digits"), PartitionPlan(), 10, rng())
    assert {len(share.train) for share in shares} == {143}
    assert all(share.test is None and share.label_map is None for share in shares)


def test_fewer_samples_a_node_leave_the_rest_out() -> None:
    shares = share_out(load_dataset("digits"), PartitionPlan(samples_per_node=20), 10, rng())
    assert {len(share.train) for share in shares} == {20}


def test_sizes_may_vary_around_their_mean() -> None:
    plan = PartitionPlan(samples_per_node=100, size_spread=0.5)
    sizes = [len(share.train) for share in share_out(load_dataset("digits"), plan, 14, rng())]
    assert min(sizes) < 75
    assert max(sizes) > 125
    assert 1386 <= sum(sizes) <= 1400


def test_the_split_of_delta_sum_is_made_of_scikit_learns_two_functions() -> None:
    from sklearn.model_selection import train_test_split
    from sklearn.utils import shuffle

    digits = load_dataset("digits")
    shares = share_out(digits, PartitionPlan(kind="delta-sum"), 10, rng())
    x, y = shuffle(digits.x, digits.y, random_state=42)
    for node, share in enumerate(shares):
        cut = slice(node * 143, (node + 1) * 143)
        x_train, x_validation, y_train, _ = train_test_split(x[cut], y[cut], test_size=0.2, random_state=42)
        np.testing.assert_array_equal(digits.x[share.train], x_train)
        np.testing.assert_array_equal(digits.y[share.train], y_train)
        np.testing.assert_array_equal(digits.x[share.validation], x_validation)


@needs_data
@pytest.mark.parametrize(("num_nodes", "num_train"), [(10, 4800), (25, 1920), (50, 960)])
def test_delta_sums_nodes_hold_as_many_images_as_in_the_paper(num_nodes: int, num_train: int) -> None:
    mnist = load_dataset("mnist")
    shares = share_out(mnist, PartitionPlan(kind="delta-sum"), num_nodes, rng())
    assert {(len(share.train), len(share.validation)) for share in shares} == {(num_train, num_train // 4)}
    assert disjoint(shares)


# --- classes --------------------------------------------------------------------------------------


def test_each_node_holds_the_classes_of_the_swarm_tests() -> None:
    digits = load_dataset("digits")
    plan = PartitionPlan(kind="classes", classes_per_node=4, test="own")
    for node, share in enumerate(share_out(digits, plan, 5, rng())):
        expected = {(2 * node + i) % 10 for i in range(4)}
        assert set(digits.y[share.train].tolist()) == expected
        assert share.test is not None
        assert set(digits.y_test[share.test].tolist()) == expected
        assert len(share.test) == np.isin(digits.y_test, list(expected)).sum()


def test_shared_classes_give_the_same_samples_to_all_who_hold_them() -> None:
    from tests.swarm.digits import samples_of

    digits = load_dataset("digits")
    plan = PartitionPlan(kind="classes", classes_per_node=4, is_shared=True)
    for node, share in enumerate(share_out(digits, plan, 5, rng())):
        np.testing.assert_array_equal(digits.y[share.train], samples_of(node).y)


@pytest.mark.parametrize(("num_nodes", "classes"), [(3, 4), (5, 2), (20, 2), (50, 1), (2, 10)])
def test_every_class_is_held_by_somebody(num_nodes: int, classes: int) -> None:
    digits = load_dataset("digits")
    shares = share_out(digits, PartitionPlan(kind="classes", classes_per_node=classes), num_nodes, rng())
    assert len(np.unique(digits.y[np.concatenate([share.train for share in shares])])) == 10
    assert all(len(np.unique(digits.y[share.train])) == classes for share in shares)


def test_too_many_holders_of_a_class_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"nodes hold class 0, which has \d+ samples"):
        share_out(load_dataset("digits"), PartitionPlan(kind="classes", classes_per_node=10), 500, rng())


# --- Dirichlet ------------------------------------------------------------------------------------


@given(alpha=st.floats(0.3, 100), num_nodes=st.integers(1, 12), seed=st.integers(0, 2**32))
def test_every_sample_goes_to_one_node_and_every_node_gets_its_minimum(alpha: float, num_nodes: int, seed: int) -> None:
    digits = load_dataset("digits")
    plan = PartitionPlan(kind="dirichlet", alpha=alpha, min_samples=5)
    shares = share_out(digits, plan, num_nodes, rng(seed))
    assert sorted(np.concatenate([share.train for share in shares]).tolist()) == list(range(1437))
    assert min(len(share.train) for share in shares) >= 5


def test_a_smaller_alpha_makes_nodes_less_alike() -> None:
    digits = load_dataset("digits")

    def largest_class_share(alpha: float) -> float:
        shares = share_out(digits, PartitionPlan(kind="dirichlet", alpha=alpha, min_samples=1), 10, rng())
        return float(np.mean([np.bincount(digits.y[s.train]).max() / len(s.train) for s in shares]))

    assert largest_class_share(0.2) > 0.35
    assert largest_class_share(100.0) < 0.15


def test_a_minimum_that_no_draw_gives_is_told() -> None:
    plan = PartitionPlan(kind="dirichlet", alpha=0.01, min_samples=70)
    with pytest.raises(
        ConfigError, match=r"alpha = 0.01 gave none of 20 nodes fewer than min_samples = 70.*raise alpha"
    ):
        share_out(load_dataset("digits"), plan, 20, rng())


# --- by group -------------------------------------------------------------------------------------


def test_each_node_is_one_writer_with_its_own_tests() -> None:
    dataset = written()
    plan = PartitionPlan(kind="by-writer", choose="first", min_samples=12, test="own")
    shares = share_out(dataset, plan, 3, rng())
    assert [share.group for share in shares] == [6, 9, 12]  # the first two wrote 10 and 11
    for share in shares:
        assert dataset.groups is not None
        assert dataset.test_groups is not None
        assert share.test is not None
        np.testing.assert_array_equal(share.train, np.flatnonzero(dataset.groups == share.group))
        np.testing.assert_array_equal(share.test, np.flatnonzero(dataset.test_groups == share.group))


def test_writers_are_drawn_and_may_be_capped() -> None:
    plan = PartitionPlan(kind="by-writer", max_samples_per_node=7)
    drawn = {tuple(share.group for share in share_out(written(), plan, 3, rng(seed))) for seed in range(10)}
    assert len(drawn) > 3
    shares = share_out(written(), plan, 6, rng())
    assert {len(share.train) for share in shares} == {7}
    assert all((np.diff(share.train) > 0).all() for share in shares)


def test_users_of_a_regression_are_nodes() -> None:
    dataset = load_dataset(DatasetPlan(name="linear-regression", num_users=7))
    shares = share_out(dataset, PartitionPlan(kind="by-user", min_samples=1), 7, rng())
    assert [share.group for share in shares] == list(range(7))


@needs_data
def test_stations_are_nodes_with_their_own_last_months_to_test_with() -> None:
    shares = share_out(load_dataset("irish-weather"), PartitionPlan(kind="by-station", test="own"), 25, rng())
    assert all(share.test is not None and len(share.test) > 1500 for share in shares)


@pytest.mark.parametrize(
    ("plan", "num_nodes", "message"),
    [
        (PartitionPlan(kind="by-writer"), 7, "7 nodes, but 'written' has 6 writers: have at most 6 nodes"),
        (PartitionPlan(kind="by-writer", min_samples=13), 4, "4 nodes, but 3 groups with 13 samples or more"),
        (PartitionPlan(kind="by-station"), 2, 'names the writer; write kind = "by-writer"'),
        (PartitionPlan(kind="by-wirter"), 2, "did you mean 'by-writer'"),
        (PartitionPlan(test="own"), 2, "one test set for all nodes"),
        (PartitionPlan(), 0, "0 nodes cannot share"),
        (PartitionPlan(), 76, "76 nodes cannot share 75 samples"),
        (PartitionPlan(samples_per_node=40), 2, "2 nodes need 80 samples.*write at most 37"),
        (PartitionPlan(kind="delta-sum"), 50, "1 samples a node cannot be split"),
        (PartitionPlan(kind="dirichlet", min_samples=40), 2, "2 nodes need 80 samples.*write at most 37"),
        (PartitionPlan(kind="classes", classes_per_node=11), 2, "has 10 classes"),
        (PartitionPlan(kind="label-swap", num_groups=6), 6, "10 classes make 5 pairs"),
        (PartitionPlan(kind="label-swap", num_groups=5), 4, "write at most 4"),
    ],
)
def test_what_cannot_be_shared_out_is_told_with_numbers_and_remedy(
    plan: PartitionPlan, num_nodes: int, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        share_out(written(), plan, num_nodes, rng())


def test_a_partition_is_checked_before_anything_is_loaded() -> None:
    check_partition(PartitionPlan(kind="by-writer"), dataset_facts("mnist-by-writer"), 539)
    with pytest.raises(ConfigError, match="has 539 writers"):
        check_partition(PartitionPlan(kind="by-writer"), dataset_facts("mnist-by-writer"), 540)
    with pytest.raises(ConfigError, match="needs a writer for each sample, and 'mnist' names nothing"):
        check_partition(PartitionPlan(kind="by-writer"), dataset_facts("mnist"), 5)
    with pytest.raises(ConfigError, match="no samples of these groups to test with"):
        check_partition(PartitionPlan(kind="by-writer", test="own"), dataset_facts("mnist-by-writer"), 5)
    with pytest.raises(ConfigError, match="needs classes"):
        check_partition(PartitionPlan(kind="dirichlet"), dataset_facts("irish-weather"), 5)


# --- swapped labels, tests, samples ---------------------------------------------------------------


def test_each_group_swaps_other_labels_in_training_and_in_testing() -> None:
    digits = load_dataset("digits")
    shares = share_out(digits, PartitionPlan(kind="label-swap", samples_per_node=60), 10, rng())
    for node, share in enumerate(shares):
        low, high = 2 * (node % 5), 2 * (node % 5) + 1
        samples = raw_samples(digits, share)
        np.testing.assert_array_equal(samples.x, digits.x[share.train])
        for given_label, true_label in ((samples.y, digits.y[share.train]), (samples.y_test, digits.y_test)):
            expected = true_label.copy()
            expected[true_label == low], expected[true_label == high] = high, low
            np.testing.assert_array_equal(given_label, expected)
        assert share.group == node % 5
    assert samples.x_test is digits.x_test


def test_several_pairs_of_a_group_are_swapped() -> None:
    plan = PartitionPlan(kind="label-swap", num_groups=2, pairs_per_group=2)
    maps = [share.label_map for share in share_out(load_dataset("digits"), plan, 2, rng())]
    assert [labels.tolist() for labels in maps if labels is not None] == [
        [1, 0, 3, 2, 4, 5, 6, 7, 8, 9],
        [0, 1, 2, 3, 5, 4, 7, 6, 8, 9],
    ]


def test_tests_may_be_fewer() -> None:
    digits = load_dataset("digits")
    shares = share_out(digits, PartitionPlan(test_samples_per_node=30), 3, rng())
    tests = [tuple(share.test.tolist()) for share in shares if share.test is not None]
    assert len(set(tests)) == 3
    assert {len(set(test)) for test in tests} == {30}
    assert len(raw_samples(digits, shares[0]).x_test) == 30


# --- from a scenario ------------------------------------------------------------------------------


def read(**entries: object) -> PartitionPlan:
    return read_partition(Table(entries, source="scenario.toml", name="partition"))


def test_a_scenario_says_how_samples_are_shared_out() -> None:
    assert read() == PartitionPlan()
    assert read(kind="dirichlet", alpha=1) == PartitionPlan(kind="dirichlet", alpha=1.0)
    assert read(kind="by-writer", choose="first", test="own", min_samples=3) == PartitionPlan(
        kind="by-writer", choose="first", test="own", min_samples=3
    )
    assert read(kind="classes", classes_per_node=3, class_step=2, is_shared=True) == PartitionPlan(
        kind="classes", classes_per_node=3, class_step=2, is_shared=True
    )
    assert read(kind="label-swap", num_groups=2, size_spread=0.5) == PartitionPlan(
        kind="label-swap", num_groups=2, size_spread=0.5
    )


@pytest.mark.parametrize("kind", PARTITION_KINDS)
def test_every_kind_can_be_read_with_its_defaults(kind: str) -> None:
    assert read(kind=kind) == PartitionPlan(kind=kind)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"kind": "dirichlt"}, "partition.kind = 'dirichlt'.*did you mean 'dirichlet'"),
        ({"kind": "iid", "alpha": 1.0}, "partition.alpha: unknown key"),
        ({"kind": "dirichlet", "alpha": 0}, "partition.alpha = 0: must be a number"),
        ({"kind": "by-writer", "choose": "last"}, "must be one of"),
        ({"kind": "iid", "samples_per_nod": 5}, "did you mean 'samples_per_node'"),
        ({"test": "private"}, "partition.test = 'private'"),
    ],
)
def test_a_mistake_in_a_scenario_names_key_value_and_remedy(entries: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read(**entries)
