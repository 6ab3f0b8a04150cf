"""Jobs in processes with limits: ones that hang, die or raise, in any order, with any number of processes."""

import os
import signal
import time

import pytest

from dualformer.datasets.isolated_processes import JobFailure, run_isolated


def work(job: str) -> tuple[str, int]:
    if job == "hang":
        time.sleep(600)
    if job == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if job == "raise":
        raise ZeroDivisionError
    return job.upper(), os.getpid()


@pytest.mark.parametrize("workers", [1, 2, 9])
def test_every_job_has_its_result_or_its_failure(workers: int) -> None:
    jobs = ["a", "hang", "die", "b", "raise", "c"]
    done = dict(run_isolated(work, jobs, seconds_limit=1, workers=workers))
    fates = {i: said for i, said in done.items() if isinstance(said, JobFailure)}
    assert fates == {1: JobFailure.TIMED_OUT, 2: JobFailure.CRASHED, 4: JobFailure.CRASHED}
    assert {i: said[0] for i, said in done.items() if i not in fates} == {0: "A", 3: "B", 5: "C"}


def test_processes_are_kept_while_they_work_and_ended_when_nobody_listens() -> None:
    results = run_isolated(work, list("abcdefgh"), seconds_limit=30, workers=1)
    pids = {next(results)[1][1] for _ in range(7)}
    assert len(pids) == 1
    results.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pids.pop(), 0)


def test_wrong_calls() -> None:
    assert list(run_isolated(work, [], seconds_limit=1)) == []
    for how in ({"seconds_limit": 0}, {"seconds_limit": 1, "workers": 0}):
        with pytest.raises(ValueError, match="must be"):
            next(run_isolated(work, ["a"], **how))
