"""The same work over Ray: equal answers, and a worker that is killed costs the file that it was at.

Starting Ray and two processes that load PyTorch takes most of the time of these tests.
"""

import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from dualformer.errors import DualFormerError
from dualformer.inference.answer_tables import Row
from dualformer.inference.batch_runner import BatchTask, run_batch
from dualformer.inference.batch_tasks import LabelTask
from dualformer.inference.ray_cluster import RayTask, TaskSpec
from dualformer.inference.recognizer import Recognizer
from dualformer.video.encode import write_video
from made_films import coloured
from small_weights import save_small_weights

FILES = 24


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``nano.safetensors``, and films among which one is broken."""
    home = tmp_path_factory.mktemp("cluster")
    save_small_weights(home / "nano.safetensors", ("a", "b", "c"), scale=1)
    (home / "films").mkdir()
    for i in range(FILES):
        write_video(home / "films" / f"{i:02d}.mp4", coloured([("red", i + 1), ("blue", 9)]), fps=25)
    (home / "films" / "07.mp4").write_bytes(b"no video")
    return home


class Noting:
    """Labels files slowly, and writes down which file which process began. Dies at one called poison."""

    def __init__(self, task: BatchTask, log: Path, seconds: float) -> None:
        self._task, self._log, self._seconds = task, log, seconds
        self.columns, self.fingerprint, self.width = task.columns, task.fingerprint, task.width

    def run(self, paths: Sequence[Path]) -> Iterator[tuple[int, Row]]:
        for path in paths:
            with self._log.open("a") as file:
                file.write(f"{path.name} {os.getpid()}\n")
            if path.name == "poison.mp4":
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(self._seconds)
        yield from self._task.run(paths)


@dataclass(frozen=True, kw_only=True)
class NotingSpec(TaskSpec):
    log: Path
    seconds: float

    def make_task(self) -> BatchTask:
        return Noting(super().make_task(), self.log, self.seconds)


def begun(log: Path) -> list[tuple[str, int]]:
    lines = log.read_text().splitlines() if log.exists() else []
    return [(name, int(process)) for name, process in (line.split() for line in lines)]


@pytest.mark.slow
def test_a_killed_worker_costs_one_retry_and_every_file_is_answered_once(home: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray.data")
    from ray import cloudpickle

    cloudpickle.register_pickle_by_value(sys.modules[__name__])  # the workers cannot import a test
    paths = sorted((home / "films").iterdir())
    poison = home / "films" / "poison.mp4"
    poison.write_bytes(b"")
    alone = Recognizer.load(home / "nano.safetensors", device="cpu")
    run_batch(tmp_path / "alone.csv", paths, LabelTask(alone, top=3))

    log = tmp_path / "log"
    recipe = NotingSpec(
        kind="labels", weights=str(home / "nano.safetensors"), top=3, device="cpu", log=log, seconds=0.3
    )
    killed: list[int] = []

    def progress(done: int, total: int, row: Row | None) -> None:
        if done == 6:
            process = begun(log)[-1][1]
            os.kill(process, signal.SIGKILL)
            killed.append(process)

    with RayTask(recipe, actors=2) as work:
        result = run_batch(tmp_path / "ray.csv", paths, work, progress=progress)
        assert (result.files, result.known, result.failed) == (FILES, 0, 1)
        assert (tmp_path / "ray.csv").read_text() == (tmp_path / "alone.csv").read_text()
        attempts = [name for name, _ in begun(log)]
        assert sorted(set(attempts)) == [path.name for path in paths]
        assert len(attempts) <= FILES + 1, "the file that the killed worker was at, and no other, is done again"
        assert len({process for _, process in begun(log)} - set(killed)) >= 2

        log.unlink()
        result = run_batch(tmp_path / "poison.csv", [*paths[:4], poison], work)
        assert (result.files, result.failed) == (5, 1)
        assert "its worker died 3 times" in (tmp_path / "poison.csv").read_text()
        assert [name for name, _ in begun(log)].count("poison.mp4") == 3


def test_without_ray_the_message_says_what_to_install(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    recipe = TaskSpec(kind="labels", weights=str(home / "nano.safetensors"), device="cpu")
    with pytest.raises(DualFormerError, match=r"pip install 'dualformer\[cluster\]'"):
        RayTask(recipe)
    with pytest.raises(ValueError, match="at least 1"):
        RayTask(recipe, actors=0)
