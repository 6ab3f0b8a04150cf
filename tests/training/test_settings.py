"""Settings of a run: each default stands in one place, and everything else refers to it."""

from __future__ import annotations

import ast
import configparser
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dualformer.training.settings.mixing_settings import MixingSettings
from dualformer.training.settings.train_config import TrainConfig
from dualformer.video.augmentation import Augmentation

PACKAGE = Path(__file__).resolve().parents[2] / "src" / "dualformer"
DEFAULTS = {field.name: field.default for field in dataclasses.fields(TrainConfig)}
OWNERS = {
    "model/config.py Config.dropout": "settings refer to it",
}
"""Defaults of components, which are those of the settings."""
OTHER_MEANINGS = {
    "cli/shared_options.py InferenceOptions.precision": "of a network that is only run",
    "cli/shared_options.py InferenceOptions.compile": "of a network that is only run",
    "datasets/clip_datasets.py __init__.repeats": "of a sampler alone, in a room that knows no training",
}
"""Equal literals that are no copies, and why. Every drawing of its own has its own ``seed`` as well."""


def literals(tree: ast.AST) -> Iterator[tuple[str, str, Any]]:
    """Defaults of fields and parameters that are literals: their class or function, name and value."""
    for node in ast.walk(tree):
        pairs: list[tuple[str, ast.expr | None]] = []
        if isinstance(node, ast.ClassDef):
            pairs = [
                (each.target.id, each.value)
                for each in node.body
                if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name)
            ]
        elif isinstance(node, ast.FunctionDef):
            positional = [*node.args.posonlyargs, *node.args.args]
            with_default = positional[len(positional) - len(node.args.defaults) :]
            pairs = [
                (parameter.arg, default)
                for parameter, default in [
                    *zip(with_default, node.args.defaults, strict=True),
                    *zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True),
                ]
            ]
        for name, value in pairs:
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and isinstance(value, ast.Constant):
                yield node.name, name, value.value


def told_values(tree: ast.AST) -> Iterator[tuple[str, Any]]:
    """Constants in dictionaries and in calls of `TrainConfig`, by their keys."""
    for node in ast.walk(tree):
        pairs: list[tuple[Any, ast.expr]] = []
        if isinstance(node, ast.Dict):
            pairs = [
                (key.value, value)
                for key, value in zip(node.keys, node.values, strict=True)
                if isinstance(key, ast.Constant)
            ]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "TrainConfig":
            pairs = [(keyword.arg, keyword.value) for keyword in node.keywords]
        yield from ((name, value.value) for name, value in pairs if isinstance(value, ast.Constant))


def repeats_default(name: str, value: Any) -> bool:
    """Whether a value is a setting's default, and more than None, False, 0 or empty."""
    return name in DEFAULTS and value not in (None, False, "") and value == DEFAULTS[name]


@pytest.mark.parametrize("room", sorted(path.name for path in PACKAGE.iterdir() if path.is_dir()))
def test_no_default_is_written_twice(room: str) -> None:
    for path in sorted((PACKAGE / room).rglob("*.py")):
        inside = path.relative_to(PACKAGE).as_posix()
        for owner, name, value in literals(ast.parse(path.read_text(encoding="utf-8"))):
            where = f"{inside} {owner}.{name}"
            if where in OWNERS or where in OTHER_MEANINGS or name == "seed" or "training/settings/" in inside:
                continue
            assert not repeats_default(name, value), f"{where} = {value!r} is a setting's default: refer to it"


def test_each_setting_is_told_in_one_group() -> None:
    written: dict[str, str] = {}
    for path in sorted((PACKAGE / "training" / "settings").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                for each in node.body:
                    if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name):
                        assert each.target.id not in written, f"{path.name}: {each.target.id} is in {written}"
                        written[each.target.id] = path.name
    assert set(written) == set(DEFAULTS) and len(written) == 87


@pytest.mark.parametrize("module", ["paper/run_experiment.py", "quickstart/pipeline.py"])
def test_no_recipe_restates_a_default(module: str) -> None:
    tree = ast.parse((PACKAGE / module).read_text(encoding="utf-8"))
    told = list(told_values(tree))
    assert told
    assert [(name, value) for name, value in told if repeats_default(name, value)] == []


def test_no_recipe_in_the_table_restates_a_default() -> None:
    table = configparser.ConfigParser(delimiters=("=",), interpolation=None)
    table.optionxform = lambda optionstr: optionstr
    table.read(PACKAGE / "training" / "recipes.ini", encoding="utf-8")
    told = [(name, value) for section in table.sections() for name, value in table[section].items() if name in DEFAULTS]
    assert len(told) > 40
    repeated = [(name, value) for name, value in told if value.lower() == str(DEFAULTS[name]).lower()]
    assert [(name, value) for name, value in repeated if repeats_default(name, DEFAULTS[name])] == []


def test_copies_are_found() -> None:
    code = "class A:\n    keep: int = 2\n    lr: float = B.lr\n"
    code += "def f(a, erasing=0.5, *, weight_decay=0.02, keep=None): ...\n"
    assert list(literals(ast.parse(code))) == [
        ("A", "keep", 2),
        ("f", "erasing", 0.5),
        ("f", "weight_decay", 0.02),
        ("f", "keep", None),
    ]
    assert [repeats_default(name, value) for _, name, value in literals(ast.parse(code))] == [True, False, True, False]
    assert list(told_values(ast.parse("x = {'keep': 2, 'lr': y}; TrainConfig(keep=3, **x)"))) == [
        ("keep", 2),
        ("keep", 3),
    ]


def test_components_own_their_defaults() -> None:
    assert TrainConfig.dropout is TrainConfig.min_area is None  # proposed, by the number of videos
    assert TrainConfig(data="videos").augmentation(("a", "b"), epochs=1) == Augmentation(flip=0.5)


def test_without_augmentation_every_clip_is_shown_as_it_is() -> None:
    config = TrainConfig(
        data="videos", erasing=0.5, randaugment="9x2", mixup=0.8, cutmix=1.0, switch_prob=0.3, label_smoothing=0.1
    )
    plain = config.without_augmentation()
    assert plain.augmentation(("a", "b"), epochs=1) == Augmentation(flip=0.0, area=(1.0, 1.0))
    mixing = {field.name: getattr(plain, field.name) for field in dataclasses.fields(MixingSettings)}
    assert MixingSettings(**mixing) == MixingSettings()


@pytest.mark.parametrize(
    ("name", "wrong", "bounds"),
    [
        ("layer_decay", (0.005, 1.005), "from 0.01 to 1"),
        ("min_area", (0.009, 1.009), "from 0.01 to 1"),
        ("mix_prob", (0.0, 1.001), "from 0.001 to 1"),
        ("erasing", (-0.1, 1.001), "from 0 to 1"),
        ("drop_path", (-0.1, 1.0), "0 or more and less than 1"),
        ("ema", (-0.1, 1.0), "0 or more and less than 1"),
    ],
)
def test_bounds_are_those_of_the_message(name: str, wrong: tuple[float, float], bounds: str) -> None:
    def made(value: float) -> TrainConfig:
        settings: dict[str, Any] = {"data": "videos", "mixup": 0.8, name: value}
        return TrainConfig(**settings)

    for value in wrong:
        with pytest.raises(ValueError, match=f"`{name}` must be {bounds}, not {value}"):
            made(value)
    for value in (0.01, 1.0 if " to 1" in bounds else 0.99):
        assert getattr(made(value), name) == value
