"""The page of the paper's claims: verdicts by hand, tables that are those of the files, errors for files that lack."""

from __future__ import annotations

import importlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from blocks import ROOT

import results
import results_pictures as pictures
import results_tables as tables
from dualformer.bench.bench_settings import Setting
from dualformer.bench.measurement import Figures, Measurement
from dualformer.cli.main import parse
from dualformer.paper.experiment import Experiment
from dualformer.paper.paper_tables import ROWS
from dualformer.paper.scaled_variants import VARIANTS


@pytest.mark.parametrize(
    ("papers", "differences", "expected"),
    [
        # Three seeds that differ by one point each: half of the interval is 4.303 / √3 = 2.48.
        (1.1, [4.0, 5.0, 6.0], "held"),
        (1.1, [1.4, 2.4, 3.4], "undecided"),
        (1.1, [1.6, 2.6, 3.6], "held"),
        (1.1, [-4.0, -5.0, -6.0], "did not hold"),
        (-0.5, [-4.0, -5.0, -6.0], "held"),
        (-0.5, [4.0, 5.0, 6.0], "did not hold"),
        (0.3, [4.0, 5.0, 6.0], ""),
        (-0.2, [4.0, 5.0, 6.0], ""),
        (0.4, [0.0, 0.0], "undecided"),
        (0.4, [2.0, 2.0], "held"),
        (1.1, [20.0], "undecided"),
    ],
)
def test_verdicts(papers: float, differences: list[float], expected: str) -> None:
    assert tables.verdict(papers, differences) == expected


def test_directions_are_the_papers_rows() -> None:
    found = {variant: tables.papers_difference(key) for variant, key in tables.DIRECTIONS.items()}
    assert found == {
        "LL": 1.1,
        "GG": 1.9,
        "LL-LL-LG-LG": 0.7,
        "LG-LG-LL-LL": 0.2,
        "coarse-scale": 1.1,
        "fine-scale": 0.2,
        "half-window": 0.4,
        "long-window": -0.2,
        "wide-window": -0.2,
        "average": 0.8,
        "full-convolution": 0.0,
        "no-position": 0.6,
        "absolute": 0.3,
        "relative": 0.2,
    }
    # What the bench has beyond them is in no table of the paper.
    assert set(VARIANTS) - set(found) == {
        *("LG", "GL", "narrow-last", "LL-narrow-last", "LL-no-position", "GG-no-position"),
    }
    assert {ratio.row for ratio in tables.RATIOS} <= {row.key for row in ROWS}


ACCURACIES = {
    ("local", "LG"): [0.90, 0.92, 0.94],
    ("local", "LL"): [0.90, 0.91, 0.95],
    ("both", "LG"): [0.80, 0.81, 0.82],
    ("both", "LL"): [0.76, 0.76, 0.76],  # 4, 5 and 6 points less
    ("both", "GG"): [0.84, 0.86, 0.88],  # 4, 5 and 6 points more
    ("both", "wide-window"): [0.80, 0.81],
    ("both", "convolution"): [0.70, 0.72, 0.74],
}


def runs() -> list[dict[str, Any]]:
    return [
        {
            "task": task,
            "variant": name,
            "seed": seed,
            "steps": 400,
            "seconds": 90.0,
            "gmacs": {"wide-window": 0.235, "convolution": 0.2}.get(name, 0.224),
            "parameters": 2_310_000,
            "accuracy": accuracy,
            "right": "10",
            "still": 0.5 + 0.01 * seed,
            "shuffled": 0.49,
        }
        for (task, name), accuracies in ACCURACIES.items()
        for seed, accuracy in enumerate(accuracies)
    ]


