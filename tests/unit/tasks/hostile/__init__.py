"""The hostile corpus: what a stranger may send in place of a task, and what must come of it: a refusal with a reason.

To add one, write an `Attack` into the file of what it attacks: its name, what it wants to break or use
up, the attempt, and the reason for which it must be refused.
"""

from collections.abc import Mapping

from tests.unit.tasks.hostile.attack import Attack
from tests.unit.tasks.hostile.graphs import GRAPHS
from tests.unit.tasks.hostile.manifests import MANIFESTS
from tests.unit.tasks.hostile.sources import SOURCES
from tests.unit.tasks.hostile.weights import WEIGHTS

_PARTS = {"graph": GRAPHS, "manifest": MANIFESTS, "weights": WEIGHTS, "samples": SOURCES}
CORPUS: Mapping[str, Attack] = {
    f"{part}: {attack.name}": attack for part, attacks in _PARTS.items() for attack in attacks
}
assert len(CORPUS) == sum(map(len, _PARTS.values())), "two attacks have the same name"
