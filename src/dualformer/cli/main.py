"""``dualformer VERB …``: finds the verb, parses its options, runs it, and turns what goes wrong into one line.

Nothing heavy is imported before a verb runs: ``dualformer --help`` answers at once.
"""

import contextlib
import dataclasses
import importlib
import io
import logging
import os
import re
import sys
import traceback
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dualformer._version import __version__
from dualformer.cores import set_thread_variables
from dualformer.errors import DualFormerError
from dualformer.inference.allocator import keep_freed_memory
from dualformer.remote_paths import as_path
from dualformer.text_encoding import printable
from dualformer.urls import without_credentials

if TYPE_CHECKING:
    from dualformer.cli.option_names import OptionNames

VERBS = {
    "quickstart": "From nothing to a trained, tested recogniser and a report, in minutes on a laptop",
    "train": "Train on labelled videos or images, from scratch or from weights",
    "teach": "Write down what a teacher or a frozen encoder says of a data set, to train others on it",
    "evaluate": "Measure weights on labelled videos: accuracies, per-class table, confusion matrix",
    "predict": "Label videos and images: a few, a folder into a table, or what happens when in a long one",
    "embed": "Write features of videos and images into a table",
    "stream": "Label what a camera, a URL, a pipe or a file shows now",
    "serve": "Answer requests over HTTP with the labels of uploaded videos, and show a web page",
    "explain": "Show what a network goes by in a video: Grad-CAM or attention over its frames",
    "info": "Parameters, multiply-adds and tokens of a model or a weights file",
    "bench": "Time, memory and share of the machine's peak, by network, clip, batch and number format",
    "ablate": "The paper's tables of variants: published beside computed costs, or trained on data of your own",
    "shards": "Pack the videos of a data set into tar files, to be read from a disk or a URL",
    "check": "Decode every file of a data set and write down which ones are bad",
    "render": "Write a labelled set of rendered videos that only motion tells apart, or of rendered pictures",
    "export": "Turn weights into a model for PyTorch, ONNX, OpenVINO, ExecuTorch or a web page, and compare the two",
    "convert": "Turn a released .pth checkpoint into a weights file, or weights for one clip size into another's",
}


_ALLOCATOR_AS_IT_IS = {"bench", "info", "shards", "check", "render", "convert"}
"""Verbs that do not run the network, and one that measures what the allocator does."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit code: 0 done, 1 the work failed, 2 the call was wrong."""
    try:
        return _dispatch(list(sys.argv[1:] if argv is None else argv))
    except BrokenPipeError:  # whoever read the output, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _dispatch(arguments: list[str]) -> int:
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage())
        return 0 if arguments else 2
    if arguments[0] == "--version":
        print(f"dualformer {__version__}")
        return 0
    verb, *rest = arguments
    if verb not in VERBS:
        near = get_close_matches(verb.lower(), VERBS)
        hint = f"; perhaps you meant {' or '.join(near)}" if near else ""
        return _complain(f"there is no verb {verb!r}{hint}; choose from {', '.join(VERBS)}", 2)
    try:
        return _run(verb, rest, debug=debug)
    except KeyboardInterrupt:
        return _complain("interrupted", 130)


def _run(verb: str, arguments: list[str], *, debug: bool) -> int:
    from dualformer.cli.option_names import OptionNames

    if verb not in _ALLOCATOR_AS_IT_IS:
        keep_freed_memory()
    set_thread_variables()  # PyTorch reads them as it is imported
    module = importlib.import_module(f"dualformer.cli.{verb}")
    names = OptionNames(module.Options, getattr(module, "PARAMETERS", None), others=all_options)
    try:
        with (
            contextlib.redirect_stdout(names.spelling(sys.stdout)),
            contextlib.redirect_stderr(names.spelling(sys.stderr)),
            _warnings_once(),
        ):
            logging.basicConfig(level=logging.WARNING, format="%(message)s")
            logging.getLogger("dualformer").setLevel(logging.INFO)
            return module.run(parse(module, verb, arguments, names))
    except BrokenPipeError:
        raise
    except (DualFormerError, ValueError, OSError) as error:
        if debug:
            traceback.print_exc()
        wrong_call = isinstance(error, (ValueError, FileNotFoundError)) and not isinstance(error, DualFormerError)
        return _complain(names.spell(_one_line(error)), 2 if wrong_call else 1)


@contextlib.contextmanager
def _warnings_once() -> Iterator[None]:
    """Lets each warning through once: data that a verb reads for several reasons have the same to say each time."""
    said: set[str] = set()

    def is_new(record: logging.LogRecord) -> bool:
        text = record.getMessage()
        return record.levelno != logging.WARNING or not (text in said or said.add(text))

    log = logging.getLogger("dualformer")
    log.addFilter(is_new)
    try:
        yield
    finally:
        log.removeFilter(is_new)


