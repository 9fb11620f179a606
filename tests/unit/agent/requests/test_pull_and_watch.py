"""Whose model is pulled, how it is written, and what a watcher sees; without a broker."""

from __future__ import annotations

import base64
import io
import json
import time
from collections import deque
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors import safe_open
from tests.swarm.digits import built_digits

from grapevine_agent.api import Grapevine, givers_of
from grapevine_agent.cli.task_pull import doubts_of, file_name, quality_of
from grapevine_agent.cli.task_watch import Board, plot, target_of
from grapevine_agent.config.agent_toml import load_config
from grapevine_agent.identity import first_identity
from grapevine_agent.requests.pulled_model import PulledModel
from grapevine_agent.service.watching import LEASE_S, Watching
from grapevine_proto.errors import BrokerError, RequestError, TaskError
from grapevine_proto.manifest_codec import encode_manifest, task_id
from grapevine_proto.messages import Metrics
from grapevine_tasks.interpreter import Interpreter
from grapevine_tasks.layout import ModelLayout
from grapevine_tasks.weights import decode_weights

ABOUT: dict[str, Any] = {
    "name": "digits",
    "task": "7" * 64,
    "strategy": "doubly-weighted",
    "server_strategy": "doubly-weighted",
    "members": ["a", "b", "c", "d"],
    "servers": [],
    "names": {"a": "kitchen"},
    "own": "me",
    "joined": False,
    "serves": False,
    "version": 1,
    "standing": "approved",
    "metric_name": "rmse",
    "metrics": ["rmse", "loss"],
    "higher_is_better": False,
    "bests": {},
}


def givers(
    *, peer: str | None = None, server: bool = False, cluster: int | None = None, latest: bool = False, **about: Any
) -> list[str]:
    return givers_of(ABOUT | about, peer=peer, server=server, cluster=cluster, latest=latest)


def test_a_few_members_are_asked_those_first_whose_best_is_of_the_usual_age_and_then_a_server() -> None:
    assert givers() == ["a", "b", "c"]
    assert givers(servers=["s"]) == ["a", "b", "c", "s"]
    assert givers(servers=["s"], latest=True) == ["s", "a", "b", "c"]
    bests = {"d": {"metric": 0.5, "age": 70}, "b": {"metric": 0.7, "age": 60}, "c": {"metric": 0.1, "age": 9_000}}
    assert givers(bests=bests) == ["d", "b", "c"]
    assert givers(bests=bests, higher_is_better=True) == ["d", "b", "c"]
    assert givers(joined=True)[0] == "me"
    assert givers(peer="kitchen") == ["a"]
    assert givers(peer="q" * 20) == ["q" * 20]  # a whole id need not be that of a member
    with pytest.raises(TaskError, match="no peer 'elsewhere' is known here; write its whole id"):
        givers(peer="elsewhere")
    assert givers(server=True) == []


def test_where_members_keep_models_of_their_own_the_engineer_says_whose() -> None:
    with pytest.raises(TaskError, match="say whose"):
        givers(strategy="chisme")
    assert givers(strategy="cos-sim-dfl", peer="kitchen") == ["a"]
    with pytest.raises(TaskError, match="for each cluster"):
        givers(server_strategy="cfl", servers=["s"])
    assert givers(server_strategy="flic", servers=["s"], cluster=2) == ["s"]


def answer_of(**changes: Any) -> dict[str, Any]:
    built = built_digits()
    manifest = replace(built.draft, publisher="p" * 20)
    parameters, buffers = decode_weights(ModelLayout.of(manifest.program), built.weights)
    content = encode_manifest(manifest)
    return {
        "task": task_id(content),
        "peer": "a" * 20,
        "manifest": base64.b64encode(content).decode(),
        "at_ms": 1_750_000_000_000,
        "server": False,
        "cluster": 0,
        "members": [],
        "strategy": "fedavg",
        "age": 70,
        "round": 7,
        "version": 6,
        "contributions": {"a" * 20: 6},
        "num_evaluated": 0,
        "loss": None,
        "metric": None,
        "which": "latest",
        "best": None,
        "latest": None,
        "baseline": None,
        "baseline_name": "",
        "full": base64.b64encode(parameters.tobytes()).decode(),
        "buffers": base64.b64encode(buffers.tobytes()).decode(),
        **changes,
    }


