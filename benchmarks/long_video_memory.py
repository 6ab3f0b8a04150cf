"""Peak memory of `dualformer predict` on videos of 1, 10 and 60 minutes, each in a process of its own.

    python benchmarks/long_video_memory.py  # 320x240 at 30 frames a second: about 5 minutes on two cores
    python benchmarks/long_video_memory.py --minutes 1 180 --size 160x120 --mbit 2 --weights WEIGHTS.safetensors

A film is one minute of moving noise, encoded once and its packets written again and again, so that an hour is made in
seconds. ``--mbit`` is how dense the noise is: an hour of 4 Mbit/s does not fit into what the reader keeps of a short
file. Beside the peak of the whole process stands what the video adds to that of the shortest one. Linux only (/proc).
"""

from __future__ import annotations

import argparse
import json
import tempfile
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from own_process import run_dualformer

FPS = 30


def make_film(path: Path, minutes: int, size: tuple[int, int], mbit: float, seconds: int = 10) -> None:
    """H.264 in MP4: ``seconds`` of noise that moves, one group of pictures long, over and over."""
    width, height = size
    rng = np.random.default_rng(0)
    sheet = rng.integers(0, 256, (height + seconds * FPS, width, 3), dtype=np.uint8)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=Fraction(FPS))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.bit_rate = int(mbit * 1e6)
        stream.codec_context.gop_size = seconds * FPS
        stream.codec_context.options = {"preset": "ultrafast", "bf": "0", "sc_threshold": "0", "keyint_min": "300"}
        packets = []
        for i in range(seconds * FPS):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(sheet[i : i + height]), format="rgb24")
            packets += stream.encode(frame)
        packets += stream.encode()
        contents = [(bytes(packet), packet.pts, packet.dts, packet.is_keyframe) for packet in packets]
        tick = packets[0].time_base
        step = round(seconds / tick)
        for turn in range(minutes * 60 // seconds):
            for content, pts, dts, key in contents:
                packet = av.Packet(content)
                packet.stream, packet.time_base = stream, tick
                packet.pts, packet.dts = pts + turn * step, dts + turn * step
                packet.is_keyframe = key
                container.mux(packet)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", nargs="+", type=int, default=[1, 10, 60])
    parser.add_argument("--size", default="320x240")
    parser.add_argument("--mbit", type=float, default=1.0, help="a second")
    parser.add_argument("--weights", default="rendered")
    parser.add_argument("--views", nargs="+", default=["4x1", "16x1"])
    parser.add_argument("--json", action="store_true", help="a JSON object for each row instead of a table")
    options = parser.parse_args()
    width, height = map(int, options.size.split("x"))
    if not options.json:
        print(
            "| minutes | frames | file, MB | views | seconds | peak, MiB | added, MiB |\n|---|---|---|---|---|---|---|"
        )
    shortest: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        for minutes in options.minutes:
            film = Path(folder) / f"{minutes}.mp4"
            make_film(film, minutes, (width, height), options.mbit)
            for views in options.views:
                arguments = ("--weights", options.weights, "--views", views, "--json", "--device", "cpu")
                _, peak, seconds = run_dualformer("predict", str(film), *arguments)
                added = peak - shortest.setdefault(views, peak)
                frames, size = minutes * 60 * FPS, film.stat().st_size / 1e6
                if options.json:
                    row = {"minutes": minutes, "frames": frames, "views": views, "seconds": seconds, "mib": peak}
                    print(json.dumps(row), flush=True)
                    continue
                print(
                    f"| {minutes} | {frames:,} | {size:.0f} | {views} | {seconds:.1f} | {peak:.0f} | {added:+.1f} |",
                    flush=True,
                )
            film.unlink()


if __name__ == "__main__":
    main()
