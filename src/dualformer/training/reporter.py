"""The progress of a run: lines on the terminal, and the epochs in ``metrics.jsonl``."""

import json
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TextIO

from dualformer.files import write_text
from dualformer.text_encoding import printable

METRICS = "metrics.jsonl"


class Reporter:
    """Prints a run. On a terminal a line is rewritten as batches go by; elsewhere one is printed every ten seconds."""

    EVERY_SECONDS = 10.0

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = stream or sys.stdout
        self._live = self.stream.isatty()
        self._last = 0.0
        self._open_line = False

    def log(self, line: str) -> None:
        """Prints a line of its own."""
        if self._open_line:
            print(file=self.stream)
            self._open_line = False
        print(printable(line, self.stream), file=self.stream, flush=True)

    def progress(self, line: str, *, last: bool = False) -> None:
        """Prints a line that the next one replaces; ``last`` leaves it standing."""
        now, line = time.monotonic(), printable(line, self.stream)
        if self._live:
            print(f"\r\x1b[2K{line}", end="\n" if last else "", file=self.stream, flush=True)
            self._open_line = not last
        elif last or now - self._last >= self.EVERY_SECONDS:
            self._last = now
            print(line, file=self.stream, flush=True)


class SilentReporter(Reporter):
    """Prints nothing."""

    def log(self, line: str) -> None:
        pass

    def progress(self, line: str, *, last: bool = False) -> None:
        pass


def clock(seconds: float) -> str:
    """Returns a time as 1:05 or 2:01:05."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """Reads the epochs of a run from its folder, oldest first."""
    path = folder / METRICS
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]


def write_metrics(folder: Path, epochs: Iterable[dict[str, Any]]) -> None:
    """Writes the epochs of a run into its folder."""
    write_text(folder / METRICS, "".join(json.dumps(epoch) + "\n" for epoch in epochs))
