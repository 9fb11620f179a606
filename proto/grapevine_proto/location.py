"""Where somebody is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Location:
    """Where somebody is, in hundredths of a degree: about a kilometre, and no closer."""

    latitude: int  # northwards, from -9000 to 9000
    longitude: int  # eastwards, from -18000 to 18000
