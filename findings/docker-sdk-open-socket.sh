#!/usr/bin/env bash
# To find out that no Docker engine answers leaves a socket open, which no call of the client's can close.
#
# Library:    docker 7.2.0 (the SDK for Python), Python 3.11, Linux.
# Input:      a client for a Unix socket at which nobody listens; made, and, where one can, closed.
# Behaviour:  `docker.DockerClient(base_url=…)` asks the engine for its version, raises DockerException, and leaves the
#             socket that it tried to the garbage collector, which warns of it. There is no client yet that could be closed.
#             With the version given nothing is asked at first; then `ping()` raises, and leaves one as well, even
#             though the client is closed afterwards.
# Output seen:
#             7.2.0 made: DockerException, unclosed sockets: 1
#             7.2.0 version given, pinged and closed: ConnectionError, unclosed sockets: 1
# Tests whose warnings are errors fail wherever they ask whether there is an engine: look at the socket first.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet docker==7.2.0
cat > "$folder/look.py" <<'PY'
import gc
import sys
import warnings

import docker

URL = f"unix://{sys.argv[1]}/nobody.sock"


def made():
    docker.DockerClient(base_url=URL)


def pinged():
    client = docker.DockerClient(base_url=URL, version="1.41")
    try:
        client.ping()
    finally:
        client.close()


for name, work in (("made", made), ("version given, pinged and closed", pinged)):
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        try:
            work()
            what = "nothing"
        except Exception as error:
            what = type(error).__name__
        gc.collect()
    sockets = sum("unclosed <socket" in str(each.message) for each in seen)
    print(f"{docker.__version__} {name}: {what}, unclosed sockets: {sockets}")
PY
"$folder/env/bin/python" "$folder/look.py" "$folder" | tee "$folder/seen"
diff "$folder/seen" <(sed -n 's/^# *\(7\.2\.0 .*\)$/\1/p' "$0") && echo "as described"
