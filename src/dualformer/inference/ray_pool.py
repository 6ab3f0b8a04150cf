"""Workers on the machines of a Ray cluster, or in processes of this one.

A worker is an actor, which makes once what it works with, and does one job at a time. Where one dies, alone or with its
machine, another does its job again, and a new worker is asked for: nothing waits for one that finds no place. A job at
which several workers died is given up. What workers need travels through Ray's object store: they share no disk.

Ray's own pools do not do that. Ray Data tries a block again on the same actor, also where its machine is gone, bounds
the tries by an option that is to go in Ray 2.64, and takes no work that shows only while it runs, as parts of films do;
``ray.util.ActorPool`` gives jobs to actors that have found no place, and does not say which job a dead one had.
"""

import logging
import math
import os
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

from dualformer.cores import available_cores
from dualformer.errors import DualFormerError
from dualformer.video.backend import DECODER_VARIABLE

_TRIES = 3
"""Workers that may die at a job before it is given up; as often as this for each that is wanted they may die before
they have begun."""
_PATIENCE = 60.0
"""Seconds without any worker after which it is told what they wait for."""

_log = logging.getLogger("dualformer")


@dataclass(kw_only=True)
class WorkerCost:
    """What one worker did."""

    jobs: int = 0
    processor_seconds: float = 0.0
    seconds: float = 0.0
    """By the clock."""


@dataclass(frozen=True, kw_only=True)
class GivenUp:
    """Stands for the result of a job at which too many workers died."""

    reason: str


@dataclass(frozen=True, kw_only=True, eq=False)
class _Job:
    key: Any
    work: Callable[..., Any]
    arguments: tuple[Any, ...]
    deaths: int = 0


class RayPool:
    """A context manager: it connects to Ray, and disconnects at the end.

    ``make(data)`` is called by each worker, and what it returns is the first argument of all its jobs' functions. These
    are found by their names: the package must be installed on all machines. ``address``: of a running cluster, as
    ``ray.init`` takes it; None starts Ray on this machine. ``workers``: how many at most, None for one for each GPU, or
    CPU where there is none. ``device``: where they compute; a part of a GPU is reserved for each of them where the
    cluster has some, unless it is ``cpu``.
    Raises ``DualFormerError`` where Ray cannot be imported or reached.
    """

    def __init__(
        self, make: Callable[[Any], Any], data: Any, *, address: str | None, workers: int | None, device: str
    ) -> None:
        if workers is not None and workers < 1:
            raise ValueError(f"actors must be at least 1, not {workers}")
        self._ray = _import_ray()
        self._make, self._data, self._device = make, data, device
        self._address, self._workers = address, workers
        self._jobs: deque[_Job] = deque()
        self._starting: dict[Any, Any] = {}
        self._idle: list[Any] = []
        self._at_work: dict[Any, tuple[Any, _Job]] = {}
        self._failed = 0
        self.costs: dict[str, WorkerCost] = defaultdict(WorkerCost)
        """By machine and process."""

    def __enter__(self) -> "RayPool":
        ray = self._ray
        how: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        if self._address is None:
            # More workers than cores are what was asked for: Ray would wait for cores that never come.
            how |= {"num_cpus": max(self._workers or 1, available_cores()), "include_dashboard": False}
        with ExitStack() as stack:
            try:
                ray.init(address=self._address or "local", **how)
                stack.callback(ray.shutdown)
                there = ray.cluster_resources()
            except (ConnectionError, RuntimeError, ValueError, TimeoutError, ray.exceptions.RayError) as error:
                first = next(iter(str(error).splitlines()), type(error).__name__)
                token = "; one that asks for a token is reached with RAY_AUTH_MODE=token" if self._address else ""
                raise DualFormerError(
                    f"`address={self._address or ''}`: Ray does not start or answer ({first}){token}"
                ) from error
            gpus = 0 if self._device == "cpu" else int(there.get("GPU", 0))
            self._wanted = self._workers or gpus or max(1, int(there.get("CPU", 1)))
            # Of GPUs on several machines each holds whole shares only.
            share = 1 / math.ceil(self._wanted / gpus) if gpus else float(self._device.startswith("cuda"))
            self._takes = {"CPU": 1.0, **({"GPU": share} if share else {})}
            self._worker = ray.remote(num_cpus=1, num_gpus=share, max_restarts=0)(_Worker)
            self._stored = ray.put(self._data)
            stack.pop_all()
        return self

    def __exit__(self, *raised: object) -> None:
        self._ray.shutdown()

    def submit(self, key: Any, work: Callable[..., Any], *arguments: Any, urgent: bool = False) -> None:
        """Adds a job, before all others that wait if it is ``urgent``."""
        job = _Job(key=key, work=work, arguments=arguments)
        if urgent:
            self._jobs.appendleft(job)
        else:
            self._jobs.append(job)

    def results(self) -> Iterator[tuple[Any, Any]]:
        """Yields (key, what ``work`` returned, or `GivenUp`) of jobs as they are done, until all are. More may be added
        meanwhile. Raises what ``make`` and ``work`` raise, and ``DualFormerError`` where no worker lives."""
        ray = self._ray
        try:
            while self._jobs or self._at_work:
                self._staff()
                for ref in self._await():
                    if ref in self._starting:
                        self._begin(ref)
                    elif (done := self._finish(ref)) is not None:
                        yield done
        except ray.exceptions.RayTaskError as error:
            raise error.cause from None
        except ray.exceptions.RayError as error:
            raise DualFormerError(f"`address`: the cluster does not go on ({_last_line(error)})") from error
        finally:
            self._jobs.clear()
            for worker, _ in self._at_work.values():  # what they do now is nobody's
                ray.kill(worker)
            self._at_work.clear()

    def _staff(self) -> None:
        """Asks for as many workers as there is work for."""
        while self._idle and self._jobs:  # some may have died meanwhile: a job is given to one that answers
            worker = self._idle.pop()
            self._starting[worker.answer.remote()] = worker
        while len(self._starting) < len(self._jobs) and len(self._starting) + len(self._at_work) < self._wanted:
            worker = self._worker.remote()
            self._starting[worker.open.remote(self._make, self._stored, _settings())] = worker

    def _employ(self, worker: Any) -> None:
        """Gives the next job to a worker that has just answered."""
        if self._jobs:
            job = self._jobs.popleft()
            self._at_work[worker.do.remote(job.work, *job.arguments)] = worker, job
        else:
            self._idle.append(worker)

    def _await(self) -> list[Any]:
        """Returns those of Ray's promises that are kept."""
        working = bool(self._at_work)
        ready, _ = self._ray.wait([*self._starting, *self._at_work], timeout=None if working else _PATIENCE)
        if not ready:
            free = self._ray.available_resources()
            _log.warning(
                "no worker has begun for %g s: each takes %s, and of the cluster %s are free",
                _PATIENCE,
                " and ".join(f"{number:g} {name}" for name, number in self._takes.items()),
                " and ".join(f"{free.get(name, 0):g} {name}" for name in self._takes),
            )
        return ready

    def _begin(self, ref: Any) -> None:
        worker, exceptions = self._starting.pop(ref), self._ray.exceptions
        try:
            self._ray.get(ref)
        except exceptions.RayTaskError:
            raise
        except exceptions.RayError as error:
            self._failed += 1
            if self._failed > _TRIES * self._wanted:
                raise DualFormerError(
                    f"`address`: the workers die as they begin ({_last_line(error)}); see Ray's logs"
                ) from error
        else:
            self._failed = 0
            self._employ(worker)

    def _finish(self, ref: Any) -> tuple[Any, Any] | None:
        (worker, job), exceptions = self._at_work.pop(ref), self._ray.exceptions
        try:
            name, processor_seconds, seconds, value = self._ray.get(ref)
        except exceptions.RayTaskError:
            raise
        except exceptions.RayError:
            if job.deaths + 1 == _TRIES:
                return job.key, GivenUp(reason=f"its worker died {_TRIES} times")
            self._jobs.appendleft(replace(job, deaths=job.deaths + 1))
            return None
        self._employ(worker)
        cost = self.costs[name]
        cost.jobs += 1
        cost.processor_seconds += processor_seconds
        cost.seconds += seconds
        return job.key, value


