"""What a check has found: one line for people, and the same for programs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

Level: TypeAlias = Literal["ok", "warn", "fail", "skip"]

FAILED: Final = 1  # the exit code with a "fail" among the findings; 0 without


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One line. `check` and `facts` keep their names from version to version; words may change.

    `ok`: as it should be. `warn`: it works, and could be better, or may not for long. `fail`: something does not work.
    `skip`: it could not be looked at, or is none of this device's affairs.
    """

    check: str
    level: Level
    says: str
    remedy: str = ""
    about: str = ""  # which of several, such as a broker's URL
    facts: Mapping[str, Any] = field(default_factory=dict)  # plain JSON values, with their units in their names

    def as_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "check": self.check,
            "about": self.about,
            "level": self.level,
            "says": self.says,
            "remedy": self.remedy,
            "facts": dict(self.facts),
        }


def exit_code(findings: Iterable[Finding]) -> int:
    """What the command ends with."""
    return FAILED if any(each.level == "fail" for each in findings) else 0
