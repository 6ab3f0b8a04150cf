"""Joins short labelled clips to long films, and writes which clip is shown when: data to judge timelines by.

    python benchmarks/joined_films.py egogestar/splits.csv --on batch=B --out FOLDER [--films 3] [--gap 2] [--seed 0]
    python benchmarks/joined_films.py ut_interaction/splits.csv --on fold=0 --by sequence --out FOLDER
    dualformer evaluate WEIGHTS --data FOLDER/segments.csv --timeline

The first argument is a list of clips as `dualformer train` takes it (path,label,…). Their order is drawn anew for each
seed; of several films each has its share of the clips, or with --by those of one value of a column, so that a film has
one scene. All are written at the size and frame rate of the film's first one, with grey beside those of another shape
(which tells of their class: of UT-Interaction, clips of one person who points are narrow).
Between two clips nothing happens for 0 to --gap seconds: the last frame of the clip before stands still, fading to grey
and from there to the first of the next one. FOLDER/segments.csv has a line (path,label,start,end) for each clip, in
seconds.
"""

import argparse
import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from dualformer.datasets.csv_list import read_columns
from dualformer.datasets.row_filter import parse_row_filter
from dualformer.datasets.samples import Sample
from dualformer.datasets.splits import open_videos
from dualformer.video.encode import write_video
from dualformer.video.open_video import open_video
from dualformer.video.transforms import resize

Frames = NDArray[np.uint8]
_GREY = 127


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--on", help="rows of the list, as in batch=B")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--films", type=int, default=1)
    parser.add_argument("--by", help="a column of the list, in place of --films: a film for each of its values")
    parser.add_argument("--gap", type=float, default=2.0, help="most seconds of nothing between two clips")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    videos = open_videos(options.data, on=parse_row_filter(options.on) if options.on else None)
    rng = np.random.default_rng(options.seed)
    order = rng.permutation(len(videos))
    options.out.mkdir(parents=True, exist_ok=True)
    rows: list[list[str]] = []
    if options.by:
        columns = read_columns(Path(options.data))
        values = np.array([columns[sample.path][options.by] for sample in videos.samples])
        shares = [order[values[order] == value] for value in sorted(set(values))]
    else:
        shares = np.array_split(order, options.films)
    for number, chosen in enumerate(shares):
        path = options.out / f"film_{number}.mp4"
        samples = [videos.samples[i] for i in chosen.tolist()]
        film = JoinedFilm(samples, videos.classes, gap=options.gap, rng=rng)
        write_video(path, film.frames(), fps=film.fps)
        rows += [[path.name, label, f"{start:.3f}", f"{end:.3f}"] for label, start, end in film.segments]
        print(f"{path}: {len(samples)} clips, {film.shown / film.fps:.1f} s", flush=True)
    with (options.out / "segments.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["path", "label", "start", "end"], *rows])


class JoinedFilm:
    """Clips one after the other, with gaps between, and when each of them is shown."""

    def __init__(
        self, samples: list[Sample], classes: tuple[str, ...], *, gap: float, rng: np.random.Generator
    ) -> None:
        self._samples, self._classes, self._gap, self._rng = samples, classes, gap, rng
        with open_video(samples[0].file) as reader:
            info = reader.info
        self.fps = float(info.fps)
        self.size = info.height // 2 * 2, info.width // 2 * 2
        self.segments: list[tuple[str, float, float]] = []
        """Label, start and end in seconds of the clips so far."""
        self.shown = 0
        """Frames so far."""

    def frames(self) -> Iterator[Frames]:
        """Yields the frames of the film, once."""
        before: Frames | None = None
        for sample in self._samples:
            clip = self._read(sample)
            if before is not None:
                yield from self._counted(self._between(before, clip[0]))
            start = self.shown / self.fps
            yield from self._counted(clip)
            self.segments.append((self._classes[sample.label], start, self.shown / self.fps))
            before = clip[-1]

    def _read(self, sample: Sample) -> Frames:
        """Returns (T, H, W, 3): what is on the screen at each tick of the film's clock."""
        with open_video(sample.file, clock=True) as reader:
            ticks = np.arange(0, reader.times[-1] + 0.5 / self.fps, 1 / self.fps)
            numbers = np.searchsorted(reader.times, ticks + 1e-3, side="right") - 1
            found = dict(reader.frames(np.unique(numbers)))
        pictures = torch.stack([found[number] for number in numbers.tolist()])
        return self._fit(pictures)

    def _fit(self, pictures: torch.Tensor) -> Frames:
        """Returns pictures (T, H, W, 3) at the film's size, grey beside what is narrower or lower."""
        height, width = pictures.shape[1:3]
        scale = min(self.size[0] / height, self.size[1] / width)
        rows, columns = (min(most, round(scale * side)) for most, side in zip(self.size, (height, width), strict=True))
        film = np.full((len(pictures), *self.size, 3), _GREY, dtype=np.uint8)
        top, left = (self.size[0] - rows) // 2, (self.size[1] - columns) // 2
        film[:, top : top + rows, left : left + columns] = resize(pictures, rows, columns).numpy()
        return film

    def _between(self, before: Frames, after: Frames) -> Iterator[Frames]:
        count = round(self._rng.uniform(0, self._gap) * self.fps)
        for i in range(count):
            share = (i + 1) / (count + 1)
            picture, weight = (before, 1 - 2 * share) if share < 0.5 else (after, 2 * share - 1)
            yield np.rint(weight * picture + (1 - weight) * _GREY).astype(np.uint8)

    def _counted(self, frames: Iterator[Frames] | Frames) -> Iterator[Frames]:
        for frame in frames:
            self.shown += 1
            yield frame


if __name__ == "__main__":
    main()
