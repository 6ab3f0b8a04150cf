"""What ``dualformer VERB --help`` prints: the options in groups, their values and defaults in words; near misses.

The text of an option is that of its `tyro.conf.arg`, or the docstring below the field of the verb's ``Options``.
"""

import ast
import dataclasses
import difflib
import inspect
import re
import shutil
import textwrap
import types
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import tyro

from dualformer.cli.option_names import OptionNames

_COLUMN, _WIDEST = 26, 100
_VALUES = {int: "N", float: "X", str: "TEXT", Path: "PATH"}
_OTHER_WORDS = {
    "annotations": "data",
    "backbone": "model",
    "checkpoint": "from",
    "dataset": "data",
    "fold-count": "folds",
    "gpu": "device",
    "gpus": "devices",
    "img-size": "size",
    "input-size": "size",
    "learning-rate": "lr",
    "num-epochs": "epochs",
    "num-frames": "frames",
    "num-gpus": "devices",
    "num-workers": "workers",
    "output": "out",
    "output-dir": "out",
    "pretrained": "from",
    "resolution": "size",
    "sampling-rate": "stride",
    "topk": "top",
    "wd": "weight-decay",
}
"""What options are called elsewhere, and here."""


def help_page(
    verb: str,
    options: type,
    *,
    about: str,
    names: OptionNames | None = None,
    groups: Mapping[str, Sequence[str]] | None = None,
    usual: object = None,
    columns: int | None = None,
) -> str:
    """Returns the page of help of a verb.

    ``about`` is text above the options. ``names`` spells the arguments in texts. ``groups`` are titles with the fields
    below each of them; without, a group is a class that ``options`` inherits from, under the first line of its
    docstring. ``usual`` is an instance of ``options`` whose values are the defaults, as of a recipe. ``columns`` is the
    width of the terminal, measured if not given.
    """
    width = min(_WIDEST, columns or shutil.get_terminal_size().columns)
    names, hints = names or OptionNames(options), get_type_hints(options, include_extras=True)
    shown = [field for field in dataclasses.fields(options) if not _is_hidden(hints[field.name])]
    by_name = {field.name: field for field in shown}
    positional = [field for field in shown if not names[field.name].startswith("--")]
    rest = groups if groups is not None else _by_class(options)
    titled = {"arguments": [field.name for field in positional]} | {
        title: [name for name in fields if name in by_name and by_name[name] not in positional]
        for title, fields in rest.items()
    }
    called = "".join(f" {names[field.name]}{'…' if _is_repeated(hints[field.name]) else ''}" for field in positional)
    needed = [field for field in shown if _is_required(field) and field not in positional]
    called += "".join(f" {_call(names[field.name], hints[field.name], None)}" for field in needed)
    usage = f"usage: dualformer {verb}{called} [options]"
    lines = [*textwrap.wrap(usage, width, subsequent_indent=" " * 7, break_on_hyphens=False), ""]
    for paragraph in about.split("\n\n"):
        lines += [*textwrap.wrap(paragraph, width), ""]
    for title, fields in titled.items():
        if fields:
            lines += [f"{title}:"]
            for name in fields:
                text = _help(options, by_name[name], hints[name], usual)
                call = _call(names[name], hints[name], by_name[name].default)
                lines += _entry(call, names.spell(text), width)
            lines += [""]
    return "\n".join([*lines, *_entry("-h, --help", "This page.", width)])


def near_misses(unknown: str, options: type) -> list[str]:
    """Returns the options of a verb that ``unknown``, such as ``--learning-rate``, may have been meant for."""
    names = OptionNames(options)
    known = [name for field in dataclasses.fields(options) if (name := names[field.name]).startswith("--")]
    asked = unknown.split("=")[0].lower().replace("_", "-")
    other = f"--{_OTHER_WORDS.get(asked.lstrip('-'), '')}"
    if other in known:
        return [other]
    parts = set(asked.lstrip("-").split("-"))
    alike = difflib.get_close_matches(asked, known, n=3, cutoff=0.7)
    sharing = [name for name in known if parts & set(name.lstrip("-").split("-"))]
    return [*dict.fromkeys([*alike, *sharing])][:3]


