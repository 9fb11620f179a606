"""Figures on the wire: what was not measured is absent, and an older peer's 0 stays what it was."""

from __future__ import annotations

import pytest
from tests.unit.proto.samples import BEST, KEY, ME, OTHER, TASK, VECTOR, message

from grapevine_proto import bodies, wire_pb2
from grapevine_proto import messages as m
from grapevine_proto.codec import open_envelope, seal
from grapevine_proto.errors import WireError
from grapevine_proto.topics import InboxTopic, PeerTopic, TaskTopic, Topic

METRICS = TaskTopic(ME, TASK, "metrics")
INBOX = InboxTopic(OTHER, ME)


def sent(body: m.Body, topic: Topic) -> m.Body:
    return open_envelope(seal(message(body), topic, KEY), topic).message.body


def read(**body: object) -> m.Body:
    return bodies.read(wire_pb2.Message(**body))  # type: ignore[arg-type]


def metrics(**fields: object) -> m.Metrics:
    wire = wire_pb2.Metrics(task=TASK, round=4, age=40, server="unknown", **fields)  # type: ignore[arg-type]
    found = read(metrics=wire)
    assert isinstance(found, m.Metrics)
    return found


def test_what_was_not_measured_is_not_there() -> None:
    nothing = m.Metrics(task=TASK, round=4, age=40, loss=None, metric=None, num_evaluated=0)
    assert sent(nothing, METRICS) == nothing
    zero = m.Metrics(task=TASK, round=4, age=40, loss=0.0, metric=0.0, num_evaluated=7, staleness=0.0, energy_j=0.0)
    assert sent(zero, METRICS) == zero


def test_an_older_peers_zero_stays_what_it_was_but_where_it_says_that_it_measured_nothing() -> None:
    older = metrics(loss=0.0, metric=0.0, num_evaluated=7)
    assert (older.loss, older.metric, older.staleness, older.energy_j) == (0.0, 0.0, 0.0, 0.0)
    unmeasured = metrics(loss=0.0, metric=0.0, num_evaluated=0)
    assert (unmeasured.loss, unmeasured.metric) == (None, None)
    # What an older sender does not write at all is its 0, too.
    assert metrics(num_evaluated=7).metric == 0.0
    assert metrics(edition=1, num_evaluated=7).staleness is None


def test_an_older_reader_finds_zeros_where_it_always_found_them() -> None:
    nothing = m.Metrics(task=TASK, round=4, age=40, loss=None, metric=None, num_evaluated=0)
    _, content = bodies.serialise(nothing)
    wire = wire_pb2.Metrics.FromString(content)
    assert (wire.loss, wire.metric, wire.staleness) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_figures_are_finite(number: float) -> None:
    figure = wire_pb2.Figure(metric=number, num_evaluated=3)
    with pytest.raises(WireError):
        metrics(num_evaluated=3, best=figure)
    with pytest.raises(WireError):
        metrics(num_evaluated=3, baseline=number)
    with pytest.raises(WireError):
        read(heartbeat=wire_pb2.Heartbeat(progress=[wire_pb2.TaskProgress(task=TASK, best=figure)]))


def test_counts_of_figures_are_bounded() -> None:
    for field in ("age", "version", "num_evaluated", "rounds_since"):
        figure = wire_pb2.Figure(**{"num_evaluated": 3, field: 2**60})
        with pytest.raises(WireError):
            metrics(num_evaluated=3, best=figure)


def test_a_figure_of_nothing_is_none() -> None:
    assert metrics(num_evaluated=3, best=wire_pb2.Figure(metric=0.9)).best is None
    beat = m.Heartbeat(progress=(m.TaskProgress(task=TASK, version=1, age=1, best=BEST),))
    assert sent(beat, PeerTopic(ME, "heartbeat")) == beat


def test_which_model_is_meant_is_one_of_two() -> None:
    assert sent(m.ModelRequest(task=TASK, which="best"), INBOX) == m.ModelRequest(task=TASK, which="best")
    assert read(model_request=wire_pb2.ModelRequest(task=TASK)) == m.ModelRequest(task=TASK, which="latest")
    with pytest.raises(WireError, match="which = 7; there are latest, best"):
        read(model_request=wire_pb2.ModelRequest(task=TASK, which=7))  # type: ignore[arg-type]
    with pytest.raises(WireError):
        read(released_model=wire_pb2.ReleasedModel(task=TASK, full=VECTOR.tobytes(), which=2))  # type: ignore[arg-type]


def test_a_model_that_nobody_evaluated_has_no_figures_whatever_stands_there() -> None:
    found = read(released_model=wire_pb2.ReleasedModel(task=TASK, full=VECTOR.tobytes(), loss=0.5, metric=1.0))
    assert isinstance(found, m.ReleasedModel)
    assert (found.loss, found.metric, found.which, found.best) == (None, None, "latest", None)
