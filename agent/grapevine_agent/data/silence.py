"""Why a source of live topics records nothing, in words for its owner: what is in the way, column by column.

    nothing on its topic since the agent started        ─▶ no message on …
    only what the broker had retained                   ─▶ only retained messages on …
    messages, and in none of them a reading             ─▶ no reading in 5 messages on …
    readings, the last of them too long ago             ─▶ the last reading is 3 hours old
    the sensor says that it has none                    ─▶ it says 'unavailable'
    it said so, and what came since is no reading       ─▶ the newest message … holds no reading

Of several series it is the one that lacks the fewest columns that is told of: where one room records, another that
cannot is no trouble of the source (among a house's topics there are always some of other devices).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from grapevine_agent.data.recorder import Column, Series, SourceRecording, Tally, is_held
from grapevine_agent.spoken import span


def why_silent(recording: SourceRecording, now_s: float, *, up_s: float) -> list[str]:
    """What keeps a source from recording at `now_s`, a line for each column; empty while it records.

    `up_s`: how long the agent has been recording, in seconds.
    """
    if any(not _missing(recording, series, now_s) for series in recording.series.values()):
        return []
    nearest = min(recording.series.values(), key=lambda series: len(_missing(recording, series, now_s)), default=None)
    found = []
    for place, reader in enumerate(recording.readers):
        total = recording.tallies[place]
        column = nearest.columns[place] if nearest is not None else None
        why = ""
        if not total.num_read:
            why = _never_read(recording.filters[place], total, up_s)
        elif column is not None and not is_held(column, recording.plan, now_s):
            why = _not_held(column, recording, nearest, now_s)
        if why:
            found.append(f"{reader.name}: {why}")
    return found


def _missing(recording: SourceRecording, series: Series, now_s: float) -> Sequence[Column]:
    return [column for column in series.columns if not is_held(column, recording.plan, now_s)]


def _never_read(topic_filter: str, total: Tally, up_s: float) -> str:
    if total.num:
        where = total.topic or topic_filter
        if total.is_gone:
            return f"the sensor says {total.why} on {where}"
        return f"no reading in {_messages(total.num)} on {where} ({total.why})"
    if total.num_early:
        return f"{_messages(total.num_early)} on {topic_filter} before this device's clock was set"
    if total.num_retained:
        return f"only retained messages on {topic_filter}, which nobody knows the age of: it waits for the next reading"
    return f"no message on {topic_filter} since the agent started, {span(up_s)} ago"


def _not_held(column: Column, recording: SourceRecording, series: Series | None, now_s: float) -> str:
    heard = column.heard
    if heard.is_gone:
        return f"the sensor says {heard.why} on {heard.topic}"
    if heard.num_read and math.isfinite(column.at_s):
        return f"the last reading is {span(now_s - column.at_s)} old, and hold_s is {recording.plan.hold_s}"
    if heard.num_read:  # then it had none, and what came since is none either
        return f"the newest message on {heard.topic} holds no reading ({heard.why})"
    if heard.num:
        return f"no reading in {_messages(heard.num)} on {heard.topic} ({heard.why})"
    name = next((name for name, each in recording.series.items() if each is series), "")
    return f"no message of {name!r}, which has others" if name else "no message yet"


def _messages(num: int) -> str:
    return "1 message" if num == 1 else f"{num:,} messages"
