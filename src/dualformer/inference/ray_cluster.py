"""Runs a batch task on many machines, or in many processes of one: Ray Data maps over the paths with a pool of actors.

An actor loads the weights once. Every file is a block of its own, so that a worker that dies costs one file, which
another worker does again; a file that kills every worker that takes it is given up and recorded as failed.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dualformer.cores import available_cores
from dualformer.errors import DualFormerError
from dualformer.inference.answer_tables import Columns, Row, row_from_json, row_to_json
from dualformer.inference.batch_runner import BatchTask
from dualformer.remote_paths import RemotePath, as_path
from dualformer.urls import exact_url
from dualformer.video.preprocessing import DEFAULT_VIEWS

if TYPE_CHECKING:
    from dualformer.model.compiling import CompileMode
    from dualformer.scoring.view_scores import Precision

TaskKind = Literal["labels", "features"]

_TRIES = 3
"""Times that a file is begun before it counts as failed."""
_AT_ONCE = 4096
"""Files that are handed to Ray together: it keeps a record of each task."""


@dataclass(frozen=True, kw_only=True)
class TaskSpec:
    """Names a task and its settings; it is sent to the machines of the cluster, where `make_task` loads the weights.

    ``weights``: a hub id, or a path that all machines see.
    """

    kind: TaskKind
    weights: str
    top: int = 5
    views: str = DEFAULT_VIEWS
    device: str = "auto"
    precision: Precision | None = None
    compile_mode: CompileMode | None = None
    threshold: float | None = None

    def make_task(self) -> BatchTask:
        """Loads the weights and returns the task."""
        from dualformer.inference.batch_tasks import EmbedTask, LabelTask
        from dualformer.inference.recognizer import Recognizer

        recognizer = Recognizer.load(
            self.weights, device=self.device, views=self.views, precision=self.precision, compile_mode=self.compile_mode
        )
        if self.kind == "features":
            return EmbedTask(recognizer)
        return LabelTask(recognizer, top=self.top, threshold=self.threshold)


class RayTask:
    """A batch task that Ray runs. A context manager: it connects, and disconnects at the end.

    ``address``: of a running cluster, as ``ray.init`` takes it; None starts Ray on this machine. ``actors``: how many,
    None for one for each GPU, or CPU where there is none. A GPU is reserved for each actor where the cluster has some
    and ``spec.device`` is not the CPU. Columns and fingerprint are those of the same task without Ray.
    Raises ``DualFormerError`` where Ray cannot be imported or reached.
    """

    def __init__(self, spec: TaskSpec, *, address: str | None = None, actors: int | None = None) -> None:
        if actors is not None and actors < 1:
            raise ValueError(f"actors must be at least 1, not {actors}")
        self._ray = _import_ray()
        self._spec, self._address, self._actors = spec, address, actors
        local = spec.make_task()
        self.columns, self.fingerprint, self.width = local.columns, local.fingerprint, local.width

    def __enter__(self) -> RayTask:
        ray = self._ray
        settings: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        if self._address is None:
            # More actors than cores are what was asked for: Ray would wait for cores that never come.
            cores = max(self._actors or 1, available_cores()) + 1  # one for Ray Data's own tasks
            settings |= {"num_cpus": cores, "include_dashboard": False}
        try:
            ray.init(address=self._address or "local", **settings)
        except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
            first = next(iter(str(error).splitlines()), type(error).__name__)
            raise DualFormerError(f"`address={self._address or ''}`: Ray does not start or answer ({first})") from error
        return self

    def __exit__(self, *raised: object) -> None:
        self._ray.shutdown()

    def run(self, paths: Sequence[Path]) -> Iterator[tuple[int, Row]]:
        for first in range(0, len(paths), _AT_ONCE):
            yield from self._run_part(paths[first : first + _AT_ONCE], first)

    def _run_part(self, paths: Sequence[Path], first: int) -> Iterator[tuple[int, Row]]:
        import ray.data
        import ray.exceptions

        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.max_errored_blocks = -1  # what is left without an answer is told below
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        # Names need not be text.
        items = [{"place": first + i, "path": os.fsencode(_opened(path))} for i, path in enumerate(paths)]
        resources = self._ray.cluster_resources()
        gpus = 0 if self._spec.device == "cpu" else int(resources.get("GPU", 0))
        actors = min(self._actors or gpus or max(1, int(resources.get("CPU", 2)) - 1), len(items))
        attempts = self._ray.remote(num_cpus=0)(_Attempts).remote()
        answered = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
            _Actor,
            fn_constructor_args=(self._spec, attempts),
            compute=ray.data.ActorPoolStrategy(size=actors, max_tasks_in_flight_per_actor=1),
            batch_size=1,
            num_cpus=1,
            num_gpus=1 if gpus else 0,
        )
        left = set(range(first, first + len(items)))
        try:
            for item in answered.iter_rows():
                if item["fault"]:
                    raise DualFormerError(item["fault"])
                left.discard(int(item["place"]))
                row = row_from_json(item["answer"], {"error": "text", **self.columns})
                yield int(item["place"]), {name: value for name, value in row.items() if value is not None}
        except ray.exceptions.RayError as error:
            lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
            raise DualFormerError(f"`address`: the actors do not work ({lines[-1].strip()}); see Ray's logs") from error
        for place in sorted(left):
            yield place, {"error": "its worker failed; see Ray's logs"}


def _opened(path: Path) -> str:
    """Returns where a file is for another process: of a URL all that it takes to open it."""
    named = as_path(path)
    return exact_url(str(named)) if isinstance(named, RemotePath) else str(path.absolute())


class _Attempts:
    """Counts, outside of the workers that may die, how often each file was begun. Ray itself tries for ever."""

    def __init__(self) -> None:
        self._begun: Counter[int] = Counter()

    def begin(self, place: int) -> int:
        self._begun[place] += 1
        return self._begun[place]


class _Actor:
    """Answers in a process of its own. Batches are of one file."""

    def __init__(self, spec: TaskSpec, attempts: Any) -> None:
        self._ray, self._attempts = _import_ray(), attempts
        self._task = spec.make_task()

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        columns: Columns = {"error": "text", **self._task.columns}
        line = fault = ""
        if self._ray.get(self._attempts.begin.remote(int(batch["place"][0]))) > _TRIES:
            line = row_to_json({"error": f"its worker died {_TRIES} times"}, columns)
        else:
            try:
                [(_, row)] = self._task.run([as_path(os.fsdecode(path)) for path in batch["path"]])
                line = row_to_json(row, columns)
            except DualFormerError as error:  # not this file's fault: the same will happen to every one
                fault = str(error)
        return {"place": batch["place"], "answer": [line], "fault": [fault]}


def _import_ray() -> Any:
    # Ray tells its makers what it is used for, which needs a network and is nobody's business.
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    # Ray's core warns of its own doings on standard error, whatever its Python part is told.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    try:
        import ray  # type: ignore[import-not-found]  # an extra
        import ray.data  # type: ignore[import-not-found]
    except ImportError as error:
        raise DualFormerError(
            f"`address`: Ray cannot be imported ({error}); pip install 'dualformer[cluster]'"
        ) from error
    return ray
