"""The page of recognisers from few videos: its table is that of the file, and says how many videos it rests on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from blocks import ROOT

import few_videos
from dualformer.model.cost import measure_cost
from dualformer.model.presets import preset_config

UT, GESTURES = "UT-Interaction, five folds", "EgoGestAR, A and C to B"


@pytest.fixture
def measured(tmp_path: Path) -> dict[str, dict[str, Any]]:
    """Two seeds of the default command on two sets, the second seed of one fold alone, and baselines of one set."""
    for name, seed, fold, right in ((UT, 0, 0, 20), (UT, 0, 3, 16), (UT, 1, 0, 18), (GESTURES, 0, 0, 80)):
        folder = tmp_path / few_videos.slug(name) / "default" / f"seed{seed}-fold{fold}"
        folder.mkdir(parents=True)
        videos = 89 if name == GESTURES else 20 + (fold > 0)
        figures = {"videos": videos, "right": right, "one_frame": 0.1, "shuffled": 0.25}
        (folder / "measured.json").write_text(json.dumps(figures))
    baselines = {"classes": 6, "videos": 120, "commonest class": 30, "file data": 60, "middle frame": 0}
    (tmp_path / few_videos.slug(UT) / "baselines.json").write_text(json.dumps(baselines))
    return few_videos.collect(tmp_path)


def cells(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]


def test_a_cell_tells_share_interval_and_seeds(measured: dict[str, dict[str, Any]]) -> None:
    lines = cells(few_videos.table(measured))
    assert lines[0] == ["", UT, "of these, folds 3 and 4", GESTURES]
    # 54 of 61 are right; as much of the 41 videos that there are has an interval of 74 to 95 %.
    assert lines[-1] == [
        "default",
        "**88.5 %** (74 to 95; 2 seeds, 3 of 10 runs)",
        "**76.2 %** (55 to 89; 1 seed, 1 of 2 runs)",
        "**89.9 %** (82 to 95; 1 seed)",
    ]
    assert [line[:2] for line in lines[2:5]] == [
        ["chance", "16.7 %"],
        ["commonest class", "25.0 %"],
        ["nearest neighbour by file data", "50.0 %"],
    ]
    assert all(line[2:] == ["–", "–"] for line in lines[2:5])


def test_controls_have_a_table(measured: dict[str, dict[str, Any]]) -> None:
    lines = cells(few_videos.controls_table(measured))
    assert lines[0] == ["", f"{UT}: one frame", "shuffled", f"{GESTURES}: one frame", "shuffled"]
    assert lines[2:] == [["default", "10 %", "25 %", "10 %", "25 %"]]


def test_the_table_stands_on_the_page_with_its_machine(measured: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    page = tmp_path / "few-videos.md"
    page.write_text("before\n<!-- table: few-videos -->\nearlier text\n<!-- end -->\nafter\n", encoding="utf-8")
    few_videos.write_page(measured, tmp_path)
    text = page.read_text(encoding="utf-8")
    assert few_videos.table(measured) in text and "earlier text" not in text and "PyTorch" in text
    assert text.startswith("before\n") and text.endswith("after\n")
    assert json.loads((tmp_path / "results" / "few_videos.json").read_text())["sets"] == measured


def test_what_was_found_elsewhere_is_kept(measured: dict[str, dict[str, Any]]) -> None:
    elsewhere = [{"seed": seed, "fold": 0, "videos": 20, "right": 3} for seed in (1, 2)]
    rows = {"default": elsewhere, "random weights": elsewhere}
    few_videos.add_known(measured, {UT: {"baselines": {"videos": 3}, "rows": rows}})
    found = measured[UT]
    assert found["baselines"]["videos"] == 120
    assert [(run["seed"], run["fold"], run["right"]) for run in found["rows"]["default"]] == [
        *[(0, 0, 20), (0, 3, 16), (1, 0, 18)],
        (2, 0, 3),
    ]
    assert found["rows"]["random weights"] == elsewhere


@pytest.mark.parametrize("name", few_videos.TAUGHT)
def test_taught_networks_take_as_many_multiply_adds_as_the_preset(name: str) -> None:
    preset = preset_config("dualformer_nano_conv", clip=(16, 64, 64))
    variant = few_videos.TAUGHT[name][1] or (lambda network: network)
    assert measure_cost(variant(preset)).macs == pytest.approx(measure_cost(preset).macs, rel=0.06)


@pytest.mark.parametrize("name", few_videos.VARIANTS)
def test_variants_take_as_many_multiply_adds_as_the_preset(name: str) -> None:
    kinds, channels = few_videos.VARIANTS[name]
    preset = preset_config("dualformer_nano_conv", clip=(16, 64, 64))
    variant = few_videos.with_halves(kinds, channels, preset)
    assert [stage.kinds for stage in variant.stages] == list(kinds)
    assert measure_cost(variant).macs == pytest.approx(measure_cost(preset).macs, rel=0.06)


def test_the_table_of_the_page_is_what_the_file_says() -> None:
    page = (ROOT / "docs" / "few-videos.md").read_text(encoding="utf-8")
    figures = json.loads((ROOT / "docs" / "results" / "few_videos.json").read_text(encoding="utf-8"))
    text = few_videos.rewritten(page, {"few-videos": few_videos.block(figures)})
    assert text == page, "run benchmarks/few_videos.py FOLDER --docs"