class _Line:
    """Answers as the members that it is given."""

    def __init__(self, answers: dict[str, dict[str, Any]], about: dict[str, Any]) -> None:
        self.answers, self.about, self.asked = answers, about, list[str]()

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        if method == "task":
            return self.about
        self.asked.append(params["peer"])
        found = self.answers[params["peer"]]
        return found if not params["latest"] else found | {"which": "latest"}


def pulled(answers: dict[str, dict[str, Any]], *, latest: bool = False, **about: Any) -> tuple[PulledModel, list[str]]:
    line = _Line(answers, ABOUT | {"members": [peer for peer in answers if peer != "s"]} | about)
    grapevine = Grapevine.__new__(Grapevine)
    grapevine._line, grapevine._tell = line, lambda _text: None  # type: ignore[assignment]
    return grapevine.pull("digits", latest=latest), line.asked


def measured(peer: str, metric: float, **changes: Any) -> dict[str, Any]:
    return answer_of(peer=peer, which="best", metric=metric, loss=metric, num_evaluated=9, **changes)


def test_the_best_model_is_pulled_and_not_the_one_that_was_trained_for_longest() -> None:
    answers = {
        "a": measured("a", 0.694, age=600),
        "b": measured("b", 0.844, age=16_000, contributions={"a" * 20: 6, "b" * 20: 9}),
        "s": answer_of(peer="s", server=True, age=16_000),
    }
    model, asked = pulled(answers, servers=["s"])
    assert (model.facts["model_of"], model.facts["metric"], model.facts["age"]) == ("a", 0.694, 600)
    assert asked == ["a", "b"]  # a server has measured nothing
    model, asked = pulled(answers, servers=["s"], latest=True)
    assert (model.facts["model_of"], asked) == ("s", ["s"])
    model, _ = pulled({peer: answers[peer] for peer in "ab"}, latest=True)
    assert model.facts["model_of"] == "b"  # it has the work of more members


def test_neither_the_luckiest_nor_a_liar_is_pulled_but_a_best_of_the_usual_age() -> None:
    claims = {"a": (0.297, 710), "b": (0.298, 469), "c": (0.300, 174), "d": (0.001, 1), "e": (0.284, 2_924)}
    answers = {peer: measured(peer, metric, age=age) for peer, (metric, age) in claims.items()}
    bests = {peer: {"metric": metric, "age": age} for peer, (metric, age) in claims.items()}
    model, asked = pulled(answers, bests=bests)
    assert (model.facts["model_of"], asked) == ("b", ["b", "a", "c"])
    answers["b"] = measured("b", 0.298, age=710)  # of equals in age the better figure
    model, _ = pulled(answers, bests=bests)
    assert model.facts["model_of"] == "a"


def nobody(within_s: float = 1.0, **about: Any) -> tuple[str, list[str]]:
    """What a pull that finds no giver ends with, and what it told before."""
    told: list[str] = []
    grapevine = Grapevine.__new__(Grapevine)
    grapevine._line, grapevine._tell = _Line({}, ABOUT | about), told.append  # type: ignore[assignment]
    with pytest.raises(TaskError) as refused:
        grapevine.pull("digits", server=True, within_s=within_s)
    return str(refused.value), told


def test_a_server_that_is_not_here_is_missed_once_and_who_is_here_is_named() -> None:
    error, told = nobody(members=["a", "b"])
    assert told == ["digits: no server of it is here, though members are: kitchen (a), b; waiting up to 1 s"]
    assert "no server of it is here, though members are: kitchen (a), b within 1 s; pull without --server" in error
    error, told = nobody(members=[])
    assert told == ["digits: no server of it is here; waiting up to 1 s"]
    assert "`grapevine task watch` shows when one comes" in error
    assert "a, b, c, d, e and 2 more" in nobody(members=list("abcdefg"), names={}, within_s=0.0)[0]


