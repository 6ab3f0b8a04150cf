"""An S3 store, as moto plays it on this machine: videos, lists, folders and tables by `s3://`."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from made_shards import make_videos

pytest.importorskip("s3fs", reason="s3fs is not installed (pip install 'dualformer[stores]')")
moto_server = pytest.importorskip("moto.server", reason="moto is not installed (pip install 'moto[s3,server]')")

from dualformer import remote_files  # noqa: E402  # there may be nothing to test
from dualformer.datasets.clip_datasets import ViewClips  # noqa: E402
from dualformer.datasets.splits import open_splits, open_videos  # noqa: E402
from dualformer.inference.batch_runner import BatchResult, run_batch  # noqa: E402
from dualformer.inference.batch_tasks import LabelTask  # noqa: E402
from dualformer.inference.recognizer import Recognizer  # noqa: E402
from dualformer.remote_paths import as_path  # noqa: E402
from dualformer.video.container import VideoError  # noqa: E402
from dualformer.video.preprocessing import kinetics  # noqa: E402
from dualformer.video.video_source import resolve_source  # noqa: E402
from small_weights import small_network  # noqa: E402

PRE = kinetics(4, 1, 16)


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = make_videos(tmp_path_factory.mktemp("s3") / "films", train=4, val=2)
    (root / "list.csv").write_text("path,label\ntrain/clap/v00.mp4,a\ns3://films/val/wave/v01.mp4,b\n")
    return root


@pytest.fixture
def bucket(here: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A bucket, reached and entered by fsspec's own settings, as those of a user are."""
    import fsspec
    from fsspec.config import conf

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = moto_server.ThreadedMotoServer("127.0.0.1", port, verbose=False)
    server.start()
    for name, value in (("AWS_ACCESS_KEY_ID", "AKIAOPENSESAME"), ("AWS_SECRET_ACCESS_KEY", "opensesame")):
        monkeypatch.setenv(name, value)
    monkeypatch.setitem(conf, "s3", {"endpoint_url": f"http://127.0.0.1:{port}"})
    monkeypatch.setattr(remote_files, "_PAUSES", (0.0,))
    store = fsspec.filesystem("s3", skip_instance_cache=True)
    store.mkdir("films")
    for path in here.rglob("*.*"):
        store.pipe_file(f"films/{path.relative_to(here)}", path.read_bytes())
    yield "s3://films"
    server.stop()


def test_a_bucket_is_read_and_written_as_a_folder(here: Path, bucket: str) -> None:
    there, own = open_splits(bucket), open_splits(here)
    assert there.train.manifest_hash == own.train.manifest_hash
    assert torch.equal(*(ViewClips(each.val, PRE)[1]["views"] for each in (there, own)))
    listed = open_videos(f"{bucket}/list.csv")
    assert [str(s.path) for s in listed.samples] == [f"{bucket}/train/clap/v00.mp4", f"{bucket}/val/wave/v01.mp4"]
    assert ViewClips(listed, PRE)[1]["views"].shape == (1, 4, 16, 16, 3)
    model, card = small_network(("a", "b"))
    task = LabelTask(Recognizer(model, card, views="1x1"))
    paths = [*(sample.path for sample in listed.samples), as_path(f"{bucket}/absent.mp4")]
    assert run_batch(f"{bucket}/tables/out.csv", paths, task) == BatchResult(files=3, known=0, failed=1)
    assert run_batch(f"{bucket}/tables/out.csv", paths, task) == BatchResult(files=3, known=3, failed=1)
    rows = as_path(f"{bucket}/tables/out.csv").read_bytes().decode().splitlines()
    assert rows[3].startswith(f"{bucket}/absent.mp4,there is no such file,")
    with pytest.raises(VideoError, match=rf"^{bucket}/absent\.mp4: there is no such file$"):
        resolve_source(f"{bucket}/absent.mp4")
    with pytest.raises(FileNotFoundError, match=r"^no such folder or CSV file: s3://nowhere/folder$"):
        open_splits("s3://nowhere/folder")
