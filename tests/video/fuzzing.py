"""Broken files by the thousand: seeded mutations of small files of many kinds, and what reading each comes to.

Everything follows from (seed, number): ``write(number)`` makes the same file again, wherever and in whatever order.
"""

from __future__ import annotations

import gc
import logging
import os
import resource
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from kinds import can_encode, make

from dualformer.datasets.isolated_processes import JobFailure, run_isolated
from dualformer.errors import DualFormerError
from dualformer.video.augmentation import Augmentation
from dualformer.video.clip_reader import read_training_clip, read_views
from dualformer.video.container import FrameCountError
from dualformer.video.encode import write_image
from dualformer.video.preprocessing import kinetics
from dualformer.video.pyav_reader import PyAVReader
from dualformer.video.sequential_decoding import decode_all

FUZZED = (
    "h264 mp4", "h264 fragments", "h264 edit list within a group", "h264 matroska", "h264 transport stream",
    "h264 flash", "h264 in avi", "h264 raw", "h264 10 bit", "hevc open groups", "hevc transport stream", "av1 webm",
    "av1 mp4", "vp9", "vp8 with hidden frames", "mpeg-4 in avi with B-frames", "mpeg-4 in mp4 with B-frames",
    "mpeg-2 transport stream", "mpeg-2 program stream", "wmv", "prores", "motion jpeg", "gif", "image",
)  # fmt: skip
MEMORY = 4 * 2**30  # bytes of address space; torch alone takes one to two thirds of a GiB


def mutations() -> dict[str, Callable[[bytearray, bytes, np.random.Generator], bytearray]]:
    """Ways to break a file: its bytes, those of a file of another kind, and where to draw from."""

    def flip(data: bytearray, rng: np.random.Generator, within: int, most: int) -> bytearray:
        for place in rng.integers(0, min(within, len(data)), size=2 ** rng.integers(0, most)):
            data[place] ^= 1 << rng.integers(8)
        return data

    def header_of_another(data: bytearray, other: bytes, rng: np.random.Generator) -> bytearray:
        length = int(2 ** rng.uniform(3, 12))
        return bytearray(other[:length]) + data[length:]

    def tail_of_another(data: bytearray, other: bytes, rng: np.random.Generator) -> bytearray:
        share = rng.uniform(0.1, 0.9)
        return data[: int(share * len(data))] + bytearray(other[int(share * len(other)) :])

    def swapped_chunks(data: bytearray, _: bytes, rng: np.random.Generator) -> bytearray:
        size = int(2 ** rng.uniform(4, 10))
        a, b = sorted(rng.integers(0, max(1, len(data) - size), size=2).tolist())
        size = min(size, b - a)
        data[a : a + size], data[b : b + size] = data[b : b + size], data[a : a + size]
        return data

    def lost_chunk(data: bytearray, _: bytes, rng: np.random.Generator) -> bytearray:
        a = int(rng.integers(len(data)))
        del data[a : a + int(2 ** rng.uniform(0, 11))]
        return data

    def overwritten_chunk(data: bytearray, _: bytes, rng: np.random.Generator) -> bytearray:
        size = min(len(data), int(2 ** rng.uniform(2, 11)))
        a = int(rng.integers(len(data) - size + 1))
        data[a : a + size] = bytes(size) if rng.random() < 0.5 else rng.bytes(size)
        return data

    def extreme_number(data: bytearray, _: bytes, rng: np.random.Generator) -> bytearray:
        """Where a size or a count may stand: the largest, the smallest, nearly all there is."""
        width = int(rng.choice([1, 2, 4, 8]))
        number = int(rng.choice([0, 1, 2**31 - 1, 2**32 - 1, 2**63 - 1, 2**64 - 1, len(data)])) % 256**width
        a = int(rng.integers(min(len(data) - width, 2048)))
        data[a : a + width] = number.to_bytes(width, "big" if rng.random() < 0.5 else "little")
        return data

    return {
        "flipped bits": lambda data, _, rng: flip(data, rng, len(data), 8),
        "flipped bits in the header": lambda data, _, rng: flip(data, rng, 1024, 5),
        "truncated": lambda data, _, rng: data[: int(rng.integers(1, len(data)))],
        "lost start": lambda data, _, rng: data[int(rng.integers(1, len(data))) :],
        "header of another": header_of_another,
        "tail of another": tail_of_another,
        "swapped chunks": swapped_chunks,
        "lost chunk": lost_chunk,
        "overwritten chunk": overwritten_chunk,
        "extreme number": extreme_number,
    }


@dataclass(frozen=True)
class Mutant:
    """A file to read."""

    number: int
    kind: str
    how: str
    path: Path


@dataclass(frozen=True)
class Outcome:
    """What reading a mutant came to. ``fault`` is empty unless something happened that must not."""

    mutant: Mutant
    verdict: str
    """``decodes`` where every way of reading it works, else ``refused``: frames before the damage may be read. Or
    ``crashes`` or ``hangs``."""
    fault: str = ""
    said: str = ""
    """The error that says why it is refused."""
    same: bool = True
    """Frames by number are those that come in order. Broken pictures that FFmpeg does not flag may be patched up in
    another way where the ones before them were skipped."""
    seconds: float = 0.0
    process: int = 0
    memory: int = 0
    """Bytes that the process holds after it."""
    peak: int = 0
    """Bytes that it ever held at most."""


