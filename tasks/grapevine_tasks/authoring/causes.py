"""Why a program is not its module: the line that does what no program can, and what to write there.

What `torch.export` drops without a word is found by running the module once more and watching: functions with a
`backward` of their own in the graph that autograd makes, hooks where they are set, attributes and generators of
Python's line by line.
"""

from __future__ import annotations

import random
import sys
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from grapevine_proto.errors import TaskError
from grapevine_tasks.authoring.comparison import Difference
from grapevine_tasks.authoring.places import Origins, is_own, line_now, place_in, place_in_text, place_of_function
from grapevine_tasks.authoring.probes import Stage
from grapevine_tasks.authoring.sides import Kind, python_draws

_TENSOR_HOOKS = (Tensor.register_hook, Tensor.register_post_accumulate_grad_hook)
_TELLING: tuple[Kind, ...] = ("buffer", "output", "gradient")  # what says most of why it is so, first
_WAYS_BACK = (
    "write it with operators and detach(), such as x + (f(x) - x).detach(), which is f(x) with the gradient of x, "
    "or (1 + s) * x.detach() - s * x, which is x with its gradient times −s"
)


def refused(module: nn.Module, found: list[Difference], origins: Origins) -> TaskError:
    """The error for a program that is not its module. Runs the module: see `put_back`."""
    what = _words(found)
    place, cause, remedy = _cause(module, found, origins)
    return TaskError(f"{place}the program would not be the module: {what}. {cause}{remedy}")


class Watched:
    """What a module does beside what is compared: a reason to doubt that it is the program on other samples, or later.

    Args:
        module: It is run within `running`.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._before = _kept_in_python(module)
        self._functions: dict[type, str] = {}  # autograd functions of somebody's own, and where they are written

    @contextmanager
    def running(self) -> Iterator[None]:
        """Within, look at what comes out of the module."""
        handle = self._module.register_forward_hook(self._look)
        try:
            yield
        finally:
            handle.remove()

    def _look(self, _module: nn.Module, _inputs: Any, output: Any) -> None:
        for node, _ in _recorded(output) if isinstance(output, Tensor) else ():
            function = getattr(type(node), "_forward_cls", None)
            if function is not None and not str(function.__module__).startswith("torch."):
                self._functions.setdefault(function, place_of_function(function.backward))

    def doubts(self) -> tuple[str, ...]:
        """A line each."""
        now = _kept_in_python(self._module)
        changed = [place for place, value in now.items() if self._before.get(place, value) != value]
        layers = dict(self._module.named_modules())
        told = [
            f"{place_of_function(layers[path].forward)}the attribute {f'{path}.{name}'.lstrip('.')!r} changes while "
            "the module runs, and a program has it as it was: in the calls that were compared it made no difference; "
            "if it ever does, keep it in a float32 buffer"
            for path, name in changed
        ]
        told += [
            f"{place}{function.__name__} has a backward() of its own, which a program does not have: on the samples "
            "that were tried the gradients are the same; if they are others elsewhere, write it with operators and "
            "detach()"
            for function, place in self._functions.items()
        ]
        return tuple(told)


def _kept_in_python(module: nn.Module) -> dict[tuple[str, str], Any]:
    """The numbers and texts that layers keep as attributes, also in lists, by layer and name."""
    return {
        (path, name): _plain(value)
        for path, layer in module.named_modules()
        for name, value in layer.__dict__.items()
        if name != "training" and isinstance(value, _PLAIN | list | dict | set | deque) and name[:1] != "_"
    }


_PLAIN: Final = bool | int | float | str | None


def _plain(value: Any, depth: int = 3) -> Any:
    """What can be compared: numbers and texts as they are, of other things what they are."""
    if isinstance(value, _PLAIN):
        return repr(value)
    if depth and isinstance(value, dict):
        return tuple((repr(key), _plain(each, depth - 1)) for key, each in value.items())
    if depth and isinstance(value, list | tuple | deque):
        return tuple(_plain(each, depth - 1) for each in value)
    return len(value) if isinstance(value, set) else type(value)


def hooks_on_parameters(module: nn.Module, origins: Origins) -> TaskError | None:
    """The error for a parameter whose gradient a hook takes; None if there is no such hook."""
    for name, parameter in module.named_parameters():
        if parameter._backward_hooks or getattr(parameter, "_post_accumulate_grad_hooks", None):
            return TaskError(
                f"{origins.place(module, name)}the parameter {name!r} has a hook on its gradient, which a program "
                "cannot hold: remove it; gradients are shortened by training.max_gradient_norm, and parameters that "
                "are not to be trained have requires_grad_(False)"
            )
    return None


def drawn_elsewhere(module: nn.Module, stage: Stage) -> TaskError:
    """The error for a module that draws numbers by Python, NumPy or a clock. Runs it: see `put_back`."""
    run = _running(module, stage)
    if kept := _kept_elsewhere(module, run):
        place, cause, remedy = kept
        return TaskError(f"{place}{cause}{remedy}")

    def observe() -> tuple[Any, ...]:
        own = [value for layer in module.modules() for value in layer.__dict__.values()]
        numpy = [repr(each.bit_generator.state) for each in own if isinstance(each, np.random.Generator)]
        return python_draws(), numpy, [each.getstate() for each in own if isinstance(each, random.Random)]

    place = _line_that_changes(run, observe) or ""
    return TaskError(
        f"{place}the module draws numbers that are not PyTorch's, or gives others each time for another reason, and a "
        "program would have the same for ever: draw with torch.rand_like, torch.randn_like or torch.bernoulli, or use "
        "nn.Dropout"
    )


def _running(module: nn.Module, stage: Stage) -> Callable[[], Any]:
    module.train(stage.form == "train")

    def run() -> Any:
        with torch.set_grad_enabled(bool(stage.gradient)):
            return module(stage.x)

    return run


def _words(found: list[Difference]) -> str:
    """What differs, and by how much."""
    telling = min((difference.kind for difference in found), key=_TELLING.index)
    first = max((d for d in found if d.kind == telling), key=lambda d: d.by / (d.largest or 1.0))
    when = "in training" if first.form == "train" else "in evaluation"
    if not first.stage.gradient:
        when += " without gradients"
    match first.kind:
        case "output":
            return f"its output {when} differs by {first.by:.2g} from the module's, which is up to {first.largest:.2g}"
        case "buffer":
            return f"after a step the buffer {first.name!r} differs by {first.by:.2g} from the module's"
        case "gradient":
            others = f" and {len(found) - 1} more" if len(found) > 1 else ""
            size = first.stage.gradient
            return (
                f"the gradient of {first.name!r}{others} is up to {first.has / size:.2g} and the module's own "
                f"{first.largest / size:.2g}"
            )


def _cause(module: nn.Module, found: list[Difference], origins: Origins) -> tuple[str, str, str]:
    """The place, the cause and the remedy, as far as they are known."""
    run = _running(module, found[0].stage)
    for search in (_kept_elsewhere, _own_backward, _hook):
        if cause := search(module, run):
            return cause
    changed = [difference.name for difference in found if difference.kind == "buffer"]
    names = changed or [difference.name for difference in found if difference.name]
    place = next((at for name in names if (at := origins.place(module, name))), "")
    if changed:
        return place, "", f"Change it in forward() in place, such as self.{changed[0]}.mul_(0.9)"
    if not found[0].stage.gradient:
        return place, "", "Let forward() compute the same whether gradients are on (torch.is_grad_enabled) or not"
    return place, "", "Write what happens there with PyTorch's operators, and what is to have no gradient with detach()"


def _own_backward(_module: nn.Module, run: Callable[[], Any]) -> tuple[str, str, str] | None:
    with _traced_back():
        output = run()
    for node, place in _recorded(output):
        if isinstance(node, torch.autograd.function.BackwardCFunction):
            name = type(node).__name__.removesuffix("Backward")
            if name == "CheckpointFunction":
                return place, "checkpoint() with use_reentrant=True hides its gradients: ", "write use_reentrant=False"
            if name == "BackwardHookFunction":
                return place, "A hook changes the gradients of a layer, which a program cannot hold: ", _WAYS_BACK
            return place, f"{name} has a backward() of its own, which a program cannot hold: ", _WAYS_BACK
    return None


def _recorded(output: Tensor) -> Iterator[tuple[Any, str]]:
    """The nodes of the graph that autograd made, from the output backwards, with the lines that made them."""
    pending: list[Any] = [output.grad_fn]  # torch's stubs say that its metadata is a method
    seen: set[Any] = set()
    while pending:
        node = pending.pop()
        if node is not None and node not in seen:
            seen.add(node)
            pending.extend(source for source, _ in node.next_functions)
            yield node, place_in_text("".join(node.metadata.get("traceback_", ())))


def _hook(_module: nn.Module, run: Callable[[], Any]) -> tuple[str, str, str] | None:
    with _HooksNoted() as noted:
        run()
    if noted.place:
        return noted.place, "A hook changes the gradient of a tensor, which a program cannot hold: ", _WAYS_BACK
    return None


class _HooksNoted(TorchFunctionMode):
    """Notes the line where a hook is set on a tensor's gradient."""

    place = ""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _TENSOR_HOOKS and not self.place:
            self.place = line_now()
        return func(*args, **(kwargs or {}))


