"""Draws tensors, numbers and sizes: mostly such as honest programs have, some at the edge of what is allowed."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from tests.unit.tasks.fuzz.drawing import Drawing, Drawn, Handle, indices_below

from grapevine_proto.program import Operator as Op
from grapevine_tasks.opset import RULES, Kind, Slot

SIDES = (1, 1, 2, 3, 4, 5)
REALS = (0.0, 1.0, -1.0, 0.5, 2.0, -0.25, 1e-3, 3.0)


class Artist:
    """Draws arguments of one program after the other's, out of one generator."""

    def __init__(self, rng: np.random.Generator, drawing: Drawing) -> None:
        self.rng = rng
        self.drawing = drawing
        self.learnt: list[Handle] = []  # tensors that nodes made

    def one_of(self, *choices: Any) -> Any:
        """Any of them."""
        return choices[self.rng.integers(len(choices))]

    def chance(self, share: float) -> bool:
        """True so often."""
        return bool(self.rng.random() < share)

    def sides(self, low: int = 0, high: int = 3) -> list[int]:
        """The sides of a small tensor."""
        return [int(self.rng.choice(SIDES)) for _ in range(self.rng.integers(low, high + 1))]

    def floats(self, shape: list[int] | None = None, batched: bool | None = None) -> Handle:
        """A float32 tensor: an input times a parameter, a parameter, a buffer, or what a node made; seldom empty."""
        if shape is None and self.learnt and self.chance(0.3):
            learnt: Handle = self.one_of(*self.learnt)
            return learnt
        drawing = self.drawing
        sides = self.sides() if shape is None else shape
        if batched is None:
            batched = self.chance(0.8)
        if not batched:
            return drawing.buffer(sides) if self.chance(0.15) else drawing.parameter(sides)
        x = drawing.input(sides)
        made = drawing.node(Op.MUL, x, drawing.parameter([]))[0] if self.chance(0.8) else x
        if sides and self.chance(0.02):
            made = drawing.node(Op.SLICE, made, 1, 2, 2, 1)[0]
        return made

    def weights(self, *shape: int) -> Handle:
        """A parameter of this shape, or now and then something else of it."""
        return self.drawing.buffer(list(shape)) if self.chance(0.05) else self.drawing.parameter(list(shape))

    def maybe(self, *shape: int) -> Handle | None:
        """Such a parameter, or nothing."""
        return self.weights(*shape) if self.chance(0.6) else None

    def indices(self, shape: list[int], most: int) -> Handle:
        """int64: a constant; or [batch, *shape], made of an input, that lies below `most`."""
        if self.chance(0.5):
            return self.drawing.constant(indices_below(self.rng, shape or [1], most))
        x = self.drawing.input(shape)
        bounded = self.drawing.node(Op.CLAMP, x, 0.0, float(max(most - 1, 1)) if most > 1 else 0.5)[0]
        return self.drawing.node(Op.TO_INT64, bounded)[0]

    def truths(self) -> Handle:
        """A bool tensor."""
        return self.drawing.node(Op.GREATER, self.floats(), 0.1)[0]

    def whole(self, low: float, high: float) -> int:
        """A small whole number, now and then a bound."""
        bounds = [int(each) for each in (low, high) if math.isfinite(each)] or [2**40, -(2**40)]
        if self.chance(0.1):
            return int(self.one_of(*bounds))
        return int(np.clip(self.rng.integers(-2, 4), low, high))

    def real(self, low: float, high: float) -> float:
        """A small number, now and then a bound."""
        if self.chance(0.1) and math.isfinite(low) and math.isfinite(high):
            return float(self.one_of(low, high))
        return float(np.clip(self.one_of(*REALS), low, high))

    def by_slot(self, slot: Slot) -> Drawn:
        """What such a slot may hold."""
        if slot.optional and self.chance(0.3):
            return None
        match slot.kind:
            case Kind.TENSOR:
                return self.floats()
            case Kind.OPERAND:
                operand: Drawn = self.one_of(self.floats(), self.real(-1e30, 1e30), self.whole(-100, 100))
                return operand
            case Kind.TENSORS:
                first = self.floats()
                return (first,) * int(self.rng.integers(1, 4))
            case Kind.SIZE:
                return self.size()
            case Kind.SIZES:
                return tuple(self.size() for _ in range(self.rng.integers(0, 4)))
            case Kind.INTEGER:
                return self.whole(slot.low, slot.high)
            case Kind.INTEGERS:
                length = self.rng.integers(0, 4) if slot.length is None else slot.length
                return tuple(self.whole(slot.low, slot.high) for _ in range(length))
            case Kind.REAL:
                return self.real(slot.low, slot.high)
            case Kind.FLAG:
                return self.chance(0.5)

    def size(self) -> Handle | int:
        """A small number, or a size of a tensor."""
        if self.chance(0.6):
            return int(self.rng.integers(0, 5))
        return self.drawing.node(Op.SIZE, self.drawing.input(self.sides()), self.one_of(0, 0, 1, -1))[0]

    def by_signature(self, operator: Op) -> tuple[Drawn, ...]:
        """Each slot on its own."""
        return tuple(self.by_slot(slot) for slot in RULES[operator].slots)

    def dim(self, x: Handle) -> int:
        """One of its dimensions, or one beyond."""
        rank = len(self.drawing.shape(x))
        return int(self.rng.integers(-rank, rank + (1 if self.chance(0.05) else 0))) if rank else 0

    def some_dims(self, x: Handle) -> tuple[int, ...]:
        """Some of its dimensions."""
        rank = len(self.drawing.shape(x))
        chosen = self.rng.permutation(rank)[: self.rng.integers(0, rank + 1)]
        return tuple(int(d) for d in chosen)
