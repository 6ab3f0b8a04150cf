"""Turns Ctrl-C and SIGTERM into a request to stop after the current step."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class TrainingInterrupted(KeyboardInterrupt):
    """A run that was stopped by a signal, after it was saved."""


class Stop:
    """A request to stop by a signal. A second Ctrl-C stops at once.

    ``patient``: a launcher passes on the signals that its processes get from the terminal as well, so that a second one
    within seconds is the same request.
    """

    PATIENCE = 5.0

    def __init__(self, *, patient: bool = False) -> None:
        self._number: int | None = None
        self._since = 0.0
        self._patient = patient

    @property
    def by_key(self) -> bool:
        return self._number == signal.SIGINT

    @property
    def by_scheduler(self) -> bool:
        return self._number == signal.SIGTERM

    @contextmanager
    def listening(self) -> Iterator[None]:
        before: dict[int, Callable[..., Any] | int | None] = {}
        try:
            for number in (signal.SIGINT, signal.SIGTERM):
                before[number] = signal.signal(number, self._ask)
        except ValueError:  # not the main thread: whoever started it looks after signals
            before = {}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _ask(self, number: int, _: Any) -> None:
        if self._number is None:
            self._number, self._since = number, time.monotonic()
        elif not self._patient or time.monotonic() - self._since > self.PATIENCE:
            raise KeyboardInterrupt
