"""Names, labels, lists and streams of any encoding, through the verbs."""

import csv
import io
import json
import os
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from dualformer.cli.main import main
from dualformer.cli.predict_folder import named_files
from dualformer.datasets.class_folders import read_folder
from dualformer.datasets.csv_list import read_csv, read_paths
from dualformer.datasets.data_source import survey
from dualformer.datasets.manifest import read_manifest
from dualformer.datasets.row_table import select
from dualformer.datasets.samples import DatasetError, check_class_names
from dualformer.datasets.split_file import write_split
from dualformer.datasets.splits import open_splits, open_videos
from dualformer.evaluation.label_matching import match_classes
from dualformer.files import read_csv_rows, write_csv
from dualformer.inference.answer_tables import Columns, read_table, write_table
from dualformer.inference.timeline import clashing_timelines
from dualformer.video.encode import write_video
from small_weights import save_small_weights

ODD = os.fsdecode(b"\xe9t\xe9.mp4")
"""A name that is not UTF-8."""


@pytest.fixture(scope="session")
def film(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("film") / "a.mp4"
    frames = (
        np.random.default_rng(0).integers(0, 256, (12, 4, 4, 3), dtype=np.uint8).repeat(8, axis=1).repeat(8, axis=2)
    )
    write_video(path, frames, fps=25)
    return path.read_bytes()


@pytest.fixture
def data(film: bytes, tmp_path: Path) -> Path:
    """Two classes of three videos, one of which is called `ODD`."""
    for label in ("run", "walk"):
        (tmp_path / "data" / label).mkdir(parents=True)
        for name in ("v0.mp4", "v1.mp4", ODD if label == "walk" else "v2.mp4"):
            (tmp_path / "data" / label / name).write_bytes(film)
    return tmp_path / "data"


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    save_small_weights(tmp_path / "w.safetensors", ("run", "walk"))
    return tmp_path / "w.safetensors"


def called(encoding: str, *arguments: object) -> tuple[int, str, str]:
    """Runs the command line with streams of an encoding; returns its exit code and what was written."""
    streams = [io.TextIOWrapper(io.BytesIO(), encoding=encoding) for _ in range(2)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", streams[0])
        patch.setattr(sys, "stderr", streams[1])
        code = main([str(argument) for argument in arguments])
    for stream in streams:
        stream.flush()
    out, err = (stream.buffer.getvalue().decode(encoding) for stream in streams)  # type: ignore[attr-defined]
    return code, out, err


def test_a_name_that_is_not_utf8_is_checked_once(data: Path, tmp_path: Path) -> None:
    manifest = tmp_path / "m.csv"
    code, out, _ = called("utf-8", "check", data, "--out", manifest, "--workers", 1)
    assert code == 0 and "6 good" in out
    assert (data / "walk" / ODD) in [verdict.path for verdict in read_manifest(manifest)]
    code, out, _ = called("utf-8", "check", data, "--out", manifest, "--workers", 1)
    assert code == 0 and "(6 were known and have not changed)" in out
    (data / "walk" / ODD).write_bytes(b"")
    code, out, _ = called("ascii", "check", data, "--out", manifest, "--workers", 1, "--json")
    assert code == 1
    assert [bad["path"] for bad in json.loads(out)["bad"]] == [str(data / "walk" / ODD)]


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252", "ascii"])
def test_predictions_of_such_names(encoding: str, data: Path, weights: Path) -> None:
    shown = "\ufffdt\ufffd.mp4" if encoding == "utf-8" else "?t?.mp4"
    base = ("predict", data, "--weights", weights, "--views", "1x1", "--device", "cpu")
    code, out, _ = called(encoding, *base)
    assert code == 0 and f"walk/{shown}" in out and "6 labelled, 0 failed" in out
    code, out, _ = called(encoding, *base, "--json")
    assert code == 0
    assert str(data / "walk" / ODD) in [json.loads(line)["path"] for line in out.splitlines()]


def test_files_that_are_written_keep_them(data: Path, weights: Path, tmp_path: Path) -> None:
    out = tmp_path / "evaluation"
    base = ("--views", "1x1", "--device", "cpu")
    code, printed, err = called("cp1252", "evaluate", weights, "--data", data, "--out", out, "--workers", 0, *base)
    assert code == 0, err
    with (out / "predictions.csv").open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        assert str(data / "walk" / ODD) in [row["path"] for row in csv.DictReader(file)]
    assert (out / "contact_sheet.png").is_file() and "report: " in printed
    code, printed, err = called(
        "cp1252", "predict", data / "walk", "--timeline", "--weights", weights, "--out", tmp_path / "tl", *base
    )
    assert code == 0, err
    stem = ODD.removesuffix(".mp4")
    assert json.loads((tmp_path / "tl" / f"{stem}.json").read_text("utf-8"))["source"] == str(data / "walk" / ODD)
    assert (tmp_path / "tl" / f"{stem}.png").is_file() and (tmp_path / "tl" / f"{stem}.vtt").is_file()


def test_a_split_with_such_a_name_is_read_back(data: Path, tmp_path: Path) -> None:
    splits = open_splits(data)
    write_split(tmp_path / "split.csv", splits)
    again = open_splits(tmp_path / "split.csv")
    for before, after in ((splits.train, again.train), (splits.val, again.val)):
        assert [s.path.name for s in before.samples] == [s.path.name for s in after.samples]
    assert again.train.manifest_hash


def test_tables_in_parquet_keep_them(data: Path, weights: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    out = tmp_path / "answers.parquet"
    call = ("predict", data, "--weights", weights, "--views", "1x1", "--device", "cpu", "--out", out)
    assert called("utf-8", *call)[0] == 0
    code, printed, _ = called("utf-8", *call)
    assert code == 0 and "6 answered (6 were known and have not changed)" in printed


@pytest.mark.parametrize("ending", [".parquet", ".csv", ".jsonl"])
def test_tables_hold_every_name(ending: str, tmp_path: Path) -> None:
    if ending == ".parquet":
        pytest.importorskip("pyarrow")
    columns: Columns = {"path": "text", "error": "text"}
    names = [ODD, os.fsdecode(b"\xff\\udce9"), "a\\udce9", "a\\u005cudce9", "a\rb.mp4", "c\nd", 'e"f', "g,h", "挥手"]
    rows = [{"path": name, "error": None} for name in names]
    write_table(tmp_path / f"t{ending}", columns, rows)
    assert [row["path"] for row in read_table(tmp_path / f"t{ending}", columns)] == names


@pytest.mark.parametrize("name", ["a\rb", "\r", "a\r\nb", "a\nb", 'a"b', "a,b"])
def test_csv_with_line_breaks_in_names(name: str, tmp_path: Path) -> None:
    write_csv(tmp_path / "t.csv", ["path", "n"], [[name, 1], ["plain", 2]])
    rows = read_csv_rows(tmp_path / "t.csv", DatasetError, strip=False)
    assert [fields for _, fields in rows] == [["path", "n"], [name, "1"], ["plain", "2"]]
    assert (tmp_path / "t.csv").read_text().endswith("\nplain,2\n")


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("utf-8-sig", "path,label\n{0},a\n{1},b\n"),
        ("utf-16", "path,label\n{0},a\n{1},b\n"),
        ("utf-8", "path;label\n{0};a\n{1};b\n"),
        ("utf-8-sig", "label\tpath\na\t{0}\nb\t{1}\n"),
        ("utf-16", "sep=;\r\nlabel;path\r\na;{0}\r\nb;{1}\r\n"),
        ("utf-8", '"path";"label"\n"{0}";"a"\n"{1}";"b"\n'),
    ],
)
def test_lists_as_other_programs_write_them(encoding: str, text: str, data: Path) -> None:
    path = data / "list.csv"
    path.write_bytes(text.format("run/v0.mp4", "walk/v1.mp4").encode(encoding))
    table = read_csv(path)
    assert table.classes == ("a", "b") and [row.path.name for row in table.rows] == ["v0.mp4", "v1.mp4"]
    assert named_files([path]) == [row.path for row in table.rows]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_lists_of_lines(encoding: str, data: Path) -> None:
    path = data / "list.txt"
    path.write_bytes("run/v0.mp4\r\n\r\nwalk/挥手.mp4\r\n".encode(encoding))
    assert named_files([path]) == [data / "run" / "v0.mp4", data / "walk" / "挥手.mp4"]


def test_another_encoding_is_named(data: Path) -> None:
    for name, text in (("l.csv", "path,label\nrun/v0.mp4,naïve\n"), ("l.txt", "run/v0.mp4\nwalk/naïve.mp4\n")):
        (data / name).write_bytes(text.encode("cp1252"))
        with pytest.raises(DatasetError, match=rf"{name}:2: not UTF-8: save .* \(in Windows-1252 it would say 'naïve"):
            read_csv(data / name) if name == "l.csv" else read_paths(data / name)
    (data / "l.csv").write_bytes(b"path,label\nwalk/\xe9t\xe9.mp4,a\n")  # that is how the file is called
    assert read_csv(data / "l.csv").rows[0].path == data / "walk" / ODD


@pytest.mark.parametrize(
    "text",
    [
        "path\nrun/v0.mp4\nwalk/v1.mp4\n",
        "path,label\nrun/v0.mp4,\nwalk/v1.mp4,\n",
        "n,path\n1,run/v0.mp4\n2,walk/v1.mp4\n",
    ],
)
def test_lists_without_labels(text: str, data: Path, weights: Path, tmp_path: Path) -> None:
    path = data / "list.csv"
    path.write_text(text + text.splitlines()[1] + "\n")  # and a row that is there twice
    assert [found.name for found in named_files([path])] == ["v0.mp4", "v1.mp4"]
    found = survey(path)
    assert len(found.paths) == 2 and not found.trainable and "not laid out to train on" in found.description
    code, out, _ = called("utf-8", "check", path, "--out", tmp_path / "m.csv", "--workers", 1)
    assert code == 0 and "2 good" in out and "next: dualformer train" not in out
    with pytest.raises(DatasetError):
        open_splits(path)


CAFE = ("café", unicodedata.normalize("NFD", "café"))


def test_spellings_of_a_class_are_one(film: bytes, tmp_path: Path) -> None:
    for place, folder in enumerate((f"train/{CAFE[0]}", "train/tea", f"val/{CAFE[1]}", "val/tea", f"train/{CAFE[1]}")):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / f"{place}.mp4").write_bytes(film)
    found = read_folder(tmp_path)
    assert found["train"].classes == (CAFE[0], "tea")
    assert found["train"].counts() == {CAFE[0]: 2, "tea": 1} and found["val"].counts() == {CAFE[0]: 1, "tea": 1}
    (tmp_path / "l.csv").write_text(f"path,label\ntrain/tea/1.mp4,{CAFE[1]}\nval/tea/3.mp4,{CAFE[0]}\n", "utf-8")
    table = read_csv(tmp_path / "l.csv")
    assert table.classes == CAFE[:1]
    assert len(select(table, {"label": CAFE[1:]} | {})) == 2
    for classes, names in ((CAFE[:1], CAFE[1:]), (CAFE[1:], CAFE[:1])):
        assert match_classes((*classes, "tea"), (*names, "tea"), source="x").tolist() == [0, 1]
        mapped = match_classes(classes, ("tea",), source="x", label_map={names[0]: "tea"})
        assert mapped.tolist() == [0]


