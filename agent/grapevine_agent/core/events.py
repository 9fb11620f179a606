"""What happens, as typed facts: log lines, `status`, metrics, the event stream and dashboards are all made of these.

An event is an effect that asks for nothing. It costs its fields: the line for people (`text`) and the JSON for programs
(`to_json`) are made by whoever shows it. Names and reasons may be a peer's words, so the line is made printable.

    level   debug: comes often, or concerns nobody but who looks   info: the story   warning: the owner may have to act
    often   what it is about, where it comes again and again at a level above debug: the log has it once a minute
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, TypeAlias

from grapevine_agent.printable import printable

if TYPE_CHECKING:
    from grapevine_proto.errors import WireError
    from grapevine_proto.messages import Figure

Level: TypeAlias = Literal["debug", "info", "warning"]
Sighting: TypeAlias = Literal["alive", "suspect", "silent", "asleep", "offline", "gone"]
Arrival: TypeAlias = Literal["update", "server-model", "released-model", "weights"]
Does: TypeAlias = Literal["pause", "slow", "send"]  # training paused or slowed; no models are sent

WAITS_IN_VAIN: Final = (
    "waits for its initial weights, which nobody has given for minutes: until they come others may use its room"
)
_BEGINS: Final[Mapping[Does, str]] = {
    "pause": "training is paused",
    "slow": "training is slowed down to a quarter of its time",
    "send": "no more models are sent today",
}
_ENDS: Final[Mapping[Does, str]] = {
    "pause": "training goes on",
    "slow": "training goes on at its own pace",
    "send": "models are sent again",
}
_STILL: Final[Mapping[Does, str]] = {
    "pause": "training is still paused",
    "slow": "training is still slowed down",
    "send": "",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """See the module's docstring. `kind`: the class's name as it is written in JSON."""

    kind: ClassVar[str] = ""
    _level: ClassVar[Level] = "debug"

    def __init_subclass__(cls) -> None:
        cls.kind = re.sub(r"(?<!^)(?=[A-Z])", "-", cls.__name__).lower()
        KINDS[cls.kind] = cls  # twice a class: one with slots is made anew of what it was

    @property
    def text(self) -> str:
        """One line for people."""
        return printable(self._text())

    @property
    def level(self) -> Level:
        """How much it matters to the owner."""
        return self._level

    @property
    def often(self) -> str:
        """What it is about, if it comes again and again."""
        return ""

    def _text(self) -> str:
        raise NotImplementedError


KINDS: Final[dict[str, type[Event]]] = {}  # every kind, by its word


@dataclass(frozen=True, kw_only=True, slots=True)
class OfTask(Event):
    """What happens in a task: its id, and what people call it."""

    task: str
    label: str


del KINDS[OfTask.kind]  # nothing happens that is no more than that


# --- the life of a task -------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Judged(OfTask):
    """What this agent makes of a task that it follows has changed, by the owner's policy."""

    standing: str
    why: str
    publisher: str

    def _text(self) -> str:
        return f"{self.label}: {self.standing}: {self.why}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Reviewed(OfTask):
    """A verdict on a known task came. `counts`: its author is a reviewer that the owner trusts."""

    reviewer: str
    approved: bool
    withdrawn: bool
    reason: str
    counts: bool

    def _text(self) -> str:
        verdict = "takes its verdict back" if self.withdrawn else "approves" if self.approved else "rejects"
        weight = "" if self.counts else ", which counts for nothing here"
        return f"{self.label}: {self.reviewer} {verdict}{weight}{f': {self.reason}' if self.reason else ''}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Joining(OfTask):
    """A task is joined, as soon as there are weights to begin with."""

    _level: ClassVar[Level] = "info"

    why: str

    def _text(self) -> str:
        return f"{self.label}: joining ({self.why})"


