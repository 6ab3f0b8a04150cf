"""Recipes by name, and settings from a JSON file: the config of another run, or some fields written by hand."""

from __future__ import annotations

import dataclasses
import inspect
import json
import types
import typing
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

from dualformer.training.recipes import kinetics, transfer
from dualformer.training.recipes.modern import SUFFIX, modern
from dualformer.training.recipes.recipe import Recipe
from dualformer.training.recipes.rendered_recipes import rendered_nano
from dualformer.training.settings.train_config import TrainConfig

PAPER: tuple[Callable[[], Recipe], ...] = (
    kinetics.kinetics400_tiny,
    kinetics.kinetics400_small,
    kinetics.kinetics400_base,
    kinetics.kinetics600_base_in21k,
    transfer.diving48_small,
    transfer.hmdb51_small,
    transfer.ucf101_small,
    transfer.ucf101_tiny,
    transfer.hmdb51_tiny,
    transfer.diving48_tiny,
)
OTHERS: tuple[Callable[[], Recipe], ...] = (
    kinetics.kinetics400_tiny_tokens,
    kinetics.kinetics400_small_tokens,
    rendered_nano,
)

_OF_ONE_RUN = ("out", "resume", "max_steps")
"""Fields that another run does not take over."""
_FLIP_MAP = "flip_map.json"  # the copy that a run keeps beside its config


def recipes() -> list[Recipe]:
    """All of them: the paper's, each followed by its modern variant, those with token labels, and the project's own."""
    paper = [_made(maker) for maker in PAPER]
    return [each for recipe in paper for each in (recipe, modern(recipe))] + [_made(maker) for maker in OTHERS]


def find_recipe(name_or_file: str) -> Recipe | dict[str, Any]:
    """The recipe of this name, or the settings in a JSON file.

    Errors: ``ValueError`` for a name that there is not (those that there are, are listed), for a file that is no JSON
    object, for a field that no run has (near ones are named), and for a value that is none for its field;
    ``FileNotFoundError`` for a file that is not there.
    """
    known = {recipe.name: recipe for recipe in recipes()}
    if recipe := known.get(name_or_file):
        return recipe
    path = Path(name_or_file)
    if path.suffix == ".json" or path.is_file():
        return read_settings(path)
    near = get_close_matches(name_or_file, known, n=3)
    guess = f"; did you mean {' or '.join(near)}?" if near else ";"
    listed = ", ".join(name for name in known if not name.endswith(SUFFIX))
    raise ValueError(
        f"there is no recipe {name_or_file!r}{guess} there are {listed}, and most with {SUFFIX} behind; or name "
        "a JSON file of settings"
    )


def read_settings(path: Path) -> dict[str, Any]:
    """Fields of `TrainConfig` from a JSON file, but for those that belong to the run whose config it is."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file of settings")
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not JSON ({error})") from error
    if not isinstance(settings, dict):
        raise ValueError(f'{path}: settings are a JSON object, as in {{"epochs": 30}}')
    settings.pop("decoder", None)  # a run writes down what it read its videos with; that is no setting
    hints = typing.get_type_hints(TrainConfig)
    for name, value in settings.items():
        if name not in hints:
            raise ValueError(f"{path}: there is no setting {name!r}{_near(name, list(hints))}")
        if not _fits(value, hints[name]):
            raise ValueError(f"{path}: {name} cannot be {json.dumps(value)}; it is {_in_words(hints[name])}")
    if settings.get("flip") == "swap" and (own := path.parent / _FLIP_MAP).is_file():
        settings["flip_map"] = str(own)
    return {name: value for name, value in settings.items() if name not in _OF_ONE_RUN}


def _made(maker: Callable[[], Recipe]) -> Recipe:
    """Named after its function: kinetics400-tiny of ``kinetics400_tiny``."""
    return dataclasses.replace(maker(), name=maker.__name__.replace("_", "-"), text=inspect.getdoc(maker) or "")


def _near(name: str, known: list[str]) -> str:
    """What was probably meant; options are spelt with dashes, and --from is the field start."""
    name = {"from": "start"}.get(name, name.lstrip("-").replace("-", "_"))
    near = [name] if name in known else get_close_matches(name, known, n=3)
    return f"; did you mean {' or '.join(near)}?" if near else "; dualformer train --help lists them (with _ for -)"


def _fits(value: object, hint: Any) -> bool:
    """Whether a JSON value is one for a field of this type."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return any(_fits(value, part) for part in typing.get_args(hint))
    if typing.get_origin(hint) is Literal:
        return value in typing.get_args(hint)
    if isinstance(value, bool) or hint is bool:
        return isinstance(value, bool) and hint is bool
    if hint is float:
        return isinstance(value, (int, float))
    return isinstance(value, hint)


def _in_words(hint: Any) -> str:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return " or ".join(_in_words(part) for part in typing.get_args(hint))
    if typing.get_origin(hint) is Literal:
        return " or ".join(json.dumps(each) for each in typing.get_args(hint))
    words = {bool: "true or false", int: "a whole number", float: "a number", str: "text", type(None): "null"}
    return words.get(hint, str(hint))