def all_options() -> list[type]:
    """Returns the ``Options`` of all verbs, those of ``train`` first: most of what other verbs say, it says as well."""
    verbs = ("train", *(verb for verb in VERBS if verb != "train"))
    return [importlib.import_module(f"dualformer.cli.{verb}").Options for verb in verbs]


def usage() -> str:
    """Returns what ``dualformer --help`` prints."""
    width = max(map(len, VERBS))
    return "\n".join(
        [
            "usage: dualformer VERB [options]      (dualformer VERB --help tells a verb's options)",
            "",
            "Video recognition with DualFormer: local windows and a global pyramid.",
            "",
            *(f"  {verb:<{width}}  {line}" for verb, line in VERBS.items()),
            "",
            "  --version   print the version",
            "  --debug     with any verb: show the traceback of an error",
        ]
    )


def parse(module: Any, verb: str, arguments: Sequence[str], names: "OptionNames | None" = None) -> Any:
    """Parses the ``Options`` of a verb's module.

    A module may have a function ``defaults``: it is given the arguments, and returns options to start from (None: their
    own defaults), words for the help, and the other arguments. It may have ``HELP``: the groups of its page of help.

    Errors: ``ValueError`` for arguments that are none of the verb's.
    """
    import tyro

    from dualformer.cli.help_page import help_page, near_misses

    default, description = None, ""
    if find := getattr(module, "defaults", None):
        default, description, arguments = find(list(arguments))
    about = f"{VERBS[verb]}.\n\n{description}" if description else f"{VERBS[verb]}."
    if {"-h", "--help"} & {*arguments}:
        groups = getattr(module, "HELP", None)
        print(help_page(verb, module.Options, about=about, names=names, groups=groups, usual=default))
        raise SystemExit(0)
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return _with_named_urls(
                tyro.cli(
                    module.Options,
                    prog=f"dualformer {verb}",
                    args=arguments,
                    default=default,
                )
            )
    except SystemExit as stop:
        if not stop.code:
            raise
        wrong = _unboxed(said.getvalue()).split(" Perhaps you meant")[0].replace("{None}|", "")
        unknown = [word for word in arguments if word.startswith("--") and word in wrong]
        meant = [name for word in unknown for name in near_misses(word, module.Options) if name != word]
        hint = f"; perhaps you meant {' or '.join(dict.fromkeys(meant))}" if "Unrecognized" in wrong and meant else ""
        raise ValueError(f"{wrong}{hint} (see dualformer {verb} --help)") from stop


def _with_named_urls(options: Any) -> Any:
    """Returns the options with URLs under their names: what is secret in them goes into no message and no file."""
    given = {field.name: getattr(options, field.name) for field in dataclasses.fields(options) if field.init}
    named = {name: _named(value) for name, value in given.items()}
    changed = {name: value for name, value in named.items() if value is not given[name]}
    return dataclasses.replace(options, **changed) if changed else options


def _named(value: Any) -> Any:
    if isinstance(value, tuple):
        named = tuple(map(_named, value))
        return named if any(one is not other for one, other in zip(named, value, strict=True)) else value
    named = without_credentials(value) if isinstance(value, (str, Path)) else value
    return as_path(named) if isinstance(value, Path) and named is not value else named


def _unboxed(text: str) -> str:
    """Returns tyro's boxed complaint as one line: its headings and the options that it names, without their help.

    The first line is the box's title; rules part complaints. Lines are drawn with box characters, ASCII or blanks, as
    the output allows.
    """
    complaints: list[list[str]] = [[]]
    for line in text.splitlines()[1:]:
        content = line[1:].rstrip("│| ")  # a border of blanks may be left out where a line is full
        if content.strip().startswith(("For full helptext", "Argument helptext")):
            break
        if not content.strip("─- "):
            complaints.append([])
        elif len(content) - len(content.lstrip()) < 8:
            complaints[-1].append(content.strip())
    said = "; ".join(" ".join(parts) for parts in complaints if parts).replace("Error parsing Options: ", "")
    return _CHOICES.sub(lambda found: _in_order(found[1]), said)


_CHOICES = re.compile(r"(?<=Expected one of \()('[^()]*')(?=\))")


def _in_order(choices: str) -> str:
    """Returns the choices of an option in an order that is always the same, without what stands for leaving it out."""
    return ", ".join(sorted(choice for choice in choices.split(", ") if choice != "'None'"))


def _one_line(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or 'file system'}: {error.strerror}"
    return " ".join(str(error).split()) or type(error).__name__


def _complain(message: str, code: int) -> int:
    print(printable(f"dualformer: {message}", sys.stderr), file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
