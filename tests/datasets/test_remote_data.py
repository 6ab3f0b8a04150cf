"""Data sets at URLs: CSV files, the rows in them and folders are read, checked, trained and evaluated on as here, and
what is secret in a URL is in nothing that is written or said."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
import torch
from made_shards import make_videos

from dualformer import remote_files
from dualformer.cli.main import main
from dualformer.datasets.clip_datasets import TrainingClips, ViewClips
from dualformer.datasets.csv_list import read_csv, read_paths
from dualformer.datasets.data_source import survey
from dualformer.datasets.decode_check import check_into
from dualformer.datasets.manifest import read_manifest
from dualformer.datasets.media_tree import walk_media
from dualformer.datasets.samples import DatasetError
from dualformer.datasets.splits import Splits, open_splits, open_videos, read_bad_videos
from dualformer.datasets.video_digests import video_digest
from dualformer.errors import DualFormerError
from dualformer.remote_paths import as_path
from dualformer.training.reporter import SilentReporter
from dualformer.training.settings.train_config import TrainConfig
from dualformer.training.train import train
from dualformer.video.augmentation import Augmentation
from dualformer.video.preprocessing import kinetics
from range_server import RangeServer, range_server

PRE = kinetics(4, 1, 16)
SECRETS = (b"opensesame", b"tokentoken")


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_files, "_PAUSES", (0.0,))


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of classes, with lists of what is in them."""
    root = make_videos(tmp_path_factory.mktemp("remote") / "films", frames=8)
    (root / "notes.txt").write_text("x")
    (root / "train" / "clap" / ".hidden.mp4").write_bytes(b"x")
    videos = sorted(path.relative_to(root) for path in root.rglob("v*.mp4"))
    rows = [f"{path},{path.parts[1]},{path.parts[0]}" for path in videos]
    (root / "list.csv").write_text("\n".join(["path,label,split", *rows]) + "\n")
    (root / "parts.csv").write_text(f"path,start,end,label\n{videos[0]},0,0.1,one\n{videos[0]},0.1,0.2,two\n")
    return root


def files_of(here: Path) -> dict[str, bytes]:
    return {f"/films/{path.relative_to(here)}": path.read_bytes() for path in here.rglob("*") if path.is_file()}


@pytest.fixture
def server(here: Path) -> Iterator[RangeServer]:
    with range_server(files_of(here), login="me:opensesame") as running:
        yield running


@pytest.fixture
def memory(here: Path) -> Iterator[str]:
    store = fsspec.filesystem("memory")
    for name, data in files_of(here).items():
        store.pipe_file(name, data)
    yield "memory://films"
    store.rm("/films", recursive=True)


def with_login(url: str) -> str:
    return url.replace("://", "://me:opensesame@")


def assert_same_clips(one: Splits, other: Splits) -> None:
    for first, second in ((one.train, other.train), (one.val, other.val)):
        assert first.classes == second.classes and len(first) == len(second)
        assert first.manifest_hash == second.manifest_hash
        assert [sample.name for sample in first.samples] == [sample.name for sample in second.samples]
    clips = [TrainingClips(each.train, PRE, seed=0, augmentation=Augmentation(flip=0.5)) for each in (one, other)]
    assert all(torch.equal(clips[0][1, i]["clip"], clips[1][1, i]["clip"]) for i in (0, 7, 11))
    views = [ViewClips(each.val, PRE) for each in (one, other)]
    assert torch.equal(views[0][3]["views"], views[1][3]["views"])


def test_a_list_at_a_url_is_the_list_here(here: Path, server: RangeServer) -> None:
    there = open_splits(f"{with_login(server.url)}/films/list.csv?token=tokentoken")
    assert_same_clips(there, open_splits(here / "list.csv"))
    assert str(there.train.samples[0].path).startswith(f"{server.url}/films/train/clap/")
    assert f"{server.url}/films/list.csv: its column split" in there.description
    parts = open_videos(f"{server.url}/films/parts.csv")  # whose login is known by now
    assert [sample.name for sample in parts.samples] == ["v00.mp4#t=0,0.1", "v00.mp4#t=0.1,0.2"]
    assert torch.equal(*(ViewClips(each, PRE)[1]["views"] for each in (parts, open_videos(here / "parts.csv"))))


def test_rows_may_be_urls_of_any_store(here: Path, server: RangeServer, memory: str, tmp_path: Path) -> None:
    server.login, server.query = "", "sig=tokentoken"
    rows = [f"{server.url}/films/train/clap/v00.mp4?sig=tokentoken,a", f"{memory}/train/wave/v01.mp4,b"]
    rows.append(f"{here / 'train/wave/v03.mp4'},b")
    (tmp_path / "list.csv").write_text("\n".join(["path,label", *rows]))
    videos = open_videos(tmp_path / "list.csv")
    assert [str(sample.path) for sample in videos.samples] == [row.split(",")[0].split("?")[0] for row in rows]
    assert all(ViewClips(videos, PRE)[i]["views"].shape == (1, 4, 16, 16, 3) for i in range(3))
    assert read_paths(tmp_path / "list.csv") == [sample.path for sample in videos.samples]
    (tmp_path / "list.csv").write_text("\n".join(["path,label", rows[0], rows[0]]))
    with pytest.raises(DatasetError, match=rf"list\.csv:3: {server.url}/films/train/clap/v00\.mp4 is listed already"):
        open_videos(tmp_path / "list.csv")


