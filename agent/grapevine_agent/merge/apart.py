"""Arithmetic over whole models, apart from the state around it.

What takes long in the core is arithmetic over vectors that nobody modifies. While it goes on, the core's state stands
still and is whole enough to be looked at. The core marks such places:

    with apart():
        merged = strategy.merge(local=…, received=…, context=…)

and a shell that runs the core beside something else may let that look at it there (the service's `turns`). Where
nobody has asked for it, which is everywhere else, `apart` does nothing. Inside there is no state of the core's to be
read or changed, but for a generator of random numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import TypeAlias

Aside: TypeAlias = Callable[[], AbstractContextManager[object]]

_aside: ContextVar[Aside] = ContextVar("aside", default=nullcontext)


def apart() -> AbstractContextManager[object]:
    """A block of arithmetic: see the module's docstring."""
    return _aside.get()()


@contextmanager
def told_apart(aside: Aside) -> Iterator[None]:
    """In this block, on this thread, `aside` is what happens around each block of arithmetic."""
    token = _aside.set(aside)
    try:
        yield
    finally:
        _aside.reset(token)
