"""Bytes that are sent in place of a manifest, and manifests whose fields are not what they should be."""

from __future__ import annotations

import pickle
import zlib
from collections.abc import Callable
from typing import Any

from google.protobuf.internal import encoder
from tests.unit.tasks.hostile.attack import Attack, honest_manifest, honest_wire, judged

from grapevine_proto.errors import WireError
from grapevine_proto.manifest_codec import MAX_MANIFEST_BYTES, encode_manifest

ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
GROUP, LENGTH = 3, 2  # wire types
UNKNOWN = 1000  # a field that manifests do not have
BIDI, ZERO_WIDTH = "\u202e", "\u200b"


def _bytes(name: str, target: str, make: Callable[[], bytes], reason: str) -> Attack:
    return Attack(name=name, target=target, attempt=lambda _folder: judged(make()), reason=reason)


def _spoilt(name: str, target: str, spoil: Callable[[Any], object], reason: str) -> Attack:
    """The honest manifest, after `spoil` has changed its message."""

    def make() -> bytes:
        wire = honest_wire()
        spoil(wire)
        return wire.SerializeToString()

    return _bytes(name, target, make, reason)


def _set(name: str, target: str, path: str, value: object, reason: str) -> Attack:
    """The honest manifest with one field changed; `path` as in "training.batch_size"."""

    def spoil(wire: Any) -> None:
        *parents, field = path.split(".")
        for parent in parents:
            wire = getattr(wire, parent)
        setattr(wire, field, value)

    return _spoilt(name, target, spoil, reason)


def _honest() -> bytes:
    return encode_manifest(honest_manifest())


def _cut_anywhere(_folder: object) -> object:
    """Every beginning of the honest manifest; the whole of it is the only one that may be taken."""
    whole = _honest()
    for end in range(len(whole)):
        try:
            judged(whole[:end])
        except WireError:
            continue
        raise AssertionError(f"a manifest cut after {end} of {len(whole)} bytes was taken")
    raise WireError("malformed", f"all {len(whole)} beginnings refused")


def _nested(depth: int) -> bytes:
    """Groups in groups, in a field that nobody knows."""
    tag, end = encoder.TagBytes(UNKNOWN, GROUP), encoder.TagBytes(UNKNOWN, GROUP + 1)
    return _honest() + tag * depth + end * depth


def _program_named(name: str) -> Callable[[Any], object]:
    def spoil(wire: Any) -> None:
        wire.program.parameters[0].name = name

    return spoil


def _argument(**kind: object) -> Callable[[Any], object]:
    """The first argument of the train graph's node becomes this."""

    def spoil(wire: Any) -> None:
        argument = wire.program.train.nodes[0].arguments[0]
        argument.Clear()
        for field, value in kind.items():
            setattr(argument, field, value)

    return spoil


