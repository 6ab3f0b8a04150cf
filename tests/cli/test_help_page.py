"""Pages of help: every option once, in words, within the width, and near misses of names."""

import dataclasses
import importlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import pytest
import tyro

from dualformer.cli.help_page import help_page, near_misses
from dualformer.cli.main import VERBS, main
from dualformer.cli.option_names import OptionNames
from dualformer.cli.train import HELP, Options


@dataclass(frozen=True)
class Lamps:
    """What lamps do. Nobody reads this."""

    colour: Literal["red", "green"] | None = None
    """Of the light (default: the wall's)."""
    steps: int | Literal["all"] = 3


@dataclass(frozen=True)
class Room(Lamps):
    files: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    """Rooms to light."""
    lit: bool = False
    """With a `colour`: light them."""
    heated: bool = True
    """Heat them, too."""
    size: tuple[int, int, int] | None = None
    """Length, width
    and height."""
    limit: Annotated[float, tyro.conf.arg(help="Most watts.", metavar="W")] = 0.5
    hidden: Annotated[str, tyro.conf.Suppress] = "x"


@dataclass(frozen=True, kw_only=True)
class Cellar(Lamps):
    key: str
    """Opens it."""


def test_the_usage_names_what_is_needed() -> None:
    page = help_page("light", Cellar, about="Light cellars.", columns=60)
    assert page.startswith("usage: dualformer light --key TEXT [options]\n")
    assert "  --key TEXT              Opens it. (required)\n" in page


def test_a_page_is_written_in_words() -> None:
    assert help_page("light", Room, about="Light rooms.\n\nAll of them.", columns=60) == (
        "usage: dualformer light FILES… [options]\n\nLight rooms.\n\nAll of them.\n\n"
        "arguments:\n"
        "  FILES                   Rooms to light.\n\n"
        "options:\n"
        "  --lit                   With a --colour: light them.\n"
        "  --heated, --no-heated   Heat them, too. (default: yes)\n"
        "  --size N N N            Length, width and height.\n"
        "  --limit W               Most watts. (default: 0.5)\n\n"
        "what lamps do:\n"
        "  --colour red|green      Of the light (default: the\n"
        "                          wall's).\n"
        "  --steps N|all           (default: 3)\n\n"
        "  -h, --help              This page."
    )


def test_a_page_shows_the_defaults_of_a_recipe_in_its_groups() -> None:
    page = help_page("light", Room, about="", groups={"first": ["steps"]}, usual=Room(steps=7), columns=60)
    assert "first:\n  --steps N|all           (here: 7)" in page and "--colour" not in page


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("columns", [72, 100])
def test_every_option_is_told_once_in_words_within_the_width(
    verb: str, columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    with pytest.raises(SystemExit) as stop:
        main([verb, "--help"])
    page, options = capsys.readouterr().out, importlib.import_module(f"dualformer.cli.{verb}").Options
    assert not stop.value.code
    assert all(len(line) <= columns or line.startswith("  --") for line in page.splitlines())
    for words in ("None", "{", "MISSING", "()", "`batch_size`"):
        assert words not in page, words
    told = re.findall(r"^  (?:(--[a-z0-9-]+)|([A-Z]+)(?= |…|$))", page, re.MULTILINE)
    names = OptionNames(options)
    shown = [names[field.name] for field in dataclasses.fields(options)]
    hidden = {"--recipe"} | ({"--resume"} if verb == "ablate" else set())
    assert sorted(first or second for first, second in told) == sorted({*shown} - hidden)


def test_groups_of_train_hold_every_field_once() -> None:
    grouped = [name for names in HELP.values() for name in names]
    assert sorted(grouped) == sorted({field.name for field in dataclasses.fields(Options)} - {"recipe"})
    assert len(next(iter(HELP.values()))) == 10


def test_every_option_of_every_verb_has_a_text(capsys: pytest.CaptureFixture[str]) -> None:
    for verb in VERBS:
        with pytest.raises(SystemExit):
            main([verb, "--help"])
        lines = capsys.readouterr().out.splitlines()
        for line, below in zip(lines, [*lines[1:], ""], strict=True):
            if line.startswith("  --") and not line[26:].strip(" ."):
                assert below.startswith(" " * 26) and not below.strip().startswith("(default"), f"{verb}: {line}"
            elif line.startswith("  --") and len(line) > 26 and line[25] == " ":
                assert not line[26:].startswith("(default"), f"{verb}: {line}"


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("--learning-rate", ["--lr"]),
        ("--learning_rate=3", ["--lr"]),
        ("--num-workers", ["--workers"]),
        ("--output-dir", ["--out"]),
        ("--epoch", ["--epochs"]),
        ("--pretrained", ["--from"]),
        ("--view", ["--val-views"]),
        ("--decay", ["--layer-decay", "--weight-decay"]),
        ("--zzzz", []),
    ],
)
def test_near_misses_are_named(said: str, meant: list[str]) -> None:
    assert near_misses(said, Options) == meant


def test_a_wrong_name_is_answered_with_what_may_be_meant(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--data", "x", "--learning-rate", "3"]) == 2
    assert "perhaps you meant --lr (see dualformer train --help)" in capsys.readouterr().err
