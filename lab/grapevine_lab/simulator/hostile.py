"""Hostile members: the table `[[attack]]` of a scenario, and what such a node says in place of what its core would.

A hostile node runs the same core as everybody, hears what everybody hears, and trains; only the updates that it sends
are others. Those of several nodes collude: what one needs to know of the honest members' models, it knows, as does an
attacker who listens to the broker. It is not measured.

| kind | what its updates hold | after |
|---|---|---|
| `silent` | nothing is sent: what any other attack is held against | |
| `sign-flip` | −θ | |
| `scale` | factor · θ | |
| `random` | numbers at random, as long as θ | |
| `noise` | θ + factor · rms(θ) · N(0, 1) | |
| `nan` | NaN | |
| `replay` | its first model, again and again | |
| `reversed` | base − factor · (θ − base): it unlearns what it has learned | |
| `inner-product` | the honest members' mean less factor · its last movement | Xie, Koyejo, Gupta 2020 |
| `little` | their mean less factor · their standard deviation, in each coordinate | Baruch, Baruch, Goldberg 2019 |
| `drift` | their mean, and in one direction factor times as far from it as they are in the mean | |
| `free-rider` | the model as it was merged, without a change of its own | |
| `adaptive` | their median, less factor · their median distance from it, along their last movement | all the same |
| `label-flip` | θ, honestly trained on labels that are c − 1 − y | |

`claims_age`: the update says that it is as old as a number can say.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, TypeAlias, cast, get_args

import numpy as np

from grapevine_agent.config.toml_reader import Table
from grapevine_agent.core.learning.intake import base_digest
from grapevine_agent.core.learning.learning import Learning
from grapevine_proto.errors import ConfigError
from grapevine_proto.messages import ModelUpdate, Vector

AttackKind: TypeAlias = Literal[
    "silent",
    "sign-flip",
    "scale",
    "random",
    "noise",
    "nan",
    "replay",
    "reversed",
    "inner-product",
    "little",
    "drift",
    "free-rider",
    "adaptive",
    "label-flip",
]
ATTACK_KINDS: Final[tuple[AttackKind, ...]] = get_args(AttackKind)
OLDEST: Final = 2**53 - 1
_FACTORS: Final = {
    "scale": 100.0,
    "noise": 1.0,
    "reversed": 1.0,
    "inner-product": 1.0,
    "little": 1.5,
    "drift": 1.0,
    "adaptive": 2.4,
}  # as a scenario has them that says nothing


@dataclass(frozen=True, kw_only=True)
class AttackPlan:
    """One entry of `[[attack]]`: which nodes do what, from when on."""

    kind: AttackKind
    nodes: tuple[int, ...]
    factor: float = 0.0
    from_s: float = 0.0
    claims_age: bool = False


def read_attacks(tables: Sequence[Table], num_nodes: int) -> tuple[AttackPlan, ...]:
    """Read `[[attack]]`. Raises ConfigError naming key, value and remedy."""
    plans = tuple(_read_attack(table, num_nodes) for table in tables)
    nodes = [node for plan in plans for node in plan.nodes]
    twice = next((node for node in nodes if nodes.count(node) > 1), None)
    if twice is not None:
        raise ConfigError(f"attack.nodes: node {twice} has two attacks; leave it to one")
    if plans and len(nodes) == num_nodes:
        raise ConfigError("attack.nodes: nobody is left who is honest; name fewer")
    return plans


def _read_attack(table: Table, num_nodes: int) -> AttackPlan:
    kind = cast(AttackKind, table.text("kind", choices=ATTACK_KINDS, hint='"sign-flip"'))
    nodes: Any = table.anything("nodes")
    is_list = isinstance(nodes, list) and all(isinstance(node, int) and 0 <= node < num_nodes for node in nodes)
    if not is_list or not nodes:
        raise table.error("nodes", f"must be a list of nodes' numbers below {num_nodes}; write nodes = [0, 1]")
    plan = AttackPlan(
        kind=kind,
        nodes=tuple(dict.fromkeys(nodes)),
        factor=table.number("factor", _FACTORS[kind], low=0.0, high=1e6) if kind in _FACTORS else 0.0,
        from_s=table.number("from_s", 0.0, low=0.0, high=1e12),
        claims_age=table.boolean("claims_age", False),
    )
    table.finish()
    return plan


@dataclass(kw_only=True)
class Collusion:
    """What the nodes of one attack have agreed on: they all send the same model, a new one for each round of theirs."""

    _version: int = -1
    _model: Vector | None = None
    _mean_before: Vector | None = None

    def model(self, version: int, honest: Sequence[Vector], factor: float) -> Vector:
        """What is sent by whose own model has this version. `honest`: the honest members' models."""
        if self._model is None or version > self._version:
            self._version, self._model = version, self._just_so_far(honest, factor)
        return self._model

    def _just_so_far(self, honest: Sequence[Vector], factor: float) -> Vector:
        """Back where the honest members came from, and no further from their median than an honest one may be."""
        mean, middle = np.mean(honest, axis=0), np.median(honest, axis=0)
        before, self._mean_before = self._mean_before, mean
        movement = np.zeros_like(mean) if before is None else mean - before
        length = float(np.linalg.norm(movement))
        if not length:
            return np.asarray(middle, np.float32)
        radius = factor * float(np.median([np.linalg.norm(each - middle) for each in honest]))
        return np.asarray(middle - radius * movement / length, np.float32)


