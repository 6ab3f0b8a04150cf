"""Two nodes of Ray, which share no working directory: equal answers, and what dies costs the file that it was at.

All tests share one cluster, as starting it takes longer than they do; the last one kills a node of it.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from dualformer.errors import DualFormerError
from dualformer.inference import ray_pool
from dualformer.inference.answer_tables import Row
from dualformer.inference.batch_runner import BatchTask, run_batch
from dualformer.inference.ray_cluster import RayTask, RayTimelines, TaskSpec
from dualformer.inference.ray_pool import GivenUp, RayPool
from dualformer.remote_paths import as_path
from dualformer.video.container import VideoError
from dualformer.video.encode import write_video
from dualformer.video.table_cells import name_cell
from made_films import coloured, moving
from range_server import RangeServer, range_server
from small_weights import save_small_weights

FILMS = 6


class Nodes(NamedTuple):
    """``address`` of two nodes of Ray with a core each, called by their working directories."""

    address: str
    kill_second: Callable[[], None]


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    pytest.importorskip("ray")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray import cloudpickle
    from ray.cluster_utils import Cluster

    home, before = tmp_path_factory.mktemp("nodes"), Path.cwd()
    cluster = Cluster()
    try:
        started: list[Any] = []
        for name in ("first", "second"):
            (home / name).mkdir()
            os.chdir(home / name)
            started.append(cluster.add_node(num_cpus=1, include_dashboard=False))
        os.chdir(before)
        cloudpickle.register_pickle_by_value(sys.modules[__name__])  # the workers cannot import a test
        yield Nodes(str(cluster.address), lambda: cluster.remove_node(started[1], allow_graceful=False))
    finally:
        os.chdir(before)
        cluster.shutdown()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RangeServer]:
    """Films at URLs that take a password: as files, one of them broken, and in a Parquet table; and a long one."""
    folder = tmp_path_factory.mktemp("films")
    files = {"/broken.mp4": b"no video"}
    for i in range(FILMS):
        write_video(folder / "film.mp4", coloured([("red", i + 1), ("blue", 9)]), fps=25)
        files[f"/{i}.mp4"] = (folder / "film.mp4").read_bytes()
    write_video(folder / "long.mp4", moving([(1, 0, 60), (0, 1, 50)], size=48), fps=25)
    files["/long.mp4"] = (folder / "long.mp4").read_bytes()
    damaged = bytearray(files["/long.mp4"])
    middle = len(damaged) // 2
    damaged[middle : middle + 300] = bytes(300)
    files["/damaged.mp4"] = bytes(damaged)
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    table = pa.table({"video": [files[f"/{i}.mp4"] for i in range(FILMS)]})
    parquet.write_table(table, folder / "films.parquet", row_group_size=2)
    files["/films.parquet"] = (folder / "films.parquet").read_bytes()
    with range_server(files, login="me:secret") as server:
        yield server


def weights_in(folder: Path) -> str:
    save_small_weights(folder / "nano.safetensors", ("a", "b", "c"), scale=1)
    return str(folder / "nano.safetensors")


def url_of(server: RangeServer, name: str) -> str:
    return f"{server.url.replace('http://', 'http://me:secret@')}/{name}"


class Made:
    """What workers of a pool have: how often they began a job, in a file."""

    def __init__(self, log: Path) -> None:
        self.log = log


def note(made: Made, number: int, dies: int) -> tuple[int, int]:
    """Dies the first ``dies`` times that it is begun."""
    with made.log.open("a") as file:
        file.write(f"{number}\n")
    if made.log.read_text().splitlines().count(str(number)) <= dies:
        os.kill(os.getpid(), signal.SIGKILL)
    return number, os.getpid()


def fail(made: Made) -> None:
    raise ValueError(f"{made.log.name} is wrong")


@pytest.mark.slow
def test_jobs_of_workers_that_die_are_done_by_others_a_few_times(nodes: Nodes, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with RayPool(Made, log, address=nodes.address, workers=None, device="cpu") as pool:
        for number, dies in enumerate((0, 1, 0, 99, 0)):
            pool.submit(number, note, number, dies)
        found: dict[int, Any] = {}
        for key, value in pool.results():
            found[key] = value
            if key == 2:
                pool.submit(5, note, 5, 0, urgent=True)
        assert found.pop(3) == GivenUp(reason="its worker died 3 times")
        assert {key: number for key, (number, _) in found.items()} == {key: key for key in (0, 1, 2, 4, 5)}
        begun = log.read_text().split()
        assert [begun.count(str(number)) for number in range(6)] == [1, 2, 1, 3, 1, 1]
        assert sum(cost.jobs for cost in pool.costs.values()) == 5
        assert {name.rpartition(" ")[2] for name in pool.costs} == {str(process) for _, process in found.values()}
        pool.submit(0, fail)
        with pytest.raises(ValueError, match=r"^log is wrong$"):
            list(pool.results())


@pytest.mark.slow
def test_a_worker_that_dies_while_it_waits_costs_no_job(
    nodes: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_pool, "_TRIES", 1)
    with RayPool(Made, tmp_path / "log", address=nodes.address, workers=1, device="cpu") as pool:
        pool.submit(0, note, 0, 0)
        [(_, (_, process))] = pool.results()
        pool.submit(1, note, 1, 0)
        assert list(pool.results()) == [(1, (1, process))], "one that lives goes on"
        os.kill(process, signal.SIGKILL)
        pool.submit(2, note, 2, 0)
        [(key, (number, other))] = pool.results()
        assert (key, number) == (2, 2) and other != process


@pytest.mark.slow
def test_what_goes_wrong_after_connecting_disconnects(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    def unreachable() -> None:
        raise ConnectionError("no answer")

    monkeypatch.setattr(ray, "cluster_resources", unreachable)
    pool = RayPool(Made, None, address=nodes.address, workers=1, device="cpu")
    with pytest.raises(DualFormerError, match=r"Ray does not start or answer \(no answer\)"):
        pool.__enter__()
    assert not ray.is_initialized()


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As a worker has; with more, products are summed in another order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.slow
def test_a_long_film_over_workers_has_the_timeline_of_one_process(
    nodes: Nodes, served: RangeServer, tmp_path: Path, one_thread: None
) -> None:
    spec = TaskSpec(weights=weights_in(tmp_path), device="cpu")
    names = [url_of(served, name) for name in ("0.mp4", "long.mp4", "damaged.mp4", "broken.mp4")]
    paths = [*map(as_path, names), tmp_path / "nowhere.mp4"]
    recognizer = spec.load()
    given: dict[str, Any] = {"threshold": 0.2, "hop": 0.2}
    with RayTimelines(spec, recognizer, address=nodes.address, part_seconds=0.8, **given) as films:
        Path(spec.weights).unlink()
        told: list[tuple[int, int]] = []
        found = list(films.run(paths, lambda done, known: told.append((done, known))))
        jobs = sum(cost.jobs for cost in films.costs.values())
    assert told[-1] == (jobs, jobs) and jobs > len(paths) + 4, "the long films were divided"
    for path, timeline in zip(paths[:3], found, strict=False):
        alone = recognizer.timeline(path, **given)
        assert not isinstance(timeline, VideoError)
        assert timeline.probabilities.tobytes() == alone.probabilities.tobytes()
        assert timeline.bounds.tobytes() == alone.bounds.tobytes()
        for name in ("segments", "settings", "frames", "clips", "error", "source"):
            assert getattr(timeline, name) == getattr(alone, name)
    assert isinstance(found[3], VideoError) and "cannot be opened" in found[3].reason
    assert isinstance(found[4], VideoError) and "there is no such file on " in found[4].reason


class Noting:
    """Answers slowly, and writes down which file was begun on which node."""

    def __init__(self, task: BatchTask, log: Path) -> None:
        self._task, self._log = task, log
        self.columns, self.fingerprint, self.width = task.columns, task.fingerprint, task.width

    def run(self, paths: Sequence[Path]) -> Iterator[tuple[int, Row]]:
        with self._log.open("a") as file:
            file.write("".join(f"{path} {Path.cwd().name}\n" for path in paths))
        time.sleep(0.3)
        yield from self._task.run(paths)


@dataclass(frozen=True, kw_only=True)
class NotingSpec(TaskSpec):
    log: Path

    def make_task(self) -> BatchTask:
        return Noting(super().make_task(), self.log)


@pytest.mark.slow
def test_a_node_that_is_killed_costs_the_file_that_it_was_at(nodes: Nodes, served: RangeServer, tmp_path: Path) -> None:
    cells = [name_cell("parquet", "video", i, f"{i}.mp4", url_of(served, "films.parquet")) for i in range(FILMS)]
    files = [url_of(served, f"{i}.mp4") for i in range(FILMS)]
    paths = [*map(as_path, [*files, *cells, url_of(served, "broken.mp4")]), tmp_path / "nowhere.mp4"]
    log = tmp_path / "log"
    spec = NotingSpec(weights=weights_in(tmp_path), top=3, device="cpu", log=log)
    run_batch(tmp_path / "alone.csv", paths, TaskSpec(weights=spec.weights, top=3, device="cpu").make_task())

    def begun() -> list[tuple[str, str]]:
        return [(name, node) for name, node in (line.split() for line in log.read_text().splitlines())]

    killed = False

    def progress(done: int, total: int, row: Row | None) -> None:
        nonlocal killed
        if not killed and done and {node for _, node in begun()} == {"first", "second"}:
            nodes.kill_second()
            killed = True

    with RayTask(spec, address=nodes.address) as work:
        Path(spec.weights).unlink()
        log.write_text("")
        result = run_batch(tmp_path / "ray.csv", paths, work, progress=progress)
    assert killed
    assert (result.files, result.known, result.failed) == (len(paths), 0, 2)
    answered = (tmp_path / "ray.csv").read_text().splitlines()
    assert answered[:-1] == (tmp_path / "alone.csv").read_text().splitlines()[:-1]
    assert "there is no such file on " in answered[-1] and "or name it by a URL" in answered[-1]
    assert "secret" not in (tmp_path / "ray.csv").read_text()
    attempts = [name for name, _ in begun()]
    assert set(attempts) == set(map(str, paths))
    assert len(attempts) <= len(paths) + 1, "the file that the killed node was at, and no other, is done again"


def test_without_ray_the_message_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    spec = TaskSpec(weights=weights_in(tmp_path), device="cpu")
    with pytest.raises(DualFormerError, match=r"pip install 'dualformer\[cluster\]'"):
        RayTask(spec)
    with pytest.raises(ValueError, match="at least 1"):
        RayTask(spec, actors=0)


def test_the_cluster_of_the_examples_is_one_that_ray_starts() -> None:
    util, yaml = pytest.importorskip("ray.autoscaler._private.util"), pytest.importorskip("yaml")
    file = Path(__file__).parents[2] / "examples" / "ray-cluster.yaml"
    cluster = util.prepare_config(yaml.safe_load(file.read_text()))
    util.validate_config(cluster)
    assert [kind["min_workers"] for kind in cluster["available_node_types"].values()] == [0], "it starts as one machine"
