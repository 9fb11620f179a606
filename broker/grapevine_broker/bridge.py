"""A bridge between two brokers of one root, as lines of a `mosquitto.conf`: the brokers' own way to be one overlay.

Where both brokers are Mosquitto and one of them reaches the other, no agent has to stand between them: the one that has
these lines connects to the other as a client and carries each kind of topic in both directions.

    at QoS 1  records, models, what is said to a peer, and chunks of it
    at QoS 0  heartbeats and metrics: the next one says more than the last
    retained  stays retained, and what one of them lacks it is given at each connection

Nothing is kept for the other while it is away (`cleansession`): records are retained, and all else would be out of
date. `try_private` has the other know us as a bridge: what came from it is not sent back, and it says what it retains.

Bridges carry what comes by other bridges. In a ring a message would go round for ever, and nothing in MQTT 3.1.1 ends
that: bridged brokers are to be a tree.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from grapevine_proto.errors import RequestError
from grapevine_proto.roots import check_root
from grapevine_proto.topics import chunks_for, every_peer, every_task, inbox_of

FILTERS: Final = (
    *((every_peer(leaf), 1) for leaf in ("announcement", "state")),
    *((every_task(leaf), 1) for leaf in ("manifest", "review", "server", "model")),
    (inbox_of("+"), 1),
    (chunks_for("+"), 1),
    (every_peer("heartbeat"), 0),
    (every_task("metrics"), 0),
)
USER: Final = "grapevine-bridge"
RETRY_S: Final = (1, 30)  # the shortest and the longest wait; Mosquitto draws between them
KEEPALIVE_S: Final = 30
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass(frozen=True, kw_only=True)
class Bridge:
    """From the broker that gets these lines to another one.

    `name` is once on each of the two; no two bridges to one broker may have the same `client_id`.
    """

    name: str
    host: str
    port: int
    client_id: str
    root: str
    has_tls: bool = False

    def config(self) -> str:
        """The lines for `mosquitto.conf`.

        Raises:
            ConfigError: `root` is none.
            RequestError: `name` or `host` cannot stand in that file.
        """
        check_root(self.root)
        if not _NAME.fullmatch(self.name):
            msg = f"{self.name!r} is no name for a bridge: give letters, digits, '.', '-' and '_' with --name"
            raise RequestError(msg)
        if re.search(r"[\s\x00-\x1f]", self.host):
            raise RequestError(f"{self.host!r} is no host")
        width = max(len(each) for each, _ in FILTERS)
        lines = [
            f"# Grapevine below {self.root}, both ways, with {self.host}. On one of the two brokers only; of three and",
            "# more no ring may come, or messages go round for ever.",
            f"connection {self.name}",
            f"address {self.host}:{self.port}",
            f"remote_clientid {self.client_id}",
            "# Where the other broker wants a login. Its access rules then need, for this user:",
            f"#   user {USER}",
            f"#   topic readwrite {self.root}/#",
            f"#remote_username {USER}",
            "#remote_password …",
            *(self._tls() if self.has_tls else ()),
            "bridge_protocol_version mqttv311",
            "try_private true",
            "notifications false",
            "cleansession true",
            "start_type automatic",
            f"restart_timeout {RETRY_S[0]} {RETRY_S[1]}",
            f"keepalive_interval {KEEPALIVE_S}",
            *(f"topic {each:<{width}} both {qos} {self.root}/ {self.root}/" for each, qos in FILTERS),
        ]
        return "\n".join(lines) + "\n"

    @staticmethod
    def _tls() -> tuple[str, ...]:
        return (
            "# Who signed the other broker's certificate: the system's authorities, or a file of your own.",
            "bridge_capath /etc/ssl/certs",
            "#bridge_cafile /etc/mosquitto/certs/ca.pem",
        )
