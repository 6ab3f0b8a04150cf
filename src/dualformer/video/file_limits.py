"""Limits on what a file may hold, for files that come from strangers.

What a file's header says is checked against them before a frame is decoded, and what it really holds while it is read.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class FileLimits:
    """The most that one video may hold. Raises ``ValueError`` for what is not positive."""

    pixels: int
    """Width times height of a frame, as it is stored."""
    frames: int
    seconds: float
    """From the first frame to the last."""

    def __post_init__(self) -> None:
        for name in ("pixels", "frames", "seconds"):
            if not getattr(self, name) > 0:
                raise ValueError(f"the bound on {name} must be positive, not {getattr(self, name)}")


_current: ContextVar[FileLimits | None] = ContextVar("file_limits", default=None)


def current_limits() -> FileLimits | None:
    """Returns the limits that hold here; None: there are none."""
    return _current.get()


@contextmanager
def limit_files(limits: FileLimits) -> Iterator[None]:
    """Sets the limits for files that are opened within. Threads that start meanwhile do not have them."""
    token = _current.set(limits)
    try:
        yield
    finally:
        _current.reset(token)