def test_folders_at_urls_are_read_by_class(here: Path, server: RangeServer, memory: str) -> None:
    own = open_splits(here)
    for url in (memory, f"{with_login(server.url)}/films/", f"{server.url}/films"):
        assert_same_clips(open_splits(url), own)
    tree = walk_media(as_path(memory))
    assert tree.describe_left_out() == walk_media(here).describe_left_out()
    with pytest.raises(DatasetError, match=r"^memory://films/train/clap: 6 files lie in it without a class"):
        open_splits(f"{memory}/train/clap")
    for nothing in (f"{memory}/nothing", f"{server.url}/nothing"):
        with pytest.raises(FileNotFoundError, match=f"no such folder or CSV file: {nothing}$"):
            open_splits(nothing)
    with pytest.raises(FileNotFoundError, match=f"no such CSV file: {memory}/nothing.csv$"):
        open_splits(f"{memory}/nothing.csv")


def test_a_server_that_refuses_says_so_by_name(server: RangeServer) -> None:
    server.login = "another:word"
    for what in ("films/list.csv", "films/"):
        with pytest.raises(DualFormerError, match=rf"^{server.url}/films\S*: the server refuses it \(403\)") as raised:
            open_splits(f"{with_login(server.url)}/{what}")
        assert not any(secret.decode() in str(raised.value) for secret in SECRETS)


def test_a_check_reads_urls_and_knows_what_has_not_changed(here: Path, server: RangeServer, tmp_path: Path) -> None:
    server.files["/films/train/clap/v00.mp4"] = b"no video at all"
    del server.files["/films/train/wave/v01.mp4"]
    url = f"{with_login(server.url)}/films/list.csv?token=tokentoken"
    paths = survey(url).paths
    assert len(paths) == 16
    checked = check_into(tmp_path / "manifest.csv", paths, workers=1)
    bad = {v.location: v.reason for v in checked.verdicts if not v.ok}
    assert list(bad) == [f"{server.url}/films/train/{name}" for name in ("clap/v00.mp4", "wave/v01.mp4")]
    assert "it is a text file" in bad[f"{server.url}/films/train/clap/v00.mp4"]
    assert bad[f"{server.url}/films/train/wave/v01.mp4"] == "there is no such file"
    server.files |= files_of(here)
    server.files["/films/val/wave/v01.mp4"] += b"more"
    again = check_into(tmp_path / "manifest.csv", paths, workers=1)
    assert again.kept == 13 and all(v.ok for v in again.verdicts)
    assert [v.path for v in read_manifest(tmp_path / "manifest.csv")] == list(paths)
    text = (tmp_path / "manifest.csv").read_text().replace(",ok,", ",bad,", 3)
    (tmp_path / "manifest.csv").write_text(text)
    assert len(open_splits(url, bad=read_bad_videos(tmp_path / "manifest.csv")).train) == 9


def test_copies_have_one_digest(here: Path, server: RangeServer) -> None:
    name = "train/clap/v00.mp4"
    assert video_digest(as_path(f"{with_login(server.url)}/films/{name}")) == video_digest(here / name)


def test_a_run_goes_on_and_writes_no_secret(
    here: Path, server: RangeServer, tmp_path: Path, capsys: pytest.CaptureFixture[str], blank_pictures: None
) -> None:
    url = f"{with_login(server.url)}/films/list.csv?token=tokentoken"
    settings = TrainConfig(
        data=url, out=str(tmp_path / "run"), frames=4, size=32, epochs=2, batch_size=4, flip="off", precision="float32"
    ).replace(workers=0, max_steps=3)
    train(settings, reporter=SilentReporter())
    train(TrainConfig(out=settings.out, resume=True, workers=0), reporter=SilentReporter())
    assert TrainConfig.load(tmp_path / "run" / "config.json").data == f"{server.url}/films/list.csv"
    split = str(tmp_path / "run" / "split.csv")
    assert {str(row.video) for row in read_csv(split).rows} == {
        f"{server.url}{name}" for name in server.files if name.endswith(".mp4") and "hidden" not in name
    }
    assert len(ViewClips(open_videos(split, on={"split": ("val",)}), PRE)[0]["views"]) == 1
    absent = f"{with_login(server.url)}/films/absent.mp4?token=tokentoken"
    files = [f"{with_login(server.url)}/films/val", absent]
    weights = str(tmp_path / "run" / "last.safetensors")
    assert main(["embed", *files, "--weights", weights, "--out", str(tmp_path / "table.npy"), "--views", "1x1"]) == 1
    said = capsys.readouterr()
    assert f"failed: {server.url}/films/absent.mp4: there is no such file" in said.out + said.err
    assert "4 answered, 1 failed" in said.out
    assert not any(secret.decode() in said.out + said.err for secret in SECRETS)
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) > 10
    assert not [path for path in written if any(secret in path.read_bytes() for secret in SECRETS)]
