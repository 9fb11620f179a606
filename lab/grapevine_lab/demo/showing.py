"""The demo's dashboard, in a process of its own: it prints where it is, and ends with the demo.

python -m grapevine_lab.demo.showing FOLDER PORT
"""

from __future__ import annotations

import glob
import sys
from pathlib import Path
from typing import Final

from grapevine_agent.control.protocol import SOCKET_FILE
from grapevine_agent.dashboard.serving import serve
from grapevine_agent.dashboard.sources import Sources
from grapevine_lab.demo.cast import reviewer_names
from grapevine_proto.errors import GrapevineError

ROLES: Final = {"engineer": "engineer", "server": "server"} | dict.fromkeys(reviewer_names(), "reviewer")


def main(folder: Path, port: int) -> int:
    """Show everybody whose folder is below the demo's; the exit status."""
    pattern = str(Path(glob.escape(str(folder))) / "*" / "state" / SOCKET_FILE)
    try:
        serve(Sources(kind="demo", name="demo", sockets=(pattern,), roles=ROLES), port=port, say=_say)
    except GrapevineError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2])))
