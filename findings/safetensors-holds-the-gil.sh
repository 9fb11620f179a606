#!/usr/bin/env bash
# While a file of weights is loaded, no other thread runs; while NumPy loads the same weights, all do.
#
# Library:    safetensors 0.8.0 with numpy 2.4.6, Python 3.11, Linux x86-64.
# Input:      one float32 tensor of 200 MB, written with each library and loaded in the main thread, while another thread
#             wakes up each millisecond and notes how late it is.
# Behaviour:  `safetensors.numpy.load_file` and `save` copy all bytes without letting go of the interpreter's lock, and
#             `save_file` does not; `numpy.load` lets go while it reads.
# Output seen (the longest that the other thread had to wait; the whole call took about as long):
#             0.8.0 load_file: 0.46 s
#             0.8.0 numpy.load: 0.01 s
#             0.8.0 save: 0.42 s
#             0.8.0 save_file: 0.02 s
#             0.8.0 load_file holds the lock: True; numpy.load: False; save: True; save_file: False
# To load a model in a thread, so that an event loop goes on meanwhile, does not help: a keep-alive or a watchdog waits.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet safetensors==0.8.0 numpy==2.4.6
cat > "$folder/look.py" <<'PY'
import sys
import threading
import time
from pathlib import Path

import numpy as np
import safetensors
from safetensors.numpy import load_file, save, save_file

folder = Path(sys.argv[1])
weights = {"w": np.zeros(50_000_000, np.float32)}


def late_s(work):
    done, worst_s = threading.Event(), 0.0

    def tick():
        nonlocal worst_s
        last_s = time.monotonic()
        while not done.is_set():
            time.sleep(0.001)
            now_s = time.monotonic()
            worst_s, last_s = max(worst_s, now_s - last_s), now_s

    ticking = threading.Thread(target=tick)
    ticking.start()
    began_s = time.monotonic()
    work()
    took_s = time.monotonic() - began_s
    done.set()
    ticking.join()
    return worst_s, worst_s / took_s


np.save(folder / "w.npy", weights["w"])
save_file(weights, folder / "w.safetensors")
holds = []
for name, work in (
    ("load_file", lambda: load_file(folder / "w.safetensors")),
    ("numpy.load", lambda: np.load(folder / "w.npy")),
    ("save", lambda: save(weights)),
    ("save_file", lambda: save_file(weights, folder / "x.safetensors")),
):
    found = sorted(late_s(work) for _ in range(5))[2]
    print(f"{safetensors.__version__} {name}: {found[0]:.2f} s")
    holds.append(f"{name}: {found[1] > 0.3}")
first = holds[0].replace(":", " holds the lock:")
print(f"{safetensors.__version__} {'; '.join([first, *holds[1:]])}")
PY
"$folder/env/bin/python" "$folder/look.py" "$folder" | tee "$folder/seen"
diff <(tail -1 "$folder/seen") <(sed -n 's/^# *\(0\.8\.0 load_file holds.*\)$/\1/p' "$0") && echo "as described"
