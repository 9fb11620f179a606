"""torchvision's data sets, beside a PyTorch that it was not built for."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest


@pytest.mark.skipif(importlib.util.find_spec("torchvision") is None, reason="torchvision is not installed")
def test_data_sets_and_transforms_can_be_imported_whatever_torchvision_was_built_for() -> None:
    program = (
        "from grapevine_agent.data.torchvision_sets import torchvision_datasets\n"
        "assert torchvision_datasets() is torchvision_datasets()\n"
        "from torchvision import transforms\n"
        "print(torchvision_datasets().MNIST.__name__, transforms.ToTensor.__name__)\n"
    )
    run = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False)
    assert run.stdout == "MNIST ToTensor\n", run.stderr


def test_without_torchvision_the_remedy_is_told() -> None:
    program = (
        "import sys\n"
        "sys.modules['torchvision'] = None\n"  # as Python says that there is none
        "from grapevine_agent.data.torchvision_sets import torchvision_datasets\n"
        "torchvision_datasets()\n"
    )
    run = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False)
    assert "ConfigError: torchvision is not installed: " in run.stderr
    assert "install torch torchvision" in run.stderr
