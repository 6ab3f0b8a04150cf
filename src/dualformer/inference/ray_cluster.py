"""Batch tasks and timelines over Ray: each file is a job of its own, and so is each part of a long film.

Weights, recognisers and settings travel to the workers, and answers back; videos are read where the workers are: by
URLs, or by paths that all machines see.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from dualformer.inference.answer_tables import Columns, Row, row_from_json, row_to_json
from dualformer.inference.batch_runner import BatchTask
from dualformer.inference.ray_pool import GivenUp, RayPool, WorkerCost, machine
from dualformer.remote_paths import RemotePath, as_path
from dualformer.urls import exact_url, url_of
from dualformer.video.container import VideoError
from dualformer.video.file_slices import is_frame_folder
from dualformer.video.preprocessing import DEFAULT_VIEWS
from dualformer.video.video_segment import parse_segment

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from dualformer.inference.film_parts import FilmPart, FilmPlan
    from dualformer.inference.recognizer import Recognizer
    from dualformer.inference.timeline import Timeline
    from dualformer.model.compiling import CompileMode
    from dualformer.scoring.view_scores import Precision
    from dualformer.video.kept_readers import KeptReaders
    from dualformer.weights.packed_weights import PackedWeights

TaskKind = Literal["labels", "features"]
Holder = TypeVar("Holder", bound="_OverRay")

PART_SECONDS = 300.0
"""Seconds that a part of a film lasts at least."""


@dataclass(frozen=True, kw_only=True)
class TaskSpec:
    """Names a task and its settings.

    ``weights``: a hub id or a path. Only the machine that divides the work reads them; the others are sent their bytes.
    """

    kind: TaskKind = "labels"
    weights: str
    top: int = 5
    views: str = DEFAULT_VIEWS
    device: str = "auto"
    precision: Precision | None = None
    compile_mode: CompileMode | None = None
    threshold: float | None = None

    def load(self) -> Recognizer:
        """Loads the weights."""
        from dualformer.inference.recognizer import Recognizer

        return Recognizer.load(
            self.weights, device=self.device, views=self.views, precision=self.precision, compile_mode=self.compile_mode
        )

    def make_task(self) -> BatchTask:
        """Loads the weights and returns the task."""
        from dualformer.inference.batch_tasks import EmbedTask, LabelTask

        if self.kind == "features":
            return EmbedTask(self.load())
        return LabelTask(self.load(), top=self.top, threshold=self.threshold)

    def here(self) -> TaskSpec:
        """Returns the same for the machine that divides the work, which computes nothing and need have no GPU."""
        from dualformer.weights.open_network import is_exported

        return replace(self, device="auto" if is_exported(self.weights) else "cpu", compile_mode=None)

    def pool(self, make: Callable[[Any], Any], *, address: str | None, actors: int | None) -> RayPool:
        """Returns workers that ``make`` what they work with of this and the weights."""
        from dualformer.weights.packed_weights import PackedWeights

        data = self, PackedWeights.of(self.weights)
        return RayPool(make, data, address=address, workers=actors, device=self.device)


class _OverRay:
    """A context manager that holds workers."""

    _pool: RayPool

    def __enter__(self: Holder) -> Holder:
        self._pool.__enter__()
        return self

    def __exit__(self, *raised: object) -> None:
        self._pool.__exit__(*raised)

    @property
    def costs(self) -> dict[str, WorkerCost]:
        """What each worker did, by machine and process. A job is a file, or of a long film its plan or a part."""
        return self._pool.costs


class RayTask(_OverRay):
    """A batch task that Ray runs. A context manager: it connects, and disconnects at the end.

    ``address``, ``actors``: as ``address`` and ``workers`` of `RayPool`. Columns and fingerprint are those of the same
    task without Ray, and so are rows, but for files that the worker's machine does not see.
    Raises ``DualFormerError`` where Ray cannot be imported or reached.
    """

    def __init__(self, spec: TaskSpec, *, address: str | None = None, actors: int | None = None) -> None:
        self._pool = spec.pool(_make_task, address=address, actors=actors)
        local = spec.here().make_task()
        self.columns, self.fingerprint, self.width = local.columns, local.fingerprint, local.width

    def run(self, paths: Sequence[Path]) -> Iterator[tuple[int, Row]]:
        columns: Columns = {"error": "text", **self.columns}
        for place, path in enumerate(paths):
            self._pool.submit(place, _answer, _named(path))
        for place, found in self._pool.results():
            row = {"error": found.reason} if isinstance(found, GivenUp) else row_from_json(found, columns)
            yield place, {name: value for name, value in row.items() if value is not None}


class RayTimelines(_OverRay):
    """Timelines of films, of which long ones are divided among workers. A context manager as `RayTask`.

    ``recognizer``: the weights of ``spec``, to join parts by; it computes nothing. ``settings`` are those of
    `read_timeline`. Films of more than ``part_seconds`` are divided.
    """

    def __init__(
        self,
        spec: TaskSpec,
        recognizer: Recognizer,
        *,
        address: str | None = None,
        actors: int | None = None,
        part_seconds: float = PART_SECONDS,
        **settings: Any,
    ) -> None:
        from dualformer.inference.timeline import timeline_settings

        self._recognizer, self._part_seconds = recognizer, part_seconds
        self._given, self._settings = settings, timeline_settings(recognizer, **settings)
        self._pool = spec.pool(_FilmReader, address=address, actors=actors)

    def run(
        self, paths: Sequence[Path], progress: Callable[[int, int], None] | None = None
    ) -> Iterator[Timeline | VideoError]:
        """Yields the timeline of each film in their order, or the error of one that cannot be read.

        ``progress`` is called with the numbers of jobs done and known so far.
        """
        from dualformer.inference.timeline import Timeline
        from dualformer.video.video_source import source_name

        films: dict[int, _Film] = {}
        found: dict[int, Timeline | VideoError] = {}
        told, done, known = 0, 0, len(paths)
        for place, path in enumerate(paths):
            self._pool.submit((place, None), _FilmReader.begin, _named(path), self._given, self._part_seconds)
        for (place, part), result in self._pool.results():
            path, done = paths[place], done + 1
            if place in found:
                pass  # what is left of a film that was given up
            elif isinstance(result, (GivenUp, VideoError)):
                films.pop(place, None)
                found[place] = VideoError(path, result.reason)
            elif isinstance(result, Timeline):
                found[place] = replace(result, source=source_name(path))
            elif part is None:
                films[place] = _Film(result)
                for number, each in reversed(list(enumerate(result.parts))):
                    self._pool.submit((place, number), _FilmReader.read, _named(path), each, urgent=True)
                known += len(result.parts)
            elif result is None:
                if films.pop(place, None):
                    self._pool.submit((place, None), _FilmReader.begin, _named(path), self._given, None, urgent=True)
                    known += 1
            elif place in films and films[place].add(part, result):
                found[place] = films.pop(place).join(self._recognizer, self._settings, source_name(path))
            if progress is not None:
                progress(done, known)
            while told in found:
                yield found[told]
                told += 1


@dataclass
class _Film:
    """A film whose parts are being read."""

    plan: FilmPlan
    rows: dict[int, NDArray[np.float32]] = field(default_factory=dict)

    def add(self, part: int, rows: NDArray[np.float32]) -> bool:
        """Returns whether this part was the last one."""
        self.rows[part] = rows
        return len(self.rows) == len(self.plan.parts)

    def join(self, recognizer: Recognizer, settings: Any, source: str) -> Timeline:
        from dualformer.inference.film_parts import join_parts

        rows = [self.rows[number] for number in range(len(self.plan.parts))]
        return join_parts(recognizer, self.plan, rows, settings, source=source)


class _FilmReader:
    """What workers read films with. Those read last stay open, for further parts of them."""

    def __init__(self, data: tuple[TaskSpec, PackedWeights]) -> None:
        from dualformer.video.kept_readers import KeptReaders

        self._recognizer = _unpack(data, lambda spec: spec.load())
        self._films: KeptReaders = KeptReaders(most=4)

    def begin(
        self, name: bytes, settings: dict[str, Any], part_seconds: float | None
    ) -> Timeline | FilmPlan | VideoError:
        """Returns the timeline of a film, or how it is divided where it lasts more than ``part_seconds``."""
        from dualformer.video.video_source import resolve_source

        path = as_path(os.fsdecode(name))
        try:
            video = resolve_source(path)
            if part_seconds is not None and (plan := self._plan(video, part_seconds, settings)):
                return plan
            return self._recognizer.timeline(video, **settings)
        except (FileNotFoundError, VideoError) as error:
            return VideoError(path, _unseen(path) or getattr(error, "reason", "there is no such file"))

    def read(self, name: bytes, part: FilmPart) -> NDArray[np.float32] | None:
        """Returns the probabilities of a part's clips; None where the film is to be read in one pass."""
        from dualformer.inference.film_parts import read_part
        from dualformer.video.video_source import resolve_source

        try:
            video = resolve_source(as_path(os.fsdecode(name)))
            return self._of_film(video, lambda reader: read_part(reader, self._recognizer, part))
        except (FileNotFoundError, VideoError):
            return None

    def _plan(self, video: Any, part_seconds: float, settings: dict[str, Any]) -> FilmPlan | None:
        from dualformer.inference.film_parts import plan_film
        from dualformer.inference.timeline import timeline_settings

        recognizer = self._recognizer
        hop = timeline_settings(recognizer, **settings).hop
        return self._of_film(video, lambda film: plan_film(film, recognizer, hop=hop, part_seconds=part_seconds))

    def _of_film(self, video: Any, read: Callable[[Any], Any]) -> Any:
        return self._films.read(video, read, clock=self._recognizer.preprocessing.fps is not None)


