"""Writing files whole or not at all, and reading text, JSON and CSV with errors that name the line."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from dualformer.errors import DualFormerError
from dualformer.files import (
    FileWriteError,
    atomic_write,
    csv_text,
    read_csv_rows,
    read_csv_table,
    read_json_object,
    read_text,
    write_csv,
    write_json,
    write_text,
)


class BadFileError(DualFormerError):
    """What a caller wants to be told of its own files."""


def test_atomic_write_replaces_makes_folders_and_follows_links(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "er" / "file"
    atomic_write(target, lambda path: path.write_text("one"))
    atomic_write(target, lambda path: path.write_text("two"))
    assert target.read_text() == "two"
    link = tmp_path / "link"
    link.symlink_to(target)
    atomic_write(link, lambda path: path.write_text("three"))
    assert link.is_symlink()
    assert target.read_text() == "three"


def test_atomic_write_cleans_up_after_any_error(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_text("old")

    def interrupted(path: Path) -> None:
        path.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        atomic_write(target, interrupted)
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_full_disk_leaves_the_previous_text(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource", reason="limits on file sizes need a Unix")
    path = tmp_path / "table.csv"
    write_csv(path, ["n"], [[1]])
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        for write in (
            lambda: write_text(path, "x" * 2000),
            lambda: write_json(path, ["x"] * 2000),
            lambda: write_csv(path, ["n"], ([i] for i in range(2000))),
        ):
            with pytest.raises(FileWriteError, match=r"table.csv: could not be written \(file too large\); choose"):
                write()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_text() == "n\n1\n"
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_text(path, "größer\nルン\r\n")
    assert path.read_bytes() == "größer\nルン\r\n".encode()
    assert read_text(path, BadFileError) == "größer\nルン\r\n"
    write_json(path, {"b": 1, "a": ["ü"]})
    assert path.read_text("utf-8") == '{\n  "b": 1,\n  "a": [\n    "ü"\n  ]\n}\n'
    assert read_json_object(path, BadFileError, expected="") == [("b", 1), ("a", ["ü"])]
    write_json(path, {"a": "ü"}, indent=None, ensure_ascii=True)
    assert path.read_bytes() == b'{"a": "\\u00fc"}\n'
    header, rows = ["path", "label"], [["a, b.mp4", 'say "hi"'], ["two\nlines", ""]]
    write_csv(path, header, rows)
    assert path.read_text("utf-8") == csv_text(header, rows)
    assert list(read_csv_rows(path, BadFileError)) == [(1, header), (2, rows[0]), (4, rows[1])]


def test_names_that_are_no_text_keep_their_bytes(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.mp4")
    write_csv(tmp_path / "a.csv", ["path"], [[name]])
    write_text(tmp_path / "b.txt", csv_text(["path"], [[name]]))
    assert (tmp_path / "a.csv").read_bytes() == b"path\ncaf\xe9.mp4\n" == (tmp_path / "b.txt").read_bytes()


def test_rows_of_a_csv_file_are_stripped_and_empty_ones_left_out(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes("\ufeff path ,label\r\n\r\n a.mp4,run \r\n , \r\n".encode())
    assert list(read_csv_rows(path, BadFileError)) == [(1, ["path", "label"]), (3, ["a.mp4", "run"])]
    assert list(read_csv_rows(path, BadFileError, strip=False))[1] == (3, [" a.mp4", "run "])


def test_errors_name_the_file_and_the_line(tmp_path: Path) -> None:
    path = tmp_path / "names"
    path.write_bytes(b"one\ntwo\nthr\xe9\n")
    with pytest.raises(BadFileError, match=r"names:3: not UTF-8: save the file in that encoding"):
        read_text(path, BadFileError)
    with pytest.raises(BadFileError, match=r"names:3: not UTF-8"):
        list(read_csv_rows(path, BadFileError))
    path.write_text('a\n"b" c\n')
    with pytest.raises(BadFileError, match=r"names:2: .* expected after .*: take another"):
        list(read_csv_rows(path, BadFileError, remedy=": take another"))
    path.write_text('{"a": 1,\n"b": }')
    with pytest.raises(BadFileError, match=r"names:2: not JSON \(Expecting value\): take another"):
        read_json_object(path, BadFileError, expected="", remedy=": take another")
    for text in ("[]", '[["a", 1]]', "3", '"{"'):
        path.write_text(text)
        with pytest.raises(BadFileError, match=r"names: names are an object$"):
            read_json_object(path, BadFileError, expected="names are an object")


def test_a_table_must_have_its_header(tmp_path: Path) -> None:
    path = tmp_path / "names"

    def rows(text: str) -> list[tuple[str, list[str]]]:
        path.write_text(text)
        return list(
            read_csv_table(path, ("a", "b"), BadFileError, wrong_header="expected a,b", wrong_row="expected two")
        )

    assert rows("a, b\n\n1,2\n") == [(f"{path}:3", ["1", "2"])]
    assert rows("") == []
    with pytest.raises(BadFileError, match="names:2: expected a,b"):
        rows("\nb,a\n")
    with pytest.raises(BadFileError, match="names:3: expected two"):
        rows("a,b\n1,2\n1\n")


def test_repeated_names_of_an_object_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "names.json"
    path.write_text(json.dumps({"a": 1})[:-1] + ', "a": 2}')
    assert read_json_object(path, BadFileError, expected="") == [("a", 1), ("a", 2)]
