"""Something-Something V2: labels as JSON from template to number, lists as JSON with the template of each video.

Files are called ``labels.json``, ``train.json``, ``validation.json``, ``test.json`` in the present download and
``something-something-v2-….json`` in the one before. Labels of the test videos, where they are there, are in
``test-answers.csv`` (``id;template``).
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from dualformer.datasets.benchmarks.annotations import annotation_files, json_items, text_lines, the_file
from dualformer.datasets.benchmarks.listing import Benchmark, BenchmarkPath, Entry, Listing, Mistake, assemble
from dualformer.datasets.samples import DatasetError
from dualformer.files import read_json_object

_OLD = "something-something-v2-"
_AGAIN = ": download the file again"


def read_ssv2(at: BenchmarkPath) -> Listing:
    """Reads Something-Something V2."""
    root = at.path
    numbers = _labels(the_file(root, "the labels", "labels.json", f"{_OLD}labels.json"))
    answers = dict(_answers(root))
    lines: list[Entry | Mistake | None] = []
    for split, name in (("train", "train"), ("val", "validation"), ("test", "test")):
        if split == "test" and not annotation_files(root, "test.json", f"{_OLD}test.json"):
            continue
        path = the_file(root, f"the {name} list", f"{name}.json", f"{_OLD}{name}.json")
        lines += _entries(path, split, numbers, answers)
    classes = tuple(sorted(numbers, key=numbers.__getitem__))
    return assemble(
        "Something-Something V2",
        root,
        classes,
        lines,
        left_out=("test video without labels", "test videos without labels"),
    )


BENCHMARK = Benchmark(names=("ssv2",), read=read_ssv2, files=(f"{_OLD}*.json", "test-answers.csv"))


def _labels(path: Path) -> Mapping[str, int]:
    """Returns template without brackets → number. The numbers are 0, 1, …, each once."""
    expected = f"expected a JSON object{_AGAIN}"
    numbers: dict[str, int] = {}
    for template, value in read_json_object(path, DatasetError, expected=expected, remedy=_AGAIN):
        if not str(value).isdecimal():
            raise DatasetError(f"{path}: {template!r} has {value!r} for a number: take the original file")
        if template in numbers:
            raise DatasetError(f"{path}: {template!r} is in it twice: take the original file")
        numbers[_plain(template)] = int(value)
    for number in range(len(numbers)):
        if number not in numbers.values():
            raise DatasetError(f"{path}: no template has the number {number}: take the original file")
    return numbers


def _entries(
    path: Path, split: str, numbers: Mapping[str, int], answers: Mapping[str, str]
) -> Iterator[Entry | Mistake | None]:
    for listed, item in json_items(path):
        video = item.get("id") if isinstance(item, dict) else None
        template = item.get("template") if isinstance(item, dict) else None
        if not isinstance(video, str | int) or not str(video) or not isinstance(template, str | None):
            yield Mistake(listed, "an entry without an id, or with a template that is no text")
            continue
        template = answers.get(str(video), None if template is None else _plain(template))
        if template is None:
            yield None if split == "test" else Mistake(listed, f"video {video} has no template")
        elif (label := numbers.get(template)) is None:
            yield Mistake(listed, f"template {template!r} is none of the {len(numbers)} in the labels")
        else:
            file = f"20bn-something-something-v2/{video}.webm"
            yield Entry(name=str(video), label=label, split=split, listed=listed, file=file)


def _answers(root: Path) -> Iterator[tuple[str, str]]:
    for path in annotation_files(root, "test-answers.csv"):
        for listed, text in text_lines(path):
            video, semicolon, template = text.partition(";")
            if not semicolon or not video or not template:
                raise DatasetError(f"{listed}: {text!r} is not ID;TEMPLATE: take the original file")
            yield video, _plain(template)


def _plain(template: str) -> str:
    return template.replace("[", "").replace("]", "").strip()