@cache
def docstrings(kind: type) -> dict[str, str]:
    """Returns the docstrings below the fields of a dataclass and of those that it inherits from, by field."""
    found: dict[str, str] = {}
    for each in reversed(kind.__mro__[:-1]):
        body = ast.parse(textwrap.dedent(inspect.getsource(each))).body[0]
        assert isinstance(body, ast.ClassDef)
        for field, below in zip(body.body, [*body.body[1:], ast.Pass()], strict=True):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                text = (
                    below.value.value if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant) else ""
                )
                found[field.target.id] = " ".join(text.split()) if isinstance(text, str) else ""
    return found


def _by_class(options: type) -> dict[str, list[str]]:
    """Returns the fields of each class in the order of inheritance, those of ``options`` itself first."""
    found: dict[str, list[str]] = {}
    told: set[str] = set()
    for each in options.__mro__[:-1]:
        own = [name for name in inspect.get_annotations(each) if name not in told]
        found["options" if each is options else _title(each)] = own
        told.update(own)
    return found


def _title(kind: type) -> str:
    return re.split(r"[.,\n]", kind.__doc__ or kind.__name__)[0].lower()


def _help(options: type, field: dataclasses.Field[Any], hint: Any, usual: object) -> str:
    """Returns what an option is for, and its default where the text does not tell it."""
    text = next((note.help for note in _notes(hint) if getattr(note, "help", None)), None)
    text = text or docstrings(options).get(field.name, "")
    default = field.default
    if usual is not None and (here := getattr(usual, field.name, default)) != default and here is not tyro.MISSING:
        return f"{text} (here: {_in_words(here)})".lstrip()
    if _is_required(field):
        return text if tyro.conf.Positional in _notes(hint) else f"{text} (required)"
    untold = default in (None, "", False, ()) or default is dataclasses.MISSING
    told = untold or "(default" in text or "Default:" in text
    return text if told else f"{text} (default: {_in_words(default)})".lstrip()


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _in_words(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (tuple, list)):
        return " ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _call(name: str, hint: Any, default: Any) -> str:
    if _bare(hint) is bool:
        return f"{name}, --no-{name.removeprefix('--')}" if default else name
    return name if not name.startswith("--") else f"{name} {_value(hint)}"


def _value(hint: Any) -> str:
    """Returns what stands for the value of an option: N, X, TEXT, PATH or the choices."""
    if metavar := next((note.metavar for note in _notes(hint) if getattr(note, "metavar", None)), None):
        return metavar
    kind = _bare(hint)
    parts = get_args(kind)
    if get_origin(kind) is Literal:
        return "|".join(map(str, parts))
    if get_origin(kind) in (tuple, list):
        each = [_value(part) for part in parts if part is not Ellipsis]
        return f"{each[0]} …" if Ellipsis in parts or get_origin(kind) is list else " ".join(each)
    if get_origin(kind) in (Union, types.UnionType):
        return "|".join(dict.fromkeys(_value(part) for part in parts))
    return _VALUES.get(kind, "VALUE")


def _bare(hint: Any) -> Any:
    """Returns a type without its annotations and without None."""
    while hasattr(hint, "__metadata__"):
        hint = hint.__origin__
    if get_origin(hint) in (Union, types.UnionType):
        kinds = [part for part in get_args(hint) if part is not type(None)]
        return _bare(kinds[0]) if len(kinds) == 1 else Union[tuple(kinds)]  # noqa: UP007
    return hint


def _notes(hint: Any) -> tuple[Any, ...]:
    return getattr(hint, "__metadata__", ())


def _is_hidden(hint: Any) -> bool:
    return tyro.conf.Suppress in _notes(hint)


def _is_repeated(hint: Any) -> bool:
    return get_origin(_bare(hint)) in (tuple, list)


def _entry(call: str, text: str, width: int) -> Iterable[str]:
    """Returns the lines of one option: its call in a column of its own, or on a line where it is too long."""
    lines = textwrap.wrap(text, max(30, width - _COLUMN), break_on_hyphens=False) or [""]
    first = f"  {call}"
    if len(first) < _COLUMN:
        return [(first.ljust(_COLUMN) + lines[0]).rstrip(), *(" " * _COLUMN + line for line in lines[1:])]
    return [first, *(" " * _COLUMN + line for line in lines)]
