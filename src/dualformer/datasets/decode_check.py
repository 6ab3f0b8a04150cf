"""Decodes every frame of every file, in processes of their own, so that no file can hang or crash the check.

Verdicts are saved as they come: a check that was stopped is continued, and the next one decodes only new or changed
files.
"""

import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from dualformer.datasets.bad_videos import size_of
from dualformer.datasets.isolated_processes import JobFailure, run_isolated
from dualformer.datasets.manifest import Verdict, absolute_location, read_manifest, write_manifest
from dualformer.datasets.samples import DatasetError
from dualformer.files import lock_for_writing
from dualformer.moved_files import find_moved
from dualformer.remote_paths import RemotePath, as_path
from dualformer.urls import url_of
from dualformer.video.backend import chosen_backend, decoder
from dualformer.video.container import VideoError
from dualformer.video.file_formats import is_image
from dualformer.video.file_slices import LocalFileSlice, Media, is_frame_folder, media_path, media_size
from dualformer.video.frame_patterns import decode_frame_folder, frame_files
from dualformer.video.remote_video import open_remote, remote_stamp
from dualformer.video.sequential_decoding import VideoInfo, decode_all

_FIGURES = ("frames", "fps", "width", "height", "duration", "codec")
"""The fields that a verdict copies from `VideoInfo`."""


@dataclass(frozen=True, kw_only=True)
class CheckResult:
    """A verdict on every file; ``kept`` of them are from an earlier check."""

    verdicts: list[Verdict]
    kept: int


def check_videos(
    paths: Sequence[Media],
    *,
    seconds_limit: float = 60,
    workers: int | None = None,
    progress: Callable[[Verdict], None] | None = None,
) -> list[Verdict]:
    """Decodes every file and returns verdicts in the order of ``paths``.

    A file that takes longer than ``seconds_limit`` to decode, or brings its process down, is bad; the process is
    replaced. ``workers``: processes, None for one per core. ``progress`` is called with each verdict as it comes.
    Processes are spawned: a script that calls this needs the usual ``if __name__ == "__main__":``. Raises as `decoder`
    does where what ``DUALFORMER_DECODER`` names is not there.
    """
    decoded_by = decoder()  # raises where it is missing, before any process starts
    verdicts: dict[int, Verdict] = {}
    for job, verdict in run_isolated(_check_file, paths, seconds_limit=seconds_limit, workers=workers):
        if isinstance(verdict, JobFailure):
            slow = f"it took longer than {seconds_limit:g} s to decode"
            reason = slow if verdict is JobFailure.TIMED_OUT else "decoding it brings the process down"
            path = media_path(paths[job])
            verdict = Verdict(path=path, ok=False, reason=reason, bytes=size_of(path) or 0, decoder=decoded_by)
        verdicts[job] = verdict
        if progress is not None:
            progress(verdict)
    return [verdicts[job] for job in range(len(paths))]


def check_into(
    manifest: str | Path,
    paths: Sequence[Media],
    *,
    seconds_limit: float = 60,
    workers: int | None = None,
    fresh: bool = False,
    progress: Callable[[Verdict], None] | None = None,
) -> CheckResult:
    """Runs `check_videos` and keeps its verdicts in the file ``manifest``.

    A file that the manifest calls good is not decoded again while its size, its modification time and the decoder are
    the same. Bad files are: the disk or the limit may have been at fault. ``fresh``: all files are. ``progress`` gets
    known verdicts too. Until the end, verdicts are kept in a file beside the manifest, from which a stopped check is
    continued. Raises ``DatasetError`` where ``manifest`` is another file, `InUseError` where another check writes it.
    """
    with lock_for_writing(Path(manifest)):
        return _check_into(Path(manifest), paths, seconds_limit, workers, fresh, progress)


def _check_into(
    manifest: Path,
    paths: Sequence[Media],
    seconds_limit: float,
    workers: int | None,
    fresh: bool,
    progress: Callable[[Verdict], None] | None,
) -> CheckResult:
    report = progress or (lambda _: None)
    known = _known_verdicts(manifest)
    verdicts: dict[int, Verdict] = {}
    before = {} if fresh else _verdicts_before(known, paths)
    for i, verdict in before.items():
        if verdict.ok:
            stamp = (*_size_and_mtime(paths[i]), decoder())
            if (verdict.bytes, verdict.modified, verdict.decoder) == stamp:
                verdicts[i] = replace(verdict, path=media_path(paths[i]))
                report(verdicts[i])
    changed = [i for i in range(len(paths)) if i not in verdicts]
    with _journal(manifest, continued=not fresh) as append:

        def found(verdict: Verdict) -> None:
            append(verdict)
            report(verdict)

        media = [paths[i] for i in changed]
        checked = check_videos(media, seconds_limit=seconds_limit, workers=workers, progress=found)
        verdicts |= zip(changed, checked, strict=True)
        whole = [verdicts[i] for i in range(len(paths))]
        write_manifest(manifest, whole)
    return CheckResult(verdicts=whole, kept=len(paths) - len(changed))


