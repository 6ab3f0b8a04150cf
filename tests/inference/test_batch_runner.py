"""Tables of answers: gone on with after anything, the same in every format, never of two weights."""

import csv
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import filelock
import fsspec
import numpy as np
import pytest
import torch

from dualformer import remote_files
from dualformer.inference import answer_tables
from dualformer.inference.answer_tables import LATER_COLUMNS, Columns, Row, TableError, read_table, write_table
from dualformer.inference.batch_runner import BatchResult, partial_path, run_batch
from dualformer.inference.batch_tasks import EmbedTask, LabelTask, weights_fingerprint
from dualformer.inference.recognizer import Recognizer
from dualformer.model.presets import create_model
from dualformer.remote_files import RemoteError
from dualformer.remote_paths import as_path
from dualformer.training.settings.train_config import TrainConfig
from dualformer.video import remote_video
from dualformer.video.clip_reader import read_views
from dualformer.video.encode import write_video
from dualformer.video.preprocessing import kinetics
from dualformer.video.transforms import normalize
from dualformer.weights.card import Card
from made_films import colour_recognizer, coloured
from range_server import range_server
from small_weights import small_network

COLUMNS: Columns = {"label": "text", "probability": "number"}


class Counting:
    """Says how long each file's name is, and what it was asked for. Fails at a file called bad, dies at "die"."""

    def __init__(self, by: str = "me", die: str = "") -> None:
        self.columns, self.width = COLUMNS, None
        self.fingerprint, self.die = by, die
        self.asked: list[str] = []

    def run(self, paths: Sequence[Path]) -> Iterator[tuple[int, Row]]:
        for place, path in enumerate(paths):
            if path.name == self.die:
                raise KeyboardInterrupt
            self.asked.append(path.name)
            if path.name.startswith("bad"):
                yield place, {"error": 'it is "bad", really'}
            else:
                yield place, {"label": path.name, "probability": len(path.name) / 7}


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / "in" / name for name in ("a", "bad, but kept", "c", "dä", "e")]
    (tmp_path / "in").mkdir()
    for path in paths:
        path.write_text(path.name)
    return paths


def rows_of(out: Path, columns: Columns = COLUMNS) -> list[Row]:
    whole: Columns = {"path": "text", "error": "text", **columns, "bytes": "count", "modified": "count", "by": "text"}
    return list(read_table(out, whole))


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".parquet"])
def test_every_format_holds_the_same_and_is_gone_on_with(ending: str, files: list[Path], tmp_path: Path) -> None:
    if ending == ".parquet":
        pytest.importorskip("pyarrow")
    out, first = tmp_path / f"out{ending}", Counting()
    assert run_batch(out, files[:4], first) == BatchResult(files=4, known=0, failed=1)
    expected = [
        {
            "path": str(path),
            "error": 'it is "bad", really' if path.name.startswith("bad") else None,
            "label": None if path.name.startswith("bad") else path.name,
            "probability": None if path.name.startswith("bad") else len(path.name) / 7,
            "bytes": path.stat().st_size,
            "modified": path.stat().st_mtime_ns,
            "by": "me",
        }
        for path in files
    ]
    assert rows_of(out) == expected[:4]
    second = Counting()
    assert run_batch(out, files, second) == BatchResult(files=5, known=4, failed=1)
    assert second.asked == ["e"]
    assert rows_of(out) == expected
    third, before = Counting(), out.stat().st_mtime_ns
    assert run_batch(out, files, third) == BatchResult(files=5, known=5, failed=1)
    assert third.asked == [] and out.stat().st_mtime_ns == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", out.name]


@pytest.mark.parametrize("ending", [".csv", ".jsonl"])
def test_a_table_at_a_url_is_gone_on_with(ending: str, files: list[Path], tmp_path: Path) -> None:
    store = fsspec.filesystem("memory")
    url = f"memory://tables/out{ending}"
    try:
        assert run_batch(url, files[:4], Counting()) == BatchResult(files=4, known=0, failed=1)
        there = store.cat_file(f"/tables/out{ending}")
        second = Counting()
        assert run_batch(url, files, second) == BatchResult(files=5, known=4, failed=1)
        assert second.asked == ["e"] and store.cat_file(f"/tables/out{ending}") != there
        run_batch(tmp_path / f"here{ending}", files, Counting())
        assert store.cat_file(f"/tables/out{ending}") == (tmp_path / f"here{ending}").read_bytes()
        written = store.info(f"/tables/out{ending}")["created"]
        assert run_batch(url, files, Counting()).known == 5
        assert store.info(f"/tables/out{ending}")["created"] == written
        other = Counting()
        other.fingerprint = "other"
        with pytest.raises(ValueError, match=rf"^{url} holds answers of other weights or settings"):
            run_batch(url, files, other)
        assert run_batch(url, files[:1], other, fresh=True).known == 0
    finally:
        store.rm("/tables", recursive=True)


