"""Topic names, topic filters, and the two indexes that find one by the other (MQTT 5, section 4.7).

A filter without wildcards is looked up in a dictionary; the others lie in a trie with one node per
level, so that a lookup costs what the topic's levels cost, and not what all subscriptions cost.
Everything is walked in the order in which it was added: never in the order of a hash.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Generic, TypeVar

_MAX_TOPIC_BYTES = 65_535  # a length of two bytes (1.5.4)

T = TypeVar("T")


def check_topic(topic: str) -> None:
    """Check a topic that is published to (4.7.1, 4.7.3).

    Raises:
        ValueError: It is empty or too long, or has a wildcard or a null character in it.
    """
    if "+" in topic or "#" in topic:
        raise ValueError(f"topic {topic!r} has a wildcard in it: + and # stand in filters only")
    if not topic or "\0" in topic or len(topic) > _MAX_TOPIC_BYTES // 4:
        _check_text("topic", topic)


def check_filter(topic_filter: str) -> None:
    """Check a filter without its `$share/group/` (4.7.1, 4.7.3).

    Raises:
        ValueError: It is empty or too long, or a wildcard stands where none may.
    """
    _check_text("filter", topic_filter)
    *before, _last = levels = topic_filter.split("/")
    if any("#" in level for level in before):
        raise ValueError(f"filter {topic_filter!r}: # may only be the last level, as in a/#")
    for level in levels:
        if len(level) > 1 and ("+" in level or "#" in level):
            raise ValueError(f"filter {topic_filter!r}: in {level!r} a wildcard does not fill its level, as in a/+/b")


def check_publication(topic: str, qos: int) -> None:
    """Raise ValueError for what nobody may publish with."""
    check_topic(topic)
    if qos not in (0, 1):
        raise ValueError(f"{qos=}: give 0 or 1")


def split_shared(topic_filter: str) -> tuple[str, str]:
    """Take a filter apart into its group and the filter proper; the group of one that is not shared is "" (4.8.2).

    Raises:
        ValueError: It starts with `$share/` and names no group, or no filter.
    """
    if not topic_filter.startswith("$share/"):
        return "", topic_filter
    _share, group, *rest = topic_filter.split("/", 2)
    if not group or "+" in group or "#" in group or not rest or not rest[0]:
        raise ValueError(f"filter {topic_filter!r}: a shared one is written $share/<group>/<filter>")
    return group, rest[0]


def _check_text(what: str, text: str) -> None:
    if not text:
        raise ValueError(f"a {what} has at least one character")
    if "\0" in text:
        raise ValueError(f"{what} {text!r} has a null character in it")
    if (num_bytes := len(text.encode())) > _MAX_TOPIC_BYTES:
        raise ValueError(
            f"{what} {text[:40]!r}… has {num_bytes} bytes: {_MAX_TOPIC_BYTES} are the most that MQTT carries"
        )


def has_wildcard(topic_filter: str) -> bool:
    """Whether + or # is in it."""
    return "+" in topic_filter or "#" in topic_filter


@dataclass(slots=True, eq=False)
class _FilterNode(Generic[T]):
    """The filters that start with the same levels."""

    children: dict[str, _FilterNode[T]] = field(default_factory=dict)  # "+" is one of them
    here: dict[str, T] = field(default_factory=dict)  # of filters that end here
    below: dict[str, T] = field(default_factory=dict)  # of filters that end here with a #


