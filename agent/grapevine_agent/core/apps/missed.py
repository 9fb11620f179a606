"""Applications that had no room here: where they stand, so that one that is approved later can be asked for again.

A verdict names a SHA-256 and not its author's topic, so this has to be known from when it came.
"""

from __future__ import annotations

from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from grapevine_agent.core.apps.app_book import AppBook
from grapevine_agent.core.effects import Effect
from grapevine_agent.core.tasks.wanted import Wanted
from grapevine_proto.application_codec import application_id
from grapevine_proto.codec import Received
from grapevine_proto.errors import WireError
from grapevine_proto.messages import ApplicationPublication
from grapevine_proto.topics import AppTopic

MOST_NOTED: Final = 2_000


@dataclass
class Missed:
    """See the module's docstring."""

    _noted: OrderedDict[str, AppTopic] = field(default_factory=OrderedDict)  # by id, the oldest first
    _wanted: Wanted = field(default_factory=Wanted)

    def turned_away(self, received: Received) -> None:
        """A record found no room."""
        topic, body = received.topic, received.message.body
        if isinstance(topic, AppTopic) and isinstance(body, ApplicationPublication) and body.spec:
            with suppress(WireError):  # anybody can publish another's
                AppBook.check(topic, body)
                self.note(application_id(body.spec), topic)

    def note(self, application: str, topic: AppTopic) -> None:
        """An application is held no more."""
        self._noted[application] = topic
        self._noted.move_to_end(application)
        if len(self._noted) > MOST_NOTED:
            self._noted.popitem(last=False)

    def ask(self, application: str) -> list[Effect]:
        """It matters now: ask the broker for it, if it is known where it stands."""
        topic = self._noted.pop(application, None)
        return self._wanted.want(topic.below_root()) if topic is not None else []

    def arrived(self, topic: AppTopic) -> list[Effect]:
        """What stands there is held now."""
        return self._wanted.arrived(topic.below_root())
