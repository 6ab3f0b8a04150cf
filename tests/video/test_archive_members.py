"""Videos in zip and tar files, here and at URLs: the same frames, read where they lie if they are not compressed."""

from __future__ import annotations

import gc
import io
import tarfile
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from made_videos import encoder

from dualformer import remote_files
from dualformer.datasets.splits import open_splits, open_videos
from dualformer.remote_paths import as_path
from dualformer.video import remote_video
from dualformer.video.archive_members import ArchiveMember
from dualformer.video.buffered_file import BufferedFile
from dualformer.video.clip_reader import read_views
from dualformer.video.container import VideoError
from dualformer.video.open_video import open_video
from dualformer.video.preprocessing import kinetics
from dualformer.video.video_source import resolve_source, source_name
from range_server import range_server

PRE = kinetics(frames=4, stride=2, size=32)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    make = encoder(tmp_path_factory.mktemp("archived"))
    return make("film.mp4", frames=300, height=96, width=128, options={"g": "12"})


def archive_of(kind: str, film: Path, folder: Path) -> Path:
    """An archive of that kind with the film as ``in/film.mp4`` and as two classes, and a list of them."""
    names = ["in/film.mp4", "sets/train/a/1.mp4", "sets/train/b/2.mp4", "sets/val/a/3.mp4", "sets/val/b/4.mp4"]
    content = dict.fromkeys(names, film.read_bytes())
    content["sets/list.csv"] = b"path,label\ntrain/a/1.mp4,a\n../in/film.mp4,b\n"
    path = folder / f"films.{kind.removeprefix('deflated.')}"
    if path.suffix == ".zip":
        how = zipfile.ZIP_DEFLATED if kind.startswith("deflated") else zipfile.ZIP_STORED
        with zipfile.ZipFile(path, "w", how) as members:
            for name, data in content.items():
                members.writestr(name, data)
    else:
        with tarfile.open(path, "w:gz" if kind.endswith("gz") else "w") as members:
            for name, data in content.items():
                entry = tarfile.TarInfo(name)
                entry.size = len(data)
                members.addfile(entry, io.BytesIO(data))
    return path


@pytest.mark.parametrize("kind", ["zip", "deflated.zip", "tar", "tar.gz"])
def test_a_member_is_the_film(kind: str, film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = archive_of(kind, film, tmp_path)
    scheme = "tar" if "tar" in kind else "zip"
    expected = read_views(str(film), PRE, clips=2)
    monkeypatch.chdir(tmp_path)
    for url in (f"{scheme}://in/film.mp4::{archive}", f"{scheme}://in/film.mp4::{archive.name}"):
        source = resolve_source(url)
        assert isinstance(source, ArchiveMember if kind in ("zip", "tar") else BufferedFile)
        assert str(source) == source_name(url) == f"{scheme}://in/film.mp4::{archive}"
        assert torch.equal(read_views(source, PRE, clips=2), expected)
        assert torch.equal(read_views(url, PRE, clips=2), expected)
    with pytest.raises(VideoError, match=rf"^{scheme}://absent\.mp4::{archive}: there is no such file in the archive$"):
        resolve_source(f"{scheme}://absent.mp4::{archive}")
    with pytest.raises(
        VideoError, match=rf"video or image \(.*\): it is an archive: name a file in it, as {scheme}://FILE::ARCHIVE$"
    ):
        read_views(str(archive), PRE)
    with pytest.raises(VideoError, match="there is no such archive: "):
        resolve_source(f"{scheme}://in/film.mp4::{tmp_path}/absent.zip")
    archive.write_bytes(archive.read_bytes()[1000:2000])
    with pytest.raises(VideoError, match=rf"^{scheme}://in/film\.mp4::{archive}: its archive cannot be read \("):
        resolve_source(f"{scheme}://in/film.mp4::{archive}")


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_a_clip_of_a_member_at_a_url_takes_a_part_of_it(
    kind: str, film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_files, "_PAUSES", ())
    monkeypatch.setattr(remote_video, "_BLOCK", 4096)
    monkeypatch.setattr(remote_video, "_blocks", remote_video._Blocks())
    data = archive_of(kind, film, tmp_path).read_bytes()
    with range_server({"/films": data}, login="me:opensesame") as server:
        url = f"{kind}://in/film.mp4::{server.url.replace('://', '://me:opensesame@')}/films"
        with open_video(url) as there, open_video(str(film)) as here:
            clip = np.arange(200, 212)
            assert torch.equal(there.read(clip), here.read(clip))
        assert server.bytes_given < 0.5 * len(data)
        assert source_name(url) == f"{kind}://in/film.mp4::{server.url}/films"


@pytest.mark.parametrize("kind", ["zip", "deflated.zip", "tar"])
def test_an_archive_that_is_given_only_whole_is_fetched_once(
    kind: str, film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And anew when it has changed, where only the last copy is held, and none has a name."""
    monkeypatch.setattr(remote_files, "_PAUSES", ())
    monkeypatch.setattr(remote_video, "_BLOCK", 64)  # it is no small file
    data, copies = archive_of(kind, film, tmp_path).read_bytes(), tmp_path / "copies"
    copies.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(copies))
    expected = read_views(str(film), PRE)
    with range_server({"/films": data}, ranges=False) as server:
        for version in (data, data + bytes(1024)):
            server.files["/films"] = version
            remote_video._look_up.cache_clear()
            server.given.clear()
            for name in ("in/film.mp4", "sets/train/a/1.mp4", "sets/val/b/4.mp4"):
                url = f"{kind.removeprefix('deflated.')}://{name}::{server.url}/films"
                assert torch.equal(read_views(url, PRE), expected)
            assert len(server.given) == 2, "it was tried whether parts are given, and fetched"
            gc.collect()
            held = [each.size for each in gc.get_objects() if isinstance(each, BufferedFile)]
            assert held == [len(version)] and not list(copies.iterdir())
        if kind == "zip":
            with pytest.raises(
                ValueError, match="cannot be listed, as its server gives no parts of files: name a file"
            ):
                as_path(f"zip://sets::{server.url}/films").is_dir()
    remote_video._fetched.cache_clear()


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_data_sets_in_archives(kind: str, film: Path, tmp_path: Path) -> None:
    archive = archive_of(kind, film, tmp_path)
    splits = open_splits(f"{kind}://sets::{archive}")
    assert [len(splits.train), len(splits.val), splits.train.classes] == [2, 2, ("a", "b")]
    rows = open_videos(f"{kind}://sets/list.csv::{archive}").samples
    assert [str(row.path).split("::")[0] for row in rows] == [f"{kind}://sets/train/a/1.mp4", f"{kind}://in/film.mp4"]
    for row in (*rows, splits.val.samples[1]):
        assert torch.equal(read_views(row.file, PRE), read_views(str(film), PRE))
    assert as_path(f"{kind}://sets::{archive}").is_dir() and not as_path(f"{kind}://absent::{archive}").exists()
