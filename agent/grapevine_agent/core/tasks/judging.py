"""What the signed records of a task or an application amount to, by one owner's policy: pure, so it works offline.

    retracted ▶ expired ▶ publisher not wanted ▶ rejected ▶ no credible clock ▶ approvals missing ▶ approved
                                   (the first that holds is the judgement)

A verdict counts if its reviewer is trusted and not the author, if it was not withdrawn, and
for as long as it says. An approval counts for no longer than `max_valid_days` after the date that it
was signed with, whatever it says: a broker that hides the rejection after it cannot keep it alive. A
rejection has no such limit, for letting it lapse would be letting the task in.

Time. All of this rests on the wall clock, which may be wrong:

- A clock before 2025 is a board without a battery that nobody has told the time. Until somebody does,
  nothing is approved: nobody could say which approvals still hold.
- An approval dated more than a day ahead of this clock does not count until then: one of the two
  clocks is wrong. So a clock that stood still for long stops tasks as soon as a fresh verdict arrives.
- A clock that is behind, and has nothing to show it, lets approvals live longer by as much.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from grapevine_agent.core.moment import DAY_MS
from grapevine_agent.core.settings import ReviewPolicy
from grapevine_agent.printable import date_of

Standing: TypeAlias = Literal["approved", "waiting", "rejected", "expired", "retracted", "unwanted"]

EARLIEST_MS = 1_735_689_600_000  # 2025-01-01: no clock that was ever set says less
CLOCK_SLACK_MS = DAY_MS  # clocks of honest peers differ by less than a day


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a reviewer signed of a task or an application, with the signed message's times (unix milliseconds)."""

    approved: bool
    made_at_ms: int
    valid_until_ms: int
    reason: str = ""
    withdrawn: bool = False


@dataclass(frozen=True, kw_only=True)
class Weighed:
    """A verdict as this policy takes it. `ignored` says why it does not count; empty: it does, until `until_ms`."""

    reviewer: str
    verdict: Verdict
    roles: tuple[str, ...]
    until_ms: int
    ignored: str = ""
    changes_at_ms: int = 0  # when time alone changes whether it counts; 0: never
    is_of_another_time: bool = False  # it would count at another time


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What an agent makes of a task or an application, and why, in words for its owner."""

    standing: Standing
    why: str
    approvals: int = 0
    changes_at_ms: int = 0  # when time alone may change it, unix milliseconds; 0: never


def weigh(verdicts: Mapping[str, Verdict], publisher: str, policy: ReviewPolicy, wall_ms: int) -> list[Weighed]:
    """Every verdict (by reviewer) as this policy takes it now, in the order of the reviewers' ids."""
    return [_weigh_one(reviewer, verdicts[reviewer], publisher, policy, wall_ms) for reviewer in sorted(verdicts)]


def judge(
    publisher: str,
    verdicts: Mapping[str, Verdict],
    policy: ReviewPolicy,
    wall_ms: int,
    *,
    expires_at_ms: int = 0,
    until_ms: int = 0,
    retraction: str | None = None,
) -> Judgement:
    """Whether a task of this publisher, or an application, is approved.

    `expires_at_ms` is when it ends by its manifest, `until_ms` when the record of it runs out, whatever that says (0:
    never); `retraction` the publisher's reason for taking it back, if it did. Verdicts of whom the policy does not
    trust change nothing.
    """
    if retraction is not None:
        reason = f": {retraction}" if retraction else ""
        return Judgement(standing="retracted", why=f"retracted by its publisher{reason}")
    ends_at_ms = min((each for each in (expires_at_ms, until_ms) if each), default=0)
    if 0 < ends_at_ms < wall_ms:
        return Judgement(standing="expired", why=f"expired on {date_of(ends_at_ms)}")
    if not_wanted := _not_wanted(publisher, policy):
        return Judgement(standing="unwanted", why=not_wanted)
    weighed = weigh(verdicts, publisher, policy, wall_ms)
    counted = [each for each in weighed if not each.ignored]
    approvals = [each for each in counted if each.verdict.approved]
    changes = [each.changes_at_ms for each in weighed if each.changes_at_ms]
    if ends_at_ms:
        changes.append(ends_at_ms + 1)

    def found(standing: Standing, why: str) -> Judgement:
        return Judgement(standing=standing, why=why, approvals=len(approvals), changes_at_ms=min(changes, default=0))

    if rejected := _rejected([each for each in counted if not each.verdict.approved], policy):
        return found("rejected", rejected)
    if wall_ms < EARLIEST_MS:
        changes.append(EARLIEST_MS)
        return found(
            "waiting",
            f"this device's clock says {date_of(wall_ms)}, so nobody can say which approvals still hold: "
            "set the clock (or let NTP do it)",
        )
    if missing := _missing(approvals, publisher, policy):
        return found("waiting", "; ".join([missing, *_approved_in_vain(weighed)]))
    return found("approved", f"approved by {', '.join(each.reviewer for each in approvals) or 'policy'}")


