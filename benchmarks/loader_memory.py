"""Whether memory grows over many small files, of a training's loader or of `dualformer predict` in each store.

    python benchmarks/loader_memory.py                             # the loader: 10,000 clips, two workers
    python benchmarks/loader_memory.py --files 1000 --stores all   # predict: 1,000 files in every store

The loader has all of augmentation on, and batches mixed as in training: resident MiB of the process that trains and of
its workers after every tenth of the clips, and what was added after the first. Of `predict` the resident MiB are those
after a tenth, half and all of its answers, in a process of its own, with what its server gave. Servers are on this
machine: one of the tests for the web, moto for S3. Linux only (/proc).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from dualformer.datasets.clip_datasets import Batches, EpochSampler, TrainingClips
from dualformer.datasets.rendered import Scene, write_dataset
from dualformer.datasets.splits import open_splits
from dualformer.training.mixing import mix_batch
from dualformer.training.settings.mixing_settings import MixingSettings
from dualformer.video.augmentation import Augmentation, RandAugment
from dualformer.video.preprocessing import kinetics
from own_process import resident_mib

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from range_server import range_server  # type: ignore[import-not-found]  # of the tests

EVERYTHING = Augmentation(
    flip=0.5,
    colour_jitter=0.4,
    randaugment=RandAugment(magnitude=9, number=2, std=0.5),
    erasing=0.25,
)
MIXING = MixingSettings(mixup=0.8, cutmix=1.0, repeats=2)
BATCH = 16
SCENE = Scene(size=64, frames=32, classes=("right", "left"))
MAIN = "import sys; from dualformer.cli.main import main; sys.exit(main(sys.argv[1:]))"
IN_MEMORY = f"""import sys
import fsspec
files = fsspec.filesystem("memory")
files.put(sys.argv.pop(1), "/films", recursive=True)
{MAIN}"""


class Store(NamedTuple):
    """Where the files of a folder are, for a process that is to read them."""

    files: list[str]
    environment: dict[str, str]
    given: Any = None
    """Returns the bytes that the server has given so far."""
    code: str = MAIN
    arguments: tuple[str, ...] = ()


def loader_memory(clips: int, workers: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_dataset(Path(folder) / "videos", SCENE, clips_per_class={"train": 20, "val": 1}, seed=0)
        videos = open_splits(Path(folder) / "videos").train
        data = TrainingClips(videos, kinetics(16, 2, 56), seed=0, augmentation=EVERYTHING)
        sampler = EpochSampler(len(videos), seed=0, repeats=MIXING.repeats)
        batches = Batches(data, batch_size=BATCH, sampler=sampler, num_workers=workers, persistent_workers=workers > 0)
        names = ["main", *(f"worker {i + 1}" for i in range(workers))]
        print(f"| clips | clips/s | {' | '.join(f'{name}, MiB' for name in names)} |\n|{'---|' * (len(names) + 2)}")
        done, epoch, rows, started = 0, 0, [], time.perf_counter()
        while done < clips:
            sampler.at(epoch)
            for number, batch in enumerate(batches):
                mix_batch(batch, MIXING, classes=2, seed=0, epoch=epoch, number=number)
                done += len(batch["clip"])
                if done >= clips * (len(rows) + 1) / 10:
                    children = sorted(child.pid or 0 for child in multiprocessing.active_children())
                    rows.append([resident_mib(process=pid) for pid in (os.getpid(), *children)])
                    rate = done / (time.perf_counter() - started)
                    print(f"| {done} | {rate:.0f} | {' | '.join(f'{value:.1f}' for value in rows[-1])} |", flush=True)
            epoch += 1
    added = [last - first for first, last in zip(rows[0], rows[-1], strict=True)]
    print(f"\nadded after the first tenth: {', '.join(f'{value:+.1f} MiB' for value in added)}")


@contextlib.contextmanager
def local(folder: Path) -> Iterator[Store]:
    yield Store([str(folder)], {})


@contextlib.contextmanager
def memory(folder: Path) -> Iterator[Store]:
    yield Store(["memory://films"], {}, code=IN_MEMORY, arguments=(f"{folder}/",))


@contextlib.contextmanager
def web(folder: Path) -> Iterator[Store]:
    files = {f"/{path.name}": path.read_bytes() for path in folder.iterdir()}
    with range_server(files) as server:
        yield Store([f"{server.url}{name}" for name in files], {}, lambda: server.bytes_given)


@contextlib.contextmanager
def s3(folder: Path) -> Iterator[Store]:
    import s3fs
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        how: dict[str, Any] = {"endpoint_url": f"http://{host}:{port}", "key": "key", "secret": "secret"}
        files: Any = s3fs.S3FileSystem(**how)
        files.mkdir("films")
        files.put(f"{folder}/", "films/", recursive=True)
        yield Store(["s3://films"], {"FSSPEC_S3": json.dumps(how)})
    finally:
        server.stop()


@contextlib.contextmanager
def archive(folder: Path) -> Iterator[Store]:
    """A zip file on this machine."""
    names = _zip(folder)
    yield Store([f"zip://{name}::{folder.with_suffix('.zip')}" for name in names], {})


@contextlib.contextmanager
def web_archive(folder: Path) -> Iterator[Store]:
    names = _zip(folder)
    with range_server({"/films.zip": folder.with_suffix(".zip").read_bytes()}) as server:
        yield Store([f"zip://{name}::{server.url}/films.zip" for name in names], {}, lambda: server.bytes_given)


def _zip(folder: Path) -> list[str]:
    names = sorted(path.name for path in folder.iterdir())
    with zipfile.ZipFile(folder.with_suffix(".zip"), "w") as films:
        for name in names:
            films.write(folder / name, name)
    return names


STORES = {
    "local": local,
    "memory": memory,
    "web": web,
    "s3": s3,
    "zip": archive,
    "zip on the web": web_archive,
}


def predict_memory(stores: list[str], files: int, weights: str) -> None:
    marks = sorted({max(1, files // 10), max(1, files // 2), files})
    print(
        f"| store | {' | '.join(f'{mark:,} files, MiB' for mark in marks)} | added after the first | server gave, MB "
        f"| seconds |\n|{'---|' * (len(marks) + 4)}",
        flush=True,
    )
    for name in stores:
        with tempfile.TemporaryDirectory() as home:
            folder = Path(home) / "films"
            _films(folder, files)
            with STORES[name](folder) as store:
                begun = time.perf_counter()
                found = _watch(store, marks, Path(home) / "list.txt", weights)
                seconds = time.perf_counter() - begun
                given = "" if store.given is None else f"{store.given() / 1e6:.1f}"
        figures = " | ".join(f"{value:.1f}" for value in found)
        added = f"{found[-1] - found[0]:+.1f}"
        print(f"| {name} | {figures} | {added} | {given} | {seconds:.0f} |", flush=True)


def _films(folder: Path, count: int) -> None:
    """Makes so many files, of which every fortieth has the same content."""
    drawn = folder.with_name("drawn")
    write_dataset(drawn, SCENE, clips_per_class={"train": 20, "val": 1}, seed=0)
    videos = sorted((drawn / "train").rglob("*.mp4"))
    folder.mkdir()
    for number in range(count):
        shutil.copy(videos[number % len(videos)], folder / f"{number:05d}.mp4")


def _watch(store: Store, marks: list[int], listed: Path, weights: str) -> list[float]:
    """Returns MiB resident after so many answers."""
    listed.write_text("\n".join(store.files))
    files = [str(listed)] if len(store.files) > 1 else store.files
    command = [sys.executable, "-c", store.code, *store.arguments, "predict", *files]
    command += ["--weights", weights, "--views", "1x1", "--device", "cpu", "--json"]
    found: list[float] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | store.environment) as process:
        assert process.stdout is not None
        for done, line in enumerate(process.stdout, 1):
            if "error" in json.loads(line):
                raise SystemExit(line)
            if done in marks:
                found.append(resident_mib(process=process.pid))
    if process.returncode or len(found) < len(marks):
        raise SystemExit(f"{' '.join(command[3:])} ended with {process.returncode} after {len(found)} marks")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=10_000, help="clips that the loader reads, or files of a store")
    parser.add_argument("--workers", type=int, default=2, help="of the loader")
    parser.add_argument("--stores", nargs="+", choices=["all", *STORES], help="predict from these, in place of it")
    parser.add_argument("--weights", default="rendered", help="of predict")
    options = parser.parse_args()
    if options.stores:
        predict_memory(list(STORES) if "all" in options.stores else options.stores, options.files, options.weights)
    else:
        loader_memory(options.files, options.workers)


if __name__ == "__main__":
    main()
