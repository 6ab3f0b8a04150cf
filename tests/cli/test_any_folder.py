"""Any tree of names, links and foreign files: the verbs agree on what is data, and none ends in an unforeseen error."""

import contextlib
import io
import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from dualformer.cli.main import main
from dualformer.datasets.class_folders import read_folder
from dualformer.datasets.csv_list import read_paths
from dualformer.datasets.data_source import Survey, survey
from dualformer.datasets.manifest import Verdict, find_videos, read_manifest, write_manifest
from dualformer.datasets.samples import DatasetError
from dualformer.datasets.split_file import write_split
from dualformer.datasets.splits import open_splits, open_videos
from dualformer.errors import DualFormerError
from dualformer.video.encode import write_image, write_video
from small_weights import save_small_weights

ENDINGS = (b".mp4", b".MTS", b".avi", b".webp", b".JPG", b".txt", b".srt", b"", b".mp4.part", b".windows.csv", b".h264")
FOREIGN = (b"__MACOSX", b"@eaDir", b"$RECYCLE.BIN", b"lost+found", b".git", b"Thumbs.db", b"desktop.ini", b"runs")
LETTERS = (
    *b"a B v0 v0 ; , \" ' - = %d %05d $x #".split(),
    *(b" ", b"\n", b"\r", b"\t"),
    *(b"\xe9", b"\xff", b"\\", b"*", b"?", b"[", b".", b"~", b":", "挥".encode(), "é".encode(), "e\u0301".encode()),
    *("👋".encode(), "\u2028".encode(), "\u202e".encode(), b"train", b"val", b"\\udce9"),
)
pieces = st.lists(st.sampled_from(LETTERS), min_size=1, max_size=3).map(b"".join)
names = st.one_of(pieces, st.sampled_from(FOREIGN)).filter(lambda name: name not in (b".", b".."))
files = st.builds(lambda stem, ending: (stem + ending)[-80:], pieces, st.sampled_from(ENDINGS)).filter(
    lambda name: name not in (b".", b"..")
)
kinds = st.sampled_from(("film", "film", "film", "picture", "noise", "empty", "link", "dead", "loop", "pipe"))
trees = st.lists(st.tuples(st.lists(names, max_size=3), files, kinds), min_size=1, max_size=14)
layouts = st.lists(st.tuples(st.sampled_from((b"run", b"walk")), files), min_size=0, max_size=8)


