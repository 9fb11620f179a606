"""Which encoding each vector of a task travels in: what the task allows, the owner wants, and the vector can bear.

    the change since a base   any that is allowed, top-k too
    a whole model, a base     any but top-k, which leaves most of a model out
    the base of top-k         int8; where members sum changes and average bases, a coarse one, of which zstd makes less
    a released model          float32 or a half: it is used as it comes, and its figures should be true of it
    buffers                   float32 or float16: what int8 takes from a variance, a division brings back

A vector goes as float32, which every task allows, where it has a number that its encoding cannot hold, or is so short
that it would be no smaller.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from grapevine_agent.core.settings import AUTO
from grapevine_agent.merge import STRATEGIES
from grapevine_agent.merge.apart import apart
from grapevine_proto.encoding import ENCODINGS, PLAIN, SIZES, Encoding
from grapevine_proto.encodings import STEPS, encode
from grapevine_proto.manifest import MergePlan
from grapevine_proto.messages import Encoded, Vector, Written

_HALF: Final = Encoding("float16")
_BYTES: Final = Encoding("int8")
COARSE: Final = 31  # steps, of 127: a byte becomes 6 bits
_COARSE_SIZE: Final = 0.72  # bytes a number, about


@dataclass(frozen=True, kw_only=True)
class Encodings:
    """What a member writes its vectors in."""

    whole: Encoding = PLAIN
    change: Encoding = PLAIN
    base: Encoding = PLAIN
    base_steps: int = STEPS
    released: Encoding = PLAIN
    buffers: Encoding = PLAIN

    @classmethod
    def of(cls, plan: MergePlan, wanted: str = AUTO) -> Encodings:
        """Of a task, for an owner who wants this one, or the smallest; float32 where the task does not allow it."""
        allowed = [ENCODINGS[name] for name in plan.encodings if name in ENCODINGS]
        if wanted != AUTO:
            allowed = [each for each in allowed if each.name == wanted]
        change = _smallest(allowed)
        whole = _smallest(each for each in allowed if each.is_whole)
        half = replace(_HALF, zstd=change.zstd)
        is_coarse = change.zstd and not change.is_whole and STRATEGIES[plan.strategy].needs_base
        return cls(
            whole=whole,
            change=change,
            base=change if change.is_whole else replace(_BYTES, zstd=change.zstd),
            base_steps=COARSE if is_coarse else STEPS,
            released=_smallest(each for each in allowed if each.numbers not in ("int8", "top-k")),
            buffers=change if change.numbers in ("float32", "float16") else half,
        )

    @property
    def delta_size(self) -> float:
        """Bytes a number of a base and the change since take together, about."""
        return SIZES[self.change.name] + (_COARSE_SIZE if self.base_steps == COARSE else SIZES[self.base.name])


def allowed_encodings(plan: MergePlan) -> frozenset[Encoding]:
    """What members of a task may write in: what it names, float32, and what goes with these for bases and buffers."""
    named = {ENCODINGS[name] for name in plan.encodings if name in ENCODINGS}
    halves = {replace(_HALF, zstd=each.zstd) for each in named if each.numbers != "float32"}
    bases = {replace(_BYTES, zstd=each.zstd) for each in named if not each.is_whole}
    return frozenset({PLAIN}) | named | halves | bases


def why_larger(plan: MergePlan, wanted: str, *, sends_changes: bool) -> str:
    """Why updates of a task are larger than what the owner asks for; empty where they are not."""
    if wanted in (AUTO, PLAIN.name):
        return ""
    if wanted not in plan.encodings:
        allowed = [name for name in plan.encodings if name in ENCODINGS and name != PLAIN.name]
        return f"the task does not allow {wanted}, only {' and '.join((PLAIN.name, *allowed))}"
    if not (sends_changes or ENCODINGS[wanted].is_whole):
        return f"{wanted} is for changes, and members of this task send whole models"
    return ""


def written(vector: Vector, encoding: Encoding, *, steps: int = STEPS) -> Written:
    """The vector in this encoding, or as it lies where it cannot be, or need not. `steps` are of int8."""
    if encoding.is_plain or not vector.size:
        return vector
    try:
        with apart():
            content = encode(vector, encoding, steps=steps)
    except ValueError:
        return vector
    return Encoded(encoding, content) if len(content) < vector.nbytes else vector


def _smallest(allowed: Iterable[Encoding]) -> Encoding:
    return min(allowed, key=lambda each: SIZES[each.name], default=PLAIN)
