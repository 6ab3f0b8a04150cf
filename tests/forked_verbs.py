"""``dualformer …`` in a process of its own that begins at once: it is forked from one that has PyTorch loaded.

For tests that stop, kill or race such processes. Loading PyTorch and the rest takes each new process longer than what
it is to do.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from subprocess import TimeoutExpired
from typing import Any

SERVED = multiprocessing.get_context("forkserver")
"""Begins processes by forking one that has loaded what follows."""
SERVED.set_forkserver_preload(["dualformer.cli.main", "dualformer.cli.train", "dualformer.paper.run_experiment"])


class ForkedVerb:
    """A process that runs a verb, with as much of `subprocess.Popen` as tests use. It draws no pictures of a training.

    ``call``: ``dualformer``'s words, with or without ``python -m dualformer`` in front of them. It leads a session of
    its own; ``stdout`` has the lines of both its streams. ``stdin``: the end of a pipe that it reads as its standard
    input, if any. A process that a test leaves behind is killed.
    """

    def __init__(self, call: Sequence[object], *, stdin: Connection | None = None) -> None:
        words = [str(word) for word in call]
        self._begin(_run_verb, words[3:] if words[:2] == [sys.executable, "-m"] else words, stdin)

    @classmethod
    def of(cls, function: Callable[..., object], *arguments: Any) -> ForkedVerb:
        """Runs a function of a module in place of a verb."""
        self = cls.__new__(cls)
        self._begin(_run_function, function, *arguments)
        return self

    def _begin(self, target: Callable[..., None], *arguments: Any) -> None:
        reading, writing = SERVED.Pipe(duplex=False)
        self._process = SERVED.Process(target=target, args=(writing, *arguments))
        self._process.start()
        writing.close()
        self.stdout = os.fdopen(os.dup(reading.fileno()), encoding="utf-8")
        reading.close()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def poll(self) -> int | None:
        """Returns the exit code, the negative signal of a process that was ended by one, or None while it runs."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        code = self._process.exitcode
        if code is None:
            raise TimeoutExpired("dualformer", timeout or 0)
        return code

    def communicate(self, timeout: float | None = None) -> str:
        """Returns what it printed up to its end, which comes within ``timeout`` seconds of the last line."""
        said = self.stdout.read()
        self.wait(timeout)
        return said

    def kill(self) -> None:
        self._process.kill()

    def __del__(self) -> None:
        self._process.kill()
        self.stdout.close()


def _run_verb(printed: Connection, words: list[str], stdin: Connection | None) -> None:
    from dualformer.cli.main import main
    from dualformer.training import loop, run_folder

    loop.draw_schedule = run_folder.draw_curves = lambda *_: None  # pyright: ignore[reportAttributeAccessIssue]
    _take_streams(printed)
    if stdin is not None:
        os.dup2(stdin.fileno(), sys.stdin.fileno())
    sys.exit(main(words))


def _run_function(printed: Connection, function: Callable[..., object], *arguments: Any) -> None:
    _take_streams(printed)
    function(*arguments)


def _take_streams(printed: Connection) -> None:
    os.setsid()
    os.dup2(printed.fileno(), 1)
    os.dup2(1, 2)
    printed.close()
