"""`python -m peer_code.flower_fleet PLAN`: federated averaging by Flower's SuperLink and SuperNodes, each a process.

The app is Flower's usual folder, handed to the SuperLink by `flwr run`. As Flower has it, each task of it is a process
that imports everything anew: the server's once, each client's once a round.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from .crew import LISTEN_VARIABLE, MEET_VARIABLE, end_with_parent, ports, started, wait_for
from .learner import TOLD_VARIABLE, Harness, read_plan

BIN = Path(sys.executable).parent
APP = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "benchmark"
version = "1.0.0"
dependencies = []

[tool.flwr.app]
publisher = "benchmark"

[tool.flwr.app.components]
serverapp = "{package}.flower_server:app"
clientapp = "{package}.flower_client:app"

[tool.flwr.app.config]
plan = "{plan}"
"""
HOME = """\
[superlink]
default = "here"

[superlink.here]
address = "127.0.0.1:{port}"
insecure = true
"""


def main(path: str) -> None:
    """Run the plan at `path`."""
    end_with_parent()
    harness, plan = Harness(), read_plan(path)
    listen, meet, runtime = ports(LISTEN_VARIABLE)[0], ports(MEET_VARIABLE)[0], ports(LISTEN_VARIABLE)[1:]
    told = Path("told.jsonl").absolute()
    told.touch()
    os.environ.update({"FLWR_HOME": str(Path("home").absolute()), TOLD_VARIABLE: str(told)})
    os.environ["PATH"] = f"{BIN}{os.pathsep}{os.environ['PATH']}"  # Flower starts its own commands by name
    app = _write_app(path, listen)
    superlink = ["flower-superlink", "--insecure", "--port", str(listen), "--disable-runtime-dependency-installation"]
    with started([superlink]):
        wait_for(listen)
        commands = [_supernode(number, plan.num_nodes, meet, runtime[number]) for number in range(plan.num_nodes)]
        with started(commands) as nodes:
            harness.nodes([node.pid for node in nodes])
            run = ["flwr", "run", str(app), "here"]
            subprocess.run(run, check=True, stdout=sys.stderr, stdin=subprocess.DEVNULL)
            harness.follow(told, going_on=lambda: all(node.poll() is None for node in nodes))


def _supernode(number: int, num_nodes: int, superlink: int, runtime: int) -> list[str]:
    return [
        "flower-supernode", "--insecure", "--superlink", f"127.0.0.1:{superlink}", "--port", str(runtime),
        "--node-config", f"partition-id={number} num-partitions={num_nodes}",
    ]  # fmt: skip


def _write_app(plan: str, port: int) -> Path:
    """Flower's folder of an app: these modules are on the import path already, so it names them alone."""
    app, home = Path("app").absolute(), Path("home").absolute()
    package = app / "benchmark"
    for folder in (package, home):
        folder.mkdir(parents=True)
    (package / "__init__.py").touch()
    (app / "pyproject.toml").write_text(APP.format(package=__package__, plan=plan), encoding="utf-8")
    (home / "config.toml").write_text(HOME.format(port=port), encoding="utf-8")
    return app


if __name__ == "__main__":
    main(sys.argv[1])