def _unpack(data: tuple[TaskSpec, PackedWeights], make: Callable[[TaskSpec], Any]) -> Any:
    spec, weights = data
    with weights.unpacked() as path:
        return make(replace(spec, weights=str(path)))


def _make_task(data: tuple[TaskSpec, PackedWeights]) -> BatchTask:
    return _unpack(data, lambda spec: spec.make_task())


def _answer(task: BatchTask, name: bytes) -> str:
    """Returns the row of a file as JSON."""
    path = as_path(os.fsdecode(name))
    [(_, row)] = task.run([path])
    if row.get("error") and (unseen := _unseen(path)):
        row = {"error": unseen}
    return row_to_json(row, {"error": "text", **task.columns})


def _named(path: Path) -> bytes:
    """Returns what another process finds a file by, which need not be text: of a URL all that it takes to open it."""
    named = as_path(path)
    return os.fsencode(exact_url(str(named)) if isinstance(named, RemotePath) else str(path.absolute()))


def _unseen(path: Path) -> str | None:
    """Returns what is to be said of a file, or of a table or archive that holds it, that this machine does not see."""
    *_, holder = str(path).split("::")
    if url_of(holder):
        return None
    file = Path(holder)
    if file.exists() or (is_frame_folder(file) and file.parent.is_dir()) or parse_segment(path):
        return None
    return (
        f"there is no such file on {machine()}, where a worker was to read it: put {file.name} under the same path on "
        "all machines, or name it by a URL"
    )
