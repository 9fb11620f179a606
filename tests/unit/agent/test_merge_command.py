"""`grapevine merge`: the agents' strategies on files, as the command sees them."""

from __future__ import annotations

import io
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from grapevine_agent.cli import main
from grapevine_agent.merge import STRATEGIES

Tensors = dict[str, np.ndarray[Any, Any]]
SHAPES = {"body.weight": (4, 3), "body.bias": (4,), "head.weight": (2, 4)}


def model(seed: int, *, buffers: bool = False) -> Tensors:
    rng = np.random.default_rng(seed)
    tensors: Tensors = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in SHAPES.items()}
    tensors |= {f"base/{name}": rng.standard_normal(shape).astype(np.float32) for name, shape in SHAPES.items()}
    if buffers:
        tensors["norm.running_mean"] = rng.standard_normal(4).astype(np.float32)
        tensors["norm.running_var"] = (rng.random(4) + 0.1).astype(np.float32)
        tensors["norm.num_batches_tracked"] = np.array(10 * seed, np.int64)
    return tensors


def facts(number: int, **changes: str) -> dict[str, str]:
    told = {"age": 10 * number, "experience": 100 * number, "samples": 5 * number, "epoch": 50}
    return {key: str(value) for key, value in told.items()} | {"peer": f"p{number}"} | changes


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """A local model (number 1) and three updates (2 to 4), each with a base and all metadata."""
    paths = []
    for number in range(1, 5):
        paths.append(tmp_path / f"m{number}.safetensors")
        save_file(model(number), paths[-1], metadata=facts(number))
    return paths


def words_of(strategy: str, local: Path, updates: list[Path], out: Path, *settings: str) -> list[str]:
    options = [word for update in updates for word in ("--update", str(update))]
    options += [word for setting in settings for word in ("--set", setting)]
    return ["merge", "--strategy", strategy, "--local", str(local), *options, "-o", str(out)]


def merge(
    strategy: str, local: Path, updates: list[Path], out: Path, *settings: str
) -> subprocess.CompletedProcess[str]:
    """The whole command, in this process: its start takes far longer than the merge."""
    words = ["grapevine", *words_of(strategy, local, updates, out, *settings)]
    stdout, stderr = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(stdout), redirect_stderr(stderr):
        patch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit) as ended:
            main()
    assert isinstance(ended.value.code, int)
    return subprocess.CompletedProcess(words, ended.value.code, stdout.getvalue(), stderr.getvalue())


def merged(strategy: str, files: list[Path], *settings: str) -> tuple[Tensors, dict[str, str]]:
    out = files[0].with_name("out.safetensors")
    done = merge(strategy, files[0], files[1:], out, *settings)
    assert done.returncode == 0, done.stderr
    with safe_open(out, framework="numpy") as file:
        return load_file(out), dict(file.metadata())


def close(result: np.ndarray[Any, Any], reference: np.ndarray[Any, Any]) -> bool:
    return bool(np.abs(result - reference).max() <= 1e-5 * np.abs(reference).max())


def stacked(files: list[Path], name: str) -> np.ndarray[Any, Any]:
    return np.stack([load_file(path)[name].astype(np.float64) for path in files])


