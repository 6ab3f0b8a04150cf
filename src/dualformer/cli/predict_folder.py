"""Labels or features of many files into a table, for ``predict --out`` and ``embed``: over a cluster or not."""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from dualformer.cli.option_names import OptionNames
from dualformer.cli.shared_options import InferenceOptions, Json, Views, Weights, arguments
from dualformer.plurals import counted
from dualformer.remote_paths import RemotePath
from dualformer.video.file_formats import is_media
from dualformer.video.preprocessing import DEFAULT_VIEWS

if TYPE_CHECKING:
    from dualformer.inference.batch_runner import BatchResult, BatchTask
    from dualformer.inference.ray_cluster import TaskKind, TaskSpec
    from dualformer.inference.ray_pool import WorkerCost

_ADDRESS = re.compile(r"auto|local|ray://.+|[\w.-]+:\d+")
_DOING: dict[TaskKind, str] = {"labels": "labelling", "features": "computing features of"}


@dataclass(frozen=True, kw_only=True)
class FolderOptions(InferenceOptions):
    """What the verbs have in common that answer for many files."""

    files: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="FILES…")]
    """Video or image files, URLs, or - for standard input; a folder stands for all files in it, however deep. An image
    is a video of one frame. A list stands for its files: .csv with a column path, .txt with a path on each line; so do
    Parquet files, tar files and folders in the layouts of other programs."""
    weights: Weights
    views: Views = DEFAULT_VIEWS
    fresh: bool = False
    """With --out: replace what is in the table."""
    retry: bool = False
    """With --out: try those files again that failed."""
    ray: str | None = None
    """With --out or --timeline: spread the files, and the parts of long films, over a Ray cluster at this address;
    alone, over processes of this machine. Workers are sent the weights, and find videos by URLs, or by paths that they
    see as well."""
    actors: int | None = None
    """Processes of --ray; one for each GPU, or CPU where there is none, if not given."""
    json: Json = False

    def __post_init__(self) -> None:
        if not self.files:
            raise ValueError("name at least one video, image or folder")
        if self.actors is not None and self.ray is None:
            raise ValueError("--actors goes with --ray")

    def task_spec(self, **settings: Any) -> TaskSpec:
        """Returns what is computed, with more ``settings`` of it."""
        from dualformer.inference.ray_cluster import TaskSpec

        named = arguments(self, "weights", "views", "device", "compile_mode")
        return TaskSpec(precision=self.chosen_precision, **named, **settings)

    @property
    def over_ray(self) -> dict[str, Any]:
        """The arguments by which Ray is reached."""
        return {"address": None if self.ray == "local" else self.ray, "actors": self.actors}


def ray_alone(arguments: Sequence[str]) -> tuple[None, str, list[str]]:
    """Returns the arguments of such a verb for its ``defaults``; see `cli.main.parse`."""
    return None, "", with_address(arguments)


def with_address(arguments: Sequence[str]) -> list[str]:
    """Returns the arguments with an address after a ``--ray`` that stands alone, for this machine."""
    out: list[str] = []
    for place, word in enumerate(arguments):
        out.append(word)
        following = arguments[place + 1] if place + 1 < len(arguments) else ""
        if word == "--ray" and not _ADDRESS.fullmatch(following):
            out.append("local")
    return out


def is_remote_media(path: Path) -> bool:
    """Returns whether it is a URL whose name says that it is a video or an image: no server need be asked."""
    return isinstance(path, RemotePath) and is_media(path)


def named_files(named: Sequence[Path]) -> list[Path]:
    """Returns the files that folders, lists (.csv with a column path, .txt with a path on each line) and files stand
    for, each once. Paths in a list are relative to it; its columns start and end name parts of videos."""
    return list(_named_rows(named))


def _named_rows(named: Sequence[Path]) -> dict[Path, dict[str, str]]:
    """Returns the files as `named_files` does, each with the columns that CSV lists and tables of others have of it
    besides its path; those of the last one that has it."""
    from dualformer.datasets.csv_list import read_columns, read_paths
    from dualformer.datasets.foreign.layouts import find_foreign
    from dualformer.datasets.manifest import find_videos
    from dualformer.datasets.samples import DatasetError
    from dualformer.datasets.shards.read_shards import find_shards

    found: dict[Path, dict[str, str]] = {}

    def add(paths: Iterable[Path]) -> None:
        for each in paths:
            found.setdefault(each, {})

    for path in named:
        if is_remote_media(path):
            add([path])
        elif path.suffix.lower() == ".txt" and path.is_file():
            add(read_paths(path))
        elif path.suffix.lower() == ".csv" and path.is_file():
            found |= sorted(read_columns(path).items())
        elif path.is_dir() and find_shards(path):
            raise ValueError(
                f"{path}: these are shards, which train, evaluate and check read: name videos in their place"
            )
        elif foreign := find_foreign(path):
            for row in foreign.rows():
                found[row.path] = {name: value for name, value in row.values.items() if name != "path"}
        elif path.is_dir():
            try:
                add(find_videos(path))
            except DatasetError:
                if len(named) == 1:
                    raise
                add([path])  # it is told as one that cannot be read, and the others have their answers
        else:
            add([path])
    return found


