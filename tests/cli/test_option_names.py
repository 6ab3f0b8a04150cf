"""Arguments in messages, spelt as options of a verb."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated

import pytest
import tyro
from hypothesis import given
from hypothesis import strategies as st

import dualformer
from dualformer.cli import main as main_module
from dualformer.cli.main import VERBS, main
from dualformer.cli.option_names import OptionNames


@dataclass(frozen=True, kw_only=True)
class Options:
    data: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="DATA")]
    files: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="FILES…")] = ()
    folder: Annotated[str, tyro.conf.Positional] = ""
    batch_size: int = 1
    flip: str = "on"
    resume: bool = False
    start: Annotated[str | None, tyro.conf.arg(name="from")] = None


@dataclass(frozen=True)
class Empty:
    pass


NAMES = OptionNames(Options, {"at_once": "batch_size"})


@pytest.mark.parametrize(
    ("text", "spelt"),
    [
        ("`batch_size` must be at least 1, not 0", "--batch-size must be at least 1, not 0"),
        ("`flip=swap` needs it", "--flip swap needs it"),
        ("leave `resume` out, or `resume=True`", "leave --resume out, or --resume"),
        ("`resume=False` starts anew", "--no-resume starts anew"),
        ("say `start=random`, or another `start`", "say --from random, or another --from"),
        ("lower `at_once`", "lower --batch-size"),
        ("`data` has no class; `data=my videos`: empty", "DATA has no class; my videos: empty"),
        ("`files` and `folder`", "FILES and FOLDER"),
        ("no `flip_map`, no `True`", "no `flip_map`, no `True`"),
        ("see `dualformer check`", "see `dualformer check`"),
        ("``flip`` is code; `flip", "``flip`` is code; `flip"),
        ("", ""),
    ],
)
def test_spell(text: str, spelt: str) -> None:
    assert NAMES.spell(text) == spelt


@given(st.text(alphabet="`flip=swap \n-"))
def test_only_arguments_in_backquotes_change(text: str) -> None:
    spelt = NAMES.spell(text)
    assert "`flip`" not in spelt.replace("``", "")
    if "`flip" not in text:
        assert spelt == text
    assert NAMES.spell(spelt) == spelt or "`" in spelt


@given(st.sampled_from(["batch_size", "flip", "resume"]), st.from_regex(r"[\w./-]+", fullmatch=True))
def test_every_argument_becomes_its_option(name: str, value: str) -> None:
    option = f"--{name.replace('_', '-')}"
    assert NAMES[name] == option
    assert NAMES.spell(f"a `{name}` b") == f"a {option} b"
    if value not in ("True", "False"):
        assert NAMES.spell(f"(`{name}={value}`)") == f"({option} {value})"


@pytest.mark.parametrize(
    ("verb", "text", "spelt"),
    [
        ("quickstart", "augmentation (mirroring by `flip=off`)", "augmentation (mirroring by --flip off)"),
        ("quickstart", "`start=rendered`, else `val_on=x`", "--start rendered, else --val-on x"),
        ("evaluate", "were trained with `multi_label=True`", "were trained with --multi-label"),
        ("teach", "were trained with `multi_label=True` by `teacher`", "were trained with --multi-label by TEACHER"),
        ("export", "count them as wrong with `missing=wrong`", "count them as wrong with --missing wrong"),
        ("explain", "take fewer (`batch_size`)", "take fewer (--batch-size)"),
        ("embed", "no `True` and no `argument`", "no `True` and no `argument`"),
    ],
)
def test_what_a_verb_has_no_option_for_is_called_as_others_call_it(verb: str, text: str, spelt: str) -> None:
    module = importlib.import_module(f"dualformer.cli.{verb}")
    assert OptionNames(module.Options, others=main_module.all_options).spell(text) == spelt


def messages(module: ast.Module) -> Iterator[str]:
    """All strings but docstrings; what is put into them is left out."""
    docs = {id(node.value) for node in ast.walk(module) if isinstance(node, ast.Expr)}
    for node in ast.walk(module):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
            yield node.value


def test_no_message_below_names_an_argument_that_is_no_option() -> None:
    package = Path(dualformer.__file__).parent
    names = OptionNames(Empty, others=main_module.all_options)
    seen = 0
    for path in package.rglob("*.py"):
        if path.parent.name != "cli":
            for text in messages(ast.parse(path.read_text())):
                spelt = names.spell(text)
                seen += spelt != text
                assert not re.search(r"(?<!`)`[a-z][a-z_]*(=[^`]*)?`(?!`)", spelt), f"{path}: {spelt}"
    assert seen > 100


@pytest.mark.parametrize("verb", VERBS)
def test_every_field_is_named_as_the_help_names_it(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    options = importlib.import_module(f"dualformer.cli.{verb}").Options
    names = OptionNames(options)
    with pytest.raises(SystemExit):
        main([verb, "--help"])
    shown = capsys.readouterr().out
    for field in dataclasses.fields(options):
        if (verb, field.name) not in {("train", "recipe"), ("ablate", "resume")}:  # not shown
            assert f"{names[field.name]}" in shown


def test_what_is_written_to_the_stream_is_spelt() -> None:
    below = io.StringIO()
    stream = NAMES.spelling(below)
    print("lower `batch_size`", file=stream, flush=True)
    assert below.getvalue() == "lower --batch-size\n"
    assert not stream.isatty()


def test_all_that_a_verb_says_is_spelt(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def run(options: Options) -> int:
        print(f"note: `batch_size={options.batch_size}` is small")
        raise ValueError("`flip` does nothing without a `start`")

    verb = SimpleNamespace(Options=Options, run=run)
    monkeypatch.setattr(main_module.importlib, "import_module", lambda name: verb)
    assert main(["info", "videos", "--batch-size", "2"]) == 2
    assert capsys.readouterr() == (
        "note: --batch-size 2 is small\n",
        "dualformer: --flip does nothing without a --from\n",
    )
