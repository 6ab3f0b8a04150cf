"""Rows trained side by side for real, on a few small files: what they leave, how they go on, what they refuse."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from dualformer.errors import DualFormerError
from dualformer.paper import ablation_runs
from dualformer.paper.ablation_runs import RowResult, mean_and_spread, run_rows
from dualformer.paper.paper_tables import Row, select
from dualformer.training import loop
from dualformer.training.reporter import SilentReporter, read_metrics
from dualformer.training.run_folder import TrainResult
from dualformer.training.settings.train_config import TrainConfig
from dualformer.training.train import train
from dualformer.weights.safetensors_file import read_card
from small_runs import RecordingReporter

ROWS = select(["7"], ["without-peg", "peg"])


class Killed(BaseException):
    """What no handler catches."""


@pytest.fixture
def recipe(settings: TrainConfig) -> TrainConfig:
    """One epoch of three steps."""
    return settings.replace(epochs=1)


def run(recipe: TrainConfig, rows: list[Row] = ROWS, *, seeds: int = 2) -> list[RowResult]:
    return run_rows(rows, recipe, seeds=seeds, reporter=SilentReporter())


def results(recipe: TrainConfig) -> dict[str, Any]:
    return json.loads((Path(recipe.out) / "results.json").read_text())


def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The folders that are trained from now on, as they are begun."""
    folders: list[str] = []

    def watched(config: TrainConfig, **arguments: Any) -> TrainResult:
        folders.append(config.out)
        return train(config, **arguments)

    monkeypatch.setattr(ablation_runs, "train", watched)
    return folders