def _weigh_one(reviewer: str, verdict: Verdict, publisher: str, policy: ReviewPolicy, wall_ms: int) -> Weighed:
    until_ms, ignored, changes_at_ms = verdict.valid_until_ms, "", 0
    is_of_another_time = False
    if verdict.approved:
        until_ms = min(until_ms, verdict.made_at_ms + int(policy.max_valid_days * DAY_MS))
    if verdict.withdrawn:
        ignored = "withdrawn"
    elif reviewer == publisher:
        ignored = "the author's own"
    elif reviewer not in policy.reviewers:
        ignored = "not a reviewer whom you trust"
    elif until_ms < wall_ms:
        is_of_another_time = True
        capped = until_ms < verdict.valid_until_ms
        ignored = f"ran out on {date_of(until_ms)}" + (
            f" (max_valid_days = {policy.max_valid_days:g})" if capped else ""
        )
    elif verdict.approved and verdict.made_at_ms > wall_ms + CLOCK_SLACK_MS:
        is_of_another_time = True
        days = (verdict.made_at_ms - wall_ms) / DAY_MS
        ignored = f"dated {days:.1f} days ahead of this device's clock: one of the two clocks is wrong"
        changes_at_ms = verdict.made_at_ms - CLOCK_SLACK_MS
    else:
        changes_at_ms = until_ms + 1
    return Weighed(
        reviewer=reviewer,
        verdict=verdict,
        roles=policy.roles_of(reviewer),
        until_ms=until_ms,
        ignored=ignored,
        changes_at_ms=changes_at_ms,
        is_of_another_time=is_of_another_time,
    )


def _not_wanted(publisher: str, policy: ReviewPolicy) -> str:
    if publisher in policy.deny_publishers:
        return f"publisher {publisher} is among the publishers that the configuration denies"
    if policy.publishers and publisher not in policy.publishers:
        return f"publisher {publisher} is not among the publishers that the configuration allows"
    return ""


def _rejected(rejections: list[Weighed], policy: ReviewPolicy) -> str:
    """Why these trusted rejections stop the task; empty if they do not."""
    for each in rejections:
        if _may_veto(each, policy):
            return f"rejected by {each.reviewer}: {each.verdict.reason or 'no reason given'}"
    if policy.veto != "trusted" and len(rejections) >= policy.rejections:
        reasons = "; ".join(each.verdict.reason or "no reason given" for each in rejections)
        return f"rejected by {', '.join(each.reviewer for each in rejections)}: {reasons}"
    return ""


def _may_veto(rejection: Weighed, policy: ReviewPolicy) -> bool:
    if policy.veto == "roles":
        return any(not policy.veto_roles or role in policy.veto_roles for role in rejection.roles)
    return policy.veto == "trusted"


def _missing(approvals: list[Weighed], publisher: str, policy: ReviewPolicy) -> str:
    """Which approvals the task waits for; empty if it has them."""
    needed = policy.approvals_of.get(publisher, policy.approvals)
    parts: list[str] = []
    if len(approvals) < needed:
        part = f"{len(approvals)} of {needed} approvals by trusted reviewers"
        if (able := len(policy.reviewers - {publisher})) < needed:
            others = " beside its author" if publisher in policy.reviewers else ""
            part += f" (only {able} reviewers are trusted{others}: grapevine trust add names more)"
        parts.append(part)
    if policy.approvals_of.get(publisher) != 0:
        parts += _missing_roles(approvals, publisher, policy)
    return ", ".join(parts)


def _approved_in_vain(weighed: list[Weighed]) -> Iterable[str]:
    """Approvals by trusted reviewers that do not count for their time: a clock may be wrong, here or there."""
    for each in weighed:
        if each.verdict.approved and each.is_of_another_time:
            yield f"approved by {each.reviewer}, {each.ignored}"


def _missing_roles(approvals: list[Weighed], publisher: str, policy: ReviewPolicy) -> Iterable[str]:
    for role, needed in policy.need.items():
        given = sum(role in each.roles for each in approvals)
        if given < needed:
            able = len(policy.roles.get(role, frozenset()) - {publisher})
            few = f" (only {able} reviewers have the role: see [review.roles])" if able < needed else ""
            yield f"{given} of {needed} approvals by reviewers with the role {role}{few}"
