"""Which encoding each vector of a task travels in: what the task allows, the owner wants, and the vector can bear.

    the change since a base   any that is allowed, top-k too
    a whole model, a base     any but top-k, which leaves most of a model out
    the base of top-k         int8: what a base loses is in the change that is counted from it
    a released model          float32 or a half: it is used as it comes, and its figures should be true of it
    buffers                   float32 or float16: what int8 takes from a variance, a division brings back

A vector goes as float32, which every task allows, where it has a number that its encoding cannot hold, or is so short
that it would be no smaller.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from grapevine_agent.merge.apart import apart
from grapevine_proto.encodings import ENCODINGS, PLAIN, SIZES, Encoding, encode
from grapevine_proto.manifest import MergePlan
from grapevine_proto.messages import Encoded, Vector, Written

AUTO: Final = "auto"
_HALF: Final = Encoding("float16")
_BYTES: Final = Encoding("int8")


@dataclass(frozen=True, kw_only=True)
class Encodings:
    """What a member writes its vectors in."""

    whole: Encoding = PLAIN
    change: Encoding = PLAIN
    base: Encoding = PLAIN
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
        return cls(
            whole=whole,
            change=change,
            base=change if change.is_whole else replace(_BYTES, zstd=change.zstd),
            released=_smallest(each for each in allowed if each.numbers not in ("int8", "top-k")),
            buffers=change if change.numbers in ("float32", "float16") else half,
        )


def allowed_encodings(plan: MergePlan) -> frozenset[Encoding]:
    """What members of a task may write in: what it names, float32, and what goes with these for bases and buffers."""
    named = {ENCODINGS[name] for name in plan.encodings if name in ENCODINGS}
    halves = {replace(_HALF, zstd=each.zstd) for each in named if each.numbers != "float32"}
    bases = {replace(_BYTES, zstd=each.zstd) for each in named if not each.is_whole}
    return frozenset({PLAIN}) | named | halves | bases


def written(vector: Vector, encoding: Encoding) -> Written:
    """The vector in this encoding, or as it lies where it cannot be, or need not."""
    if encoding.is_plain or not vector.size:
        return vector
    try:
        with apart():
            content = encode(vector, encoding)
    except ValueError:
        return vector
    return Encoded(encoding, content) if len(content) < vector.nbytes else vector


def _smallest(allowed: Iterable[Encoding]) -> Encoding:
    return min(allowed, key=lambda each: SIZES[each.name], default=PLAIN)
