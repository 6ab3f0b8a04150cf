"""The most that a file may hold, where files come from strangers: while bounds hold, whatever is opened keeps them.

What a file says of itself is held against them before a frame is decoded, and what it really holds while it is read.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """Of one video. ``ValueError`` for what is not positive."""

    pixels: int
    """Of a frame: width times height, as it is stored."""
    frames: int
    seconds: float
    """From the first frame to the last."""

    def __post_init__(self) -> None:
        for name in ("pixels", "frames", "seconds"):
            if not getattr(self, name) > 0:
                raise ValueError(f"the bound on {name} must be positive, not {getattr(self, name)}")


_current: ContextVar[Bounds | None] = ContextVar("bounds", default=None)


def current_bounds() -> Bounds | None:
    """Those that hold here; None: a file may hold what it likes."""
    return _current.get()


@contextmanager
def bounded(bounds: Bounds) -> Iterator[None]:
    """Bounds for the files that are opened within. Threads that start meanwhile do not have them."""
    token = _current.set(bounds)
    try:
        yield
    finally:
        _current.reset(token)
