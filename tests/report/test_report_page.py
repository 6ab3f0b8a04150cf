"""The page: its numbers are those of the files, nothing in it is taken for markup, and it asks for nothing."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import re
import shutil
import sys
from base64 import b64encode
from hashlib import sha256
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from made_pages import ReadPage

from dualformer.cli.main import main
from dualformer.datasets.samples import MissingSample, VideoList
from dualformer.evaluation.evaluate import Evaluation, evaluate
from dualformer.model.config import Config, Stage
from dualformer.model.network import DualFormer
from dualformer.report.mistake_clips import (
    MistakeClip,
    encode_small_video,
    gradcam_stage,
    mistake_clips,
    why_not_explained,
)
from dualformer.report.page import render_page
from dualformer.report.report_data import report_details, report_figures
from dualformer.video.preprocessing import kinetics
from dualformer.weights.card import Card
from dualformer.weights.exported.export_card import ExportCard
from dualformer.weights.exported.exported_network import ExportedNetwork
from dualformer.weights.exported.runtime import Runtime

SCRIPT = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def page(written: Path) -> ReadPage:
    return ReadPage((written / "report.html").read_text(encoding="utf-8"))


def test_the_files_of_an_evaluation_lie_beside_the_page(written: Path) -> None:
    names = {path.name for path in written.iterdir()}
    assert names == {
        *("report.html", "figures.json", "per_class.csv", "predictions.csv", "confusion.png", "contact_sheet.png")
    }


def test_the_numbers_that_are_shown_are_those_of_the_json(written: Path, page: ReadPage) -> None:
    figures = json.loads((written / "figures.json").read_text(encoding="utf-8"))
    assert page.data["figures"] == figures
    shown = page.figures
    for key in ("top1", "top5", "mean_class_accuracy", "majority_class"):
        assert shown[key] == f"{100 * figures[key]:.1f}%", key
    for key in ("top1_interval", "top5_interval", "mean_class_accuracy_interval"):
        assert shown[key] == "{:.1f}% to {:.1f}%".format(*(100 * bound for bound in figures[key])), key
    assert shown["cross_entropy"] == f"{figures['cross_entropy']:.3f}"
    assert shown["cross_entropy_interval"] == "{:.3f} to {:.3f}".format(*figures["cross_entropy_interval"])
    assert shown["calibration_error"] == f"{figures['calibration_error']:.3f}"
    assert shown["videos"] == "12"
    for key in ("weights", "data", "views", "manifest_hash", "decoder", "date", "version", "command", "control"):
        assert shown[key] == str(figures[key]), key
    assert shown["parameters"] == f"{figures['parameters'] / 1e6:.2f} M"
    assert figures["command"].startswith("dualformer evaluate ") and "--report-views 1x1 2x3" in figures["command"]


def test_the_tables_agree_with_the_files(written: Path, page: ReadPage) -> None:
    details, figures = page.data["details"], page.data["figures"]
    with (written / "per_class.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows] == [each["name"] for each in details["per_class"]] == details["classes"]
    for row, each in zip(rows, details["per_class"], strict=True):
        assert float(row["recall"]) == pytest.approx(each["recall"], abs=1e-6)
        low, high = each["recall_interval"]
        assert low <= each["recall"] <= high
    cells = details["confusion"]["cells"]
    assert sum(count for _, _, count in cells) == figures["videos"]
    assert sum(count for row, column, count in cells if row == column) / figures["videos"] == figures["top1"]
    bins = details["calibration"]["bins"]
    error = sum(b["count"] * abs(b["right"] - b["confidence"]) for b in bins if b["count"]) / figures["videos"]
    assert error == pytest.approx(figures["calibration_error"])
    assert details["calibration"]["coverage"][0]["error"] == pytest.approx(1 - figures["top1"])
    assert details["training"]["epoch"] == 2 and len(details["training"]["epochs"]) == 3
    assert [row["views"] for row in figures["by_views"]] == ["1x1", "2x1", "2x3"]
    assert figures["by_views"][1]["top1"] == figures["top1"]
    ours, other = details["compared"]
    assert (ours["value"], ours["views"], other["views"]) == (figures["top1"], "2x1", "1x1")
    assert other["value"] == figures["by_views"][0]["top1"]  # the same weights and views, evaluated by themselves
    assert ours["gmacs"] == pytest.approx(2 * other["gmacs"])


def test_the_mistakes_are_the_surest_and_their_clips_play(written: Path, page: ReadPage) -> None:
    with (written / "predictions.csv").open(newline="", encoding="utf-8") as file:
        wrong = [row for row in csv.DictReader(file) if row["correct"] == "0"]
    wrong.sort(key=lambda row: -float(row["p_predicted"]))
    found = page.data["details"]["mistakes"]
    assert page.data["details"]["wrong"] == len(wrong)
    assert [each["path"] for each in found] == [row["path"] for row in wrong[:3]]
    for each, row in zip(found, wrong, strict=False):
        assert (each["said"], each["label"]) == (row["predicted"], row["label"])
        assert each["probability"] == pytest.approx(float(row["p_predicted"]), abs=1e-6)
        assert each["label_probability"] == pytest.approx(float(row["p_label"]), abs=1e-6)
        assert each["path"] in page.text and each["stage"] == 2
    assert len(page.videos()) == 3
    for video in page.videos():
        with av.open(io.BytesIO(video)) as container:
            stream = container.streams.video[0]
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
            assert stream.average_rate == pytest.approx(12.5)  # every second frame of 25 a second
        assert len(frames) == 4 and frames[0].shape == (224, 452, 3)
        plain, heated = frames[0][:, :224].astype(int), frames[0][:, 228:].astype(int)
        assert np.abs(plain - heated).mean() > 10


def test_nothing_from_outside_is_taken_for_markup(written: Path, page: ReadPage) -> None:
    text = (written / "report.html").read_text(encoding="utf-8")
    assert SCRIPT in page.data["details"]["classes"] and SCRIPT not in text
    assert page.text.count(SCRIPT) >= 2
    assert len(page.all("script")) == 3 and len(page.programs) == 1 and "alert" not in page.programs[0]
    assert "{{ 7 * 7 }}" in page.text and "49" not in [each["name"] for each in page.data["details"]["per_class"]]
    assert not page.all("b")
    attributes = {name for _, found in page.tags for name in found}
    assert not any(name.startswith("on") for name in attributes) and "style" not in attributes
    assert any('it\'s "here" <b>&amp;.mp4' in each["path"] for each in page.data["details"]["mistakes"]) == (
        'it\'s "here" <b>&amp;.mp4' in page.text
    )


def test_it_asks_for_nothing_and_its_policy_allows_nothing_else(written: Path, page: ReadPage) -> None:
    text = (written / "report.html").read_text(encoding="utf-8")
    for tag, attributes in page.tags:
        for name in ("src", "href", "poster", "action", "data"):
            if (where := attributes.get(name)) is not None:
                assert where.startswith(("data:", "#")), (tag, where)
    assert not page.all("link") and not page.all("iframe") and not re.search(r"@import|url\(", text)
    [policy] = [each["content"] for each in page.all("meta") if "http-equiv" in each]
    rules = dict(rule.strip().split(" ", 1) for rule in str(policy).split(";"))
    assert rules["default-src"] == "'none'"
    [style] = re.findall(r"<style>(.*?)</style>", text, flags=re.DOTALL)
    for rule, content in (("style-src", style), ("script-src", page.programs[0])):
        assert rules[rule] == f"'sha256-{b64encode(sha256(content.encode()).digest()).decode()}'"
    assert rules["img-src"] == rules["media-src"] == "data:"


def test_it_can_be_read_without_seeing_it(page: ReadPage) -> None:
    pictures = [each for each in page.all("svg") if each.get("aria-hidden") != "true"]
    assert len(pictures) >= 8 and all(each["role"] == "img" and each["aria-label"] for each in pictures)
    assert all(each["aria-label"] for each in page.all("video")) and all(each["alt"] for each in page.all("img"))
    assert all(each.get("scope") for each in page.all("th"))
    targets = {str(each["href"])[1:] for each in page.all("a")}
    assert targets == {"training", "classes", "mistakes", "calibration", "views", "compared", "measured"}
    assert targets <= {each["id"] for _, each in page.tags if "id" in each}
    assert dict(page.tags)["html"]["lang"] == "en"


def test_several_labels_have_sections_of_their_own(home: Path, weights: Path, tmp_path: Path) -> None:
    arguments = ["--data", str(home / "several.csv"), "--views", "1x1", "--workers", "0", "--device", "cpu"]
    judged = ["evaluate", str(weights.parents[1] / "yes-no" / "best.safetensors"), *arguments]
    assert main([*judged, "--report", str(tmp_path), "--report-mistakes", "2"]) == 0
    page = ReadPage((tmp_path / "report.html").read_text(encoding="utf-8"))
    figures = json.loads((tmp_path / "figures.json").read_text(encoding="utf-8"))
    assert page.data["figures"] == figures
    assert page.figures["mean_average_precision"] == f"{100 * figures['mean_average_precision']:.1f}%"
    low, high = figures["mean_average_precision_interval"]
    assert low <= figures["mean_average_precision"] <= high
    assert page.figures["mean_average_precision_interval"] == f"{100 * low:.1f}% to {100 * high:.1f}%"
    assert page.data["details"]["confusion"] is None and "there is no confusion matrix" in page.text
    each = [row["average_precision"] for row in page.data["details"]["per_class"]]
    assert np.mean(each) == pytest.approx(figures["mean_average_precision"])
    assert sum(row["count"] for row in page.data["details"]["calibration"]["bins"]) == 12 * 6
    assert {mistake["kind"] for mistake in page.data["details"]["mistakes"]} <= {"false yes", "false no"}
    assert len(page.videos()) == 2 and "truly" not in page.text and "training" not in page.text.split("Classes")[0]


class FakeRuntime(Runtime):
    """Stands for an exported program."""

    def __init__(self, model: DualFormer, card: Card) -> None:
        pre = card.preprocessing
        super().__init__((None, pre.frames, pre.crop, pre.crop, 3), torch.uint8)
        self._model, self._pre = model, pre

    def runs_on(self, device: torch.device) -> bool:
        return device.type == "cpu"

    def run(self, inputs: torch.Tensor, output: int = 0) -> torch.Tensor:
        from dualformer.video.transforms import normalize

        return self._model(normalize(inputs, self._pre))


def test_the_page_tells_of_videos_that_were_trained_on(evaluation: Evaluation) -> None:
    note = "videos were trained on: the figure says how well they are remembered."
    assert note not in ReadPage(rendered(evaluation, [])).text
    known = dataclasses.replace(evaluation, figures=evaluation.figures | {"trained_on": 3})
    assert f"3 of these {len(evaluation.paths)} {note}" in ReadPage(rendered(known, [])).text


def test_an_exported_model_shows_plain_clips_and_says_why(model: DualFormer, card: Card, videos: VideoList) -> None:
    exported = ExportedNetwork(
        FakeRuntime(model.eval(), card), ExportCard(card=card, format="onnx", precision="fp32"), name="model.onnx"
    )
    evaluation = evaluate(exported, card, videos, views="1x1")
    clips = mistake_clips(evaluation, exported, card, most=2)
    assert [(clip.stage, clip.clip_probability) for clip in clips] == [(None, None)] * 2
    why = why_not_explained(exported)
    page = ReadPage(rendered(evaluation, clips, not_explained=why))
    assert "This is an exported model, which cannot explain" in page.text and "Grad-CAM" not in page.text
    for video in page.videos():
        with av.open(io.BytesIO(video)) as container:
            assert next(container.decode(video=0)).width == 224


def test_without_captum_clips_are_plain_and_the_page_says_how_to_get_it(
    model: DualFormer, card: Card, evaluation: Evaluation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    clips = mistake_clips(evaluation, model, card, most=1)
    assert [(clip.stage, clip.clip_probability) for clip in clips] == [(None, None)]
    page = ReadPage(rendered(evaluation, clips, not_explained=why_not_explained(model)))
    assert "pip install 'dualformer[explain]'" in page.text and len(page.videos()) == 1


def rendered(evaluation: Evaluation, clips: list[MistakeClip], *, not_explained: str | None = None) -> str:
    figures = {**evaluation.figures, **report_figures([evaluation]), "weights": "w", "data": "d"}
    return render_page(figures, report_details(evaluation, figures), clips, not_explained=not_explained)


def test_very_many_classes_have_a_picture_and_a_table_of_pairs(evaluation: Evaluation) -> None:
    rng = np.random.default_rng(0)
    classes = tuple(f"class {n}" for n in range(60))
    labels = np.arange(240) % 60
    predicted = np.where(rng.random(240) < 0.6, labels, rng.integers(0, 60, 240))
    predicted[:60:2] = 7
    probabilities = np.full((240, 60), 0.1 / 59, dtype=np.float32)
    probabilities[np.arange(240), predicted] = 0.9
    made = dataclasses.replace(
        evaluation,
        classes=classes,
        labels=labels,
        probabilities=probabilities,
        paths=evaluation.paths * 20,
        rates=evaluation.rates * 20,
    )
    text = rendered(made, [])
    page = ReadPage(text)
    assert [each["class"] for each in page.all("img")] == ["confusion pixels"]
    pairs = page.data["details"]["confusion"]["pairs"]
    assert len(pairs) == 20 and "Most confused pairs" in page.text
    counts = [pair["count"] for pair in pairs]
    assert counts == sorted(counts, reverse=True)
    for pair in pairs:
        row, column = classes.index(pair["label"]), classes.index(pair["predicted"])
        assert pair["count"] == int(((labels == row) & (predicted == column)).sum())
    assert "none are shown" in page.text
    assert len(text) < 200_000


def test_confusions_count_missing_videos_as_the_table_of_classes_does(evaluation: Evaluation) -> None:
    missing = tuple(
        MissingSample(path=Path(f"{n}.mp4"), label=int(label), listed="list.csv:1")
        for n, label in enumerate(np.repeat(evaluation.labels, 2))
    )
    wrong = np.roll(evaluation.probabilities, 1, axis=1)
    made = dataclasses.replace(evaluation, probabilities=wrong, missing=missing)
    details = report_details(made, {**evaluation.figures, **report_figures([evaluation])})
    counts = {row["name"]: row["count"] for row in details["per_class"]}
    assert sum(counts.values()) == 3 * len(evaluation.labels)
    assert details["confusion"]["pairs"]
    for pair in details["confusion"]["pairs"]:
        assert pair["share"] == pair["count"] / counts[pair["label"]] <= 1 / 3


@pytest.fixture(scope="module")
def evaluation(model: DualFormer, card: Card, videos: VideoList) -> Evaluation:
    return evaluate(model, card, videos, views="1x1")


def test_without_a_mistake_it_says_so(evaluation: Evaluation) -> None:
    right = dataclasses.replace(evaluation, labels=evaluation.probabilities.argmax(axis=1))
    assert mistake_clips(right, None, None) == []  # type: ignore[arg-type]  # none is import_extra
    page = ReadPage(rendered(right, []))
    assert "There are none." in page.text and not page.all("video")
    assert "Only one number of views was evaluated: `report_views` names others." in page.text


def test_a_clip_is_as_small_as_it_must_be_or_left_out(evaluation: Evaluation) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (100, 128, 128, 3), dtype=np.uint8)
    good = encode_small_video(noise, 25, 2**22)
    assert good is not None
    small = encode_small_video(noise, 25, len(good) // 2)
    assert small is not None and len(small) <= len(good) // 2
    with av.open(io.BytesIO(small)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 50  # at most 64, and shown for twice as long
        assert container.streams.video[0].average_rate == pytest.approx(12.5)
    assert encode_small_video(noise, 25, 100) is None
    clip = MistakeClip(
        path="p", label="a", said="b", kind="wrong", probability=0.5, label_probability=0.1, clip_probability=None,
        stage=None, video=None,
    )  # fmt: skip
    assert "The clip is too large for a page." in ReadPage(rendered(evaluation, [clip])).text


def test_the_map_is_fine_enough_to_say_where(model: DualFormer) -> None:
    assert [gradcam_stage(model, kinetics(frames=4, size=size)) for size in (32, 64, 112, 224)] == [2, 2, 3, 4]
    one = DualFormer(Config(stages=(Stage(channels=32, depth=1, patch=(2, 4, 4)),), clip=(4, 32, 32), num_classes=2))
    assert gradcam_stage(one, kinetics(frames=4, size=32)) == 1


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--report-views", "1x1"], 2, "--report-views is for the page: say with --report"),
        (["--compare", "x"], 2, "--compare is for the page"),
        (["--report-mistakes", "2"], 2, "--report-mistakes is for the page"),
        (["--report", "r", "--report-mistakes", "-1"], 2, "--report-mistakes must be 0 or more"),
        (["--report", "r", "--compare-anything"], 2, "--compare-anything has nothing to compare"),
        (["--report", "r", "--compare", "absent.json"], 2, "no such result file: absent.json"),
        (["--report", "r", "--report-views", "4x2"], 2, "as in 4x1 or 4x3"),
    ],
)
def test_wrong_calls_are_told_before_anything_is_evaluated(
    home: Path,
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["evaluate", str(weights), "--data", str(home / "videos.csv"), *arguments]) == code
    said = capsys.readouterr()
    assert message in said.err and said.err.count("\n") == 1 and said.out == ""
    assert list(tmp_path.iterdir()) == []


def test_other_videos_are_refused_before_anything_is_evaluated(
    home: Path, weights: Path, written: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = shutil.copytree(written, tmp_path / "other")
    figures = json.loads((other / "figures.json").read_text(encoding="utf-8"))
    (other / "figures.json").write_text(json.dumps({**figures, "manifest_hash": "0123456789abcdef"}))
    arguments = ["evaluate", str(weights), "--data", str(home / "videos.csv"), "--views", "1x1", "--workers", "0"]
    arguments += ["--report", str(tmp_path / "report"), "--compare", str(other), "--report-mistakes", "0"]
    assert main(arguments) == 1
    assert "it is of other data (manifest 0123456789abcdef" in capsys.readouterr().err
    assert not (tmp_path / "report").exists()
    assert main([*arguments, "--compare-anything", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["page"] == str(tmp_path / "report" / "report.html")
    page = ReadPage((tmp_path / "report" / "report.html").read_text(encoding="utf-8"))
    assert "These figures are not all of the same videos." in page.text
    assert len(page.data["details"]["compared"]) == 2
