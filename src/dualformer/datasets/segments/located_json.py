"""Reads JSON whose objects know their lines, and takes values out of it with errors that name the place."""

import json
import math
import re
from pathlib import Path
from typing import Any, TypeVar

from dualformer.datasets.samples import DatasetError
from dualformer.files import read_text

T = TypeVar("T")
_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[{}\n]', re.DOTALL)
_KINDS = {dict: "an object", list: "a list", str: "text"}


class JsonObject(dict[str, Any]):
    """An object with the line on which it begins."""

    line: int = 1


class LocatedJson:
    """The content of a JSON file, whose objects are `JsonObject`.

    Raises `DatasetError` for what is not JSON, and for an object in which a name is twice.
    """

    def __init__(self, path: Path) -> None:
        text = read_text(path, DatasetError)
        self.path = path
        self._is_one_line = "\n" not in text.strip()
        # The objects end in the order in which the decoder makes them.
        lines = iter(_lines_of_objects(text))

        def make(pairs: list[tuple[str, Any]]) -> JsonObject:
            made = JsonObject(pairs)
            made.line = next(lines, 1)
            if len(made) < len(pairs):
                names = [name for name, _ in pairs]
                twice = next(name for name in made if names.count(name) > 1)
                raise DatasetError(f"{path}:{made.line}: {twice[:60]!r} is there twice in one object: keep one of them")
            return made

        try:
            self.content: Any = json.loads(text, object_pairs_hook=make)
        except json.JSONDecodeError as error:
            raise DatasetError(f"{path}:{error.lineno}: not JSON ({error.msg}): write the file again") from error
        except (ValueError, RecursionError) as error:  # a number of thousands of digits; lists in lists in lists …
            raise DatasetError(f"{path}: JSON that cannot be read ({error}): write the file again") from error

    def where(self, item: JsonObject, place: str) -> str:
        """Returns FILE:LINE of an object; FILE and ``place`` in a file of one line."""
        return f"{self.path}: {place}" if self._is_one_line else f"{self.path}:{item.line}"


def _lines_of_objects(text: str) -> list[int]:
    """Returns the lines on which objects begin, in the order in which they end."""
    line, open_at, found = 1, [], []
    for token in _TOKEN.finditer(text):
        if token[0] == "\n":
            line += 1
        elif token[0] == "{":
            open_at.append(line)
        elif token[0] == "}" and open_at:
            found.append(open_at.pop())
    return found


def expect(value: Any, kind: type[T], where: str, what: str) -> T:
    """Returns ``value`` if it is of this kind: ``JsonObject``, ``list`` or ``str``. Raises `DatasetError`."""
    if not isinstance(value, kind):
        wanted = next(words for base, words in _KINDS.items() if issubclass(kind, base))
        raise DatasetError(f"{where}: {what} {_shown(value)}, and must be {wanted}: correct it")
    return value


def field(item: JsonObject, name: str, kind: type[T], where: str) -> T:
    """Returns the value of ``name``, as `expect`."""
    return expect(item.get(name), kind, where, repr(name))


def number(value: Any, where: str, what: str) -> float:
    """Returns a number. Raises `DatasetError` for anything else, and for one that is not finite."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            found = float(value)
        except OverflowError:
            found = math.inf
        if math.isfinite(found):
            return found
    raise DatasetError(f"{where}: {what} {_shown(value)}, and must be a number: correct it")


def optional_number(item: JsonObject, name: str, where: str) -> float | None:
    """Returns the number of ``name``, None where there is none or null."""
    value = item.get(name)
    return None if value is None else number(value, where, repr(name))


def _shown(value: Any) -> str:
    if value is None:
        return "is missing"
    words = next((words for kind, words in _KINDS.items() if kind is not str and isinstance(value, kind)), None)
    return f"is {words or repr(value)[:60]}"