def cells(text: str) -> dict[str, list[str]]:
    found = ([cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if "|" in line)
    return {first: others for first, *others in found}


def test_tables_of_runs() -> None:
    found = cells(tables.directions(runs()))
    assert found["variant"] == ["table", "paper: less than LG", "local: less than LG", "both: less than LG"]
    assert found["LL"] == ["4", "1.1", "0.0 ± 2.5, undecided", "5.0 ± 2.5, held"]
    assert found["GG"] == ["4", "1.9", "–", "-5.0 ± 2.5, did not hold"]
    assert found["wide-window"] == ["5", "-0.2 (within 0.3)", "–", "0.0 ± 0.0"]
    assert found["relative"] == ["7", "0.2 (within 0.3)", "–", "–"]
    found = cells(tables.kinds(runs(), clips=1000))
    assert list(found)[2:] == ["LG", "LL", "GG", "convolution"]
    assert found["LG"] == ["0.224", "2.31", "92.0 ± 5.0", "81.0 ± 2.5", "3"]
    assert found["GG"] == ["0.224", "2.31", "–", "86.0 ± 5.0", "3"]
    found = cells(tables.kinds(runs(), clips=30))  # three standard errors of chance are 27 points
    assert found["LG"][3] == "81.0 ± 2.5" and found["LL"][3] == "76.0 ± 0.0 (3 of 3 at chance)"
    found = cells(tables.kinds(runs(), clips=1000, less=True))
    assert found["network"][4:6] == ["local: less than LG", "both: less than LG"]
    text = tables.differences(runs(), "both", [("LG", "GG"), ("GG", "LL"), ("LL", "narrow-last")])
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]
    assert lines[2:] == [["GG", "LG", "-5.0 ± 2.5"], ["LL", "GG", "10.0 ± 5.0"]]
    assert found["LG"][4:6] == ["", ""] and found["LL"][4:6] == ["0.0 ± 2.5", "5.0 ± 2.5"]
    lines = tables.controls(runs()).splitlines()
    assert [cell.strip() for cell in lines[2].split("|")[1:-1]] == [
        *("local", "one frame repeated", "6", "51.0", "50.0", "52.0")
    ]


def test_commands_are_those_that_make_the_runs() -> None:
    settings = Experiment(clips=4800, precision="float32", scene={"radius": [3, 6], "noise": 8.0}).shared_settings()
    found = [command.split() for command in tables.commands(settings, runs())]
    same = ["--train-clips", "4800", "--radius", "3", "6", "--noise", "8", "--precision", "float32"]
    start = ["dualformer", "ablate", "--run", "--data", "relations", "--out", "runs/relations", *same]
    assert found == [
        [*start, "--variants", "LG", "LL", "--tasks", "local", "--seeds", "3"],
        [*start, "--tasks", "both", "--seeds", "3"],
        [*start, "--variants", "wide-window", "--tasks", "both", "--seeds", "2"],
        [
            *("python", "benchmarks/relations_peers.py", "--out", "runs/relations", "--peers", "convolution"),
            *("--tasks", "both", "--seeds", "3"),
        ],
    ]
    for _, verb, *words in found[:3]:
        assert parse_verb(verb, words).run


def parse_verb(verb: str, words: list[str]) -> Any:
    return parse(importlib.import_module(f"dualformer.cli.{verb}"), verb, words)


def test_times_fewer_are_recomputed() -> None:
    found = cells(tables.ratios())
    # 17,352 / (4 × 268), 17,352 / 12 / 268; 5,370 / (4 × 28) where the paper has 5,370 / 28.
    assert found["ViViT-L"] == ["16.2 ×", "17,352, 12", "1,072, 4", "16.2 ×", "5.40 ×"]
    assert found["VidTr-M"] == ["192 ×", "5,370, 30", "112, 4", "47.9 × (191.8 by 1)", "6.39 ×"]


def test_labels_are_apart_and_stay_beside_the_axes() -> None:
    assert pictures.spread([0.2, 0.8], least=0.1) == [0.2, 0.8]
    assert pictures.spread([0.5, 0.5, 0.5], least=0.1) == pytest.approx([0.4, 0.5, 0.6])
    assert pictures.spread([0.1, 0.98, 0.99, 1.0], least=0.1) == pytest.approx([0.1, 0.8, 0.9, 1.0])


def measured() -> dict[str, Any]:
    """What `dualformer bench --json` prints: made by what it prints it with."""
    from dualformer.bench.machine_info import describe_machine

    figures = Figures(
        setting=Setting(model="dualformer_nano", clip=(16, 112, 112), threads=1),
        device="cpu",
        parameters=2_400_000,
        macs=1.19e9,
        runs=9,
        p50=0.0305,
        p95=0.04,
        clips_per_second=33.0,
        memory=None,
        flops=78e9,
        peak=130e9,
    )
    found = Measurement(machine=describe_machine(), keeps_freed=True, rounds=9, figures=(figures,)).to_dict()
    return json.loads(json.dumps(found))


