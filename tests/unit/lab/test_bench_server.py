"""The parts of `server_folding`, with models of a few hundred numbers. What it measures is measured by `make bench`."""

import sys
import textwrap
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from grapevine_lab.bench import server_flower, server_folding
from grapevine_lab.bench.figures import Skipped
from grapevine_lab.bench.server_flower import SCRIPT, NoAnswerError, beside
from grapevine_lab.bench.server_folding import STRATEGIES, measure
from grapevine_lab.bench.server_members import Accepting, Folding, NotTakenError, updates_of
from grapevine_lab.bench_simulator.peers import PeerMissingError

WELL = """
    updates = np.load(folder / "updates.npy")
    weights = np.arange(1, len(updates) + 1)
    np.save(folder / "mean.npy", np.average(updates, axis=0, weights=weights).astype(np.float32))
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps({way: int(line) * 1.0 for way in ("records", "in place", "arrays")}), flush=True)
    """


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_folding, "COPIED", 1_000)


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Writes a script that is run in place of what asks Flower."""

    def write(body: str) -> Path:
        head = "import json, sys\nfrom pathlib import Path\nimport numpy as np\nfolder = Path(sys.argv[1])\n"
        path = tmp_path / "beside.py"
        path.write_text(head + textwrap.dedent(body), encoding="utf-8")
        monkeypatch.setattr(server_folding, "SCRIPT", path)
        return path

    return write


def test_a_fold_of_fedavg_is_the_mean_by_samples() -> None:
    updates = updates_of(300)
    mean = np.average(updates.vectors, axis=0, weights=updates.samples)
    assert Folding.of("fedavg", updates).fold()[0] == pytest.approx(mean, abs=1e-5)


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_fold_makes_a_model_again_and_again(name: str) -> None:
    updates = updates_of(300)
    folding = Folding.of(name, updates)
    models = [folding.fold() for _ in range(3)]
    for model, taken_s in models:
        assert taken_s > 0
        assert np.isfinite(model).all()
        assert not np.array_equal(model, updates.start)
    assert folding.context.version == 3


@pytest.mark.parametrize("name", STRATEGIES)
def test_members_that_speak_again_are_folded_in_again(name: str) -> None:
    """Else a strategy that passes over what it knows would be measured at doing nothing."""
    updates = updates_of(300)
    folding = Folding.of(name, updates)
    before, _ = folding.fold()
    way = np.float32(5) * updates.way
    folding.updates = [
        replace(
            each, parameters=each.parameters + way, base=None if each.base is None else each.base + before - each.base
        )
        for each in folding.updates
    ]
    after, _ = folding.fold()
    gone = float(np.dot(after - before, way) / np.dot(way, way))
    assert gone > 0.5


@pytest.mark.parametrize("name", STRATEGIES)
def test_the_whole_accept_takes_all_updates_and_publishes_their_model(name: str) -> None:
    accepting = Accepting.of(name, updates_of(300))
    assert accepting.seconds(3) > 0
    assert accepting.aggregator.model_version == 3
    assert accepting.aggregator.num_merged == 3 * 20
    assert len(accepting.aggregator.contributors) == 20


def test_a_server_that_publishes_nothing_has_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    accepting = Accepting.of("fedavg", updates_of(300))
    monkeypatch.setattr(accepting.aggregator.strategy, "aggregate", lambda _context: [])
    with pytest.raises(NotTakenError, match="no model in round 1 of fedavg"):
        accepting.seconds(1)
    folding = Folding.of("fedavg", updates_of(300))
    monkeypatch.setattr(folding.strategy, "aggregate", lambda _context: [])
    with pytest.raises(NotTakenError, match="FedAvg made no model of 20 updates"):
        folding.fold()


def test_without_flower_there_are_the_figures_of_all_strategies_beside_memory() -> None:
    figures = measure(300, 2, None, 3)
    with_target = [figure.what for figure in figures if figure.target is not None]
    assert with_target == [f"300: {name}, least bytes / copy" for name in STRATEGIES]
    assert {figure.num for figure in figures} == {3, 3 * len(STRATEGIES)}


def test_beside_another_process_the_ratio_is_to_the_fastest_of_its_ways(script: Callable[[str], Path]) -> None:
    script(WELL.replace("int(line) * 1.0", '0.5 if way == "records" else int(line) * 1.0'))
    figures = {figure.what: figure for figure in measure(300, 2, Path(sys.executable), 1)}
    ratio, ours = figures["300: fedavg, folded / Flower's fastest"], figures["300: fedavg, folded"]
    assert ratio.target is not None
    assert ratio.median == pytest.approx(ours.median * 0.5 / 20)
    assert figures["300: Flower's aggregate, of arrays"].median == pytest.approx(20 / 2.0)


def test_another_mean_of_the_same_updates_is_no_comparison(script: Callable[[str], Path]) -> None:
    script(WELL.replace("weights=weights", "weights=weights[::-1]"))
    with pytest.raises(NoAnswerError, match="mean of the same updates is another than ours"):
        measure(300, 1, Path(sys.executable), 1)


def test_a_process_that_ends_says_why_with_its_last_words(script: Callable[[str], Path], tmp_path: Path) -> None:
    path = script('sys.exit("it hurts")')
    with (
        pytest.raises(NoAnswerError, match="Flower's process gives no answer: it hurts"),
        beside(Path(sys.executable), updates_of(30).vectors, tmp_path, path),
    ):
        pass


def test_where_flower_cannot_be_installed_the_rest_is_measured_and_the_reason_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> None:
        raise PeerMissingError("flwr==1.42.0 could not be installed: there is no network")

    monkeypatch.setattr(server_folding, "ensure_installed", fail)
    monkeypatch.setattr(server_folding, "SIZES", {30: 1})
    *figures, skipped = server_folding.run(lambda _: None)
    assert len(figures) == 2 + 4 * len(STRATEGIES)
    assert isinstance(skipped, Skipped)
    assert skipped.reason == "beside Flower: flwr==1.42.0 could not be installed: there is no network"
    assert not skipped.failed


def test_what_runs_in_flowers_environment_knows_nothing_of_ours_and_that_is_without_pytorch() -> None:
    assert "grapevine" not in SCRIPT.read_text(encoding="utf-8")
    assert server_flower.FLOWER.folder == "flwr-1.42.0-without-torch"
