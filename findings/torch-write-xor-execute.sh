#!/usr/bin/env bash
# Where memory may not be made executable, matrices multiply and convolutions raise.
#
# Library:    torch 2.13.0 for the CPU (x86-64), with the oneDNN that it brings; Linux 6.3 or later.
# Input:      the kernel's PR_SET_MDWE, which is what a systemd unit with MemoryDenyWriteExecute=yes asks for on such
#             kernels; then a product of two matrices and a convolution of 3 × 3, forward only.
# Behaviour:  oneDNN writes the code of a convolution when it first needs it, and says neither that this was refused nor
#             by whom. There is no way back to a kernel that needs no code: whoever calls has to turn oneDNN off.
# Output seen:
#             2.13.0 matrices: fine
#             2.13.0 convolution: RuntimeError: could not create a primitive
#             2.13.0 convolution, oneDNN off: fine
# A service that trains small dense networks passes all its tests in a hardened unit, and fails with the first image.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet torch==2.13.0 numpy 2>/dev/null
cat > "$folder/look.py" <<'PY'
import ctypes

import torch

PR_SET_MDWE, REFUSE_EXEC_GAIN = 65, 1
assert ctypes.CDLL(None).prctl(PR_SET_MDWE, REFUSE_EXEC_GAIN, 0, 0, 0) == 0, "this kernel has no PR_SET_MDWE"


def told(what, work):
    try:
        work()
        found = "fine"
    except RuntimeError as error:
        found = f"RuntimeError: {str(error).splitlines()[0]}"
    print(f"{torch.__version__.split('+')[0]} {what}: {found}")


convolution, images = torch.nn.Conv2d(3, 8, 3), torch.zeros(4, 3, 16, 16)
with torch.no_grad():
    told("matrices", lambda: torch.zeros(64, 64) @ torch.zeros(64, 64))
    told("convolution", lambda: convolution(images))
    torch.backends.mkldnn.set_flags(False)
    told("convolution, oneDNN off", lambda: convolution(images))
PY
"$folder/env/bin/python" "$folder/look.py" | tee "$folder/seen"
diff "$folder/seen" <(sed -n 's/^# *\(2\.13\.0 [a-z].*\)$/\1/p' "$0") && echo "as described"
