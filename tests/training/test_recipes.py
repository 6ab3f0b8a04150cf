"""Recipes: every number of the paper's, how they are found, told and changed, and settings read from files."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest

from dualformer.datasets.benchmarks.find_benchmark import parse_benchmark
from dualformer.training.recipes import HEADINGS, Recipe, find_recipe, recipes
from dualformer.training.settings.settings_file import read_settings
from dualformer.training.settings.train_config import TrainConfig

# model, lr, weight decay, epochs, warm-up, drop path, frames, stride, batch, flip, views, expected
PAPER: dict[str, tuple[Any, ...]] = {
    "kinetics400-tiny": ("tiny", 1e-3, 0.02, 30, 2.5, 0.1, 32, 2, 64, "on", "4x1", "79.5 / 94.1 with tokens"),
    "kinetics400-small": ("small", 1e-3, 0.02, 30, 2.5, 0.2, 32, 2, 64, "on", "4x1", "80.6 / 94.9 with tokens"),
    "kinetics400-base": ("base", 1e-3, 0.05, 30, 2.5, 0.3, 32, 2, 64, "on", "4x1", "81.1 / 95.0"),
    "kinetics600-base-in21k": ("base", 1e-3, 0.05, 30, 2.5, 0.3, 32, 2, 64, "on", "4x1", "85.2 / 96.6"),
    "diving48-small": ("small", 1e-3, 0.02, 16, 1, 0.2, 32, 4, 64, "off", "4x3", "81.8"),
    "hmdb51-small": ("small", 1e-3, 0.02, 16, 1, 0.2, 32, 4, 64, "on", "4x3", "76.4"),
    "ucf101-small": ("small", 1e-3, 0.02, 16, 1, 0.2, 32, 4, 64, "on", "4x3", "97.5"),
    "ucf101-tiny": ("tiny", 1e-3, 0.02, 16, 1, 0.1, 16, 4, 64, "on", "4x1", "96.6"),
    "hmdb51-tiny": ("tiny", 1e-3, 0.02, 16, 1, 0.1, 16, 4, 64, "on", "4x1", "75.0"),
    "diving48-tiny": ("tiny", 1e-3, 0.02, 16, 1, 0.1, 16, 4, 64, "off", "4x1", "75.9"),
}


def found(name: str) -> Recipe:
    recipe = find_recipe(name)
    assert isinstance(recipe, Recipe)
    return recipe


@pytest.mark.parametrize("name", PAPER)
def test_the_papers_numbers(name: str) -> None:
    recipe = found(name)
    config = recipe.config(data="videos", start="weights.safetensors")
    assert (
        (config.model or "").removeprefix("dualformer_"),
        config.lr,
        config.weight_decay,
        config.epochs,
        config.warmup_epochs,
        config.drop_path,
        config.frames,
        config.stride,
        recipe.batch,
        config.flip,
        recipe.views,
        recipe.expected,
    ) == PAPER[name]
    assert (config.backbone_lr, config.layer_decay, config.dropout, config.size) == (0.1, 1.0, 0.5, 224)
    assert (config.min_area, config.scale_jitter, config.clip_grad, config.ema, config.scale_lr) == (
        *(None, None, 0.0, None),
        "off",
    )
    assert (config.randaugment, config.mixup, config.cutmix, config.label_smoothing) == (None, 0, 0, 0)
    assert recipe.config(data="videos", start="random").backbone_lr is None


@pytest.mark.parametrize("size", ["tiny", "small"])
def test_the_paper_trained_tiny_and_small_with_token_labels(size: str) -> None:
    plain, taught = found(f"kinetics400-{size}"), found(f"kinetics400-{size}-tokens")
    given = {"data": "videos", "start": "weights.safetensors"}
    config = taught.config(**given, teacher="base.safetensors")
    assert config == plain.config(**given, teacher="base.safetensors")
    assert (config.distill, config.distill_weight, config.teacher_topk, config.teacher_rest) == (
        "tokens",
        0.5,
        5,
        "none",
    )
    assert set(taught.needs) == {"start", "teacher"} and set(plain.needs) == {"start"}


@pytest.mark.parametrize("name", PAPER)
def test_modern_variants_change_what_they_say_and_nothing_else(name: str) -> None:
    before = found(name).config(data="videos", start="w")
    after = found(f"{name}-modern").config(data="videos", start="w")
    changed = {
        field.name: getattr(after, field.name)
        for field in dataclasses.fields(TrainConfig)
        if getattr(after, field.name) != getattr(before, field.name)
    }
    assert changed.pop("ema") == (0.9999 if "kinetics" in name else 0.995)
    assert changed == {
        "randaugment": "7x4x0.5",
        "erasing": 0.25,
        "mixup": 0.8,
        "cutmix": 1.0,
        "label_smoothing": 0.1,
        "layer_decay": 0.8,
        "backbone_lr": 0.2,
        "clip_grad": 1.0,
    }


@pytest.mark.parametrize("recipe", recipes(), ids=lambda recipe: recipe.name)
def test_every_recipe_tells_what_to_expect(recipe: Recipe) -> None:
    headings = re.findall(r"^([A-Z][\w ]*):", recipe.text, flags=re.MULTILINE)
    assert [heading for heading in headings if heading in HEADINGS] == list(HEADINGS)
    assert "{" not in recipe.text
    paper = recipe.name in PAPER or recipe.name.endswith("-tokens")
    assert ("The release" in headings) == paper
    if paper:
        for figure in re.findall(r"[\d.]+", recipe.expected):
            assert f"{figure} %" in recipe.text
        train, evaluate = re.findall(r"dualformer (?:train|evaluate)[^\n]*", recipe.text)[:2]
        assert f" {recipe.name} " in train and "--from" in train
        data = re.findall(r"--data (\S+)", train)
        assert data == re.findall(r"--data (\S+)", evaluate) and parse_benchmark(data[0]) is not None
        assert evaluate.endswith(f"--views {recipe.views}")
    assert recipe.settings["epochs"] and recipe.settings["flip"] in ("on", "off")  # visible choices, not defaults


def test_names_do_not_repeat_and_unknown_ones_are_answered_with_those_there_are() -> None:
    names = [recipe.name for recipe in recipes()]
    assert len(set(names)) == len(names) == 2 * len(PAPER) + 3
    with pytest.raises(ValueError, match="no recipe 'hmdb-small'; did you mean hmdb51-small") as error:
        find_recipe("hmdb-small")
    for name in PAPER:
        assert name in str(error.value)
    with pytest.raises(ValueError, match=r"no recipe 'zzz'; there are kinetics400-tiny"):
        find_recipe("zzz")
    with pytest.raises(FileNotFoundError, match=r"^zzz\.json: no such file"):
        find_recipe("zzz.json")


@pytest.mark.parametrize("name", ["videos", "list.csv"])
def test_videos_in_place_of_a_recipe_are_told_where_to_go(name: str, tmp_path: Path) -> None:
    given = tmp_path / name
    given.mkdir() if name == "videos" else given.touch()
    with pytest.raises(ValueError, match=f"is no recipe: name videos as `data={given}`"):
        find_recipe(str(given))


def test_what_a_recipe_needs_is_asked_for() -> None:
    recipe = found("kinetics400-small-tokens")
    with pytest.raises(ValueError, match="kinetics400-small-tokens needs `start`: ImageNet-1K weights"):
        recipe.check_given(["data"])
    with pytest.raises(ValueError, match="needs `teacher`: DualFormer-B"):
        recipe.check_given(["start"])
    recipe.check_given(["start", "teacher_scores"])


def test_another_batch_is_told_with_the_remedy() -> None:
    recipe = found("ucf101-tiny")
    assert recipe.note_on_batch(64) is None
    assert "takes 64 clips a step, this run 16" in (recipe.note_on_batch(16) or "")
    assert "`accumulate`, times 4, makes up for it" in (recipe.note_on_batch(16) or "")
    assert "change `batch_size`, `accumulate` or `devices`" in (recipe.note_on_batch(48) or "")
    assert "this run 128" in (recipe.note_on_batch(128) or "")


def test_a_runs_config_is_read_but_for_what_is_its_own(tmp_path: Path) -> None:
    config = found("ucf101-tiny-modern").config(data="videos", out="runs/a", start="w", max_steps=3)
    config.save(tmp_path / "config.json", decoder="PyAV 9")
    settings = find_recipe(str(tmp_path / "config.json"))
    assert isinstance(settings, dict)
    assert not {"out", "resume", "max_steps", "decoder"} & set(settings)
    assert TrainConfig(**settings) == config.replace(out=TrainConfig(data="x").out, max_steps=None)


def test_a_runs_own_flip_map_is_taken_over(tmp_path: Path) -> None:
    config = TrainConfig(data="videos", flip="swap", flip_map="gone.csv")
    config.save(tmp_path / "config.json")
    assert read_settings(tmp_path / "config.json")["flip_map"] == "gone.csv"
    (tmp_path / "flip_map.json").write_text("{}")
    assert read_settings(tmp_path / "config.json")["flip_map"] == str(tmp_path / "flip_map.json")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not JSON"),
        ("[1]", "settings are a JSON object"),
        ('{"epoch": 3}', "there is no setting 'epoch'; did you mean epochs"),
        ('{"batch-size": 3}', "there is no setting 'batch-size'; did you mean batch_size?"),
        ('{"from": "w"}', "there is no setting 'from'; did you mean start?"),
        ('{"zzzzzz": 1}', "there is no setting 'zzzzzz'; dualformer train --help lists them"),
        ('{"epochs": "ten"}', 'epochs cannot be "ten"; it is a whole number or null'),
        ('{"epochs": 2.5}', "epochs cannot be 2.5"),
        ('{"epochs": true}', "epochs cannot be true"),
        ('{"weight_decay": null}', "weight_decay cannot be null; it is a number"),
        ('{"flip": "maybe"}', 'flip cannot be "maybe"; it is "on" or "off" or "swap" or null'),
        ('{"grad_checkpointing": 1}', "grad_checkpointing cannot be 1; it is true or false"),
    ],
)
def test_what_is_wrong_with_a_file_of_settings_is_named(content: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=re.escape(f"{path}: ") + ".*" + re.escape(message)):
        read_settings(path)


def test_numbers_of_both_kinds_are_taken(tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text(json.dumps({"dropout": 0, "epochs": 3, "model": None, "devices": "all"}))
    assert read_settings(tmp_path / "mine.json") == {"dropout": 0, "epochs": 3, "model": None, "devices": "all"}
