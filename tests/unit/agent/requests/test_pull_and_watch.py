"""Whose model is pulled, how it is written, and what a watcher sees; without a broker."""

from __future__ import annotations

import base64
import json
from collections import deque
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from tests.swarm.digits import built_digits

from grapevine_agent.api import Grapevine, givers_of
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
}


def givers(*, peer: str | None = None, server: bool = False, cluster: int | None = None, **about: Any) -> list[str]:
    return givers_of(ABOUT | about, peer=peer, server=server, cluster=cluster)


def test_a_server_is_asked_first_and_then_a_few_members() -> None:
    assert givers() == ["a", "b", "c"]
    assert givers(servers=["s"])[0] == "s"
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
        "loss": 0.0,
        "metric": 0.0,
        "full": base64.b64encode(parameters.tobytes()).decode(),
        "buffers": base64.b64encode(buffers.tobytes()).decode(),
        **changes,
    }


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


def test_a_board_reaches_its_target_when_every_member_does() -> None:
    board = Board(about={"metric_name": "accuracy"})
    reading = {"peer": "a", "round": 5, "metric": 0.9}
    assert not board.has_reached(("round", 1))
    board.take(reading)
    assert board.has_reached(("round", 5))
    board.take(reading | {"peer": "b", "round": 4, "metric": 0.5})
    assert not board.has_reached(("round", 5))
    assert board.has_reached(("metric", 0.5))
    board.about = {"metric_name": "mse"}
    assert not board.has_reached(("metric", 0.5))
    assert list(board.means) == pytest.approx([0.9, 0.7])


@pytest.mark.parametrize(
    ("text", "target"),
    [("", None), ("40", ("round", 40)), ("round=1", ("round", 1)), ("0.9", ("metric", 0.9)), ("mse=2", ("metric", 2))],
)
def test_a_target_is_a_round_or_a_metric(text: str, target: tuple[str, float] | None) -> None:
    assert target_of(text) == target


@pytest.mark.parametrize("text", ["soon", "loss=1", "round=", "nan", "inf", "round=-5", "-1"])
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
