"""The help of `grapevine merge` names every strategy, though it is made without loading one."""

from __future__ import annotations

from grapevine_agent.cli.merge_commands import STRATEGY_NAMES
from grapevine_agent.merge import STRATEGIES


def test_the_help_names_every_strategy() -> None:
    assert list(STRATEGY_NAMES) == list(STRATEGIES)
