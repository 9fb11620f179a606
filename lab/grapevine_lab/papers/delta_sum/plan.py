"""Which runs there are: every strategy, size, window and topology that the paper compares, in three sizes of work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Strategy: TypeAlias = Literal["average", "variance-corrected", "delta-sum", "delta-sum-bounded"]
Part: TypeAlias = Literal["figures", "constants", "window", "connectivity", "shape"]

STRATEGIES: tuple[Strategy, ...] = ("average", "variance-corrected", "delta-sum", "delta-sum-bounded")
PARTS: dict[Part, str] = {
    "figures": "figs. 2 and 3: three strategies and the bounded rule, at every size",
    "constants": "smaller and larger learning factors: (A, C) = (.05, .1) and (.35, .6)",
    "window": "windows as the authors' code has them, half as long",
    "connectivity": "a topology with more neighbours",
    "shape": "two sizes more, for the shape of the loss",
}
FACTORS = (0.15, 0.35)  # A and C, as evaluated in the paper


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much work a run is."""

    nodes: tuple[int, ...]
    num_samples: int  # of MNIST's training images, for all nodes together
    rounds: int  # that are trained
    merging_rounds: int  # after them
    window: int
    test_samples: int  # 0: all
    changes: tuple[str, ...] = ()  # to the scenario, beside those

    @property
    def ramp(self) -> float:
        """B: the paper's 1000 belongs to its 200 epochs, over which λ grows from A to A + 0.2."""
        return 5.0 * self.rounds

    @property
    def measured(self) -> tuple[int, ...]:
        """The rounds that are measured: closely at the start and after the training, and around each integration."""
        half = max(1, self.window // 2)
        last = self.rounds + self.merging_rounds
        early = [k for k in (0, 1, 2, 5) if k < half]
        late = range(self.rounds, last + 1, max(1, self.merging_rounds // 7))
        return tuple(sorted({*early, *range(half, self.rounds + 1, half), *late, last}))


SIZES = {
    # As the paper: hours of CPU for each run.
    "full": Size(
        nodes=(10, 25, 50),
        num_samples=60_000,
        rounds=200,
        merging_rounds=35,
        window=20,
        test_samples=0,
    ),
    # A quarter of the data and of the rounds.
    "medium": Size(
        nodes=(10, 25, 50),
        num_samples=15_000,
        rounds=60,
        merging_rounds=15,
        window=10,
        test_samples=2_000,
    ),
    # Half a minute, without a download: scikit-learn's digits and a small network.
    "quick": Size(
        nodes=(4, 24),
        num_samples=1_200,
        rounds=40,
        merging_rounds=16,
        window=8,
        test_samples=0,
        changes=(
            "task.name=digits",
            "data={ name = 'digits' }",
            "task.training.optimiser={ name = 'adam', learning_rate = 0.002 }",
            "task.training.batch_size=16",
            "nodes.workers=1",
        ),
    ),
}
DEGREES = {10: 3.2, 18: 3.2, 25: 3.2, 35: 3.6, 50: 4.2}  # mean degrees: the paper's, and between them our own
MORE_NEIGHBOURS = 6.0


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One run."""

    strategy: Strategy
    num_nodes: int
    size: Size
    factors: tuple[float, float] = FACTORS
    window: int = 0  # 0: the size's
    mean_degree: float = 0.0  # 0: the paper's
    seed: int = 0

    @property
    def name(self) -> str:
        """A name for its folder."""
        parts = [self.strategy, f"n{self.num_nodes}"]
        if self.factors != FACTORS:
            parts.append(f"A{self.factors[0]:g}-C{self.factors[1]:g}")
        if self.window:
            parts.append(f"window{self.window}")
        if self.mean_degree:
            parts.append(f"degree{self.mean_degree:g}")
        return "-".join([*parts, f"seed{self.seed}"])

    def changes(self) -> list[str]:
        """What differs from the scenario `delta-sum`, as `--set` takes it."""
        size, n = self.size, self.num_nodes
        degree = self.mean_degree or DEGREES.get(n, 3.2 if n > 5 else 2.0)
        a, c = self.factors
        if self.strategy.startswith("delta-sum"):
            bounded = int(self.strategy == "delta-sum-bounded")
            strategy, constants = "delta-sum", f"{{ A = {a}, B = {size.ramp:g}, C = {c}, bounded = {bounded} }}"
        else:
            strategy, constants = self.strategy, "{}"
        return [
            *size.changes,
            f"scenario.rounds={size.rounds + size.merging_rounds}",
            f"scenario.seed={self.seed}",
            f"task.training.num_rounds={size.rounds}",
            f"task.merging.strategy={strategy}",
            f"task.merging.constants={constants}",
            f"task.merging.window_rounds={self.window or size.window}",
            f"partition.samples_per_node={size.num_samples // n}",
            f"nodes.num={n}",
            f"topology.mean_degree={degree}",
            f"measure.rounds={list(size.measured)}",
            f"measure.test_samples={size.test_samples}",
        ]


def settings(part: Part, size: Size) -> list[Setting]:
    """The runs of a part."""
    smallest, largest = size.nodes[0], size.nodes[-1]
    match part:
        case "figures":
            return [Setting(strategy=s, num_nodes=n, size=size) for n in size.nodes for s in STRATEGIES]
        case "constants":
            factors = ((0.05, 0.1), (0.35, 0.6))
            ends = (smallest, largest)
            return [Setting(strategy="delta-sum", num_nodes=n, size=size, factors=f) for n in ends for f in factors]
        case "window":
            half = max(1, size.window // 2)
            return [
                Setting(strategy=s, num_nodes=n, size=size, window=half)
                for n in (smallest, largest)
                for s in ("average", "delta-sum")
            ]
        case "connectivity":
            return [
                Setting(strategy=s, num_nodes=largest, size=size, mean_degree=MORE_NEIGHBOURS)
                for s in ("average", "delta-sum")
            ]
        case "shape":
            return [Setting(strategy=s, num_nodes=n, size=size) for n in (18, 35) for s in ("average", "delta-sum")]
