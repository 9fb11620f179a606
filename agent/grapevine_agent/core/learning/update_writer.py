"""What a member says of its model to another: the whole of it, or base and delta."""

from __future__ import annotations

from dataclasses import dataclass, field

from grapevine_agent.core.learning.intake import base_digest
from grapevine_agent.core.learning.model_state import ModelState
from grapevine_agent.core.learning.sources import Sources
from grapevine_agent.merge.apart import apart
from grapevine_proto.messages import ModelUpdate, Vector

MAX_CONTRIBUTIONS = 64  # named in an update


@dataclass(kw_only=True)
class UpdateWriter:
    """Writes the updates of one task, in the form that its manifest asks for.

    With `delta` a receiver gets the base of the open window and the change since, and the change
    alone once it has said that it holds that base: see `receipts`.
    """

    task: str
    update_form: str
    sources: Sources
    _last: tuple[Vector, bytes] | None = None  # the base that was sent last, and its digest
    _offered: dict[str, bytes] = field(default_factory=dict)  # receiver → digest of the base that it was sent last
    _held: dict[str, tuple[bytes, int]] = field(default_factory=dict)  # receiver → of the base it has, in its session

    def open_window(self) -> None:
        """A new window: whoever is sent to next gets its base first."""
        self._offered.clear()
        self._held.clear()

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
        full = base = delta = None
        digest = b""
        if self.update_form == "delta":
            base = model.base if model.base is not None else model.parameters
            with apart():
                delta = model.parameters - base
            digest = self._digest_of(base)
            if self._held.get(receiver) == (digest, session):
                base = None
            else:
                self._offered[receiver] = digest
        else:
            full = model.parameters
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
            buffers=model.buffers,
            contributions=self.sources.told(MAX_CONTRIBUTIONS),
        )

    def _digest_of(self, base: Vector) -> bytes:
        """A window has one base, which goes to many: it is hashed once."""
        if self._last is None or self._last[0] is not base:
            self._last = (base, base_digest(base))
        return self._last[1]