def test_one_can_pull_from_oneself_by_name() -> None:
    assert givers(peer="shed", names=ABOUT["names"] | {"me": "shed"}) == ["me"]


def test_an_untrained_model_and_figures_of_few_samples_are_warned_of() -> None:
    facts = PulledModel.of(measured("a", 0.5) | {"num_evaluated": 30}).facts
    assert doubts_of(facts) == ""
    assert doubts_of({**facts, "num_evaluated": 1}) == (
        "its figures are of 1 held-out sample: too few to tell models apart"
    )
    untrained = {**facts, "age": 0, "num_evaluated": 29}
    assert doubts_of(untrained).startswith("this model is not trained: its age is 0, and nothing that was learned")
    assert "; its figures are of 29 held-out samples" in doubts_of(untrained)
    assert doubts_of({**untrained, "which": "latest", "metric": None}) == "this model is not trained: its age is 0"


def test_where_nobody_has_measured_anything_a_server_gives_its_model() -> None:
    answers = {"a": answer_of(peer="a"), "s": answer_of(peer="s", server=True)}
    model, asked = pulled(answers, servers=["s"])
    assert (model.facts["model_of"], asked) == ("s", ["a", "s"])
    assert quality_of(model.facts) == "accuracy —: nobody has measured it"


def test_both_figures_and_the_baseline_are_told() -> None:
    best = {"metric": 0.694, "age": 600, "version": 30, "num_evaluated": 9, "rounds_since": 770}
    facts = PulledModel.of(
        measured("a", 0.694, best=best, latest=best | {"metric": 0.844, "age": 16_000}, baseline=0.741)
        | {"baseline_name": "last value"}
    ).facts
    assert quality_of(facts) == (
        "best: accuracy 0.694 at age 600, version 30; latest: accuracy 0.844 at age 16000, version 30; "
        "last value: 0.741 (on 9 held-out samples, by its own account)"
    )
    other = {**facts, "task_version": 2, "task": "b" * 64}
    assert file_name(facts) != file_name(other)
    assert file_name(other) == "handwritten-digits-v2-bbbbbbbb.safetensors"


def test_a_pulled_model_is_written_with_its_lineage(tmp_path: Path) -> None:
    model = PulledModel.of(answer_of())
    model.save(tmp_path / "m.safetensors")
    with safe_open(tmp_path / "m.safetensors", framework="numpy") as file:
        header = file.metadata()
        assert set(file.keys()) == {"1.weight", "1.bias", "3.weight", "3.bias"}
    facts = json.loads((tmp_path / "m.json").read_text())
    assert header["age"] == "70"
    assert json.loads(header["contributors"]) == facts["contributors"] == {"a" * 20: 6}
    assert facts["metric"] is None  # nobody has evaluated it
    assert facts["model_of"] == "a" * 20


def test_a_pulled_model_that_does_not_fit_is_refused() -> None:
    with pytest.raises(TaskError, match="shape"):
        PulledModel.of(answer_of(full=""))
    nan = np.full(4810, np.nan, np.float32)
    with pytest.raises(TaskError, match="not finite"):
        PulledModel.of(answer_of(full=base64.b64encode(nan.tobytes()).decode()))
    with pytest.raises(TaskError, match="not that of"):
        PulledModel.of(answer_of(task="8" * 64))


def test_a_pt2_says_what_the_interpreter_says(tmp_path: Path) -> None:
    model = PulledModel.of(answer_of())
    model.save_pt2(tmp_path / "m.pt2")
    batch = torch.rand(5, 8, 8)
    tensors = model.tensors()
    program = model.manifest.program
    expected, _ = Interpreter(program).run(
        "eval", [batch], [torch.from_numpy(tensors[spec.name]) for spec in program.parameters], []
    )
    said = torch.export.load(tmp_path / "m.pt2").module()(batch)
    torch.testing.assert_close(said, expected)


def metrics(round_: int, metric: float = 0.5) -> Metrics:
    return Metrics(task="t", round=round_, age=10 * round_, loss=0.1, metric=metric, num_evaluated=9)


