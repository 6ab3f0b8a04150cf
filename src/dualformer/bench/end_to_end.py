"""Times the way from a video file to its label, and its parts."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import torch

from dualformer.bench.bench_settings import Setting
from dualformer.bench.interleave import percentile, time_interleaved
from dualformer.bench.prepared_network import PreparedNetwork
from dualformer.inference.recognizer import Recognizer
from dualformer.video.clip_reader import read_views
from dualformer.video.container import FrameCountError
from dualformer.video.open_video import open_video
from dualformer.video.sampling import even_clips
from dualformer.weights.errors import size_text


@dataclass(frozen=True, kw_only=True)
class EndToEnd:
    """Medians of seconds for one file and all its views."""

    setting: Setting
    views: str
    decode: float
    """Opening the file, decoding the frames of all views, and turning them into RGB."""
    preprocess: float
    """Resizing and cutting them to 8-bit views."""
    network: float
    """From the views to probabilities; scaling to the network's range is in it."""
    whole: float
    """From the file to its label, timed by itself."""
    p95: float
    """Of the whole."""
    runs: int


def measure_file(
    ready: Mapping[Setting, PreparedNetwork],
    video: Path,
    *,
    rounds: int | None = None,
    seconds: float = 20.0,
    progress: Callable[[float, float], None] | None = None,
) -> list[EndToEnd]:
    """Times every setting on one file, in turns; the file lies in the system's cache. Errors: as `Recognizer`."""
    functions: dict[tuple[Setting, str], Callable[[], object]] = {}
    check_file(ready, video)
    for setting, prepared in ready.items():
        recognizer, pre = prepared.recognizer, prepared.recognizer.preprocessing
        clips, crops = recognizer.views.clips, recognizer.views.crops
        views = read_views(video, pre, clips=clips, crops=crops)
        for part, function in (
            ("decode", lambda recognizer=recognizer: _decode(video, recognizer)),
            ("read", lambda pre=pre, clips=clips, crops=crops: read_views(video, pre, clips=clips, crops=crops)),
            ("network", lambda recognizer=recognizer, views=views: recognizer.predict_views(views)),
            ("whole", lambda recognizer=recognizer: recognizer(video).top(1)),
        ):
            functions[setting, part] = _with_threads(setting.threads, function)
    taken = time_interleaved(functions, rounds=rounds, seconds=seconds, progress=progress)
    return [_parts(setting, str(ready[setting].recognizer.views), taken) for setting in ready]


def check_file(ready: Mapping[Setting, PreparedNetwork], video: Path) -> None:
    """Reads the file once. Errors: as `Recognizer`; ``ValueError`` for views that files are not cut to."""
    for setting, prepared in ready.items():
        pre = prepared.recognizer.preprocessing
        own = (pre.frames, pre.crop, pre.crop)
        if own != setting.clip:
            raise ValueError(f"{setting.model} reads files as {size_text(own)}: measure them with that `clip`")
    read_views(video, next(iter(ready.values())).recognizer.preprocessing)


def _parts(setting: Setting, views: str, taken: Mapping[tuple[Setting, str], list[float]]) -> EndToEnd:
    decode, read, network, whole = (median(taken[setting, part]) for part in ("decode", "read", "network", "whole"))
    return EndToEnd(
        setting=setting,
        views=views,
        decode=decode,
        preprocess=max(0.0, read - decode),
        network=network,
        whole=whole,
        p95=percentile(taken[setting, "whole"], 95),
        runs=len(taken[setting, "whole"]),
    )


def _decode(video: Path, recognizer: Recognizer) -> None:
    """Decodes the frames of all views, and does nothing with their pixels."""
    pre = recognizer.preprocessing
    with open_video(video, threads=None, fps=None, clock=pre.fps is not None) as reader:
        for _ in range(2):
            try:
                for _ in reader.frames(np.unique(even_clips(reader.times, pre, recognizer.views.clips))):
                    pass
                return
            except FrameCountError:  # the reader has counted its frames meanwhile
                continue


def _with_threads(count: int, function: Callable[[], object]) -> Callable[[], None]:
    def run() -> None:
        if torch.get_num_threads() != count:
            torch.set_num_threads(count)
        function()

    return run
