"""Lets a method name, in one line above it, what computes the same in another way, and when that is used."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from torch import Tensor

Method = Callable[[Any, Tensor], Tensor]


def computed_by(run: Method, *, when: Callable[[Any, Tensor], bool]) -> Callable[[Method], Method]:
    """Decorates a method of a module: where ``when(module, x)`` holds, ``run(module, x)`` is called in its place."""

    def decorate(method: Method) -> Method:
        @wraps(method)
        def dispatched(module: Any, x: Tensor) -> Tensor:
            return run(module, x) if when(module, x) else method(module, x)

        return dispatched

    return decorate