def test_readings_are_kept_for_who_asks_and_a_watch_that_nobody_renews_ends() -> None:
    watching = Watching()
    watching.hear("a", metrics(1), 0)
    assert watching.since("t", 0, 0.0) == (0, [])
    for round_ in (2, 3):
        watching.hear("a", metrics(round_), 5)
    newest, readings = watching.since("t", 0, 1.0)
    assert (newest, [reading["round"] for reading in readings]) == (2, [2, 3])
    watching.hear("a", metrics(4, float("inf")), 5)
    newest, readings = watching.since("t", newest, 2.0)
    assert [reading["metric"] for reading in readings] == [None]
    assert watching.since("t", newest, 2.0) == (3, [])
    assert watching.forgotten(2.0 + LEASE_S) == []
    assert watching.forgotten(2.1 + LEASE_S) == ["t"]


READING: dict[str, Any] = {
    "peer": "a",
    "at_ms": 0,
    "round": 5,
    "age": 50,
    "loss": 0.1,
    "metric": 0.9,
    "num_evaluated": 9,
    "staleness": None,
    "energy_j": None,
    "server": "unknown",
    "best": None,
    "baseline": None,
    "metric_in_units": None,
}


def test_a_board_reaches_its_target_when_every_member_does() -> None:
    board = Board(about={"metric_name": "accuracy", "higher_is_better": True})
    reading = {"peer": "a", "round": 5, "metric": 0.9, "loss": 0.1, "num_evaluated": 9}
    assert not board.has_reached(target_of("round=1"))
    board.take(reading)
    assert board.has_reached(target_of("round=5"))
    board.take(reading | {"peer": "b", "round": 4, "metric": 0.5})
    assert not board.has_reached(target_of("round=5"))
    assert board.has_reached(target_of("accuracy=0.5"))
    assert board.has_reached(target_of("loss=0.1"))
    assert not board.has_reached(target_of("loss=0.05"))
    board.about = {"metric_name": "rmse", "higher_is_better": False}
    assert not board.has_reached(target_of("rmse=0.5"))
    assert board.has_reached(target_of("rmse=0.9"))
    assert list(board.means) == pytest.approx([0.9, 0.7])


def test_who_has_measured_nothing_is_no_zero() -> None:
    board = Board(about=ABOUT | {"metric_name": "accuracy", "higher_is_better": True})
    nothing = READING | {"peer": "a", "metric": None, "loss": None, "num_evaluated": 0}
    board.take(nothing)
    assert not board.has_reached(target_of("accuracy=0"))
    assert not board.means
    board.take(READING | {"peer": "b", "metric": 0.8})
    assert list(board.means) == [0.8]
    assert board.has_reached(target_of("accuracy=0.8"))
    assert not board.has_reached(target_of("accuracy=0.9"))
    board.take(READING | {"peer": "c", "metric": None, "loss": None})  # it has samples, and a model that diverged
    assert not board.has_reached(target_of("accuracy=0.8"))
    console = Console(width=200, file=io.StringIO())
    console.print(board.view())
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "mean of 1 of 3" in shown
    assert "—" in shown
    assert "0.000" not in shown


def test_an_error_of_every_metric_is_reached_from_above() -> None:
    board = Board(about=ABOUT | {"metric_name": "rmse", "higher_is_better": False})
    board.take(READING | {"metric": 0.7})
    assert board.has_reached(target_of("rmse=0.8"))
    assert not board.has_reached(target_of("0.6"))


@pytest.mark.parametrize("text", ["accuracy=0.95", "mse=0.5", "top-5-accuracy=0.1"])
def test_a_metric_that_the_task_does_not_have_is_refused_with_those_that_it_has(text: str) -> None:
    target = target_of(text)
    assert target is not None
    with pytest.raises(RequestError, match=r"digits has no .*; it has rmse=0.1, loss=0.1 and round=40"):
        target.check(ABOUT)
    for fine in ("rmse=0.5", "loss=0.5", "metric=0.5", "0.5", "round=7"):
        target = target_of(fine)
        assert target is not None
        target.check(ABOUT)


def figure(metric: float, rounds_since: int = 0) -> dict[str, Any]:
    return {"metric": metric, "age": 600, "version": 30, "num_evaluated": 9, "rounds_since": rounds_since}


