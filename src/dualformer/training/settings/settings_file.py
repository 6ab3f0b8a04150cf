"""Settings from a JSON file: the config of another run, or some fields written by hand."""

import json
import types
import typing
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

from dualformer.training.settings.train_config import TrainConfig

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


def _near(name: str, known: list[str]) -> str:
    """The fields that were probably meant; options are spelt with dashes, and the field start is called from there."""
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
