"""What may be subscribed to."""

from __future__ import annotations


def check_filter(topic_filter: str, qos: int) -> None:
    """Raise ValueError for what is no topic filter (MQTT 3.1.1, section 4.7.1) or none of our QoS 0 and 1."""
    levels = topic_filter.split("/")
    is_wild = any("+" in level and level != "+" for level in levels) or any("#" in level for level in levels[:-1])
    if not topic_filter or is_wild or ("#" in levels[-1] and levels[-1] != "#") or qos not in (0, 1):
        msg = f"{topic_filter!r} with QoS {qos} is no subscription: + and # stand alone, # comes last, QoS is 0 or 1"
        raise ValueError(msg)
