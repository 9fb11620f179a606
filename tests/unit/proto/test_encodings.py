"""Vectors there and back in every encoding, and bytes that nobody honest writes."""

from __future__ import annotations

import tracemalloc
from contextlib import suppress

import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from grapevine_proto.encoding import ENCODINGS, SIZES, Encoding
from grapevine_proto.encodings import BLOCK, DENSEST, LARGEST_SCALE, TOP_SHARE, decode, encode, most_bytes, most_kept
from grapevine_proto.errors import WireError
from grapevine_proto.messages import Vector

EVERY = list(ENCODINGS.values())
LARGE = 1 << 20
numbers = st.floats(-60_000, 60_000, width=32)
vectors = st.integers(0, 600).flatmap(lambda n: arrays(np.float32, n, elements=numbers))
encodings = st.sampled_from(EVERY)


def weights(size: int, seed: int = 0) -> Vector:
    return (np.random.default_rng(seed).standard_normal(size) * 0.05).astype(np.float32)


@given(vectors, encodings)
def test_what_was_decoded_is_written_as_the_same_bytes_again(vector: Vector, encoding: Encoding) -> None:
    content = encode(vector, encoding)
    decoded = decode(content, vector.size, encoding)
    assert decoded.dtype == np.float32
    assert decoded.shape == vector.shape
    again = decode(encode(decoded, encoding), vector.size, encoding)
    assert np.allclose(again, decoded, rtol=1e-6, atol=0)


@given(vectors)
def test_every_encoding_is_as_near_as_it_says(vector: Vector) -> None:
    def error(name: str) -> Vector:
        found: Vector = np.abs(decode(encode(vector, ENCODINGS[name]), vector.size, ENCODINGS[name]) - vector)
        return found

    assert not error("float32+zstd").any()
    assert (error("float16") <= np.maximum(np.abs(vector) * 2.0**-11, 2.0**-25)).all()
    assert (error("bfloat16") <= np.maximum(np.abs(vector) * 2.0**-8, 1e-37)).all()
    for start in range(0, vector.size, BLOCK):
        block = slice(start, start + BLOCK)
        assert (error("int8")[block] <= np.abs(vector[block]).max() / 254 * 1.0001 + 1e-37).all()


@given(vectors)
def test_top_k_keeps_the_largest_and_nothing_else(vector: Vector) -> None:
    decoded = decode(encode(vector, Encoding("top-k")), vector.size, Encoding("top-k"))
    kept = np.flatnonzero(decoded)
    most = int(np.ceil(TOP_SHARE * vector.size))
    assert len(kept) <= most
    assert (decoded[kept] == vector[kept].astype(np.float16)).all()
    if len(kept) == most and most:
        left_out = np.delete(np.abs(vector), kept)
        assert left_out.max(initial=0) <= np.abs(vector[kept]).min()


@given(st.binary(max_size=400), st.integers(0, 300), encodings)
def test_any_bytes_are_a_vector_of_the_size_or_a_wire_error(content: bytes, size: int, encoding: Encoding) -> None:
    with suppress(WireError):
        assert decode(content, size, encoding).shape == (size,)


@given(vectors, encodings, st.data())
def test_honest_bytes_with_one_changed_are_a_vector_or_a_wire_error(
    vector: Vector, encoding: Encoding, data: st.DataObject
) -> None:
    content = bytearray(encode(vector, encoding))
    if content:
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with suppress(WireError):
        assert decode(bytes(content), vector.size, encoding).shape == vector.shape


@pytest.mark.parametrize("encoding", EVERY, ids=lambda each: each.name)
def test_a_truncation_at_every_byte_is_a_wire_error(encoding: Encoding) -> None:
    content = encode(weights(300), encoding)
    for end in range(len(content)):
        with pytest.raises(WireError):
            decode(content[:end], 300, encoding)


@pytest.mark.parametrize("encoding", [each for each in EVERY if each.is_whole], ids=lambda each: each.name)
def test_another_size_is_a_wire_error(encoding: Encoding) -> None:
    content = encode(weights(600), encoding)
    for size in (0, 1, 300, 599):
        with pytest.raises(WireError):
            decode(content, size, encoding)


@pytest.mark.parametrize("encoding", EVERY, ids=lambda each: each.name)
def test_what_arrives_may_be_a_view_and_is_left_as_it_is(encoding: Encoding) -> None:
    content = encode(weights(700), encoding)
    held = bytearray(content)
    assert np.array_equal(decode(memoryview(held).toreadonly(), 700, encoding), decode(content, 700, encoding))
    assert held == content