@dataclass(kw_only=True)
class Hostile:
    """One hostile node, and what it remembers."""

    plan: AttackPlan
    rng: np.random.Generator
    direction_seed: int  # the same for all who collude
    collusion: Collusion = field(default_factory=Collusion)  # likewise
    _first: Vector | None = None
    _mean_before: Vector | None = None
    _model: tuple[int, Vector] | None = None  # what it sends, by the version of its own model

    def says(self, update: ModelUpdate, own: Learning, honest: Sequence[Vector], now_s: float) -> ModelUpdate | None:
        """What it sends in place of an update of its own; None: nothing. `honest`: the honest members' models."""
        if now_s < self.plan.from_s:
            return update
        if self.plan.kind == "silent":
            return None
        if self.plan.claims_age:
            update = replace(update, age=OLDEST)
        if self.plan.kind == "label-flip":
            return update
        if self._model is None or self._model[0] != own.model.version:
            self._model = (own.model.version, self._poisoned(own, honest))
        return _holding(update, own, self._model[1])

    def _poisoned(self, own: Learning, honest: Sequence[Vector]) -> Vector:
        theta, factor = own.model.parameters, np.float32(self.plan.factor)
        base = own.model.base if own.model.base is not None else theta
        match self.plan.kind:
            case "sign-flip":
                return -theta
            case "scale":
                return factor * theta
            case "random":
                drawn = self.rng.standard_normal(theta.size).astype(np.float32)
                return drawn * np.float32(np.linalg.norm(theta) / np.linalg.norm(drawn))
            case "noise":
                drawn = self.rng.standard_normal(theta.size).astype(np.float32)
                return theta + factor * np.float32(np.sqrt(np.mean(np.square(theta)))) * drawn
            case "nan":
                return np.full_like(theta, np.nan)
            case "replay":
                self._first = theta if self._first is None else self._first
                return self._first
            case "reversed":
                return base - factor * (theta - base)
            case "free-rider":
                return base
            case "adaptive":
                return self.collusion.model(own.model.version, honest, self.plan.factor)
            case "inner-product":
                return self._against_the_movement(honest, factor)
            case "little":
                return np.asarray(np.mean(honest, axis=0) - factor * np.std(honest, axis=0), np.float32)
            case _:
                return self._drifted(honest, factor)

    def _against_the_movement(self, honest: Sequence[Vector], factor: np.float32) -> Vector:
        mean = np.mean(honest, axis=0)
        before, self._mean_before = self._mean_before, mean
        movement = np.zeros_like(mean) if before is None else mean - before
        return np.asarray(mean - (1 + factor) * movement, np.float32)

    def _drifted(self, honest: Sequence[Vector], factor: np.float32) -> Vector:
        mean = np.mean(honest, axis=0)
        apart = float(np.mean([np.linalg.norm(each - mean) for each in honest]))
        direction = np.random.default_rng(self.direction_seed).standard_normal(mean.size)
        return np.asarray(mean + factor * apart * direction / np.linalg.norm(direction), np.float32)


def _holding(update: ModelUpdate, own: Learning, model: Vector) -> ModelUpdate:
    """The update with another model in it, as whole numbers or as a change since its base."""
    model = np.ascontiguousarray(model, np.float32)
    if update.full is not None:
        return replace(update, full=model)
    base = own.model.base if own.model.base is not None else own.model.parameters
    return replace(update, base=base, delta=model - base, base_digest=base_digest(base))
