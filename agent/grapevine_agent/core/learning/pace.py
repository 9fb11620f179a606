"""How often a task has its member work: what its plan says, within what the owner lends.

A plan is a stranger's. Rounds of a hundredth of a second, or a thousand sends a round, would be the same as
any flood; slower rounds and fewer sends are what a slower device or a thinner line would have made of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from grapevine_agent.core.learning.encodings import Encodings
from grapevine_agent.core.settings import CoreSettings
from grapevine_proto.encoding import SIZES
from grapevine_proto.manifest import TaskManifest
from grapevine_tasks.layout import ModelLayout

ENVELOPE_BYTES: Final = 6_000  # of an update, beside its model
EXACT: Final = Encodings()


def vectors_bytes(layout: ModelLayout, update_form: str, encodings: Encodings = EXACT) -> float:
    """About what the vectors of an update take: base and change are two, and each is written in its own way."""
    a_parameter = encodings.delta_size if update_form == "delta" else SIZES[encodings.whole.name]
    return a_parameter * layout.num_parameters + SIZES[encodings.buffers.name] * layout.num_buffers


@dataclass(frozen=True, kw_only=True)
class Pace:
    """See the module's docstring."""

    round_interval_s: float
    most_sends_per_s: float  # of whole updates, on average
    update_bytes: float  # about, of one

    @classmethod
    def of(
        cls,
        manifest: TaskManifest,
        settings: CoreSettings,
        layout: ModelLayout,
        update_form: str,
        encodings: Encodings = EXACT,
    ) -> Pace:
        """The pace of a task here, whose updates have this form, and are written so."""
        update_bytes = vectors_bytes(layout, update_form, encodings) + ENVELOPE_BYTES
        return cls(
            round_interval_s=max(manifest.training.round_interval_s, settings.shortest_round_s),
            most_sends_per_s=settings.upload_bytes_per_s / update_bytes,
            update_bytes=update_bytes,
        )

    def few(self, peers: Sequence[str], rng: np.random.Generator) -> list[str]:
        """Those of `peers`, in their order, that may be sent to in one round: all, or some chosen at random."""
        most = max(1.0, self.most_sends_per_s * self.round_interval_s)
        if len(peers) <= most:
            return list(peers)
        chosen = rng.choice(len(peers), int(most), replace=False)
        return [peers[i] for i in sorted(chosen)]
