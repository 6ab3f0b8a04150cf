"""Data, manifests and split files that were moved: what is found again, what is counted, and what is said."""

from __future__ import annotations

import csv
import os
import shutil
from pathlib import Path

import pytest

from dualformer.datasets.data_source import survey
from dualformer.datasets.manifest import Verdict, read_manifest, write_manifest
from dualformer.datasets.samples import DatasetError, LeftOut
from dualformer.datasets.split_file import write_split
from dualformer.datasets.splits import open_splits, open_videos, read_bad_videos

NAMES = [f"{label}/v{number}.mp4" for label in ("run", "walk") for number in range(6)]
BAD = {"run/v1.mp4", "walk/v4.mp4"}


def make(folder: Path) -> Path:
    """Videos of different sizes; nothing decodes them here."""
    for place, name in enumerate(NAMES):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x" * (place + 1))
    return folder


def check(data: Path, out: Path) -> Path:
    paths = [data / name for name in NAMES]
    verdicts = [
        Verdict(path=path, ok=name not in BAD, reason="broken" * (name in BAD), bytes=path.stat().st_size)
        for name, path in zip(NAMES, paths, strict=True)
    ]
    write_manifest(out, verdicts)
    return out


def left_out(data: Path | str, manifest: Path, on: str | None = None) -> tuple[LeftOut, LeftOut]:
    """Returns what training and what evaluation leave out."""
    bad = read_bad_videos(manifest)
    splits, rows = open_splits(data, bad=bad), {"split": (on,)} if on else None
    videos = open_videos(data, bad=bad, on=rows)
    kept = {
        sample.path.parent.name + "/" + sample.name for part in (splits.train, splits.val) for sample in part.samples
    }
    assert kept == set(NAMES) - (BAD if splits.left_out and splits.left_out.count else set())
    assert splits.left_out and videos.left_out
    return splits.left_out, videos.left_out


@pytest.mark.parametrize("how", ["stays", "renamed", "copied elsewhere", "with its manifest", "through a link"])
def test_a_manifest_fits_data_that_moved_and_what_is_left_out_is_counted(tmp_path: Path, how: str) -> None:
    data = make(tmp_path / "project" / "h")
    manifest = check(data, tmp_path / "project" / "h.csv")
    if how == "renamed":
        data = data.rename(data.with_name("h_moved"))
    elif how == "copied elsewhere":
        data = Path(shutil.copytree(data, tmp_path / "mnt" / "data"))
        shutil.rmtree(tmp_path / "project" / "h")
    elif how == "with its manifest":
        (tmp_path / "project").rename(tmp_path / "moved")
        data, manifest = tmp_path / "moved" / "h", tmp_path / "moved" / "h.csv"
    elif how == "through a link":
        (tmp_path / "link").symlink_to(data)
        data = tmp_path / "link"
    for found in left_out(data, manifest):
        assert (found.count, found.strange, found.unknown, found.elsewhere) == (2, False, 0, 0)
        assert (found.moved is not None) == (how in ("renamed", "copied elsewhere"))
    (data / "walk" / "new.mp4").write_bytes(b"new")
    (data / "run" / "v1.mp4").unlink()
    splits = open_splits(data, bad=read_bad_videos(manifest))
    assert splits.left_out and (splits.left_out.count, splits.left_out.unknown, splits.left_out.elsewhere) == (1, 1, 1)
    assert "1 more that it calls bad is no file of the data, 1 file is not in it" in splits.description


def test_an_earlier_manifest_of_absolute_paths_without_links_is_read(tmp_path: Path) -> None:
    data = make(tmp_path / "real")
    manifest = check(data, tmp_path / "m.csv")
    lines = manifest.read_text().replace("real/", f"{data.as_posix()}/")
    assert f"\n{data.as_posix()}/walk/v4.mp4,bad" in lines
    manifest = tmp_path / "elsewhere" / "m.csv"
    manifest.parent.mkdir()
    manifest.write_text(lines)
    (tmp_path / "link").symlink_to(data)
    assert [found.count for found in left_out(tmp_path / "link", manifest)] == [2, 2]
    assert [found.count for found in left_out(data.rename(tmp_path / "new"), manifest)] == [2, 2]


def test_a_manifest_of_other_files_is_said_to_be_one(tmp_path: Path) -> None:
    manifest = check(make(tmp_path / "h"), tmp_path / "h.csv")
    other = make(tmp_path / "other")
    for name in NAMES:
        (other / name).write_bytes(b"other" + (other / name).read_bytes())
    for found in left_out(other, manifest):
        assert (found.count, found.strange) == (0, True)
        assert f"warning: no row of {manifest} is a file of the data" in found.warning
    assert "no file is left out, as no row of" in open_splits(other, bad=read_bad_videos(manifest)).description


