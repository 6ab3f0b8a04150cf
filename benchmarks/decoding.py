"""Clips a second from files: this package's reader against the plain way, by codec, size, and clips per video.

    python benchmarks/decoding.py --keep FOLDER          # films of 10 s, made once; 6 kinds take about 10 minutes
    python benchmarks/decoding.py --videos FOLDER        # one's own instead
    python benchmarks/decoding.py --only loader          # or speed, memory

The plain way: open the file, seek to the key frame before the clip, decode all, turn the wanted frames into RGB arrays
in one thread, resize as float32 with torch. Both sides give the same clips, on one thread: the mean difference of their
pixels is in the table (ours are rounded to whole numbers). They take turns in one process, and the table gives medians
of wall clock and of the process's CPU time: on a machine that others use, too, the second is what counts. "One" is a
training clip, cut at random; "four" are four centre views of a video.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
import torch.nn.functional as F
from av.video.reformatter import VideoReformatter
from torch import Tensor

from dualformer.datasets.clip_datasets import Batches, EpochSampler, TrainingClips
from dualformer.datasets.manifest import find_videos
from dualformer.datasets.samples import Sample, VideoList
from dualformer.video.augmentation import Augmentation
from dualformer.video.backend import decoder
from dualformer.video.clip_reader import read_training_clip, read_views
from dualformer.video.frame_converter import ONE_THREAD
from dualformer.video.preprocessing import kinetics
from dualformer.video.sampling import even_clips, random_clip
from dualformer.video.transforms import draw_crop

SIZES = {"340x256": (256, 340), "720p": (720, 1280)}
ENCODERS: dict[str, tuple[str, str, dict[str, str]]] = {
    "H.264": ("libx264", "mp4", {"preset": "medium", "crf": "20", "g": "250"}),
    "H.264, groups of 12": ("libx264", "mp4", {"preset": "medium", "crf": "20", "g": "12"}),
    "HEVC": ("libx265", "mp4", {"preset": "fast", "x265-params": "log-level=none:keyint=250:crf=22"}),
    "VP9": ("libvpx-vp9", "webm", {"crf": "26", "b": "0", "g": "128", "cpu-used": "5", "lag-in-frames": "16"}),
}
FPS, SECONDS = 30, 10
PRE = kinetics(32, 2, 224)
AUGMENTATION = Augmentation(flip=0.5)


def film(size: tuple[int, int], seed: int) -> Any:
    """Frames (H, W, 3) of a wandering camera over a textured ground, with things that move, and grain."""
    height, width = size
    rng = torch.Generator().manual_seed(seed)
    unit = height / 256

    def texture(h: int, w: int) -> Tensor:
        out = torch.zeros(1, 3, h, w)
        for cell, strength in ((64, 40), (24, 25), (9, 14), (3, 6)):
            grid = torch.randn(1, 3, max(2, int(h / cell / unit)), max(2, int(w / cell / unit)), generator=rng)
            out += strength * F.interpolate(grid, size=(h, w), mode="bicubic", align_corners=False)
        return out + 120

    margin = int(48 * unit)
    ground = texture(height + 2 * margin, width + 2 * margin)
    things = [texture(int(s * unit), int(0.8 * s * unit)) for s in (40, 60, 80)]
    phase = 6.28 * torch.rand(8, generator=rng)
    for i in range(FPS * SECONDS):
        t = i / FPS
        y = margin + 40 * unit * float(torch.sin(0.5 * t + phase[0]))
        x = margin + 40 * unit * float(torch.sin(0.7 * t + phase[1]))
        dy, dx = y - int(y), x - int(x)
        part = ground[..., int(y) : int(y) + height + 1, int(x) : int(x) + width + 1]
        rows = (1 - dy) * part[..., :-1, :] + dy * part[..., 1:, :]
        frame = (1 - dx) * rows[..., :-1] + dx * rows[..., 1:]
        for k, thing in enumerate(things):
            h, w = thing.shape[2:]
            top = int((height - h) * (0.5 + 0.5 * float(torch.sin((1 + 0.4 * k) * t + phase[2 + k]))))
            left = int((width - w) * (0.5 + 0.5 * float(torch.sin((1.5 - 0.3 * k) * t + phase[5 + k]))))
            frame[..., top : top + h, left : left + w] = thing
        frame += 4 * torch.randn(frame.shape, generator=rng)
        yield frame[0].permute(1, 2, 0).clamp(0, 255).byte().contiguous().numpy()


def encode(folder: Path, size: str, codecs: list[str], seed: int) -> None:
    """A film by each encoder, unless it is there."""
    targets = {path_of(folder, size, codec, seed): ENCODERS[codec] for codec in codecs}
    targets = {path: how for path, how in targets.items() if not path.exists()}
    if not targets:
        return
    print(f"making {', '.join(path.name for path in targets)}", file=sys.stderr, flush=True)
    convert = VideoReformatter()
    with ExitStack() as stack:
        opened = []
        for path, (codec, _, options) in targets.items():
            container = stack.enter_context(av.open(str(path.with_name(f"partial-{path.name}")), "w"))
            stream: Any = container.add_stream(codec, rate=Fraction(FPS), options=options)
            stream.height, stream.width, stream.pix_fmt = *SIZES[size], "yuv420p"
            opened.append((container, stream))
        for picture in film(SIZES[size], seed):
            rgb = av.VideoFrame.from_ndarray(picture, format="rgb24")
            for container, stream in opened:
                container.mux(stream.encode(convert.reformat(rgb, format="yuv420p", **ONE_THREAD)))
        for container, stream in opened:
            container.mux(stream.encode())
    for path in targets:
        path.with_name(f"partial-{path.name}").replace(path)


def path_of(folder: Path, size: str, codec: str, seed: int) -> Path:
    return folder / f"{size} {codec} {seed}.{ENCODERS[codec][1]}"


def plain_frames(path: Path, start: int, wanted: set[int]) -> Tensor:
    """Frames by number as float32 (n, 3, H, W) planes; numbers follow from times and the rate, as is usual."""
    pictures = []
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "NONE"
        stream.codec_context.thread_count = 1
        rate, tick = stream.average_rate, stream.time_base
        assert rate is not None and tick is not None
        zero = stream.start_time or 0
        container.seek(zero + round(start / rate / tick), stream=stream)
        for frame in container.decode(stream):
            assert frame.pts is not None
            number = round((frame.pts - zero) * tick * rate)
            if number in wanted:
                pictures.append(frame.to_ndarray(format="rgb24", **ONE_THREAD))
            if number >= max(wanted):
                break
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float()


def plain_training_clip(path: Path, seed: int) -> Tensor:
    rng = np.random.default_rng(seed)
    indices = random_clip(np.arange(length_in_header(path)) / FPS, PRE, rng)
    frames = plain_frames(path, int(indices[0]), set(indices.tolist()))
    crop = draw_crop(frames.shape[2], frames.shape[3], PRE.crop, AUGMENTATION, rng)
    box = frames[:, :, crop.top : crop.top + crop.height, crop.left : crop.left + crop.width]
    clip = F.interpolate(box, (PRE.crop, PRE.crop), mode="bilinear", antialias=True)
    return clip.flip(3) if crop.flip else clip


def plain_views(path: Path, clips: int) -> Tensor:
    out = []
    for indices in even_clips(np.arange(length_in_header(path)) / FPS, PRE, clips):
        frames = plain_frames(path, int(indices[0]), set(indices.tolist()))
        height, width = frames.shape[2:]
        scale = PRE.resize / min(height, width)
        size = (max(PRE.resize, round(height * scale)), max(PRE.resize, round(width * scale)))
        small = F.interpolate(frames, size, mode="bilinear", antialias=True)
        top, left = (size[0] - PRE.crop) // 2, (size[1] - PRE.crop) // 2
        out.append(small[:, :, top : top + PRE.crop, left : left + PRE.crop])
    return torch.stack(out)


def length_in_header(path: Path) -> int:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        if stream.frames:
            return stream.frames
        assert container.duration is not None and stream.average_rate is not None
        return int(container.duration / av.time_base * stream.average_rate)


def our_training_clip(path: Path, seed: int) -> Tensor:
    return read_training_clip(path, PRE, np.random.default_rng(seed), AUGMENTATION, threads=1).frames


def our_views(path: Path, clips: int) -> Tensor:
    return read_views(path, PRE, clips=clips, threads=1)


def measure_speed(kinds: dict[str, list[Path]], rounds: int) -> None:
    """The table of clips a second, ours and plain in turns."""
    sides: dict[str, tuple[Callable[[Path, int], Tensor], Callable[[Path, int], Tensor], int]] = {
        "one": (our_training_clip, plain_training_clip, 1),
        "four": (lambda path, _: our_views(path, 4), lambda path, _: plain_views(path, 4), 4),
    }
    print("| videos | clips per video | plain, clips/s | ours, clips/s | times as fast | by CPU time | difference |")
    print("|---|---|---|---|---|---|---|")
    for kind, paths in kinds.items():
        for name, (ours, plain, clips) in sides.items():
            seconds: dict[str, list[tuple[float, float]]] = {"ours": [], "plain": []}
            difference = 0.0
            for number in range(-1, rounds):  # the first is for warming up
                path = paths[number % len(paths)]
                out = {}
                for side in ("ours", "plain") if number % 2 else ("plain", "ours"):
                    begun = time.perf_counter(), time.process_time()
                    out[side] = (ours if side == "ours" else plain)(path, number + 1)
                    spent = time.perf_counter() - begun[0], time.process_time() - begun[1]
                    if number >= 0:
                        seconds[side].append(spent)
                planes = out["ours"].movedim(-1, -3).float()
                difference = max(difference, float((planes - out["plain"]).abs().mean()))
            wall = {side: statistics.median(w for w, _ in spent) for side, spent in seconds.items()}
            cpu = {side: statistics.median(c for _, c in spent) for side, spent in seconds.items()}
            print(
                f"| {kind} | {name} | {clips / wall['plain']:.1f} | {clips / wall['ours']:.1f} | "
                f"**{wall['plain'] / wall['ours']:.2f}** | {cpu['plain'] / cpu['ours']:.2f} | {difference:.2f} |",
                flush=True,
            )
    print()


def measure_loader(kind: str, paths: list[Path], workers: list[int], rounds: int, clips: int) -> None:
    """Training clips a second by the number of loader workers, in turns; how busy the machine was besides."""
    videos = VideoList(
        classes=("any",), samples=tuple(Sample(path=paths[i % len(paths)], label=0) for i in range(clips)), source=kind
    )
    data = TrainingClips(videos, PRE, seed=0, augmentation=AUGMENTATION)
    loaders = {
        count: Batches(
            data, batch_size=4, sampler=EpochSampler(clips, seed=0), num_workers=count, persistent_workers=count > 0
        )
        for count in workers
    }
    rates: dict[int, list[float]] = {count: [] for count in workers}
    others: dict[int, list[float]] = {count: [] for count in workers}
    for turn in range(rounds + 1):
        for count, loader in loaders.items():
            batches = iter(loader)
            if turn == 0:
                list(batches)  # starts the workers
                continue
            next(batches)
            begun, busy = time.perf_counter(), cpu_seconds()
            done = sum(len(batch["clip"]) for batch in batches)
            spent = time.perf_counter() - begun
            rates[count].append(done / spent)
            others[count].append((cpu_seconds() - busy) / spent)
    print(f"| workers, {kind} | clips/s | times one worker | cores busy, all processes |\n|---|---|---|---|")
    for count in workers:
        rate = statistics.median(rates[count])
        ratio = [a / b for a, b in zip(rates[count], rates.get(1, []), strict=False)]
        times = f"{statistics.median(ratio):.2f}" if ratio else ""
        print(f"| {count} | {rate:.1f} | {times} | {statistics.median(others[count]):.2f} |", flush=True)
    print()


def cpu_seconds() -> float:
    """CPU seconds that all processes of this machine have used (Linux)."""
    with Path("/proc/stat").open(encoding="ascii") as stat:
        user, nice, system, _, _, irq, soft, *_ = map(int, stat.readline().split()[1:])
    return (user + nice + system + irq + soft) / os.sysconf("SC_CLK_TCK")


def measure_memory(kinds: dict[str, list[Path]], clips: int) -> None:
    """Memory of this process over ``clips`` training clips from all videos in turn."""
    paths = [path for group in kinds.values() for path in group]
    held = []
    for number in range(clips):
        read_training_clip(paths[number % len(paths)], PRE, np.random.default_rng(number), AUGMENTATION, threads=1)
        if (number + 1) % (clips // 8) == 0:
            with Path("/proc/self/statm").open(encoding="ascii") as statm:
                held.append(int(statm.read().split()[1]) * resource.getpagesize() / 2**20)
    print(f"| clips read | {' | '.join(str((part + 1) * (clips // 8)) for part in range(8))} |\n{'|---' * 9}|")
    print(f"| MiB held | {' | '.join(f'{mib:.0f}' for mib in held)} |\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=Path, help="a folder of videos to read instead of making some")
    parser.add_argument("--keep", type=Path, help="folder for the films that are made")
    parser.add_argument("--films", type=int, default=2, help="films of each size")
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--codecs", nargs="+", choices=ENCODERS, default=list(ENCODERS))
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--clips", type=int, default=4000, help="clips to read for the memory table")
    parser.add_argument(
        "--only", nargs="+", choices=["speed", "loader", "memory"], default=["speed", "loader", "memory"]
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        kinds: dict[str, list[Path]] = {}
        if options.videos:
            for path in find_videos(options.videos):
                kinds[path.name] = [path]
        else:
            folder = options.keep or Path(temporary)
            folder.mkdir(parents=True, exist_ok=True)
            for size in options.sizes:
                for seed in range(options.films):
                    encode(folder, size, options.codecs, seed)
                for codec in options.codecs:
                    kinds[f"{size} {codec}"] = [path_of(folder, size, codec, seed) for seed in range(options.films)]
        print(f"{decoder()}, PyTorch {torch.__version__}; clips of {PRE.frames} frames, stride {PRE.stride}, ", end="")
        print(f"{PRE.crop}x{PRE.crop}; one thread\n")
        if "speed" in options.only:
            measure_speed(kinds, options.rounds)
        if "loader" in options.only:
            kind, paths = next(iter(kinds.items()))
            measure_loader(kind, paths, options.workers, max(3, options.rounds // 2), clips=48)
        if "memory" in options.only:
            measure_memory(kinds, options.clips)


if __name__ == "__main__":
    main()
