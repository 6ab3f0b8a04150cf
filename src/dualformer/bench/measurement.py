"""Measures settings in turns, in one process, against each other and the machine's matrix-multiply peak."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch

from dualformer.bench.bench_settings import EXPORTED, Dtype, Setting
from dualformer.bench.end_to_end import EndToEnd, check_file, measure_file
from dualformer.bench.interleave import percentile, time_interleaved
from dualformer.bench.machine_info import Machine, describe_machine, keep_threads, matmul_peak
from dualformer.bench.peak_memory import peak_beyond_weights, peak_on_gpu
from dualformer.bench.prepared_network import prepare_network
from dualformer.inference.allocator import keep_freed_memory
from dualformer.video.preprocessing import DEFAULT_VIEWS

_PEAK_SECONDS = 0.2
_PEAK_DTYPES: dict[Dtype, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What was measured of one setting. Times are seconds from 8-bit views in memory to probabilities, of a batch."""

    setting: Setting
    device: str
    parameters: int
    macs: float
    """Multiply-adds of one view, counted as in `model.cost`."""
    runs: int
    """How often it was timed."""
    p50: float
    """Half of the runs took at most so long."""
    p95: float
    """95 % of the runs took at most so long."""
    clips_per_second: float
    """By the median."""
    memory: int | None
    """Most bytes that a run takes beyond the weights; None where it was not measured."""
    flops: float
    """Floating-point operations a second by the median, two for a multiply-add."""
    peak: float | None
    """Those of the fastest matrix product in the same number format and with as many threads, in the same rounds; None
    for a format whose peak is not measured."""

    @property
    def share(self) -> float | None:
        """Share of the machine's matrix-multiply peak."""
        return None if self.peak is None else self.flops / self.peak

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "share": self.share}


@dataclass(frozen=True, kw_only=True)
class Measurement:
    machine: Machine
    keeps_freed: bool
    """Whether the allocator was told to keep freed memory."""
    rounds: int
    figures: tuple[Figures, ...]
    """In the order of the settings."""
    video: str | None = None
    files: tuple[EndToEnd, ...] = ()
    """From a video file to its label, where one was given; in the order of the settings."""

    def to_dict(self) -> dict[str, Any]:
        """Returns the measurement for JSON; times in seconds, memory in bytes."""
        return {
            "machine": asdict(self.machine),
            "keeps_freed": self.keeps_freed,
            "rounds": self.rounds,
            "figures": [figures.to_dict() for figures in self.figures],
            "video": self.video,
            "files": [asdict(file) for file in self.files],
        }


def measure(
    settings: Sequence[Setting],
    *,
    device: str = "auto",
    rounds: int | None = None,
    seconds: float = 20.0,
    memory: bool = True,
    keep_freed: bool = False,
    video: Path | None = None,
    views: str = DEFAULT_VIEWS,
    say: Callable[[str], None] = lambda line: None,
    progress: Callable[[float, float], None] | None = None,
) -> Measurement:
    """Measures every setting, in turns, for ``rounds``, or as many as fit into ``seconds``, but three at least.

    A round also times matrix products, so that the peak is that of a machine as busy as it was for the networks.
    ``memory`` measures it, on a CPU in a process of its own for each setting. ``keep_freed`` has the allocator keep
    what is freed, for the rest of the process. ``video`` is a file to label as well, by so many ``views``, for as long
    again. ``say`` is told what is done, ``progress`` seconds gone and seconds in all.

    Errors: as `make_exports`, `prepare_network` and `measure_file`; ``ValueError`` for no settings.
    """
    if not settings:
        raise ValueError("there is nothing to measure")
    keep_freed = keep_freed and keep_freed_memory()
    with keep_threads(), tempfile.TemporaryDirectory() as folder:
        exports: Mapping[Setting, Path] = {}
        if any(setting.backend in EXPORTED for setting in settings):
            from dualformer.bench.exports import make_exports  # here, because half of the package comes with it

            exports = make_exports(settings, Path(folder), say=say)
        say(f"making {len(settings)} networks ready")
        ready = {
            setting: prepare_network(setting, device=device, exported=exports.get(setting), views=views)
            for setting in settings
        }
        products: dict[Setting, tuple[Dtype, int, torch.device]] = {
            setting: (setting.dtype, setting.threads, prepared.recognizer.device) for setting, prepared in ready.items()
        }
        peaks = {product: list[float]() for product in products.values() if product[0] in _PEAK_DTYPES}
        done = 0

        def time_products() -> None:
            nonlocal done
            done += 1
            for (dtype, threads, at), found in peaks.items():
                found.append(matmul_peak(_PEAK_DTYPES[dtype], threads, at, seconds=_PEAK_SECONDS))

        if video is not None:
            check_file(ready, video)
        say("running each in turn")
        runs = {setting: prepared.run for setting, prepared in ready.items()}
        taken = time_interleaved(runs, rounds=rounds, seconds=seconds, between=time_products, progress=progress)
        files: Sequence[EndToEnd] = ()
        if video is not None:
            say(f"labelling {video} with each in turn")
            files = measure_file(ready, video, rounds=rounds, seconds=seconds, progress=progress)
        held: dict[Setting, int | None] = dict.fromkeys(ready)
        if memory:
            say("measuring memory, on a CPU each in a process of its own")
            for setting, prepared in ready.items():
                if prepared.recognizer.device.type == "cuda":
                    held[setting] = peak_on_gpu(prepared.run, prepared.recognizer.device)
                elif prepared.recognizer.device.type == "cpu":
                    held[setting] = peak_beyond_weights(setting, exports.get(setting), keep_freed=keep_freed)
    figures: list[Figures] = []
    for setting, prepared in ready.items():
        cost, p50, found = prepared.cost, median(taken[setting]), peaks.get(products[setting])
        figures.append(
            Figures(
                setting=setting,
                device=str(prepared.recognizer.device),
                parameters=cost.parameters,
                macs=cost.macs,
                runs=len(taken[setting]),
                p50=p50,
                p95=percentile(taken[setting], 95),
                clips_per_second=setting.batch / p50,
                memory=held[setting],
                flops=2 * cost.macs * setting.batch / p50,
                peak=median(found) if found else None,
            )
        )
    return Measurement(
        machine=describe_machine(),
        keeps_freed=keep_freed,
        rounds=done,
        figures=tuple(figures),
        video=str(video) if video else None,
        files=tuple(files),
    )
