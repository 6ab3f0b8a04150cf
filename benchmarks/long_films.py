"""Does a clip of a film of hours take longer to read than one of a short file?

    python benchmarks/long_films.py [--hours 2] [--clips 20] [--rounds 5]

A minute of coloured blocks (320×240, 25 frames a second) is encoded once, and its packets are written as many times as
the film lasts. Training clips of random segments of four seconds are read of both, interleaved; the file of a minute is
small enough that its packets stay in memory, those of the film are listed before. Then the same of the film while its
reader stays open, as it does in training. Printed are clips a second of each round, by the processor's time, with the
memory after it, and the medians with their ratios to the minute's. Linux only (/proc).
"""

import argparse
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path

import av
import av.packet
import av.video.stream
import numpy as np

from dualformer.video.augmentation import Augmentation
from dualformer.video.clip_reader import read_training_clip, training_clip_from_reader
from dualformer.video.encode import write_video
from dualformer.video.kept_readers import KeptReaders
from dualformer.video.preprocessing import kinetics
from dualformer.video.video_segment import VideoSegment
from stream_lateness import resident

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
        print(f"{resident():.0f} MiB in memory before anything is read")
        times = round(options.hours * 3600 / SECONDS)
        repeat(short, long, times)
        start = time.process_time()
        rate(long, SECONDS * times, 1, 0)
        listing = time.process_time() - start
        print(f"the film is of {long.stat().st_size / 1e6:.0f} MB; its first clip took {listing:.1f} s")
        readers = KeptReaders()
        rate(long, SECONDS * times, 1, 0, readers)
        found: dict[str, list[float]] = {"minute": [], "film": [], "film, kept open": []}
        for number in range(options.rounds):
            found["minute"].append(rate(short, SECONDS, options.clips, number))
            found["film"].append(rate(long, SECONDS * times, options.clips, number))
            found["film, kept open"].append(rate(long, SECONDS * times, options.clips, number, readers))
            told = ", ".join(f"{name} {rates[-1]:.2f}" for name, rates in found.items())
            print(f"round {number + 1}, clips a second: {told}; {resident():.0f} MiB in memory", flush=True)
        minute = statistics.median(found["minute"])
        for name, rates in found.items():
            print(f"median of the {name}: {statistics.median(rates):.2f} ({statistics.median(rates) / minute:.2f})")


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


def rate(film: Path, seconds: float, clips: int, seed: int, readers: KeptReaders | None = None) -> float:
    """Reads training clips of random segments, by ``readers`` if given; returns how many a second."""
    rng, pre = np.random.default_rng(seed), kinetics(frames=16, stride=4, size=112)
    start = time.process_time()
    for _ in range(clips):
        begin = float(rng.uniform(0, seconds - SEGMENT))
        part = VideoSegment(file=film, start=begin, end=begin + SEGMENT)
        augmentation = Augmentation(flip=0.5)
        if readers is None:
            read_training_clip(part, pre, rng, augmentation)
        else:
            readers.read(
                part, partial(training_clip_from_reader, path=part, pre=pre, rng=rng, augmentation=augmentation)
            )
    return clips / (time.process_time() - start)


if __name__ == "__main__":
    main()
