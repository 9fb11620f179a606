"""What can happen in a simulated world. Facts, so that they can wait in a checkpoint."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from grapevine_agent.core.effects import Evaluate
from grapevine_lab.simulator.broker_sessions import Delivery


class Tick(NamedTuple):
    """A core's timer. `stamp` tells the newest one from those that it replaced."""

    node: int
    stamp: int


class Boot(NamedTuple):
    """A device is switched on."""

    node: int


class Off(NamedTuple):
    """A device is switched off, without a goodbye."""

    node: int


class Join(NamedTuple):
    """A connection comes up."""

    node: int


class Drop(NamedTuple):
    """A connection is lost."""

    node: int


class Doze(NamedTuple):
    """A device that said that it sleeps ends its connection."""

    node: int


class Sense(NamedTuple):
    """A device reads its sensors. `boot` tells the process that it is of."""

    node: int
    boot: int


class Drain(NamedTuple):
    """The way up is free again."""

    node: int
    connection: int
    attachment: int = 0


class Acknowledged(NamedTuple):
    """An acknowledgement has arrived that something waits for."""

    node: int
    connection: int
    attachment: int = 0


class Overdue(NamedTuple):
    """An acknowledgement should have arrived, and has not."""

    node: int
    connection: int
    attachment: int = 0


class Reconnect(NamedTuple):
    """The pause after a connection that a node itself has cut is over."""

    node: int
    connection: int
    attachment: int = 0


class Carry(NamedTuple):
    """Something is due in a device's transfers. `stamp` as of `Tick`."""

    node: int
    stamp: int


class Left(NamedTuple):
    """The last bit of a message has reached the broker."""

    node: int
    connection: int
    topic: str
    payload: bytes
    qos: int
    retain: bool
    attachment: int = 0


class Arrive(NamedTuple):
    """A message has reached a node."""

    node: int
    connection: int
    delivery: Delivery
    attachment: int = 0


class Lost(NamedTuple):
    """A device notices that one of its several brokers is away."""

    node: int
    connection: int
    attachment: int


class Crossed(NamedTuple):
    """A message has come over a bridge. `to_owner`: from the other broker to that whose bridge it is."""

    bridge: int
    connection: int
    to_owner: bool
    delivery: Delivery


class Rejoin(NamedTuple):
    """A bridge tries to connect again."""

    bridge: int


class Trained(NamedTuple):
    """A training step is over."""

    node: int
    ticket: int
    task: str
    num_steps: int
    took_s: float


class Evaluated(NamedTuple):
    """An evaluation is over."""

    node: int
    ticket: int
    asked: Evaluate


class Heal(NamedTuple):
    """A partition ends: what the bridges have kept goes on its way."""


class Begin(NamedTuple):
    """An entry of the timeline of faults happens; its number there."""

    number: int


class End(NamedTuple):
    """It is over."""

    number: int


class Retry(NamedTuple):
    """A device tries to connect again, now that the broker is back."""

    node: int


class Right(NamedTuple):
    """A device's wall clock is put right."""

    node: int


class Say(NamedTuple):
    """An owner says something; its number in the timeline of words."""

    number: int


class Census(NamedTuple):
    """Somebody who sees everything looks how it stands."""


Event: TypeAlias = (
    Tick
    | Boot
    | Off
    | Join
    | Drop
    | Doze
    | Sense
    | Drain
    | Acknowledged
    | Overdue
    | Reconnect
    | Carry
    | Left
    | Arrive
    | Lost
    | Crossed
    | Rejoin
    | Trained
    | Evaluated
    | Heal
    | Begin
    | End
    | Retry
    | Right
    | Say
    | Census
)
