"""What transfers have come to: how many, and how much of what was given had to be given again."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Self

from grapevine_agent.transfers.carrier import Carrier


@dataclass(frozen=True, kw_only=True)
class Tally:
    """Of one device, or of several together."""

    made: int = 0  # bulks that came whole
    resumed: int = 0  # of all, those that went on after a break
    given_up: int = 0  # that were begun, and did not come
    bytes_given: int = 0  # in chunks
    bytes_again: int = 0  # of these, what had left for the same peer before

    @classmethod
    def of(cls, carrier: Carrier) -> Self:
        """What one carrier has done so far."""
        fetching, giving = carrier.fetching, carrier.giving
        return cls(
            made=fetching.num_whole,
            resumed=fetching.num_resumed,
            given_up=fetching.num_given_up,
            bytes_given=giving.num_bytes,
            bytes_again=giving.num_bytes_again,
        )

    def __add__(self, other: Tally) -> Tally:
        """Both together."""
        return Tally(**{each.name: getattr(self, each.name) + getattr(other, each.name) for each in fields(self)})

    @property
    def share_again(self) -> float:
        """The share of the bytes that were given again; 0 where none were given."""
        return self.bytes_again / self.bytes_given if self.bytes_given else 0.0
