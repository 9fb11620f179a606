"""How a vector of float32 is written in fewer bytes than it has, and read again with suspicion.

    float32    4 bytes a number, as they lie
    float16    2 bytes, IEEE half: 11 bits of each number, up to 65,504
    bfloat16   2 bytes, the upper half of a float32: 8 bits of each number, any size
    int8       a float32 scale for each block of 256 numbers, then one byte a number: x ≈ scale · q, −127 ≤ q ≤ 127
    top-k      the largest numbers alone: their count, their places as gaps, their values as float16; the rest is 0

An int8 is as coarse as its writer likes: with scales that are larger, q stays below 31, say, and zstd finds that a
number takes 6 bits. Its reader need not know.

Each goes alone, or through zstd (`int8+zstd`). Before zstd floats are split into planes, all first bytes, then all
second ones: exponents of neighbours are alike, mantissas are noise, and zstd finds the one only apart from the other.

    top-k      count as uint32 ‖ gaps, LEB128 ‖ values, float16
    gap        places skipped since the one before: indices ascend whatever the gaps are

All is little-endian. Numbers are rounded to the nearest. Who decodes says how many numbers there must be: whatever the
bytes say, no more is made of them. `decode` raises `WireError`, and nothing else, for any bytes.
"""

from __future__ import annotations

from typing import Final, TypeAlias

import numpy as np
import zstandard
from numpy.typing import NDArray

from grapevine_proto.encoding import Encoding, Numbers
from grapevine_proto.errors import WireError

Floats: TypeAlias = NDArray[np.float32]

BLOCK: Final = 256  # numbers that share a scale
TOP_SHARE: Final = 0.05  # of a vector's numbers that top-k keeps
DENSEST: Final = 4  # top-k of more than one number in so many is refused: int8 is smaller
STEPS: Final = 127  # of int8, from 0 to a block's largest number
LARGEST_SCALE: Final = 1e36  # 127 times it is still a float32
LEVEL: Final = 3  # of zstd
LARGEST_WINDOW: Final = 1 << 23  # that a frame may ask its reader to keep
_WIDTHS: Final = {"float32": 4, "float16": 2, "bfloat16": 2}  # of what is split into planes
_LONGEST_GAP: Final = 4  # bytes: 2²⁸, and a bulk has no more numbers


def encode(vector: Floats, encoding: Encoding, *, steps: int = STEPS) -> bytes:
    """The vector, float32 [n], as it travels. Raises ValueError if it has a number that the encoding cannot hold.

    `steps` is of int8 alone, 1 to 127: with fewer of them zstd makes less of it.
    """
    if not vector.size:
        return b""  # of any encoding: a vector that is not there
    content = _write(np.ascontiguousarray(vector, np.float32), encoding.numbers, steps)
    if not encoding.zstd:
        return content
    width = _WIDTHS.get(encoding.numbers, 1)
    return zstandard.ZstdCompressor(level=LEVEL).compress(_planes(content, width))


def decode(content: bytes | memoryview, size: int, encoding: Encoding) -> Floats:
    """The vector of `size` numbers, float32, in these bytes; NaN and infinity may be among them where floats travel.

    Raises `WireError`. Takes no more memory than a few vectors of this size, whatever the bytes say.
    """
    if not size:
        return np.frombuffer(_exactly(content, 0, encoding.name), "<f4")
    if encoding.zstd:
        width = _WIDTHS.get(encoding.numbers, 1)
        content = _merged(_unpacked(content, most_bytes(size, encoding.numbers)), width)
    match encoding.numbers:
        case "float32":
            return np.frombuffer(_exactly(content, 4 * size, "float32"), "<f4")
        case "float16":
            return np.frombuffer(_exactly(content, 2 * size, "float16"), "<f2").astype(np.float32)
        case "bfloat16":
            upper = np.frombuffer(_exactly(content, 2 * size, "bfloat16"), "<u2").astype(np.uint32)
            return np.left_shift(upper, 16, out=upper).view(np.float32)
        case "int8":
            return _read_int8(content, size)
        case "top-k":
            return _read_top(content, size)


def most_bytes(size: int, numbers: Numbers) -> int:
    """What `size` numbers take at most, before zstd."""
    match numbers:
        case "float32":
            return 4 * size
        case "float16" | "bfloat16":
            return 2 * size
        case "int8":
            return 4 * _num_blocks(size) + size
        case "top-k":
            return 4 + (2 + _LONGEST_GAP) * most_kept(size)