def test_killed_anywhere_and_called_again_it_gives_the_same_results(
    recipe: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(recipe)
    killed = recipe.replace(out=str(tmp_path / "killed"), save_minutes=1e-6)  # after every step
    train_batch, seen = loop.Loop._run_batch, 0

    def dying(self: loop.Loop, batch: loop.Batch) -> None:
        nonlocal seen
        seen += 1
        if seen in (2, 6, 9):
            raise Killed
        train_batch(self, batch)

    deaths = 0
    with monkeypatch.context() as patch:
        patch.setattr(loop.Loop, "_run_batch", dying)
        for _ in range(4):
            try:
                run(killed)
            except Killed:
                deaths += 1
    assert deaths == 3 and seen == 3 + 4 * 3  # no step is done twice
    assert (tmp_path / "killed" / "results.json").read_bytes() == (Path(recipe.out) / "results.json").read_bytes()
    again = trained(monkeypatch)
    assert [each.top1 for each in run(killed)] == [each.top1 for each in whole]
    assert again == []


def test_what_is_measured_is_what_the_runs_wrote(recipe: TrainConfig) -> None:
    measured = run(recipe)
    out = Path(recipe.out)
    book = results(recipe)["rows"]
    assert list(book) == ["7/without-peg", "7/peg"]
    for each in measured:
        runs = [out / each.row.key / f"seed-{seed}" for seed in (0, 1)]
        assert each.top1 == tuple(read_metrics(folder)[-1]["val_top1"] for folder in runs)
        assert each.top5 == () and book[each.row.key]["top5"] is None  # of two classes
        assert each.steps == 3 and not each.failures and not each.same_as
        assert each.planned is not None and each.planned.clip == (4, 32, 32)
        networks = [read_card(folder / "last.safetensors").config for folder in runs]
        assert networks == [each.planned.network] * 2
        mean, spread = mean_and_spread(each.top1)
        assert book[each.row.key]["top1"] == {"mean": mean, "spread": spread, "seeds": 2}
    assert [each.planned.network.position for each in measured if each.planned] == ["none", "peg"]


def test_more_seeds_keep_the_ones_there_are(recipe: TrainConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = select(["7"], ["peg"])
    first = run(recipe, rows, seeds=1)
    folders = trained(monkeypatch)
    both = run(recipe, rows, seeds=2)
    assert folders == [str(Path(recipe.out) / "7" / "peg" / "seed-1")]
    assert both[0].top1[:1] == first[0].top1 and len(both[0].top1) == 2


def test_a_row_resumes_by_itself_as_the_network_that_it_is(recipe: TrainConfig, tmp_path: Path) -> None:
    rows = select(["7"], ["absolute"])
    run(recipe, rows, seeds=1)
    part = recipe.replace(out=str(tmp_path / "part"))
    run(part.replace(max_steps=1), rows, seeds=1)
    folder = tmp_path / "part" / "7" / "absolute" / "seed-0"
    assert read_metrics(folder)[-1]["step"] == 1
    train(TrainConfig(resume=True, out=str(folder), workers=0), reporter=SilentReporter())
    assert read_card(folder / "last.safetensors").config.position == "absolute"
    keys = ("step", "train_loss", "val_loss", "val_top1")
    whole = read_metrics(Path(recipe.out) / "7" / "absolute" / "seed-0")[-1]
    assert [read_metrics(folder)[-1][key] for key in keys] == [whole[key] for key in keys]


def test_a_run_that_max_steps_stopped_is_not_done_again(recipe: TrainConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, short = select(["7"], ["peg"]), recipe.replace(max_steps=2)
    once = run(short, rows, seeds=1)
    (Path(short.out) / "results.json").unlink()  # killed between the run's end and the results
    again = run(short, rows, seeds=1)
    assert once[0].top1 == again[0].top1 and once[0].steps == again[0].steps == 2
    assert results(short)["rows"]["7/peg"]["seeds"]["0"]["best_top1"] == once[0].top1[0]


def test_rows_that_are_the_same_network_are_trained_once(recipe: TrainConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = trained(monkeypatch)
    lines = RecordingReporter()
    rows = select(["4", "5", "7"], ["lg-lg-lg-lg", "32x2-8-7-7", "32x2-16-7-7"])
    measured = run_rows(rows, recipe, seeds=1, reporter=lines)
    assert folders == [str(Path(recipe.out) / "4" / "lg-lg-lg-lg" / "seed-0")]
    assert [each.same_as for each in measured] == ["", "4/lg-lg-lg-lg", "4/lg-lg-lg-lg"]
    assert measured[0].top1 == measured[1].top1 == measured[2].top1 != ()
    assert "5/32x2-8-7-7: the same network as 4/lg-lg-lg-lg at these clips; trained once" in lines.lines
    # A later call of another table finds them too, and the ones it lacks lie where the others do.
    later = run(recipe, select(["7"], ["peg"]), seeds=2)
    assert later[0].same_as == "4/lg-lg-lg-lg" and later[0].top1[0] == measured[0].top1[0]
    assert folders[1:] == [str(Path(recipe.out) / "4" / "lg-lg-lg-lg" / "seed-1")]


def test_half_the_frames_have_twice_the_stride(recipe: TrainConfig) -> None:
    measured = run(recipe, select(["5"], ["16x4-8-7-7"]), seeds=1)
    card = read_card(Path(recipe.out) / "5" / "16x4-8-7-7" / "seed-0" / "last.safetensors")
    assert (card.preprocessing.frames, card.preprocessing.stride) == (2, 4)
    assert card.config.clip == (2, 32, 32) and len(measured[0].top1) == 1


def test_other_settings_are_refused_by_name_and_other_places_are_not(
    recipe: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = select(["7"], ["peg"])
    run(recipe, rows, seeds=1)
    with pytest.raises(DualFormerError, match=r"another `epochs` \(1, not 2\), `lr` \(0\.001, not 0\.5\); all rows"):
        run(recipe.replace(lr=0.5, epochs=2), rows)
    other = tmp_path / "other"
    shutil.copytree(recipe.data, other)
    next((other / "train" / "left").iterdir()).unlink()
    with pytest.raises(DualFormerError, match="of another data; all rows have one recipe"):
        run(recipe.replace(data=str(other)), rows)
    folders = trained(monkeypatch)
    moved = tmp_path / "moved"
    shutil.copytree(recipe.data, moved)
    same = recipe.replace(data=str(moved), workers=1, precision="auto", model="dualformer_nano", stride=2)
    run(same, rows, seeds=1)
    assert folders == []
    book = results(recipe)
    book["rows"]["7/peg"]["network"]["position"] = "absolute"
    (Path(recipe.out) / "results.json").write_text(json.dumps(book))
    with pytest.raises(DualFormerError, match="7/peg was trained as another network"):
        run(recipe, rows)
    (Path(recipe.out) / "results.json").write_text("[]")
    with pytest.raises(DualFormerError, match="not the results of ablations"):
        run(recipe, rows)


def test_a_row_that_fails_is_reported_and_the_others_go_on(
    recipe: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(config: TrainConfig, **arguments: Any) -> TrainResult:
        if "without-peg" in config.out:
            raise RuntimeError("no memory\nfor this")
        return train(config, **arguments)

    with monkeypatch.context() as patch:
        patch.setattr(ablation_runs, "train", failing)
        without, peg = run(recipe, seeds=1)
    assert without.failures == {0: "no memory for this"} and without.top1 == ()
    assert len(peg.top1) == 1 and not peg.failures
    assert results(recipe)["rows"]["7/without-peg"]["failed"] == {"0": "no memory for this"}
    again = run(recipe, seeds=1)
    assert not again[0].failures and len(again[0].top1) == 1 and again[1].top1 == peg.top1
    assert results(recipe)["rows"]["7/without-peg"]["failed"] == {}


def test_a_recipe_that_cannot_work_is_refused_and_binds_nobody(recipe: TrainConfig) -> None:
    rows = select(["7"], ["peg"])
    with pytest.raises(ValueError, match="`batch_size=13` is more than the 12 clips"):
        run(recipe.replace(batch_size=13), rows)
    assert not (Path(recipe.out) / "results.json").exists()
    with pytest.raises(ValueError, match="`seeds` must be at least 1, not 0"):
        run(recipe, rows, seeds=0)
    with pytest.raises(ValueError, match="resume has no place here"):
        run(recipe.replace(resume=True), rows)
    with pytest.raises(ValueError, match="class 'left' sounds as if left and right differ"):
        run(recipe.replace(flip=None), rows)
    with pytest.raises(ValueError, match="a variant keeps the clip"):
        train(recipe, reporter=SilentReporter(), variant=lambda network: network.replace(num_classes=7))
    assert not Path(recipe.out).exists() or not any(Path(recipe.out).iterdir())


def test_what_a_clip_or_a_preset_lacks_is_left_out_with_the_reason(recipe: TrainConfig) -> None:
    rows = select(["2", "7", "8"], ["2/dualformer-s", "7/peg", "8/1-1-2"])
    measured = {each.row.key: each for each in run(recipe.replace(frames=2), rows, seeds=1)}
    assert measured["2/dualformer-s"].problem == "it is about dualformer_small, and the recipe about dualformer_nano"
    assert measured["8/1-1-2"].problem == "half the frames in stage 4 takes clips of more than 2"
    assert len(measured["7/peg"].top1) == 1 and list(results(recipe)["rows"]) == ["7/peg"]


def test_spread_is_the_sample_standard_deviation() -> None:
    assert mean_and_spread((0.5, 0.7)) == (pytest.approx(0.6), pytest.approx(0.1 * 2**0.5))
    assert mean_and_spread((0.5,)) == (0.5, None)
