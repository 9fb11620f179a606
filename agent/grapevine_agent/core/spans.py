"""How long verdicts and pauses may last: what options of commands need to know, without the core around it."""

from __future__ import annotations

from typing import Final

REVIEW_VALID_DAYS: Final = 7.0  # that a verdict holds where its reviewer says nothing
LEAST_DAYS, MOST_DAYS = 0.01, 366.0  # that a verdict may be signed for
LONGEST_PAUSE_S: Final = 366 * 86_400.0  # whoever wants more pauses until it is resumed
