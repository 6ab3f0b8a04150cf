"""``predict --out``, ``predict --timeline``, ``embed`` and ``stream``: what they write, print and return."""

import csv
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from dualformer.cli.main import main
from dualformer.cli.predict import longest_gap
from dualformer.cli.predict_folder import named_files, with_address
from dualformer.datasets.segments.segment_format_name import SegmentFormatName
from dualformer.datasets.segments.segment_formats import read_segments
from dualformer.inference.recognizer import Recognizer
from dualformer.inference.timeline import Timeline
from dualformer.segment import Segment
from dualformer.video.encode import write_video
from dualformer.weights.safetensors_file import load_weights, save_weights
from dualformer.weights.segment_settings import SegmentSettings
from forked_verbs import SERVED, ForkedVerb
from small_weights import save_small_weights

pytestmark = pytest.mark.usefixtures("blank_pictures")

CLASSES = ("blink", "down", "left", "right", "round", "up")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``nano.safetensors`` and ``data/NUMBER.mp4``, of which the last is broken."""
    home = tmp_path_factory.mktemp("home")
    save_small_weights(home / "nano.safetensors", CLASSES)
    (home / "data").mkdir()
    for number in range(3):
        rng = np.random.default_rng(number)
        frames = rng.integers(0, 256, (50, 6, 8, 3), dtype=np.uint8).repeat(8, axis=1).repeat(8, axis=2)
        write_video(home / "data" / f"{number}.mp4", frames, fps=25)
    (home / "data" / "3.mp4").write_bytes(b"")
    return home


def called(home: Path, *arguments: str) -> list[str]:
    verb, what, *rest = arguments
    return [verb, str(home / "data") if what == "data" else what, "--weights", str(home / "nano.safetensors"), *rest]


def test_predict_writes_a_table_and_goes_on_with_it(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "answers.csv"
    call = called(home, "predict", "data", "--out", str(out), "--top", "2", "--device", "cpu")
    assert main(call) == 1
    printed = capsys.readouterr().out
    assert "labelling 4 files" in printed
    assert f"failed: {home / 'data' / '3.mp4'}: the file is empty (0 bytes)" in printed
    assert "3 answered, 1 failed" in printed and f"answers: {out}" in printed
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    recognizer = Recognizer.load(home / "nano.safetensors", device="cpu")
    for number in range(3):
        path = home / "data" / f"{number}.mp4"
        assert rows[number]["path"] == str(path)
        assert (rows[number]["label"], float(rows[number]["probability"])) == recognizer(path).top(1)[0]
    assert main(call) == 1
    assert "3 answered (4 were known and have not changed), 1 failed" in capsys.readouterr().out
    assert main([*call, "--retry", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["files"], found["known"], found["failed"]) == (4, 3, 1)
    assert main([*call, "--views", "1x1"]) == 2
    assert "other weights or settings" in capsys.readouterr().err
    assert main([*call, "--views", "1x1", "--fresh"]) == 1


def test_pipes_and_standard_input_are_labelled_as_their_file_is(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shell's ``<(cat FILM)``, which is /dev/fd/NUMBER, and ``- < FILM``."""
    film = home / "data" / "0.mp4"
    label = Recognizer.load(home / "nano.safetensors", device="cpu")(film).label
    with subprocess.Popen(["cat", film], stdout=subprocess.PIPE) as cat, film.open("rb") as file:
        assert cat.stdout is not None
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=file))
        for given in (f"/dev/fd/{cat.stdout.fileno()}", "-"):
            assert main(called(home, "predict", given, "--top", "1", "--json")) == 0
            assert json.loads(capsys.readouterr().out)["labels"][0]["label"] == label