def predict_folder(options: FolderOptions, kind: TaskKind, out: Path, **settings: Any) -> int:
    """Answers for all files that are named, into the table ``out``; returns the exit code.

    ``settings`` are arguments of `TaskSpec` besides these options.
    """
    from dualformer.inference.ray_cluster import RayTask

    made = options.task_spec(kind=kind, **settings)
    rows = _named_rows(options.files)
    files = list(rows)
    if not options.json:
        where = f" over Ray ({options.ray})" if options.ray else ""
        print(f"{_DOING[kind]} {counted(len(files), 'file')} with {options.weights}{where}, views {options.views}")
    begun = time.monotonic()
    with contextlib.ExitStack() as stack:
        if options.ray:
            over_ray = stack.enter_context(RayTask(made, **options.over_ray))
            task: BatchTask = over_ray
        else:
            over_ray, task = None, made.make_task()
        inputs = {path: values for path, values in rows.items() if values}
        settled = {"fresh": options.fresh, "retry": options.retry, "inputs": inputs}
        result = _answer(out, files, task, settled, quiet=options.json)
    seconds = time.monotonic() - begun
    if options.json:
        counts = {"files": result.files, "known": result.known, "failed": result.failed}
        costs = {"workers": costs_json(over_ray.costs)} if over_ray else {}
        print(json.dumps({"out": str(out), **counts, "seconds": round(seconds, 3), **costs}))
    else:
        known = f" ({result.known} were known and have not changed)" if result.known else ""
        print(f"{result.files - result.failed} answered{known}, {result.failed} failed; took {seconds:.1f} s")
        if over_ray:
            print_costs(over_ray.costs, result.files - result.known, "file")
        print(f"answers: {out}")
        if result.failed:
            verb = "predict" if kind == "labels" else "embed"
            again = OptionNames(type(options)).command(verb, replace(options, retry=True, fresh=False))
            print(f"next: {again}   (tries those again that failed)")
    return 1 if result.failed else 0


_SHOWN = 16
"""Workers of whom each has a line."""


def costs_json(costs: Mapping[str, WorkerCost]) -> list[dict[str, Any]]:
    """Returns what each worker did."""
    return [
        {
            "worker": name,
            "jobs": cost.jobs,
            "processor_seconds": round(cost.processor_seconds, 3),
            "seconds": round(cost.seconds, 3),
        }
        for name, cost in costs.items()
    ]


def print_costs(costs: Mapping[str, WorkerCost], count: int, what: str) -> None:
    """Prints what ``count`` videos took of the processors, and each worker; without starting and loading."""
    total = sum(cost.processor_seconds for cost in costs.values())
    if not count or not costs:
        return
    print(f"processor: {total:.1f} s, {total / count:.3g} s a {what}, by {counted(len(costs), 'worker')}")
    for name, cost in list(costs.items())[:_SHOWN]:
        jobs = counted(cost.jobs, "job")
        print(f"  {name}: {jobs}, {cost.processor_seconds:.1f} s of its processor in {cost.seconds:.1f} s")
    if len(costs) > _SHOWN:
        print(f"  … and {len(costs) - _SHOWN} more (all with --json)")


def _answer(out: Path, files: Sequence[Path], task: BatchTask, settings: dict[str, Any], *, quiet: bool) -> BatchResult:
    """Shows how many are done and how long it still takes, and every file that fails."""
    from dualformer.cli.progress import Progress
    from dualformer.inference.batch_runner import partial_path, run_batch
    from dualformer.inference.timeline import format_time

    begun = told = time.monotonic()
    with Progress("answering", "files done", quiet=quiet) as progress:

        def show(done: int, total: int, row: dict | None) -> None:
            nonlocal told
            if row is not None and row.get("error"):
                progress.say(f"failed: {row['path']}: {row['error']}")
            if not total or not done:
                return
            now = time.monotonic()
            if now - told >= 30:  # on a terminal, the bar says so as well
                told = now
                left = (now - begun) / done * (total - done)
                progress.say(f"{done} of {total}, about {format_time(left, digits=0)} left")
            progress.show(done, total)

        with progress.goes_on(f"from what {partial_path(out)} keeps"):
            return run_batch(out, files, task, progress=show, **settings)