ENCODINGS = (
    _bytes("nothing", "an empty message", lambda: b"", "is missing"),
    _bytes("only zeros", "a parser", lambda: bytes(1000), "malformed"),
    _bytes("a number of eleven bytes", "a parser", lambda: b"\x28" + b"\xff" * 11, "malformed"),
    _bytes("a length of 2^63", "memory", lambda: b"\x0a" + b"\xff" * 8 + b"\x7f" + b"x", "malformed"),
    _bytes("a length beyond the end", "memory", lambda: b"\x0a\xff\xff\xff\xff\x07x", "malformed"),
    _bytes("text that is no text", "a terminal", lambda: b"\x0a\x02\xc3\x28" + _honest(), "malformed"),
    _bytes("ten thousand groups in groups", "the stack", lambda: _nested(10_000), "malformed"),
    _bytes("fifty thousand groups that do not end", "the stack", lambda: b"\x43\x3e" * 50_000, "malformed"),
    _bytes(
        "more than half a megabyte",
        "memory",
        lambda: _honest() + encoder.TagBytes(UNKNOWN, LENGTH) + b"\x80\x80\x80\x01" + bytes(2**21),
        "too-big",
    ),
    _bytes("exactly too much", "memory", lambda: bytes(MAX_MANIFEST_BYTES + 1), "too-big"),
    _bytes("a pickle", "running code", lambda: pickle.dumps([1, 2, 3]), "malformed|missing"),
    _bytes("a zip file", "unpacking without end", lambda: b"PK\x03\x04" + bytes(60), "malformed|missing"),
    _bytes("a zlib bomb", "unpacking without end", lambda: zlib.compress(bytes(2**24)), "malformed|missing"),
    _bytes("a zstd frame", "unpacking without end", lambda: ZSTD_MAGIC + b"\xa4" + bytes(60), "malformed|missing"),
    Attack(name="cut at every byte", target="a parser", attempt=_cut_anywhere, reason="beginnings refused"),
    _spoilt(
        "an operator that nobody knows",
        "running something else",
        lambda wire: setattr(wire.program.train.nodes[0], "operator", 9999),
        "unknown-operator",
    ),
    _spoilt(
        "an operator that is not named",
        "running something else",
        lambda wire: wire.program.train.nodes[0].ClearField("operator"),
        "unknown-operator",
    ),
    _spoilt(
        "a dtype that nobody knows",
        "a wrong dtype",
        lambda wire: setattr(wire.program.inputs[0], "dtype", 77),
        "unknown dtype 77",
    ),
    _spoilt("no program", "a missing part", lambda wire: wire.ClearField("program"), "program is missing"),
    _spoilt("no eval graph", "a missing part", lambda wire: wire.program.ClearField("eval"), "a graph is missing"),
    _spoilt("an argument of no kind", "a missing part", _argument(), "an argument is missing"),
    _spoilt("an argument that is not a number", "NaN in the model", _argument(real=float("nan")), "is nan"),
    _spoilt(
        "an item of no kind",
        "a missing part",
        lambda wire: wire.program.train.nodes[0].arguments[0].list.items.add(),
        "item of a list is missing",
    ),
    _spoilt(
        "four thousand tensors too many",
        "the checker's time",
        lambda wire: [wire.program.buffers.add(name=f"b{i}", shape=[1]) for i in range(5000)],
        "5000|5001 buffers; at most",
    ),
)

NAMES = (
    *(
        _spoilt(f"a tensor called {name!r}", "files that are named after tensors", _program_named(name), "is called")
        for name in (
            *("../x", "/etc/passwd", "..", ".", "a/../b", "a..b", ".hidden", "trailing.", "C:\\x", "~"),
            *("CON", "nul", "com1", "", " ", "a b", "a\x00b", "a\nb", "a\x1b[31m", "x" * 201),
            *("w\u0435ight", "weight\u200b", "\u202eweight", "ｗeight"),  # look-alikes, and what cannot be seen
        )
    ),
    _spoilt("two parameters of one name", "the weights' file", _program_named("layer.bias"), "the same name"),
    _spoilt(
        "a parameter with a buffer's name", "the weights' file", _program_named("norm.running_mean"), "the same name"
    ),
    _spoilt(
        "an input that is a path",
        "files that are named after tensors",
        lambda wire: setattr(wire.program.inputs[0], "name", "../x"),
        "is called",
    ),
    _set("a task of two lines", "a log", "name", "good\nINFO approved", "one line"),
    _set("a task without a name", "a table", "name", "", "not be empty|not empty"),
    _set("a task that writes backwards", "a reader", "name", f"good {BIDI}dab", "control characters"),
    _set("a task with a letter that has no width", "a reader", "name", f"go{ZERO_WIDTH}od", "control characters"),
    _set("a task that colours the terminal", "a terminal", "name", "\x1b[2Jgood", "control characters"),
    _set("a task with a long name", "a table", "name", "x" * 81, "more than 80"),
    _set("a description with a bell", "a terminal", "description", "ding\x07", "control characters"),
    _set("a description without end", "a terminal", "description", "x" * 4001, "more than 4000"),
    _set("a publisher that is a path", "files and topics", "publisher", "../../etc", "publisher is"),
    _set("a publisher that is a wildcard", "topics", "publisher", "+", "publisher is"),
    _set("a parent that is a path", "files", "parent", "../" * 21 + "x", "parent is not"),
    _set("a kind of data that is a path", "files", "data.kind", "../digits", "data.kind is"),
    _set("a loss that is a path", "running code", "training.loss", "../loss", "training.loss"),
    _set("a loss that is code", "running code", "training.loss", "os.system", "training.loss"),
    _set("a loss that is not there", "running code", "training.loss", "loss", "training.loss"),
    _set("a metric that is not there", "running code", "training.metric", "eval", "training.metric"),
    _set("an optimiser that is not there", "running code", "training.optimiser.name", "exec", "training.optimiser"),
    _set("a strategy that is not there", "running code", "merging.strategy", "__init__", "strategy"),
    _spoilt("a server that is a topic", "topics", lambda wire: wire.servers.append("a/#"), "a server is"),
    _spoilt("servers without end", "memory", lambda wire: wire.servers.extend(["a"] * 65), "65 servers; at most"),
    _spoilt(
        "classes of one name",
        "a table",
        lambda wire: wire.data.classes.extend(["cat", "cat", "dog"]),
        "data.classes",
    ),
)

