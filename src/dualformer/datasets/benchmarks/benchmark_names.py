"""``NAME:PATH``, ``NAME@SPLIT:PATH`` or ``NAME@key=value,key=value:PATH``: a benchmark in its own layout."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from dualformer.datasets.benchmarks.annotations import Listing, annotation_files
from dualformer.datasets.benchmarks.diving48 import read_diving48
from dualformer.datasets.benchmarks.hmdb51 import read_hmdb51
from dualformer.datasets.benchmarks.kinetics import read_kinetics
from dualformer.datasets.benchmarks.list_files import ListOptions, read_lists
from dualformer.datasets.benchmarks.ssv2 import read_ssv2
from dualformer.datasets.benchmarks.ucf101 import read_ucf101
from dualformer.datasets.shards.read_shards import find_shards

KNOWN = ("kinetics400", "kinetics600", "kinetics700", "ucf101", "hmdb51", "diving48", "ssv2", "list")

# Braces keep the colon of a pattern such as img_{:05d}.jpg apart from the one before the path.
_NAMED = re.compile(r"(?P<name>[A-Za-z][\w-]+)(?:@(?P<options>(?:[^:{}]|\{[^{}]*\})*))?:(?P<path>.+)", re.DOTALL)

_TRACES = {
    "ucf101": ("trainlist0[123].txt",),
    "hmdb51": ("*_test_split[123].txt",),
    "diving48": ("Diving48_*.json",),
    "ssv2": ("something-something-v2-*.json", "test-answers.csv"),
}


@dataclass(frozen=True, kw_only=True)
class Named:
    """A benchmark and where it is."""

    name: str
    options: Mapping[str, str]
    path: Path


def parse_named(data: str | Path) -> Named | None:
    """What ``data`` names, or None where it is a plain path: one that exists, or that has no ``NAME:`` in front.

    Raises ``ValueError`` for a name that there is not, and for options that cannot be read.
    """
    text = str(data)
    match = _NAMED.fullmatch(text)
    if match is None or Path(text).exists():
        return None
    name = match["name"].lower()
    if name not in KNOWN:
        raise ValueError(f"{text}: no data set is called {match['name']!r}: choose from {', '.join(KNOWN)}")
    options: dict[str, str] = {}
    for part in (match["options"] or "").split(",") if match["options"] is not None else ():
        key, equals, value = (piece.strip() for piece in part.partition("="))
        key, value = (key, value) if equals else (_ONE_OPTION.get(name, ""), key)
        if not key or not value or key in options:
            raise ValueError(f"{text}: cannot read {part!r} behind {name}@: {_takes(name)}")
        options[key] = value
    return Named(name=name, options=options, path=Path(match["path"]).expanduser())


def read_named(named: Named) -> Listing:
    """Raises ``FileNotFoundError`` without the folder, ``ValueError`` for wrong options, else ``DatasetError``."""
    options = dict(named.options)
    if named.name == "list":
        return read_lists(named.path, _list_options(named))
    number = options.pop(_ONE_OPTION[named.name], None) if named.name in _ONE_OPTION else None
    if options or (number is not None and number.lower().removeprefix("v") not in _numbers(named.name)):
        wrong = next(iter(options), number)
        raise ValueError(f"{named.name}@ does not take {wrong!r}: {_takes(named.name)}")
    which = int(number.lower().removeprefix("v")) if number else None
    match named.name:
        case "ucf101":
            return read_ucf101(named.path, which or 1)
        case "hmdb51":
            return read_hmdb51(named.path, which or 1)
        case "diving48":
            return read_diving48(named.path, which or 2)
        case "ssv2":
            return read_ssv2(named.path)
        case _:
            return read_kinetics(named.path, int(named.name.removeprefix("kinetics")))


def short_name(data: str | Path) -> str:
    """A name for what was trained on, without the folders above it: ``ucf101@2``, else the file's or folder's own."""
    if place := find_shards(data):
        return str(place).rpartition("/")[2]
    named = parse_named(data)
    if named is None:
        return Path(data).name
    if named.name == "list":
        return f"list:{named.path.name}"
    return f"{named.name}@{','.join(named.options.values())}" if named.options else named.name


def looks_like(root: Path) -> str | None:
    """The benchmark whose annotation files lie in a folder, for a hint. Kinetics does not say which of the three."""
    for name, patterns in _TRACES.items():
        if annotation_files(root, *patterns):
            return name
    for path in annotation_files(root, "*.csv"):
        with path.open("rb") as file:
            if b"youtube_id" in file.readline():
                return "kinetics400"
    return None


_ONE_OPTION = {"ucf101": "split", "hmdb51": "split", "diving48": "version"}


def _numbers(name: str) -> tuple[str, ...]:
    return ("1", "2") if name == "diving48" else ("1", "2", "3")


def _takes(name: str) -> str:
    if name == "list":
        return f"it takes {', '.join(f'{f.name}=…' for f in fields(ListOptions))}"
    if name in _ONE_OPTION:
        key = _ONE_OPTION[name]
        return f"it takes a {key}, {', '.join(_numbers(name))}, as in {name}@{_numbers(name)[-1]}:PATH"
    return f"it takes nothing: write {name}:PATH"


def _list_options(named: Named) -> ListOptions:
    known = {f.name for f in fields(ListOptions)}
    if unknown := [key for key in named.options if key not in known]:
        raise ValueError(f"list@ does not take {unknown[0]!r}: {_takes('list')}")
    texts = {key: value for key, value in named.options.items() if key != "fps"}
    rate = named.options.get("fps")
    try:
        fps = None if rate is None else float(rate)
    except ValueError:
        fps = 0.0
    if fps is not None and not 0 < fps < 1e6:
        raise ValueError(f"list@fps={rate}: frames a second must be a number more than 0")
    return ListOptions(fps=fps, **texts)
