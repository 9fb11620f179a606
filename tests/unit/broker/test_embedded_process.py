"""The process around the embedded broker."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("amqtt", reason="the embedded broker is the extra grapevine[broker]")

ROOM = """
import resource, sys
soft, hard = int(sys.argv[1]), int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
from grapevine_broker.embedded_process import room_for
from grapevine_broker.limits import Limits
limits = room_for(Limits(max_connections=300))
print(limits.max_connections, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


@pytest.mark.parametrize(
    ("soft", "hard", "num_connections", "num_files"),
    [(500, 500, 300, 500), (200, 500, 300, 364), (200, 200, 136, 200), (40, 60, 1, 60)],
)
def test_there_are_descriptors_for_all_connections_or_fewer_connections(
    soft: int, hard: int, num_connections: int, num_files: int
) -> None:
    command = [sys.executable, "-c", ROOM, str(soft), str(hard)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout.split() == [str(num_connections), str(num_files)]