def test_a_table_that_cannot_be_written_to_its_url_is_kept(files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_files, "_PAUSES", ())
    with range_server({}, put=True, login="me:opensesame") as server:
        url = f"{server.url}/tables/out.csv"
        with pytest.raises(RemoteError, match=rf"^{url}: the server refuses it \(403\)"):
            run_batch(url, files, Counting())
        server.login, server.put = "", False
        with pytest.raises(TableError, match=rf"^{url}: it cannot be .*; the table is \S+/out\.csv, and the same call"):
            run_batch(url, files, Counting())
        server.put, again = True, Counting()
        assert run_batch(url, files, again) == BatchResult(files=5, known=5, failed=1)
        assert again.asked == []
        assert server.files["/tables/out.csv"].startswith(b"path,error,label")
    with pytest.raises(ValueError, match="files that end in"):
        run_batch("s3://bucket/out.txt", files, Counting())
    with pytest.raises(ValueError, match=r"only tables of answers are written to a URL"):
        as_path("s3://bucket/folder").mkdir()
    with pytest.raises(ValueError, match="`out` is a folder on this machine, not s3://bucket/run: copy it there"):
        TrainConfig(data="here", out="s3://bucket/run")


def test_what_has_changed_at_its_url_is_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_video, "_FRESH", 1e-9)  # ask each time
    monkeypatch.setattr(remote_files, "_PAUSES", ())
    out = tmp_path / "out.csv"
    with range_server({"/a.mp4": b"a", "/b.mp4": b"b"}) as server:
        urls = [as_path(f"{server.url}/{name}") for name in ("a.mp4", "b.mp4", "bad.mp4")]
        run_batch(out, urls, Counting())
        server.files["/b.mp4"] = b"another"
        again = Counting()
        assert run_batch(out, urls, again) == BatchResult(files=3, known=2, failed=1)
        assert again.asked == ["b.mp4"]
        assert run_batch(out, urls, Counting()).known == 3
        server.failures = [403, 404, *["cut"] * 9]  # what is not told is no change
        assert run_batch(out, urls, Counting()).known == 3
    assert run_batch(out, urls, Counting()).known == 3