def cosine(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> float:
    return float((a @ b / np.linalg.norm(a) / np.linalg.norm(b) + 1) / 2)


def flat(path: Path, prefix: str = "") -> np.ndarray[Any, Any]:
    tensors = load_file(path)
    return np.concatenate([tensors[prefix + name].astype(np.float64).ravel() for name in sorted(SHAPES)])


def weighted(files: list[Path], weights: list[float], name: str) -> np.ndarray[Any, Any]:
    return np.asarray(np.tensordot(np.array(weights) / np.sum(weights), stacked(files, name), 1))


@pytest.mark.parametrize(("strategy", "code"), [("average", 0), ("averag", 2)])
def test_a_process_of_its_own_does_and_says_the_same(files: list[Path], strategy: str, code: int) -> None:
    out = files[0].with_name("out.safetensors")
    words = words_of(strategy, files[0], files[1:], out)
    there = subprocess.run(
        [sys.executable, "-m", "grapevine_agent", *words], capture_output=True, text=True, check=False
    )
    wrote = out.rename(out.with_name("there.safetensors")) if not code else None
    here = merge(strategy, files[0], files[1:], out)
    assert there.returncode == here.returncode == code
    assert (there.stdout, there.stderr) == (here.stdout, here.stderr)
    if wrote is not None:
        one, other = load_file(wrote), load_file(out)
        assert one.keys() == other.keys()
        assert all(np.array_equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("name", SHAPES)
def test_the_gathered_means_agree_with_float64(files: list[Path], name: str) -> None:
    assert close(merged("average", files)[0][name], weighted(files, [1, 1, 1, 1], name))
    assert close(merged("fedavg", files)[0][name], weighted(files, [5, 10, 15, 20], name))
    assert close(merged("doubly-weighted", files)[0][name], weighted(files, [10, 20, 30, 40], name))
    assert close(merged("doubly-weighted", files, "p=2")[0][name], weighted(files, [1, 4, 9, 16], name))


@pytest.mark.parametrize("name", SHAPES)
def test_age_weighted_takes_the_updates_in_order(files: list[Path], name: str) -> None:
    own, *others = stacked(files, name)
    age = 10
    for number, other in enumerate(others, start=2):
        share = 10 * number / (age + 10 * number)
        own, age = (1 - share) * own + share * other, round((1 - share) * age + share * 10 * number)
    tensors, told = merged("age-weighted", files)
    assert close(tensors[name], own)
    assert told["age"] == str(age)  # as much of the ages as of the models


@pytest.mark.parametrize("name", SHAPES)
def test_delta_sum_bounded_and_exact(files: list[Path], name: str) -> None:
    bases = stacked(files, f"base/{name}")
    deltas = stacked(files, name) - bases
    rate = min(0.15 + 50 / 1000, 0.35)
    exact, _ = merged("delta-sum", files, "bounded=false")
    assert close(exact[name], bases.mean(0) + rate * deltas.sum(0))
    bounded, _ = merged("delta-sum", files)
    assert close(bounded[name], bases.mean(0) + max(rate, 0.25) * deltas.sum(0))
    other, _ = merged("delta-sum", files, "bounded=false", "A=0.05", "B=1000", "C=0.08")
    assert close(other[name], bases.mean(0) + 0.08 * deltas.sum(0))


def test_chisme_agrees_with_its_equations(files: list[Path]) -> None:
    own, base, experience = flat(files[0]), flat(files[0], "base/"), 100.0
    heard: dict[int, float] = {}
    for number, path in enumerate(files[1:], start=2):
        theirs = flat(path)
        heard[number] = 100.0 * number
        alpha = heard[number] / (experience + sum(heard.values()))
        similarity = cosine(own - base, theirs - base)
        omega = similarity / (1 + similarity)
        eta = alpha * omega / ((1 - alpha) * (1 - omega) + alpha * omega)
        own = (1 - eta) * own + eta * theirs
        experience = (1 - eta) * experience + eta * heard[number]
    tensors, told = merged("chisme", files)
    assert close(np.concatenate([tensors[name].ravel() for name in sorted(SHAPES)]), own)
    assert abs(float(told["experience"]) - experience) <= 2  # samples are whole at each merge


def test_cos_sim_dfl_agrees_with_its_equation(files: list[Path]) -> None:
    own, base = flat(files[0]), flat(files[0], "base/")
    vectors = [own, *(flat(path) for path in files[1:])]
    weights = np.array([5.0] + [5 * n * cosine(own - base, v - base) for n, v in enumerate(vectors[1:], start=2)])
    tensors, _ = merged("cos-sim-dfl", files)
    reference = np.tensordot(weights / weights.sum(), np.stack(vectors), 1)
    assert close(np.concatenate([tensors[name].ravel() for name in sorted(SHAPES)]), reference)


@pytest.mark.parametrize("name", SHAPES)
def test_robust_and_corrected_strategies(files: list[Path], name: str) -> None:
    rows = stacked(files, name)
    assert close(merged("median", files)[0][name], np.median(rows, axis=0))
    inner = np.sort(rows, axis=0)[1:-1].mean(0)
    assert close(merged("trimmed-mean", files, "trim=0.25")[0][name], inner)
    mean = rows.mean(0)
    factor = np.sqrt(np.mean([row.var() for row in rows]) / mean.var())
    assert close(merged("variance-corrected", files)[0][name], (mean - mean.mean()) * factor + mean.mean())


def test_krum_picks_one_of_the_models(files: list[Path]) -> None:
    vectors = [flat(path) for path in files]
    scores = []
    for one in vectors:
        distances = sorted(float(((one - other) ** 2).sum()) for other in vectors if other is not one)
        scores.append(sum(distances[: len(vectors) - 1 - 2]))
    tensors, _ = merged("krum", files, "f=1")
    chosen = np.concatenate([tensors[name].ravel() for name in sorted(SHAPES)])
    assert np.array_equal(chosen, vectors[int(np.argmin(scores))].astype(np.float32))


def test_a_servers_model_counts_by_its_contributors_and_fades(files: list[Path]) -> None:
    server = files[0].with_name("server.safetensors")
    told = facts(4, kind="server", contributors="a,b,c", silent_s="4", heartbeat_s="2")
    save_file(model(4), server, metadata=told)
    voices = [*files[:2], server]
    tensors, _ = merged("doubly-weighted", voices)
    source = 3 * 2.0 ** -(4 / 2 - 1)
    assert close(tensors["body.bias"], weighted(voices, [10, 20, source * 40], "body.bias"))
    tensors, _ = merged("doubly-weighted", voices, "server_trust_cap=1")
    assert close(tensors["body.bias"], weighted(voices, [10, 20, 40 * 0.5], "body.bias"))


def test_random_mix_is_the_seeds(files: list[Path]) -> None:
    one, again, other = (merged("random-mix", files, f"seed={seed}")[0]["body.bias"] for seed in (1, 1, 2))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)


def test_running_statistics_and_integers_of_a_plain_pytorch_model(tmp_path: Path) -> None:
    files = []
    for number in (1, 2):
        files.append(tmp_path / f"m{number}.safetensors")
        save_file(model(number, buffers=True), files[-1], metadata=facts(number))
    plain = {name: tensor for name, tensor in model(1, buffers=True).items() if not name.startswith("base/")}
    for strategy in STRATEGIES:
        tensors, _ = merged(strategy, files)
        assert (tensors["norm.running_var"] > 0).all(), strategy
        assert tensors["norm.num_batches_tracked"] == 20  # of the freshest
        assert {name: tensors[name].shape for name in tensors} == {name: tensor.shape for name, tensor in plain.items()}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_no_update_gives_the_local_model_back(files: list[Path], strategy: str) -> None:
    tensors, told = merged(strategy, files[:1])
    assert all(np.array_equal(tensors[name], load_file(files[0])[name]) for name in SHAPES)
    assert told["age"] == "10"


@pytest.mark.parametrize(
    ("break_it", "strategy", "settings", "expected"),
    [
        ({"body.bias": np.array([1, np.nan, 0, 0], np.float32)}, "average", (), "'body.bias' holds NaN"),
        ({"body.bias": np.zeros(5, np.float32)}, "average", (), "'body.bias'"),
        ({"body.bias": np.zeros(4, np.float16)}, "average", (), "'body.bias' is float16"),
        ({"extra": np.zeros(4, np.float32)}, "average", (), "'extra'"),
        ({"body.bias": None}, "average", (), "'body.bias'"),
        ({}, "averag", (), "did you mean 'average'"),
        ({}, "delta-sum", ("Z=1",), "no constant 'Z'"),
        ({}, "trimmed-mean", ("trim=0.9",), "trim"),
        ({}, "average", ("clip",), "key=value"),
        ({}, "average", ("clip=much",), "write a number"),
    ],
)
def test_what_is_wrong_is_named_and_nothing_is_written(
    files: list[Path],
    break_it: dict[str, np.ndarray[Any, Any] | None],
    strategy: str,
    settings: tuple[str, ...],
    expected: str,
) -> None:
    tensors = {k: v for k, v in (model(2) | break_it).items() if v is not None}
    save_file(tensors, files[1], metadata=facts(2))
    out = files[0].with_name("out.safetensors")
    done = merge(strategy, files[0], files[1:], out, *settings)
    assert done.returncode == (1 if break_it else 2)  # files that do not fit; a command line that is wrong
    assert expected in done.stderr
    if break_it:
        assert files[1].name in done.stderr
    assert not out.exists()
    assert not list(out.parent.glob("*.part"))


@pytest.mark.parametrize(
    ("strategy", "missing"), [("age-weighted", "age"), ("fedavg", "samples"), ("chisme", "experience")]
)
def test_metadata_that_a_strategy_needs_is_asked_for(files: list[Path], strategy: str, missing: str) -> None:
    told = facts(2)
    del told[missing]
    save_file(model(2), files[1], metadata=told)
    done = merge(strategy, files[0], files[1:], files[0].with_name("out.safetensors"))
    assert done.returncode == 1
    assert f"needs {missing!r}" in done.stderr
    assert files[1].name in done.stderr


def test_a_base_that_delta_sum_needs_is_asked_for(files: list[Path]) -> None:
    without = {name: tensor for name, tensor in model(2).items() if not name.startswith("base/")}
    save_file(without, files[1], metadata=facts(2))
    done = merge("delta-sum", files[0], files[1:], files[0].with_name("out.safetensors"))
    assert done.returncode == 1
    assert "needs the base" in done.stderr


def test_a_file_that_is_none_is_named(files: list[Path]) -> None:
    files[1].write_bytes(b"\x80\x04K\x01.")  # a pickle
    done = merge("average", files[0], files[1:], files[0].with_name("out.safetensors"))
    assert done.returncode == 1
    assert files[1].name in done.stderr


@pytest.mark.parametrize(("number", "is_too_large"), [(3e36, False), (3.4e38, True)])
def test_a_merge_beyond_float32_writes_nothing_and_names_the_tensor(
    files: list[Path], number: float, is_too_large: bool
) -> None:
    for place, path in enumerate(files, start=1):
        huge = {name: np.full_like(tensor, number) for name, tensor in load_file(path).items()}
        huge |= {name: -tensor for name, tensor in huge.items() if name.startswith("base/")}
        save_file(huge, path, metadata=facts(place))
    out = files[0].with_name("out.safetensors")
    done = merge("delta-sum", files[0], files[1:], out, "A=1", "C=1", "bounded=0")
    assert done.returncode == int(is_too_large), done.stderr
    told = "delta-sum takes tensor 'body.bias' beyond what float32 holds: nothing was written"
    assert (told in " ".join(done.stderr.split())) == is_too_large
    assert out.exists() != is_too_large


def test_a_model_file_of_a_tensor_without_elements_merges(files: list[Path]) -> None:
    for path in files:
        tensors = load_file(path) | {"empty": np.zeros((0, 3), np.float32), "base/empty": np.zeros((0, 3), np.float32)}
        save_file(tensors, path, metadata=facts(1))
    assert merged("delta-sum", files)[0]["empty"].shape == (0, 3)
