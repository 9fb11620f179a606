#!/usr/bin/env bash
# A shared subscription's messages go to whoever subscribed, may he read them or not, and die with him.
#
# Broker:     Mosquitto 2.0.11 (Debian 12, 2.0.11-1.2+deb12u2), with an acl_file; client paho-mqtt 2.1.0, MQTT 5.
# Input:      $share/g/work/+ with readers a and b, who may read work/#, and with a stranger, who may not: 30 messages at
#             QoS 1. Then without the stranger, and with an a that acknowledges nothing and is cut off after 30 messages.
# Behaviour:  the stranger's SUBACK grants QoS 1. The broker gives it its turn, finds that it may not read, and drops
#             the message; nobody else gets it, and the publisher's PUBACK says success. What waits for a reader
#             whose connection ends (clean session) is dropped with it, and not given to the other reader.
# Output seen:
#             2.0.11 with a stranger: 20 of 30 arrive, stranger granted 1
#             2.0.11 with a reader that dies: 15 of 30 reach the other
# Whoever takes work from a shared subscription acknowledges it himself, and who gives it offers it again.
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
printf 'topic write work/#\nuser a\ntopic read work/#\nuser b\ntopic read work/#\nuser w\ntopic write work/#\nuser s\ntopic read other/#\n' > acl
: > passwords
for user in a b w s; do mosquitto_passwd -b passwords "$user" x 2>/dev/null || root/usr/bin/mosquitto_passwd -b passwords "$user" x; done
chmod 755 . && chmod 644 acl passwords
printf 'listener %s 127.0.0.1\nallow_anonymous false\npassword_file %s/passwords\nacl_file %s/acl\npersistence false\nlog_type none\n' "$port" "$PWD" "$PWD" > broker.conf
libraries=root/usr/lib/$(dpkg-architecture -qDEB_HOST_MULTIARCH 2>/dev/null || echo x86_64-linux-gnu)
LD_LIBRARY_PATH=$libraries root/usr/sbin/mosquitto -c broker.conf 2>/dev/null &
broker=$!
cat > look.py <<'PY'
import sys
import threading
import time

import paho.mqtt.client as mqtt

PORT, VERSION, NUM = int(sys.argv[1]), sys.argv[2], 30
heard = {}


def client(user, acknowledges=True):
    """A client, and the code of its SUBACK."""
    new = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=user, protocol=mqtt.MQTTv5, manual_ack=not acknowledges)
    new.username_pw_set(user, "x")
    heard[user] = []
    new.on_message = lambda _client, _userdata, message: heard[user].append(message.payload)
    for _ in range(50):
        try:
            new.connect("127.0.0.1", PORT)
            break
        except OSError:
            time.sleep(0.1)
    new.loop_start()
    if user == "w":
        return new, None
    granted, codes = threading.Event(), []
    new.on_subscribe = lambda *given: (codes.extend(given[3]), granted.set())
    time.sleep(0.5)
    new.subscribe("$share/g/work/+", 1)
    assert granted.wait(10)
    return new, codes[0].value


def say():
    for number in range(NUM):
        writer.publish("work/x", b"%d" % number, qos=1).wait_for_publish()
    time.sleep(1)


writer, _ = client("w")
time.sleep(0.5)
a, _ = client("a")
b, _ = client("b")
s, code = client("s")
say()
print(f"{VERSION} with a stranger: {len({*heard['a'], *heard['b'], *heard['s']})} of {NUM} arrive, stranger granted {code}")
s.disconnect()
a.disconnect()
time.sleep(0.5)
a, _ = client("a", acknowledges=False)
heard["b"].clear()
say()
a.socket().shutdown(2)
time.sleep(2)
print(f"{VERSION} with a reader that dies: {len(set(heard['b']))} of {NUM} reach the other")
PY
version=$( (LD_LIBRARY_PATH=$libraries root/usr/sbin/mosquitto -h || true) | sed -n 's/^mosquitto version \([0-9.]*\).*/\1/p')
env/bin/python look.py "$port" "$version" | tee seen
diff seen <(sed -n 's/^# *\(2\.0\.11 with .*\)$/\1/p' "$self") && echo "as described"
