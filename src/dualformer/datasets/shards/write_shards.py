"""Writes shards: which video goes where is decided first, then one tar file after another is written as a whole.

Videos go in as they are, byte for byte. Those to train on are shuffled, so that every shard is a fair sample of the
data set; those of val and test stay in their order, in which they are read. A video of which there are several segments
is one member of the tar file, once in each split.

A shard that has its name is complete: it is written under another one. Which shards are done is kept in a file that
becomes the index at the end; until then, the same command goes on where it stopped.
"""

import errno
import hashlib
import json
import os
import re
import tarfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from dualformer.datasets.samples import DatasetError, Sample, SegmentSample, VideoList
from dualformer.datasets.shards.read_shards import PARTIAL
from dualformer.datasets.shards.shard_index import (
    INDEX,
    VERSION,
    Entry,
    Index,
    Shard,
    read_index,
    shard_from_json,
    shard_to_json,
)
from dualformer.files import FileWriteError, lock_for_writing, partial_file, write_text
from dualformer.remote_paths import RemotePath
from dualformer.urls import url_of
from dualformer.video.file_slices import Media, is_frame_folder, media_path, media_size
from dualformer.video.frame_patterns import frame_images
from dualformer.video.remote_video import open_remote

_BLOCK = tarfile.BLOCKSIZE
_CHUNK_BYTES = 4 * 2**20  # bytes


@dataclass(frozen=True, kw_only=True)
class WriteResult:
    """What a call of `write_shards` did."""

    index: Path
    shards: int
    """All that there are now."""
    found: int
    """Those that an earlier call had written."""
    samples: Mapping[str, int]
    """Videos of each split."""
    bytes: int


@dataclass(frozen=True, kw_only=True)
class _Member:
    """A video to be written."""

    samples: tuple[tuple[int, Sample], ...]
    """What there is of it in its split, all or parts, each with its number in the list."""
    name: str
    size: int

    @property
    def place(self) -> int:
        """The number that it is called by."""
        return self.samples[0][0]

    @property
    def sample(self) -> Sample:
        return self.samples[0][1]


@dataclass(frozen=True, kw_only=True)
class _PlannedShard:
    file: str
    split: str
    members: tuple[_Member, ...]