@dataclass(frozen=True)
class Mutants:
    """Mutants of ``whole``, one file of each kind, written into ``folder``."""

    folder: Path
    seed: int
    whole: dict[str, Path]

    @classmethod
    def encoded(cls, folder: Path, seed: int = 0) -> Mutants:
        """Of all kinds that this FFmpeg encodes."""
        whole: dict[str, Path] = {}
        for kind in FUZZED:
            if kind == "image":
                whole[kind] = folder / "whole.png"
                write_image(whole[kind], np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8))
            elif can_encode(kind):
                (folder / kind).mkdir()
                whole[kind] = make(kind, folder / kind)
        return cls(folder, seed, whole)

    def mutant(self, number: int) -> Mutant:
        """What mutant ``number`` is: all kinds in turn, then all of them broken in the next way."""
        kinds, ways = list(self.whole), list(mutations())
        kind, how = kinds[number % len(kinds)], ways[number // len(kinds) % len(ways)]
        return Mutant(number, kind, how, self.folder / f"{number}{self.whole[kind].suffix}")

    def write(self, number: int) -> Mutant:
        """Write it, whatever else it takes drawn from (seed, number)."""
        mutant = self.mutant(number)
        rng = np.random.default_rng([self.seed, number])
        other = self.whole[str(rng.choice([kind for kind in self.whole if kind != mutant.kind]))]
        whole = bytearray(self.whole[mutant.kind].read_bytes())
        mutant.path.write_bytes(mutations()[mutant.how](whole, other.read_bytes(), rng))
        return mutant

    def read(self, numbers: range, *, seconds_limit: float, workers: int | None = None) -> Iterator[Outcome]:
        """Every mutant's outcome, as they come, from processes with limits. Files that bring them down are kept."""
        jobs = [(self, number) for number in numbers]
        for place, said in run_isolated(examine, jobs, seconds_limit=seconds_limit, workers=workers):
            if isinstance(said, JobFailure):
                verdict = "hangs" if said is JobFailure.TIMED_OUT else "crashes"
                yield Outcome(self.mutant(numbers[place]), verdict, fault=said.value)
            else:
                yield said


def examine(job: tuple[Mutants, int]) -> Outcome:
    """Write a mutant; decode it in order, by number, as a clip to train on and as views, in this process."""
    if resource.getrlimit(resource.RLIMIT_AS)[0] != MEMORY:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        torch.set_num_threads(1)
        logging.getLogger("dualformer").addHandler(logging.NullHandler())
    mutant, begun = job[0].write(job[1]), time.monotonic()
    path, pre = mutant.path, kinetics(4, 3, 32)
    tries: dict[str, Callable[[], object]] = {
        "in order": lambda: decode_all(path),
        "by number": lambda: by_number_is_in_order(path, mutant.number),
        "a clip": lambda: read_training_clip(path, pre, np.random.default_rng(0), Augmentation(flip=0.5)),
        "views": lambda: read_views(path, pre, clips=2, crops=3),
    }
    said: dict[str, str] = {}
    fault, same = "", True
    for name, read in tries.items():
        try:
            same &= read() is not False
        except DualFormerError as error:
            said[name] = str(error)
            if str(path) not in said[name] or "\n" in said[name]:
                fault = f"{name}: an error of more than one line, or without the path: {said[name]!r}"
        except BaseException as error:  # anything that is not the project's own is what we are looking for
            fault = f"{name}: {type(error).__name__}: {error}"
    if said and "in order" not in said and not fault:
        fault = f"decodes in order, but not {', '.join(said)}: {next(iter(said.values()))}"
    path.unlink()
    gc.collect()
    return Outcome(
        mutant,
        "refused" if said else "decodes",
        fault=fault,
        said=next(iter(said.values()), ""),
        same=same,
        seconds=time.monotonic() - begun,
        process=os.getpid(),
        memory=memory_held(),
        peak=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    )


def by_number_is_in_order(path: Path, seed: int) -> bool:
    """Whether frames by number are those that are shown at the same times in order."""
    rng = np.random.default_rng(seed)
    with PyAVReader(path, threads=1) as reader:
        for _ in range(2):
            numbers = np.unique(rng.integers(0, len(reader), size=6))
            try:
                frames = reader.read(numbers)
                break
            except FrameCountError:  # the reader has counted its frames meanwhile
                pass
        else:
            raise AssertionError("the frames were counted twice")
        ordered = dict(reader)
    pairs = zip(reader.times[numbers].tolist(), frames, strict=True)
    return all(seconds in ordered and torch.equal(ordered[seconds], frame) for seconds, frame in pairs)


def memory_held() -> int:
    """Bytes of memory that this process holds now."""
    with Path("/proc/self/statm").open(encoding="ascii") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize()
