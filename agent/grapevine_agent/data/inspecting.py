"""`python -m grapevine_agent.data.inspecting CONTROL_FD PARENT_PID MEMORY_MB`: looks at sources for the service.

What reads CSV, Parquet and images is large, and what an owner's files hold may make it larger, slow, or end it. So it
is done here, by request: a line of JSON in, a line of JSON out (`inspection.Inspection`). The process is less important
than anything else on the device, grows by `MEMORY_MB` at most, and ends with whoever asks, or with the socket.
"""

from __future__ import annotations

import base64
import json
import os
import resource
import socket
import sys

from grapevine_agent.data.bounds import GIVEN_BACK, MIB, allowed, be_first_to_go, die_with, give_memory_back, status
from grapevine_agent.data.formats import prepare_to_load
from grapevine_agent.data.inspection import Inspection, inspect
from grapevine_agent.data.source import DataSource
from grapevine_proto.errors import GrapevineError
from grapevine_proto.manifest import DataContract
from grapevine_proto.manifest_codec import decode_contract, encode_contract

NICENESS = 10


def request_line(source: DataSource, contract: DataContract) -> bytes:
    """What is asked of this process."""
    request = {"source": source.to_json(), "contract": base64.b64encode(encode_contract(contract)).decode()}
    return json.dumps(request).encode() + b"\n"


def main(arguments: list[str]) -> int:
    """Answer until the socket closes."""
    control_fd, parent, memory_mb = map(int, arguments)
    die_with(parent)
    os.nice(NICENESS)
    be_first_to_go()
    give_memory_back(at_least=GIVEN_BACK)
    with socket.socket(fileno=control_fd) as control:
        for line in control.makefile("rb"):
            control.sendall(_answer(line, memory_mb).to_json().encode() + b"\n")
    return 0


def _answer(line: bytes, memory_mb: int) -> Inspection:
    request = json.loads(line)
    source = DataSource.from_json(request["source"])
    try:
        contract = decode_contract(base64.b64decode(request["contract"]))
        prepare_to_load(source)  # its libraries map much that they never fill: they are not counted
        limit = allowed(resource.RLIMIT_DATA, status("VmData") + memory_mb * MIB)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, resource.getrlimit(resource.RLIMIT_DATA)[1]))
    except GrapevineError as error:
        return Inspection(trouble=str(error))
    return inspect(source, contract)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