def test_what_a_shell_pipes_in_is_labelled_as_its_file_is(home: Path) -> None:
    film = home / "data" / "0.mp4"
    verb = f"{sys.executable} -m dualformer predict --weights {home / 'nano.safetensors'} --top 1 --json"
    done = subprocess.run(["bash", "-c", f"cat {film} | {verb} /dev/stdin"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    label = Recognizer.load(home / "nano.safetensors", device="cpu")(film).label
    assert json.loads(done.stdout)["labels"][0]["label"] == label


def test_urls_are_named_as_they_were_given(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "list.txt").write_text("gs://bucket/a.mp4\ngs://bucket/b.mp4\n")
    assert main(called(home, "predict", "gs://bucket/a.mp4", "--device", "cpu")) == 1
    assert "failed: gs://bucket/a.mp4: reading" in capsys.readouterr().err
    named = called(home, "predict", str(tmp_path / "list.txt"), "--device", "cpu")
    assert main(named) == 1
    said = capsys.readouterr().err
    for name in ("a", "b"):
        assert f"failed: gs://bucket/{name}.mp4: reading from there takes one more package: pip install gcsfs" in said
    assert main([*named, "--json"]) == 1
    assert json.loads(capsys.readouterr().out.splitlines()[0])["path"] == "gs://bucket/a.mp4"
    assert main([*named, "--out", str(tmp_path / "out.csv")]) == 1
    capsys.readouterr()
    with (tmp_path / "out.csv").open(newline="") as file:
        assert [row["path"] for row in csv.DictReader(file)] == ["gs://bucket/a.mp4", "gs://bucket/b.mp4"]


@pytest.mark.parametrize("ending", ["npy", "jsonl", "parquet"])
def test_embed_keeps_the_columns_of_its_list(
    ending: str, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if ending == "parquet":
        pytest.importorskip("pyarrow", reason="Parquet needs pyarrow")
    out, listed = tmp_path / f"out.{ending}", tmp_path / "list.csv"
    index = tmp_path / "out.npy.csv" if ending == "npy" else out

    def embedded() -> list[dict[str, str]]:
        assert main(called(home, "embed", str(listed), "--out", str(out), "--device", "cpu", "--json")) == 0
        if ending == "parquet":
            import pyarrow.parquet

            return pyarrow.parquet.read_table(str(out)).to_pylist()
        with index.open(newline="") as file:
            return [json.loads(line) for line in file] if ending == "jsonl" else list(csv.DictReader(file))

    films = [home / "data" / f"{number}.mp4" for number in range(2)]
    listed.write_text(f'path,label,who,notes\n{films[0]},up,Ann,"a, b"\n{films[1]},down,Bo,\n')
    rows = embedded()
    assert [(row["label"], row["who"], row["input_notes"] or "") for row in rows] == [
        ("up", "Ann", "a, b"), ("down", "Bo", ""),
    ]  # fmt: skip
    assert list(rows[0])[-3:] == ["label", "who", "input_notes"]
    assert list(rows[0])[:2] == ["path", "error"]
    listed.write_text(f"path,label,fold\n{films[0]},left,3\n{films[1]},down,4\n")
    rows = embedded()
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["known"] == 2
    assert [(row["label"], row["who"], row["fold"]) for row in rows] == [("left", "Ann", "3"), ("down", "Bo", "4")]


def test_predict_keeps_the_columns_of_its_list(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, listed, film = tmp_path / "out.csv", tmp_path / "list.csv", home / "data" / "0.mp4"
    listed.write_text(f"path,label,who\n{film},up,Ann\n")
    assert main(called(home, "predict", str(listed), "--out", str(out), "--device", "cpu", "--json")) == 0
    with out.open(newline="") as file:
        [row] = csv.DictReader(file)
    assert (row["input_label"], row["who"]) == ("up", "Ann") and row["label"]


def test_segments_of_a_list_are_embedded(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    listed, out, film = tmp_path / "list.csv", tmp_path / "out.npy", home / "data" / "0.mp4"
    listed.write_text(f"path,start,end,label\n{film},0,0:01.0,up\n{film},1,2,down\n")
    call = called(home, "embed", str(listed), "--out", str(out), "--device", "cpu")
    assert main(call) == 0 and main(call) == 0
    assert "2 answered (2 were known and have not changed)" in capsys.readouterr().out
    with (tmp_path / "out.npy.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["path"], row["label"], row["start"]) for row in rows] == [
        (f"{film}#t=0,1", "up", "0"), (f"{film}#t=1,2", "down", "1"),
    ]  # fmt: skip
    recognizer = Recognizer.load(home / "nano.safetensors", device="cpu")
    for row, features in zip(rows, np.load(out), strict=True):
        assert features == pytest.approx(recognizer.embed(row["path"]), abs=1e-5)


@pytest.mark.parametrize("name", ["csv", "activitynet", "elan", "label-studio", "srt"])
def test_segments_of_timelines_go_out_in_the_formats_that_are_read(
    name: SegmentFormatName, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    videos = [str(home / "data" / f"{number}.mp4") for number in range(2)]
    out = tmp_path / "t"
    how = ["--timeline", "--out", str(out), "--threshold", "0.01", "--shortest", "0.2", "--device", "cpu"]
    assert main(["predict", *videos, *called(home, "predict", "")[2:], *how, "--segment-format", name]) == 0
    written = capsys.readouterr().out.splitlines()[-1]
    assert written.startswith(f"segments as {name}: ")
    path = Path(written.partition(": ")[2].partition(", ")[0])
    found = read_segments(path.parent if name in ("elan", "srt") else path, format=name, videos=home / "data")
    for number in range(2):
        with (out / f"{number}.csv").open(newline="") as file:
            expected = [(row["label"], float(row["start"]), float(row["end"])) for row in csv.DictReader(file)]
        (video,) = (each for each in found if each.path.name == f"{number}.mp4")
        assert [segment.label for segment in video.segments] == [label for label, _, _ in expected]
        for segment, (_, start, end) in zip(video.segments, expected, strict=True):
            assert (segment.start, segment.end) == pytest.approx((start, end), abs=0.03)
        assert video.fps is None if name in ("elan", "srt") or not expected else video.fps == pytest.approx(25)


def test_a_format_that_cannot_name_a_video_without_segments_has_the_others(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    films = [home / "data" / f"{number}.mp4" for number in range(2)]
    recognizer = Recognizer.load(home / "nano.safetensors", device="cpu")
    surest = [float(recognizer.timeline(film).probabilities.max()) for film in films]
    between, more = str(sum(surest) / 2), str((1 + max(surest)) / 2)
    how = ["--timeline", "--shortest", "0.01", "--device", "cpu", "--segment-format", "thumos"]
    call = ["predict", *map(str, films), *called(home, "predict", "")[2:], *how]
    assert main([*call, "--out", str(tmp_path / "one"), "--threshold", between]) == 0
    said = capsys.readouterr().out.splitlines()
    without = films[surest.index(min(surest))].name
    assert said[-1] == f"thumos cannot say that nothing happens in a video: left out 1 video of it ({without})"
    (video,) = read_segments(tmp_path / "one" / "thumos", videos=home / "data")
    assert video.path.name != without and video.segments
    assert main([*call, "--out", str(tmp_path / "none"), "--threshold", more]) == 0
    assert "left out 2 videos of it (0.mp4, 1.mp4)" in capsys.readouterr().out
    assert not (tmp_path / "none" / "thumos").exists() and (tmp_path / "none" / "0.json").is_file()


def test_a_format_that_cannot_hold_a_label_is_refused_before_anything_is_read(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, card = load_weights(home / "nano.safetensors")
    save_weights(tmp_path / "other.safetensors", model, replace(card, labels=("up/down", *card.labels[1:])))
    call = ["predict", str(home / "data" / "0.mp4"), "--weights", str(tmp_path / "other.safetensors"), "--timeline"]
    assert main([*call, "--out", str(tmp_path / "t"), "--segment-format", "thumos"]) == 1
    said = capsys.readouterr()
    assert said.err.startswith("dualformer: the format thumos: no file can be called after 'up/down': rename it")
    assert not said.out and not (tmp_path / "t").exists()


def test_segments_of_parts_go_out_at_their_times_in_all_of_the_video(home: Path, tmp_path: Path) -> None:
    film, out = home / "data" / "0.mp4", tmp_path / "t"
    how = ["--timeline", "--out", str(out), "--threshold", "0.01", "--shortest", "0.2", "--device", "cpu"]
    parts = [f"{film}#t=0,1", f"{film}#t=1,2"]
    assert main(["predict", *parts, *called(home, "predict", "")[2:], *how, "--segment-format", "csv"]) == 0
    (video,) = read_segments(out / "segments.csv")
    page = (out / "timelines.html").read_text()
    assert page.count('"source": ') == 1 and '"seconds": 2' in page
    listed: list[tuple[str, float]] = []
    for number in range(2):
        with (out / f"0#t={number},{number + 1}.csv").open(newline="") as file:
            listed += [(row["label"], round(float(row["start"]) + number, 3)) for row in csv.DictReader(file)]
    assert video.path == film and [(s.label, s.start) for s in video.segments] == listed
    assert max(start for _, start in listed) >= 1 and video.segments[-1].end == pytest.approx(2, abs=0.01)


@pytest.mark.parametrize("columns", ["path", "path,label", "path,who"])
def test_labels_are_not_needed_in_a_list(columns: str, home: Path, tmp_path: Path) -> None:
    listed, film = tmp_path / "list.csv", home / "data" / "0.mp4"
    listed.write_text(f"{columns}\n{film}{',' * columns.count(',')}\n{film}{',' * columns.count(',')}\n")
    for verb, out in (("predict", "a.csv"), ("embed", "f.npy"), ("embed", "f.jsonl")):
        assert main(called(home, verb, str(listed), "--out", str(tmp_path / out), "--device", "cpu")) == 0
    [row] = [json.loads(line) for line in (tmp_path / "f.jsonl").read_text().splitlines()]
    assert row["path"] == str(film) and len(row["features"]) > 1


def test_a_threshold_names_the_classes_that_reach_it(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, card = load_weights(home / "nano.safetensors")
    save_weights(tmp_path / "several.safetensors", model, replace(card, multi_label=True))
    film = home / "data" / "0.mp4"
    prediction = Recognizer.load(tmp_path / "several.safetensors", device="cpu")(film)
    limit = sorted(prediction.probabilities.tolist())[3]
    expected = [label for label, probability in prediction.top(6) if probability >= limit]
    call = ["predict", str(film), "--weights", str(tmp_path / "several.safetensors"), "--device", "cpu"]
    assert main([*call, "--threshold", str(limit), "--top", "1", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert [each["label"] for each in said["labels"]] == said["above"] == expected and len(expected) == 3
    assert main([*call, "--threshold", "1"]) == 0
    assert "labels: none of the classes" in capsys.readouterr().out
    assert main([*call, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["above"] == [label for label, _ in prediction.above()]
    assert main([*call, "--threshold", str(limit), "--out", str(tmp_path / "out.csv"), "--json"]) == 0
    with (tmp_path / "out.csv").open(newline="") as file:
        assert next(csv.DictReader(file))["labels"] == ";".join(expected)
    assert main(called(home, "predict", str(film), "--threshold", "0.99", "--json", "--device", "cpu")) == 0
    assert '"above": []' in capsys.readouterr().out


def test_lists_stand_for_their_files(home: Path, tmp_path: Path) -> None:
    videos = [home / "data" / f"{number}.mp4" for number in range(2)]
    (tmp_path / "list.txt").write_text("\n".join([str(videos[0]), "", "beside.mp4"]) + "\n")
    (tmp_path / "list.csv").write_text(f"path,label\n{videos[1]},up\n")
    assert named_files([tmp_path / "list.txt", tmp_path / "list.csv", videos[0]]) == [
        videos[0],
        tmp_path / "beside.mp4",
        videos[1],
    ]


def test_embed_writes_features(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "features.npy"
    call = called(home, "embed", "data", "--out", str(out), "--views", "1x1", "--device", "cpu")
    assert main(call) == 1
    features = np.load(out)
    assert features.shape[0] == 4 and np.isnan(features[3]).all() and np.isfinite(features[:3]).all()
    assert "computing features of 4 files" in capsys.readouterr().out
    assert main([*call[:-2], "--out", str(tmp_path / "x.csv")]) == 2
    assert ".npy, .parquet, .jsonl" in capsys.readouterr().err


def test_predict_timeline_writes_every_file_and_says_the_same(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    video = home / "data" / "0.mp4"
    call = called(home, "predict", str(video), "--timeline", "--out", str(tmp_path / "t"), "--device", "cpu")
    assert main([*call, "--threshold", "0", "--burn", "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    written = [Path(file).name for file in content.pop("files")]
    assert written == ["0.csv", "0.json", "0.windows.csv", "0.vtt", "0.srt", "0.png", "0.labels.mp4"]
    assert sorted(path.name for path in (tmp_path / "t").iterdir()) == sorted([*written, "timelines.html"])
    page = (tmp_path / "t" / "timelines.html").read_text()
    assert page.count('"probability": ') == len(content["segments"]) and f'"path": "{video}"' in page
    assert json.loads((tmp_path / "t" / "0.json").read_text()) == content
    assert content["segments"][0]["start"] == 0 and content["segments"][-1]["end"] == pytest.approx(2)
    assert main([*call, "--threshold", "0"]) == 0
    printed = capsys.readouterr().out
    for segment in content["segments"]:
        assert f"{segment['probability']:6.1%}  {segment['label']}" in printed
    assert "100 of 100 percent read" in printed and "no class" not in printed
    for more, why in (
        (("--threshold", "1"), "no class reached a probability of 1, and the likeliest 0."),
        (("--threshold", "0", "--background", *CLASSES), "every class is named by --background"),
        (
            ("--threshold", "1", "--background", CLASSES[0]),
            "the classes besides --background never reached a probability",
        ),
    ):
        assert main([*call, *more]) == 0
        printed = capsys.readouterr().out
        assert "0 segments in 0:02" in printed and why in printed and "`" not in printed
    broken = called(home, "predict", str(home / "data" / "3.mp4"), "--timeline", "--out", str(tmp_path / "t"))
    assert main(broken) == 1
    assert capsys.readouterr().err.startswith("failed: ")


@pytest.mark.parametrize(
    ("likely", "background", "told"),
    [
        (0.4, (), "from 0:02.0 to 0:06.0 there is no label: up is the likeliest there with at most 0.400, below 0.5: "),
        (0.6, (), "from 0:02.0 to 0:06.0 there is no label: up is the likeliest there, but not for long enough: "),
        (0.4, ("down",), ""),
    ],
)
def test_the_longest_time_without_a_label_is_told(likely: float, background: tuple[str, ...], told: str) -> None:
    probabilities = np.full((8, 2), 0.1, dtype=np.float32)
    probabilities[4, 0], probabilities[:2, 1] = likely, 0.9
    timeline = Timeline(
        source="v",
        labels=("up", "down"),
        bounds=np.arange(9.0),
        probabilities=probabilities,
        segments=(Segment(label="down", start=0, end=2), Segment(label="down", start=6, end=8)),
        settings=SegmentSettings(background=background),
        window=1.0,
        clip=3.0,
        frames=200,
        clips=8,
    )
    found = longest_gap(timeline)
    assert found.startswith(told) and bool(found) == bool(told)
    assert longest_gap(replace(timeline, clip=5.0)) == ""


def test_a_folder_without_videos_does_not_keep_others_from_their_labels(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    call = called(home, "predict", str(tmp_path / "empty"), "--device", "cpu")
    assert main([call[0], str(home / "data" / "0.mp4"), *call[1:]]) == 1
    printed = capsys.readouterr()
    assert "1 labelled, 1 failed" in printed.out and f"failed: {tmp_path / 'empty'}: it is a folder" in printed.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--hop", "2"), "--hop goes with --timeline"),
        (("--burn",), "--burn goes with --timeline"),
        (("--segment-format", "elan"), "--segment-format goes with --timeline"),
        (("--threshold", "1.5"), "--threshold must be a probability"),
        (("--fresh",), "--fresh goes with --out"),
        (("--ray",), "--ray goes with --out"),
        (("--timeline", "--retry"), "--retry goes with --out"),
        (("--out", "x.csv", "--actors", "2"), "--actors goes with --ray"),
        (("--actors", "2"), "--actors goes with --out and a table"),
        (("--timeline", "--hop", "0"), "--hop must be positive"),
        (("--timeline", "--threshold", "2"), "--threshold must be a probability"),
    ],
)
def test_options_that_do_nothing_are_refused(
    home: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    assert main(called(home, "predict", "data", *arguments)) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_two_videos_of_one_name_have_no_timelines_in_one_folder(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "0.mp4"
    other.write_bytes((home / "data" / "0.mp4").read_bytes())
    weights = str(home / "nano.safetensors")
    assert main(["predict", str(other), str(home / "data" / "0.mp4"), "--weights", weights, "--timeline"]) == 2
    assert "two videos are called 0" in capsys.readouterr().err


def test_ray_may_stand_alone() -> None:
    assert with_address(["DIR", "--ray", "--out", "x.csv"]) == ["DIR", "--ray", "local", "--out", "x.csv"]
    assert with_address(["--ray", "ray://head:10001", "DIR"]) == ["--ray", "ray://head:10001", "DIR"]
    assert with_address(["--ray", "10.0.0.1:6379"]) == ["--ray", "10.0.0.1:6379"]
    assert with_address(["--ray", "auto"]) == ["--ray", "auto"]
    assert with_address(["--ray", "DIR"]) == ["--ray", "local", "DIR"]
    assert with_address(["DIR", "--ray"]) == ["DIR", "--ray", "local"]


def test_stream_prints_lines_that_programs_read(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    video = str(home / "data" / "0.mp4")
    assert main(called(home, "stream", video, "--json", "--top", "2", "--device", "cpu", "--smoothing", "0")) == 0
    opened, *labels = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert opened["event"] == "open"
    assert len(labels) == -(-(50 // 2 - 4) // 2) + 1
    for line in labels:
        assert line["labels"][0] == {"label": line["label"], "probability": line["probability"]}
        assert len(line["labels"]) == 2
        assert line["latency"] > 0 and (line["dropped"], line["missed"], line["reconnects"]) == (0, 0, 0)
    assert main(called(home, "stream", video, "--device", "cpu")) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith(f"labelling {video} with")
    assert "50 frames in" in printed[-1] and "0 dropped" in printed[-1]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("absent.mp4",), 2, "absent.mp4: no such file"),
        (("tcp://127.0.0.1:9", "--give-up", "0.3"), 1, "no frame has come for 0.3 s"),
        (("-", "--smoothing", "1"), 2, "--smoothing"),
        (("-", "--option", "video_size"), 2, "KEY=VALUE"),
    ],
)
def test_stream_says_what_is_wrong(
    home: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], code: int, message: str
) -> None:
    assert main(called(home, "stream", *arguments)) == code
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_stream_that_waits(home: Path, number: signal.Signals) -> None:
    reading, writing = SERVED.Pipe(duplex=False)
    process = ForkedVerb(called(home, "stream", "-", "--device", "cpu"), stdin=reading)
    assert process.stdout.readline().startswith("labelling standard input")
    os.kill(process.pid, number)
    rest = process.communicate(timeout=60)
    assert process.wait(timeout=60) == 0
    assert "0 frames in" in rest
    writing.close()