@pytest.fixture(scope="module")
def given_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A film, a picture and weights."""
    folder = tmp_path_factory.mktemp("given")
    frames = np.random.default_rng(0).integers(0, 256, (4, 4, 4, 3), dtype=np.uint8).repeat(8, axis=1).repeat(8, axis=2)
    write_video(folder / "film.mp4", frames, fps=25)
    write_image(folder / "picture.png", frames[0])
    save_small_weights(folder / "w.safetensors", ("run", "walk"))
    return folder


Tree = list[tuple[list[bytes], bytes, str]]
Layout = list[tuple[bytes, bytes]]


def grow(root: Path, given: Path, tree: Tree, layout: Layout) -> None:
    """Makes the files of a tree; those that the file system refuses are left out."""
    for folders, name, kind in [*tree, *(([label], name, "film") for label, name in layout)]:
        folder = root.joinpath(*map(os.fsdecode, folders))
        path = folder / os.fsdecode(name)
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            if os.path.lexists(path):
                continue
            if kind in ("film", "picture"):
                shutil.copyfile(given / ("film.mp4" if kind == "film" else "picture.png"), path)
            elif kind == "link":
                path.symlink_to(root / "run")
            elif kind == "dead":
                path.symlink_to("nowhere")
            elif kind == "loop":
                path.symlink_to(folder)
            elif kind == "pipe":
                os.mkfifo(path)
            else:
                path.write_bytes(b"\x00noise\xff" * 20 if kind == "noise" else b"")


@contextlib.contextmanager
def streams(encoding: str) -> Iterator[tuple[io.TextIOWrapper, io.TextIOWrapper]]:
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="") for _ in range(2))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", out)
        patch.setattr(sys, "stderr", err)
        yield out, err


def called(encoding: str, *words: str) -> tuple[int, str]:
    """Runs a verb; returns its code and output. Whatever is not foreseen comes out as an exception."""
    with streams(encoding) as (out, err):
        code = main([*words])
        out.flush()
        err.flush()
    assert code in (0, 1, 2)
    return code, out.buffer.getvalue().decode(encoding)  # type: ignore[attr-defined]


def laid_out(surveyed: Survey) -> bool:
    return not surveyed.description.startswith("not laid out to train on: ")


def taken(data: Path) -> set[Path]:
    try:
        return set(find_videos(data))
    except DatasetError:
        return set()


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(trees, layouts)
def test_readers_agree_on_what_is_data(
    given_files: Path, tmp_path_factory: pytest.TempPathFactory, tree, layout
) -> None:
    data = tmp_path_factory.mktemp("tree") / "data"
    data.mkdir()
    grow(data, given_files, tree, layout)
    found = taken(data)
    assert all(path.is_file() for path in found)
    surveyed = None
    with contextlib.suppress(DatasetError):
        surveyed = survey(data)
        read = read_folder(data).values() if laid_out(surveyed) else ()
        expected = {sample.path for videos in read for sample in videos.samples} if read else found
        assert set(surveyed.paths) == expected <= found
    with contextlib.suppress(DatasetError):
        judged = {sample.path for sample in open_videos(data).samples}
        assert judged <= found
        splits = open_splits(data)
        trained = {sample.path for part in (splits.train, splits.val) for sample in part.samples}
        assert trained <= found
        assert surveyed is None or trained <= set(surveyed.paths)
        if surveyed is not None and surveyed.trainable:
            write_split(data.parent / "split.csv", splits)
            again = open_splits(data.parent / "split.csv")
            assert [(s.path, s.label) for s in again.train.samples] == [(s.path, s.label) for s in splits.train.samples]
            assert again.train.classes == splits.train.classes
    verdicts = [Verdict(path=path, ok=True, frames=1) for path in sorted(found)]
    write_manifest(data.parent / "m.csv", verdicts)
    assert [verdict.path for verdict in read_manifest(data.parent / "m.csv")] == [verdict.path for verdict in verdicts]
    shutil.rmtree(data.parent)


@settings(max_examples=3, phases=[Phase.generate], suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(trees, layouts, st.sampled_from(("utf-8", "cp1252", "ascii")))
def test_verbs_agree_and_foresee(
    given_files: Path, tmp_path_factory: pytest.TempPathFactory, tree: Tree, layout: Layout, encoding: str
) -> None:
    data = tmp_path_factory.mktemp("tree") / "data"
    data.mkdir()
    grow(data, given_files, tree, layout)
    weights = str(given_files / "w.safetensors")
    quick = ("--views", "1x1", "--device", "cpu")
    _, out = called(encoding, "predict", str(data), "--weights", weights, "--json", *quick)
    answered = {Path(json.loads(line)["path"]) for line in out.splitlines()}
    assert answered == taken(data)
    _, out = called(encoding, "check", str(data), "--out", str(data.parent / "m.csv"), "--workers", "1", "--json")
    if answered:
        surveyed = survey(data)
        assert json.loads(out)["checked"] == len(surveyed.paths)
        assert laid_out(surveyed) or set(surveyed.paths) == answered
    base = ("--data", str(data), "--workers", "0")
    called(encoding, "evaluate", weights, *base, *quick, "--out", str(data.parent / "e"))
    called(encoding, "train", *base, "--dry-run", "--frames", "4", "--size", "32", "--from", "rendered-nano")
    shutil.rmtree(data.parent)


@settings(max_examples=100)
@given(st.binary(max_size=60), st.sampled_from((".csv", ".txt")))
def test_any_list_is_read_or_refused_in_one_line(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, ending: str
) -> None:
    path = tmp_path_factory.getbasetemp() / f"any{ending}"
    path.write_bytes((b"path,label\n" if ending == ".csv" else b"") + data)
    for read in (read_paths, survey) if ending == ".csv" else (read_paths,):
        with contextlib.suppress(DualFormerError):
            read(path)
