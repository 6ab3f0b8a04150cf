"""How verbs show that work goes on: a bar on a terminal, a plain line every tenth of the way elsewhere; tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


class Progress:
    """A context manager. ``what`` names the work and ``unit`` what is counted; ``quiet`` shows nothing."""

    def __init__(self, what: str, unit: str, *, quiet: bool = False) -> None:
        self._what, self._unit, self._quiet = what, unit, quiet
        self._tenths = 0

    def __enter__(self) -> Progress:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        console = Console()
        self._bar = None
        if console.is_terminal and not self._quiet:
            columns = (TextColumn(self._what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self._bar = Bar(*columns, console=console)
            self._bar.start()
            self._task = self._bar.add_task(self._what, total=None)
        return self

    def __exit__(self, *raised: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, done: int, total: int) -> None:
        """Shows that ``done`` of ``total`` are finished."""
        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=total)
        elif not self._quiet and done * 10 // total > self._tenths:
            print(f"{done} of {total} {self._unit}", flush=True)
        self._tenths = done * 10 // total

    def percent(self, *, most: int = 100) -> Callable[[float, float | None], None]:
        """Returns a `show` that counts percent, ``most`` of them at most; of an unknown total it shows nothing."""
        return lambda done, total: self.show(min(most, round(100 * done / total)), 100) if total else None

    def say(self, line: str) -> None:
        """Prints a line that stays."""
        if self._quiet:
            return
        if self._bar is not None:
            self._bar.console.print(line, markup=False, highlight=False, soft_wrap=True)
        else:
            print(line, flush=True)

    @contextmanager
    def goes_on(self, where: str) -> Iterator[None]:
        """Says, where Ctrl-C stops the work within, that the same command goes on, and from ``where``."""
        try:
            yield
        except KeyboardInterrupt:
            self.say(f"stopped; the same command goes on {where}")
            raise


def table_console(width: int = 120) -> Console:
    """Returns a console to print tables to. Where nobody's terminal sets the width, no cell is broken."""
    from rich.console import Console

    console = Console()
    return console if console.is_terminal else Console(width=width)
