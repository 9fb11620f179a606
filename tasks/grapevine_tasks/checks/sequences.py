"""What recurrent layers, cells and attention take beside their results: for the estimate, and at most.

Recurrent layers are loops of small kernels. Autograd keeps what comes out of every gate, for each layer,
direction and step, and nodes of its own: a step of one unit and one sample weighs kilobytes, and a sequence of
100,000 steps gigabytes. oneDNN has the steps of an LSTM in one kernel, with a workspace of its own, padded to
whole vectors. Attention keeps its scores unless PyTorch has a fused kernel for the case: for none with dropout,
with a mask that learns, or of other than four dimensions.

The constants were measured with PyTorch 2.13, one layer against two and three (docs/decisions/0022).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from grapevine_proto.program import Ref
from grapevine_tasks.checks.calls import FLOAT_BYTES, Call, num_elements


@dataclass(frozen=True, kw_only=True)
class Extra:
    """Bytes beside what the tables say of an operator."""

    kept: int = 0
    forward: int = 0
    backward: int = 0


@dataclass(frozen=True, kw_only=True)
class StepCost:
    """Of one layer, direction and step of one sample: float32 elements for each input, for each unit, and beside.

    `node_bytes`: autograd's own, whatever the batch; `plain_bytes`: likewise, where nothing is recorded.
    """

    kept: tuple[float, float, float]
    forward: tuple[float, float, float]
    backward: tuple[float, float, float]
    node_bytes: int
    plain_bytes: int


_GATED = StepCost(kept=(1, 8.4, 4), forward=(0.3, 4.4, 5), backward=(1.2, 3.4, 8), node_bytes=26_000, plain_bytes=1000)
_GATED_AT_MOST = StepCost(
    kept=(1, 12, 24), forward=(3, 14, 24), backward=(3, 14, 24), node_bytes=32_000, plain_bytes=4000
)
STEPS_ABOUT: Mapping[str, StepCost] = {
    "LSTM": StepCost(
        kept=(1, 7.2, 4), forward=(1.3, 1.75, 50), backward=(4, 10.5, 60), node_bytes=300, plain_bytes=300
    ),
    "GRU": _GATED,
    "RNN": StepCost(kept=(1, 2.1, 3), forward=(0, 2.2, 2), backward=(1, 1.4, 3), node_bytes=7400, plain_bytes=1000),
    "LSTM_CELL": _GATED,
    "GRU_CELL": _GATED,
}
STEPS_AT_MOST: Mapping[str, StepCost] = {
    "LSTM": StepCost(
        kept=(1, 10, 24), forward=(3, 10, 100), backward=(5, 14, 100), node_bytes=32_000, plain_bytes=4000
    ),
    "GRU": StepCost(kept=(1, 10, 24), forward=(2, 8, 24), backward=(2, 8, 24), node_bytes=32_000, plain_bytes=4000),
    "RNN": StepCost(kept=(1, 5, 8), forward=(2, 8, 16), backward=(2, 8, 16), node_bytes=10_000, plain_bytes=4000),
    "LSTM_CELL": _GATED_AT_MOST,
    "GRU_CELL": _GATED_AT_MOST,
}


@dataclass(frozen=True, kw_only=True)
class _Recurrence:
    """The numbers of a recurrent layer; of a cell, those of a layer of one step."""

    samples: int
    steps: int = 1
    widths: tuple[int, ...]  # of the input of each layer
    units: int
    directions: int = 1
    dropout: bool = False

    @property
    def joined(self) -> int:
        """Numbers that come out of a step, where outputs of directions and layers are joined to go on."""
        return self.units * self.directions if len(self.widths) * self.directions > 1 else 0


def _recurrence(call: Call) -> _Recurrence:
    arguments = call.node.arguments
    x, units = call.shape_of(call.reads[0]), call.shape_of(call.reads[1])[-1]
    place = next((k for k, each in enumerate(arguments) if isinstance(each, tuple)), None)
    if place is None:
        return _Recurrence(samples=x[0], widths=(x[1],), units=units)
    _, layers, dropout, _, bidirectional, batch_first = arguments[place + 1 : place + 7]
    assert isinstance(layers, int)
    directions = 2 if bidirectional else 1
    return _Recurrence(
        samples=x[0] if batch_first else x[1],
        steps=x[1] if batch_first else x[0],
        widths=(x[2], *[units * directions] * (layers - 1)),
        units=units,
        directions=directions,
        dropout=bool(dropout),
    )


def recurrent(call: Call, costs: Mapping[str, StepCost]) -> Extra:
    """Of a recurrent layer, or a cell."""
    cost, of = costs[call.node.operator.name], _recurrence(call)
    kept = sum(_elements(cost.kept, width, of.units) for width in of.widths) * of.directions
    forward, backward = (
        max(_elements(each, width, of.units) for width in of.widths) + 3 * of.joined
        for each in (cost.forward, cost.backward)
    )
    if of.dropout:  # what was drawn, and the result, between layers
        kept += 2 * of.units * of.directions * (len(of.widths) - 1)
    each = FLOAT_BYTES * of.steps * of.samples
    cells = of.steps * len(of.widths) * of.directions
    return Extra(
        kept=int(each * kept) + cells * cost.node_bytes,
        forward=int(each * forward) + cells * cost.plain_bytes,
        backward=int(each * backward),
    )


def _elements(cost: tuple[float, float, float], width: int, units: int) -> float:
    return cost[0] * width + cost[1] * units + cost[2]


def scores_bytes(call: Call) -> int:
    """One float32 for each pair of a query and a key."""
    query, key = call.shape_of(call.reads[0]), call.shape_of(call.reads[1])
    return FLOAT_BYTES * num_elements(query[:-1]) * key[-2]


def attention_about(call: Call) -> Extra:
    """With PyTorch's fused kernel where it has one."""
    query, value = call.shape_of(call.reads[0]), call.shape_of(call.reads[2])
    mask, dropout = call.node.arguments[3], call.node.arguments[4]
    learned_mask = isinstance(mask, Ref) and mask.value in call.learning
    if len(query) == 4 and query[-1] == value[-1] and not dropout and not learned_mask:
        return Extra(kept=FLOAT_BYTES * num_elements(query[:-1]), backward=call.sizes[call.reads[0]])
    scores = scores_bytes(call)
    scaled = call.sizes[call.reads[0]] + call.sizes[call.reads[1]]
    if dropout:
        return Extra(kept=3 * scores + scaled, forward=int(1.2 * scores), backward=int(1.2 * scores))
    return Extra(kept=scores + scaled, forward=scores, backward=2 * scores)


def attention_at_most(call: Call) -> Extra:
    """Without a fused kernel, whatever the case."""
    query, key, value = call.reads[:3]
    scores = scores_bytes(call)
    scaled = call.sizes[query] + call.sizes[key]
    copied = call.sizes[value] if value in call.scattered else 0
    copies = 2 * (scaled + call.sizes[value])
    kept = (3 if call.node.arguments[4] else 1) * scores + scaled + copied
    return Extra(kept=kept, forward=4 * scores + copies, backward=4 * scores + copies)
