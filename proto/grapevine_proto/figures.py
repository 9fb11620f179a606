"""How models did, as it travels: figures, the metrics that members publish, and the released models that they give.

What was not measured is absent, and None here. Messages of older senders leave out what is 0; where a count of
evaluated samples stands beside a number, it says which of the two is meant, and elsewhere `edition` does.
"""

from __future__ import annotations

from grapevine_proto import messages as m
from grapevine_proto import reading
from grapevine_proto import wire_pb2 as pb
from grapevine_proto.errors import WireError

SERVER_STATES = ("unknown", "reachable", "suspect", "lost")
EDITION = 1  # of Metrics: numbers that were not measured are absent; older senders leave out what is 0


def write_figure(figure: m.Figure | None) -> pb.Figure | None:
    """A figure; nothing for None."""
    if figure is None:
        return None
    return pb.Figure(
        metric=figure.metric,
        age=figure.age,
        version=figure.version,
        num_evaluated=figure.num_evaluated,
        rounds_since=figure.rounds_since,
    )


def read_figure(wire: pb.TaskProgress | pb.Metrics | pb.ReleasedModel, field: str) -> m.Figure | None:
    """A figure of a message; None where there is none, or it was measured on nothing."""
    figure: pb.Figure = getattr(wire, field)
    if not wire.HasField(field) or not figure.num_evaluated:
        return None
    return m.Figure(
        metric=reading.finite(figure.metric, f"{field}.metric"),
        age=reading.count(figure.age, f"{field}.age"),
        version=reading.count(figure.version, f"{field}.version"),
        num_evaluated=reading.count(figure.num_evaluated, f"{field}.num_evaluated"),
        rounds_since=reading.count(figure.rounds_since, f"{field}.rounds_since"),
    )


def _read_baseline(wire: pb.Metrics | pb.ReleasedModel) -> tuple[float | None, str]:
    """A baseline and what it is called; neither without the other's."""
    if not wire.HasField("baseline"):
        return None, ""
    return reading.finite(wire.baseline, "baseline"), reading.text(wire.baseline_name, "baseline_name")


def write_metrics(body: m.Metrics) -> pb.Metrics:
    """What a member says of itself."""
    return pb.Metrics(
        edition=EDITION,
        task=body.task,
        round=body.round,
        age=body.age,
        loss=body.loss,
        metric=body.metric,
        num_evaluated=body.num_evaluated,
        staleness=body.staleness,
        energy_j=body.energy_j,
        server=body.server,
        num_peers=body.num_peers,
        shares=[pb.Share(peer=s.peer, share=s.share) for s in body.shares],
        best=write_figure(body.best),
        baseline=body.baseline,
        baseline_name=body.baseline_name,
        metric_in_units=body.metric_in_units,
        round_energy_j=body.round_energy_j,
        is_metered=body.is_metered,
    )


def read_metrics(wire: pb.Metrics) -> m.Metrics:
    """The inverse of `write_metrics`. Raises `WireError`."""
    if wire.server not in SERVER_STATES:
        raise WireError("malformed", f"server is {wire.server[:40]!r}, not one of {', '.join(SERVER_STATES)}")
    loss, metric = _read_scores(wire)
    baseline, baseline_name = _read_baseline(wire)
    # Of an older sender an absent number is 0, as it says.
    staleness, energy_j = (
        reading.real(getattr(wire, name), name, 0.0) if wire.HasField(name) or not wire.edition else None
        for name in ("staleness", "energy_j")
    )
    in_units = reading.finite(wire.metric_in_units, "metric_in_units") if wire.HasField("metric_in_units") else None
    drew = wire.HasField("round_energy_j")
    return m.Metrics(
        task=reading.identifier(wire.task, "task"),
        round=reading.count(wire.round, "round"),
        age=reading.count(wire.age, "age"),
        loss=loss,
        metric=metric,
        num_evaluated=reading.count(wire.num_evaluated, "num_evaluated"),
        staleness=staleness,
        energy_j=energy_j,
        server=wire.server,
        num_peers=wire.num_peers,
        shares=reading.each_of(
            wire.shares,
            lambda s: m.Share(peer=reading.identifier(s.peer, "peer"), share=reading.real(s.share, "share")),
            "shares",
        ),
        best=read_figure(wire, "best"),
        baseline=baseline,
        baseline_name=baseline_name,
        metric_in_units=in_units if metric is not None else None,
        round_energy_j=reading.real(wire.round_energy_j, "round_energy_j", 0.0) if drew else None,
        is_metered=wire.is_metered,
    )


