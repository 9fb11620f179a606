"""What labels and images may look like, wherever they are written: in a configuration, an application or a message."""

from __future__ import annotations

import re
from typing import Final

MAX_LABELS: Final = 32  # that its owner gives a peer; as many traits, and components that it would run, and that run
NAME: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")  # of an application or a component: a DNS label
LABEL_KEY: Final = re.compile(r"[a-z0-9]([a-z0-9._/-]{0,61}[a-z0-9])?")
LABEL_VALUE: Final = re.compile(r"[A-Za-z0-9]?[A-Za-z0-9 ._-]{0,63}")
TRAIT: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
IMAGE: Final = re.compile(r"[a-z0-9][a-z0-9._:/-]{0,254}@sha256:[0-9a-f]{64}")
