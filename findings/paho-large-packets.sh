#!/usr/bin/env bash
# One large packet costs a client forty times the CPU of the same bytes in small ones.
#
# Library:    paho-mqtt 2.2.0, Python 3.11, Linux x86-64.
# Input:      64 MB published at QoS 0 over a TCP connection whose buffers hold a quarter of a megabyte, as that of a slow
#             line or a small board does: as 64 messages, and as one. The other end reads as fast as it can.
# Behaviour:  the client keeps what is unsent of a packet as one `bytes`, and hands the socket a new slice of it, from its
#             position to its end, at each write. So each write copies all that is left, and what is copied grows with
#             the square of the packet's length over the buffer's.
# Output seen (CPU of the client):
#             2.2.0 64 packets of 1 MB: 0.06 s
#             2.2.0 1 packet of 64 MB: 2.35 s
#             2.2.0 the large one costs more than ten times as much
# Whoever sends models of some megabytes does well to cut them, though the broker would take them whole.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet paho-mqtt==2.2.0
cat > "$folder/look.py" <<'PY'
import socket
import threading
import time

import paho.mqtt.client as mqtt
from paho.mqtt import __version__

BUFFER, MEGABYTE = 256 * 1024, 1 << 20
CONNACK = b"\x20\x02\x00\x00"


def read(listener, num_bytes):
    connection, _ = listener.accept()
    with connection:
        connection.recv(1024)  # CONNECT
        connection.sendall(CONNACK)
        while num_bytes > 0 and (got := connection.recv(BUFFER)):
            num_bytes -= len(got)


def cpu_s(num, num_bytes):
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        reader = threading.Thread(target=read, args=(listener, num * num_bytes))
        reader.start()
        client, connected = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2), threading.Event()
        client.on_connect = lambda *_: connected.set()
        client.on_socket_open = lambda _c, _u, s: s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
        client.connect("127.0.0.1", listener.getsockname()[1])
        client.loop_start()
        assert connected.wait(10)
        began_s = time.process_time()
        for _ in range(num):
            client.publish("model", bytes(num_bytes))
        reader.join()
        took_s = time.process_time() - began_s
        client.loop_stop()
        return took_s


small, large = (sorted(cpu_s(num, size) for _ in range(3))[1] for num, size in ((64, MEGABYTE), (1, 64 * MEGABYTE)))
print(f"{__version__} 64 packets of 1 MB: {small:.2f} s")
print(f"{__version__} 1 packet of 64 MB: {large:.2f} s")
print(f"{__version__} the large one costs {'more' if large > 10 * small else 'less'} than ten times as much")
PY
"$folder/env/bin/python" "$folder/look.py" | tee "$folder/seen"
diff <(tail -1 "$folder/seen") <(sed -n 's/^# *\(2\.2\.0 the .*\)$/\1/p' "$0") && echo "as described"
