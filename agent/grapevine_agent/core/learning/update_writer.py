"""What a member says of its model to another: the whole of it, or base and delta."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice

from grapevine_agent.core.learning.intake import base_digest
from grapevine_agent.core.learning.model_state import ModelState
from grapevine_proto.messages import ModelUpdate

MAX_CONTRIBUTIONS = 64  # named in an update


@dataclass(kw_only=True)
class UpdateWriter:
    """Writes the updates of one task, in the form that its manifest asks for.

    With `delta` a receiver gets the base of the open window and the change since, and the change
    alone once it has got that base.
    """

    task: str
    update_form: str
    _sent_bases: dict[str, bytes] = field(default_factory=dict)  # receiver → digest of the base it has

    def open_window(self) -> None:
        """A new window: whoever is sent to next gets its base first."""
        self._sent_bases.clear()

    def write(self, model: ModelState, receiver: str, server_version: int) -> ModelUpdate:
        """The update of `model` for `receiver`; `server_version` is of the server's model merged last."""
        full = base = delta = None
        digest = b""
        if self.update_form == "delta":
            base = model.base if model.base is not None else model.parameters
            delta = model.parameters - base
            digest = base_digest(base)
            if self._sent_bases.get(receiver) == digest:
                base = None
            else:
                self._sent_bases[receiver] = digest
        else:
            full = model.parameters
        newest = dict(islice(reversed(model.versions.items()), MAX_CONTRIBUTIONS))  # what changed last stands last
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
            contributions=newest,
        )
