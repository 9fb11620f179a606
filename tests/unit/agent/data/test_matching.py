"""What an owner's files hold is matched with what a task needs, and a mismatch is explained."""

from __future__ import annotations

import io
import os
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from grapevine_agent.data.matching import match_source
from grapevine_agent.data.preparing import load_samples
from grapevine_agent.data.source import DataSource
from grapevine_proto.errors import TaskError
from grapevine_proto.manifest import DataContract, FeatureSpec

rng = np.random.default_rng(0)
X, Y = rng.normal(size=(20, 4)), rng.integers(0, 3, 20)


def _save(path: Path, **arrays: Any) -> DataSource:
    np.savez(path / "points.npz", **arrays)
    return DataSource(name="garden", kind="points", path=path / "points.npz")


def test_a_source_that_fits_is_found_among_others(contract: DataContract, source: DataSource, tmp_path: Path) -> None:
    other = DataSource(name="other", kind="pictures", path=tmp_path / "none.npz")
    broken = DataSource(name="broken", kind="points", path=tmp_path / "none.npz")
    match = match_source(contract, (other, broken, source))
    assert match
    assert (match.source, match.num_samples, match.num_test) == (source, 160, 40)
    assert str(match) == "garden: 160 samples, 40 to test with"


def test_without_a_source_of_the_kind_the_kinds_are_told(contract: DataContract) -> None:
    match = match_source(contract, [DataSource(name="a", kind="pictures", path=Path("a.npz"))])
    assert not match
    assert "'points'" in str(match)
    assert "pictures" in str(match)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": X}, "no array 'y'"),
        ({"x": X, "y": Y[:19]}, "20 samples in x but 19 in y"),
        ({"x": X[:, :3], "y": Y}, r"x has the shape \[20, 3\], the task takes \[n, 4\]"),
        ({"x": X, "y": Y.reshape(20, 1)}, "y has the shape"),
        ({"x": X.astype(complex), "y": Y}, "x holds complex128"),
        ({"x": X, "y": Y.astype(float)}, "y holds float64, the task takes int64"),
        ({"x": X, "y": Y, "x_test": X}, "belong together"),
        ({"x": X, "y": Y, "x_test": X, "y_test": Y[:1]}, "20 samples in x_test but 1 in y_test"),
        ({"x": np.float32(1), "y": Y}, "x is a single number"),
        ({"x": X, "y": np.int64(1)}, "y is a single number"),
        ({"x": X[:5], "y": Y[:5]}, "5 samples, the task needs 10"),
        ({"x": X, "y": np.array([{}] * 20)}, "y holds object"),
    ],
)
def test_what_does_not_fit_is_explained(tmp_path: Path, contract: DataContract, arrays: Any, message: str) -> None:
    contract = replace(contract, minimum_samples=10)
    source = _save(tmp_path, **arrays)
    match = match_source(contract, [source])
    assert not match
    with pytest.raises(TaskError, match=message):
        raise TaskError(str(match))
    with pytest.raises(TaskError, match=message):
        load_samples(contract, source)


def test_a_file_that_is_no_npz_file_is_explained(tmp_path: Path, contract: DataContract, source: DataSource) -> None:
    whole = source.path.read_bytes()
    for length in range(0, len(whole), 97):
        source.path.write_bytes(whole[:length])
        match = match_source(contract, [source])
        assert not match
        assert "npz" in str(match)


def test_a_changed_file_is_read_again(tmp_path: Path, contract: DataContract) -> None:
    source = _save(tmp_path, x=X, y=Y)
    assert match_source(contract, [source]).num_samples == 16
    _save(tmp_path, x=np.concatenate([X, X]), y=np.concatenate([Y, Y]))
    os.utime(source.path, ns=(1, 1))
    assert match_source(contract, [source]).num_samples == 32