@dataclass(frozen=True, kw_only=True, slots=True)
class Joined(OfTask):
    """Learning, or serving, has begun, with a model that is "saved", "initial", "earlier-version", or a peer's."""

    _level: ClassVar[Level] = "info"

    role: Literal["member", "server"]
    begins_with: str  # one of these words, or the peer's id
    age: int  # of that model, in optimiser steps

    def _text(self) -> str:
        if self.role == "server":
            return f"{self.label}: serving"
        match self.begins_with:
            case "saved":
                return f"{self.label}: going on with its saved model, {self.age} steps old"
            case "initial":
                return f"{self.label}: beginning with its initial weights"
            case "earlier-version":
                return f"{self.label}: beginning with the model of an earlier version, {self.age} steps old"
        return f"{self.label}: beginning with the model of {self.begins_with}, {self.age} steps old"


@dataclass(frozen=True, kw_only=True, slots=True)
class Stopped(OfTask):
    """This agent takes part in a task no more."""

    _level: ClassVar[Level] = "warning"

    why: str

    def _text(self) -> str:
        return f"{self.label}: stopped: {self.why}"


@dataclass(frozen=True, kw_only=True, slots=True)
class WaitsInVain(OfTask):
    """Nobody gives the weights of a task that was joined."""

    _level: ClassVar[Level] = "info"

    def _text(self) -> str:
        return f"{self.label}: {WAITS_IN_VAIN}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Failed(OfTask):
    """Work of a task failed, `num` times in a row. `is_set_back`: too often, and it waits."""

    _level: ClassVar[Level] = "warning"

    what: str  # training or evaluation
    error: str
    num: int
    is_set_back: bool

    def _text(self) -> str:
        return f"{self.label}: {failure_words(self.what, self.error, self.num if self.is_set_back else 1)}"


def failure_words(what: str, error: str, num: int) -> str:
    """What failed, and how often in a row."""
    return f"{what} failed{f' {num} times in a row' if num > 1 else ''}: {error}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Enough(OfTask):
    """Most members have not improved for `patience` rounds, or improve again: whether it is enough of training."""

    _level: ClassVar[Level] = "info"

    is_enough: bool
    patience: int

    def _text(self) -> str:
        enough = f"most members have not improved for {self.patience} rounds: it merges, and trains no more"
        return f"{self.label}: {enough if self.is_enough else 'it improves, and trains again'}"


# --- learning ---------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Trained(OfTask):
    """Local steps were done, and added to the model. `joules`: of these steps, None where nobody knows."""

    round: int
    version: int
    age: int
    num_steps: int
    num_samples: int
    loss: float
    seconds: float
    joules: float | None

    def _text(self) -> str:
        return f"{self.label}: round {self.round}, {self.num_steps} steps in {self.seconds:.2f} s, loss {self.loss:.3f}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured(OfTask):
    """A released model was evaluated on this device's own held-out samples: a round's story."""

    _level: ClassVar[Level] = "info"

    round: int
    age: int
    metric_name: str
    metric: float | None
    loss: float | None
    num_evaluated: int
    baseline: float | None
    baseline_name: str
    best: Figure | None
    staleness: float | None  # in versions, mean over the members whose version is known
    staleness_bound: float | None
    server: str  # the best that can be said of any server of the task
    num_peers: int
    energy_j: float | None  # of training, since the task was joined
    round_energy_j: float | None

    def _text(self) -> str:
        figures = (
            f"{self.metric_name} {self.metric:.3f}, loss {self.loss:.3f}"
            if self.metric is not None and self.loss is not None
            else f"no samples to measure its {self.metric_name} on"
        )
        return f"{self.label}: round {self.round}, {figures}, {self.num_peers} peers, server {self.server}"

    @property
    def often(self) -> str:
        """What it is about."""
        return f"rounds of {self.task}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Merged(OfTask):
    """Models of others were taken into this one. `shares`: each peer's part of the result."""

    round: int
    shares: Mapping[str, float]
    num_models: int
    by: Literal["arrival", "round"]

    def _text(self) -> str:
        when = "on arrival" if self.by == "arrival" else "what the round has gathered"
        return f"{self.label}: round {self.round}, merged {_counted(self.num_models, 'model')}, {when}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Sent(OfTask):
    """A model, or weights, are on their way to a peer; an empty one is whichever server of a group takes it."""

    receiver: str
    what: Literal["update", "released-model", "weights"]
    num_bytes: int  # about

    def _text(self) -> str:
        return f"{self.label}: {self.what} to {self.receiver or 'one of its servers'}, about {self.num_bytes:,} bytes"


