"""Videos at URLs: the same frames, of which a part of the file is fetched, and failures that are told and end."""

from __future__ import annotations

import pickle
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from made_videos import encoder

from dualformer import remote_files
from dualformer.remote_files import RemoteError
from dualformer.remote_paths import as_path
from dualformer.video import remote_video
from dualformer.video.clip_reader import read_views
from dualformer.video.container import UnreachableError, VideoError
from dualformer.video.open_video import open_video
from dualformer.video.playback import Playback
from dualformer.video.preprocessing import kinetics
from dualformer.video.remote_video import RemoteFile
from dualformer.video.video_source import BufferedFile, resolve_source
from range_server import RangeServer, range_server

PRE = kinetics(frames=4, stride=2, size=32)
BLOCK = 4096


@pytest.fixture(autouse=True)
def small_and_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small blocks make large films of small ones."""
    monkeypatch.setattr(remote_files, "_PAUSES", (0.0, 0.0, 0.0))
    monkeypatch.setattr(remote_video, "_BLOCK", BLOCK)
    monkeypatch.setattr(remote_video, "_KEPT", 16 * BLOCK)
    monkeypatch.setattr(remote_video, "_blocks", remote_video._Blocks())


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Films of 20 seconds with a key frame each half second, and one that fits into a request."""
    make = encoder(tmp_path_factory.mktemp("remote"))
    how = {"frames": 500, "height": 96, "width": 128, "options": {"g": "12"}}
    return {
        "film.mp4": make("film.mp4", **how),
        "film.mkv": make("film.mkv", **how),
        "clip.mp4": make("clip.mp4", frames=12, height=32, width=32),
    }


@pytest.fixture
def server(films: dict[str, Path]) -> Iterator[RangeServer]:
    with range_server({f"/{name}": path.read_bytes() for name, path in films.items()}) as running:
        yield running


def test_a_clip_of_a_film_takes_a_part_of_it(films: dict[str, Path], server: RangeServer) -> None:
    size = len(server.files["/film.mp4"])
    assert size > 20 * BLOCK
    with open_video(f"{server.url}/film.mp4") as there, open_video(str(films["film.mp4"])) as here:
        assert np.array_equal(there.times, here.times)
        assert server.bytes_given < 0.25 * size  # what lists its frames
        for first in (300, 20, 480):
            clip = np.arange(first, first + 12)
            assert torch.equal(there.read(clip), here.read(clip))
        assert server.bytes_given < 0.6 * size
    with open_video(f"{server.url}/film.mp4#t=10,10.5") as part, open_video(f"{films['film.mp4']}#t=10,10.5") as own:
        assert torch.equal(part.read(np.arange(len(part))), own.read(np.arange(len(own))))


def test_every_way_to_read_gives_the_same(films: dict[str, Path], server: RangeServer) -> None:
    for name, path in films.items():
        url = f"{server.url}/{name}"
        assert torch.equal(read_views(url, PRE, clips=2), read_views(str(path), PRE, clips=2))
        with Playback(url) as there, Playback(str(path)) as here:
            assert all(torch.equal(one[1](), other[1]()) for one, other in zip(there, here, strict=True))
        # Also in another process.
        assert torch.equal(read_views(pickle.loads(pickle.dumps(as_path(url))), PRE), read_views(str(path), PRE))


def test_what_is_kept_is_bounded_and_small_files_take_one_request(server: RangeServer) -> None:
    with open_video(f"{server.url}/film.mkv") as film:
        assert len(film) == 500
    assert len(remote_video._blocks._blocks) == 16
    assert max(count for _, count in server.given) == 8 * BLOCK  # read from its start to its end
    server.given.clear()
    for _ in range(3):
        read_views(f"{server.url}/clip.mp4", PRE)
    assert server.given == [("/clip.mp4", len(server.files["/clip.mp4"]))]