def journal_of(manifest: Path) -> Path:
    """Returns the file that holds verdicts until the check is complete."""
    return manifest.with_name(f"{manifest.name}.partial")


@contextmanager
def _journal(manifest: Path, *, continued: bool) -> Iterator[Callable[[Verdict], None]]:
    """Gives a function that appends verdicts to the journal, which is removed when the check is complete."""
    path = journal_of(manifest)
    with path.open("ab" if continued else "wb") as file:

        def append(verdict: Verdict) -> None:
            line = json.dumps(asdict(verdict) | {"path": absolute_location(verdict.path)})
            # A line break first: the last line may have been cut short.
            file.write(f"\n{line}\n".encode("utf-8", "surrogateescape"))
            file.flush()

        yield append
    path.unlink()


def _known_verdicts(manifest: Path) -> dict[str, Verdict]:
    """Returns the verdicts of the last check, and of one that was stopped after it, by location."""
    try:
        known = {absolute_location(v.path): v for v in read_manifest(manifest)} if manifest.exists() else {}
    except DatasetError as error:
        raise DatasetError(f"{error}; choose another `out`, or delete this file") from error
    journal = journal_of(manifest)
    for line in journal.read_bytes().split(b"\n") if journal.is_file() else ():
        with contextlib.suppress(ValueError, TypeError):  # cut short
            entry = json.loads(line)
            known[entry["path"]] = Verdict(**entry | {"path": as_path(entry["path"])})
    return known


def _verdicts_before(known: dict[str, Verdict], paths: Sequence[Media]) -> dict[int, Verdict]:
    """Returns the known verdicts on files by their number in ``paths``, also where all have moved."""
    places = [media_path(media) for media in paths]
    media_at = dict(zip(places, paths, strict=True))

    def same(verdict: Verdict, path: Path) -> bool:
        return (verdict.bytes, verdict.modified) == _size_and_mtime(media_at[path])

    local = [path for path in places if not url_of(path)]
    found = find_moved(known, local, same).by_path
    verdicts = (known.get(url) if (url := url_of(path)) else found.get(path) for path in places)
    return {i: verdict for i, verdict in enumerate(verdicts) if verdict is not None}


def _size_and_mtime(media: Media) -> tuple[int, int]:
    """Returns size and modification time in nanoseconds, 0 if unknown; (-1, 0) for a missing file."""
    try:
        if isinstance(media, RemotePath):
            return remote_stamp(media)
        if isinstance(media, LocalFileSlice):
            return media.size, media.file.stat().st_mtime_ns
        if not isinstance(media, Path):
            return media_size(media), 0
        if is_frame_folder(media):
            stats = [file.stat() for file in frame_files(media)]
            return sum(s.st_size for s in stats), max(s.st_mtime_ns for s in stats)
        stat = media.stat()
    except (OSError, VideoError):
        return -1, 0
    return stat.st_size, stat.st_mtime_ns


def _decode_every_frame(media: Media, on_error: Callable[[VideoInfo], None]) -> VideoInfo:
    if is_frame_folder(media):
        return decode_frame_folder(media, on_error=on_error)
    if chosen_backend() == "pyav" or is_image(media_path(media)):
        return decode_all(media, on_error=on_error)
    from dualformer.video.torchcodec_reader import decode_all_by_torchcodec  # starting torch takes seconds

    return decode_all_by_torchcodec(media)


def _check_file(media: Media) -> Verdict:
    """Decodes a file in this process and returns the verdict."""
    path, (size, modified) = media_path(media), _size_and_mtime(media)
    before: list[VideoInfo] = []
    try:
        info = _decode_every_frame(open_remote(media) if isinstance(media, RemotePath) else media, before.append)
    except VideoError as error:
        reason = error.reason
    except FileNotFoundError:
        reason = "there is no such file"
    except DatasetError as error:  # of a remote shard that cannot be fetched
        reason = str(error)
    except MemoryError:
        reason = "there is not enough memory to decode it"
    except OSError as error:
        reason = f"it cannot be read ({error.strerror})"
    else:
        return Verdict(path=path, ok=True, bytes=size, modified=modified, decoder=decoder(), **_figures(info))
    figures = _figures(before[0]) if before else {}
    size = max(0, size)
    return Verdict(path=path, ok=False, reason=reason, bytes=size, modified=modified, decoder=decoder(), **figures)


def _figures(info: VideoInfo) -> dict[str, Any]:
    return {name: getattr(info, name) for name in _FIGURES} | {"notes": "; ".join(info.notes)}
