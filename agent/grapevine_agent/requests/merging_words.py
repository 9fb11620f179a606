"""What a task's choices of sending and merging mean for its members, a line for each: for engineers and reviewers."""

from __future__ import annotations

from grapevine_agent.core.learning.encodings import Encodings
from grapevine_agent.core.learning.gossip import EVERY_ROUND, SEND_RATE_POLICIES
from grapevine_agent.core.learning.pace import vectors_bytes
from grapevine_agent.core.learning.tokens import SAVES_FOR_NEWS
from grapevine_agent.merge.plan import form_of_updates
from grapevine_proto.encoding import ENCODINGS, PLAIN
from grapevine_proto.manifest import MergePlan, TaskManifest
from grapevine_tasks.layout import ModelLayout

SMALL, LARGE = 10, 100  # members that sends are counted for


def merging_lines(manifest: TaskManifest) -> dict[str, str]:
    """The choices of a task whose names and numbers are sound, in words."""
    plan = manifest.merging
    return {
        "sending": f"{_form(plan)}; {_rate(plan)}",
        "exchange": _exchange(plan),
        "encodings": _encodings(manifest),
        "stale": _stale(plan, manifest.training.steps_per_round),
    }


def _form(plan: MergePlan) -> str:
    if form_of_updates(plan) == "full":
        return "full models"
    return "a base, and the change since" + ("" if plan.update_form == "delta" else ", as the strategy sums changes")


def _rate(plan: MergePlan) -> str:
    if plan.send_rate not in SEND_RATE_POLICIES:
        return plan.send_rate
    policy = SEND_RATE_POLICIES[plan.send_rate]
    few, many = (f"{plan.sends_per_round * policy(num):.3g}" for num in (SMALL, LARGE))
    named = f"{plan.send_rate} × {plan.sends_per_round:g}"
    if plan.send_rate == EVERY_ROUND:
        return f"{EVERY_ROUND}: to every neighbour when a round is over, {SMALL - 1} sends among {SMALL} members"
    saved = "; what there is no news for is saved" if plan.send_rate == SAVES_FOR_NEWS else ""
    return f"{named}: {few} sends a round among {SMALL} members, {many} among {LARGE}{saved}"


def _exchange(plan: MergePlan) -> str:
    if plan.exchange == "push-pull":
        return "push-pull: whoever sends a model is sent one back, within the same number of sends"
    return "push: a model is sent, and none comes back for it"


def _encodings(manifest: TaskManifest) -> str:
    plan, layout = manifest.merging, ModelLayout.of(manifest.program)
    form = form_of_updates(plan)
    exact, smallest = (round(vectors_bytes(layout, form, each)) for each in (Encodings(), Encodings.of(plan)))
    names = ", ".join(name for name in plan.encodings if name in ENCODINGS)
    if exact == smallest:
        return f"{names}: {exact:,} bytes an update, exact"
    losses = [name for name in plan.encodings if name in ENCODINGS and not ENCODINGS[name].is_whole]
    left_out = f"; {losses[0]} leaves most of a change for later" if losses else ""
    return f"{names}: {smallest:,} bytes an update in the smallest, {exact:,} in {PLAIN.name}{left_out}"


def _stale(plan: MergePlan, steps_per_round: int) -> str:
    after = plan.stale_after
    if not after:
        unused = '; stale = "refuse" does nothing without stale_after' if plan.stale == "refuse" else ""
        return f"no update is, however far behind{unused}"
    behind = f"more than {after:,} steps ({after / max(1, steps_per_round):.3g} rounds) behind"
    if plan.stale == "refuse":
        return f"refuse: what is {behind} is dropped, and its sender hears the others until it has caught up"
    return f"discount: what is {behind} weighs less, 0.71 at {2 * after:,} steps, 0.5 at {4 * after:,}"