def test_of_two_that_are_as_near_bfloat16_takes_the_even_one() -> None:
    bits = np.array([0x3F808000, 0x3F818000, 0x3F808001], np.uint32)
    decoded = decode(encode(bits.view(np.float32), Encoding("bfloat16")), 3, Encoding("bfloat16"))
    assert decoded.view(np.uint32).tolist() == [0x3F800000, 0x3F820000, 0x3F810000]


def test_int8_by_hand() -> None:
    content = encode(np.array([127, -63.4, 0.5, 0.49], np.float32), Encoding("int8"))
    assert content == np.float32(1).tobytes() + bytes([127, 256 - 63, 0, 0])  # 0.5 goes to the even number


@pytest.mark.parametrize("steps", [1, 7, 31, 126])
def test_int8_of_fewer_steps_is_read_like_any_other_and_zstd_makes_less_of_it(steps: int) -> None:
    vector = weights(5_000)
    content = encode(vector, Encoding("int8"), steps=steps)
    assert len(content) == len(encode(vector, Encoding("int8")))
    decoded = decode(content, vector.size, Encoding("int8"))
    for start in range(0, vector.size, BLOCK):
        block = slice(start, start + BLOCK)
        assert np.abs(decoded - vector)[block].max() <= np.abs(vector[block]).max() / (2 * steps) * 1.0001
    assert len(encode(vector, INT8_ZSTD, steps=steps)) < len(encode(vector, INT8_ZSTD))


def test_top_k_by_hand() -> None:
    vector = np.zeros(400, np.float32)
    vector[[3, 300]] = 1, -2
    content = encode(vector, Encoding("top-k"))
    gaps = bytes([3, 0x80 | 296 & 0x7F, 296 >> 7])
    assert content == b"\x02\0\0\0" + gaps + np.array([1, -2], "<f2").tobytes()


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_nobody_writes_what_is_not_finite(number: float) -> None:
    vector = np.array([1, number, 2], np.float32)
    for encoding in EVERY:
        if encoding.numbers != "float32":
            with pytest.raises(ValueError, match=r"hold|ends"):
                encode(vector, encoding)


def test_a_number_that_a_half_cannot_hold_is_said_to_whoever_writes_it() -> None:
    with pytest.raises(ValueError, match="ends at 65504, and there is 70000"):
        encode(np.array([1, 70_000], np.float32), Encoding("float16"))


def test_the_nominal_sizes_are_in_the_order_of_what_normal_weights_take() -> None:
    vector = weights(100_000)
    taken = {name: len(encode(vector, each)) for name, each in ENCODINGS.items()}
    assert sorted(SIZES, key=SIZES.__getitem__) == sorted(taken, key=lambda name: (taken[name], SIZES[name]))


# --- hostile bytes --------------------------------------------------------------------------------


def top(num: int, gaps: bytes, values: bytes | None = None) -> bytes:
    return num.to_bytes(4, "little") + gaps + (np.ones(num, "<f2").tobytes() if values is None else values)


