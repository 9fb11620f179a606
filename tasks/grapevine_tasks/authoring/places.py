"""Where in the engineer's own file something is: errors name the line that must change."""

from __future__ import annotations

import re
import traceback
from pathlib import Path

import torch
from torch import fx

_TORCH = str(Path(torch.__file__).parent)
_LINE = re.compile(r'File "([^"]+)", line (\d+)')


def place_of(node: fx.Node) -> str:
    """`model.py, line 17: `, of the innermost line outside PyTorch that made a node; empty if nothing is known."""
    found = _LINE.findall(node.stack_trace or "")
    return _place([(path, int(line)) for path, line in found])


def place_in_traceback(error: BaseException) -> str:
    """The same of an exception."""
    return _place([(frame.filename, frame.lineno or 0) for frame in traceback.extract_tb(error.__traceback__)])


def _place(lines: list[tuple[str, int]]) -> str:
    """The innermost line of a model: neither PyTorch's, nor ours, nor made up while exporting."""
    for path, line in reversed(lines):
        own = str(Path(path).resolve())
        if Path(own).is_file() and not own.startswith(_TORCH) and "grapevine_tasks" not in Path(own).parts:
            return f"{Path(own).name}, line {line}: "
    return ""
