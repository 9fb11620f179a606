"""Files that are handed out in place of a task's initial weights."""

from __future__ import annotations

import gzip
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from tests.unit.tasks.hostile.attack import Attack, honest_program

from grapevine_proto.errors import TaskError
from grapevine_proto.manifest import WeightsRef
from grapevine_tasks.layout import ModelLayout
from grapevine_tasks.weights import decode_weights, encode_weights, load_initial

LAYOUT = ModelLayout.of(honest_program())
Header = dict[str, Any]


def _bytes(name: str, target: str, make: Callable[[], bytes], reason: str) -> Attack:
    return Attack(name=name, target=target, attempt=lambda _folder: decode_weights(LAYOUT, make()), reason=reason)


def _header(name: str, target: str, spoil: Callable[[Header], object], reason: str) -> Attack:
    """The honest weights, after `spoil` has changed their header."""

    def make() -> bytes:
        header, content = _parts()
        spoil(header)
        return _joined(json.dumps(header).encode(), content)

    return _bytes(name, target, make, reason)


def _honest(**changed: np.ndarray[Any, Any]) -> bytes:
    parameters = changed.get("parameters", np.zeros(LAYOUT.num_parameters, np.float32))
    return encode_weights(LAYOUT, parameters, changed.get("buffers", np.zeros(LAYOUT.num_buffers, np.float32)))


def _parts() -> tuple[Header, bytes]:
    whole = _honest()
    length = int.from_bytes(whole[:8], "little")
    return json.loads(whole[8 : 8 + length]), whole[8 + length :]


def _joined(header: bytes, content: bytes = b"") -> bytes:
    return len(header).to_bytes(8, "little") + header + content


def _twice() -> bytes:
    """A header in which one name stands twice, with different offsets."""
    header, content = _parts()
    text = json.dumps(header)
    again = '"layer.weight": {"dtype": "F32", "shape": [3, 4], "data_offsets": [0, 48]}'
    return _joined(f"{text[:-1]}, {again}}}".encode(), content)


def _cut_anywhere(_folder: Path) -> object:
    whole = _honest()
    for end in range(len(whole)):
        try:
            decode_weights(LAYOUT, whole[:end])
        except TaskError:
            continue
        raise AssertionError(f"weights cut after {end} of {len(whole)} bytes were taken")
    raise TaskError(f"all {len(whole)} beginnings refused")


def _other_weights(_folder: Path) -> object:
    return load_initial(LAYOUT, _honest(), WeightsRef(digest="00" * 32, num_bytes=len(_honest())))


NOT_A_FILE = "not a safetensors file"
WEIGHTS = (
    _bytes("nothing", "a parser", lambda: b"", NOT_A_FILE),
    _bytes("a header of 2^64 - 1 bytes", "memory", lambda: b"\xff" * 8 + b"{}", NOT_A_FILE),
    _bytes("a header of 2^63 bytes", "memory", lambda: b"\x00" * 7 + b"\x80{}", NOT_A_FILE),
    _bytes("a header beyond the end", "memory out of bounds", lambda: (500).to_bytes(8, "little") + b"{}", NOT_A_FILE),
    _bytes("a header of spaces", "time", lambda: _joined(b" " * 2**20), NOT_A_FILE),
    _bytes("a header of lists in lists", "the stack", lambda: _joined(b"[" * 100_000), NOT_A_FILE),
    _bytes("a header of tables in tables", "the stack", lambda: _joined(b'{"a":' * 50_000), NOT_A_FILE),
    _bytes("a header that is no JSON", "a parser", lambda: _joined(b"layer.weight: 3"), NOT_A_FILE),
    _bytes("a pickle", "running code", lambda: pickle.dumps({"layer.weight": [1.0]}), NOT_A_FILE),
    _bytes("a zip file", "unpacking without end", lambda: b"PK\x03\x04" + bytes(200), NOT_A_FILE),
    _bytes("a gzip bomb", "unpacking without end", lambda: gzip.compress(bytes(2**24)), NOT_A_FILE),
    _bytes("a zstd frame", "unpacking without end", lambda: b"\x28\xb5\x2f\xfd\xa4" + bytes(60), NOT_A_FILE),
    Attack(name="cut at every byte", target="a parser", attempt=_cut_anywhere, reason="beginnings refused"),
    Attack(
        name="weights of another digest",
        target="a model of their own",
        attempt=_other_weights,
        reason="not the weights",
    ),
    _bytes("one name twice", "a check of the first only", _twice, NOT_A_FILE),
    _header(
        "tensors that overlap",
        "memory out of bounds",
        lambda header: header["layer.weight"].update(data_offsets=[0, 48]),
        NOT_A_FILE,
    ),
    _header(
        "a tensor beyond the end",
        "memory out of bounds",
        lambda header: header["layer.bias"].update(data_offsets=[2**40, 2**40 + 12]),
        NOT_A_FILE,
    ),
    _header(
        "a tensor that ends before it begins",
        "memory out of bounds",
        lambda header: header["layer.bias"].update(data_offsets=[12, 0]),
        NOT_A_FILE,
    ),
    _header(
        "a negative offset",
        "memory out of bounds",
        lambda header: header["layer.bias"].update(data_offsets=[-12, 0]),
        NOT_A_FILE,
    ),
    _header(
        "a shape of 2^252 numbers",
        "overflow",
        lambda header: header["layer.bias"].update(shape=[2**63 - 1] * 4),
        NOT_A_FILE,
    ),
    _header(
        "a shape that overflows to what is there",
        "overflow",
        lambda header: header["layer.bias"].update(shape=[2**62, 4, 3]),
        NOT_A_FILE,
    ),
    _header(
        "a dtype that nobody knows",
        "a wrong dtype",
        lambda header: header["layer.bias"].update(dtype="OBJECT"),
        NOT_A_FILE,
    ),
    _header(
        "a dtype that numpy lacks",
        "an exception",
        lambda header: (
            header["layer.bias"].update(dtype="BF16", shape=[6]),
            header["layer.weight"].update(dtype="BF16", shape=[6, 4]),
        ),
        f"{NOT_A_FILE}|expected float32|has the shape",
    ),
    _header(
        "whole numbers for weights",
        "a wrong dtype",
        lambda header: header["layer.bias"].update(dtype="I32"),
        "expected float32",
    ),
    _header(
        "another shape of as many numbers",
        "memory out of bounds",
        lambda header: header["layer.weight"].update(shape=[4, 3]),
        "has the shape",
    ),
    _header(
        "a tensor that the model lacks",
        "files that are named after tensors",
        lambda header: header.update({"../../x": header.pop("layer.bias")}),
        "do not match the model",
    ),
    _header("a tensor too few", "memory that nobody filled", lambda header: header.pop("layer.bias"), NOT_A_FILE),
    _bytes(
        "weights that are not numbers",
        "NaN in the model",
        lambda: _honest(parameters=np.full(LAYOUT.num_parameters, np.nan, np.float32)),
        "not finite",
    ),
    _bytes(
        "weights without end",
        "NaN in the model",
        lambda: _honest(parameters=np.full(LAYOUT.num_parameters, np.inf, np.float32)),
        "not finite",
    ),
)
