"""Does a clip of a film of hours take longer to read than one of a short file?

    python benchmarks/long_films.py [--hours 2] [--clips 20] [--rounds 5]

A minute of coloured blocks (320×240, 25 frames a second) is encoded once, and its packets are written as many times as
the film lasts. Training clips of random segments of four seconds are read of both, interleaved; the file of a minute is
small enough that its packets stay in memory, those of the film are listed before. Printed are clips a second of each
round, and the ratio of the medians.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import av
import av.packet
import av.video.stream
import numpy as np

from dualformer.video.augmentation import Augmentation
from dualformer.video.clip_reader import read_training_clip
from dualformer.video.encode import write_video
from dualformer.video.preprocessing import kinetics
from dualformer.video.video_segment import VideoSegment

SECONDS = 60.0
FPS = 25
SEGMENT = 4.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, default=2.0)
    parser.add_argument("--clips", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        short, long = Path(folder) / "minute.mp4", Path(folder) / "film.mp4"
        rng = np.random.default_rng(0)
        pictures = rng.integers(0, 256, (round(SECONDS * FPS), 15, 20, 3), dtype=np.uint8)
        write_video(short, pictures.repeat(16, axis=1).repeat(16, axis=2), fps=FPS)
        times = round(options.hours * 3600 / SECONDS)
        repeat(short, long, times)
        start = time.perf_counter()
        rate(long, SECONDS * times, 1, 0)
        listing = time.perf_counter() - start
        print(f"the film is of {long.stat().st_size / 1e6:.0f} MB; its first clip took {listing:.1f} s")
        found: dict[str, list[float]] = {"minute": [], "film": []}
        for number in range(options.rounds):
            found["minute"].append(rate(short, SECONDS, options.clips, number))
            found["film"].append(rate(long, SECONDS * times, options.clips, number))
            print(f"round {number + 1}: {found['minute'][-1]:.2f} and {found['film'][-1]:.2f} clips/s", flush=True)
        minute, film = (statistics.median(each) for each in found.values())
        print(f"medians: {minute:.2f} of the minute, {film:.2f} of the film; ratio {film / minute:.2f}")


def repeat(short: Path, long: Path, times: int) -> None:
    """Writes the packets of a film as many times, one after the other."""
    with av.open(str(short)) as source, av.open(str(long), "w") as target:
        stream = source.streams.video[0]
        out = target.add_stream_from_template(stream)
        packets = [packet for packet in source.demux(stream) if packet.dts is not None]
        step = packets[0].duration or 0
        length = step * len(packets)
        parts = [(bytes(packet), packet.pts or 0, packet.dts or 0, packet.is_keyframe) for packet in packets]
        for number in range(times):
            for data, pts, dts, key in parts:
                packet = av.packet.Packet(data)
                packet.pts, packet.dts, packet.duration = pts + number * length, dts + number * length, step
                packet.is_keyframe, packet.stream, packet.time_base = key, out, stream.time_base
                target.mux(packet)


def rate(film: Path, seconds: float, clips: int, seed: int) -> float:
    """Reads training clips of random segments; returns how many a second."""
    rng, pre = np.random.default_rng(seed), kinetics(frames=16, stride=4, size=112)
    start = time.perf_counter()
    for _ in range(clips):
        begin = float(rng.uniform(0, seconds - SEGMENT))
        part = VideoSegment(file=film, start=begin, end=begin + SEGMENT)
        read_training_clip(part, pre, rng, Augmentation(flip=0.5), threads=1)
    return clips / (time.perf_counter() - start)


if __name__ == "__main__":
    main()
