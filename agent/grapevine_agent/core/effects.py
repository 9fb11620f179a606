"""What the core asks its shell to do. All are frozen facts; doing them is the shell's business."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from grapevine_agent.core.events import Event
from grapevine_proto.application import Container
from grapevine_proto.codec import Received
from grapevine_proto.manifest import TaskManifest
from grapevine_proto.messages import Body, ChunkRefusal, ChunkRequest, Metrics, ReleasedModel, Vector, Which
from grapevine_proto.topics import InboxTopic, LastingTopic, Topic


@dataclass(frozen=True, kw_only=True)
class Publish:
    """Sign `body` and publish it. Retained ones are records: kept, and published again after a reconnect."""

    topic: Topic
    body: Body
    qos: Literal[0, 1] = 1
    retain: bool = False
    expires_at_ms: int = 0
    receiver_session: int = 0
    by: int | None = None  # this broker, whatever the receiver's route is


@dataclass(frozen=True, kw_only=True)
class Relay:
    """Publish somebody else's record again at a broker, as the exact bytes that its author signed."""

    received: Received
    broker: int = 0


@dataclass(frozen=True, kw_only=True)
class Forward:
    """Say again at a broker what a peer has said at another one, as the bytes that it signed: see `overlay/gateway`."""

    broker: int
    topic: Topic
    payload: bytes
    hops: int
    retain: bool


@dataclass(frozen=True, kw_only=True)
class SubscribeAt:
    """Subscribe at one broker to what is said to, or by, a peer that is made known there."""

    broker: int
    filter: str
    qos: Literal[0, 1] = 1


@dataclass(frozen=True, kw_only=True)
class UnsubscribeAt:
    """The end of a `SubscribeAt`."""

    broker: int
    filter: str


@dataclass(frozen=True, kw_only=True)
class TakeRecord:
    """Take a record that a peer has carried here as if it had arrived on its own topic, retained."""

    topic: LastingTopic
    envelope: bytes


@dataclass(frozen=True, kw_only=True)
class Subscribe:
    """Subscribe to a filter (below the root).

    `records`: brokers may retain thousands for it. A shell that speaks to a real one subscribes to these after all
    others, one after the other, and at QoS 0: see decision 56. `share`: what comes for the filter is shared with all
    who subscribe under this name, at brokers that can do that, and at others nothing is subscribed to.
    """

    filter: str
    qos: Literal[0, 1] = 1
    records: bool = False
    share: str = ""


@dataclass(frozen=True, kw_only=True)
class Unsubscribe:
    """Take a subscription back."""

    filter: str
    share: str = ""


@dataclass(frozen=True, kw_only=True)
class FallAsleep:
    """End every connection, once the state that was published before this is out. Records and messages may wait."""


@dataclass(frozen=True, kw_only=True)
class WakeUp:
    """The end of a `FallAsleep`: connect again."""


@dataclass(frozen=True, kw_only=True)
class SaveRecord:
    """Keep a record, as received, across restarts."""

    received: Received


@dataclass(frozen=True, kw_only=True)
class ForgetRecord:
    """Drop a kept record; `remembered` is the sequence that stays of its topic, None: none does."""

    received: Received
    remembered: int | None = None


@dataclass(frozen=True, kw_only=True)
class ForgetSequence:
    """Drop the sequence that was kept of a record that is gone."""

    topic: Topic


@dataclass(frozen=True, kw_only=True)
class LoadTask:
    """Look for a saved model and for the initial weights of a task, and tell `AgentCore.loaded`."""

    task: str
    weights_digest: str
    donors: tuple[str, ...] = ()  # earlier versions of the task, nearest first: a saved model of one may be the start


@dataclass(frozen=True, kw_only=True)
class SaveBlob:
    """Keep content-addressed bytes."""

    digest: str
    content: bytes


@dataclass(frozen=True, kw_only=True)
class SendBlob:
    """Look for a blob, and if it is there send it on `topic`, behind whatever is not a blob or a released model.

    Where there is no room for it, `AgentCore.blobs.not_given` is to be told.
    """

    topic: InboxTopic
    task: str
    digest: str
    num_bytes: int
    receiver_session: int


@dataclass(frozen=True, kw_only=True)
class Fetch:
    """Get the bulk of a message that was let in, and tell `AgentCore.fetched`."""

    received: Received


@dataclass(frozen=True, kw_only=True)
class GiveChunks:
    """Send what is asked for of a bulk on `topic`, or say there that it is not held."""

    topic: InboxTopic
    request: ChunkRequest
    receiver_session: int


@dataclass(frozen=True, kw_only=True)
class Refused:
    """A peer does not give what we fetch of it."""

    sender: str
    refusal: ChunkRefusal


