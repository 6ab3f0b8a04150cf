"""The experiment on the paper's thesis: its networks, its runs, what it writes, how it goes on."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from dualformer.cli.ablate import Options
from dualformer.cli.main import main
from dualformer.errors import DualFormerError
from dualformer.model.cost import measure_cost
from dualformer.model.presets import preset_config
from dualformer.paper import run_experiment as module
from dualformer.paper.experiment import CONTROLS, RESULTS, Experiment, Run
from dualformer.paper.experiment_report import PICTURE, TABLE, at_chance, draw, report, table
from dualformer.paper.run_experiment import run_experiment, train_and_test
from dualformer.paper.scaled_variants import ATTENTION_KINDS, VARIANTS, scaled_config
from dualformer.training import loop, run_folder
from dualformer.training.reporter import SilentReporter
from forked_verbs import SERVED

TINY = Experiment(
    tasks=("both",), variants=("LG", "LL"), seeds=1, clips=16, batch_size=2, test_clips=8, jobs=1, precision="float32"
)
KEYS = {"task", "variant", "seed", "steps", "seconds", "gmacs", "parameters", "accuracy", "right", *CONTROLS}


class Killed(BaseException):
    """What no handler catches."""


@pytest.fixture(autouse=True)
def processes_begin_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forked from one that has PyTorch loaded."""
    monkeypatch.setattr(module, "multiprocessing", SimpleNamespace(get_context=lambda _: SERVED))


def test_every_stage_has_as_many_windows_and_tokens_for_a_prior_as_the_papers() -> None:
    small, papers = (measure_cost(config).stages for config in (scaled_config(), preset_config("dualformer_tiny")))
    assert [stage.windows for stage in small] == [stage.windows for stage in papers] == [128, 32, 8, 2]
    for one, other in zip(small[:3], papers[:3], strict=True):
        assert one.tokens / one.pyramid_tokens == pytest.approx(other.tokens / other.pyramid_tokens, rel=0.05)
    # No window of any stage is the whole map, not even where the presets' windows would be.
    for variant in ("LG", "LL"):
        config = VARIANTS[variant](scaled_config())
        for stage, size in zip(config.stages, config.map_sizes(), strict=True):
            assert np.prod(stage.window) < np.prod(size)


def test_variants_differ_in_what_they_are_named_after_and_cost_about_the_same() -> None:
    costs = {name: measure_cost(VARIANTS[name](scaled_config())) for name in ATTENTION_KINDS}
    base = costs["LG"]
    for name in ATTENTION_KINDS:
        assert costs[name].parameters == pytest.approx(base.parameters, rel=0.015)
        assert costs[name].macs == pytest.approx(base.macs, rel=0.08)
    configs = {name: VARIANTS[name](scaled_config()) for name in VARIANTS}
    assert [stage.kinds for stage in configs["LL"].stages] == ["LL"] * 4
    assert [stage.kinds for stage in configs["GL"].stages] == ["GL"] * 4
    assert configs["long-window"].stages[0].window == (8, 2, 2)
    assert [stage.window for stage in configs["LL-narrow-last"].stages] == [(4, 2, 2)] * 3 + [(4, 1, 1)]
    assert [stage.kinds for stage in configs["LL-narrow-last"].stages] == ["LL"] * 4
    assert configs["GG-no-position"].position == "none" and configs["GG-no-position"].stages[3].kinds == "GG"
    assert len(set(configs.values())) == len(configs)


def test_too_small_a_clip_is_refused() -> None:
    with pytest.raises(ValueError, match="too small"):
        scaled_config(clip=(16, 32, 32))


def test_a_network_with_convolutions_or_none_is_refused_before_anything_runs() -> None:
    with pytest.raises(ValueError, match=r"and stages 1 and 2 of the model have convolutions \(C\)"):
        Experiment(model="dualformer_nano_conv")
    with pytest.raises(ValueError, match="unknown model 'nano'"):
        Experiment(model="nano")


def test_killed_and_called_again_it_gives_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_folder, "draw_curves", lambda *_: None)
    monkeypatch.setattr(Experiment, "EPOCHS", 4)  # of two batches each
    run = Run(task="both", variant="LG", seed=0)
    whole = train_and_test(TINY.replace(out=str(tmp_path / "whole")), run)
    assert set(whole) == KEYS and whole["steps"] == 8 and len(whole["right"]) == 8
    assert whole["accuracy"] == whole["right"].count("1") / 8

    train_batch, seen = loop.Loop._run_batch, 0

    def dying(self: loop.Loop, batch: Any) -> Any:
        nonlocal seen
        seen += 1
        if seen == 6:
            raise Killed
        return train_batch(self, batch)

    monkeypatch.setattr(loop.Loop, "_run_batch", dying)
    killed = TINY.replace(out=str(tmp_path / "killed"))
    with pytest.raises(Killed):
        train_and_test(killed, run)
    assert list((tmp_path / "killed").glob("both/LG/seed-0/checkpoints/*"))
    resumed = train_and_test(killed, run)
    assert seen == 6 + 8 - 4  # it went on behind the second part, the fourth batch
    assert {key: resumed[key] for key in KEYS - {"seconds"}} == {key: whole[key] for key in KEYS - {"seconds"}}
    # What is left are figures.
    assert not list((tmp_path / "killed").rglob("*.safetensors")) and not list((tmp_path / "killed").rglob("*.pt"))