def test_features_are_shifted_and_scaled(tmp_path: Path, contract: DataContract) -> None:
    source = _save(tmp_path, x=np.full((10, 4), 8, np.uint8), y=np.zeros(10, np.uint8))
    samples = load_samples(replace(contract, offset=4.0, scale=0.25), source)
    assert samples.x.dtype == np.float32
    assert samples.y.dtype == np.int64
    np.testing.assert_array_equal(samples.x, np.ones((8, 4)))


def test_a_fifth_is_held_out_and_always_the_same_fifth(tmp_path: Path, contract: DataContract) -> None:
    source = _save(tmp_path, x=np.arange(80.0).reshape(20, 4), y=Y)
    one, two = load_samples(contract, source), load_samples(contract, source)
    np.testing.assert_array_equal(one.x_test, two.x_test)
    seen = sorted([*one.x[:, 0].tolist(), *one.x_test[:, 0].tolist()])
    assert seen == np.arange(0.0, 80.0, 4).tolist()
    assert (len(one.x), len(one.x_test)) == (16, 4)


def test_a_test_set_of_ones_own_is_used(tmp_path: Path, contract: DataContract) -> None:
    source = _save(tmp_path, x=X, y=Y, x_test=X[:7], y_test=Y[:7])
    match = match_source(contract, [source])
    assert (match.num_samples, match.num_test) == (20, 7)
    samples = load_samples(contract, source)
    assert (len(samples.x), len(samples.x_test)) == (20, 7)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": X, "y": Y + 1}, r"y\[\d+\]: 3 is no class of the task: its classes are numbered from 0 to 2"),
        ({"x": X, "y": Y - 1}, r"y\[\d+\]: -1 is no class"),
        ({"x": X, "y": np.where(Y == 2, 255, Y)}, r"y\[\d+\]: 255 is no class"),
        ({"x": X, "y": np.full(20, 2**64 - 1, np.uint64)}, r"y\[0\]: 18446744073709551615 is no class"),
        ({"x": np.where(X[7, 2] == X, np.nan, X), "y": Y}, r"x\[7, 2\]: nan is no number"),
        ({"x": np.where(X[7, 2] == X, -np.inf, X), "y": Y}, r"x\[7, 2\]: -inf is not finite"),
        ({"x": np.where(X[7, 2] == X, 1e39, X), "y": Y}, r"x\[7, 2\]: 1e\+39 is too large for float32"),
    ],
)
def test_samples_that_would_spoil_training_are_refused(
    tmp_path: Path, contract: DataContract, arrays: Any, message: str
) -> None:
    source = _save(tmp_path, **arrays)
    with pytest.raises(TaskError, match=message) as refused:
        load_samples(contract, source)
    assert str(match_source(contract, [source])) == str(refused.value)  # before it is joined, in the same words


def test_real_targets_may_be_whole_numbers(tmp_path: Path, contract: DataContract) -> None:
    regression = replace(contract, target=FeatureSpec(name="y", dtype="float32", shape=()), num_classes=0)
    samples = load_samples(regression, _save(tmp_path, x=X, y=Y))
    assert samples.y.dtype == np.float32


def test_an_archive_that_unpacks_to_more_than_is_allowed_is_refused_unread(
    tmp_path: Path, contract: DataContract
) -> None:
    np.savez_compressed(tmp_path / "points.npz", x=np.zeros((1_000_000, 4)), y=np.zeros(1_000_000, int))
    source = DataSource(name="bomb", kind="points", path=tmp_path / "points.npz", max_bytes=1_000_000)
    assert source.path.stat().st_size < 100_000
    assert "max_bytes" in str(match_source(contract, [source]))


def test_a_header_that_does_not_tell_the_size_of_its_array_is_refused(tmp_path: Path, contract: DataContract) -> None:
    whole = io.BytesIO()
    np.save(whole, X)
    with zipfile.ZipFile(tmp_path / "points.npz", "w") as archive:
        archive.writestr("x.npy", whole.getvalue() + bytes(1_000))
    source = DataSource(name="bomb", kind="points", path=tmp_path / "points.npz")
    assert "not an npz file" in str(match_source(contract, [source]))
