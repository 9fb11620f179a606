"""Whether a task's merge constants are ones that its strategy has."""

from __future__ import annotations

from collections.abc import Mapping

from grapevine_agent.merge import STRATEGIES
from grapevine_agent.merge.voices import Constant
from grapevine_tasks.field_errors import FieldTaskError
from grapevine_tasks.suggestions import did_you_mean


def check_constants(strategy_name: str, given: Mapping[str, float]) -> None:
    """Raise TaskError unless the strategy exists, has every given constant, and each value is in its range."""
    strategy = STRATEGIES.get(strategy_name)
    if strategy is None:
        said = f"there is no merge strategy {strategy_name!r}; {did_you_mean(strategy_name, STRATEGIES)}"
        raise FieldTaskError("merging.strategy", said)
    check_constants_of(strategy_name, strategy.constants, given)


def check_constants_of(
    strategy_name: str, known: Mapping[str, Constant], given: Mapping[str, float], field: str = "merging.constants"
) -> None:
    """Raise TaskError unless every given constant is `known` for this strategy, and in its range.

    `field` is where a task's file has them.
    """
    for name, value in given.items():
        constant = known.get(name)
        if constant is None:
            remedy = did_you_mean(name, known) if known else "it has none: leave it out"
            raise FieldTaskError(
                f"{field}.{name}", f"the strategy {strategy_name!r} has no constant {name!r}; {remedy}"
            )
        if not constant.low <= value <= constant.high:  # NaN is not in any range, either
            raise FieldTaskError(
                f"{field}.{name}",
                f"{name} = {value:g} is out of range for {strategy_name!r}: "
                f"write a number from {constant.low:g} to {constant.high:g} ({constant.meaning})",
            )