class FilterIndex(Generic[T]):
    """Filters, each with values by key: who subscribed, and how."""

    __slots__ = ("_exact", "_num_wild", "_root")

    def __init__(self) -> None:
        self._exact: dict[str, dict[str, T]] = {}
        self._root: _FilterNode[T] = _FilterNode()
        self._num_wild = 0

    def put(self, topic_filter: str, key: str, value: T) -> None:
        """Set the value of one key, in the place of an older one."""
        if not has_wildcard(topic_filter):
            self._exact.setdefault(topic_filter, {})[key] = value
            return
        values = self._values(self._path(topic_filter), topic_filter)
        self._num_wild += key not in values
        values[key] = value

    def remove(self, topic_filter: str, key: str) -> None:
        """Forget one key. It must be there."""
        if not has_wildcard(topic_filter):
            values = self._exact[topic_filter]
            del values[key]
            if not values:
                del self._exact[topic_filter]
            return
        path = self._path(topic_filter)
        del self._values(path, topic_filter)[key]
        self._num_wild -= 1
        levels = topic_filter.split("/")
        for depth in range(len(path) - 1, 0, -1):
            if path[depth].here or path[depth].below or path[depth].children:
                break
            del path[depth - 1].children[levels[depth - 1]]

    def matching(self, topic: str) -> list[dict[str, T]]:
        """Return the values of every filter that matches a topic, by key; not to be changed by the caller.

        + stands for one level, # for any number of them, its parent included; a leading wildcard does
        not match a topic that starts with $ (4.7.1, 4.7.2).
        """
        found: list[dict[str, T]] = []
        exact = self._exact.get(topic)
        if exact is not None:
            found.append(exact)
        if not self._num_wild:
            return found
        levels = topic.split("/")
        nodes = [self._root]
        if topic[0] == "$":
            named = self._root.children.get(levels[0])
            if named is None:
                return found
            nodes, levels = [named], levels[1:]
        for level in levels:
            following: list[_FilterNode[T]] = []
            for node in nodes:
                if node.below:
                    found.append(node.below)
                children = node.children
                if level in children:
                    following.append(children[level])
                if "+" in children:
                    following.append(children["+"])
            if not following:
                return found
            nodes = following
        for node in nodes:
            if node.here:
                found.append(node.here)
            if node.below:
                found.append(node.below)
        return found

    def _path(self, topic_filter: str) -> list[_FilterNode[T]]:
        """Return the nodes of a filter with wildcards from the root on, made where they lack."""
        node = self._root
        path = [node]
        for level in topic_filter.split("/"):
            if level != "#":
                node = node.children.setdefault(level, _FilterNode())
                path.append(node)
        return path

    @staticmethod
    def _values(path: list[_FilterNode[T]], topic_filter: str) -> dict[str, T]:
        return path[-1].below if topic_filter[-1] == "#" else path[-1].here


@dataclass(slots=True, eq=False)
class _TopicNode(Generic[T]):
    """The topics that start with the same levels."""

    children: dict[str, _TopicNode[T]] = field(default_factory=dict)
    value: T | None = None


class TopicIndex(Generic[T]):
    """Topics, each with one value, found by filter: the retained messages."""

    __slots__ = ("_exact", "_root")

    def __init__(self) -> None:
        self._exact: dict[str, _TopicNode[T]] = {}
        self._root: _TopicNode[T] = _TopicNode()

    def __len__(self) -> int:
        return len(self._exact)

    def get(self, topic: str) -> T | None:
        """Return a topic's value."""
        node = self._exact.get(topic)
        return node.value if node else None

    def put(self, topic: str, value: T) -> None:
        """Set a topic's value, in the place of an older one."""
        node = self._exact.get(topic)
        if node is None:
            node = self._root
            for level in topic.split("/"):
                node = node.children.setdefault(level, _TopicNode())
            self._exact[topic] = node
        node.value = value

    def remove(self, topic: str) -> None:
        """Forget a topic. Harmless when it is not there."""
        if self._exact.pop(topic, None) is None:
            return
        levels = topic.split("/")
        path = [self._root]
        for level in levels:
            path.append(path[-1].children[level])
        path[-1].value = None
        for depth in range(len(path) - 1, 0, -1):
            if path[depth].children or path[depth].value is not None:
                break
            del path[depth - 1].children[levels[depth - 1]]

    def matching(self, topic_filter: str) -> list[T]:
        """Return the values of every topic that a filter matches (as in `FilterIndex.matching`)."""
        if not has_wildcard(topic_filter):
            value = self.get(topic_filter)
            return [] if value is None else [value]
        nodes = [self._root]
        for depth, level in enumerate(topic_filter.split("/")):
            if level == "#":
                return [value for node in nodes for value in _values_below(node, is_root=depth == 0)]
            if level == "+":
                nodes = [
                    child
                    for node in nodes
                    for name, child in node.children.items()
                    if depth > 0 or not name.startswith("$")
                ]
            else:
                nodes = [node.children[level] for node in nodes if level in node.children]
        return [node.value for node in nodes if node.value is not None]


def _values_below(node: _TopicNode[T], *, is_root: bool) -> list[T]:
    """Return the value of a node and of everything below it, parents first."""
    found: list[T] = []
    waiting = [node]
    while waiting:
        node = waiting.pop()
        if node.value is not None:
            found.append(node.value)
        children = [(name, child) for name, child in node.children.items() if not (is_root and name.startswith("$"))]
        waiting.extend(child for _name, child in reversed(children))
        is_root = False
    return found