def test_what_has_changed_or_failed_is_done_again(files: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    run_batch(out, files, Counting())
    files[0].write_text("longer than before")
    os.utime(files[2], ns=(1, 1))
    changed = Counting()
    assert run_batch(out, files, changed).known == 3
    assert changed.asked == ["a", "c"]
    again = Counting()
    assert run_batch(out, files, again, retry=True) == BatchResult(files=5, known=4, failed=1)
    assert again.asked == ["bad, but kept"]
    everything = Counting("somebody else")
    assert run_batch(out, files, everything, fresh=True).known == 0
    assert len(everything.asked) == 5
    assert {row["by"] for row in rows_of(out)} == {"somebody else"}


def test_a_file_that_is_not_there_is_answered_when_it_comes(files: list[Path], tmp_path: Path) -> None:
    out, coming = tmp_path / "out.csv", tmp_path / "bad.mp4"
    assert run_batch(out, [coming], Counting()).failed == 1
    assert rows_of(out)[0]["bytes"] == -1
    coming.write_text("here")
    assert run_batch(out, [coming], Counting()).known == 0


def test_rows_of_other_files_stay(files: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    run_batch(out, files[:2], Counting())
    run_batch(out, [*files[3:], files[3]], Counting())
    assert [Path(row["path"]).name for row in rows_of(out)] == ["dä", "e", "a", "bad, but kept"]


def test_an_interrupted_run_goes_on_from_its_partial_file(files: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    with pytest.raises(KeyboardInterrupt):
        run_batch(out, files, Counting(die="dä"))
    assert not out.exists()
    with partial_path(out).open("ab") as file:
        file.write(b'\n{"path": "half a li')
    rest = Counting()
    assert run_batch(out, files, rest) == BatchResult(files=5, known=3, failed=1)
    assert rest.asked == ["dä", "e"]
    assert len(rows_of(out)) == 5 and not partial_path(out).exists()
    # A second run that is stopped keeps what the table held, though the table itself stays as it was.
    files[4].write_text("new")
    with pytest.raises(KeyboardInterrupt):
        run_batch(out, files, Counting(die="e"))
    assert len(rows_of(out)) == 5
    out.unlink()
    rest = Counting()
    run_batch(out, files, rest)
    assert rest.asked == ["e"] and len(rows_of(out)) == 5


_KILLED = """
import sys, time
from pathlib import Path
from dualformer.inference.batch_runner import run_batch
class Slow:
    columns, fingerprint, width = {"label": "text", "probability": "number"}, "me", None
    def run(self, paths):
        for place, path in enumerate(paths):
            yield place, {"label": path.name * 20, "probability": 0.5}
            print(place, flush=True)
            time.sleep(0.002)
run_batch(sys.argv[1], [Path(sys.argv[2]) / f"{i}.mp4" for i in range(5000)], Slow())
"""


def test_kill_9_loses_nothing_that_was_said(tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    process = subprocess.Popen(
        [sys.executable, "-c", _KILLED, str(out), str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    said = 0
    for line in process.stdout:
        said = int(line)
        if said >= 60:
            break
    process.send_signal(signal.SIGKILL)
    said = max([said, *(int(line) for line in process.stdout if line.endswith("\n"))])
    process.wait()
    rest = Counting()
    result = run_batch(out, [tmp_path / f"{i}.mp4" for i in range(400)], rest)
    assert said + 1 <= result.known <= said + 2
    rows = rows_of(out)
    assert [row["path"] for row in rows[:400]] == [str(tmp_path / f"{i}.mp4") for i in range(400)]
    assert all(row["label"] == f"{i}.mp4" * 20 for i, row in enumerate(rows[: said + 1]))


def test_answers_of_other_weights_are_not_mixed(files: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    run_batch(out, files, Counting("one"))
    with pytest.raises(ValueError, match=r"other weights or settings \(one, and now two\).*`fresh=True`"):
        run_batch(out, files, Counting("two"))
    recognizer = colour_recognizer()
    model = create_model("dualformer_nano", clip=(8, 32, 32), num_classes=4, seed=1)
    other = Recognizer(model, recognizer.card, device="cpu")
    same = Recognizer(
        create_model("dualformer_nano", clip=(8, 32, 32), num_classes=4, seed=1), other.card, device="cpu"
    )
    views = Recognizer(model, recognizer.card, device="cpu", views="2x1")
    assert weights_fingerprint(other) == weights_fingerprint(same)
    assert len({weights_fingerprint(recognizer), weights_fingerprint(other), weights_fingerprint(views)}) == 3


def test_what_is_no_such_table_is_left_alone(files: list[Path], tmp_path: Path) -> None:
    for name, content in (("a.csv", "path,label\nx,y\n"), ("b.jsonl", '{"path": 1}\n'), ("c.csv", "")):
        (tmp_path / name).write_text(content)
        with pytest.raises(TableError, match=r"`fresh=True` to replace"):
            run_batch(tmp_path / name, files, Counting())
        assert (tmp_path / name).read_text() == content
    with pytest.raises(ValueError, match=r"\.parquet, \.csv, \.jsonl, not \.txt"):
        run_batch(tmp_path / "out.txt", files, Counting())
    with pytest.raises(FileNotFoundError, match="no such folder"):
        run_batch(tmp_path / "absent" / "out.csv", files, Counting())
    with filelock.FileLock(tmp_path / ".out.csv.lock"), pytest.raises(TableError, match="another run"):
        run_batch(tmp_path / "out.csv", files, Counting())


def test_without_pyarrow_parquet_says_what_to_install(
    files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(TableError, match=r"pip install 'dualformer\[parquet\]', or choose another ending"):
        run_batch(tmp_path / "out.parquet", files, Counting())


def test_a_large_table_is_written_in_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pyarrow")
    monkeypatch.setattr(answer_tables, "_AT_ONCE", 7)
    paths = [tmp_path / f"{i}" for i in range(40)]
    run_batch(tmp_path / "out.parquet", paths, Counting())
    assert [row["path"] for row in rows_of(tmp_path / "out.parquet")] == [str(path) for path in paths]


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("films")
    paths = [folder / f"{name}.mp4" for name in ("red", "green", "blue", "broken")]
    for path in paths[:3]:
        write_video(path, coloured([(path.stem, 20)]), fps=25)
    paths[3].write_bytes(b"no video")
    return paths


def test_labels_are_those_of_the_recogniser(films: list[Path], tmp_path: Path) -> None:
    recognizer = colour_recognizer()
    work = LabelTask(recognizer, top=2)
    told: list[tuple[int, int]] = []
    result = run_batch(tmp_path / "out.csv", films, work, progress=lambda done, total, row: told.append((done, total)))
    assert result == BatchResult(files=4, known=0, failed=1)
    assert told == [(i, 4) for i in range(5)]
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for path, row in zip(films[:3], rows, strict=False):
        [best, second] = recognizer(path).top(2)
        assert (row["label"], float(row["probability"])) == best
        assert (row["label_2"], float(row["probability_2"])) == second
    assert rows[3]["label"] == "" and "cannot be opened" in rows[3]["error"]
    assert list(LabelTask(recognizer, top=99).columns)[-2:] == ["labels", "notes"]
    assert len(LabelTask(recognizer, top=99).columns) == 8 + 2
    assert [row["labels"] for row in rows[:3]] == [row["label"] for row in rows[:3]]
    doubtful = LabelTask(recognizer, top=2, threshold=1.0)
    assert doubtful.fingerprint != work.fingerprint
    run_batch(tmp_path / "doubtful.csv", films, doubtful)
    with (tmp_path / "doubtful.csv").open(newline="") as file:
        assert {row["labels"] for row in csv.DictReader(file)} == {""}


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".parquet", ".npy"])
def test_tables_from_before_there_were_labels_and_notes_are_gone_on_with(
    ending: str, films: list[Path], tmp_path: Path
) -> None:
    if ending == ".parquet":
        pytest.importorskip("pyarrow", reason="Parquet needs pyarrow")
    out = tmp_path / f"out{ending}"
    if ending == ".npy":
        work = EmbedTask(Recognizer(*small_network(("a", "b", "c"), size=32), device="cpu"))
    else:
        work = LabelTask(colour_recognizer(), top=2)
    run_batch(out, films, work)
    columns: Columns = {"path": "text", "error": "text", **work.columns, "bytes": "count", "modified": "count"}
    columns = {**columns, "by": "text"}
    rows = list(read_table(out, columns))
    earlier: Columns = {name: kind for name, kind in columns.items() if name not in LATER_COLUMNS}
    write_table(out, earlier, [{name: row[name] for name in earlier} for row in rows], width=work.width)
    assert [row["notes"] for row in read_table(out, columns)] == [None] * 4
    assert run_batch(out, films, work) == BatchResult(files=4, known=4, failed=1)
    films[0].touch()
    assert run_batch(out, films, work).known == 3
    again = list(read_table(out, columns))
    assert [row["path"] for row in again] == [row["path"] for row in rows]


@pytest.mark.parametrize("ending", [".npy", ".jsonl", ".parquet"])
def test_features_are_what_the_classifier_sees(ending: str, films: list[Path], tmp_path: Path) -> None:
    if ending == ".parquet":
        pytest.importorskip("pyarrow")
    model = create_model("dualformer_nano", clip=(4, 32, 32), num_classes=3, seed=0)
    pre = kinetics(frames=4, stride=2, size=32)
    card = Card(config=model.config, labels=("a", "b", "c"), preprocessing=pre, provenance="", licence="")
    recognizer = Recognizer(model, card, device="cpu", views="2x3", views_per_batch=4)
    work, out = EmbedTask(recognizer), tmp_path / f"features{ending}"
    assert run_batch(out, films[1:], work) == BatchResult(files=3, known=0, failed=1)
    assert run_batch(out, films, EmbedTask(recognizer)) == BatchResult(files=4, known=3, failed=1)
    if ending == ".npy":
        features = np.load(out)
        with (tmp_path / "features.npy.csv").open(newline="") as file:
            assert [Path(row["path"]).name for row in csv.DictReader(file)] == [path.name for path in films]
        assert np.isnan(features[3]).all()
    elif ending == ".jsonl":
        lines = [json.loads(line) for line in out.read_text().splitlines()]
        assert lines[3]["features"] is None
        features = np.array([line["features"] for line in lines[:3]], dtype=np.float32)
    else:
        features = np.stack([row["features"] for row in rows_of(out, work.columns)[:3]])
    for path, found in zip(films[:3], features, strict=False):
        with torch.no_grad():
            inputs = normalize(read_views(path, pre, clips=2, crops=3), pre)
            expected = model.forward_head(model.forward_features(inputs), pre_logits=True).mean(dim=0)
        np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)
