"""S3, as a server on this machine speaks it: videos, lists and tables are as here, and what is secret stays so."""

from __future__ import annotations

import logging
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from made_shards import make_videos

from dualformer import remote_files
from dualformer.cli.main import main
from dualformer.datasets.clip_datasets import ViewClips
from dualformer.datasets.splits import open_splits, open_videos
from dualformer.disk_cache import SIZE_VARIABLE
from dualformer.remote_files import RemoteError, read_remote, remote_info, upload
from dualformer.video.clip_reader import read_views
from dualformer.video.container import VideoError
from dualformer.video.preprocessing import kinetics

PRE = kinetics(4, 1, 16)
KEY, SECRET = "AKIAOPENSESAME", "tokentokentoken"


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of classes, and a list of what is in them."""
    root = make_videos(tmp_path_factory.mktemp("s3") / "films", frames=8)
    videos = sorted(path.relative_to(root) for path in root.rglob("v*.mp4"))
    rows = [f"{path},{path.parts[1]},{path.parts[0]}" for path in videos]
    (root / "list.csv").write_text("\n".join(["path,label,split", *rows]) + "\n")
    return root


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    moto = pytest.importorskip("moto.server", reason="moto[s3] and flask-cors are not installed")
    pytest.importorskip("s3fs", reason="the extra [stores] is not installed")
    running = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


@pytest.fixture
def bucket(server: str, here: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """``s3://films`` with the files, found by fsspec's configuration."""
    import s3fs
    from fsspec.config import conf

    monkeypatch.setattr(remote_files, "_PAUSES", ())
    monkeypatch.setitem(conf, "s3", {"endpoint_url": server, "key": KEY, "secret": SECRET})
    s3fs.S3FileSystem.clear_instance_cache()
    files: Any = s3fs.S3FileSystem()
    files.mkdir("films")
    files.put(f"{here}/", "films/", recursive=True)
    yield "s3://films"
    tell(server, "reset-auth", b"inf")
    tell(server, "reset")
    s3fs.S3FileSystem.clear_instance_cache()


def refuse_everybody(server: str) -> None:
    """From the next request on, as nobody has an account."""
    tell(server, "reset-auth", b"0")


def tell(server: str, what: str, data: bytes = b"") -> None:
    asked = urllib.request.Request(f"{server}/moto-api/{what}", data=data, headers={"Content-Type": "text/plain"})
    urllib.request.urlopen(asked).close()


def test_videos_lists_and_folders_are_those_of_this_machine(bucket: str, here: Path) -> None:
    ours, theirs = open_splits(str(here / "list.csv")), open_splits(f"{bucket}/list.csv")
    for one, other in ((ours.train, theirs.train), (ours.val, theirs.val)):
        assert one.classes == other.classes and len(one) == len(other) > 3
        for place in range(3):
            mine, same = ViewClips(one, PRE)[place], ViewClips(other, PRE)[place]
            assert torch.equal(mine["views"], same["views"])
    folder = open_videos(f"{bucket}/train")
    assert folder.classes == open_videos(str(here / "train")).classes and len(folder) == len(ours.train)


def test_a_changed_object_is_another_version(bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where parts are kept on disk."""
    monkeypatch.setenv(SIZE_VARIABLE, "1")
    first = read_views(f"{bucket}/train/clap/v00.mp4", PRE)
    before = remote_info(f"{bucket}/train/clap/v00.mp4")
    assert before.version and before.size == len(read_remote(f"{bucket}/train/clap/v00.mp4"))
    (tmp_path / "other.mp4").write_bytes(read_remote(f"{bucket}/train/clap/v02.mp4"))
    upload(f"{bucket}/train/clap/v00.mp4", tmp_path / "other.mp4")
    from dualformer.video import remote_video

    remote_video._look_up.cache_clear()
    assert remote_info(f"{bucket}/train/clap/v00.mp4").version != before.version
    other = read_views(f"{bucket}/train/clap/v00.mp4", PRE)
    assert not torch.equal(other, first) and torch.equal(other, read_views(str(tmp_path / "other.mp4"), PRE))


def test_what_is_not_there_or_not_for_us(bucket: str, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from fsspec.config import conf

    for absent in (f"{bucket}/absent.mp4", "s3://nowhere/clip.mp4"):
        with pytest.raises(VideoError, match=rf"^{absent}: there is no such file$"):
            read_views(absent, PRE)
    monkeypatch.setitem(conf, "s3", {"endpoint_url": server})
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/nowhere")
    with pytest.raises(VideoError, match=rf"^{bucket}/val/clap/v02\.mp4: the server refuses it: give fsspec the cred"):
        read_views(f"{bucket}/val/clap/v02.mp4", PRE)
    monkeypatch.setitem(conf, "s3", {"endpoint_url": server, "key": KEY, "secret": SECRET})
    refuse_everybody(server)
    with pytest.raises(VideoError, match=rf"^{bucket}/val/clap/v00\.mp4: the server refuses it \(403\): give fsspec"):
        read_views(f"{bucket}/val/clap/v00.mp4", PRE)
    with pytest.raises(RemoteError, match=r"the server refuses it \(403\)"):
        read_remote(f"{bucket}/list.csv")


def test_tables_are_written_and_nothing_tells_a_secret(
    bucket: str,
    server: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import s3fs

    caplog.set_level(logging.INFO)
    monkeypatch.setenv("DUALFORMER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv(SIZE_VARIABLE, "1")
    files: Any = s3fs.S3FileSystem()
    signed = str(files.url("films/train/clap/v00.mp4"))
    assert "Signature=" in signed and KEY in signed
    call = ["--weights", "rendered", "--views", "1x1", "--device", "cpu"]
    assert main(["predict", f"{bucket}/train/clap", signed, *call, "--out", f"{bucket}/out/labels.csv"]) == 0
    table = read_remote(f"{bucket}/out/labels.csv").decode()
    assert table.count("s3://films/train/clap/v") > 2 and f"{server}/films/train/clap/v00.mp4" in table
    refuse_everybody(server)
    other = str(files.url("films/val/wave/v01.mp4"))
    assert main(["predict", f"{bucket}/val/clap/v02.mp4", other, *call]) == 1
    said = capsys.readouterr()
    assert f"failed: {bucket}/val/clap/v02.mp4: the server refuses it (403)" in said.out + said.err
    assert f"failed: {server}/films/val/wave/v01.mp4: " in said.out + said.err
    logged = [each.getMessage() for each in caplog.records if each.name != "werkzeug"]  # which is the server's own
    texts = [table, said.out, said.err, *logged]
    texts += [str(path) + path.read_bytes().decode("latin-1") for path in tmp_path.rglob("*") if path.is_file()]
    signatures = [url.partition("Signature=")[2][:20] for url in (signed, other)]
    assert len(texts) > 6
    assert not [text[:200] for text in texts if any(one in text for one in (KEY, SECRET, *signatures))]
