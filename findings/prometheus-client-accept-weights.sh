#!/usr/bin/env bash
# A scraper that refuses OpenMetrics is given OpenMetrics: the weights in its Accept header are not read.
#
# Library:    prometheus-client 0.26.0, its WSGI application.
# Input:      GET /metrics with an Accept header that prefers the classic text format, or refuses the other with q=0.
# Behaviour:  RFC 9110, section 12.4.2: what has the weight 0 is not acceptable, and a greater weight is preferred.
#             Whatever the weights, the format that is chosen is OpenMetrics wherever the header names version 1.0.0 of it.
# Output seen:
#             0.26.0 text/plain;version=0.0.4 -> text/plain
#             0.26.0 text/plain;version=0.0.4, application/openmetrics-text;version=1.0.0;q=0.1 -> application/openmetrics-text
#             0.26.0 text/plain;version=0.0.4, application/openmetrics-text;version=1.0.0;q=0 -> application/openmetrics-text
# Whoever reads a device's page with a parser of the classic format alone must not name the other in Accept, not even to refuse it.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet prometheus-client==0.26.0
cat > "$folder/look.py" <<'PY'
import threading
import urllib.request
from importlib.metadata import version
from wsgiref.simple_server import WSGIRequestHandler, make_server

from prometheus_client import CollectorRegistry, Gauge, make_wsgi_app


class Quiet(WSGIRequestHandler):
    def log_message(self, *words):
        pass


registry = CollectorRegistry()
Gauge("temperature_celsius", "Of the device.", registry=registry).set(41.5)
server = make_server("127.0.0.1", 0, make_wsgi_app(registry), handler_class=Quiet)
threading.Thread(target=server.serve_forever, daemon=True).start()
CLASSIC, OPEN = "text/plain;version=0.0.4", "application/openmetrics-text;version=1.0.0"
for accept in (CLASSIC, f"{CLASSIC}, {OPEN};q=0.1", f"{CLASSIC}, {OPEN};q=0"):
    asked = urllib.request.Request(f"http://127.0.0.1:{server.server_port}/metrics", headers={"Accept": accept})
    with urllib.request.urlopen(asked) as answer:
        print(f"{version('prometheus-client')} {accept} -> {answer.headers.get_content_type()}")
server.shutdown()
PY
"$folder/env/bin/python" "$folder/look.py" | tee "$folder/seen"
diff "$folder/seen" <(sed -n 's/^# *\(0\.26\.0 .*\)$/\1/p' "$0") && echo "as described"
