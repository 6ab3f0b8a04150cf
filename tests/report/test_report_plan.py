"""What is checked before an evaluation begins: other result files, the log of the training, views."""

import json
from pathlib import Path
from typing import Any

import pytest

from dualformer.report.report_data import distinct_names
from dualformer.report.report_plan import (
    EvaluationConditions,
    ReportError,
    describe_cost,
    read_results,
    read_training_log,
    views_of_report,
)

OURS = EvaluationConditions(videos=12, manifest_hash="abc", control="none", multi_label=False)
FIGURES: dict[str, Any] = {
    "top1": 0.5,
    "top1_interval": [0.2, 0.8],
    "videos": 10,
    "missing": 2,
    "manifest_hash": "abc",
    "control": "none",
    "views": "4x1",
    "gmacs": 4.0,
    "gmacs_per_view": 1.0,
    "parameters": 1000,
}


def written(folder: Path, **changes: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    figures = {key: value for key, value in {**FIGURES, **changes}.items() if value is not None}
    (folder / "figures.json").write_text(json.dumps(figures))
    return folder / "figures.json"


def test_result_files_and_their_folders_are_read(tmp_path: Path) -> None:
    file = written(tmp_path / "a")
    one, two = read_results([file, tmp_path / "a"], OURS)
    assert one == two == {**FIGURES, "file": str(file)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"manifest_hash": "def"},
            "of other data (manifest def, here abc): leave it out, or .*`compare_anything=True`",
        ),
        ({"videos": 11}, "of 13 videos of the data, here there are 12"),
        ({"control": "shuffled"}, "under the control shuffled, here it is none"),
    ],
)
def test_other_evaluations_are_refused_unless_asked_for(tmp_path: Path, changes: dict, message: str) -> None:
    file = written(tmp_path, **changes)
    with pytest.raises(ReportError, match=message.replace("(", r"\(").replace(")", r"\)")) as raised:
        read_results([file], OURS)
    assert str(raised.value).startswith(f"{file}: ") and "\n" not in str(raised.value)
    assert read_results([file], OURS, compare_anything=True)[0]["file"] == str(file)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gmacs": None}, "does not say what the network costs: evaluate those weights anew"),
        ({"gmacs": 0}, "does not say what the network costs"),
        ({"parameters": float("inf")}, "does not say what the network costs"),
        ({"missing": "some"}, "its missing is no number"),
        ({"top1": None, "mean_average_precision": 0.5}, "its videos have several labels each, these one label"),
        ({"top1": "much"}, "its top1 is no number"),
        ({"top1": float("nan")}, "its top1 is no number"),
        ({"top1_interval": [0.1]}, "its top1_interval is not two numbers"),
        ({"views": 4}, "not the figures of an evaluation"),
    ],
)
def test_files_that_cannot_be_compared_are_refused_whatever_is_asked(
    tmp_path: Path, changes: dict, message: str
) -> None:
    file = written(tmp_path, **changes)
    with pytest.raises(ReportError, match=message):
        read_results([file], OURS, compare_anything=True)


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such result file"):
        read_results([tmp_path / "absent.json"], OURS)
    for content in ("{", "[1]", '"views"'):
        (tmp_path / "figures.json").write_text(content)
        with pytest.raises(ReportError, match=r"name a figures\.json"):
            read_results([tmp_path], OURS)


def test_the_log_beside_the_weights_is_read(tmp_path: Path) -> None:
    weights = tmp_path / "best.safetensors"
    assert read_training_log("owner/name") is None and read_training_log("rendered") is None
    weights.touch()
    assert read_training_log(weights) is None
    line = {"epoch": 1, "train_loss": 0.5, "lr": 0.1}
    (tmp_path / "metrics.jsonl").write_text(json.dumps(line) + "\n\n")
    assert read_training_log(weights) == read_training_log(tmp_path) == [line]
    for wrong in ("not JSON", '{"epoch": "one", "train_loss": 1, "lr": 1}', "[]"):
        (tmp_path / "metrics.jsonl").write_text(json.dumps(line) + f"\n{wrong}\n")
        with pytest.raises(ReportError, match=r"metrics.jsonl:2: this is no line of a training log"):
            read_training_log(weights)


def test_the_views_of_a_report_begin_with_its_own() -> None:
    def named(views: str, *wanted: str) -> list[str]:
        return [str(each) for each in views_of_report(views, wanted or None)]

    assert named("4x1") == ["4x1", "1x1", "2x1"]
    assert named("4x1", "4x3", "4x1", "4x3") == ["4x1", "4x3"]
    with pytest.raises(ValueError, match="as in 4x1"):
        named("4x1", "4x2")
    said = describe_cost(views_of_report("4x1", ["4x3", "1x1"]), "ends")
    assert (
        said.startswith("accuracy against views (1x1 4x1 4x3): 13 views of each video") and "4x1 alone takes 4" in said
    )


def test_names_are_as_long_as_they_must_be() -> None:
    assert distinct_names(["a/best", "b/best", "c/last"]) == ["a/best", "b/best", "last"]
    assert distinct_names(["x/a/best", "y/a/best"]) == ["x/a/best", "y/a/best"]
    assert distinct_names(["best", "a/best"]) == ["best", "a/best"]
    assert distinct_names(["best", "best", ""]) == ["best", "best", "unnamed"]