def write_shards(
    lists: Mapping[str, VideoList],
    out: str | Path,
    *,
    made_from: str,
    size: int = 256 * 10**6,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> WriteResult:
    """Writes the videos of every split (train, val, test) into shards of about ``size`` bytes in the folder ``out``.

    ``made_from``: the data set in words. ``seed`` decides in which order the videos to train on lie in the shards.
    ``progress`` is called with the number of bytes done and their total. Goes on where an earlier call with the same
    arguments stopped.
    Raises ``ValueError`` for a folder that holds anything else, `DatasetError` where a video cannot be read, changes
    while it is read, or the disk is full: then the shards that are complete stay; `InUseError` while another process
    writes to the folder.
    """
    if url_of(out) is not None:
        raise ValueError(f"{out}: shards are written to a folder; upload it as it is, and read it from there")
    if size < 1:
        raise ValueError(f"the size of a shard must be positive, not {size} bytes")
    out = Path(out)
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file: name a folder for the shards")
    shards = _plan_shards(lists, size, seed)
    plan = _fingerprint(lists, shards)
    with _name_disk_errors(out), lock_for_writing(out, folder=True):
        done = _written_before(out, plan)
        found = len(done)
        copied = sum(member.size for shard in shards if shard.file in done for member in shard.members)
        total = sum(member.size for shard in shards for member in shard.members)

        def count(size: int) -> None:
            nonlocal copied
            copied += size
            if progress is not None:
                progress(copied, total)

        if not (out / INDEX).is_file() or found < len(shards):
            first = next(iter(lists.values()))
            # What a crash left of a last line is gone with this.
            write_text(out / PARTIAL, "".join(f"{line}\n" for line in (plan, *map(_one_line, done.values()))))
            with (out / PARTIAL).open("a", encoding="utf-8", newline="\n") as record:
                for shard in shards:
                    if shard.file not in done:
                        done[shard.file] = _write_shard(out / shard.file, shard, first.classes, count)
                        record.write(f"{_one_line(done[shard.file])}\n")
                        record.flush()
                        os.fsync(record.fileno())
            index = Index(
                classes=first.classes,
                shards=tuple(done[shard.file] for shard in shards),
                missing={split: videos.missing for split, videos in lists.items()},
                made_from=made_from,
                manifest_hash=first.manifest_hash,
                plan=plan,
            )
            write_text(out / INDEX, index.to_json())
            (out / PARTIAL).unlink()
        samples = {split: len(videos) for split, videos in lists.items() if len(videos)}
        size = sum(shard.bytes for shard in done.values())
        return WriteResult(index=out / INDEX, shards=len(done), found=found, samples=samples, bytes=size)


def _plan_shards(lists: Mapping[str, VideoList], size: int, seed: int) -> list[_PlannedShard]:
    names = _names(lists)
    shards: list[_PlannedShard] = []
    for split, videos in lists.items():
        films: dict[Media, list[tuple[int, Sample]]] = {}
        for place, sample in enumerate(videos.samples):
            films.setdefault(sample.media, []).append((place, sample))
        members = [
            _Member(samples=tuple(own), name=names[split][own[0][0]], size=sum(size for _, size in _parts(own[0][1])))
            for own in films.values()
        ]
        if split == "train":
            order = np.random.default_rng([seed, len(members)]).permutation(len(members))
            members = [members[i] for i in order.tolist()]
        starts = np.cumsum([0, *(member.size + 6 * _BLOCK for member in members)])
        # Equally large ones, and not a small one at the end.
        count = -(-int(starts[-1]) // size)
        which = starts[:-1] * count // max(1, int(starts[-1]))
        for number, shard in enumerate(np.unique(which)):
            own = tuple(member for member, its in zip(members, which, strict=True) if its == shard)
            shards.append(_PlannedShard(file=f"{split}-{number:06d}.tar", split=split, members=own))
    return shards


def _names(lists: Mapping[str, VideoList]) -> dict[str, list[str]]:
    """Returns names for the videos of each split: their paths below the folder that all of them have in common."""
    paths = {split: [sample.origin for sample in videos.samples] for split, videos in lists.items()}
    videos = (path.parent if is_frame_folder(path) else path for found in paths.values() for path in found)
    folders = {path.parent for path in videos if path.is_absolute()}
    root = os.path.commonpath(folders) if folders else ""
    return {
        split: [(path.relative_to(root) if path.is_absolute() else path).as_posix() for path in found]
        for split, found in paths.items()
    }


def _parts(sample: Sample) -> list[tuple[Media, int]]:
    """Returns the files of a sample, itself or its frames, and their bytes."""
    with _name_read_errors(sample):
        media = open_remote(sample.media) if isinstance(sample.media, RemotePath) else sample.media
        parts = frame_images(media) if is_frame_folder(media) else [media]
        return [(part, media_size(part)) for part in parts]


def _fingerprint(lists: Mapping[str, VideoList], shards: list[_PlannedShard]) -> str:
    what = [
        VERSION,
        [[split, videos.classes, videos.manifest_hash] for split, videos in lists.items()],
        [[s.file, [row for member in s.members for row in _plan_rows(member)]] for s in shards],
        [[split, one.label, one.name, one.listed] for split, videos in lists.items() for one in videos.missing],
    ]
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:32]


def _plan_rows(member: _Member) -> list[list[Any]]:
    return [
        [member.name, place, member.size, one.label, one.fps, *_times(one).values()] for place, one in member.samples
    ]


def _written_before(out: Path, plan: str) -> dict[str, Shard]:
    """Returns the shards that an earlier call wrote. Raises ``ValueError`` where the folder is not for this one."""
    other = f"{out}: it holds shards of other data, or written with other options: choose another folder"
    if (out / INDEX).is_file():
        index = read_index((out / INDEX).read_text("utf-8", "replace"), str(out / INDEX))
        if index.plan != plan:
            raise ValueError(other)
        return {shard.file: shard for shard in index.shards if _is_there(out, shard)}
    if not (out / PARTIAL).is_file():
        if any(not path.name.startswith(".") for path in out.iterdir()):
            raise ValueError(f"{out}: it is not empty, and what is in it are no shards: choose another folder")
        return {}
    first, *lines = (out / PARTIAL).read_text("utf-8", "replace").split("\n")
    if first != plan:
        raise ValueError(other)
    shards = (shard_from_json(json.loads(line)) for line in lines[:-1])  # a crash may have cut the last line short
    return {shard.file: shard for shard in shards if _is_there(out, shard)}


def _is_there(out: Path, shard: Shard) -> bool:
    path = out / shard.file
    return path.is_file() and path.stat().st_size == shard.bytes


def _one_line(shard: Shard) -> str:
    return shard_to_json(shard).replace("\n", "")


def _write_shard(path: Path, plan: _PlannedShard, classes: tuple[str, ...], count: Callable[[int], None]) -> Shard:
    with partial_file(path) as partial, partial.open("wb") as file:
        tar = _TarWriter(file)
        entries = tuple(entry for member in plan.members for entry in _add(tar, member, classes, count))
        tar.end()
        file.flush()
        os.fsync(file.fileno())
    return Shard(file=path.name, split=plan.split, bytes=tar.size, sha256=tar.digest.hexdigest(), entries=entries)


def _add(tar: "_TarWriter", member: _Member, classes: tuple[str, ...], count: Callable[[int], None]) -> list[Entry]:
    """Writes a video into a shard, and beside it its label, or times and labels of its segments, as other programs look
    for them."""
    key, sample, size = f"{member.place:09d}", member.sample, member.size
    if is_frame_folder(sample.media):
        offset, file = tar.size, f"{key}.{sample.recording.name}"
        for part, part_size in _parts(sample):
            tar.add(f"{key}.{media_path(part).name}", part_size, _bytes_of(part, part_size, sample, count))
        size = tar.size - offset
    else:
        file = key + _suffix(sample.recording)
        ((media, _),) = _parts(sample)
        offset = tar.add(file, size, _bytes_of(media, size, sample, count))
    found = [
        {"label": one.label, "class": classes[one.label], "name": member.name, "index": place} | _times(one)
        for place, one in member.samples
    ]
    whole = len(found) == 1 and not _times(sample)
    about: dict[str, Any] = found[0] if whole else {"segments": found}
    about |= {} if sample.fps is None else {"fps": sample.fps}
    for ending, text in (*([("cls", str(sample.label))] if whole else []), ("json", json.dumps(about))):
        tar.add(f"{key}.{ending}", len(text), iter((text.encode("ascii"),)))
    where: dict[str, Any] = {"member": file, "offset": offset, "size": size, "name": member.name}
    return [Entry(place=place, label=one.label, fps=one.fps, **where, **_times(one)) for place, one in member.samples]


def _times(sample: Sample) -> dict[str, Any]:
    """Returns the start and end of a segment; nothing of a whole video."""
    return {"start": sample.segment.start, "end": sample.segment.end} if isinstance(sample, SegmentSample) else {}


def _suffix(path: Path) -> str:
    """Returns the end of a member's name; programs that read WebDatasets know by it what is inside."""
    return path.suffix if re.fullmatch(r"\.[A-Za-z0-9]+", path.suffix) else ".video"


def _bytes_of(part: Media, size: int, sample: Sample, count: Callable[[int], None]) -> Iterator[bytes]:
    """Yields the bytes of a file. Raises `DatasetError` where they are not ``size``."""
    with _name_read_errors(sample), part.open("rb") as file:
        while size >= 0 and (data := file.read(_CHUNK_BYTES)):
            size -= len(data)
            count(len(data))
            yield data
    if size:
        raise DatasetError(
            f"{sample.file}: it is not as large as a moment ago: give the command again when nothing writes to it"
        )


class _TarWriter:
    """Writes a tar file; ``size`` and ``digest`` are those of what is written so far."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.size = 0
        self.digest = hashlib.sha256()

    def add(self, name: str, size: int, parts: Iterator[bytes]) -> int:
        """Writes a member of ``size`` bytes and returns where they begin.

        Owner and time are left out: the same videos make the same file.
        """
        member = tarfile.TarInfo(name)
        member.size = size
        self._write(member.tobuf(tarfile.GNU_FORMAT))
        start = self.size
        for data in parts:
            self._write(data)
        self._write(bytes(-size % _BLOCK))
        return start

    def end(self) -> None:
        self._write(bytes(2 * _BLOCK))

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self.digest.update(data)
        self.size += len(data)


@contextmanager
def _name_read_errors(sample: Sample) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DatasetError(
            f"{sample.file}: it cannot be read ({error.strerror or error}); leave it out with `manifest`"
        ) from error


@contextmanager
def _name_disk_errors(out: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, FileWriteError) as raised:
        error = raised.__cause__ if isinstance(raised, FileWriteError) else raised
        assert isinstance(error, OSError)
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        remedy = "make room, and give the command again: it goes on" if full else "choose a folder that can be written"
        raise DatasetError(f"{error.filename or out}: cannot be written ({error.strerror}); {remedy}") from error