def most_kept(size: int) -> int:
    """How many of so many numbers top-k may keep."""
    return -(-size // DENSEST)


# --- numbers --------------------------------------------------------------------------------------


def _write(vector: Floats, numbers: Numbers, steps: int) -> bytes:
    match numbers:
        case "float32":
            return vector.astype("<f4", copy=False).tobytes()
        case "float16":
            return _halves(vector).tobytes()
        case "bfloat16":
            return _upper_halves(vector)
        case "int8":
            return _write_int8(vector, steps)
        case "top-k":
            return _write_top(vector)


def _halves(vector: Floats) -> NDArray[np.float16]:
    with np.errstate(over="ignore"):
        halves = vector.astype("<f2")
    if not np.isfinite(halves).all():
        raise ValueError(f"float16 ends at 65504, and there is {_largest(vector):g}")
    return halves


def _upper_halves(vector: Floats) -> bytes:
    """To the nearest, and of two that are as near to the even one."""
    bits = vector.view(np.uint32)
    rounded = bits >> np.uint32(16)
    rounded &= np.uint32(1)
    rounded += np.uint32(0x7FFF)
    rounded += bits
    rounded >>= np.uint32(16)
    upper = rounded.astype("<u2")
    if (upper & 0x7F80 == 0x7F80).any():
        raise ValueError(f"bfloat16 cannot hold {_largest(vector):g}")
    return upper.tobytes()


def _write_int8(vector: Floats, num_steps: int) -> bytes:
    blocks = np.zeros((_num_blocks(vector.size), BLOCK), np.float32)
    blocks.reshape(-1)[: vector.size] = vector
    scales = np.maximum(blocks.max(axis=1, initial=0), -blocks.min(axis=1, initial=0)) / np.float32(num_steps)
    if not (scales <= LARGEST_SCALE).all():  # NaN neither
        raise ValueError(f"int8 cannot hold {_largest(vector):g}")
    # A scale that rounds to nothing stands for nothing.
    blocks /= np.where(scales > 0, scales, np.float32(1))[:, None]
    steps = np.rint(blocks, out=blocks).clip(-num_steps, num_steps).astype(np.int8)
    return b"".join((scales.astype("<f4").tobytes(), steps.reshape(-1)[: vector.size].tobytes()))


def _read_int8(content: bytes | memoryview, size: int) -> Floats:
    content = _exactly(content, most_bytes(size, "int8"), "int8")
    num_blocks = _num_blocks(size)
    scales = np.frombuffer(content, "<f4", num_blocks)
    steps = np.frombuffer(content, np.int8, offset=4 * num_blocks)
    if not ((scales >= 0) & (scales <= LARGEST_SCALE)).all():
        raise WireError("non-finite", "int8 with a scale that is negative, not finite, or too large")
    if steps.min(initial=0) < -STEPS:
        raise WireError("malformed", "int8 with −128, which nobody writes")
    vector = steps.astype(np.float32)
    whole = size // BLOCK
    vector[: whole * BLOCK].reshape(-1, BLOCK)[...] *= scales[:whole, None]
    vector[whole * BLOCK :] *= scales[-1]
    return vector


def _write_top(vector: Floats) -> bytes:
    kept = _largest_places(np.abs(vector), int(np.ceil(TOP_SHARE * vector.size)))
    values = _halves(vector[kept])
    kept, values = kept[values != 0], values[values != 0]
    gaps = np.diff(kept, prepend=-1) - 1
    return b"".join((len(kept).to_bytes(4, "little"), _leb128(gaps), values.tobytes()))


def _largest_places(sizes: Floats, num: int) -> NDArray[np.int64]:
    """Where the `num` largest are, ascending."""
    if not np.isfinite(sizes).all():
        raise ValueError("top-k cannot hold NaN or infinity")
    if num >= sizes.size:
        return np.arange(sizes.size)
    return np.sort(np.argpartition(sizes, sizes.size - num)[sizes.size - num :])


def _read_top(content: bytes | memoryview, size: int) -> Floats:
    if len(content) < 4:
        raise WireError("malformed", "top-k without a count")
    num = int.from_bytes(content[:4], "little")
    if num > most_kept(size):
        raise WireError("wrong-shape", f"top-k of {num} numbers out of {size}: at most one in {DENSEST}")
    values_from = len(content) - 2 * num
    if not num <= values_from - 4 <= _LONGEST_GAP * num:
        raise WireError("malformed", f"top-k of {num} numbers in {len(content)} bytes")
    places = _places(np.frombuffer(content, np.uint8, values_from - 4, 4), num)
    if num and places[-1] >= size:
        raise WireError("wrong-shape", f"top-k with the number {places[-1]} of {size}")
    vector = np.zeros(size, np.float32)
    vector[places] = np.frombuffer(content, "<f2", num, values_from)
    return vector


def _leb128(gaps: NDArray[np.int64]) -> bytes:
    lengths = 1 + (gaps >= 1 << 7) + (gaps >= 1 << 14) + (gaps >= 1 << 21)
    ends = np.cumsum(lengths)
    written = np.empty(ends[-1] if len(ends) else 0, np.uint8)
    for place in range(_LONGEST_GAP):
        those = lengths > place
        continues = np.where(lengths[those] > place + 1, 0x80, 0)
        written[(ends - lengths)[those] + place] = gaps[those] >> 7 * place & 0x7F | continues
    return written.tobytes()


def _places(written: NDArray[np.uint8], num: int) -> NDArray[np.int64]:
    """The indices that these gaps lead to, ascending."""
    ends = np.flatnonzero(written < 0x80)
    if len(ends) != num or (num and ends[-1] != len(written) - 1):
        raise WireError("malformed", f"top-k with {len(ends)} gaps for {num} numbers")
    starts = np.concatenate((np.zeros(1, np.int64), ends + 1))[:num]
    lengths = ends - starts + 1
    if lengths.max(initial=0) > _LONGEST_GAP:
        raise WireError("malformed", "top-k with a gap that no vector has")
    if (written[ends[lengths > 1]] == 0).any():
        raise WireError("malformed", "top-k with a gap that is written longer than it is")
    gaps = (written[starts] & 0x7F).astype(np.int64)
    for place in range(1, _LONGEST_GAP):
        those = lengths > place
        gaps[those] |= (written[starts[those] + place].astype(np.int64) & 0x7F) << 7 * place
    gaps += 1
    places: NDArray[np.int64] = np.cumsum(gaps, out=gaps)
    places -= 1
    return places


# --- bytes ----------------------------------------------------------------------------------------


def _unpacked(content: bytes | memoryview, most: int) -> bytes:
    """What is in a zstd frame, up to so many bytes. It must say how many it has: that is judged before it is read."""
    try:
        says = zstandard.get_frame_parameters(content)
        if says.content_size > most:  # one that does not say is the largest number that there is
            raise WireError("wrong-shape", f"zstd of {says.content_size} bytes, at most {most} fit")
        if says.content_size == 0:
            # The library gives back nothing without a look at what follows the header.
            raise WireError("malformed", "zstd of nothing")
        if says.window_size > LARGEST_WINDOW:  # the library asks for it only where it reads piece by piece
            raise WireError("malformed", f"zstd with a window of {says.window_size} bytes, at most {LARGEST_WINDOW}")
        reader = zstandard.ZstdDecompressor(max_window_size=LARGEST_WINDOW)
        return reader.decompress(content, max_output_size=most, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise WireError("malformed", f"zstd: {error}") from None


def _planes(content: bytes, width: int) -> bytes:
    """All first bytes of numbers of this width, then all second ones, and so on."""
    if width == 1:
        return content
    return np.frombuffer(content, np.uint8).reshape(-1, width).T.tobytes()


def _merged(planes: bytes, width: int) -> bytes:
    """The inverse of `_planes`."""
    if width == 1:
        return planes
    if len(planes) % width:
        raise WireError("malformed", f"{len(planes)} bytes in planes of {width}")
    return np.frombuffer(planes, np.uint8).reshape(width, -1).T.tobytes()


def _exactly(content: bytes | memoryview, num_bytes: int, what: str) -> bytes | memoryview:
    if len(content) != num_bytes:
        raise WireError("wrong-shape", f"{what} in {len(content)} bytes, the task's model takes {num_bytes}")
    return content


def _num_blocks(size: int) -> int:
    return -(-size // BLOCK)


def _largest(vector: Floats) -> float:
    return float(np.abs(vector).max(initial=0))
