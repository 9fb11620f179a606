"""The events of a small simulated world tell its story, in the right order, and a resumed run tells it once."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest
from tests.swarm.simulations import LEARNING, PROTOCOL, prepared_of

from grapevine_lab.simulator.clock import EPOCH_MS
from grapevine_lab.simulator.run import run_seed
from grapevine_proto.errors import ConfigError


def told_in(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def by_peer(told: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    found = defaultdict(list)
    for each in told:
        found[each["peer"]].append(each)
    return found


def test_each_node_tells_how_it_joined_trained_merged_sent_and_received(tmp_path: Path) -> None:
    events = tmp_path / "events.jsonl"
    outcome = run_seed(prepared_of(tmp_path, LEARNING, "scenario.rounds=6", "nodes.num=3"), 0, events=events)
    told = told_in(events)
    assert [each["number"] for each in told] == list(range(1, len(told) + 1))
    times = [each["at_ms"] for each in told]
    assert times == sorted(times)
    assert EPOCH_MS <= times[0] <= times[-1] <= EPOCH_MS + 1000 * outcome.virtual_s + 1
    assert len(by_peer(told)) == 3
    for peer, own in by_peer(told).items():
        kinds = [each["event"] for each in own]
        first = [kinds.index(kind) for kind in ("broker-changed", "judged", "joining", "joined", "trained")]
        assert first == sorted(first)
        assert kinds.index("trained") < kinds.index("sent")
        assert kinds.index("received") < kinds.index("merged")
        assert [each["version"] for each in own if each["event"] == "trained"][:6] == [1, 2, 3, 4, 5, 6]
        others = by_peer(told).keys() - {peer}
        assert {each["other"] for each in own if each["event"] == "peer-changed"} == others
        assert {each["sender"] for each in own if each["event"] == "received"} <= others
    count = Counter(each["event"] for each in told)
    assert 0 < count["received"] <= count["sent"]
    assert count["measured"] >= 3 * 6


def test_a_lost_server_and_lost_peers_are_told_of(tmp_path: Path) -> None:
    events = tmp_path / "events.jsonl"
    changes = ("scenario.rounds=0", "scenario.duration_s=80", "server.present=[[0, 30]]", "nodes.num=3")
    run_seed(prepared_of(tmp_path, PROTOCOL, *changes, "nodes.heartbeat_s=1"), 0, events=events)
    told = told_in(events)
    for own in by_peer(told).values():
        states = [each["state"] for each in own if each["event"] == "server-changed"]
        if states:
            assert states[0] == "reachable"
            assert states[-1] == "lost"
    assert any(each["event"] == "served" for each in told)
    assert any(each["event"] == "peer-changed" and each["state"] in ("silent", "offline") for each in told)


def test_telling_changes_nothing_and_a_resumed_run_tells_everything_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = prepared_of(tmp_path, PROTOCOL, "network.loss=0.1")
    whole, broken, kept = tmp_path / "whole.jsonl", tmp_path / "broken.jsonl", tmp_path / "checkpoint"
    silent = run_seed(prepared, 7)
    assert run_seed(prepared, 7, events=whole).measurements == silent.measurements
    monkeypatch.setattr("grapevine_lab.simulator.run.LOOK_EVERY_S", 0.0)
    monkeypatch.setattr("grapevine_lab.simulator.telling.FLUSH_AT", 10)
    looks = iter([*[False] * 20, True])
    with pytest.raises(KeyboardInterrupt):
        run_seed(prepared, 7, keep=kept, stopping=lambda: next(looks), events=broken)
    half = broken.read_bytes()
    assert 0 < len(half) < len(whole.read_bytes())
    broken.write_bytes(half + b'{"event": "what came after the checkpoint, before it was killed"}\n')
    run_seed(prepared, 7, keep=kept, resume=True, events=broken)
    assert broken.read_bytes() == whole.read_bytes()
    run_seed(prepared, 7, events=broken)  # from its start, over what lies there
    assert broken.read_bytes() == whole.read_bytes()


def test_a_file_that_cannot_be_written_or_was_cut_is_an_error_with_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared, kept = prepared_of(tmp_path, PROTOCOL), tmp_path / "checkpoint"
    with pytest.raises(ConfigError, match="--events needs another place"):
        run_seed(prepared, 0, events=tmp_path)
    with pytest.raises(ConfigError, match=r"events\.jsonl: cannot be written"):
        run_seed(prepared, 0, events=tmp_path / "none" / "events.jsonl")
    (tmp_path / "precious.toml").write_text("[scenario]")
    with pytest.raises(ConfigError, match="holds no events: name another file"):
        run_seed(prepared, 0, events=tmp_path / "precious.toml")
    assert (tmp_path / "precious.toml").read_text() == "[scenario]"
    monkeypatch.setattr("grapevine_lab.simulator.run.LOOK_EVERY_S", 0.0)
    looks = iter([*[False] * 20, True])
    events = tmp_path / "events.jsonl"
    with pytest.raises(KeyboardInterrupt):
        run_seed(prepared, 0, keep=kept, stopping=lambda: next(looks), events=events)
    events.write_text("")
    with pytest.raises(ConfigError, match="run without --resume"):
        run_seed(prepared, 0, keep=kept, resume=True, events=events)