def _kept_elsewhere(module: nn.Module, run: Callable[[], Any]) -> tuple[str, str, str] | None:
    def observe() -> dict[tuple[str, str], Any]:
        return {
            (path, name): value
            for path, layer in module.named_modules()
            for name, value in layer.__dict__.items()
            if isinstance(value, int | float | str) and name != "training"
        }

    before = dict(observe())
    place = _line_that_changes(run, observe)
    if place is None:
        return None
    after = observe().items()
    changed = next((f"{path}.{name}".lstrip(".") for (path, name), now in after if before.get((path, name)) != now), "")
    cause = f"forward() changes the attribute {changed!r}, and a program would have it as it was for ever: "
    return place, cause, "keep it in a float32 buffer (register_buffer) and change that"


def _line_that_changes(run: Callable[[], Any], observe: Callable[[], Any]) -> str | None:
    """The engineer's line in which something changes; None if nothing does, "" if no line of theirs does it."""
    before = now = observe()
    place = ""
    lines: dict[FrameType, int] = {}

    def local(frame: FrameType, _event: str, _argument: object) -> Any:
        nonlocal now, place
        if not place and frame in lines and (seen := observe()) != now:
            now, place = seen, place_in(frame.f_code.co_filename, lines[frame])
        lines[frame] = frame.f_lineno
        return local

    def begin(frame: FrameType, _event: str, _argument: object) -> Any:
        return local if is_own(frame.f_code.co_filename) else None

    outer = sys.gettrace()
    sys.settrace(begin)
    try:
        run()
    finally:
        sys.settrace(outer)
    return place if place or observe() != before else None


@contextmanager
def _traced_back() -> Iterator[None]:
    """Within, autograd notes the line that made each of its nodes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that this is slow
        with torch.autograd.set_detect_anomaly(True, check_nan=False):
            yield