def test_a_server_without_parts_gives_the_file_once(films: dict[str, Path], server: RangeServer) -> None:
    server.ranges = False
    source = resolve_source(f"{server.url}/film.mp4")
    assert isinstance(source, BufferedFile)
    assert torch.equal(read_views(source, PRE), read_views(str(films["film.mp4"]), PRE))
    whole = len(server.files["/film.mp4"])
    assert [count for _, count in server.given] == [whole, whole]  # asked for a part, and for all of it


def test_credentials_open_a_file_and_are_in_no_name(server: RangeServer) -> None:
    server.login, server.query = "me:word", "sig=abc"
    url = f"{server.url}/clip.mp4?sig=abc".replace("://", "://me:word@")
    source = resolve_source(url)
    assert isinstance(source, RemoteFile)
    assert str(source) == f"{server.url}/clip.mp4" and "abc" not in repr(source) and "word" not in repr(source)
    assert read_views(source, PRE).shape == read_views(url, PRE).shape
    server.query = "sig=other"
    with pytest.raises(VideoError) as raised:
        read_views(f"{server.url}/film.mp4?sig=secret", PRE)
    said = f"{server.url}/film.mp4: the server refuses it (403): give fsspec the credentials that it takes"
    assert str(raised.value).startswith(said) and "secret" not in str(raised.value)
    assert raised.value.__cause__ is None


@pytest.mark.parametrize("failure", [429, 503, 500, "cut", 408])
def test_what_passes_is_tried_again(server: RangeServer, failure: int | str) -> None:
    source = resolve_source(f"{server.url}/clip.mp4")
    server.failures = [failure] * 3
    read_views(source, PRE)
    server.failures = [failure] * 9
    remote_video._blocks._blocks.clear()
    with pytest.raises(UnreachableError, match=rf"^{server.url}/clip\.mp4: .* in 4 tries"):
        read_views(source, PRE)
    assert len(server.failures) == 5


def test_a_server_that_asks_to_wait_is_waited_for(server: RangeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr(time, "sleep", waited.append)
    source = resolve_source(f"{server.url}/clip.mp4")
    server.failures, server.retry_after = [429, 503], "7"
    read_views(source, PRE)
    assert waited == [7.0, 7.0]
    remote_video._blocks._blocks.clear()
    server.failures, server.retry_after = [429], "3600"
    with pytest.raises(UnreachableError, match=r"too many requests \(429\), and asks to wait 3600 s: try again later"):
        read_views(source, PRE)
    assert waited == [7.0, 7.0]


@pytest.mark.parametrize("failure", ["silent", "trickle"])
def test_a_slow_server_is_given_up(server: RangeServer, monkeypatch: pytest.MonkeyPatch, failure: str) -> None:
    monkeypatch.setattr(remote_files, "_SILENCE", 0.3)
    monkeypatch.setattr(remote_files, "_SLOWEST", 0.5)
    monkeypatch.setattr(remote_files, "_PAUSES", (0.0,))
    source = resolve_source(f"{server.url}/clip.mp4")
    server.failures = [failure] * 9
    with pytest.raises(UnreachableError, match=r"it cannot be read in 2 tries \(the server does not answer"):
        read_views(source, PRE)


def test_a_silent_server_is_not_asked_again_and_again(server: RangeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_files, "_SILENCE", 0.3)
    server.failures = ["silent"] * 9
    with pytest.raises(RemoteError, match=r"cannot be read \(the server does not answer in time\): see"):
        remote_files.remote_info(f"{server.url}/clip.mp4")
    assert len(server.failures) >= 7  # its size was asked for, and then the file


def test_what_is_not_there_is_not_asked_for_again(server: RangeServer) -> None:
    with pytest.raises(VideoError, match=r"absent\.mp4: there is no such file$"):
        resolve_source(f"{server.url}/absent.mp4")
    assert server.refused <= 2  # by its size, and by itself
    server.login, server.refused = "me:word", 0
    with pytest.raises(VideoError, match=r"clip\.mp4: the server refuses it \(403\)"):
        resolve_source(f"{server.url}/clip.mp4")
    assert server.refused <= 2
