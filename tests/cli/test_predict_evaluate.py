"""``dualformer predict`` and ``dualformer evaluate``: the API's numbers, readable failures, exit codes."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dualformer.cli.main import main
from dualformer.datasets.video_digests import pack_digests, video_digests
from dualformer.inference.recognizer import Recognizer
from dualformer.video.encode import write_video
from dualformer.weights.safetensors_file import load_weights, save_weights
from small_weights import save_small_weights

pytestmark = pytest.mark.usefixtures("blank_pictures")

CLASSES = ("blink", "down", "left", "right", "round", "up")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``nano.safetensors`` and ``data/CLASS/NUMBER.mp4``."""
    home = tmp_path_factory.mktemp("home")
    save_small_weights(home / "nano.safetensors", CLASSES)
    for i, name in enumerate(CLASSES):
        (home / "data" / name).mkdir(parents=True)
        for number in range(2):
            rng = np.random.default_rng([i, number])
            frames = rng.integers(0, 256, (20, 6, 8, 3), dtype=np.uint8).repeat(8, axis=1).repeat(8, axis=2)
            write_video(home / "data" / name / f"{number}.mp4", frames, fps=25)
    return home


def lines_of(capsys: pytest.CaptureFixture[str]) -> list[dict]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_predict_prints_what_the_api_returns(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights, video = home / "nano.safetensors", home / "data" / "up" / "0.mp4"
    assert main(["predict", str(video), "--weights", str(weights), "--json", "--top", "3", "--device", "cpu"]) == 0
    [line] = lines_of(capsys)
    top = Recognizer.load(weights, device="cpu")(video).top(3)
    assert line == {"path": str(video), "labels": [{"label": label, "probability": p} for label, p in top]}
    assert main(["predict", str(video), "--weights", str(weights), "--views", "1x3"]) == 0
    printed = capsys.readouterr().out
    best = Recognizer.load(weights, device="cpu", views="1x3")(video)
    assert f"{best.probability:7.1%}  {best.label}\n" in printed
    assert "1 labelled, 0 failed" in printed


def test_predict_searches_folders_and_names_each_file_once(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    up = home / "data" / "up"
    arguments = ["predict", str(up / "1.mp4"), str(home / "data"), "--weights", str(home / "nano.safetensors")]
    assert main([*arguments, "--views", "1x1", "--json"]) == 0
    paths = [line["path"] for line in lines_of(capsys)]
    assert len(paths) == len(set(paths)) == 12
    assert paths[0] == str(up / "1.mp4")


def test_predict_goes_on_after_a_bad_file_and_exits_with_1(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"")
    good = home / "data" / "up" / "0.mp4"
    arguments = [
        "predict",
        str(bad),
        str(tmp_path / "absent.mp4"),
        str(good),
        "--weights",
        str(home / "nano.safetensors"),
    ]
    assert main([*arguments, "--json"]) == 1
    first, second, third = lines_of(capsys)
    assert first == {"path": str(bad), "error": "the file is empty (0 bytes)"}
    assert second == {"path": str(tmp_path / "absent.mp4"), "error": "there is no such file"}
    assert len(third["labels"]) == 5
    assert main(arguments) == 1
    printed = capsys.readouterr()
    assert printed.err.splitlines()[0] == f"failed: {bad}: the file is empty (0 bytes)"
    assert "1 labelled, 2 failed" in printed.out


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--weights", "absent.safetensors"], 2, "absent.safetensors"),
        (["--weights", "{weights}", "--views", "4x2"], 2, "as in 4x1"),
        (["--weights", "{weights}", "--device", "gpu"], 2, "'gpu'"),
    ],
)
def test_predict_says_what_is_wrong_with_a_call(
    home: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, message: str
) -> None:
    filled = [argument.format(weights=home / "nano.safetensors") for argument in arguments]
    assert main(["predict", str(home / "data" / "up" / "0.mp4"), *filled]) == code
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize("verb", ["predict", "evaluate"])
def test_numbers_out_of_range_are_a_wrong_call(home: Path, capsys: pytest.CaptureFixture[str], verb: str) -> None:
    arguments = {
        "predict": [str(home), "--weights", "x", "--top", "0"],
        "evaluate": ["x", "--data", str(home), "--batch-size", "0"],
    }[verb]
    assert main([verb, *arguments]) == 2
    option = {"predict": "--top", "evaluate": "--batch-size"}[verb]
    errors = capsys.readouterr().err
    assert errors.startswith(f"dualformer: {option} must be at least 1, not 0") and errors.count("\n") == 1


