"""Parts of files at URLs that are kept on disk: found by later runs, of bounded size, and true to the server."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from dualformer import remote_files
from dualformer.disk_cache import SIZE_VARIABLE, PartCache, part_cache
from dualformer.video import remote_video
from dualformer.video.clip_reader import read_views
from dualformer.video.encode import write_video
from dualformer.video.preprocessing import kinetics
from dualformer.video.remote_video import RemoteFile
from dualformer.video.video_source import resolve_source
from range_server import RangeServer, range_server

PRE = kinetics(frames=4, stride=2, size=32)
BLOCK = 4096


@pytest.fixture(autouse=True)
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of what is kept."""
    monkeypatch.setattr(remote_files, "_PAUSES", ())
    monkeypatch.setattr(remote_video, "_BLOCK", BLOCK)
    monkeypatch.setenv("DUALFORMER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv(SIZE_VARIABLE, "1")
    return tmp_path / "cache" / "remote"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RangeServer]:
    with range_server({f"/{name}": film(tmp_path / name, frames) for name, frames in FRAMES.items()}) as running:
        yield running


FRAMES = {"film.mp4": 150, "clip.mp4": 12}


def film(path: Path, frames: int, seed: int = 0) -> bytes:
    noise = np.random.default_rng(seed).integers(0, 256, (frames, 6, 8, 3), dtype=np.uint8)
    write_video(path, noise.repeat(8, axis=1).repeat(8, axis=2), fps=25)
    return path.read_bytes()


def as_remote(url: str) -> RemoteFile:
    source = resolve_source(url)
    assert isinstance(source, RemoteFile)
    return source


def as_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forgets what is in memory."""
    monkeypatch.setattr(remote_video, "_blocks", remote_video._Blocks())
    remote_video._look_up.cache_clear()


@pytest.mark.parametrize("name", FRAMES)
def test_a_later_run_finds_it_here(
    server: RangeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    first = read_views(f"{server.url}/{name}", PRE)
    part = as_remote(f"{server.url}/{name}").read_part(5, 100)  # as digests take them
    assert torch.equal(first, read_views(str(tmp_path / name), PRE))
    assert server.bytes_given > 0
    server.given.clear()
    as_another_process(monkeypatch)
    assert torch.equal(read_views(f"{server.url}/{name}", PRE), first)
    assert as_remote(f"{server.url}/{name}").read_part(5, 100) == part == server.files[f"/{name}"][5:105]
    assert sum(count for _, count in server.given) <= 1  # that parts are served is tried with a byte
    as_another_process(monkeypatch)
    monkeypatch.setenv(SIZE_VARIABLE, "0")
    read_views(f"{server.url}/{name}", PRE)
    assert server.bytes_given > 1


def test_what_was_changed_there_is_fetched_anew(
    server: RangeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_views(f"{server.url}/clip.mp4", PRE)
    server.files["/clip.mp4"] = film(tmp_path / "other.mp4", 12, seed=1)
    as_another_process(monkeypatch)
    assert torch.equal(read_views(f"{server.url}/clip.mp4", PRE), read_views(str(tmp_path / "other.mp4"), PRE))


def test_names_and_contents_hold_no_secret(server: RangeServer, kept: Path) -> None:
    server.login, server.query = "me:opensesame", "sig=tokentoken"
    read_views(f"{server.url}/clip.mp4?sig=tokentoken".replace("://", "://me:opensesame@"), PRE)
    files = list(kept.iterdir())
    assert len(files) == -(-len(server.files["/clip.mp4"]) // BLOCK)
    for file in files:
        assert len(file.stem) == 64 and file.suffix == ".part"
        assert not any(secret in file.read_bytes() for secret in (b"opensesame", b"tokentoken", server.url.encode()))


def test_files_of_which_nothing_tells_that_they_change_are_not_kept(
    server: RangeServer, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_files, "_VERSIONS", ())
    read_views(f"{server.url}/clip.mp4", PRE)
    assert not kept.exists()


def test_what_was_used_least_recently_goes_first(kept: Path) -> None:
    cache = PartCache(kept, 20_000)
    for number in range(19):
        cache.write(str(number), bytes([number]) * 1000)
        os.utime(cache._path(str(number)), ns=(number, number))
    assert cache.read("0", 1000) == bytes(1000)  # used now
    cache.write("new", bytes(1000))
    assert cache.read("0", 1000) and cache.read("new", 1000) and not cache.read("1", 1000)
    assert cache.read("18", 1000) and sum(path.stat().st_size for path in kept.iterdir()) <= 20_000
    assert cache.read("18", 999) is None  # cut off
    cache.write("large", bytes(10_000))
    assert cache.read("large", 10_000) is None
    (kept / f".{'0' * 64}.part.0123abcd.tmp").write_bytes(bytes(19_500))  # a killed process left it
    os.utime(kept / f".{'0' * 64}.part.0123abcd.tmp", ns=(0, 0))
    PartCache(kept, 20_000).write("next", bytes(1000))
    assert not list(kept.glob(".*")) and PartCache(kept, 20_000).read("next", 1000)
    (kept / "thesis.txt").write_bytes(bytes(30_000))  # none of ours
    PartCache(kept, 20_000).write("last", bytes(1000))
    assert (kept / "thesis.txt").exists()


def test_where_nothing_can_be_kept_videos_are_read_all_the_same(
    server: RangeServer, kept: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kept.parent.mkdir()
    kept.write_bytes(b"a file is in the way")
    for name in FRAMES:
        assert torch.equal(read_views(f"{server.url}/{name}", PRE), read_views(str(tmp_path / name), PRE))
    [told] = [each.getMessage() for each in caplog.records]
    assert told.startswith(f"{kept}: parts of files at URLs are not kept any more (") and "Not a directory" in told


def _write_and_read(folder: Path, seed: int) -> None:
    cache, rng = PartCache(folder, 100_000), np.random.default_rng(seed)
    for _ in range(80):
        number = int(rng.integers(0, 60))
        found = cache.read(str(number), 5000)
        assert found in (None, bytes([number]) * 5000)
        if found is None:
            cache.write(str(number), bytes([number]) * 5000)


def test_processes_share_it(kept: Path) -> None:
    fork = multiprocessing.get_context("fork")
    workers = [fork.Process(target=_write_and_read, args=(kept, seed)) for seed in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * 3
    assert 0 < sum(path.stat().st_size for path in kept.iterdir()) <= 100_000 + 3 * 5000


def test_the_variable_says_how_much(monkeypatch: pytest.MonkeyPatch) -> None:
    assert part_cache() is not None
    for off in ("", "0"):
        monkeypatch.setenv(SIZE_VARIABLE, off)
        assert part_cache() is None
    for wrong in ("much", "-1", "inf", "nan"):
        monkeypatch.setenv(SIZE_VARIABLE, wrong)
        with pytest.raises(ValueError, match=f"^{SIZE_VARIABLE}={wrong}: not a number of gigabytes, such as 20"):
            part_cache()
    monkeypatch.setenv(SIZE_VARIABLE, "1")
    monkeypatch.setenv("DUALFORMER_CACHE", "")
    assert part_cache() is None
