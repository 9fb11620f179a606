"""The owner's consent to a task: a word on this very task, else the first rule that fits, else the default.

A task's next version is another task. A *yes* to the one before does not cover it: what was said yes
to was what the reviewers and the owner had seen. A *no* does, for whoever leaves a task does not
want it back under a new number. Rules with the answer `auto` join new versions as they join any task.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase

from grapevine_agent.core.settings import Consent, ConsentRule
from grapevine_proto.manifest import ManifestBrief


@dataclass(frozen=True, kw_only=True)
class Decision:
    """Whether the owner lets the task run, and who or what said so. `waiting`: nobody has said no either."""

    joins: bool
    by: str
    waiting: bool = False


def decide(
    task: ManifestBrief,
    *,
    word: bool | None,
    earlier: bool | None,
    default: Consent,
    rules: tuple[ConsentRule, ...] = (),
) -> Decision:
    """Decide by the owner's `word` on the task, the newest word on an `earlier` version, rules, and the default."""
    if word is not None:
        return Decision(joins=word, by="the owner has joined it" if word else "the owner has left it")
    if earlier is False:
        return Decision(joins=False, by="the owner has left an earlier version: grapevine join takes this one")
    rule = next((each for each in rules if _fits(each, task)), None)
    answer, by = (rule.answer, f"by the consent rule {_shown(rule)}") if rule else (default, f"consent = {default!r}")
    if answer == "auto":
        return Decision(joins=True, by=by)
    if answer == "never":
        return Decision(joins=False, by=f"the owner joins no such tasks ({by})" if rule else _never())
    text = "waits for the owner's consent: grapevine join"
    if earlier:
        text += " (joined was an earlier version, and a yes covers no later one)"
    return Decision(joins=False, by=text, waiting=True)


def _never() -> str:
    return "the owner joins no tasks (consent = 'never')"


def _fits(rule: ConsentRule, task: ManifestBrief) -> bool:
    return (
        rule.kind in ("", task.kind)
        and rule.publisher in ("", task.publisher)
        and (not rule.name or fnmatchcase(task.name, rule.name))
    )


def _shown(rule: ConsentRule) -> str:
    parts = {"kind": rule.kind, "name": rule.name, "publisher": rule.publisher}
    return ", ".join(f"{key} = {value!r}" for key, value in parts.items() if value) + f" → {rule.answer!r}"
