"""Folders of images, and data sets that torchvision knows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from grapevine_agent.data.matching import match_source
from grapevine_agent.data.preparing import load_samples
from grapevine_agent.data.source import DataSource
from grapevine_agent.data.torchvision_names import TORCHVISION_SETS
from grapevine_proto.errors import TaskError
from grapevine_proto.manifest import DataContract, FeatureSpec, PipelineStep

CONTRACT = DataContract(
    kind="pets",
    features=FeatureSpec(name="image", dtype="float32", shape=(8, 8)),
    target=FeatureSpec(name="class", dtype="int64", shape=()),
    num_classes=3,
    classes=("bird", "cat", "dog"),
)


@pytest.fixture
def source(tmp_path: Path) -> DataSource:
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for k in range(10):
            pixels = rng.integers(0, 100, (8, 8, 3), np.uint8) + (100 if name == "dog" else 0)
            Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / name / f"{k}.png")
    return DataSource(name="pets", kind="pets", path=tmp_path, format="images")


@pytest.mark.parametrize("shape", [(8, 8), (1, 8, 8), (3, 8, 8), (8, 8, 3)])
def test_images_stand_as_the_task_wants_them(source: DataSource, shape: tuple[int, ...]) -> None:
    contract = replace(CONTRACT, features=replace(CONTRACT.features, shape=shape))
    assert match_source(contract, [source]).num_samples == 16
    samples = load_samples(contract, source)
    assert samples.x.shape == (16, *shape)
    is_dog = samples.x.reshape(16, -1).mean(1) > 100
    np.testing.assert_array_equal(samples.y, np.where(is_dog, 2, 1))


def test_another_size_is_a_reason_and_a_pipeline_can_resize(source: DataSource) -> None:
    wanted = replace(CONTRACT, features=replace(CONTRACT.features, shape=(4, 4)))
    assert "the task takes [n, 4, 4]" in str(match_source(wanted, [source]))
    resize = PipelineStep(name="resize", arguments={"height": (4.0,), "width": (4.0,)})
    assert load_samples(replace(CONTRACT, pipeline=(resize,)), source).x.shape == (16, 4, 4)


def test_a_folder_that_is_no_class_of_the_task_is_a_reason(source: DataSource) -> None:
    (source.path / "cat").rename(source.path / "cats")
    assert "'cats'" in str(match_source(CONTRACT, [source]))


def test_a_damaged_image_and_one_of_another_size_are_told_by_name(source: DataSource) -> None:
    whole = (source.path / "dog" / "3.png").read_bytes()
    (source.path / "dog" / "3.png").write_bytes(whole[:40])
    with pytest.raises(TaskError, match=r"3\.png"):
        load_samples(CONTRACT, source)
    Image.new("L", (9, 8)).save(source.path / "dog" / "3.png")
    with pytest.raises(TaskError, match="9 x 8 pixels"):
        load_samples(CONTRACT, source)


def test_a_folder_without_images_is_told(tmp_path: Path) -> None:
    empty = DataSource(name="pets", kind="pets", path=tmp_path, format="images")
    assert "no images" in str(match_source(CONTRACT, [empty]))
    assert "cannot read" in str(match_source(CONTRACT, [replace(empty, path=tmp_path / "none")]))


def test_a_named_data_set_is_described_without_reading_it_and_fetched_only_if_its_owner_says(tmp_path: Path) -> None:
    contract = replace(
        CONTRACT, features=replace(CONTRACT.features, shape=(1, 28, 28)), num_classes=10, classes=(), kind="mnist"
    )
    source = DataSource(name="m", kind="mnist", path=tmp_path, format="torchvision", dataset="MNIST")
    assert "download = true" in str(match_source(contract, [source]))
    match = match_source(contract, [replace(source, download=True)])
    assert (match.num_samples, match.num_test) == (60_000, 10_000)
    assert {"MNIST", "EMNIST/letters", "FashionMNIST", "CIFAR10"} <= TORCHVISION_SETS.keys()