def _read_scores(wire: pb.Metrics | pb.ReleasedModel) -> tuple[float | None, float | None]:
    """Loss and metric: None where no sample was evaluated, whatever stands there.

    Where there were samples, an absent number is the 0 of a sender that does not write it.
    """
    if not wire.num_evaluated:
        return None, None
    return reading.real(wire.loss, "loss"), reading.real(wire.metric, "metric")


WHICH: dict[m.Which, pb.Which] = {"latest": pb.WHICH_LATEST, "best": pb.WHICH_BEST}
_WHICH_BY_WIRE: dict[int, m.Which] = {number: name for name, number in WHICH.items()}


def read_which(number: int) -> m.Which:
    """Which model is meant. Raises `WireError`."""
    if number not in _WHICH_BY_WIRE:
        raise WireError("out-of-range", f"which = {number}; there are {', '.join(WHICH)}")
    return _WHICH_BY_WIRE[number]


def write_released(body: m.ReleasedModel) -> pb.ReleasedModel:
    """A model that is given, or why it is not."""
    return pb.ReleasedModel(
        task=body.task,
        age=body.age,
        round=body.round,
        version=body.version,
        full=reading.bytes_of(body.full),
        buffers=reading.bytes_of(body.buffers),
        contributions=reading.wire_contributions(body.contributions),
        strategy=body.strategy,
        num_evaluated=body.num_evaluated,
        loss=body.loss,
        metric=body.metric,
        server=body.server,
        cluster=body.cluster,
        members=body.members,
        refusal=body.refusal,
        steps=body.steps,
        which=WHICH[body.which],
        best=write_figure(body.best),
        latest=write_figure(body.latest),
        baseline=body.baseline,
        baseline_name=body.baseline_name,
        encoding=reading.wire_encoding(body.full),
        buffers_encoding=reading.wire_encoding(body.buffers),
    )


def read_released(wire: pb.ReleasedModel) -> m.ReleasedModel:
    """The inverse of `write_released`. Raises `WireError`."""
    if wire.refusal and (wire.full or wire.buffers):
        raise WireError("malformed", "a refusal does not come with a model")
    loss, metric = _read_scores(wire)
    baseline, baseline_name = _read_baseline(wire)
    return m.ReleasedModel(
        task=reading.identifier(wire.task, "task"),
        age=reading.count(wire.age, "age"),
        round=reading.count(wire.round, "round"),
        version=reading.count(wire.version, "version"),
        full=reading.written(wire, "full"),
        buffers=reading.written(wire, "buffers"),
        contributions=reading.contributions(wire.contributions),
        strategy=reading.text(wire.strategy, "strategy"),
        num_evaluated=reading.count(wire.num_evaluated, "num_evaluated"),
        loss=loss,
        metric=metric,
        server=wire.server,
        cluster=wire.cluster,
        members=reading.each_of(wire.members, lambda peer: reading.identifier(peer, "member"), "members"),
        refusal=reading.text(wire.refusal, "refusal"),
        steps=reading.count(wire.steps, "steps"),
        which=read_which(wire.which),
        best=read_figure(wire, "best"),
        latest=read_figure(wire, "latest"),
        baseline=baseline,
        baseline_name=baseline_name,
    )
