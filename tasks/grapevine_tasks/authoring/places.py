"""Where in the engineer's own file something is: errors name the line that must change."""

from __future__ import annotations

import inspect
import re
import sys
import sysconfig
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import fx, nn
from torch.nn.modules import module as nn_module

_TORCH = str(Path(torch.__file__).parent)
_PYTHON = str(Path(sysconfig.get_path("stdlib")).resolve())
_LINE = re.compile(r'File "([^"]+)", line (\d+)')


class Origins:
    """Where the layers of a module were made: the lines that say what a layer within `nn.Sequential` is."""

    def __init__(self) -> None:
        self._places: WeakKeyDictionary[nn.Module, str] = WeakKeyDictionary()
        self._own: WeakKeyDictionary[nn.Module, dict[str, str]] = WeakKeyDictionary()  # of parameters and buffers
        self.build = ""  # the line where build() begins

    def begin_at(self, build: object) -> None:
        """Note the function that made the module."""
        self.build = place_of_function(build)

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Within, note where each layer, parameter and buffer is put into its module."""
        handles = [
            nn_module.register_module_module_registration_hook(self._layer),
            nn_module.register_module_parameter_registration_hook(self._tensor),
            nn_module.register_module_buffer_registration_hook(self._tensor),
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _layer(self, _module: nn.Module, _name: str, layer: nn.Module | None) -> None:
        if layer is not None and (place := line_now()):
            self._places.setdefault(layer, place)

    def _tensor(self, module: nn.Module, name: str, _tensor: object) -> None:
        if place := line_now():
            self._own.setdefault(module, {})[name] = place

    def place(self, module: nn.Module, path: str) -> str:
        """`model.py, line 12: `, of a layer, parameter or buffer by its dotted name; empty if nothing is known."""
        *layers, last = path.split(".")
        at: nn.Module | None = module
        found = ""
        for name in layers:
            at = at._modules.get(name) if at is not None else None
            found = (self._places.get(at) or found) if at is not None else found
        if at is None:
            return found
        layer = at._modules.get(last)
        if layer is not None:
            return self._places.get(layer) or found
        return self._own.get(at, {}).get(last) or found


def layer_of(node: fx.Node) -> str:
    """The dotted name of the innermost layer that made a node; empty if nothing is known."""
    stack = node.meta.get("nn_module_stack") or {}
    return next((str(path) for path, _ in reversed(list(stack.values()))), "")


def place_of(node: fx.Node) -> str:
    """`model.py, line 17: `, of the innermost line outside PyTorch that made a node; empty if nothing is known."""
    return place_in_text(node.stack_trace or "")


def place_in_text(text: str) -> str:
    """The same of a traceback that was printed."""
    return _place([(path, int(line)) for path, line in _LINE.findall(text)])


def place_in_traceback(error: BaseException) -> str:
    """The same of an exception."""
    return _place([(frame.filename, frame.lineno or 0) for frame in traceback.extract_tb(error.__traceback__)])


@cache
def is_own(path: str) -> bool:
    """Whether a file is the engineer's: no package's, neither Python's nor ours, nor made up while exporting."""
    own = Path(path).resolve()
    packages = {"grapevine_tasks", "site-packages", "dist-packages"}
    return own.is_file() and not str(own).startswith((_TORCH, _PYTHON)) and packages.isdisjoint(own.parts)


def place_in(path: str, line: int) -> str:
    """`model.py, line 17: ` of a file of the engineer's."""
    return f"{Path(path).resolve().name}, line {line}: "


def place_of_function(function: Any) -> str:
    """The same of a function; empty if it is none of the engineer's."""
    code = getattr(inspect.unwrap(function), "__code__", None) if callable(function) else None
    return place_in(code.co_filename, code.co_firstlineno) if code and is_own(code.co_filename) else ""


def line_now() -> str:
    """The line of the engineer's that runs now."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if is_own(frame.f_code.co_filename):
            return place_in(frame.f_code.co_filename, frame.f_lineno)
        frame = frame.f_back
    return ""


def _place(lines: list[tuple[str, int]]) -> str:
    """The innermost line of a model."""
    return next((place_in(path, line) for path, line in reversed(lines) if is_own(path)), "")