def test_a_single_spelling_stays_as_it_is(film: bytes, tmp_path: Path) -> None:
    for name in (CAFE[1], "tea"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.mp4").write_bytes(film)
    assert read_folder(tmp_path)["all"].classes == (CAFE[1], "tea")


BAD_CLASSES = {
    "stand; wait": "holds ';'",
    "walk ": "begins or ends with a blank",
    " walk": "begins or ends with a blank",
    "a\nb": "a line break",
    "a\rb": "a line break",
    "a\u2028b": "a line break",
    os.fsdecode(b"\xe9t\xe9"): "is not UTF-8",
}


@pytest.mark.parametrize("name", BAD_CLASSES)
def test_classes_that_would_not_come_back_are_refused_before_training(name: str, film: bytes, tmp_path: Path) -> None:
    for folder in (name, "run"):
        (tmp_path / "data" / folder).mkdir(parents=True)
        for number in range(3):
            (tmp_path / "data" / folder / f"{number}.mp4").write_bytes(film)
    code, _, err = called("utf-8", "train", "--data", tmp_path / "data", "--out", tmp_path / "run", "--from", "random")
    assert code == 1 and BAD_CLASSES[name] in err and "rename it" in err and not (tmp_path / "run").exists()
    found = survey(tmp_path / "data")
    assert not found.trainable and BAD_CLASSES[name] in found.description and len(found.paths) == 6
    assert len(open_videos(tmp_path / "data")) == 6  # other weights may know it


@pytest.mark.parametrize(
    "name", ["a, b", '"', "it's", "-x", "$HOME", "a=b", "#1", "挥手", "a\\b", "%d", "a  b", "=1+1"]
)
def test_other_classes_come_back_from_the_split(name: str, film: bytes, tmp_path: Path) -> None:
    for folder in (name, "run"):
        (tmp_path / "data" / folder).mkdir(parents=True)
        for number in range(3):
            (tmp_path / "data" / folder / f"{number}.mp4").write_bytes(film)
    splits = open_splits(tmp_path / "data")
    check_class_names(splits.train.classes, "x")
    write_split(tmp_path / "split.csv", splits)
    again = open_splits(tmp_path / "split.csv")
    assert again.train.classes == splits.train.classes and again.train.counts() == splits.train.counts()


def test_timelines_of_two_films_are_two() -> None:
    assert clashing_timelines(["a", "b", "a.b", "x"]) is None
    for clash in (["x", "x.windows"], ["x.labels", "x.labels"], ["y", "x.windows", "x"]):
        assert set(clashing_timelines(clash) or ()) <= set(clash) and clashing_timelines(clash)


def test_two_films_do_not_write_one_timeline(film: bytes, weights: Path, tmp_path: Path) -> None:
    for name in ("x.mp4", "x.windows.mp4"):
        (tmp_path / name).write_bytes(film)
    files = (tmp_path / "x.mp4", tmp_path / "x.windows.mp4")
    code, _, err = called("utf-8", "predict", *files, "--timeline", "--weights", weights, "--out", tmp_path / "tl")
    assert code == 2 and "x and x.windows" in err and not (tmp_path / "tl").exists()


@pytest.mark.usefixtures("blank_pictures")
@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "latin-1"])
def test_a_training_goes_through_on_any_stream(encoding: str, data: Path, tmp_path: Path) -> None:
    (data / "run").rename(data / "挥手")
    run = tmp_path / "run"
    code, out, err = called(
        encoding,
        *("train", "--data", data, "--out", run, "--from", "rendered-nano", "--frames", 4, "--size", 32, "--epochs", 1),
        *("--max-steps", 1, "--batch-size", 2, "--workers", 0, "--flip", "off", "--stride", 1),
    )
    assert code == 0, err
    assert "\\u6325\\u624b" in out and "next: dualformer evaluate" in out
    assert (run / "best.safetensors").is_file()
