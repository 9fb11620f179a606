"""From what a peer claims to what takes part in a merge.

What arrived encoded is decoded here, where it is known how many numbers the task's model has, and nowhere before: a few
bytes can stand for a whole model. How much is decoded for one sender in a second is bounded, and what is held of all
senders together (`places`).

Everything in an update is a claim. Shapes and finiteness are checked to the letter; counters are
believed within reason: an age above what the task's own pace allows since it was published, or far
above what the other members say, is capped. Caps are relative to the *other senders*, not to
oneself: what was believed becomes part of one's own age, so a cap relative to that would only slow a liar down.
"""

from __future__ import annotations

import hashlib
import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from statistics import median

from grapevine_agent.core.learning.order import Order
from grapevine_agent.core.learning.places import A_BASE, A_WINDOW, MAX_BASES, most_places
from grapevine_agent.core.moment import Moment
from grapevine_agent.core.overlay.members import Members
from grapevine_agent.core.settings import DeviceLimits
from grapevine_agent.merge.apart import apart
from grapevine_proto.encoding import PLAIN, Encoding
from grapevine_proto.encodings import decode
from grapevine_proto.errors import WireError
from grapevine_proto.manifest import TaskManifest
from grapevine_proto.messages import Encoded, ModelUpdate, ServerModel, Vector, Written
from grapevine_proto.quotas import SenderQuota
from grapevine_proto.reading import view_of
from grapevine_tasks.layout import ModelLayout

CLAIM_FACTOR = 4.0  # κ: an age this many times the median of the senders' is not believed
MIN_SENDERS = 3  # below it there is no median to speak of
PACE_SLACK = 2.0  # clocks and timers are not exact
MAX_SENDERS = 256
LARGEST_NUMBER = 1e30  # in a model; float32 ends at 3e38
DECODED_BYTES_PER_S = 32e6  # of float32, for one sender: four times what it may send


