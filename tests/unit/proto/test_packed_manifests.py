"""A manifest is read without its program, and what its program holds is counted before any of it is read."""

from __future__ import annotations

import contextlib
import tracemalloc
from collections.abc import Callable
from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.proto.test_program_codec import MANIFEST, PROGRAM
from tests.unit.proto.test_training_fields import FULL

from grapevine_proto import manifest_pb2, program_pb2
from grapevine_proto.errors import WireError
from grapevine_proto.manifest import ManifestHead
from grapevine_proto.manifest_codec import (
    MAX_MANIFEST_BYTES,
    decode_manifest,
    decode_manifest_head,
    encode_manifest,
    unpack_manifest,
)
from grapevine_proto.program_codec import (
    MAX_ARGUMENTS_IN_ALL,
    MAX_NODES,
    MAX_TENSORS,
    decode_program,
    encode_program,
    pack_program,
    unpack_program,
)

MIB = 2**20
ROOM = 490 * 1024  # for what is repeated in a program until it is full
RELU = bytes.fromhex("0850 12020800 1801")  # operator, one argument, one result
REFERENCE = bytes.fromhex("12020805")  # an argument
ITEM = bytes.fromhex("0a020805")  # of a list


def _field(number: int, content: bytes) -> bytes:
    length = bytearray()
    left = len(content)
    while left > 0x7F:
        length.append(left & 0x7F | 0x80)
        left >>= 7
    return bytes([number << 3 | 2, *length, left]) + content


def _without(part: str) -> bytes:
    wire = program_pb2.Program.FromString(encode_program(PROGRAM))
    wire.ClearField(part)
    return wire.SerializeToString()


def _manifest_of(program: bytes) -> bytes:
    wire = manifest_pb2.TaskManifest.FromString(encode_manifest(MANIFEST))
    wire.ClearField("program")
    return wire.SerializeToString() + _field(8, program)


def _filled(number: int, content: bytes) -> bytes:
    """As many fields with this content as there is room for."""
    one = _field(number, content)
    return one * (ROOM // len(one))


def _trained(nodes: bytes) -> bytes:
    """A program whose train graph holds these bytes."""
    return _without("train") + _field(6, nodes)


def test_a_head_says_all_that_the_manifest_says_but_its_program() -> None:
    packed = decode_manifest_head(encode_manifest(FULL))
    for each in fields(ManifestHead):
        assert getattr(packed, each.name) == getattr(FULL, each.name), each.name
    assert packed.program.num_nodes == len(PROGRAM.train.nodes) + len(PROGRAM.eval.nodes) == 5
    assert packed.program.constant_bytes >= 4
    assert packed.program.encoded == encode_program(PROGRAM)
    assert unpack_manifest(packed) == FULL


@given(st.data())
def test_a_head_of_any_bytes_is_a_wire_error_or_unpacks_to_the_manifest_or_a_wire_error(data: st.DataObject) -> None:
    encoded = bytearray(encode_manifest(FULL))
    for _ in range(data.draw(st.integers(1, 4))):
        encoded[data.draw(st.integers(0, len(encoded) - 1))] = data.draw(st.integers(0, 255))
    try:
        packed = decode_manifest_head(bytes(encoded))
        manifest = unpack_manifest(packed)
    except WireError:
        with pytest.raises(WireError):
            decode_manifest(bytes(encoded))
        return
    assert manifest == decode_manifest(bytes(encoded))
    assert packed.program.num_nodes == len(manifest.program.train.nodes) + len(manifest.program.eval.nodes)


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        (_trained(_field(1, b"\xff") * (MAX_NODES + 1)), f"{MAX_NODES + 1} nodes in the train graph"),
        (_trained(_field(3, b"\xff") * (MAX_TENSORS + 1)), f"{MAX_TENSORS + 1} updates"),
        (_without("inputs") + _field(2, b"\xff") * (MAX_TENSORS + 1), f"{MAX_TENSORS + 1} inputs"),
        (_without("parameters") + _field(3, b"\xff") * (MAX_TENSORS + 1), f"{MAX_TENSORS + 1} parameters"),
        (_without("constants") + _field(5, b"\xff") * (MAX_TENSORS + 1), f"{MAX_TENSORS + 1} constants"),
    ],
)
def test_too_many_of_something_are_refused_before_one_of_them_is_read(program: bytes, reason: str) -> None:
    # Each of them is malformed: whoever reads one before they are counted says so instead.
    with pytest.raises(WireError, match=reason):
        decode_manifest_head(_manifest_of(program))
    with pytest.raises(WireError, match=reason):
        decode_program(program)


