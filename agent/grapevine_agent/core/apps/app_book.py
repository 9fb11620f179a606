"""The applications that an agent has heard of, by author and name: the newest of each, as its author signed it.

Of every application the bytes are kept, within the budget of the records. They were read once, to see that they are
what their topic says; what was read is kept only of those that somebody asks for.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from grapevine_proto.application import ApplicationSpec, LearningTask
from grapevine_proto.application_codec import application_id, decode_application
from grapevine_proto.codec import Received
from grapevine_proto.errors import WireError
from grapevine_proto.messages import ApplicationPublication
from grapevine_proto.records import RecordBook
from grapevine_proto.topics import AppTopic, Topic


@dataclass(kw_only=True, slots=True)
class AppEntry:
    """An application."""

    id: str
    topic: AppTopic
    encoded: bytes = field(repr=False)  # as its author signed it
    until_ms: int = 0  # its record runs out then (unix milliseconds); 0: never
    applied_at_ms: int = 0  # by its author's clock
    tasks: tuple[str, ...] = ()  # that its components name
    before: AppEntry | None = None  # the version that this one is to take the place of, once it is approved
    _spec: ApplicationSpec | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """What its author calls it."""
        return self.topic.name

    @property
    def author(self) -> str:
        """The peer that signed it."""
        return self.topic.peer

    def read(self, *, keep: bool = False) -> ApplicationSpec:
        """What it says. `keep`: it will be asked for again."""
        if self._spec is not None:
            return self._spec
        spec = decode_application(self.encoded)  # it was read before: this does not fail
        if keep:
            self._spec = spec
        return spec


@dataclass
class AppBook:
    """All of them. See the module's docstring."""

    entries: dict[AppTopic, AppEntry] = field(default_factory=dict)
    by_id: dict[str, AppEntry] = field(default_factory=dict)
    _naming: dict[str, dict[AppTopic, None]] = field(default_factory=dict)  # task → which name it

    def take(self, received: Received, publication: ApplicationPublication) -> AppEntry | None:
        """Take a record that is news; None if it says that the application is deleted.

        Raises `WireError` for one that is not its author's, or is not what it may be: then nothing is known of it.
        """
        topic = received.topic
        assert isinstance(topic, AppTopic)
        self.remove(topic)
        if publication.deleted:
            return None
        spec = self.check(topic, publication)
        entry = AppEntry(
            id=application_id(publication.spec),
            topic=topic,
            encoded=publication.spec,
            until_ms=received.message.expires_at_ms,
            applied_at_ms=received.message.created_at_ms,
            tasks=tuple(
                dict.fromkeys(e.workload.task for e in spec.components if isinstance(e.workload, LearningTask))
            ),
        )
        for task in entry.tasks:
            self._naming.setdefault(task, {})[topic] = None
        self.entries[topic] = self.by_id[entry.id] = entry
        return entry

    @staticmethod
    def check(topic: Topic, publication: ApplicationPublication) -> ApplicationSpec:
        """What an application says. Raises `WireError` if it is none, or not of the author and name of its topic."""
        spec = decode_application(publication.spec)
        if topic != AppTopic(spec.author, spec.name):
            raise WireError("forged", f"{topic.below_root()} holds {spec.name} of {spec.author}")
        return spec

    def naming(self, task: str) -> list[AppEntry]:
        """The applications that name a task, whoever has signed them."""
        return [self.entries[topic] for topic in self._naming.get(task, ())]

    def remove(self, topic: AppTopic) -> AppEntry | None:
        """Forget one."""
        gone = self.entries.pop(topic, None)
        if gone is None:
            return None
        self.by_id.pop(gone.id, None)
        for task in gone.tasks:
            self._naming[task].pop(topic, None)
            if not self._naming[task]:
                del self._naming[task]
        return gone

    def gone(self, records: RecordBook) -> list[AppEntry]:
        """Those whose records are held no more: they ran out, or made room for others."""
        return [entry for topic, entry in self.entries.items() if records.get(topic) is None]