def test_predict_labels_every_shared_file_that_decodes(
    home: Path, shared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", str(shared / "videos"), "--weights", str(home / "nano.safetensors"), "--json"]) == 1
    lines = lines_of(capsys)
    failed = {Path(line["path"]).name for line in lines if "error" in line}
    assert failed == {"audio_only.mp4", "corrupt_after_28_of_50.mp4", "truncated_no_moov.mp4", "zero_bytes.webm"}
    good = [line for line in lines if "labels" in line]
    assert len(good) == 13
    for line in good:
        assert 0 < sum(entry["probability"] for entry in line["labels"]) <= 1 + 1e-5


def test_evaluate_reports_what_predict_says(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = str(home / "nano.safetensors")
    assert main(["predict", str(home / "data"), "--weights", weights, "--json"]) == 0
    said = {line["path"]: line["labels"] for line in lines_of(capsys)}
    assert main(["evaluate", weights, "--data", str(home / "data"), "--json", "--workers", "1"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["report"] == str(home / "evaluation")
    with (home / "evaluation" / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 12
    for row in rows:
        best = said[row["path"]]
        assert row["predicted"] == best[0]["label"]
        assert float(row["p_predicted"]) == pytest.approx(best[0]["probability"], abs=1e-5)
        assert float(row["p_5"]) == pytest.approx(best[4]["probability"], abs=1e-5)
    right = sum(row["label"] == said[row["path"]][0]["label"] for row in rows)
    assert figures["top1"] == right / 12
    written = json.loads((home / "evaluation" / "figures.json").read_text())
    assert written["weights"] == weights
    assert written["top1"] == figures["top1"]


def test_evaluate_prints_figures_classes_and_what_to_try_next(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [str(home / "nano.safetensors"), "--data", str(home / "data"), "--views", "1x1", "--workers", "0"]
    out = home / "elsewhere"
    assert main(["evaluate", *arguments, "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    figures = json.loads((out / "figures.json").read_text())
    assert f"{figures['top1']:.1%}   (95 % interval" in printed
    assert all(any(line.startswith(name) for line in printed.splitlines()) for name in CLASSES)
    assert f"report: {out}" in printed
    assert "--control one_frame" in printed.splitlines()[-1]
    assert "12 of 12 videos" in printed


def test_videos_that_were_trained_on_are_told_before_the_figures(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, card = load_weights(home / "nano.safetensors")
    known = pack_digests(video_digests(sorted(home.glob("data/*/0.mp4"))))
    weights = tmp_path / "trained.safetensors"
    save_weights(weights, model, replace(card, trained_on=known))
    arguments = [str(weights), "--data", str(home / "data"), "--views", "1x1", "--workers", "0"]
    assert main(["evaluate", *arguments]) == 0
    lines = capsys.readouterr().out.splitlines()
    told = lines.index("note: 6 of these 12 videos were trained on: the figure says how well they are remembered")
    assert told < next(number for number, line in enumerate(lines) if line.startswith("top-1"))
    assert json.loads((tmp_path / "evaluation" / "figures.json").read_text())["trained_on"] == 6
    assert main(["info", str(weights)]) == 0
    assert "  trained on   6 videos\n" in capsys.readouterr().out


def test_a_folder_that_cannot_be_written_to_shows_at_once(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [str(home / "nano.safetensors"), "--data", str(home / "data"), "--out", str(home / "nano.safetensors")]
    assert main(["evaluate", *arguments]) == 1
    printed = capsys.readouterr()
    assert printed.err.startswith(f"dualformer: {home / 'nano.safetensors'}: could not be written (file exists); ")
    assert printed.out == ""


def test_a_report_of_other_videos_is_kept(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights, other = tmp_path / "nano.safetensors", tmp_path / "last.safetensors"
    for copy in (weights, other):
        shutil.copy(home / "nano.safetensors", copy)
    data = tmp_path / "list.csv"
    rows = [f"{path},{path.parent.name},{path.stem}" for path in sorted(home.glob("data/*/[01].mp4"))]
    data.write_text("\n".join(["path,label,number", *rows]))

    def report(*changes: str, of: Path = weights) -> str:
        rest = ("--views", "1x1", "--workers", "0", "--json")
        assert main(["evaluate", str(of), "--data", str(data), *rest, *changes]) == 0
        return Path(json.loads(capsys.readouterr().out)["report"]).name

    assert [report(), report(), report("--batch-size", "3")] == ["evaluation"] * 3
    assert report("--on", "number=0") == "evaluation-2"
    assert report("--views", "2x1") == "evaluation-3"
    assert report(of=other) == "evaluation-4"
    assert [report("--on", "number=0"), report()] == ["evaluation-2", "evaluation"]
    (tmp_path / "evaluation" / "figures.json").write_text("[]")
    assert report() == "evaluation-5"


def test_a_control_has_a_report_of_its_own(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [str(home / "nano.safetensors"), "--data", str(home / "data"), "--views", "1x1", "--workers", "0"]
    assert main(["evaluate", *arguments, "--control", "shuffled", "--seed", "4", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["control"] == "shuffled"
    assert figures["report"] == str(home / "evaluation-shuffled")
    assert (home / "evaluation-shuffled" / "contact_sheet.png").is_file()


def test_evaluate_chooses_rows_maps_labels_and_leaves_out_bad_files(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"")
    rows = [(home / "data" / name / f"{i}.mp4", name.upper(), "AB"[i]) for name in CLASSES for i in range(2)]
    table = tmp_path / "data.csv"
    with table.open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label", "batch"), *rows, (bad, "UP", "B")])
    arguments = ["evaluate", str(home / "nano.safetensors"), "--data", str(table), "--on", "batch=B"]
    arguments += ["--views", "1x1", "--workers", "0", "--out", str(tmp_path / "out"), "--json"]
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert "do not know 'BLINK'" in error
    assert "--label-map" in error
    mapping = tmp_path / "map.json"
    mapping.write_text(json.dumps({name.upper(): name for name in CLASSES}))
    arguments += ["--label-map", str(mapping)]
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert str(bad) in error
    assert "--manifest" in error
    assert main(["check", str(tmp_path), "--out", str(tmp_path / "manifest.csv"), "--json"]) == 1
    capsys.readouterr()
    assert main([*arguments, "--manifest", str(tmp_path / "manifest.csv")]) == 0
    assert json.loads(capsys.readouterr().out)["videos"] == 6
    shutil.rmtree(tmp_path / "out")