@dataclass(frozen=True, kw_only=True, slots=True)
class Received(OfTask):
    """A model of a peer, or weights, came and were taken. `version` and `age` as it claims; None: it claims none."""

    sender: str
    what: Arrival
    num_bytes: int  # about
    version: int | None = None
    age: int | None = None

    def _text(self) -> str:
        claims = f", version {self.version}, age {self.age}" if self.version is not None else ""
        return f"{self.label}: {self.what} of {self.sender}{claims}, about {self.num_bytes:,} bytes"


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerChanged(OfTask):
    """What is thought of a server of a task is another state than before."""

    _level: ClassVar[Level] = "info"

    server: str
    state: str
    before: str

    def _text(self) -> str:
        goes_on = "" if self.state == "reachable" else "; gossip goes on among the members"
        return f"{self.label}: server {self.server} is {self.state} (was {self.before}){goes_on}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Served(OfTask):
    """This server has published what it made of its members' updates."""

    model_version: int
    num_members: int
    age: int
    num_clusters: int

    def _text(self) -> str:
        clusters = f", {self.num_clusters} clusters" if self.num_clusters > 1 else ""
        return f"{self.label}: model {self.model_version} from {self.num_members} members, age {self.age}{clusters}"


@dataclass(frozen=True, kw_only=True, slots=True)
class RolledBack(OfTask):
    """The released model had become much worse by this device's own samples: the best one is in its place."""

    _level: ClassVar[Level] = "warning"

    round: int
    to_round: int
    age: int
    lost_age: int
    metric_name: str
    metric: float

    @property
    def often(self) -> str:
        """The task."""
        return self.task

    def _text(self) -> str:
        return (
            f"{self.label}: round {self.round}, the model has become much worse; back to the best one, of round "
            f"{self.to_round} ({self.metric_name} {self.metric:.3f}, age {self.age} instead of {self.lost_age})"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Quarantined(OfTask):
    """Updates of this peer were refused again and again: none of its is listened to for so many rounds."""

    _level: ClassVar[Level] = "warning"

    sender: str
    rounds: int
    why: str

    @property
    def often(self) -> str:
        """The peer: who goes on like this is quarantined again."""
        return f"{self.task} {self.sender}"

    def _text(self) -> str:
        return f"{self.label}: updates of {self.sender} are not listened to for {self.rounds} rounds: {self.why}"


# --- others -----------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Rejected(Event):
    """Something that arrived was dropped. In a flood one stands for `num` of the same reason."""

    sender: str  # as its topic says; empty: nobody knows
    reason: str
    detail: str
    num: int = 1

    def _text(self) -> str:
        more = f" (and {self.num - 1:,} more)" if self.num > 1 else ""
        return f"dropped: {self.reason}{f': {self.detail}' if self.detail else ''}{more}"


def rejection(error: WireError, sender: str) -> Rejected:
    """What there is to tell of an error that ended a message."""
    return Rejected(sender=sender, reason=error.reason, detail=str(error).removeprefix(error.reason).removeprefix(": "))


@dataclass(frozen=True, kw_only=True, slots=True)
class PeerChanged(Event):
    """A peer that was met has come, is late, is thought to be gone, sleeps, or left."""

    other: str
    name: str
    state: Sighting

    def _text(self) -> str:
        return f"{f'{self.name} ({self.other})' if self.name else self.other} is {self.state}"


@dataclass(frozen=True, kw_only=True, slots=True)
class BrokerChanged(Event):
    """A broker took us in, or let us go. `why`: with which MQTT, or what happened; empty: we left."""

    broker: int  # its number in `status`
    url: str
    is_connected: bool
    why: str

    def _text(self) -> str:
        if self.is_connected:
            return f"connected to {self.url}, {self.why}"
        if not self.why:
            return f"left {self.url}"
        return f"lost {self.url}: {self.why}; learning goes on, and so do attempts to connect"

    @property
    def level(self) -> Level:
        """How much it matters to the owner."""
        return "info" if self.is_connected else "warning" if self.why else "debug"


# --- this device ------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Paused(Event):
    """A limit holds from now on, for a task or (`task` empty) for all: "pause" is the owner's word."""

    _level: ClassVar[Level] = "info"

    task: str
    limit: str
    does: Does
    why: str
    until_ms: int  # 0: nobody knows
    until: str = ""  # the same on this device's clock

    def _text(self) -> str:
        return f"{_BEGINS[self.does]}: {self.why}{f', until {self.until}' if self.until else ''} [{self.limit}]"


@dataclass(frozen=True, kw_only=True, slots=True)
class Resumed(Event):
    """A limit holds no more. `still`: another one that does the same, and holds; empty: none."""

    _level: ClassVar[Level] = "info"

    task: str
    limit: str
    does: Does
    why: str
    still: str = ""

    def _text(self) -> str:
        return f"{f'{_STILL[self.does]} ({self.still})' if self.still else _ENDS[self.does]}: {self.why}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Unmeasured(Event):
    """A limit of the owner's that nothing on this device can be held against."""

    _level: ClassVar[Level] = "info"

    limit: str
    why: str

    def _text(self) -> str:
        return f"[governor] nothing can be held against {self.limit}: {self.why}"


@dataclass(frozen=True, kw_only=True, slots=True)
class ClockSet(Event):
    """The wall clock was set, forward or (below 0) back."""

    _level: ClassVar[Level] = "info"

    step_s: float

    def _text(self) -> str:
        seconds = f"{int(abs(self.step_s)):,} s"
        if self.step_s > 0:
            return f"the clock was set forward by {seconds}"
        return f"the clock was set back by {seconds}: what seemed to have run out is asked for again"


@dataclass(frozen=True, kw_only=True, slots=True)
class FellAsleep(Event):
    """This device sleeps, by its plan."""

    _level: ClassVar[Level] = "info"

    for_s: float

    def _text(self) -> str:
        return f"asleep for {self.for_s:,.0f} s: the connection ends, and learning goes on"


@dataclass(frozen=True, kw_only=True, slots=True)
class WokeUp(Event):
    """This device is awake again."""

    _level: ClassVar[Level] = "info"

    def _text(self) -> str:
        return "awake: connecting again"


@dataclass(frozen=True, kw_only=True, slots=True)
class Placed(Event):
    """An application wants a component of it to run here."""

    _level: ClassVar[Level] = "info"

    component: str

    def _text(self) -> str:
        return f"application component {self.component} is placed here"


@dataclass(frozen=True, kw_only=True, slots=True)
class Displaced(Event):
    """A component that was placed here is not any more."""

    _level: ClassVar[Level] = "info"

    component: str

    def _text(self) -> str:
        return f"application component {self.component} is here no more"


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordDamaged(OfTask):
    """What was kept of a task on disk is not as its author signed it."""

    _level: ClassVar[Level] = "warning"

    def _text(self) -> str:
        return f"{self.label}: its record was damaged on disk, and is dropped"


@dataclass(frozen=True, kw_only=True, slots=True)
class Missed(Event):
    """A listener was too slow, and has not got so many events."""

    num: int

    def _text(self) -> str:
        return f"{_counted(self.num, 'event')} missed"


# --- for programs -----------------------------------------------------------------------------------


def to_json(event: Event, *, number: int, at_ms: int, peer: str) -> dict[str, Any]:
    """An event as `grapevine events --json` prints it. `peer`: who tells it; no number in it is infinite or NaN."""
    told = {each.name: _plain(getattr(event, each.name)) for each in dataclasses.fields(event)}
    return {
        "event": event.kind,
        "number": number,
        "at_ms": at_ms,
        "peer": peer,
        "level": event.level,
        "text": event.text,
        **told,
    }


def _plain(value: Any) -> Any:
    """What JSON can say: a number that is none becomes null."""
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {each.name: _plain(getattr(value, each.name)) for each in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(each) for each in value]
    return value


def _counted(num: int, what: str) -> str:
    return f"{num:,} {what}{'' if num == 1 else 's'}"
