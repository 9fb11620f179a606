"""How a task really stands: by the right time, and by everything that its publisher and its reviewers have said.

Nobody in a simulated world knows this. Devices judge by what has reached them, and by clocks that may be wrong;
this is what they are held against.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from grapevine_proto.messages import Review, TaskPublication

DAY_S = 86_400.0


@dataclass
class _Verdict:
    approved: bool
    until_s: float


@dataclass(kw_only=True)
class Standing:
    """One task's. Times are right seconds since the run began."""

    publisher: str
    name: str
    published_s: float
    parent: str = ""
    num_rounds: int = 0
    retracted: bool = False
    is_approved: bool = False
    since_s: float = 0.0  # it is approved, or not, since then
    lapses_s: float = 0.0  # whoever heard nothing since its last approval may believe in it until then
    verdicts: dict[str, _Verdict] = field(default_factory=dict)


@dataclass(kw_only=True)
class Standings:
    """Those of all tasks. `approvals` of `reviewers` are needed; one counts for `max_valid_s` at the most."""

    reviewers: frozenset[str]
    approvals: int
    max_valid_s: float
    tasks: dict[str, Standing] = field(default_factory=dict)

    def published(self, task: str, standing: Standing, now_s: float) -> None:
        """A task is there."""
        if task not in self.tasks:
            standing.since_s = now_s
            self.tasks[task] = standing

    def said(self, sender: str, task: str, body: TaskPublication | Review, created_at_ms: int, now_s: float) -> None:
        """Its publisher took it back, or a reviewer gave a verdict: how long it is good for counts, not its date."""
        standing = self.tasks.get(task)
        if standing is None:
            return
        self._refresh(standing, now_s)
        if isinstance(body, TaskPublication):
            standing.retracted |= body.retracted
        elif body.withdrawn:
            standing.verdicts.pop(sender, None)
        elif sender in self.reviewers and sender != standing.publisher:
            length_s = max(0.0, (body.valid_until_ms - created_at_ms) / 1000)
            until_s = now_s + (min(length_s, self.max_valid_s) if body.approved else length_s)
            standing.verdicts[sender] = _Verdict(body.approved, until_s)
        self._refresh(standing, now_s)

    def refresh(self, now_s: float) -> None:
        """Time passed: approvals may have run out."""
        for standing in self.tasks.values():
            self._refresh(standing, now_s)

    def _refresh(self, standing: Standing, now_s: float) -> None:
        valid = [each for each in standing.verdicts.values() if each.until_s >= now_s]
        approvals = sorted((each.until_s for each in valid if each.approved), reverse=True)
        rejected = any(not each.approved for each in valid)
        approved = not standing.retracted and not rejected and len(approvals) >= self.approvals
        if approved:
            standing.lapses_s = approvals[self.approvals - 1]
        if approved != standing.is_approved:
            standing.is_approved = approved
            ran_out = not approved and not rejected and not standing.retracted and standing.lapses_s < now_s
            standing.since_s = standing.lapses_s if ran_out else now_s

    def approved(self) -> dict[str, Standing]:
        """The tasks that are approved, but for those that an approved version continues."""
        found = {task: each for task, each in self.tasks.items() if each.is_approved}
        continued = {each.parent for each in found.values()}
        return {task: each for task, each in found.items() if task not in continued}