def test_one_command_does_all_runs_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    arguments = [
        *("ablate", "--run", "--data", "relations", "--out", str(out), "--tasks", "both", "--seeds", "1"),
        *("--variants", "LG", "GG", "--train-clips", "8", "--batch-size", "1", "--test-clips", "4", "--jobs", "2"),
        *("--precision", "float32"),
    ]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "2 runs to do; 2 at a time on cpu in float32; each 8 steps of 1 clip of 16x64x64" in printed
    assert re.search(r"2 of 2: both/(LG|GG)/seed-0: \d+\.\d% in \d+:\d\d", printed)
    results = json.loads((out / RESULTS).read_text())
    assert [run["variant"] for run in results["runs"]] == ["LG", "GG"]
    assert (out / PICTURE).read_bytes().startswith(b"\x89PNG") and "| LG |" in (out / TABLE).read_text()

    monkeypatch.setattr(module, "_run_process", None)  # nothing is left to be done
    assert main(arguments) == 0
    assert "0 runs to do, 2 are done" in capsys.readouterr().out
    assert json.loads((out / RESULTS).read_text()) == results
    assert main([*arguments, "--lr", "0.1"]) == 1
    assert "these results are of another lr (0.0015, not 0.1)" in capsys.readouterr().err


def test_a_run_that_fails_is_named_and_the_others_are_kept(tmp_path: Path) -> None:
    experiment = TINY.replace(out=str(tmp_path), variants=("LG",))
    folder = tmp_path / "both" / "LG" / "seed-0"
    folder.mkdir(parents=True)
    (folder / "checkpoints").write_text("not a folder")
    with pytest.raises(DualFormerError, match="both/LG/seed-0: failed"):
        run_experiment(experiment, reporter=SilentReporter())
    assert (folder / "log.txt").read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--data", "relations", "--epochs", "3"], "--epochs does not go with --data relations"),
        (["--data", "videos", "--jobs", "2"], "--jobs is for --data relations"),
        (["--data", "relations", "--variants", "XL"], "there is no variant XL"),
        (["--data", "relations", "--train-clips", "50"], "--train-clips must be at least 64"),
    ],
)
def test_options_that_do_not_go_together(
    options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ablate", "--run", "--out", str(tmp_path / "out"), *options]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_command_does_by_default_what_the_experiment_does() -> None:
    options, experiment = Options(), Experiment()
    assert (options.train_clips, options.test_clips) == (experiment.clips, experiment.test_clips)
    assert options.weight_decay == experiment.weight_decay


def runs(accuracies: dict[tuple[str, str], list[float]]) -> list[dict[str, Any]]:
    return [
        {
            "task": task,
            "variant": variant,
            "seed": seed,
            "gmacs": 0.2,
            "parameters": 10**6,
            "accuracy": share,
            "right": "1" * round(40 * share) + "0" * round(40 * (1 - share)),
            "still": 0.5,
            "shuffled": 0.51,
        }
        for (task, variant), shares in accuracies.items()
        for seed, share in enumerate(shares)
    ]


def test_the_table_has_intervals_and_differences_seed_by_seed(tmp_path: Path) -> None:
    found = runs({("both", "LG"): [0.9, 0.8, 0.7], ("both", "LL"): [0.8, 0.7, 0.6]})  # of 40 clips each
    lines = table(found).splitlines()
    assert lines[0] == "| variant | GMACs | params M | both | both: less than LG | seeds |"
    # Seeds differ by 10 points, and t of two degrees of freedom is 4.303; the difference is 10 points for every seed.
    assert lines[2] == "| LG | 0.200 | 1.000 | 80.0 ± 24.8 (1 of 3 at chance) |  | 3 |"
    assert lines[3] == "| LL | 0.200 | 1.000 | 70.0 ± 24.8 (2 of 3 at chance) | 10.0 ± 0.0 | 3 |"
    assert "| frames shuffled | 51.0 ± 0.0 |" in lines
    text = report(TINY.replace(out=str(tmp_path), test_clips=40), found)
    assert (tmp_path / TABLE).read_text() == text == table(found)
    assert (tmp_path / PICTURE).stat().st_size > 10_000


def test_of_many_lines_each_looks_different_and_only_the_kinds_have_bars(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures: list[Figure] = []
    monkeypatch.setattr("dualformer.scoring.plots.save_figure", lambda path, figure: figures.append(figure))
    for names in (tuple(VARIANTS)[:8], tuple(VARIANTS)):
        experiment = TINY.replace(out=str(tmp_path), test_clips=40)
        draw(tmp_path / PICTURE, experiment, runs({("both", name): [0.9, 0.8] for name in names}))
        bars: dict[str, Any] = {str(each.get_label()): each for each in figures[-1].axes[0].containers}
        assert list(bars) == list(names)
        looks = {(str(each[0].get_color()), str(each[0].get_linestyle())) for each in bars.values()}
        assert len(looks) == len(names)
        assert {name for name in names if bars[name].has_yerr} == set(names if len(names) == 8 else ATTENTION_KINDS)
        assert figures[-1].axes[0].get_ylim()[1] == 102


def test_seeds_that_stayed_at_chance_are_counted() -> None:
    assert at_chance([0.5, 0.547, 0.549, 0.45, 1.0], 1000) == 3  # 3 × √(¼ / 1000) = 4.7 points
    found = runs({("both", "LG"): [1.0, 0.5, 0.6], ("both", "LL"): [1.0, 1.0, 0.9]})  # of 40 clips each
    lines = table(found).splitlines()
    assert "70.0 ± 65.7 (2 of 3 at chance)" in lines[2] and "chance" not in lines[3]


def test_controls_show_one_frame_or_all_in_another_order() -> None:
    clips = torch.arange(16).repeat(2, 1)[..., None, None, None].expand(2, 16, 4, 4, 3)
    still = module._control(clips, "still", range(2))
    assert all(len(clip.unique()) == 1 for clip in still)
    shuffled = module._control(clips, "shuffled", range(2))
    assert all(len(clip.unique()) == 16 for clip in shuffled) and not (shuffled == clips).all()
    assert module._control(clips, "", range(2)) is clips
