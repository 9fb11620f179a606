#!/usr/bin/env bash
# A client that falls silent stays connected for ever, and its will is not published.
#
# Library:    amqtt 0.12.1, its broker, as it comes.
# Input:      a client connects with a keep-alive of 2 seconds and a will, and sends nothing more.
# Behaviour:  MQTT 3.1.1, section 3.1.2.10: a server must disconnect a client that was silent for one and a half
#             times its keep-alive, as if the network had failed, and so publish its will. This broker does neither for
#             fifteen seconds and more; the will goes out when the socket closes.
# Output seen:
#             0.12.1 after 15 s of silence: open, wills heard: 0
#             0.12.1 after the socket closed: wills heard: 1
# A device that loses power or its radio never closes its socket: presence must not rest on the will alone.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet amqtt==0.12.1 paho-mqtt==2.1.0 2>/dev/null
cat > "$folder/look.py" <<'PY'
import asyncio
import logging
import socket
import struct
from importlib.metadata import version

import paho.mqtt.client as mqtt
from amqtt.broker import Broker

logging.disable(logging.CRITICAL)
KEEP_ALIVE_S, SILENCE_S = 2, 15


def text(value):
    return struct.pack(">H", len(value)) + value.encode()


def connect_packet(client_id):
    """CONNECT of MQTT 3.1.1 (section 3.1): a clean session, a will at QoS 0."""
    body = text("MQTT") + bytes([4, 0x02 | 0x04]) + struct.pack(">H", KEEP_ALIVE_S)
    body += text(client_id) + text("wills/one") + text("gone")
    return bytes([0x10, len(body)]) + body


async def main():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    anonymous = {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}}
    broker = Broker({"listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{port}"}}, "plugins": anonymous})
    await broker.start()
    heard = []
    onlooker = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
    onlooker.on_message = lambda client, userdata, message: heard.append(message.payload)
    onlooker.connect("127.0.0.1", port)
    onlooker.loop_start()
    await asyncio.sleep(0.5)
    onlooker.subscribe("wills/#", 1)
    await asyncio.sleep(0.5)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(connect_packet("silent"))
    assert (await reader.readexactly(4))[3] == 0, "not accepted"
    try:
        await asyncio.wait_for(reader.read(1), SILENCE_S)
        state = "closed"
    except asyncio.TimeoutError:
        state = "open"
    print(f"{version('amqtt')} after {SILENCE_S} s of silence: {state}, wills heard: {len(heard)}")
    writer.close()
    await asyncio.sleep(1)
    print(f"{version('amqtt')} after the socket closed: wills heard: {len(heard)}")
    onlooker.loop_stop()
    await broker.shutdown()


asyncio.run(main())
PY
"$folder/env/bin/python" "$folder/look.py" | tee "$folder/seen"
diff "$folder/seen" <(sed -n 's/^# *\(0\.12\.1 .*\)$/\1/p' "$0") && echo "as described"
