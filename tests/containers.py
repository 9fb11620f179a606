"""An engine in Docker's place, whose containers are files: the agent's side of it is real, and each call a process."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

IMAGE = f"example.org/viewer@sha256:{'ab' * 32}"
# A container is a file: created.NAME, and running.NAME beside it. `slow`: an image has to come first, and does though
# the command is gone. `hangs`: no answer. `refuses`: a port is taken.
_COMMAND = """\
#!/bin/sh
cd "{folder}"
echo "$@" >> calls
[ -e hangs ] && exec sleep 60
case $1 in
  create)
    while [ "$1" != --name ]; do shift; done
    if [ -e slow ]; then
      (sleep 0.5; touch "created.$2") > /dev/null 2>&1 &
      exec sleep 60
    fi
    touch "created.$2" ;;
  run) while [ "$1" != --name ]; do shift; done; (sleep 0.5; touch "running.$2") > /dev/null 2>&1 & exec sleep 60 ;;
  start) [ -e refuses ] && echo "port is already allocated" >&2 && exit 1; touch "running.$2" ;;
  ps) for f in created.*; do
        [ -e "$f" ] || continue
        name=${{f#created.}}
        [ -e "running.$name" ] && status=Up || status=Created
        case "$*" in *--quiet*) echo "$name" ;; *) printf '%s\\t%s\\n' "$name" "$status" ;; esac
      done ;;
  rm) shift; for n in "$@"; do rm -f "created.$n" "running.$n"; done ;;
esac
"""


@dataclass(frozen=True)
class FileEngine:
    """One in a folder of its own."""

    folder: Path

    @property
    def command(self) -> Path:
        """What to write into `[engine] command`."""
        return self.folder / "docker"

    def calls(self) -> list[str]:
        """What it was called with, a line for each."""
        path = self.folder / "calls"
        return path.read_text().splitlines() if path.exists() else []

    def created(self) -> list[str]:
        """The names of its containers."""
        return [path.name.removeprefix("created.") for path in self.folder.glob("created.*")]

    def running(self) -> list[str]:
        """Those of them that run."""
        return [path.name.removeprefix("running.") for path in self.folder.glob("running.*")]

    def does(self, what: str) -> None:
        """From now on it is `slow`, or it `hangs` or `refuses`."""
        (self.folder / what).touch()


def file_engine(folder: Path) -> FileEngine:
    """A new one; the folder is made if it is not there."""
    folder.mkdir(parents=True, exist_ok=True)
    made = FileEngine(folder)
    made.command.write_text(_COMMAND.format(folder=folder))
    made.command.chmod(0o755)
    return made
