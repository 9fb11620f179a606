"""Records that had no room here and matter now: a broker sends what it retains to whoever subscribes again."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from grapevine_agent.core import effects as fx
from grapevine_agent.core.effects import Effect

MOST_WANTED: Final = 64


@dataclass
class Wanted:
    """What is asked for, by its filter below the root; where that is too much, what was asked for first is given up."""

    _filters: OrderedDict[str, None] = field(default_factory=OrderedDict)

    def want(self, below: str) -> list[Effect]:
        """What stands there matters: ask for it, unless that was done."""
        if below in self._filters:
            return []
        self._filters[below] = None
        effects: list[Effect] = [fx.Subscribe(filter=below)]
        if len(self._filters) > MOST_WANTED:
            oldest, _ = self._filters.popitem(last=False)
            effects.append(fx.Unsubscribe(filter=oldest))
        return effects

    def arrived(self, below: str) -> list[Effect]:
        """What stands there is held now."""
        if below not in self._filters:
            return []
        del self._filters[below]
        return [fx.Unsubscribe(filter=below)]