@dataclass(frozen=True, kw_only=True)
class StartTrainer:
    """Bring up a trainer for a task that was joined."""

    task: str
    manifest: TaskManifest


@dataclass(frozen=True, kw_only=True)
class StopTrainer:
    """The trainer of a task ends: the task is over for this agent, or is paused. `StartTrainer` brings it up again."""

    task: str


@dataclass(frozen=True, kw_only=True)
class DropUnsent:
    """The task is over for this agent: what waits to be sent of it is not sent any more. Records are."""

    task: str


@dataclass(frozen=True, kw_only=True)
class Train:
    """Take `num_steps` local steps from a snapshot, then tell `AgentCore.trained`."""

    task: str
    parameters: Vector
    buffers: Vector
    num_steps: int
    age: int = 0  # optimiser steps that the schedule is at, which makes the learning rate of them


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Evaluate a model on this device's test samples, then tell `AgentCore.evaluated`.

    `which`: the released one of this round, or once more the best one so far, where its member stood then goes with
    it; or, as "shadow", the one that a sender has sent.
    """

    task: str
    round: int
    parameters: Vector
    buffers: Vector
    which: Which | Literal["shadow"] = "latest"
    age: int = 0
    steps: int = 0
    version: int = 0
    sender: str = ""


@dataclass(frozen=True, kw_only=True)
class SaveModel:
    """Keep a task's model: named float32 vectors, and counters beside them."""

    task: str
    vectors: Mapping[str, Vector]
    counters: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class SaveBest:
    """Keep a task's best model beside its newest one: vectors and counters as there, and figures."""

    task: str
    vectors: Mapping[str, Vector]
    counters: Mapping[str, int]
    figures: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class SaveConsent:
    """Keep the owner's word on a task."""

    task: str
    joined: bool


@dataclass(frozen=True, kw_only=True)
class SaveGovernor:
    """Keep what the owner paused, and what was used today, as the governor wrote it (JSON)."""

    state: str


@dataclass(frozen=True, kw_only=True)
class SaveMetrics:
    """Keep a line of a task's history."""

    metrics: Metrics


@dataclass(frozen=True, kw_only=True)
class RunContainer:
    """Run a component of an application, and tell `AgentCore.component_told` when it does, and when it does no more.

    `key` names the component for as long as it runs: author, application and component.
    """

    key: str
    application: str  # its id
    container: Container


@dataclass(frozen=True, kw_only=True)
class EndContainer:
    """The end of a `RunContainer`: stop it and remove it."""

    key: str


@dataclass(frozen=True, kw_only=True)
class Delivered:
    """Somebody said what a command of the owner waits for: a model that was asked for, or watched metrics."""

    sender: str
    body: Metrics | ReleasedModel


Effect: TypeAlias = (
    Publish
    | Relay
    | TakeRecord
    | Forward
    | SubscribeAt
    | UnsubscribeAt
    | Subscribe
    | Unsubscribe
    | FallAsleep
    | WakeUp
    | SaveRecord
    | ForgetRecord
    | ForgetSequence
    | LoadTask
    | SaveBlob
    | SendBlob
    | Fetch
    | GiveChunks
    | Refused
    | StartTrainer
    | StopTrainer
    | DropUnsent
    | Train
    | Evaluate
    | SaveModel
    | SaveBest
    | SaveConsent
    | SaveGovernor
    | SaveMetrics
    | RunContainer
    | EndContainer
    | Event  # what happened: there is nothing to be done but to tell it
    | Delivered
)


# --- what the shell tells back --------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Trained:
    """The answer to `Train`. `error` says why there is none: the model is untouched then.

    What it took counts in any case: seconds are 0 only where nothing was begun.
    """

    task: str
    parameters: Vector | None = None
    buffers: Vector | None = None
    num_steps: int = 0
    num_samples: int = 0  # processed in these steps
    dataset_size: int = 0
    loss: float = 0.0
    seconds: float = 0.0
    joules: float | None = None  # as a meter shows, of the whole device; None: there is none
    error: str = ""


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """The answer to `Evaluate`."""

    task: str
    round: int
    loss: float | None = None  # None, as the metric: there are no test samples
    metric: float | None = None
    num_evaluated: int = 0
    error: str = ""
    of: Evaluate | None = None  # what was asked
    baseline: float | None = None  # what a model without any learning comes to on the same samples
    baseline_name: str = ""
    metric_in_units: float | None = None  # in the units of the owner's data, where that is another number


@dataclass(frozen=True, kw_only=True)
class SavedModel:
    """What `SaveModel` kept, or `SaveBest` with its figures. `best` is what lies beside a task's newest model."""

    vectors: Mapping[str, Vector]
    counters: Mapping[str, int]
    figures: Mapping[str, float] = field(default_factory=dict)
    best: SavedModel | None = None