class _Worker:
    """Works in a process of its own."""

    def open(self, make: Callable[[Any], Any], data: Any, settings: dict[str, Any]) -> None:
        import fsspec.config

        os.environ.update(settings["environment"])
        fsspec.config.conf.update(settings["fsspec"])
        self._name = f"{machine()} process {os.getpid()}"
        self._made = make(data)

    def answer(self) -> None:
        """Tells by returning that it lives."""

    def do(self, work: Callable[..., Any], *arguments: Any) -> tuple[str, float, float, Any]:
        processor, begun = time.process_time(), time.monotonic()
        value = work(self._made, *arguments)
        return self._name, time.process_time() - processor, time.monotonic() - begun, value


def machine() -> str:
    """Returns the address of the machine of Ray's on which this runs."""
    return _import_ray().util.get_node_ip_address()


def _settings() -> dict[str, Any]:
    """Returns what of this process's settings decides what a file gives: the decoder, and how fsspec reaches stores."""
    import fsspec.config

    decoder = {name: os.environ[name] for name in (DECODER_VARIABLE,) if name in os.environ}
    return {"environment": decoder, "fsspec": dict(fsspec.config.conf)}


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def _import_ray() -> Any:
    # Ray tells its makers what it is used for, which needs a network and is nobody's business.
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    # Ray's core warns of its own doings on standard error, whatever its Python part is told.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    try:
        import ray  # type: ignore[import-not-found]  # an extra
        import ray.exceptions  # type: ignore[import-not-found]
        import ray.util  # type: ignore[import-not-found]
    except ImportError as error:
        raise DualFormerError(
            f"`address`: Ray cannot be imported ({error}); pip install 'dualformer[cluster]'"
        ) from error
    return ray
