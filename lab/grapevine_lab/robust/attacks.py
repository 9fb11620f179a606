"""The rows of the table: what the last nodes of a swarm do, and from when on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

NUM_NODES: Final = 20
NUM_HOSTILE: Final = 4
REFERENCES: Final = ("silent", "none")  # what every row is held against


@dataclass(frozen=True, kw_only=True)
class Attack:
    """One row. `kind` and `factor` are those of a scenario's `[[attack]]`; no kind: nobody is hostile."""

    name: str
    told: str  # what it is called in the table
    kind: str = ""
    factor: float | None = None  # None: the kind's own
    claims_age: bool = False
    num_hostile: int = NUM_HOSTILE
    from_share: float = 0.0  # of the run's rounds; they are honest until then

    def change(self, run_s: float) -> tuple[str, ...]:
        """What it changes in a scenario whose rounds take `run_s` virtual seconds together."""
        if not self.kind:
            return ()
        nodes = list(range(NUM_NODES - self.num_hostile, NUM_NODES))
        keys = [f'kind = "{self.kind}"', f"nodes = {nodes}", f"from_s = {self.from_share * run_s}"]
        keys += [f"factor = {self.factor}"] if self.factor is not None else []
        keys += ["claims_age = true"] if self.claims_age else []
        return (f"attack=[{{{', '.join(keys)}}}]",)


_ROWS: Final = (
    Attack(name="none", told="none"),
    Attack(name="silent", told="hostile ones silent", kind="silent"),
    Attack(name="sign-flip", told="sign flip", kind="sign-flip"),
    Attack(name="one-flips", told="1 of 20 flips", kind="sign-flip", num_hostile=1),
    Attack(name="sleepers", told="sign flip from the middle of the run on", kind="sign-flip", from_share=0.5),
    Attack(name="age-flip", told="age 2⁵³, sign flip", kind="sign-flip", claims_age=True),
    Attack(name="age-random", told="age 2⁵³, random model", kind="random", claims_age=True),
    Attack(name="random", told="random model", kind="random"),
    Attack(name="scale", told="model × 100", kind="scale"),
    Attack(name="noise", told="noise as large as the model", kind="noise"),
    Attack(name="nan", told="NaN", kind="nan"),
    Attack(name="replay", told="the same old model again and again, with a fresh age", kind="replay"),
    Attack(name="reversed", told="own change, reversed", kind="reversed"),
    Attack(name="reversed-10", told="own change, reversed, × 10", kind="reversed", factor=10.0),
    Attack(name="inner-product", told="inner-product manipulation", kind="inner-product"),
    Attack(name="inner-product-10", told="inner-product manipulation, × 10", kind="inner-product", factor=10.0),
    Attack(name="little", told="a little is enough, 1.5 σ", kind="little"),
    Attack(name="drift", told="slow drift in one direction", kind="drift"),
    Attack(name="drift-3", told="drift in one direction, × 3", kind="drift", factor=3.0),
    Attack(name="free-rider", told="free riders", kind="free-rider"),
    Attack(name="label-flip", told="label flip", kind="label-flip"),
    Attack(name="adaptive", told="adaptive: knows the defence", kind="adaptive"),
)
ATTACKS: Final = {row.name: row for row in _ROWS}
SHORT: Final = ("none", "silent", "sign-flip", "age-flip", "nan", "replay", "inner-product", "adaptive")