def test_speed_says_what_was_measured_by_which_call() -> None:
    found = measured()
    text = tables.speed(found, date="2026-01-02")
    assert cells(text)["dualformer_nano"] == ["16×112×112", "1", "float32", "eager", "1.19", "30", "40", "60 %"]
    assert "2026-01-02, `dualformer bench dualformer_nano --dtype float32 --json`" in text
    found["figures"][0]["setting"]["clip"] = [4, 32, 32]
    assert "bench dualformer_nano --clip 4x32x32 --dtype float32" in tables.speed(found, date="2026-01-02")


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    """A folder with the page, and no figures beside it."""
    folder = tmp_path / "docs"
    (folder / "images").mkdir(parents=True)
    shutil.copyfile(ROOT / "docs" / "results.md", folder / "results.md")
    return folder


def test_one_command_fills_the_page_and_makes_it_again_alike(docs: Path, tmp_path: Path) -> None:
    experiment, bench = tmp_path / "runs", tmp_path / "bench.json"
    experiment.mkdir()
    settings = Experiment(precision="float32").shared_settings()
    (experiment / "results.json").write_text(json.dumps({"settings": settings, "runs": runs()}))
    bench.write_text(json.dumps(measured()))
    options = {"docs": docs, "date": "2026-01-02", "machine": "a machine"}
    with pytest.raises(results.ResultsError, match=r"accuracy\.png: not there; make it by: dualformer ablate"):
        results.main(results.Options(**options, relations=experiment / "results.json"))
    (experiment / "accuracy.png").write_bytes(b"picture")
    made = experiment / "results.json"
    results.main(results.Options(**options, relations=made, longer=made, bench=bench))
    page = (docs / "results.md").read_bytes()
    text = page.decode()
    assert tables.NOT_MEASURED not in text and "0 ± 2.5, held" in text
    assert "2026-01-02, `dualformer ablate --run" in text and "`: a machine; 20 runs of 400 steps" in text
    assert "--out runs/relations" in text and "--out runs/longer" in text
    for name in ("relations.png", "relations-longer.png"):
        assert f"(images/{name})" in text and (docs / "images" / name).read_bytes() == b"picture"
    for name in ("results-cost.png", "results-speed.png"):
        assert f"(images/{name})" in text and (docs / "images" / name).read_bytes().startswith(b"\x89PNG")
    assert '"right"' not in (docs / "results" / "relations.json").read_text()
    results.main(results.Options(docs=docs))
    assert (docs / "results.md").read_bytes() == page


def test_a_missing_file_is_named_with_the_command_that_makes_it(docs: Path, tmp_path: Path) -> None:
    with pytest.raises(results.ResultsError, match=r"relations\.json: not there; make it by: dualformer ablate"):
        results.main(results.Options(docs=docs))
    (docs / "results").mkdir()
    (docs / "results" / "relations.json").write_text("{}")
    with pytest.raises(results.ResultsError, match=r"longer\.json: not there; make it by: dualformer ablate"):
        results.main(results.Options(docs=docs))
    (docs / "results" / "longer.json").write_text("{}")
    with pytest.raises(results.ResultsError, match=r"bench\.json: not there; make it by: dualformer bench"):
        results.main(results.Options(docs=docs))
    with pytest.raises(results.ResultsError, match=r"none\.json: no such file"):
        results.main(results.Options(docs=docs, bench=tmp_path / "none.json"))
    with pytest.raises(results.ResultsError, match="--date must be YYYY-MM-DD, not 2 January"):
        results.Options(date="2 January")
    (docs / "results" / "bench.json").write_text(json.dumps(measured()))
    (docs / "results" / "sources.json").write_text("{}")
    with pytest.raises(results.ResultsError, match=r"no date of bench\.json; copy it in with --bench"):
        results._speed(docs / "results")


def test_a_page_with_other_marks_is_refused() -> None:
    page = "a\n<!-- table: one -->\nold\n<!-- end -->\nb\n"
    assert results.rewritten(page, {"one": "new"}) == "a\n<!-- table: one -->\n\nnew\n\n<!-- end -->\nb\n"
    with pytest.raises(results.ResultsError, match="the marked tables are one, not one, two"):
        results.rewritten(page, {"one": "new", "two": ""})


def test_the_tables_of_the_page_are_what_the_files_say() -> None:
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    assert results.rewritten(page, results.blocks(ROOT / "docs" / "results")) == page, "run benchmarks/results.py"
