"""The data sets by name, the synthetic ones, and a user's own file."""

from __future__ import annotations

import gzip
import os
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from grapevine_agent.config.toml_reader import Table
from grapevine_agent.data.preparing import load_samples
from grapevine_agent.data.source import DataSource
from grapevine_lab.simulator.datasets import (
    DATASETS,
    DatasetPlan,
    data_folder,
    dataset_facts,
    load_dataset,
    read_dataset,
)
from grapevine_lab.simulator.datasets.regression import true_parameters
from grapevine_lab.simulator.datasets.weather import DEVIATIONS, MEANS
from grapevine_proto.errors import ConfigError
from grapevine_proto.manifest import DataContract, FeatureSpec

GIVEN = os.environ.get("GRAPEVINE_DATA", "")
needs_data = pytest.mark.skipif(not GIVEN, reason="GRAPEVINE_DATA is not set")

ON_DISK = ["mnist", "mnist-by-writer", "unipen-by-writer", "unipen-80", "irish-weather"]


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@contextmanager
def mirror(folder: Path) -> Iterator[str]:
    """The folder's files over HTTP, as a URL that ends in a slash."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


def table(**entries: object) -> Table:
    return Table(entries, source="scenario.toml", name="dataset")


# --- by name --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["digits", "linear-regression", "nonlinear-regression"])
def test_what_is_known_before_loading_is_what_is_loaded(name: str) -> None:
    dataset = load_dataset(name)
    assert dataset.facts() == dataset_facts(name)
    assert len(dataset.x) == len(dataset.y)
    assert len(dataset.x_test) == len(dataset.y_test)


@needs_data
@pytest.mark.parametrize("name", ON_DISK)
def test_the_same_holds_for_what_lies_on_disk(name: str) -> None:
    dataset = load_dataset(name)
    assert dataset.facts() == dataset_facts(name)
    assert len(dataset.x) == len(dataset.y)
    assert dataset.groups is None or len(dataset.groups) == len(dataset.y)
    assert dataset.test_groups is None or len(dataset.test_groups) == len(dataset.y_test)


def test_digits_are_split_as_the_tests_of_swarms_split_them() -> None:
    from tests.swarm.digits import samples_of

    dataset = load_dataset("digits")
    theirs = samples_of(0)
    np.testing.assert_array_equal(dataset.x_test.astype(np.float32) / 16, theirs.x_test)
    np.testing.assert_array_equal(dataset.y_test, theirs.y_test)
    assert dataset.x.dtype == np.uint8
    assert dataset.x.max() == 16


def test_an_unknown_name_gets_a_suggestion() -> None:
    with pytest.raises(ConfigError, match="did you mean 'mnist'"):
        load_dataset("mnits")
    with pytest.raises(ConfigError, match="did you mean 'irish-weather'"):
        dataset_facts("irish_weather")


@pytest.mark.parametrize("name", ON_DISK)
def test_a_set_that_is_not_there_says_where_it_was_looked_for_and_how_to_get_it(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"'{name}': there is no {tmp_path}/.*GRAPEVINE_DATA") as told:
        load_dataset(name, tmp_path)
    assert any(remedy in str(told.value) for remedy in ("download = true", "make it from", "fetch MNIST"))


def test_data_is_looked_for_where_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAPEVINE_DATA", "/somewhere")
    assert data_folder() == Path("/somewhere")
    monkeypatch.delenv("GRAPEVINE_DATA")
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert data_folder() == Path("/cache/grapevine")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/someone")
    assert data_folder() == Path("/home/someone/.cache/grapevine")


# --- MNIST ----------------------------------------------------------------------------------------


@needs_data
def test_mnist_has_its_well_known_counts_and_stays_bytes() -> None:
    mnist = load_dataset("mnist")
    assert np.bincount(mnist.y).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert mnist.x.dtype == np.uint8
    assert mnist.x.nbytes == 60_000 * 28 * 28


@needs_data
def test_every_writer_of_mnist_wrote_several_digits_and_none_of_the_test_set() -> None:
    mnist = load_dataset("mnist-by-writer")
    assert mnist.groups is not None
    assert mnist.test_groups is not None
    assert not np.isin(mnist.test_groups, mnist.groups).any()
    assert all(len(np.unique(mnist.y[mnist.groups == writer])) >= 8 for writer in np.unique(mnist.groups))


def test_a_broken_idx_file_is_named(tmp_path: Path) -> None:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    path = raw / "train-images-idx3-ubyte.gz"
    header = struct.pack(">4I", 0x0803, 60_000, 28, 28)
    for content in (
        b"junk",
        gzip.compress(b"junk"),
        gzip.compress(header + b"few"),
        gzip.compress(header + bytes(60_000 * 28 * 28))[:-9],
        gzip.compress(struct.pack(">4I", 0x0803, 2, 28, 28) + bytes(2 * 28 * 28)),
    ):
        path.write_bytes(content)
        with pytest.raises(ConfigError, match=r"train-images-idx3-ubyte\.gz is not MNIST's IDX file"):
            load_dataset("mnist", tmp_path)


@needs_data
def test_uncompressed_files_are_read_as_well(tmp_path: Path) -> None:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for path in (Path(GIVEN) / "MNIST" / "raw").glob("*.gz"):
        (raw / path.stem).write_bytes(gzip.decompress(path.read_bytes()))
    np.testing.assert_array_equal(load_dataset("mnist", tmp_path).x_test, load_dataset("mnist").x_test)


@needs_data
def test_torchvision_downloads_mnist_where_that_is_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("PIL")
    from grapevine_agent.data.torchvision_sets import torchvision_datasets

    try:
        datasets = torchvision_datasets()
    except ConfigError as error:
        pytest.skip(str(error))
    # torchvision's own path to the end: its checksums, its folders; only the mirror is on this machine.
    with mirror(Path(GIVEN) / "MNIST" / "raw") as url:
        monkeypatch.setattr(datasets.MNIST, "mirrors", [url])
        with pytest.raises(ConfigError, match="download = true"):
            load_dataset("mnist", tmp_path)
        fetched = load_dataset(DatasetPlan(name="mnist", download=True), tmp_path)
    np.testing.assert_array_equal(fetched.y, load_dataset("mnist").y)
    with pytest.raises(ConfigError, match="cannot be downloaded"):  # nobody answers any more
        load_dataset(DatasetPlan(name="mnist", download=True), tmp_path / "elsewhere")


# --- UNIPEN and the weather -----------------------------------------------------------------------


@needs_data
def test_every_writer_of_characters_has_samples_to_train_on_and_to_test_with() -> None:
    characters = load_dataset("unipen-80")
    assert characters.groups is not None
    assert characters.test_groups is not None
    assert set(characters.groups.tolist()) == set(characters.test_groups.tolist())
    assert len(set(characters.groups.tolist())) == 80
    again = load_dataset("unipen-80")
    np.testing.assert_array_equal(again.x_test, characters.x_test)


@needs_data
def test_weather_windows_are_complete_standardised_and_in_order_of_time() -> None:
    weather = load_dataset("irish-weather")
    with np.load(Path(GIVEN) / "irish_weather" / "irish_hourly_2017.npz") as archive:
        temperature = (archive["temp"] - MEANS[0]) / DEVIATIONS[0]
    assert np.isfinite(weather.x).all()
    assert weather.groups is not None
    assert weather.test_groups is not None
    first, last = weather.groups == 0, weather.test_groups == 24
    np.testing.assert_array_equal(weather.x[first][0, :, 0], temperature[0, :24])
    np.testing.assert_array_equal(weather.y[first][0], temperature[0, 24:25])
    np.testing.assert_array_equal(weather.y_test[last][-1], temperature[24, -1:])
    # A complete station: the first hour to test on comes right after the last one to train on.
    np.testing.assert_array_equal(weather.y[first][:, 0], temperature[0, 24:7008])
    np.testing.assert_array_equal(weather.y_test[weather.test_groups == 0][:, 0], temperature[0, 7008:])
    assert np.abs(weather.x.mean(axis=(0, 1))).max() < 0.01
    assert np.abs(weather.x.std(axis=(0, 1)) - 1).max() < 0.02


# --- synthetic ------------------------------------------------------------------------------------


def test_without_noise_the_least_squares_solution_is_where_the_loss_is_zero() -> None:
    plan = DatasetPlan(name="linear-regression", num_users=4, samples_per_user=50, seed=3)
    dataset = load_dataset(plan)
    assert dataset.x.shape == (200, 100)
    found = np.linalg.lstsq(dataset.x.astype(np.float64), dataset.y[:, 0].astype(np.float64), rcond=None)[0]
    np.testing.assert_allclose(found, true_parameters(plan)[0], atol=1e-4)


def test_users_share_as_many_distributions_as_asked() -> None:
    plan = DatasetPlan(name="nonlinear-regression", num_users=5, num_distributions=2, seed=1)
    dataset, weights = load_dataset(plan), true_parameters(plan)
    assert dataset.groups is not None
    for user in range(5):
        x, y = dataset.x[dataset.groups == user].astype(np.float64), dataset.y[dataset.groups == user, 0]
        one, two = weights[user % 2]
        np.testing.assert_allclose(y, one * x[:, 0] + one * two * x[:, 1], atol=1e-5)
    # Two humps at ±1.5/d · w, so the second moment of x is 1 + (1.5/2 · w)².
    many = load_dataset(DatasetPlan(name="nonlinear-regression", num_users=1, samples_per_user=200_000))
    w = true_parameters(DatasetPlan(name="nonlinear-regression", num_users=1))[0]
    np.testing.assert_allclose((many.x.astype(np.float64) ** 2).mean(axis=0), 1 + (0.75 * w) ** 2, atol=0.02)
    np.testing.assert_allclose(many.x.mean(axis=0), 0, atol=0.02)


def test_the_same_seed_gives_the_same_samples_and_another_one_others() -> None:
    one, same, other = (load_dataset(DatasetPlan(name="linear-regression", seed=seed)).x for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)


def test_more_distributions_than_users_are_refused() -> None:
    with pytest.raises(ConfigError, match="num_distributions = 11: must be from 1 to num_users = 10"):
        load_dataset(DatasetPlan(name="linear-regression", num_distributions=11))


# --- a file of one's own --------------------------------------------------------------------------


def test_a_file_of_ones_own_is_loaded_with_its_groups(tmp_path: Path) -> None:
    path = tmp_path / "own.npz"
    x, y = np.arange(40.0).reshape(20, 2), np.arange(20) % 3
    np.savez(path, x=x, y=y, x_test=x[:4], y_test=y[:4], groups=np.arange(20) // 5, test_groups=[0, 0, 0, 3])
    dataset = load_dataset(DatasetPlan(name=str(path), kind="my-kind"))
    np.testing.assert_array_equal(dataset.x, x)
    assert dataset.facts() == dataset_facts(str(path))
    assert (dataset.kind, dataset.num_classes, dataset.grouped_by) == ("my-kind", 3, "group")
    assert dataset.facts().num_groups == 4


def test_without_test_samples_the_same_are_held_out_as_on_a_device(tmp_path: Path) -> None:
    path = tmp_path / "own.npz"
    np.savez(path, x=np.arange(100.0), y=np.arange(100) % 2, groups=np.arange(100) // 10)
    dataset = load_dataset(str(path))
    contract = DataContract(
        kind="k",
        num_classes=2,
        features=FeatureSpec(name="x", dtype="float32", shape=()),
        target=FeatureSpec(name="y", dtype="int64", shape=()),
    )
    on_device = load_samples(contract, DataSource(name="own", kind="k", path=path))
    np.testing.assert_array_equal(dataset.x_test, on_device.x_test)
    np.testing.assert_array_equal(dataset.x, on_device.x)
    assert dataset.test_groups is not None
    np.testing.assert_array_equal(dataset.test_groups, dataset.x_test // 10)
    assert dataset.facts() == dataset_facts(str(path))


def test_real_targets_are_no_classes(tmp_path: Path) -> None:
    np.savez(tmp_path / "own.npz", x=np.ones((10, 3)), y=np.linspace(0, 1, 10))
    assert load_dataset(str(tmp_path / "own.npz")).num_classes == 0


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.ones(10)}, "has no array 'y'"),
        ({"x": np.ones(10), "y": np.ones(9)}, "10 samples in x but 9 in y"),
        ({"x": np.ones(10), "y": np.ones(10), "x_test": np.ones(3)}, "has x_test but no y_test"),
        ({"x": np.ones(10), "y": np.ones(10), "y_test": np.ones(3)}, "has y_test but no x_test"),
        ({"x": np.ones(10), "y": np.ones(10), "groups": np.ones(9, int)}, "10 samples in x but 9 in groups"),
        ({"x": np.ones(10), "y": np.ones(10), "groups": np.ones(10)}, "groups must hold one whole number"),
        ({"x": np.ones(10), "y": np.array(["a"] * 10)}, "y holds <U1"),
        ({"x": np.array([{}] * 10), "y": np.ones(10)}, "cannot be read as an npz file of numbers"),
        ({"x": np.array([np.nan] * 10), "y": np.ones(10)}, "x holds numbers that are not finite"),
        ({"x": np.ones(3), "y": np.ones(3)}, "x has 3 rows; 5 is the least"),
        (
            {"x": np.ones((9, 2)), "y": np.ones(9), "x_test": np.ones((9, 3)), "y_test": np.ones(9)},
            "samples to test with have another shape",
        ),
    ],
)
def test_a_file_that_does_not_fit_is_refused_with_its_remedy(
    tmp_path: Path, arrays: dict[str, np.ndarray], message: str
) -> None:
    np.savez(tmp_path / "own.npz", **arrays)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=message):
        load_dataset(str(tmp_path / "own.npz"))


def test_what_is_no_npz_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "own.npz"
    with pytest.raises(ConfigError, match="no such file"):
        load_dataset(str(path))
    with path.open("wb") as file:
        np.save(file, np.ones(3))
    with pytest.raises(ConfigError, match="a single array"):
        dataset_facts(str(path))
    for content in (b"", b"junk", b"PK\x03\x04junk"):
        path.write_bytes(content)
        with pytest.raises(ConfigError, match="cannot be read"):
            load_dataset(str(path))


# --- from a scenario ------------------------------------------------------------------------------


def test_a_scenario_names_its_data_set_and_the_options_that_it_has(tmp_path: Path) -> None:
    assert read_dataset(table(name="digits")) == DatasetPlan(name="digits")
    assert read_dataset(table(name="mnist", download=True)) == DatasetPlan(name="mnist", download=True)
    plan = read_dataset(table(name="linear-regression", num_distributions=3, seed=7), num_users=50)
    assert plan == DatasetPlan(name="linear-regression", num_users=50, num_distributions=3, seed=7)
    assert read_dataset(table(name="own.npz", kind="my-kind"), tmp_path).name == str(tmp_path / "own.npz")


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({}, "dataset.name is missing"),
        ({"name": "digit"}, "dataset.name = 'digit'.*did you mean 'digits'"),
        ({"name": "digits", "download": True}, "dataset.download: unknown key"),
        ({"name": "mnist", "seed": 1}, "dataset.seed: unknown key"),
        ({"name": "linear-regression", "num_user": 3}, "did you mean 'num_users'"),
        ({"name": "linear-regression", "num_distributions": 11}, "from 1 to 10"),
        ({"name": "own.npz", "kind": "My Kind"}, "does not have the right form"),
    ],
)
def test_a_mistake_in_a_scenario_names_key_value_and_remedy(entries: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_dataset(table(**entries))


def test_every_set_says_what_it_is() -> None:
    assert all(entry.description for entry in DATASETS.values())
    assert not any("femnist" in (name + entry.description).lower() for name, entry in DATASETS.items())
