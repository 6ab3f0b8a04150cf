"""Describes the machine that figures come from, and finds the fastest matrix product that PyTorch does on it.

A network is matrix products for the most part, so their peak is what its speed is held against. On a CPU it is that of
oneDNN: in float32 PyTorch's own product goes through another library, which reaches less than half of it on AMD, but a
1x1 convolution over channels-last pixels is the same product through oneDNN.
"""

import os
import platform
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from dualformer._version import __version__
from dualformer.cores import available_cores

_TOLD_FEATURES = (
    *("avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_bf16", "amx_int8"),
    *("asimd", "bf16", "i8mm", "sve", "sve2", "sme"),
)
"""Flags in /proc/cpuinfo of what makes matrix products faster: x86-64, then ARM."""

_PRODUCTS = ((1024, 1024, 1024), (2048, 512, 2048), (4096, 1024, 1024), (3136, 256, 1024))
"""Tokens, channels in, channels out. Which of them is fastest differs between machines and from number to number."""
_GPU_PRODUCTS = ((4096, 4096, 4096), (8192, 8192, 8192), (8192, 2048, 8192))


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What the speed of a network depends on."""

    cpu: str
    cores: int
    """Cores, or hardware threads, that this process may use."""
    features: tuple[str, ...]
    """Instructions that make matrix products fast; empty where the system does not tell."""
    memory: int | None
    """Bytes of main memory; None where the system does not tell."""
    system: str
    python: str
    torch: str
    threads: int
    """Threads that PyTorch computes with unless told otherwise."""
    gpu: str | None
    allocator: tuple[str, ...]
    """Settings of the memory allocator in the environment, which change a CPU's speed."""
    version: str
    """Of this package."""
    commit: str | None
    """Of the checkout that the package lies in; -dirty: with changes. None where it lies in none."""

    def __str__(self) -> str:
        features = f" ({', '.join(self.features)})" if self.features else ""
        memory = f", {self.memory / 2**30:.0f} GiB" if self.memory else ""
        gpu = f", {self.gpu}" if self.gpu else ""
        allocator = f", {' '.join(self.allocator)}" if self.allocator else ""
        commit = f" at {self.commit}" if self.commit else ""
        return (
            f"{self.cpu}{features}, {self.cores} cores{memory}{gpu}, {self.system}, Python {self.python}, "
            f"PyTorch {self.torch}{allocator}, dualformer {self.version}{commit}"
        )


def describe_machine() -> Machine:
    return Machine(
        cpu=_cpu_name(),
        cores=available_cores(),
        features=tuple(flag for flag in _TOLD_FEATURES if flag in _cpu_flags()),
        memory=_memory(),
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        torch=torch.__version__,
        threads=torch.get_num_threads(),
        gpu=torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        allocator=tuple(f"{key}={value}" for key, value in sorted(os.environ.items()) if _sets_allocator(key)),
        version=__version__,
        commit=_commit(),
    )


def matmul_peak(
    dtype: torch.dtype, threads: int | None = None, device: torch.device | str = "cpu", *, seconds: float = 0.5
) -> float:
    """Returns floating-point operations a second, two for a multiply-add, of the fastest of several matrix products.

    ``threads``: None leaves PyTorch's as they are. ``seconds`` is about how long it takes. Errors: ``ValueError`` for a
    type other than float32, bfloat16 and float16.
    """
    if dtype not in (torch.float32, torch.bfloat16, torch.float16):
        raise ValueError(f"the peak of {dtype} is not measured; choose float32, bfloat16 or float16")
    device = torch.device(device)
    with keep_threads(), torch.inference_mode():
        torch.set_num_threads(threads or torch.get_num_threads())
        sizes = _PRODUCTS if device.type == "cpu" else _GPU_PRODUCTS
        return max(_rate(size, dtype, device, seconds / len(sizes)) for size in sizes)


@contextmanager
def keep_threads() -> Iterator[None]:
    """Restores PyTorch's number of threads afterwards."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _rate(size: tuple[int, int, int], dtype: torch.dtype, device: torch.device, seconds: float) -> float:
    tokens, width, wide = size
    product = _product(tokens, width, wide, dtype, device)
    product()  # the first one chooses its way and sets it up
    ended = time.perf_counter() + seconds
    fastest = float("inf")
    while fastest == float("inf") or time.perf_counter() < ended:
        _wait(device)
        begun = time.perf_counter()
        product()
        _wait(device)
        fastest = min(fastest, time.perf_counter() - begun)
    return 2 * tokens * width * wide / fastest


def _product(
    tokens: int, width: int, wide: int, dtype: torch.dtype, device: torch.device
) -> Callable[[], torch.Tensor]:
    left = torch.full((tokens, width), 0.5, dtype=dtype, device=device)
    right = torch.full((wide, width), 0.5, dtype=dtype, device=device)
    if device.type == "cpu" and dtype is torch.float32:
        pixels = left.view(1, tokens // 16, 16, width).permute(0, 3, 1, 2)
        kernel = right.view(wide, width, 1, 1).to(memory_format=torch.channels_last)
        return lambda: torch.nn.functional.conv2d(pixels, kernel)
    return lambda: left @ right.T


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _cpu_name() -> str:
    names = [value for key, value in _cpuinfo() if key in ("model name", "Model", "Hardware")]
    return names[0] if names else platform.processor() or platform.machine()


def _cpu_flags() -> frozenset[str]:
    return frozenset(next((value.split() for key, value in _cpuinfo() if key in ("flags", "Features")), ()))


def _cpuinfo() -> list[tuple[str, str]]:
    path = Path("/proc/cpuinfo")
    if not path.is_file():
        return []
    pairs = (line.partition(":") for line in path.read_text(encoding="utf-8", errors="replace").splitlines())
    return [(key.strip(), value.strip()) for key, _, value in pairs]


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError):  # not on Windows
        return None


def _sets_allocator(variable: str) -> bool:
    return variable.startswith("MALLOC_") or variable in ("GLIBC_TUNABLES", "LD_PRELOAD", "PYTORCH_CUDA_ALLOC_CONF")


def _commit() -> str | None:
    here = Path(__file__).resolve()

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(["git", *arguments], cwd=here.parent, capture_output=True, text=True, check=False)
        except OSError:  # there is no git
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    # A package that is installed into an environment inside some other checkout is not that checkout's.
    if git("ls-files", "--error-unmatch", here.name) is None:
        return None
    return git("describe", "--always", "--dirty", "--abbrev=12", "--exclude=*")
