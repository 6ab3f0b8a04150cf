"""How much slower beside other processes? Each way to compute, quiet and in company, in turns.

    python benchmarks/company.py                                       # nano and Tiny, every side: half an hour
    python benchmarks/company.py --works "nano float32" "nano step" --rounds 10
    python benchmarks/company.py --environment GOMP_SPINCOUNT=300000   # with threads that wait as PyTorch's own do

Company is (a) one busy Python loop, (b) the same work in a second process, (c) `dualformer train` with a loader's
worker. A companion runs in a process group of its own, which is stopped (SIGSTOP) but for its turns, so that all rounds
see the same machine. "nano" is four clips of 16×112×112, "tiny" one of 32×224×224, from 8-bit views to probabilities;
"step" a training step of Nano Conv on 16 clips of 16×64×64; "serve" an upload of a short film to `dualformer serve`,
which decodes it and answers. Threads wait as those of the command line do. Figures are medians, quiet in ms, and in
company times as long.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import torch

from dualformer.bench.bench_settings import Backend, Dtype, Setting
from dualformer.bench.exports import check_backend, make_exports
from dualformer.bench.machine_info import describe_machine
from dualformer.bench.prepared_network import BenchError, prepare_network
from dualformer.bench.table import markdown_table
from dualformer.datasets.rendered import HORIZONTAL, Scene, render
from dualformer.inference.allocator import keep_freed_memory
from dualformer.model.config import Size3
from dualformer.video.encode import write_video
from own_process import wait_as_the_command_line
from training_step import stepper

CLIPS: dict[str, tuple[str, Size3, int]] = {
    "nano": ("dualformer_nano", (16, 112, 112), 4),
    "tiny": ("dualformer_tiny", (32, 224, 224), 1),
}
WAYS: dict[str, tuple[Backend, Dtype]] = {
    "float32": ("eager", "float32"),
    "bfloat16": ("eager", "bfloat16"),
    "openvino float32": ("openvino", "float32"),
    "openvino bfloat16": ("openvino", "bfloat16"),
    "onnx float32": ("onnx", "float32"),
}
WORKS = [f"{network} {way}" for network in CLIPS for way in WAYS] + ["nano step", "nano step bfloat16", "serve"]
QUIET, LOOP, TWIN, TRAIN = "quiet", "a busy loop", "a second copy of itself", "train"
COMPANY = (QUIET, LOOP, TWIN, TRAIN)
_SETTLED = 0.5
"""Seconds that a companion runs before its turn counts."""


@contextlib.contextmanager
def ready(work: str, folder: Path) -> Iterator[Callable[[], object]]:
    """The work as a function that returns when it is done. Raises `BenchError` where an extra is missing."""
    name, _, way = work.partition(" ")
    if work == "serve":
        with serving(folder) as upload:
            yield upload
    elif way.startswith("step"):
        yield stepper(f"ours {'bfloat16' if 'bfloat16' in way else 'float32'}", "dualformer_nano_conv", "16x64x64", 16)
    else:
        model, clip, batch = CLIPS[name]
        backend, dtype = WAYS[way]
        threads = torch.get_num_threads()
        setting = Setting(model=model, clip=clip, batch=batch, backend=backend, dtype=dtype, threads=threads)
        exported = None
        if backend != "eager":
            check_backend(setting)
            own = folder / work.replace(" ", "-")
            own.mkdir(exist_ok=True)
            exported = make_exports([setting], own, say=lambda line: print(line, file=sys.stderr, flush=True))[setting]
        yield prepare_network(setting, device="cpu", exported=exported).run


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[Callable[[], object]]:
    """A server with the weights that come with the package, and a function that has it label a film."""
    film = folder / "film.mp4"
    write_video(film, render(Scene(classes=HORIZONTAL, size=128), 0, 1).frames, fps=12)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "dualformer", "serve", "--weights", "rendered", "--port", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    url = f"http://127.0.0.1:{port}"
    part = b'--film\r\nContent-Disposition: form-data; name="video"; filename="film.mp4"\r\n\r\n'
    body = part + film.read_bytes() + b"\r\n--film--\r\n"
    request = urllib.request.Request(f"{url}/predict", body, {"Content-Type": "multipart/form-data; boundary=film"})

    def upload() -> None:
        urllib.request.urlopen(request, timeout=600).read()

    try:
        for _ in range(240):
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"{url}/ready", timeout=5).read()
                break
            time.sleep(0.5)
        upload()
        yield upload
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


class Companion:
    """Processes that compute in their turns alone."""

    def __init__(self, command: list[str]) -> None:
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True, text=True
        )
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(("busy", "epoch")):
                break
        else:
            raise SystemExit(f"`{' '.join(command)}` ended before it was busy")
        self.stop()

    def stop(self) -> None:
        os.killpg(self._process.pid, signal.SIGSTOP)

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        os.killpg(self._process.pid, signal.SIGCONT)
        time.sleep(_SETTLED)
        try:
            yield
        finally:
            self.stop()

    def end(self) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def companion(company: str, work: str, folder: Path) -> Companion:
    python = sys.executable
    if company == LOOP:
        return Companion([python, "-uc", "print('busy')\nwhile True: pass"])
    if company == TWIN:
        return Companion([python, "-u", __file__, "--endless", work])
    out = str(folder / "run")
    options = (
        "--data rendered --model dualformer_nano --frames 16 --size 64 --flip off --epochs 1000 --rendered-clips 64"
    )
    return Companion([python, "-um", "dualformer", "train", *options.split(), "--workers", "1", "--out", out])


def measure(work: str, options: argparse.Namespace, folder: Path) -> dict[str, list[float]]:
    """Seconds of every run of a work, by the company that it had."""
    taken: dict[str, list[float]] = {company: [] for company in options.company}
    with ready(work, folder) as run, contextlib.ExitStack() as stack:
        companions: dict[str, Companion] = {}
        for company in options.company:
            if company != QUIET:
                companions[company] = companion(company, work, folder / f"{work}-{company}".replace(" ", "-"))
                stack.callback(companions[company].end)
        run()
        for number in range(options.rounds):
            for company in options.company:
                with companions[company].turn() if company in companions else contextlib.nullcontext():
                    until, runs = time.perf_counter() + options.seconds, list[float]()
                    run()
                    while not runs or time.perf_counter() < until:
                        begun = time.perf_counter()
                        run()
                        runs.append(time.perf_counter() - begun)
                taken[company] += runs
            print(f"{work}: round {number + 1} of {options.rounds}", file=sys.stderr, flush=True)
    return taken


def row(work: str, taken: dict[str, list[float]]) -> list[str]:
    middle = {company: statistics.median(runs) for company, runs in taken.items()}
    quiet = middle[QUIET]
    others = [f"{seconds / quiet:.2f}" for company, seconds in middle.items() if company != QUIET]
    return [work, f"{1000 * quiet:.1f}", *others]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--works", nargs="+", choices=WORKS, default=WORKS)
    parser.add_argument("--company", nargs="+", choices=COMPANY[1:], default=COMPANY[1:])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of a turn")
    parser.add_argument("--environment", nargs="*", default=[], metavar="NAME=VALUE", help="of all processes")
    parser.add_argument("--endless", choices=WORKS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    wait_as_the_command_line(**dict(one.split("=", 1) for one in options.environment))
    options.company = (QUIET, *options.company)
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as folder:
        if options.endless:
            endless(options.endless, Path(folder))
        print(f"{describe_machine()}, {torch.get_num_threads()} threads {' '.join(options.environment)}\n")
        rows = list[list[str]]()
        for work in options.works:
            try:
                rows.append(row(work, measure(work, options, Path(folder))))
            except BenchError as error:
                print(f"{work}: {error}", file=sys.stderr)
    head = ["work", "quiet, ms", *(f"beside {company}" for company in options.company[1:])]
    print("\n".join(markdown_table(head, rows)))


def endless(work: str, folder: Path) -> NoReturn:
    with ready(work, folder) as run:
        run()
        print("busy", flush=True)
        while True:
            run()


if __name__ == "__main__":
    main()
