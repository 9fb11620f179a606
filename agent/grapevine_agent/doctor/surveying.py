"""`python -m grapevine_agent.doctor.surveying`: looks through one source, as `grapevine data check` does.

The source comes as JSON on standard input; what is in it, or what is wrong with it, goes out as JSON. It is a process
of its own because what an owner's files hold may take it long, fill its memory, or end it.
"""

from __future__ import annotations

import json
import os
import sys

from grapevine_agent.data.bounds import be_first_to_go
from grapevine_agent.data.source import DataSource
from grapevine_agent.data.survey import survey
from grapevine_proto.errors import TaskError

NICENESS = 10


def main() -> int:
    """Answer once."""
    os.nice(NICENESS)
    be_first_to_go()
    try:
        found = survey(DataSource.from_json(sys.stdin.read()))
        told = {key: found[key] for key in ("samples", "bytes_on_disk", "newest_s")} | {"trouble": ""}
    except TaskError as error:
        told = {"trouble": str(error)}
    sys.stdout.write(json.dumps(told) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