def packed(content: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(content)


def without_size(content: bytes) -> bytes:
    return zstandard.ZstdCompressor(write_content_size=False).compress(content)


def scaled(*scales: float) -> bytes:
    return np.array(scales, "<f4").tobytes() + b"\1" * 300


INT8, TOP = Encoding("int8"), Encoding("top-k")
INT8_ZSTD, TOP_ZSTD, FLOATS_ZSTD = Encoding("int8", True), Encoding("top-k", True), Encoding("float32", True)
HOSTILE = {
    "a scale that is NaN": (INT8, scaled(1, np.nan), "non-finite"),
    "a scale that is infinite": (INT8, scaled(np.inf, 1), "non-finite"),
    "a negative scale": (INT8, scaled(1, -1), "non-finite"),
    "a scale whose steps overflow": (INT8, scaled(LARGEST_SCALE * 1.01, 1), "non-finite"),
    "a step of −128": (INT8, scaled(1, 1)[:-1] + b"\x80", "malformed"),
    "one scale too few": (INT8, scaled(1), "wrong-shape"),
    "no count": (TOP, b"\0\0\0", "malformed"),
    "a count of everything": (TOP, top(300, b"\0" * 300), "wrong-shape"),
    "a count of 2³² − 1": (TOP, b"\xff\xff\xff\xff" + b"\0" * 64, "wrong-shape"),
    "a count without numbers": (TOP, b"\5\0\0\0", "malformed"),
    "numbers without a count": (TOP, b"\0\0\0\0\1\1\1", "malformed"),
    "an index beyond the end": (TOP, top(1, bytes([0xAC, 2])), "wrong-shape"),  # 300
    "indices that wrap": (TOP, top(3, b"\xff\xff\xff\x7f" * 3), "wrong-shape"),
    "a gap of five bytes": (TOP, top(2, b"\x80\x80\x80\x80\1\1"), "malformed"),
    "a gap without an end": (TOP, top(1, b"\x80\x80"), "malformed"),
    "a gap that is longer than it is": (TOP, top(1, b"\x83\0"), "malformed"),
    "more gaps than numbers": (TOP, top(1, b"\1\1\1"), "malformed"),
    "no zstd": (INT8_ZSTD, b"no zstd at all", "malformed"),
    "nothing": (INT8_ZSTD, b"", "malformed"),
    "an empty frame": (INT8_ZSTD, packed(b""), "malformed"),
    "a frame without a size": (INT8_ZSTD, without_size(scaled(1, 1)), "wrong-shape"),
    "a bomb": (INT8_ZSTD, packed(b"\0" * (1 << 26)), "wrong-shape"),
    "a bomb without a size": (TOP_ZSTD, without_size(b"\0" * (1 << 26)), "wrong-shape"),
    "a second frame": (INT8_ZSTD, packed(scaled(1, 1)) * 2, "malformed"),
    "something behind the frame": (INT8_ZSTD, packed(scaled(1, 1)) + b"x", "malformed"),
    "a skippable frame": (INT8_ZSTD, b"\x50\x2a\x4d\x18\4\0\0\0abcd" + packed(scaled(1, 1)), "malformed"),
    "a frame that is less than it says": (INT8_ZSTD, packed(scaled(1, 1))[:-3], "malformed"),
    "planes of three and a half": (FLOATS_ZSTD, packed(b"\1" * 1_198), "malformed"),
    "planes of too few": (FLOATS_ZSTD, packed(b"\1" * 1_196), "wrong-shape"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_bytes_are_refused(what: str) -> None:
    encoding, content, reason = HOSTILE[what]
    with pytest.raises(WireError) as error:
        decode(content, 300, encoding)
    assert error.value.reason == reason, str(error.value)


def test_a_frame_that_lies_about_its_size_is_refused() -> None:
    honest = bytearray(packed(scaled(1, 1)))
    says = zstandard.get_frame_parameters(bytes(honest)).content_size
    at = bytes(honest).index((says - 256).to_bytes(2, "little"))
    for lie in (0, 1, 51, 53, 255):
        honest[at : at + 2] = lie.to_bytes(2, "little")
        with pytest.raises(WireError):
            decode(bytes(honest), 300, INT8_ZSTD)


def test_a_frame_that_wants_a_large_window_is_refused() -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=27, write_content_size=False)
    made = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    content = made.compress(b"\0" * (1 << 25)) + made.flush()
    with pytest.raises(WireError):
        decode(content, 1 << 26, INT8_ZSTD)


@pytest.mark.parametrize(("window_log", "is_read"), [(23, True), (24, False)])
def test_a_window_is_judged_before_anything_is_unpacked(window_log: int, *, is_read: bool) -> None:
    size = (1 << 24) + 1
    content = encode(np.zeros(size, np.float32), Encoding("int8"))
    parameters = zstandard.ZstdCompressionParameters(window_log=window_log)
    frame = zstandard.ZstdCompressor(compression_params=parameters).compress(content)
    assert zstandard.get_frame_parameters(frame).window_size == 1 << window_log
    if is_read:
        assert decode(frame, size, INT8_ZSTD).size == size
    else:
        with pytest.raises(WireError, match="window of 16777216 bytes"):
            decode(frame, size, INT8_ZSTD)


@pytest.mark.parametrize("encoding", EVERY, ids=lambda each: each.name)
def test_decoding_takes_a_few_vectors_of_memory_and_no_more(encoding: Encoding) -> None:
    content = encode(weights(LARGE), encoding)
    tracemalloc.start()
    try:
        decode(content, LARGE, encoding)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak <= 3 * 4 * LARGE


def test_the_densest_top_k_takes_a_few_vectors_of_memory_and_no_more() -> None:
    num = most_kept(LARGE)
    content = top(num, b"\3" * num)
    assert len(content) <= most_bytes(LARGE, "top-k")
    tracemalloc.start()
    try:
        decoded = decode(content, LARGE, TOP)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert np.count_nonzero(decoded) == num == LARGE // DENSEST
    assert peak <= 4 * 4 * LARGE


def test_refusing_takes_no_memory() -> None:
    for encoding, content, _ in HOSTILE.values():
        tracemalloc.start()
        try:
            with pytest.raises(WireError):
                decode(content, 300, encoding)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 100_000
