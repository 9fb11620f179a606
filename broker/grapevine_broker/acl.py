"""The access rules that a broker of ours enforces: four lines, because all that a peer writes lies under its own id.

Servers that share the members of a task take what is said to their group, which nobody else is to take from them: who
they are the broker's owner says.

With Home Assistant at the same broker there are some more: a peer describes itself under its id, and hears commands
that Home Assistant's user alone may give.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from grapevine_proto.errors import ConfigError

HOME_ASSISTANT_PREFIX = "homeassistant"  # as agents have them where their owner names no others
HOME_ASSISTANT_ROOT = "grapevine-homeassistant"
_USER = re.compile(r"[A-Za-z0-9_.@-]+")
_ROOT = re.compile(r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)?")


def acl_text(root: str = "grapevine/v1", home_assistant: str = "", servers: Sequence[str] = ()) -> str:
    """Write Mosquitto's `acl_file` for the topic tree under `root`.

    `%u` is the user name of a connection, and a peer's user name is its id. So a peer writes under
    its own id and into others' inboxes under its own name, and reads every peer's records and its
    own inbox: no erasure, no spoofing, no eavesdropping. Commands connect as
    `<peer>-cli-<random>` under the peer's user name.

    Args:
        root: One or two topic levels, without wildcards.
        home_assistant: The user name of Home Assistant; empty: it is not at this broker.
        servers: The user names of the servers that may be in a group.

    Raises:
        ConfigError: `root` is not one or two plain levels, or a user name could change the rules.
    """
    if not _ROOT.fullmatch(root):
        msg = f"the root topic {root!r} is not one or two plain levels: write for example grapevine/v1"
        raise ConfigError(msg)
    if home_assistant and not _USER.fullmatch(home_assistant):
        msg = (
            f"the user name {home_assistant!r} is none of letters, digits, . _ @ and -: give Home Assistant such a one"
        )
        raise ConfigError(msg)
    for server in servers:
        if not _USER.fullmatch(server):
            msg = f"the user name {server!r} is none of letters, digits, . _ @ and -: a server's is its peer id"
            raise ConfigError(msg)
    lines = (
        f"pattern write {root}/peer/%u/#\n"
        f"pattern read {root}/peer/#\n"
        f"pattern write {root}/inbox/+/%u/#\n"
        f"pattern read {root}/inbox/%u/#\n"
    )
    if servers:
        lines += f"pattern write {root}/group/+/+/%u\n"
    if home_assistant:
        lines += _home_assistant_text(home_assistant)
    return lines + "".join(f"user {server}\ntopic read {root}/group/#\n" for server in servers)


def _home_assistant_text(user: str) -> str:
    return (
        f"pattern readwrite {HOME_ASSISTANT_PREFIX}/device/%u/config\n"
        f"pattern read {HOME_ASSISTANT_PREFIX}/status\n"
        f"pattern write {HOME_ASSISTANT_ROOT}/%u/#\n"
        f"pattern read {HOME_ASSISTANT_ROOT}/%u/set/#\n"
        f"user {user}\n"
        f"topic readwrite {HOME_ASSISTANT_PREFIX}/#\n"
        f"topic readwrite {HOME_ASSISTANT_ROOT}/#\n"
    )
