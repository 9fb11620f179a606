"""Senders that are not listened to for a while, since nothing that came of them was fit to be merged.

    heard ──`STRIKES` in a row refused──▶ quarantined ──so many rounds──▶ on probation ──one taken──▶ heard
                                               ▲                                │
                                               └──two more refused (twice as long)┘
                                                  80 rounds at most

While a sender is quarantined its updates are dropped before they are decoded, and it does not belong to the crowd. It
is this agent's own judgement: nobody is told, and nobody's word puts somebody here.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field, replace
from typing import Final

from grapevine_proto.errors import WireError

STRIKES: Final = 6
ON_PROBATION: Final = 4  # strikes that remain when a quarantine ends
FIRST_ROUNDS: Final = 10
MOST_ROUNDS: Final = 80
MOST_KNOWN: Final = 256  # senders of whom there is something to remember


@dataclass(frozen=True, kw_only=True)
class Record:
    """What is held against a sender."""

    strikes: int = 0  # updates refused since the last that was taken
    why: str = ""  # the last one, in words
    until_round: int = 0  # 0: it is not in quarantine
    times: int = 0  # that it came to that


@dataclass
class Quarantine:
    """See the module's docstring."""

    _records: OrderedDict[str, Record] = field(default_factory=OrderedDict)

    def check(self, sender: str, round_: int) -> None:
        """Raise `WireError("quarantined")` for a sender that is not listened to in this round."""
        record = self._records.get(sender)
        if record is None or not record.until_round:
            return
        if round_ < record.until_round:
            left = record.until_round - round_
            said = f"{sender} is not listened to for {left} more rounds: {record.why}"
            raise WireError("quarantined", said)
        self._records[sender] = replace(record, until_round=0, strikes=ON_PROBATION)

    def refused(self, sender: str, why: str, round_: int, *, num: int = 1) -> int:
        """An update was not fit to be merged, and counts for so many.

        Returns for how many rounds its sender is not listened to; 0: it is.
        """
        record = self._records.get(sender, Record())
        strikes = record.strikes + num
        rounds = min(MOST_ROUNDS, FIRST_ROUNDS * 2 ** min(record.times, 10)) if strikes >= STRIKES else 0
        self._records[sender] = replace(
            record,
            strikes=strikes,
            why=why,
            until_round=round_ + rounds if rounds else 0,
            times=record.times + 1 if rounds else record.times,
        )
        self._records.move_to_end(sender)
        if len(self._records) > MOST_KNOWN:
            self._records.popitem(last=False)
        return rounds

    def taken(self, sender: str) -> None:
        """An update was merged."""
        record = self._records.get(sender)
        if record is not None:
            if record.times:
                self._records[sender] = replace(record, strikes=0)
            else:
                del self._records[sender]

    def free(self, sender: str) -> None:
        """What was held against a sender was a mistake."""
        self._records.pop(sender, None)

    def held(self, round_: int) -> dict[str, tuple[int, str]]:
        """Who is not listened to: for how many more rounds, and why."""
        return {
            sender: (record.until_round - round_, record.why)
            for sender, record in self._records.items()
            if record.until_round > round_
        }