def test_rows_of_a_list_are_counted_where_they_are_chosen(tmp_path: Path) -> None:
    manifest = check(make(tmp_path / "h"), tmp_path / "h.csv")
    with (tmp_path / "list.csv").open("w", newline="") as file:
        rows = [(f"h/{name}", name[:3], "train" if name[:3] == "run" else "val") for name in NAMES]
        rows = [(path, label, "val" if path.endswith("v5.mp4") else split) for path, label, split in rows]
        rows += [("h/walk/v0.mp4", "wal", "train")]
        rows.remove(("h/walk/v0.mp4", "wal", "val"))
        csv.writer(file).writerows([("path", "label", "split"), *rows])
    trained, evaluated = left_out(tmp_path / "list.csv", manifest, on="val")
    assert (trained.count, evaluated.count) == (2, 1)
    assert (
        survey(tmp_path / "list.csv").manifest_hash
        == open_splits(tmp_path / "list.csv", bad=read_bad_videos(manifest)).train.manifest_hash
    )


def test_links_are_not_followed_and_hashes_are_those_of_copies(tmp_path: Path) -> None:
    """As where the cache of a hub keeps files by their content and names them by links."""
    copies = make(tmp_path / "copies")
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshot"
    blobs.mkdir()
    for place, name in enumerate(NAMES):
        shutil.copy(copies / name, blobs / f"{place:064x}")
        (snapshot / name).parent.mkdir(parents=True, exist_ok=True)
        (snapshot / name).symlink_to(os.path.relpath(blobs / f"{place:064x}", (snapshot / name).parent))
    for folder in (copies, snapshot):
        with (folder / "list.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("path", "label"), *((name, name.split("/")[0]) for name in NAMES)])
    one, other = (open_splits(folder / "list.csv") for folder in (copies, snapshot))
    assert one.train.manifest_hash == other.train.manifest_hash == open_splits(snapshot).train.manifest_hash
    assert [s.name for s in one.train.samples] == [s.name for s in other.train.samples]
    write_split(tmp_path / "split.csv", other)
    assert "blobs" not in (tmp_path / "split.csv").read_text()
    assert {s.path for s in open_splits(tmp_path / "split.csv").val.samples} == {s.path for s in other.val.samples}
    write_manifest(tmp_path / "m.csv", [Verdict(path=snapshot / name, ok=True) for name in NAMES])
    assert [v.path for v in read_manifest(tmp_path / "m.csv")] == [snapshot / name for name in NAMES]


@pytest.mark.parametrize("how", ["stays", "both moved", "file moved", "folder is a link", "file copied with data"])
def test_a_split_file_finds_its_videos(tmp_path: Path, how: str) -> None:
    data, out = make(tmp_path / "project" / "h"), tmp_path / "project" / "runs" / "a"
    out.mkdir(parents=True)
    if how == "folder is a link":
        out.rmdir()
        (tmp_path / "disk" / "deep" / "a").mkdir(parents=True)
        out.symlink_to(tmp_path / "disk" / "deep" / "a")
    splits = open_splits(data)
    write_split(out / "split.csv", splits)
    split = out / "split.csv"
    if how == "both moved":
        (tmp_path / "project").rename(tmp_path / "moved")
        split, data = tmp_path / "moved" / "runs" / "a" / "split.csv", tmp_path / "moved" / "h"
    elif how == "file moved":
        split = split.rename(tmp_path / "split.csv")
    elif how == "folder is a link":
        split = tmp_path / "disk" / "deep" / "a" / "split.csv"
    elif how == "file copied with data":
        shutil.copytree(tmp_path / "project", tmp_path / "copy")
        split, data = tmp_path / "copy" / "runs" / "a" / "split.csv", tmp_path / "copy" / "h"
    again = open_splits(split)
    assert {s.path for s in again.train.samples} == {data / s.path.parent.name / s.name for s in splits.train.samples}
    assert again.train.manifest_hash == open_splits(split).train.manifest_hash


def test_a_split_file_whose_videos_are_gone_says_how_they_are_found(tmp_path: Path) -> None:
    data = make(tmp_path / "h")
    write_split(tmp_path / "split.csv", open_splits(data))
    data.rename(tmp_path / "new")
    with pytest.raises(DatasetError, match=r"12 of 12 files do not exist.*resume it with their new `data`"):
        open_splits(tmp_path / "split.csv")
