"""A film of 30 frames a second played in real time to a network that cannot follow: how late, how many dropped.

    python benchmarks/stream_lateness.py                          # five minutes
    python benchmarks/stream_lateness.py --minutes 1 --slow 0     # as fast as the network is
    python benchmarks/stream_lateness.py --weights WEIGHTS        # as of a temporal head

``--slow`` holds every answer back until it has taken so many clip lengths. A line for every half minute: the worst
latency, from the moment that a clip's last frame was due to its label, in clip lengths as well; frames dropped and
labels missed so far; memory. Ends with 1 if a latency reaches two clip lengths or memory grows by more than 10 MiB
after the first line. Linux only (/proc).
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dualformer.inference.recognizer import Recognizer
from long_video_memory import FPS, make_film


class SlowRecognizer(Recognizer):
    """Takes at least ``least`` seconds for a clip."""

    least = 0.0

    def predict_views(self, views: Tensor) -> NDArray[np.float32]:
        return self._slowly(super().predict_views, views)

    def predict_steps(self, views: Tensor) -> NDArray[np.float32]:
        return self._slowly(super().predict_steps, views)

    def _slowly(self, predict: Callable[[Tensor], NDArray[np.float32]], views: Tensor) -> NDArray[np.float32]:
        begun = time.monotonic()
        found = predict(views)
        time.sleep(max(0.0, begun + self.least - time.monotonic()))
        return found


def resident() -> float:
    """MiB in memory."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--slow", type=float, default=1.5, help="clip lengths that an answer takes")
    parser.add_argument("--size", default="320x240")
    parser.add_argument("--weights", default="rendered")
    options = parser.parse_args()
    torch.set_num_threads(1)
    recognizer = SlowRecognizer.load(options.weights, device="cpu")
    pre = recognizer.preprocessing
    clip = pre.frames * pre.stride / (pre.fps or FPS)
    recognizer.least = options.slow * clip
    width, height = map(int, options.size.split("x"))
    rows: list[tuple[float, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        film = Path(folder) / "film.mp4"
        make_film(film, round(options.minutes + 1), (width, height), 1.0)
        print(f"clips of {clip:.2f} s, answers of at least {options.slow * clip:.2f} s")
        print("| seconds | labels | worst latency, s | in clips | frames | dropped | missed | MiB |")
        print("|---|---|---|---|---|---|---|---|")
        begun, worst = time.monotonic(), 0.0
        stream = recognizer.stream(film, realtime=True, seconds=options.minutes * 60)
        for labels, label in enumerate(stream, 1):
            worst = max(worst, label.latency)
            passed = time.monotonic() - begun
            if passed >= min(30 * (len(rows) + 1), options.minutes * 60 - 2 * clip):
                rows.append((worst, resident()))
                counts = label.counts
                print(
                    f"| {passed:.0f} | {labels} | {worst:.2f} | {worst / clip:.2f} | {counts.frames} | "
                    f"{counts.dropped} | {counts.missed} | {rows[-1][1]:.1f} |",
                    flush=True,
                )
                worst = 0.0
    grown = rows[-1][1] - rows[0][1]
    late = max(latency for latency, _ in rows) / clip
    print(f"\nnever later than {late:.2f} clip lengths; memory {grown:+.1f} MiB after the first line")
    return int(late >= 2 or grown > 10)


if __name__ == "__main__":
    sys.exit(main())
