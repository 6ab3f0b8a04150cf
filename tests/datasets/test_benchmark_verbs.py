"""``check``, ``train`` and ``evaluate`` on a benchmark in its own layout, named in the same way."""

import json
import re
from pathlib import Path

import made_benchmarks as made
import pytest

from dualformer.cli.main import main
from dualformer.weights.safetensors_file import read_card

pytestmark = pytest.mark.usefixtures("blank_pictures")


@pytest.fixture
def lists(tmp_path: Path) -> Path:
    """Two classes, three videos to train on and two to validate on each."""
    made.text(tmp_path / "lists" / "classes.txt", "clap", "wave")
    for split, numbers in (("train", range(6)), ("val", range(6, 10))):
        made.text(tmp_path / "lists" / f"{split}.txt", *(f"{i}.mp4 {i % 2}" for i in numbers))
    made.videos(tmp_path / "lists" / "videos", (f"{i}.mp4" for i in range(10)))
    return tmp_path / "lists"


def test_all_three_say_the_same_of_a_copy(lists: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (lists / "videos" / "9.mp4").unlink()
    data, out = f"list:{lists}", str(tmp_path / "run")
    assert main(["check", data, "--workers", "1", "--out", str(tmp_path / "m.csv")]) == 0
    said = capsys.readouterr().out
    listed = f"{lists}/val.txt:4 9.mp4"
    told = f"lists in {lists}: 2 classes, videos: train 6, val 3; missing: 1 of val ({listed})"
    assert f"data: {told}\n" in said
    assert "9 good (54 frames, 2.2 s of video), 0 bad, 1 missing;" in said
    assert f"next: dualformer train --data {data}\n" in said
    [digest] = re.findall(r"^manifest ([0-9a-f]{16}) ", said, flags=re.MULTILINE)
    options = ["--frames", "2", "--size", "32", "--epochs", "1", "--batch-size", "3", "--flip", "off", "--workers", "0"]
    assert main(["train", "--data", data, "--out", out, *options, "--precision", "float32"]) == 0
    said = capsys.readouterr().out
    assert f"data: {data}: 2 classes, 6 videos to train on (3 a class), 3 to validate on; {told}" in said
    assert f"; manifest {digest} (equal for equal data)\n" in said
    assert read_card(Path(out) / "best.safetensors").provenance.split(",")[0] == "trained by dualformer on list:lists"
    judge = ["evaluate", f"{out}/best.safetensors", "--data", data, "--workers", "0", "--views", "1x1"]
    assert main(judge) == 1
    error = capsys.readouterr().err
    assert f"1 of 4 videos are missing ({listed}): get them, or count them as wrong with --missing wrong" in error
    assert error.count("\n") == 1
    assert main([*judge, "--missing", "wrong", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert (figures["videos"], figures["missing"], figures["manifest_hash"]) == (3, 1, digest)
    assert figures["top1"] in {0, 0.25, 0.5, 0.75}
    assert main([*judge, "--missing", "wrong"]) == 0
    said = capsys.readouterr().out
    assert f"1 missing one counted as wrong (manifest {digest})" in said
    assert re.search(r"^wave +2 ", said, flags=re.MULTILINE)
    assert main([*judge, "--on", "split=train", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["videos"] == 6


def test_check_reports_a_benchmark_as_json(lists: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (lists / "videos" / "1.mp4").unlink()
    (lists / "videos" / "2.mp4").write_bytes(b"no video")
    assert main(["check", f"list:{lists}", "--workers", "1", "--out", str(tmp_path / "m.csv"), "--json"]) == 1
    said = json.loads(capsys.readouterr().out)
    assert (said["checked"], said["good"], len(said["manifest_hash"])) == (9, 8, 16)
    assert said["missing"] == [{"path": str(lists / "videos" / "1.mp4"), "listed": f"{lists}/train.txt:2"}]
    assert [Path(bad["path"]).name for bad in said["bad"]] == ["2.mp4"]


def test_check_of_a_folder_and_of_a_file(lists: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, out = tmp_path / "folder", ["--workers", "1", "--out", str(tmp_path / "m.csv")]
    made.videos(folder, ["train/a/1.mp4", "train/b/2.mp4", "val/a/3.mp4"])
    assert main(["check", str(folder), *out]) == 0
    said = capsys.readouterr().out
    assert f"data: {folder}: 2 classes, files: train 2, val 1\n" in said and "\nmanifest " in said
    made.text(tmp_path / "same.csv", "path,label,split", *(f"folder/{s}/{c}/{i}.mp4,{c},{s}" for s, c, i in FILES))
    assert main(["check", str(tmp_path / "same.csv"), *out]) == 0
    digests = re.findall(r"^manifest (\w+)", said + capsys.readouterr().out, flags=re.MULTILINE)
    assert len(digests) == 2 and len(set(digests)) == 1
    assert main(["check", str(lists / "videos"), *out]) == 0
    said = capsys.readouterr().out
    assert "data: not laid out to train on: " in said and "manifest " not in said.splitlines()[1]
    assert main(["check", str(lists / "videos" / "1.mp4"), *out]) == 0
    assert capsys.readouterr().out.startswith("checking 1 file ")


FILES = (("train", "a", 1), ("train", "b", 2), ("val", "a", 3))


def test_names_that_there_are_not_are_a_wrong_call(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for call in (["check", f"ucf:{tmp_path}"], ["train", "--data", f"ucf:{tmp_path}", "--out", str(tmp_path / "run")]):
        assert main(call) == 2
        error = capsys.readouterr().err
        assert f"ucf:{tmp_path}: no data set is called 'ucf': choose from diving48, hmdb51, kinetics400" in error
        assert error.count("\n") == 1