NAN, INFINITE = float("nan"), float("inf")
NUMBERS = (
    _set(
        "a learning rate that is not a number",
        "NaN in the model",
        "training.optimiser.learning_rate",
        NAN,
        "rate is nan",
    ),
    _set(
        "a learning rate without end", "NaN in the model", "training.optimiser.learning_rate", INFINITE, "rate is inf"
    ),
    _set("a learning rate of 1e30", "NaN in the model", "training.optimiser.learning_rate", 1e30, "rate is 1e"),
    _set("a momentum above one", "NaN in the model", "training.optimiser.momentum", 2.0, "momentum is 2"),
    _set("a negative decay", "NaN in the model", "training.optimiser.weight_decay", -1.0, "cannot be negative"),
    _set("a batch of nothing", "division by zero", "training.batch_size", 0, "batch_size is 0"),
    _set("a batch of 2^32 - 1", "memory", "training.batch_size", 2**32 - 1, "batch_size is 4294967295"),
    _set("a round of 2^32 - 1 steps", "time", "training.steps_per_round", 2**32 - 1, "steps_per_round is"),
    _set("rounds without a pause", "time", "training.round_interval_s", 0.0, "round_interval_s is 0"),
    _set("a round that never comes", "time", "training.round_interval_s", INFINITE, "round_interval_s is inf"),
    _set("a thousand million sends a round", "the network", "merging.sends_per_round", 1e9, "sends_per_round is"),
    _set("a window that never closes", "memory", "merging.window_rounds", 2**31, "window_rounds is"),
    _set("a scale of nothing", "samples made alike", "data.scale", 0.0, "data.scale is 0"),
    _set("an offset that is not a number", "NaN in the model", "data.offset", NAN, "data.offset is nan"),
    _set("two thousand million classes", "memory", "data.num_classes", 2**31, "num_classes is"),
    _set("weights of 2^53 bytes", "memory", "initial_weights.num_bytes", 2**53, "num_bytes is"),
    _set("weights of one byte", "memory", "initial_weights.num_bytes", 1, "num_bytes is 1"),
    _set("a digest of one byte", "a collision", "initial_weights.digest", b"x", "digest .* has 1 bytes"),
    _set("version 0", "the order of versions", "version", 0, "version is 0"),
    _spoilt(
        "a task that expired before it was made",
        "the clock",
        lambda wire: wire.MergeFrom(type(wire)(created_at_ms=5, expires_at_ms=4)),
        "expires before",
    ),
    _set("a task that is made after 2^53", "the clock", "created_at_ms", 2**60, "created_at_ms is"),
    _spoilt(
        "features of 2^256 numbers",
        "memory",
        lambda wire: wire.data.features.shape.extend([2**32 - 1] * 7),
        "make them the same|numbers or fewer",
    ),
    _spoilt(
        "a constant of a strategy that is not a number",
        "NaN in the model",
        lambda wire: wire.merging.constants.add(name="p", value=NAN),
        "p is nan",
    ),
    _spoilt(
        "constants of a strategy without end",
        "memory",
        lambda wire: [wire.merging.constants.add(name=f"c{i:03}", value=1.0) for i in range(100)],
        "at most 32",
    ),
)

MANIFESTS = (*ENCODINGS, *NAMES, *NUMBERS)
