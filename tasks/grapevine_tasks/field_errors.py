"""The error of one field of a task."""

from __future__ import annotations

from grapevine_proto.errors import TaskError


class FieldTaskError(TaskError):
    """What is wrong with one field, such as `merging.stale`: whoever holds the file can say on which line."""

    def __init__(self, field: str, said: str) -> None:
        super().__init__(said)
        self.field = field
