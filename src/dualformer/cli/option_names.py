"""Spells the arguments that messages name in backquotes as options of the verb at hand.

The rooms below name Python arguments: `` `batch_size` must be at least 1``. On the command line that reads
``--batch-size must be at least 1``. A value goes along, so that `` `flip=swap` `` becomes ``--flip swap``; of switches,
`` `resume=True` `` becomes ``--resume`` and `` `memory=False` `` becomes ``--no-memory``. What the verb has no option
for is called as other verbs call it: ``quickstart`` trains, and says what ``train`` says. What is no option at all
stays as it is.
"""

import dataclasses
import re
import shlex
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import cached_property
from typing import Any, TextIO, cast, get_type_hints

import tyro

from dualformer.text_encoding import printable

_PARAMETERS = {"compile_mode": "compile", "address": "ray"}
"""Arguments that options of several verbs are called otherwise than; see `OptionNames`."""
_ARGUMENT = re.compile(r"(?<!`)`(?P<name>[a-z][a-z0-9_]*)(?:=(?P<value>[^`\n]*))?`(?!`)")


class OptionNames:
    """The options of a verb, by the names of the fields of its ``Options``.

    ``parameters`` maps what the rooms below call an argument to the field, where the two differ. ``others`` returns the
    ``Options`` of other verbs, whose options name what this one has none for; the first that has the field counts.
    """

    def __init__(
        self,
        options: type,
        parameters: Mapping[str, str] | None = None,
        *,
        others: Callable[[], Iterable[type]] = tuple,
    ) -> None:
        self._options, self._other_verbs = options, others
        self._parameters = {**_PARAMETERS, **(parameters or {})}

    def __getitem__(self, field: str) -> str:
        """Returns what the verb's help calls a field: ``--batch-size``, ``--from`` of start, or ``WEIGHTS``."""
        return self._names[field]

    def spell(self, text: str) -> str:
        """Returns ``text`` with options in place of the arguments in backquotes."""
        return _ARGUMENT.sub(self._spelling, text) if "`" in text else text

    def command(self, verb: str, options: Any, *, leave_out: Collection[str] = ()) -> str:
        """Returns the command line that gives ``options``, but for those in ``leave_out`` and what is so by default."""
        words: list[str] = []
        for field in dataclasses.fields(options):
            value, option = getattr(options, field.name), self[field.name]
            if field.name in leave_out or value == field.default:
                continue
            values = [] if isinstance(value, bool) else [*map(str, value if isinstance(value, tuple) else (value,))]
            if not option.startswith("--"):
                words = [*values, *words]
            else:
                words += [f"--no-{option.removeprefix('--')}" if value is False else option, *values]
        return shlex.join(["dualformer", verb, *words])

    def spelling(self, stream: TextIO) -> TextIO:
        """Returns a stream that spells what is written to it and passes it on to ``stream``."""
        return cast(TextIO, _SpellingStream(stream, self))

    def _spelling(self, match: re.Match[str]) -> str:
        field, value = self._parameters.get(match["name"], match["name"]), match["value"]
        option = self._names.get(field) or self._others.get(field)
        if option is None:
            return match[0]
        if not value or value == "True":
            return option
        if not option.startswith("--"):
            return value
        return f"--no-{option.removeprefix('--')}" if value == "False" else f"{option} {value}"

    @cached_property
    def _names(self) -> dict[str, str]:
        return _names_of(self._options)

    @cached_property
    def _others(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for options in self._other_verbs():
            named = {field: name for field, name in _names_of(options).items() if name.startswith("--")}
            found = named | found
        return found


class _SpellingStream:
    """All of it is the stream beneath, but for what is written, which is made to fit the stream's encoding as well."""

    def __init__(self, stream: TextIO, names: OptionNames) -> None:
        self._stream, self._names = stream, names

    def write(self, text: str) -> int:
        self._stream.write(printable(self._names.spell(text), self._stream))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _names_of(options: type) -> dict[str, str]:
    hints = get_type_hints(options, include_extras=True)
    return {field.name: _name(field.name, hints[field.name]) for field in dataclasses.fields(options)}


def _name(field: str, hint: Any) -> str:
    """Returns what tyro makes of a field and its annotations."""
    notes = getattr(hint, "__metadata__", ())
    said = {key: value for note in notes for key in ("name", "metavar") if (value := getattr(note, key, None))}
    if tyro.conf.Positional in notes:
        return said.get("metavar", field.upper()).rstrip("…")
    return f"--{said.get('name', field).replace('_', '-')}"
