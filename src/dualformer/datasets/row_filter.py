"""Filters of the rows of a list as text, such as ``batch=A,C;split=train``: writes and reads them."""

import re
from collections.abc import Collection, Mapping, Sequence

from dualformer.datasets.samples import first_few


def unknown_values(column: str, unknown: Sequence[str]) -> str:
    """Returns ``column=value`` for values that are not there, with how conditions are joined where one looks like
    another condition."""
    other = next((value for value in unknown if "=" in value), None)
    hint = f" (conditions are joined by ;, as in '{column}=…;{other}')" if other else ""
    return f"{column}={first_few(unknown)}{hint}"


def describe_filter(rows: Mapping[str, tuple[str, ...]]) -> str:
    """Returns a filter as text, which `parse_row_filter` reads."""
    return ";".join(f"{column}={','.join(map(quoted_value, values))}" for column, values in rows.items())


def parse_row_filter(text: str) -> dict[str, tuple[str, ...]]:
    """Reads ``"batch=A,C"`` as ``{"batch": ("A", "C")}``; several columns are separated by ``;`` and must all hold.

    A value that holds ``,`` or ``;`` is written in double quotes, where two stand for one: ``label="walk, slowly"``.
    """
    where: dict[str, tuple[str, ...]] = {}
    rest = text
    while rest or not where:
        column, equals, rest = rest.partition("=")
        chosen: list[str] = []
        separator = ","
        while separator == ",":
            found = _VALUE.match(rest)
            assert found is not None  # of no letters, if of nothing else
            chosen.append(found[1].replace('""', '"') if found[1] is not None else found[2].strip())
            separator, rest = found[3], rest[found.end() :]
        ends_so = separator == ";" and not rest
        if not equals or not column.strip() or not all(chosen) or column.strip() in where or ends_so:
            raise ValueError(
                f"{text!r} does not say which rows: write COLUMN=VALUE,VALUE as in batch=A,C, and a value with a comma "
                'in quotes, as in label="walk, slowly"'
            )
        where[column.strip()] = tuple(chosen)
    return where


_VALUE = re.compile(r'(?:\s*"((?:[^"]|"")+)"\s*(?=[,;]|$)|([^,;]*))([,;]?)')


def quoted_value(value: str) -> str:
    """Returns a value as `parse_row_filter` reads it."""
    plain = value == value.strip() and not set(value) & set(',;"')
    return value if plain else '"' + value.replace('"', '""') + '"'


def join_commas(values: tuple[str, ...], there: Collection[str]) -> tuple[str, ...]:
    """Returns values that were parted at commas of their own as they are in the column, where only that makes sense."""
    whole = {tuple(part.strip() for part in value.split(",")): value for value in there if "," in value}
    found: list[tuple[str, ...] | None] = [()]  # of the first 0, 1, … parts
    for end in range(1, len(values) + 1):
        single = found[-1] if values[end - 1] in there else None
        ways = [(*single, values[end - 1])] if single is not None else []
        for start in range(end - 1):
            before, joined = found[start], whole.get(values[start:end])
            if before is not None and joined is not None:
                ways.append((*before, joined))
        found.append(ways[0] if ways else None)
    return found[-1] or values
