"""A task that was heard of: what is kept of it, and its manifest, which is read when somebody needs it.

Of every task the bytes of its manifest are kept, and a brief of what they say. The rest, above all the program, is
read once a task matters: somebody whom the owner trusts approves it, or the owner asks. What was read is kept for the
last few of them only, since it takes some thirty times the memory of the bytes.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass, field

from grapevine_agent.core.learning.setbacks import Setback
from grapevine_proto.errors import TaskError, WireError
from grapevine_proto.manifest import ManifestBrief, ManifestHead, TaskManifest
from grapevine_proto.manifest_codec import decode_manifest, decode_manifest_head
from grapevine_proto.program_codec import read_tensors

OPENED_BYTES = 512 * 1024  # of the manifests that stay opened, as they were published


@dataclass
class OpenedManifests:
    """The manifests that were opened last."""

    num_heads: int = 0  # that were ever read without their programs
    num_programs: int = 0  # that were ever read
    program_bytes: int = 0  # of these, as they were published with all that is around them
    _held: OrderedDict[str, tuple[TaskManifest, int]] = field(default_factory=OrderedDict)
    _num_bytes: int = 0

    def manifest(self, task: str, encoded: bytes) -> TaskManifest:
        """The whole manifest. Raises `TaskError` if its program cannot be read."""
        if task in self._held:
            self._held.move_to_end(task)
            return self._held[task][0]
        self.num_programs += 1
        self.program_bytes += len(encoded)
        try:
            manifest = decode_manifest(encoded)
        except WireError as error:
            raise TaskError(f"its program cannot be read: {error}") from None
        self._held[task] = manifest, len(encoded)
        self._num_bytes += len(encoded)
        while self._num_bytes > OPENED_BYTES and len(self._held) > 1:
            _, (_, num_bytes) = self._held.popitem(last=False)
            self._num_bytes -= num_bytes
        return manifest

    def head(self, task: str, encoded: bytes) -> ManifestHead:
        """All of the manifest but its program. Raises `TaskError` if it cannot be read."""
        if task in self._held:
            return self._held[task][0]
        self.num_heads += 1
        try:
            return decode_manifest_head(encoded)
        except WireError as error:
            raise TaskError(f"its manifest cannot be read: {error}") from None

    def tensors(self, encoded: bytes) -> bytes:
        """A digest of the names and shapes of parameters and buffers. Raises `TaskError` if they cannot be read."""
        self.num_heads += 1
        try:
            both = read_tensors(decode_manifest_head(encoded).program)
        except WireError as error:
            raise TaskError(f"its program cannot be read: {error}") from None
        said = repr([[(spec.name, spec.shape) for spec in specs] for specs in both])
        return hashlib.sha256(said.encode()).digest()


@dataclass(frozen=True, kw_only=True, slots=True)
class ProgramFound:
    """What was found when a task's program was looked at, in words for the owner; empty: nothing is in the way."""

    too_large: tuple[str, ...] = ()
    unsound: str = ""


@dataclass(kw_only=True, slots=True)
class TaskEntry:
    """A task. `consent` is the owner's word on this task, None: never asked."""

    id: str
    brief: ManifestBrief
    encoded: bytes = field(repr=False)  # the manifest, as it was published
    opened: OpenedManifests = field(repr=False)
    until_ms: int = 0  # its record runs out then (unix milliseconds); 0: never
    retracted: bool = False
    retraction: str = ""
    consent: bool | None = None
    setback: Setback | None = None  # the last time that its work failed too often here
    program_found: ProgramFound | None = None  # None: nobody has looked
    _tensors: bytes = b""  # see `tensors`; empty: nobody has looked

    @property
    def manifest(self) -> TaskManifest:
        """The whole manifest. Raises `TaskError` if its program cannot be read."""
        return self.opened.manifest(self.id, self.encoded)

    @property
    def head(self) -> ManifestHead:
        """The manifest but for its program. Raises `TaskError` if it cannot be read."""
        return self.opened.head(self.id, self.encoded)

    @property
    def tensors(self) -> bytes:
        """The same for tasks whose models fit each other's programs, and for no others."""
        if not self._tensors:
            try:
                self._tensors = self.opened.tensors(self.encoded)
            except TaskError:
                self._tensors = self.id.encode()
        return self._tensors
