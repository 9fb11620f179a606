"""The topic tree: the only place where topics are built or taken apart.

Everything that a peer writes lies under its own id, so that four ACL lines keep peers from writing
in each other's name, and nobody can erase another's record with an empty retained publish:

    <root>/peer/<id>/announcement              record
    <root>/peer/<id>/state                     record, and the will
    <root>/peer/<id>/heartbeat
    <root>/peer/<id>/task/<task>/manifest      record
    <root>/peer/<id>/task/<task>/review        record
    <root>/peer/<id>/task/<task>/server        record
    <root>/peer/<id>/task/<task>/model
    <root>/peer/<id>/task/<task>/metrics
    <root>/peer/<id>/app/<name>                record
    <root>/inbox/<to>/<from>
    <root>/inbox/<to>/<from>/<transfer>        chunks (see `bulk`)
    <root>/group/<task>/<group>/<from>         for one of the servers of a group

Ids are `[a-z0-9-]{1,64}`. The root has one or two levels, which leaves at most seven slashes: a
limit of some hosted brokers.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, TypeGuard

from grapevine_proto.errors import WireError

MAX_ID = 64  # characters
SHARED: Final = "$share/"

PeerLeaf: TypeAlias = Literal["announcement", "state", "heartbeat"]
TaskLeaf: TypeAlias = Literal["manifest", "review", "server", "model", "metrics"]

_ID = re.compile(r"[a-z0-9-]{1,64}")
TASK_ID = re.compile(r"[0-9a-f]{64}")
_PEER_LEAVES: dict[str, PeerLeaf] = {"announcement": "announcement", "state": "state", "heartbeat": "heartbeat"}
_TASK_LEAVES: dict[str, TaskLeaf] = {
    "manifest": "manifest",
    "review": "review",
    "server": "server",
    "model": "model",
    "metrics": "metrics",
}


@dataclass(frozen=True, slots=True)
class PeerTopic:
    """Something that a peer says of itself."""

    peer: str
    leaf: PeerLeaf

    def below_root(self) -> str:
        """The topic without its root, as signed."""
        return f"peer/{self.peer}/{self.leaf}"


@dataclass(frozen=True, slots=True)
class TaskTopic:
    """Something that a peer says of a task."""

    peer: str
    task: str
    leaf: TaskLeaf

    def below_root(self) -> str:
        """The topic without its root, as signed."""
        return f"peer/{self.peer}/task/{self.task}/{self.leaf}"


@dataclass(frozen=True, slots=True)
class AppTopic:
    """An application that a peer wants to run somewhere."""

    peer: str
    name: str

    @property
    def leaf(self) -> Literal["app"]:
        """What kind of topic it is."""
        return "app"

    def below_root(self) -> str:
        """The topic without its root, as signed."""
        return f"peer/{self.peer}/app/{self.name}"


@dataclass(frozen=True, slots=True)
class InboxTopic:
    """Something that one peer says to another."""

    receiver: str
    sender: str

    def below_root(self) -> str:
        """The topic without its root, as signed."""
        return f"inbox/{self.receiver}/{self.sender}"


@dataclass(frozen=True, slots=True)
class GroupTopic:
    """Something that a peer says to one of the servers of a group of a task, whichever takes it."""

    task: str
    group: str
    sender: str

    @property
    def leaf(self) -> Literal["group"]:
        """What kind of topic it is."""
        return "group"

    def below_root(self) -> str:
        """The topic without its root, as signed."""
        return f"group/{self.task}/{self.group}/{self.sender}"


@dataclass(frozen=True, slots=True)
class ChunkTopic:
    """Chunks that one peer sends to another, who asked for them. What is said here is not signed."""

    receiver: str
    sender: str
    transfer: str

    def below_root(self) -> str:
        """The topic without its root."""
        return f"inbox/{self.receiver}/{self.sender}/{self.transfer}"


Topic: TypeAlias = PeerTopic | TaskTopic | AppTopic | InboxTopic | GroupTopic
LastingTopic: TypeAlias = TaskTopic | AppTopic  # of a manifest, a review or an application
LASTING_LEAVES = ("manifest", "review")  # of a task: statements whose order must survive their expiry


def writer_of(topic: Topic | ChunkTopic) -> str:
    """The only peer that may write on this topic."""
    return topic.sender if isinstance(topic, InboxTopic | GroupTopic | ChunkTopic) else topic.peer


def is_lasting(topic: Topic) -> TypeGuard[LastingTopic]:
    """Whether what stands on a topic lasts: it is kept across restarts, and given to brokers and peers that lack it."""
    return isinstance(topic, AppTopic) or (isinstance(topic, TaskTopic) and topic.leaf in LASTING_LEAVES)


def is_task_id(text: str) -> bool:
    """Whether this is a whole id, which needs no looking up."""
    return TASK_ID.fullmatch(text) is not None


def is_id(text: str) -> bool:
    """Whether `text` can be a level that names a peer or a task."""
    return text in _ids or _is_id(text)


def are_ids(texts: Collection[str]) -> bool:
    """Whether all of them can be such levels."""
    return _ids.issuperset(texts) or all(map(is_id, texts))


MOST_IDS: Final = 1 << 14  # that are remembered; each is short
_ids: set[str] = set()  # every contribution in every update names a peer, and is looked at


def _is_id(text: str) -> bool:
    if len(text) > MAX_ID or _ID.fullmatch(text) is None:
        return False
    if len(_ids) >= MOST_IDS:
        _ids.clear()
    _ids.add(text)
    return True


def build(root: str, topic: Topic | ChunkTopic) -> str:
    """The full MQTT topic."""
    return f"{root}/{topic.below_root()}"


def parse(root: str, name: str) -> Topic:
    """Take an MQTT topic apart. Raises `WireError("topic")` for anything that is not in the tree."""
    prefix = root + "/"
    if not name.startswith(prefix):
        raise WireError("topic", f"{name[:200]!r} is not below {root!r}")
    return parse_below_root(name[len(prefix) :])


def parse_chunk(root: str, name: str) -> ChunkTopic | None:
    """The topic of a chunk; None if it is another one, or none."""
    return parse_chunk_below_root(name[len(root) + 1 :]) if name.startswith(root + "/") else None


def parse_chunk_below_root(name: str) -> ChunkTopic | None:
    """As `parse_chunk`, for a topic without its root."""
    match name.split("/") if name.startswith("inbox/") else ():
        case ["inbox", receiver, sender, transfer] if is_id(receiver) and is_id(sender) and is_id(transfer):
            return ChunkTopic(receiver, sender, transfer)
    return None


def parse_below_root(name: str) -> Topic:
    """As `parse`, for a topic without its root."""
    found = _topics.get(name)
    if found is None:
        found = _taken_apart(name)
        if len(name) <= LONGEST_REMEMBERED:
            if len(_topics) >= MOST_TOPICS:
                _topics.clear()
            _topics[name] = found
    return found


MOST_TOPICS: Final = 1 << 12  # that are remembered as they were taken apart
LONGEST_REMEMBERED: Final = 256  # characters
_topics: dict[str, Topic] = {}  # the same ones come again and again


def _taken_apart(name: str) -> Topic:
    match name.split("/"):
        case ["peer", peer, leaf] if is_id(peer) and leaf in _PEER_LEAVES:
            return PeerTopic(peer, _PEER_LEAVES[leaf])
        case ["peer", peer, "task", task, leaf] if is_id(peer) and is_id(task) and leaf in _TASK_LEAVES:
            return TaskTopic(peer, task, _TASK_LEAVES[leaf])
        case ["peer", peer, "app", name] if is_id(peer) and is_id(name):
            return AppTopic(peer, name)
        case ["inbox", receiver, sender] if is_id(receiver) and is_id(sender):
            return InboxTopic(receiver, sender)
        case ["group", task, group, sender] if is_id(task) and is_id(group) and is_id(sender):
            return GroupTopic(task, group, sender)
    raise WireError("topic", f"{name[:200]!r} is not in the topic tree")


def receiver_of(topic: Topic) -> str:
    """Whom a message on this topic is for; "": everybody, or whichever server of a group."""
    return topic.receiver if isinstance(topic, InboxTopic) else ""


# --- filters --------------------------------------------------------------------------------------
# Rules for subscribing live here too: a filter is a topic with holes.


def every_peer(leaf: PeerLeaf) -> str:
    """Filter: this leaf of every peer (below the root)."""
    return f"peer/+/{leaf}"


def every_task(leaf: TaskLeaf) -> str:
    """Filter: this leaf of every peer and task (below the root)."""
    return f"peer/+/task/+/{leaf}"


def every_app() -> str:
    """Filter: the applications of every peer (below the root)."""
    return "peer/+/app/+"


def of_task(task: str, leaf: TaskLeaf) -> str:
    """Filter: this leaf of one task, by whatever peer (below the root)."""
    return f"peer/+/task/{task}/{leaf}"


def inbox_of(peer: str) -> str:
    """Filter: everything that is said to `peer` (below the root)."""
    return f"inbox/{peer}/+"


def chunks_for(peer: str) -> str:
    """Filter: all chunks that are sent to `peer` (below the root)."""
    return f"inbox/{peer}/+/+"


def of_group(task: str, group: str) -> str:
    """Filter: everything that is said to one of the servers of a group (below the root)."""
    return f"group/{task}/{group}/+"


def shared(root: str, share: str, below: str) -> str:
    """The whole filter of a shared subscription (MQTT 5, section 4.8.2): each message goes to one who has it."""
    return f"{SHARED}{share}/{root}/{below}"


def is_shared(topic_filter: str) -> bool:
    """Whether a whole filter is of a shared subscription."""
    return topic_filter.startswith(SHARED)
