"""What a task plans: whether we have the strategies that it names, with such constants, and what is sent for them."""

from __future__ import annotations

from grapevine_agent.merge import STRATEGIES
from grapevine_agent.merge.constants import check_constants, check_constants_of
from grapevine_agent.merge.server import SERVER_STRATEGIES
from grapevine_proto.encoding import ENCODINGS
from grapevine_proto.manifest import MergePlan
from grapevine_tasks.field_errors import FieldTaskError
from grapevine_tasks.suggestions import did_you_mean


def check_merge_plan(plan: MergePlan) -> None:
    """Raise TaskError, with the nearest valid name or the valid range, unless every strategy and constant is known."""
    check_constants(plan.strategy, plan.constants)
    server = SERVER_STRATEGIES.get(plan.server_strategy)
    if server is None:
        nearest = did_you_mean(plan.server_strategy, SERVER_STRATEGIES)
        said = f"there is no server strategy {plan.server_strategy!r}; {nearest}"
        raise FieldTaskError("merging.server_strategy", said)
    check_constants_of(plan.server_strategy, server.constants, plan.server_constants, "merging.server_constants")
    partial = [name for name in plan.encodings if name in ENCODINGS and not ENCODINGS[name].is_whole]
    if partial and form_of_updates(plan) != "delta":
        raise FieldTaskError(
            "merging.encodings",
            f"merging.encodings has {partial[0]!r}, which leaves most of a model out, and members send whole models: "
            'leave it out, or write update_form = "delta"',
        )


def sums_changes(plan: MergePlan) -> bool:
    """Whether changes since a base are summed, by members or a server: what is left out of one is counted nowhere."""
    return STRATEGIES[plan.strategy].needs_base or SERVER_STRATEGIES[plan.server_strategy].needs_base


def form_of_updates(plan: MergePlan) -> str:
    """What members send: "full", or "delta", with the base that it is counted from."""
    return "delta" if sums_changes(plan) else plan.update_form