@dataclass(kw_only=True)
class Claims:
    """The newest age and experience that each sender claims, and what is believed of them."""

    task: str
    manifest: TaskManifest
    started: Moment
    steps_before: int = 0  # that a model may bring along from earlier versions of the task
    age_before: int = 0  # of our own model when we began: others have come as far
    members: Members | None = None  # whose claims count, while they are there; None: every sender's
    ages: OrderedDict[str, int] = field(default_factory=OrderedDict)
    experiences: OrderedDict[str, int] = field(default_factory=OrderedDict)

    def pace_limit(self, now: Moment) -> int:
        """The optimiser steps that a member can have taken since the task was published.

        Clocks may be wrong, the publisher's too. So time since this agent joined counts where it is longer, on top of
        the steps that were in its own model then.
        """
        return self._steps_by(now, PACE_SLACK)

    def plain_pace(self, now: Moment) -> int:
        """The same with clocks and timers that are exact."""
        return self._steps_by(now, 1.0)

    def _steps_by(self, now: Moment, slack: float) -> int:
        since_published_s = (now.wall_ms - self.manifest.created_at_ms) / 1000
        since_joined_s = now.monotonic_s - self.started.monotonic_s
        return max(
            self.steps_before + self._most_steps(since_published_s, slack),
            max(self.steps_before, self.age_before) + self._most_steps(since_joined_s, slack),
        )

    def _most_steps(self, elapsed_s: float, slack: float) -> int:
        plan = self.manifest.training
        return int(plan.steps_per_round * (1 + slack * max(0.0, elapsed_s) / plan.round_interval_s))

    def most_rounds(self, now: Moment) -> int:
        """The rounds that a member can have finished since the task was published."""
        return (self.pace_limit(now) - self.steps_before) // self.manifest.training.steps_per_round

    def believed_age(self, sender: str, age: int, now: Moment) -> int:
        """`age`, capped. See the module's docstring."""
        least = self.manifest.training.steps_per_round
        return self._believe(self.ages, sender, age, now, limit=self.pace_limit(now), least=least)

    def usual_age(self, now: Moment) -> int | None:
        """The median of the ages that the senders claim who are there; None where there are too few to speak of one."""
        claims = self._counted(self.ages, now)
        return int(median(claims)) if len(claims) >= MIN_SENDERS else None

    def oldest_age(self, now: Moment) -> int | None:
        """The largest age that is believed of those senders; None likewise."""
        usual, least = self.usual_age(now), self.manifest.training.steps_per_round
        if usual is None:
            return None
        oldest = max(self._counted(self.ages, now))
        return int(min(oldest, self.pace_limit(now), max(CLAIM_FACTOR * usual, least)))

    def believed_experience(self, sender: str, experience: int, now: Moment) -> int:
        """`experience` (samples), capped likewise; Chisme's M_i keeps what was believed."""
        plan = self.manifest.training
        limit, least = self.pace_limit(now) * plan.batch_size, plan.steps_per_round * plan.batch_size
        believed = self._believe(self.experiences, sender, experience, now, limit=limit, least=least)
        self.experiences[sender] = believed
        return believed

    def present_experiences(self, now: Moment) -> dict[str, int]:
        """Chisme's M_i: what was believed of each sender that is still there. Who left must not weigh on who stayed."""
        present = self._present(self.experiences, now)
        return {peer: held for peer, held in self.experiences.items() if peer in present}

    def _believe(
        self, book: OrderedDict[str, int], sender: str, claim: int, now: Moment, *, limit: float, least: int
    ) -> int:
        """Note a claim, and cap it: at `limit`, and where there is a median at a multiple of it (at `least`)."""
        book[sender] = claim
        book.move_to_end(sender)
        if len(book) > MAX_SENDERS:
            present = self._present(book, now)
            del book[next((peer for peer in book if peer not in present), next(iter(book)))]
        claims = self._counted(book, now, sender)
        if len(claims) >= MIN_SENDERS:
            limit = min(limit, max(CLAIM_FACTOR * median(claims), least))
        return int(min(claim, limit))

    def _counted(self, book: Mapping[str, int], now: Moment, sender: str = "") -> list[int]:
        """What is in a book of the senders who count, and of this one."""
        present = self._present(book, now)
        return [held for peer, held in book.items() if peer in present or peer == sender]

    def _present(self, book: Mapping[str, int], now: Moment) -> Set[str]:
        """Which senders are members of the task that are there: the ages of those who left stand still for ever."""
        members = self.members
        return book.keys() if members is None else members.taking_part(book, self.task, now.monotonic_s)


@dataclass(frozen=True, kw_only=True)
class Taken:
    """An update that is fit to be merged: float32 [p], [b] and, where it said where it started, [p]."""

    parameters: Vector
    buffers: Vector
    base: Vector | None
    receipt: bytes = b""  # digest of the base that came with it and is held now: its sender may know


@dataclass(frozen=True)
class _Base:
    """What a sender's deltas start from, and when it was used last, monotonic."""

    digest: bytes
    vector: Vector
    used_s: float


@dataclass(frozen=True)
class _Window:
    """A sender's open window: where it began for us, the newest model of it, and when that came, monotonic."""

    number: int
    first: Vector
    newest: Vector
    heard_s: float


