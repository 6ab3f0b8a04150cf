"""Recipes: settings of runs whose results the paper or this project states, with text on data, hardware and time.

They are written in ``recipes.ini``, which says how, and what those of the paper share.
"""

import configparser
import dataclasses
import json
import textwrap
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from dualformer.training.settings.network_settings import RANDOM
from dualformer.training.settings.settings_file import read_settings
from dualformer.training.settings.train_config import TrainConfig

HEADINGS = ("Data", "Expected", "Hardware", "Time", "Command")
"""What every recipe's text tells."""
MODERN = "-modern"
"""End of the name of a paper's recipe with what has become usual for video transformers since."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Settings of a run, what they are for, and what is to be expected of them."""

    name: str
    text: str
    """A line on what it is, and a paragraph for each of `HEADINGS`."""
    data: str
    """The data set, in a few words."""
    expected: str
    """Top-1, or top-1 / top-5, in percent; a dash where nobody has measured it."""
    views: str
    """Test views, clips x crops."""
    needs: Mapping[str, str]
    """Settings that only the user can give, and what they have to name, in words."""
    settings: Mapping[str, Any]
    """Fields of `TrainConfig`; what is not there has its default."""

    @property
    def batch(self) -> int:
        """Clips of an optimizer step, over all devices."""
        return self.settings["batch_size"] * self.settings.get("accumulate", TrainConfig.accumulate)

    def check_given(self, given: Collection[str]) -> None:
        """Raises ``ValueError`` where no setting in ``given`` begins with the name of one that the recipe needs."""
        for setting, words in self.needs.items():
            if not any(name.startswith(setting) for name in given):
                raise ValueError(f"the recipe {self.name} needs `{setting}`: {words}")

    def settings_from(self, start: str | None) -> dict[str, Any]:
        """The settings for these starting weights: a slow backbone is for one that has learnt something before."""
        return {**self.settings, **({"backbone_lr": None} if start == RANDOM else {})}

    def config(self, **changes: Any) -> TrainConfig:
        """A run by this recipe. ``changes`` must name the data, where the recipe does not."""
        return TrainConfig(**(self.settings_from(changes.get("start")) | changes))

    def note_on_batch(self, clips: int) -> str | None:
        """A line about a run whose steps take another number of ``clips``, None where they take as many as here."""
        if clips == self.batch:
            return None
        remedy = "change `batch_size`, `accumulate` or `devices`"
        if clips < self.batch and self.batch % clips == 0:
            remedy = f"`accumulate`, times {self.batch // clips}, makes up for it"
        return (
            f"the recipe {self.name} takes {self.batch} clips a step, this run {clips}, at the learning rate for "
            f"{self.batch}: {remedy}"
        )


def recipes() -> list[Recipe]:
    """Returns all recipes: the paper's, each followed by its modern variant, and the project's own."""
    return list(_read_recipes())


def find_recipe(name_or_file: str) -> Recipe | dict[str, Any]:
    """Returns the recipe of this name, or the settings in a JSON file.

    Errors: ``ValueError`` for a name that there is not (those that there are, are listed), and for a folder or list of
    videos; else as `read_settings`.
    """
    known = {recipe.name: recipe for recipe in recipes()}
    if recipe := known.get(name_or_file):
        return recipe
    path = Path(name_or_file)
    if path.is_dir() or path.suffix.lower() == ".csv":
        raise ValueError(f"{name_or_file} is no recipe: name videos as `data={name_or_file}`")
    if path.suffix == ".json" or path.is_file():
        return read_settings(path)
    near = get_close_matches(name_or_file, known, n=3)
    guess = f"; did you mean {' or '.join(near)}?" if near else ";"
    listed = ", ".join(name for name in known if not name.endswith(MODERN))
    raise ValueError(
        f"there is no recipe {name_or_file!r}{guess} there are {listed}, and most with {MODERN} behind; or name "
        "a JSON file of settings"
    )


def _read_recipes() -> Iterator[Recipe]:
    parser = configparser.ConfigParser(delimiters=("=",), interpolation=None)
    parser.optionxform = lambda optionstr: optionstr  # keeps capitals
    parser.read(Path(__file__).with_suffix(".ini"), encoding="utf-8")
    for name in parser.sections():
        if name.startswith("group "):
            continue
        keys = _lines_of(parser, parser[name].get("like", "")) | dict(parser[name])
        yield _recipe(name, keys)
        if groups := keys.get("modern"):
            own = {"paper": name, "stated": keys["expected"]}
            yield _recipe(name + MODERN, keys | own | _lines_of(parser, groups))


def _lines_of(parser: configparser.ConfigParser, groups: str) -> dict[str, str]:
    """Returns the lines of several groups, of which later ones replace earlier ones."""
    return {key: value for group in groups.split() for key, value in parser[f"group {group}"].items()}


def _recipe(name: str, keys: Mapping[str, str]) -> Recipe:
    """Makes a recipe from the keys of its section and groups."""
    needs: dict[str, str] = {}
    files: list[str] = []
    for setting, option in (("start", "from"), ("teacher", "teacher")):
        if need := keys.get(f"needs {setting}"):
            file, needs[setting] = " ".join(need.split()).split(": ", maxsplit=1)
            files.append(f"--{option} {file}.safetensors")
    words = {"name": name, "files": "\n    ".join(files), **keys}

    def fill(text: str) -> str:
        return fill(text.format_map(words)) if "{" in text else text

    defaults = {field.name: field.default for field in dataclasses.fields(TrainConfig)}
    return Recipe(
        name=name,
        text=_text(fill(keys["title"]), {key: fill(text) for key, text in keys.items() if key[0].isupper() and text}),
        data=keys["dataset"],
        expected=keys["expected"],
        views=keys["views"],
        needs=needs,
        settings={
            key: defaults[key] if text == "default" else _value(text) for key, text in keys.items() if key in defaults
        },
    )


def _value(text: str) -> Any:
    """Returns a number for the text of one, else the text."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _text(title: str, paragraphs: Mapping[str, str]) -> str:
    """Returns the title, a blank line, and each paragraph behind its heading, indented from its second line on."""
    lines = [
        textwrap.fill(line, 116, initial_indent="    " * (number > 0), subsequent_indent="    ", break_on_hyphens=False)
        for heading, text in ((heading, f"{heading}: {paragraph}") for heading, paragraph in paragraphs.items())
        for number, line in enumerate([text] if heading != "Command" else text.splitlines())
    ]
    return "\n".join([textwrap.fill(title, 116, subsequent_indent="    ", break_on_hyphens=False), "", *lines])
