#!/usr/bin/env bash
# A persistent session is told to be present, and its messages are gone; QoS 0 arrives as QoS 1.
#
# Library:    amqtt 0.12.1, its broker, as it comes.
# Input:      a client with a persistent session subscribes at QoS 1, leaves one message unacknowledged and misses a second
#             one while it is away; before that, a third client publishes at QoS 0.
# Behaviour:  MQTT 3.1.1, section 4.4: unacknowledged and missed messages are sent when the session is resumed. This broker
#             answers "session present" and sends neither. Section 3.8.4: what is published at QoS 0 arrives at QoS 0. It
#             arrives at the subscription's QoS 1.
# Output seen:
#             0.12.1 published at QoS 0, subscribed at QoS 1: arrives at QoS 1
#             0.12.1 session present: 1, of two messages at QoS 1 arrive after the reconnect: 0
# What must survive a lost connection has to be in the sender's own outbox.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet amqtt==0.12.1 2>/dev/null
cat > "$folder/look.py" <<'PY'
import asyncio
import logging
import socket
from importlib.metadata import version

from amqtt.broker import Broker

logging.disable(logging.CRITICAL)
VERSION = version("amqtt")


def field(text):
    return len(text).to_bytes(2, "big") + text


def packet(first, body):
    return bytes([first, len(body)]) + body


def publish(qos, number, payload):
    return packet(0x30 | qos << 1, field(b"t") + (bytes([0, number]) if qos else b"") + payload)


class Client:
    async def start(self, port, name, clean):
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", port)
        await self.say(packet(0x10, field(b"MQTT") + bytes([4, 2 if clean else 0, 0, 60]) + field(name)))
        return await self.next()

    async def say(self, content):
        self.writer.write(content)
        await self.writer.drain()

    async def next(self):
        try:
            async with asyncio.timeout(2):
                first, length = await self.reader.readexactly(2)
                return bytes([first, length]) + await self.reader.readexactly(length)
        except (TimeoutError, asyncio.IncompleteReadError):
            return None


async def main():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    anonymous = {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}}
    broker = Broker({"listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{port}"}}, "plugins": anonymous})
    await broker.start()
    writer, reader, again = Client(), Client(), Client()
    await writer.start(port, b"writer", True)
    await reader.start(port, b"reader", False)
    await reader.say(packet(0x82, b"\0\1" + field(b"t") + b"\1"))
    await reader.next()
    await writer.say(publish(0, 0, b"a"))
    qos = (await reader.next())[0] >> 1 & 3
    print(f"{VERSION} published at QoS 0, subscribed at QoS 1: arrives at QoS {qos}")
    await reader.say(b"\x40\x02\0\1")
    await writer.say(publish(1, 2, b"b"))
    await writer.next()
    await reader.next()  # read, and not acknowledged
    reader.writer.close()
    await asyncio.sleep(0.5)
    await writer.say(publish(1, 3, b"c"))
    await writer.next()
    accepted = await again.start(port, b"reader", False)
    arrived = [each for each in (await again.next(), await again.next()) if each is not None]
    print(f"{VERSION} session present: {accepted[2]}, of two messages at QoS 1 arrive after the reconnect: {len(arrived)}")
    for client in (writer, again):
        client.writer.close()
    await broker.shutdown()


asyncio.run(asyncio.wait_for(main(), 30))
PY
"$folder/env/bin/python" "$folder/look.py" | tee "$folder/seen"
diff "$folder/seen" <(sed -n 's/^# *\(0\.12\.1 .*\)$/\1/p' "$0") && echo "as described"
