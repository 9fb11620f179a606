"""What is worth a line of the log now and then, and not each time."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

EVERY_S: Final = 60.0
_MOST: Final = 1_000


@dataclass
class Seldom:
    """Lets each thing that comes often be said once in `every_s`, the first time at once."""

    every_s: float = EVERY_S
    _said_s: OrderedDict[str, float] = field(default_factory=OrderedDict)

    def may_say(self, what: str, now_s: float) -> bool:
        """Whether it is time to say it; if so, it counts as said."""
        if what in self._said_s and now_s - self._said_s[what] < self.every_s:
            return False
        self._said_s[what] = now_s
        self._said_s.move_to_end(what)
        if len(self._said_s) > _MOST:
            self._said_s.popitem(last=False)
        return True
