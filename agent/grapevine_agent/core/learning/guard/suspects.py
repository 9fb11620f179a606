"""Senders whose newest model has failed one test, and whether they are so many that it is the test that fails.

What most senders do is not a lie of a few: the crowd has turned, or it is our own yardstick that is short.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field

from grapevine_agent.core.learning.guard.crowd import MOST


@dataclass
class Suspects:
    """See the module's docstring, of one test. The newest `MOST` are remembered."""

    _senders: OrderedDict[str, None] = field(default_factory=OrderedDict)

    def note(self, sender: str, *, failed: bool) -> None:
        """A sender's newest model was put to the test."""
        self._senders.pop(sender, None)
        if failed:
            self._senders[sender] = None
            if len(self._senders) > MOST:
                self._senders.popitem(last=False)

    def are_most(self, known: Iterable[str], *, least: int) -> bool:
        """Whether they are more than the others that are `known`, and `least` at least."""
        return len(self._senders) >= least and len(self._senders) > sum(peer not in self._senders for peer in known)
