"""Where the records stand that an agent wants to know: the topic filters that it is subscribed to throughout."""

from __future__ import annotations

from grapevine_agent.core.settings import CoreSettings
from grapevine_proto import topics
from grapevine_proto.topics import PeerTopic


def where_records_are(settings: CoreSettings) -> list[str]:
    """The filters of all that brokers retain: what is few and matters first, presence last."""
    of_tasks = [topics.every_task(leaf) for leaf in ("manifest", "review", "server")]
    return [*of_tasks, topics.every_app(), *where_presence_is_said(settings)]


def where_presence_is_said(settings: CoreSettings) -> list[str]:
    """The filters that tell who is there: everybody, or the neighbours that the owner named."""
    if settings.neighbours is None:
        return [topics.every_peer("announcement"), topics.every_peer("state")]
    ours = sorted({*settings.neighbours, *settings.trusted_servers, settings.peer})
    return [PeerTopic(peer, leaf).below_root() for peer in ours for leaf in ("announcement", "state")]
