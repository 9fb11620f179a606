"""Whether the reviewers that the owner trusts can give the approvals that are asked for: pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from grapevine_agent.doctor.findings import Finding
from grapevine_agent.doctor.situation import Situation


def trust(situation: Situation, heard_of: Mapping[str, bool]) -> list[Finding]:
    """`heard_of`: of the peers that the running agent knows, whether each is there; empty where none runs."""
    if situation.config is None or not situation.knows("review", "trust", "agent"):
        return [Finding(check="trust", level="skip", says="whom the owner trusts is not known")]
    review, trusted, agent = situation.config.review, situation.config.trust, situation.config.agent
    reviewers = sorted(set(review.trusted).union(*review.roles.values()))
    known = [each for each in reviewers if each in heard_of]
    facts: dict[str, Any] = {
        "reviewers": len(reviewers),
        "approvals": review.approvals,
        "publishers": len(trusted.publishers),
        "denied": len(trusted.deny_publishers),
        "servers": len(trusted.servers),
        "reviewers_heard_of": len(known) if heard_of else None,
        "reviewers_there": sum(heard_of[each] for each in known) if heard_of else None,
    }

    def finding(level: Any, says: str, remedy: str = "") -> list[Finding]:
        return [Finding(check="trust", level=level, says=says, remedy=remedy, facts=facts)]

    needs_none = any(number == 0 for number in trusted.approvals.values())
    if review.approvals == 0 and not review.need:
        if agent.consent == "auto" and not trusted.publishers:
            says = (
                "no approval is asked for, and tasks are joined without asking: whatever anybody publishes is trained"
            )
            return finding("warn", says, "write approvals = 2 into [review], or name publishers in [trust]")
        return finding("ok", f"no approval is asked for; {_who(reviewers)} may veto")
    if not reviewers and not needs_none:
        says = f"nobody is trusted to review, and {review.approvals} approvals are asked for: no task is approved here"
        return finding("warn", says, "name reviewers: grapevine trust add PEER (as their grapevine id shows)")
    short = [role for role, need in review.need.items() if len(review.roles.get(role, ())) < need]
    if len(reviewers) < review.approvals and not needs_none:
        says = f"{_who(reviewers)} can never give the {review.approvals} approvals that are asked for"
        return finding(
            "fail", says, f"grapevine trust add more of them, or write approvals = {len(reviewers)} into [review]"
        )
    if short:
        says = f"too few reviewers have the role {' and '.join(short)}: no task will be approved here"
        return finding("fail", says, f"grapevine trust add PEER --role {short[0]}, or ask for fewer in [review.need]")
    says = f"{_who(reviewers)}, of whom {review.approvals} have to approve"
    if heard_of:
        says += f"; {len(known)} of them known to this agent, {facts['reviewers_there']} there now"
    return finding("ok", says)


def _who(reviewers: list[str]) -> str:
    return f"{len(reviewers)} reviewer{'s'[: len(reviewers) != 1]}"
