#!/usr/bin/env bash
# Of many retained messages a subscriber at QoS 1 gets the first thousand or so, and one at QoS 0 gets all.
#
# Broker:     Mosquitto 2.0.11 (Debian 12, 2.0.11-1.2+deb12u2), with its default limits; client paho-mqtt 2.1.0.
# Input:      3,000 retained messages of 100 bytes on topics of their own; then a new client subscribes to all of them
#             with one wildcard, at QoS 1 or at QoS 0, acknowledges each message at once, and waits until nothing
#             has come for three seconds.
# Behaviour:  what is retained is queued for the subscriber all at once, before it can acknowledge anything: 20 in
#             flight (max_inflight_messages) and 1,000 that wait (max_queued_messages). The rest is dropped. SUBACK grants
#             QoS 1, no reason code says anything, and nothing comes later. At QoS 0 no such queue is in the way.
# Output seen:
#             2.0.11 QoS 1 granted: 1020 of 3000
#             2.0.11 QoS 0 granted: 3000 of 3000
# The better quality of service brings less: whoever collects state from retained messages subscribes at QoS 0, or
# to a part of the topics at a time.
set -euo pipefail
self=$(realpath "$0")
folder=$(mktemp -d)
broker=
trap '[ -z "$broker" ] || kill "$broker" 2>/dev/null; rm -rf "$folder"' EXIT
cd "$folder"
apt-get download --quiet=2 mosquitto=2.0.11-1.2+deb12u2 libmosquitto1=2.0.11-1.2+deb12u2 libcjson1 libdlt2 libwrap0 >/dev/null 2>&1
for package in ./*.deb; do dpkg -x "$package" root; done
python3 -m venv env
env/bin/python -m pip install --quiet paho-mqtt==2.1.0 2>/dev/null
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
printf 'listener %s 127.0.0.1\nallow_anonymous true\npersistence false\nlog_type none\n' "$port" > broker.conf
libraries=root/usr/lib/$(dpkg-architecture -qDEB_HOST_MULTIARCH 2>/dev/null || echo x86_64-linux-gnu)
LD_LIBRARY_PATH=$libraries root/usr/sbin/mosquitto -c broker.conf 2>/dev/null &
broker=$!
cat > look.py <<'PY'
import sys
import threading
import time

import paho.mqtt.client as mqtt

PORT, VERSION, NUM, QUIET_S = int(sys.argv[1]), sys.argv[2], 3000, 3.0


def client(on_message=None):
    new = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
    new.max_inflight_messages_set(20)
    new.on_message = on_message
    for _ in range(50):
        try:
            new.connect("127.0.0.1", PORT)
            break
        except OSError:
            time.sleep(0.1)
    new.loop_start()
    return new


writer = client()
for number in range(NUM):
    writer.publish(f"records/{number}", bytes(100), qos=1, retain=True).wait_for_publish()
for qos in (1, 0):
    heard, last_s = set(), [time.monotonic()]

    def on_message(_client, _userdata, message, heard=heard, last_s=last_s):
        heard.add(message.topic)
        last_s[0] = time.monotonic()

    reader, granted = client(on_message), threading.Event()
    codes = []
    reader.on_subscribe = lambda *given: (codes.extend(given[3]), granted.set())
    reader.subscribe("records/#", qos)
    assert granted.wait(10)
    while time.monotonic() < last_s[0] + QUIET_S:
        time.sleep(0.1)
    print(f"{VERSION} QoS {codes[0].value} granted: {len(heard)} of {NUM}")
    reader.loop_stop()
PY
version=$( (LD_LIBRARY_PATH=$libraries root/usr/sbin/mosquitto -h || true) | sed -n 's/^mosquitto version \([0-9.]*\).*/\1/p')
env/bin/python look.py "$port" "$version" | tee seen
diff seen <(sed -n 's/^# *\(2\.0\.11 QoS .*\)$/\1/p' "$self") && echo "as described"
