"""The other end of `update_over_mosquitto`: `python -m grapevine_lab.bench.receiver`, a process of its own.

It says on its standard output, line by line: `ready`, then for each message its kind and when it had been taken in,
in nanoseconds of the clock that all processes of a machine share.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time

import paho.mqtt.client as mqtt

from grapevine_agent.core.learning.intake import Intake
from grapevine_agent.net.events import Arrived, Connected
from grapevine_agent.net.transport import Transport
from grapevine_agent.net.urls import BrokerUrl
from grapevine_agent.service import clock
from grapevine_lab.bench.raw import RAW_TOPIC, connected_client
from grapevine_proto import topics
from grapevine_proto.codec import open_envelope
from grapevine_proto.messages import ModelUpdate
from grapevine_proto.quotas import SenderQuota
from grapevine_proto.replay import ReplayGuard
from grapevine_tasks.layout import Entry, ModelLayout


def layout_of(num_parameters: int) -> ModelLayout:
    """A model that is one tensor."""
    return ModelLayout(parameters=(Entry(name="weight", shape=(num_parameters,), offset=0),), buffers=())


async def receive(url: str, root: str, peer: str, num_parameters: int) -> None:
    """Take in updates as the service does, until the standard input ends."""
    transport = Transport([BrokerUrl.parse(url)], client_id="grapevine-bench-receiver")
    await transport.subscribe((f"{root}/{topics.inbox_of(peer)}", 1))
    running = asyncio.create_task(transport.run())
    reading = asyncio.create_task(_take_in(transport, root, num_parameters))
    with connected_client(url, "grapevine-bench-raw-receiver") as client:
        client.on_message = _heard
        client.on_subscribe = lambda *_: _say("ready")  # from now on: the transport takes no longer than paho
        await _until_connected(transport)
        client.subscribe(RAW_TOPIC, qos=1)
        await asyncio.to_thread(sys.stdin.read)
    await transport.disconnect()
    await running
    await reading


async def _until_connected(transport: Transport) -> None:
    while transport.connected_to is None:
        await asyncio.sleep(0.01)


async def _take_in(transport: Transport, root: str, num_parameters: int) -> None:
    intake, replays = Intake(layout=layout_of(num_parameters)), ReplayGuard()
    # Asked as in the service, but roomier: one message on the heels of another is more than an agent takes.
    quota = SenderQuota(messages_per_s=1e6, bytes_per_s=1e12)
    async for event in transport.events():
        match event:
            case Arrived(topic=name, payload=payload):
                topic = topics.parse(root, name)
                quota.charge(topics.writer_of(topic), len(payload), clock.now().monotonic_s)
                message = open_envelope(payload, topic).message
                replays.check(message)
                assert isinstance(message.body, ModelUpdate)
                intake.model_of(message.sender, message.body)
                _say(f"ours {time.monotonic_ns()}")
            case Connected():
                pass


def _heard(_client: mqtt.Client, _userdata: object, message: mqtt.MQTTMessage) -> None:  # in paho's thread
    arrived_ns = time.monotonic_ns()
    assert message.payload
    _say(f"raw {arrived_ns}")


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m grapevine_lab.bench.receiver")
    for name in ("url", "root", "peer"):
        parser.add_argument(name)
    parser.add_argument("num_parameters", type=int)
    options = parser.parse_args()
    asyncio.run(receive(options.url, options.root, options.peer, options.num_parameters))