@dataclass(kw_only=True)
class Intake:
    """Turns an update into vectors that are fit to be merged.

    The last base of each of a few senders is kept, so that a sender that has sent its base once may
    send the delta alone. A sender that has a receipt relies on it: its base keeps its place while it was used
    within `hold_s`, and where there is no room a newcomer's base is not held. How many places there are, at most
    `capacity`, the model's size says, and `memory_mb`.

    With `keep_windows` (strategies that sum deltas) the base that an update is given is the first one of its
    sender's window, and its delta the total change since; a new window of the sender restarts both. What was
    merged once does not count twice: after our own merge, `close_windows`, a sender's open window begins for us
    at the model that was merged. Forgotten earlier it would be counted from its start again: so there a newcomer is
    refused where there is no room.
    """

    layout: ModelLayout
    keep_windows: bool = False
    capacity: int = MAX_BASES
    hold_s: float = 0.0
    allowed: frozenset[Encoding] = frozenset({PLAIN})
    memory_mb: int = DeviceLimits.memory_mb  # that the owner lends
    _order: Order = field(default_factory=Order)
    _decoded: SenderQuota = field(
        default_factory=lambda: SenderQuota(bytes_per_s=DECODED_BYTES_PER_S, capacity=MAX_SENDERS)
    )
    _bases: OrderedDict[str, _Base] = field(default_factory=OrderedDict)
    _windows: OrderedDict[str, _Window] = field(default_factory=OrderedDict)

    def __post_init__(self) -> None:
        num_vectors = A_WINDOW if self.keep_windows else A_BASE
        self.num_places = most_places(self.layout, num_vectors, memory_mb=self.memory_mb, most=self.capacity)

    def model_of(
        self, sender: str, update: ModelUpdate, now_s: float = 0.0, *, session: int = 0, wall_ms: int = 0
    ) -> Taken:
        """What the sender says in this session of it, checked. Raises `WireError`."""
        self._order.check(sender, session, update, now_s, wall_ms)
        if update.delta is not None and update.base is None:
            self._held_base(sender, update)  # before anything is decoded
        if self.keep_windows:
            self._refuse_without_room(sender, now_s)
        self._charge(sender, (update.full, update.base, update.delta), update.buffers, now_s)
        buffers = self._buffers(update.buffers)
        base, digest = self._base(sender, update)
        if base is None:
            assert update.full is not None
            parameters = self._parameters(update.full, "full")
        else:
            assert update.delta is not None
            delta = self._parameters(update.delta, "delta")
            with apart():
                parameters = base + delta
            self._check(parameters, self.layout.num_parameters, "base + delta")
        start = self._window_start(sender, update, parameters, base, now_s) if self.keep_windows else base
        receipt = self._remember(sender, base, digest, now_s) if base is not None else b""
        self._order.took(sender, session, update, now_s)
        taken = Taken(parameters=parameters, buffers=buffers, base=start)
        return replace(taken, receipt=receipt) if update.base is not None else taken

    def _base(self, sender: str, update: ModelUpdate) -> tuple[Vector | None, bytes]:
        """What an update's change is counted from, if it tells one, and its digest. Of equal ones one is held."""
        if update.full is not None:
            return None, b""
        if update.base is None:
            held = self._held_base(sender, update)
            return held.vector, held.digest
        base = self._parameters(update.base, "base")
        digest, known = base_digest(base), self._bases.get(sender)
        return (known.vector if known is not None and known.digest == digest else base), digest

    def foresee(self, sender: str, update: ModelUpdate, session: int, now: Moment) -> None:
        """Raise `WireError` for what comes late, is not written as the task allows, or is from a base not held."""
        self._order.check(sender, session, update, now.monotonic_s, now.wall_ms)
        for what in ("full", "base", "delta", "buffers"):
            self._check_encoding(getattr(update, what), what)
        if update.delta is not None and update.base is None:
            self._held_base(sender, update)

    def _check_encoding(self, vector: Written | None, what: str) -> None:
        if isinstance(vector, Encoded) and vector.encoding not in self.allowed:
            raise WireError("encoding", f"{what} as {vector.encoding.name}, which the task does not allow")

    def _held_base(self, sender: str, update: ModelUpdate) -> _Base:
        held = self._bases.get(sender)
        if held is None or held.digest != update.base_digest:
            raise WireError("unknown-base", f"{sender} sends a delta alone, from a base that is not held")
        return held

    def _refuse_without_room(self, sender: str, now_s: float) -> None:
        """Raise `WireError` where others have all places, and were heard lately."""
        if sender in self._windows or len(self._windows) < self.num_places:
            return
        longest_unheard = next(iter(self._windows.values()))
        if now_s - longest_unheard.heard_s < self.hold_s:
            raise WireError("over-quota", f"{sender} finds no place beside {len(self._windows)} others")

    def _window_start(
        self, sender: str, update: ModelUpdate, parameters: Vector, base: Vector | None, now_s: float
    ) -> Vector:
        """Where a sender's window began for us; the newest model of it is noted."""
        held = self._windows.get(sender)
        start = parameters if base is None else base  # a whole model says nothing of a change
        first = held.first if held is not None and held.number == update.window else start
        self._windows[sender] = _Window(update.window, first, parameters, now_s)
        self._windows.move_to_end(sender)
        if len(self._windows) > self.num_places:
            longest_unheard, _ = self._windows.popitem(last=False)
            self._bases.pop(longest_unheard, None)
        return first

    def close_windows(self) -> None:
        """Our window has ended: all that was taken has been merged."""
        for sender, held in self._windows.items():
            self._windows[sender] = replace(held, first=held.newest)

    def model(self, sender: str, full: Written, buffers: Written, now_s: float = 0.0) -> tuple[Vector, Vector]:
        """A whole model, decoded and checked. Raises `WireError`."""
        self._charge(sender, (full,), buffers, now_s)
        return self._parameters(full, "full"), self._buffers(buffers)

    def server_model(self, sender: str, received: ServerModel, now_s: float = 0.0) -> ServerModel:
        """A server's model, with its vectors decoded and checked. Raises `WireError`."""
        full, buffers = self.model(sender, received.full, received.buffers, now_s)
        return replace(received, full=full, buffers=buffers)

    def _parameters(self, vector: Written, what: str) -> Vector:
        return self._decode(vector, self.layout.num_parameters, what)

    def _buffers(self, vector: Written) -> Vector:
        buffers = self._decode(vector, self.layout.num_buffers, "buffers")
        self.check_buffers(buffers)
        return buffers

    def _decode(self, vector: Written, size: int, what: str) -> Vector:
        """A vector of this size, decoded if it has to be, and checked. Raises `WireError`."""
        self._check_encoding(vector, what)
        if isinstance(vector, Encoded):
            with apart():
                vector = decode(vector.content, size, vector.encoding)
        self._check(vector, size, what)
        return vector

    def _charge(self, sender: str, vectors: Sequence[Written | None], buffers: Written, now_s: float) -> None:
        """Count what is about to be decoded. Raises `WireError` for more than the sender's share."""
        num_vectors = sum(isinstance(vector, Encoded) for vector in vectors)
        num_buffers = self.layout.num_buffers if isinstance(buffers, Encoded) else 0
        if num_numbers := num_vectors * self.layout.num_parameters + num_buffers:
            self._decoded.charge(sender, 4 * num_numbers, now_s)

    def check_buffers(self, buffers: Vector) -> None:
        """Raise `WireError` if a variance is negative."""
        for entry in self.layout.buffers:
            if entry.nonnegative and buffers[entry.span].min(initial=0) < 0:
                raise WireError("out-of-range", f"{entry.name} has a negative variance")

    def _remember(self, sender: str, base: Vector, digest: bytes, now_s: float) -> bytes:
        """Hold a base, if there is room. Returns its digest, or nothing if it is not held."""
        if sender not in self._bases and len(self._bases) >= self.num_places:
            longest_unused = next(iter(self._bases))
            if now_s - self._bases[longest_unused].used_s < self.hold_s:
                return b""
            del self._bases[longest_unused]
        self._bases[sender] = _Base(digest, base, now_s)
        self._bases.move_to_end(sender)
        return digest

    @staticmethod
    def _check(vector: Vector, size: int, what: str) -> None:
        if vector.size != size:
            raise WireError("wrong-shape", f"{what} has {vector.size} numbers, the task's program has {size}")
        with apart():
            largest = max(float(vector.max(initial=0.0)), -float(vector.min(initial=0.0)))  # NaN if one is
        if not math.isfinite(largest):
            raise WireError("non-finite", f"{what} holds NaN or infinity")
        if largest > LARGEST_NUMBER:
            raise WireError("out-of-range", f"{what} holds {largest:g}: sums of such numbers overflow")


def base_digest(base: Vector) -> bytes:
    """SHA-256 of a base's little-endian float32 bytes: how sender and receiver agree on which one it is."""
    with apart():
        return hashlib.sha256(view_of(base)).digest()