def test_as_many_nodes_as_are_allowed_are_counted_without_being_read() -> None:
    packed = pack_program(_trained(_field(1, b"\xff") * MAX_NODES))
    assert packed.num_nodes == MAX_NODES
    with pytest.raises(WireError, match="not node 0"):
        unpack_program(packed)


def test_arguments_and_items_are_counted_over_all_nodes() -> None:
    node = bytes.fromhex("0850 1801") + REFERENCE * 16
    allowed = MAX_ARGUMENTS_IN_ALL // 16
    last = len(PROGRAM.train.nodes[0].arguments)  # what the evaluation graph may not have any more
    assert last == 2
    decode_program(_trained(_field(1, node) * (allowed // 2)))
    with pytest.raises(WireError, match=f"more than {MAX_ARGUMENTS_IN_ALL} arguments"):
        decode_program(_trained(_field(1, node) * (allowed + 1)))
    listed = bytes.fromhex("0850 1801") + _field(2, _field(5, ITEM * 1024))
    with pytest.raises(WireError, match=f"more than {MAX_ARGUMENTS_IN_ALL} arguments"):
        decode_program(_trained(_field(1, listed) * (MAX_ARGUMENTS_IN_ALL // 1024)))


def test_a_node_longer_than_any_honest_one_is_not_read() -> None:
    with pytest.raises(WireError, match="node 0 has"):
        decode_program(_trained(_field(1, RELU + b"\x12\0" * 10_000)))


@pytest.mark.parametrize("number", [8, 9, 10, 11, 12, 13])
def test_a_part_that_is_there_twice_is_refused(number: int) -> None:
    with pytest.raises(WireError, match="is there 2 times"):
        decode_manifest(encode_manifest(MANIFEST) + _field(number, b""))


@pytest.mark.parametrize("number", [6, 7])
def test_a_graph_that_is_there_twice_is_refused(number: int) -> None:
    with pytest.raises(WireError, match="there twice"):
        decode_program(encode_program(PROGRAM) + _field(number, b""))


@pytest.mark.parametrize(("part", "number"), [("training", 11), ("merging", 12)])
def test_a_plan_of_empty_constants_without_end_is_refused_by_its_length(part: str, number: int) -> None:
    wire = manifest_pb2.TaskManifest.FromString(encode_manifest(MANIFEST))
    wire.ClearField(part)
    with pytest.raises(WireError, match=f"{part} has"):
        decode_manifest(wire.SerializeToString() + _field(number, _filled(2, b"")))


WORST: dict[str, Callable[[], bytes]] = {
    "empty nodes": lambda: _trained(_filled(1, b"")),
    "tiny nodes": lambda: _trained(_field(1, RELU) * MAX_NODES),
    "nodes full of references": lambda: _trained(_filled(1, bytes.fromhex("0850 1801") + REFERENCE * 16)),
    "one node of empty arguments": lambda: _trained(_field(1, _filled(2, b""))),
    "lists full of references": lambda: _trained(
        _filled(1, bytes.fromhex("0850 1801") + _field(2, _field(5, ITEM * 1024)))
    ),
    "empty updates": lambda: _trained(_filled(3, b"")),
    "empty parameters": lambda: _without("parameters") + _filled(3, b""),
    "tiny parameters": lambda: (
        _without("parameters") + b"".join(_field(3, _field(1, b"p%d" % n)) for n in range(MAX_TENSORS))
    ),
    "a shape without end": lambda: _without("parameters") + _field(3, _field(1, b"p") + _field(2, b"\1" * ROOM)),
    "empty graphs": lambda: _without("train") + _filled(6, b""),
}


@pytest.mark.parametrize("name", WORST)
def test_whatever_a_manifest_holds_reading_it_takes_few_python_objects(name: str) -> None:
    encoded = _manifest_of(WORST[name]())
    assert len(encoded) <= MAX_MANIFEST_BYTES
    for decode, most in ((decode_manifest_head, 2.5 * MIB), (decode_manifest, 8 * MIB)):
        tracemalloc.start()
        with contextlib.suppress(WireError):
            decode(encoded)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < most, f"{decode.__name__}: {peak / MIB:.1f} MiB"
