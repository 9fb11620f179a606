"""What a member says of its model to another: the whole of it, or base and delta; as it lies, or encoded.

Whoever counts from a base must count from the one that its receiver holds. So a base that travels encoded is decoded
here too, at once, and the change, and the digest, are of what came of it:

    b̂ = decode(encode(base))      Δ = θ − b̂      its receiver has b̂ + decode(encode(Δ))

What a lossy encoding leaves out of a whole model the next one has again, since it replaces the one before. So it is
with a change that a model is rebuilt of: the next base has it. A change that is *summed* is counted once, and what was
left out of it would be lost. It stays here as the *residual*, and is added to the change of the next window (error
feedback: Seide et al. 2014; Karimireddy et al. 2019, algorithm 2). Within a window a change is the total since the
base and replaces the one before: the residual is added to each of them, and renewed by the last.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from grapevine_agent.core.learning.encodings import Encodings, written
from grapevine_agent.core.learning.intake import base_digest
from grapevine_agent.core.learning.model_state import ModelState
from grapevine_agent.core.learning.sources import Sources
from grapevine_agent.merge.apart import apart
from grapevine_proto.encoding import PLAIN, Encoding
from grapevine_proto.encodings import STEPS, decode
from grapevine_proto.messages import Encoded, ModelUpdate, Vector, Written

MAX_CONTRIBUTIONS = 64  # named in an update


@dataclass(frozen=True)
class _Base:
    """A base of the model's, how it travels, and what its receivers make of that, by which it is named."""

    of: Vector
    sent: Written
    decoded: Vector
    digest: bytes


@dataclass(frozen=True)
class _Change:
    """The change of a model since a base, as it travels, and what was left out of it."""

    model: Vector
    base: Vector
    sent: Written
    left_out: Vector | None


@dataclass(kw_only=True)
class UpdateWriter:
    """Writes the updates of one task, in the form that its manifest asks for.

    With `delta` a receiver gets the base of the open window and the change since, and the change
    alone once it has said that it holds that base: see `receipts`. One model goes to many: what was encoded of it is
    kept until there is another one.
    """

    task: str
    update_form: str
    sources: Sources
    encodings: Encodings = field(default_factory=Encodings)
    sums_deltas: bool = False  # whether what is left out of a change would be lost
    _last: _Base | None = None  # the base that was sent last
    _change: _Change | None = None  # that was sent last, if it was encoded
    _whole: dict[str, tuple[Vector, Written]] = field(default_factory=dict)  # what else was encoded last
    _residual: Vector | None = None  # what the windows before this one have left out
    _not_encoded: set[str] = field(default_factory=set)  # what could not be, or became no smaller, the last time
    _offered: dict[str, bytes] = field(default_factory=dict)  # receiver → digest of the base that it was sent last
    _held: dict[str, tuple[bytes, int]] = field(default_factory=dict)  # receiver → of the base it has, in its session

    @property
    def encoding(self) -> str:
        """What models, or their changes, are written in, as far as their numbers let it."""
        sends_changes = self.update_form == "delta"
        wanted = self.encodings.change if sends_changes else self.encodings.whole
        parts = {"base", "change"} if sends_changes else {"full"}
        return PLAIN.name if parts & self._not_encoded else wanted.name

    def open_window(self) -> None:
        """A new window: whoever is sent to next gets its base first."""
        self._offered.clear()
        self._held.clear()
        if self._change is not None and self.sums_deltas:
            self._residual = self._change.left_out
        self._change = None

    def hear_receipt(self, receiver: str, base_digest: bytes, session: int) -> None:
        """A receiver says which base it holds, in this session of it; none if the digest is empty."""
        if base_digest and self._offered.get(receiver) == base_digest:
            self._held[receiver] = (base_digest, session)
        else:
            self._held.pop(receiver, None)

    def write(self, model: ModelState, receiver: str, *, session: int, server_version: int) -> ModelUpdate:
        """The update of `model` for `receiver`, whose session this is.

        `server_version` is of the receiver's own model that was merged last, if it is a server; else 0.
        """
        full: Written | None = None
        base: Written | None = None
        delta: Written | None = None
        digest = b""
        if self.update_form == "delta":
            if model.base is None:  # no window of it has ended: what was left out is of a model that was left
                self._residual = None
            start = self._base_of(model.base if model.base is not None else model.parameters)
            delta, base, digest = self._change_since(start, model.parameters), start.sent, start.digest
            if self._held.get(receiver) == (digest, session):
                base = None
            else:
                self._offered[receiver] = digest
        else:
            full = self._written("full", model.parameters, self.encodings.whole)
        return ModelUpdate(
            task=self.task,
            window=model.window,
            version=model.version,
            age=model.age,
            experience=model.experience,
            samples=model.samples,
            full=full,
            base=base,
            delta=delta,
            base_digest=digest,
            server_version=server_version,
            buffers=self._written("buffers", model.buffers, self.encodings.buffers),
            contributions=self.sources.told(MAX_CONTRIBUTIONS),
        )

    def _base_of(self, base: Vector) -> _Base:
        """A window has one base, which goes to many: it is encoded and hashed once."""
        if self._last is None or self._last.of is not base:
            sent = self._encode("base", base, self.encodings.base, steps=self.encodings.base_steps)
            decoded = _decoded(sent, base.size)
            self._last = _Base(base, sent, decoded, base_digest(decoded))
        return self._last

    def _change_since(self, start: _Base, model: Vector) -> Written:
        held, residual = self._change, self._residual
        if held is not None and held.model is model and held.base is start.of:
            return held.sent
        with apart():
            change = model - start.decoded
            if residual is not None:
                change += residual
        sent = self._encode("change", change, self.encodings.change)
        left_out = None
        if isinstance(sent, Encoded) and self.sums_deltas:
            decoded = _decoded(sent, change.size)
            with apart():
                left_out = np.subtract(change, decoded, out=change)
        if isinstance(sent, Encoded) or residual is not None:
            self._change = _Change(model, start.of, sent, left_out)
        return sent

    def _written(self, what: str, vector: Vector, encoding: Encoding) -> Written:
        held = self._whole.get(what)
        if held is not None and held[0] is vector:
            return held[1]
        sent = self._encode(what, vector, encoding)
        if isinstance(sent, Encoded):
            self._whole[what] = (vector, sent)
        return sent

    def _encode(self, what: str, vector: Vector, encoding: Encoding, *, steps: int = STEPS) -> Written:
        sent = written(vector, encoding, steps=steps)
        if encoding.is_plain or isinstance(sent, Encoded):
            self._not_encoded.discard(what)
        else:
            self._not_encoded.add(what)
        return sent


def _decoded(sent: Written, size: int) -> Vector:
    """What a receiver makes of it."""
    if not isinstance(sent, Encoded):
        return sent
    with apart():
        return decode(sent.content, size, sent.encoding)
