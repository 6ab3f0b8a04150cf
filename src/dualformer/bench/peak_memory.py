"""Measures the most memory that a forward pass takes beyond the weights.

On a CPU it is measured in a process of its own: what other networks have left behind in this one, and what they have
raised its peak to, would count as well. The process sets up PyTorch with a network of a few tokens, loads the network,
runs it three times, and says how much more it held at its peak than before it loaded the network, less the weights. So
what is kept twice, in another number format or another order, counts. On a GPU PyTorch's allocator knows.
"""

import ctypes
import dataclasses
import gc
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from dualformer.bench.bench_settings import Setting
from dualformer.bench.prepared_network import BenchError, prepare_network
from dualformer.inference.allocator import keep_freed_memory

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")


def peak_beyond_weights(setting: Setting, exported: Path | None = None, *, keep_freed: bool = False) -> int | None:
    """Returns bytes on a CPU, measured in a process of its own; None where the system does not tell (it takes Linux).

    Errors: `BenchError` with the last line of what the process says, if it fails.
    """
    if not _CLEAR.exists():
        return None
    asked = {
        "setting": dataclasses.asdict(setting),
        "exported": None if exported is None else str(exported),
        "keep_freed": keep_freed,
    }
    command = [sys.executable, "-m", "dualformer.bench.peak_memory", json.dumps(asked)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"]
        raise BenchError(f"{setting}: its memory cannot be measured ({said[-1]})")
    return int(done.stdout)


def peak_on_gpu(run: Callable[[], object], device: torch.device) -> int:
    """Returns the most bytes that tensors take on a CUDA device while ``run`` runs, beyond those there before."""
    run()
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    run()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before


def peak_of(prepare: Callable[[], tuple[Callable[[], object], int]]) -> int:
    """Returns the most bytes that this process, a fresh one on Linux, takes while the function runs that ``prepare``
    returns, less the bytes of weights that ``prepare`` returns with it."""
    _trim_heap()
    before = _read_status("VmRSS")
    run, weight_bytes = prepare()
    _trim_heap()
    _CLEAR.write_text("5", encoding="ascii")  # the peak is now what is resident now
    for _ in range(3):
        run()
    return max(0, _read_status("VmHWM") - before - weight_bytes)


def _read_status(field: str) -> int:
    with _STATUS.open(encoding="ascii") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(field))


def _trim_heap() -> None:
    """Returns to the system the freed memory that glibc keeps."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _peak_in_this_process(setting: Setting, exported: Path | None) -> int:
    # Libraries are loaded, threads started and their code made before anything counts. Those that run exported models
    # do much of it when they load the first one.
    small = Setting(model="dualformer_nano", clip=(2, 32, 32), threads=setting.threads)
    first = small if setting.dtype == "int8" else dataclasses.replace(small, dtype=setting.dtype)
    prepare_network(first, device="cpu").run()
    if exported is not None:
        prepare_network(setting, device="cpu", exported=exported).run()

    def load() -> tuple[Callable[[], object], int]:
        prepared = prepare_network(setting, device="cpu", exported=exported)
        return prepared.run, prepared.weight_bytes + prepared.views.numel()

    return peak_of(load)


if __name__ == "__main__":
    asked = json.loads(sys.argv[1])
    if asked["keep_freed"]:
        keep_freed_memory()
    wanted = Setting(**{**asked["setting"], "clip": tuple(asked["setting"]["clip"])})
    print(_peak_in_this_process(wanted, Path(asked["exported"]) if asked["exported"] else None))
