"""Something-Something V2: labels as JSON from template to number, lists as JSON with the template of each video.

Files are called ``labels.json``, ``train.json``, ``validation.json``, ``test.json`` in the present download and
``something-something-v2-….json`` in the one before. Labels of the test videos, where they are there, are in
``test-answers.csv`` (``id;template``).
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from dualformer.datasets.benchmarks.annotations import (
    Entry,
    Listing,
    MediaIndex,
    Problems,
    annotation_files,
    assemble,
    json_items,
    text_lines,
    the_file,
)
from dualformer.datasets.samples import DatasetError
from dualformer.files import read_json_object

_OLD = "something-something-v2-"
_AGAIN = ": download the file again"


def read_ssv2(root: Path) -> Listing:
    """Something-Something V2 in ``root``. Raises ``FileNotFoundError`` and :class:`DatasetError`."""
    numbers = _labels(the_file(root, "the labels", "labels.json", f"{_OLD}labels.json"))
    problems = Problems("take the original lists, or remove these lines")
    answers = dict(_answers(root))
    entries: list[Entry] = []
    unlabelled = 0
    for split, name in (("train", "train"), ("val", "validation"), ("test", "test")):
        if split == "test" and not annotation_files(root, "test.json", f"{_OLD}test.json"):
            continue
        path = the_file(root, f"the {name} list", f"{name}.json", f"{_OLD}{name}.json")
        for listed, video, template in _videos(path, problems):
            template = answers.get(video, template)
            if template is None and split == "test":
                unlabelled += 1
            elif template is None:
                problems.add(listed, f"video {video} has no template")
            elif (label := numbers.get(template)) is None:
                problems.add(listed, f"template {template!r} is none of the {len(numbers)} in the labels")
            else:
                entries.append(Entry(name=video, label=label, split=split, listed=listed))
    index = MediaIndex(root)
    return assemble(
        "Something-Something V2",
        tuple(sorted(numbers, key=numbers.__getitem__)),
        entries,
        lambda entry: index.find(entry.name),
        lambda entry: root / "20bn-something-something-v2" / f"{entry.name}.webm",
        problems=problems,
        source=str(root),
        notes=[f"{unlabelled} test videos without labels left out"] if unlabelled else [],
    )


def _labels(path: Path) -> Mapping[str, int]:
    """Template without brackets → number. The numbers are 0, 1, …, each once."""
    numbers: dict[str, int] = {}
    for template, value in read_json_object(
        path, DatasetError, expected=f"expected a JSON object{_AGAIN}", remedy=_AGAIN
    ):
        number = str(value)
        if not number.isdecimal():
            raise DatasetError(f"{path}: {template!r} has {value!r} for a number: take the original file")
        if template in numbers:
            raise DatasetError(f"{path}: {template!r} is in it twice: take the original file")
        numbers[_plain(template)] = int(number)
    by_number = {number: template for template, number in numbers.items()}
    for number in range(len(numbers)):
        if number not in by_number:
            raise DatasetError(f"{path}: no template has the number {number}: take the original file")
    return numbers


def _videos(path: Path, problems: Problems) -> Iterator[tuple[str, str, str | None]]:
    """(FILE:LINE, id, template without brackets or None)."""
    for line, item in json_items(path):
        video = item.get("id") if isinstance(item, dict) else None
        template = item.get("template") if isinstance(item, dict) else None
        if not isinstance(video, str | int) or not str(video) or not isinstance(template, str | None):
            problems.add(f"{path}:{line}", "an entry without an id, or with a template that is no text")
        else:
            yield f"{path}:{line}", str(video), None if template is None else _plain(template)


def _answers(root: Path) -> Iterator[tuple[str, str]]:
    for path in annotation_files(root, "test-answers.csv"):
        for line, text in text_lines(path):
            video, semicolon, template = text.partition(";")
            if not semicolon or not video or not template:
                raise DatasetError(f"{path}:{line}: {text!r} is not ID;TEMPLATE: take the original file")
            yield video, _plain(template)


def _plain(template: str) -> str:
    return template.replace("[", "").replace("]", "").strip()
