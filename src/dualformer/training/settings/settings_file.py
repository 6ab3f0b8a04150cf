"""Settings from a JSON file: the config of another run, or some fields written by hand."""

import json
import types
import typing
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

from dualformer.training.settings.train_config import FOUND, TrainConfig

_OF_ONE_RUN = ("out", "resume", "max_steps")
"""Fields that another run does not take over."""
_FLIP_MAP = "flip_map.json"  # the copy that a run keeps beside its config


def read_settings(path: Path) -> dict[str, Any]:
    """Returns fields of `TrainConfig` from a JSON file, but for those that belong to the run whose config it is.

    Errors: ``FileNotFoundError``; ``ValueError`` for a file that is no JSON object, for a field that no run has (near
    ones are named), and for a value of another type than the field's.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file of settings")
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not JSON ({error})") from error
    if not isinstance(settings, dict):
        raise ValueError(f'{path}: settings are a JSON object, as in {{"epochs": 30}}')
    for name in FOUND:  # a run writes down what it read its videos with, and where; that is no setting
        settings.pop(name, None)
    hints = typing.get_type_hints(TrainConfig)
    for name, value in settings.items():
        if name not in hints:
            raise ValueError(f"{path}: there is no setting {name!r}{_near(name, list(hints))}")
        choices = _choices(hints[name])
        if not any(_fits(value, choice) for choice in choices):
            words = " or ".join(map(_in_words, choices))
            raise ValueError(f"{path}: {name} cannot be {json.dumps(value)}; it is {words}")
    if settings.get("flip") == "swap" and (own := path.parent / _FLIP_MAP).is_file():
        settings["flip_map"] = str(own)
    return {name: value for name, value in settings.items() if name not in _OF_ONE_RUN}


def _near(name: str, known: list[str]) -> str:
    """Returns the fields that were probably meant; options are spelt with dashes, and ``start`` is called from."""
    name = {"from": "start"}.get(name, name.lstrip("-").replace("-", "_"))
    near = [name] if name in known else get_close_matches(name, known, n=3)
    return f"; did you mean {' or '.join(near)}?" if near else "; dualformer train --help lists them (with _ for -)"


def _choices(hint: Any) -> list[Any]:
    """Returns what a field of this type may be: types, and values of literals."""
    if typing.get_origin(hint) is Literal:
        return list(typing.get_args(hint))
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return [choice for part in typing.get_args(hint) for choice in _choices(part)]
    return [hint]


def _fits(value: object, choice: Any) -> bool:
    """Returns whether a JSON value is one for a field that may be ``choice``."""
    if not isinstance(choice, type):
        return value == choice
    if isinstance(value, bool) or choice is bool:
        return isinstance(value, bool) and choice is bool
    return isinstance(value, (int, float) if choice is float else choice)


def _in_words(choice: Any) -> str:
    if not isinstance(choice, type):
        return json.dumps(choice)
    words = {bool: "true or false", int: "a whole number", float: "a number", str: "text", type(None): "null"}
    return words.get(choice, str(choice))
