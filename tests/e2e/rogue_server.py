"""A hostile server of a task, as a process of its own: it signs with its key, and says what no server would.

    python -m tests.e2e.rogue_server URL ROOT TASK STATE_DIR KIND

STATE_DIR has its key. It says that it is online, takes part in TASK and serves it, and beats like any other, until it
is killed. Its models claim the age and the contributors of the newest model of another server that it has heard (until
then it says nothing), and hold what KIND says:

- *nan*: NaN in every number;        *another-task*: a few numbers more than the task's model has;
- *sign-flip*: −θ;                   *random*: numbers at random, as long as θ;
- *honest*: θ, as it was heard;      *future*: the same, and its adverts are dated a year ahead.

It prints one line of JSON for each model: which version it said.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from grapevine_agent.identity import load_identity
from grapevine_proto import messages as m
from grapevine_proto.codec import open_envelope, seal
from grapevine_proto.topics import PeerTopic, TaskTopic, Topic, of_task, parse

HEARTBEAT_S = 0.5
YEAR_MS = 365 * 24 * 3600 * 1000


class Rogue:
    """See the module's docstring."""

    def __init__(self, url: str, root: str, task: str, state_dir: Path, kind: str) -> None:
        self._root, self._task, self._kind = root, task, kind
        self._key = load_identity(state_dir).key
        self._session = self._sequence = time.time_ns() // 1_000_000
        self._rng = np.random.default_rng(0)
        self._heard: m.ServerModel | None = None
        self._has_heard = threading.Event()
        host, port = url.removeprefix("mqtt://").split("?")[0].split(":")
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv311)
        self._client.on_message = self._hear
        self._client.connect(host, int(port))
        self._client.subscribe(f"{root}/{of_task(task, 'model')}", qos=1)
        self._client.loop_start()

    def _hear(self, _client: object, _userdata: object, message: Any) -> None:
        opened = open_envelope(bytes(message.payload), parse(self._root, message.topic)).message
        if opened.sender != self._key.peer_id and isinstance(opened.body, m.ServerModel):
            self._heard = opened.body
            self._has_heard.set()

    def serve(self) -> None:
        """Until it is killed."""
        self._has_heard.wait()
        peer = self._key.peer_id
        self._say(PeerTopic(peer, "state"), m.PeerState(online=True), retain=True)
        self._say(PeerTopic(peer, "announcement"), m.PeerAnnouncement(name="rogue", tasks=(self._task,)), retain=True)
        version = 0
        while True:
            version += 1
            heard = self._heard
            assert heard is not None
            beat = m.Heartbeat(progress=(m.TaskProgress(task=self._task, version=version, age=heard.age),))
            self._say(PeerTopic(peer, "heartbeat"), beat)
            self._say(TaskTopic(peer, self._task, "model"), self._model(heard, version))
            self._advertise(heard, version)
            print(json.dumps({"version": version}), flush=True)  # noqa: T201 - it is what the test reads
            time.sleep(HEARTBEAT_S)

    def _model(self, heard: m.ServerModel, version: int) -> m.ServerModel:
        return m.ServerModel(
            task=self._task,
            model_version=version,
            age=heard.age,
            full=self._poisoned(m.plain(heard.full)),
            buffers=m.plain(heard.buffers),
            contributions=heard.contributions,
        )

    def _poisoned(self, theta: m.Vector) -> m.Vector:
        match self._kind:
            case "nan":
                return np.full_like(theta, np.nan)
            case "another-task":
                return np.concatenate([theta, theta[:10]])
            case "sign-flip":
                return -theta
            case "random":
                drawn = self._rng.standard_normal(theta.size).astype(np.float32)
                return drawn * np.float32(np.linalg.norm(theta) / np.linalg.norm(drawn))
        return theta

    def _advertise(self, heard: m.ServerModel, version: int) -> None:
        advert = m.ServerAdvert(
            task=self._task,
            online=True,
            model_version=version,
            contributors=tuple(heard.contributions),
            heartbeat_s=HEARTBEAT_S,
        )
        ahead_ms = YEAR_MS if self._kind == "future" else 0
        self._say(TaskTopic(self._key.peer_id, self._task, "server"), advert, retain=True, ahead_ms=ahead_ms)

    def _say(self, topic: Topic, body: m.Body, *, retain: bool = False, ahead_ms: int = 0) -> None:
        self._sequence += 1
        message = m.Message(
            sender=self._key.peer_id,
            session=self._session + ahead_ms,
            sequence=self._sequence + ahead_ms,
            created_at_ms=time.time_ns() // 1_000_000 + ahead_ms,
            body=body,
        )
        payload = seal(message, topic, self._key)
        self._client.publish(f"{self._root}/{topic.below_root()}", payload, qos=1, retain=retain)


if __name__ == "__main__":
    url, root, task, state_dir, kind = sys.argv[1:]
    Rogue(url, root, task, Path(state_dir), kind).serve()