def test_a_watch_warns_where_nobody_improves_and_where_nobody_beats_the_baseline() -> None:
    board = Board(about=ABOUT)
    last = {"baseline": 0.741, "baseline_name": "last value"}
    board.take(READING | last | {"peer": "a", "metric": 0.844, "best": figure(0.694, 770)})
    board.take(READING | last | {"peer": "b", "metric": 0.9, "best": figure(0.71, 12)})
    assert board.warnings() == {}
    board.take(READING | last | {"peer": "b", "metric": 0.9, "best": figure(0.71, 41)})
    assert board.warnings().keys() == {"stalled"}
    assert "no member has improved for 41 rounds; best was rmse 0.694 at age 600" in board.warnings()["stalled"]
    for peer in "ab":
        board.take(READING | last | {"peer": peer, "metric": 0.844, "best": figure(0.75)})
    assert board.warnings().keys() == {"no better"}
    assert "last value" in board.warnings()["no better"]


def test_a_board_fits_80_columns_with_ids_and_figures_whole_and_says_what_it_warns_of() -> None:
    whole, named = "vkh4" * 5, "abcde" * 4
    board = Board(about=ABOUT | {"metric_name": "top-5-accuracy", "names": {named: "[red]" + "x" * 60}})
    reading = READING | {"round": 123_456, "age": 12_345_678, "metric": 0.8441, "metric_in_units": 12.34}
    reading |= {"baseline": 0.741, "baseline_name": "last [training] value", "best": figure(0.817, 50)}
    reading |= {"at_ms": 1000 * time.time()}
    for peer in (whole, named):
        board.take(reading | {"peer": peer, "staleness": 12.3, "energy_j": 123_456.0, "server": "reachable"})
    console = Console(width=80, soft_wrap=True, file=io.StringIO())
    console.print(board.view())
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    table = [line for line in lines if "warning" not in line]
    assert all(len(line) <= 80 for line in table)
    cells = " ".join(table)
    for told in ("123456 ", "12345678 ", "0.844 (12.3)", "0.817", "0.741", "12.3", "123456 J", "reachable", "[red]xxx"):
        assert told in cells
    assert named[:12] in cells
    assert whole in "".join(line.split()[0] for line in table if line.strip())
    assert "(patience in [training] ends a task then" in lines[-2]
    assert "than last [training] value, which" in lines[-1]


@pytest.mark.parametrize(
    ("text", "target"),
    [("40", ("round", 40)), ("round=1", ("round", 1)), ("0.9", ("metric", 0.9)), ("mse=2", ("metric", 2))],
)
def test_a_target_is_a_round_or_a_metric(text: str, target: tuple[str, float]) -> None:
    found = target_of(text)
    assert found is not None
    assert (found.key, found.value) == target


def test_no_target_is_none() -> None:
    assert target_of("") is None


@pytest.mark.parametrize("text", ["soon", "speed=1", "round=", "nan", "inf", "round=-5", "-1"])
def test_a_target_that_is_neither_is_refused(text: str) -> None:
    with pytest.raises(RequestError, match="write round=40"):
        target_of(text)


def test_a_plot_goes_from_the_smallest_to_the_largest() -> None:
    assert plot(deque([0.0, 0.5, 1.0])) == "▁▄█"
    assert plot(deque([1.0, 1.0])) == "▁▁"
    assert len(plot(deque(float(i) for i in range(500)))) == 60


def test_without_a_broker_the_error_names_it(
    tmp_path: Path, unused_tcp_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("grapevine_agent.line.CONNECT_S", 1.0)
    path = tmp_path / "agent.toml"
    first_identity(tmp_path / "state")
    path.write_text(
        f'[agent]\nstate_dir = "{tmp_path / "state"}"\n[mqtt]\nbrokers = ["mqtt://127.0.0.1:{unused_tcp_port}"]'
    )
    with (
        pytest.raises(BrokerError, match=rf"127.0.0.1:{unused_tcp_port}.*\[mqtt\] brokers"),
        Grapevine(load_config(path, {})),
    ):
        pass
