"""What a device's service imports does not import PyTorch: it takes seconds and 200 MB."""

from __future__ import annotations

import subprocess
import sys

MODULES = (
    "grapevine_proto.manifest_codec",
    "grapevine_tasks.checks",
    "grapevine_tasks.layout",
    "grapevine_tasks.weights",
    "grapevine_tasks.opset",
    "grapevine_tasks.built",
    "grapevine_tasks.catalogue",
    "grapevine_tasks.authoring.task_file",
    "grapevine_agent.data",
    "grapevine_agent.training.trainer",
    "grapevine_agent.training.worker",
)


def test_the_service_side_imports_no_torch() -> None:
    script = f"import {', '.join(MODULES)}, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
