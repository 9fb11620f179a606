"""Named models train as eager PyTorch does, and docs/coverage.md has all of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from grapevine_lab.coverage.measure import Coverage, cover
from grapevine_lab.coverage.models import MODELS
from grapevine_lab.coverage.page import page
from grapevine_lab.coverage.refused import REFUSED, refusal

WRITTEN = (Path(__file__).parents[4] / "docs" / "coverage.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "name",
    ["LeNet-5", "U-Net", "LSTM Seq2Seq", "Transformer encoder", "Variational autoencoder", "torchvision ResNet-18"],
)
def test_a_step_of_a_named_model_is_eager_pytorchs(name: str) -> None:
    found = cover(MODELS[name])
    assert found.gradient_difference <= 1e-6
    assert found.output_difference <= 1e-5


def test_every_named_model_is_on_the_page() -> None:
    rows = [line.split(" | ")[0].removeprefix("| ") for line in WRITTEN.splitlines() if line.startswith("| ")]
    assert set(rows) >= {*MODELS, *REFUSED}


def test_steps_are_timed_in_pairs() -> None:
    found = cover(MODELS["MLP"], seconds=0.01)
    assert len(found.pairs) >= 7
    assert found.speed > 0.2


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_is_refused_with_the_words_on_the_page(name: str) -> None:
    assert f"| {name} | " in WRITTEN
    assert refusal(REFUSED[name]).split(": ")[-1][:60] in WRITTEN


def test_the_page_says_what_was_found() -> None:
    found = Coverage(
        num_nodes=8,
        num_operators=5,
        program_bytes=364,
        num_parameters=235_146,
        gradient_difference=2e-8,
        output_difference=0.0,
        batch=32,
        fits=False,
        pairs=(0.9, 1.0, 1.1),
    )
    measured = "the gradient of 'a.weight' and 1 more is up to 0 and the module's own 1.8. Sign has"
    text = page({"MLP": found}, {"several outputs": "returns 2 values | return one", "signs": measured})
    assert "| signs | the gradient of … is up to … and the module's own …. Sign has |" in text
    assert "| MLP | 8 | 5 | 364 | 235,146 | 2e-08 | 0 | 32 | 1.00 (0.95 … 1.05), 3 pairs | no |" in text
    assert r"| several outputs | returns 2 values \| return one |" in text
