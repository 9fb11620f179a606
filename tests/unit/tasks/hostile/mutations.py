"""Thousands of random changes to what is honest: whatever comes of them is refused or sound, and nothing else."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from tests.unit.tasks.hostile.attack import FIRST, graph_of, honest_manifest, honest_program, judged
from tests.unit.tasks.hostile.sources import loaded
from tests.unit.tasks.hostile.weights import LAYOUT

from grapevine_proto.manifest_codec import encode_manifest
from grapevine_proto.program import Argument, Node, Operator, Program, Ref
from grapevine_tasks.opset import RULES, Kind, Slot
from grapevine_tasks.weights import decode_weights, encode_weights

NUM_BYTES, NUM_GRAPHS, NUM_WEIGHTS, NUM_SOURCES = 3000, 5000, 500, 150
_INTEGERS = (-(2**63), -(2**31), -9, -1, 0, 1, 2, 3, 4, 5, 8, 64, 1023, 2**16, 2**31, 2**48, 2**63 - 1)
_REALS = (0.0, -0.0, 1.0, -1.0, 0.5, 1e-12, 1e-300, 1e6, 1e30, 1e300, 16.0)


def cases(folder: Path) -> Iterator[tuple[str, Callable[[], object]]]:
    """Name and attempt of each case; the same every time."""
    manifest = encode_manifest(honest_manifest())
    weights = encode_weights(
        LAYOUT, np.zeros(LAYOUT.num_parameters, np.float32), np.zeros(LAYOUT.num_buffers, np.float32)
    )
    path = folder / "samples.npz"
    np.savez_compressed(path, x=np.zeros((9, 4), np.float32), y=np.zeros(9, np.int64))
    samples = path.read_bytes()
    kinds: tuple[tuple[str, int, Callable[[random.Random], object]], ...] = (
        ("bytes of a manifest", NUM_BYTES, lambda rng: judged(_changed(manifest, rng))),
        ("a random graph", NUM_GRAPHS, lambda rng: judged(_with(random_program(rng)))),
        ("bytes of weights", NUM_WEIGHTS, lambda rng: decode_weights(LAYOUT, _changed(weights, rng))),
        ("bytes of samples", NUM_SOURCES, lambda rng: _load(path, _changed(samples, rng))),
    )
    for what, num_seeds, attempt in kinds:
        for seed in range(num_seeds):
            yield f"{what}, seed {seed}", partial(attempt, random.Random(seed))


def _with(program: Program) -> bytes:
    return encode_manifest(honest_manifest(program))


def _load(path: Path, content: bytes) -> object:
    path.write_bytes(content)
    return loaded(path)


def _changed(content: bytes, rng: random.Random) -> bytes:
    """A few bytes flipped, cut out, doubled, put in or moved."""
    changed = bytearray(content)
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(len(changed) + 1)
        length = rng.randint(1, 12)
        match rng.randrange(5):
            case 0:
                changed[at : at + 1] = rng.randbytes(1)
            case 1:
                del changed[at : at + length]
            case 2:
                changed[at:at] = changed[at : at + length]
            case 3:
                changed[at:at] = rng.choice((b"\xff" * length, bytes(length), rng.randbytes(length)))
            case 4:
                start = rng.randrange(len(changed) + 1)
                changed[at : at + length] = changed[start : start + length]
    return bytes(changed)


def random_program(rng: random.Random) -> Program:
    """The honest program with a graph of any operators, whose arguments mostly are of the right kind."""
    nodes: list[Node] = []
    number = FIRST
    for _ in range(rng.randint(1, 8)):
        operator = rng.choice(list(RULES))
        rule = RULES[operator]
        arguments = tuple(_argument(slot, number, rng) for slot in rule.slots)
        if rng.random() < 0.05:
            arguments = arguments[: rng.randrange(len(arguments) + 1)]
        nodes.append(Node(operator=operator, arguments=arguments, num_results=rule.num_results))
        number += rule.num_results
    if rng.random() < 0.5:  # so that more than a few graphs are sound to their end
        nodes.append(Node(operator=Operator.LINEAR, arguments=(Ref(0), Ref(1), Ref(2))))
    graph = graph_of(*nodes)
    return replace(honest_program(), train=graph, eval=graph)


def _argument(slot: Slot, number: int, rng: random.Random) -> Argument:
    if slot.optional and rng.random() < 0.5:
        return None
    kind = slot.kind if rng.random() < 0.95 else rng.choice(list(Kind))
    match kind:
        case Kind.TENSOR:
            return Ref(rng.randrange(number))
        case Kind.OPERAND:
            return rng.choice((Ref(rng.randrange(number)), rng.choice(_REALS), rng.choice(_INTEGERS)))
        case Kind.TENSORS:
            return tuple(Ref(rng.randrange(number)) for _ in range(rng.randint(1, 4)))
        case Kind.SIZE:
            return rng.choice((Ref(rng.randrange(number)), rng.choice(_INTEGERS)))
        case Kind.SIZES:
            return tuple(rng.choice((Ref(rng.randrange(number)), _small(rng))) for _ in range(rng.randint(0, 5)))
        case Kind.INTEGER:
            return _small(rng)
        case Kind.INTEGERS:
            return tuple(_small(rng) for _ in range(slot.length or rng.randint(0, 4)))
        case Kind.REAL:
            return rng.choice(_REALS)
        case _:
            return rng.random() < 0.5


def _small(rng: random.Random) -> int:
    return rng.randint(-2, 4) if rng.random() < 0.9 else rng.choice(_INTEGERS)
