"""Text of any encoding in, and text for streams of any encoding out."""

import io
import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualformer.text_encoding import decode_text, describe_encoding, has_surrogates, json_text, printable

NAME = os.fsdecode(b"\xe9t\xe9.mp4")


def stream(encoding: str) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(), encoding=encoding)


@pytest.mark.parametrize(
    ("encoding", "text", "shown"),
    [
        ("utf-8", "16 → 2 classes – 挥手", "16 → 2 classes – 挥手"),
        ("utf-8", NAME, "\ufffdt\ufffd.mp4"),
        ("cp1252", "16 → 2 classes – été", "16 -> 2 classes – été"),
        ("cp1252", "挥手/v0.mp4", "\\u6325\\u624b/v0.mp4"),
        ("latin-1", f"a – b … × {NAME}", "a - b ... × ?t?.mp4"),
        ("ascii", "✓ 1 × 2 “é” 👋", 'ok 1 x 2 "\\xe9" \\U0001f44b'),
        ("cp437", "│─→", "│─->"),
    ],
)
def test_what_a_stream_can_show(encoding: str, text: str, shown: str) -> None:
    assert printable(text, stream(encoding)) == shown


@given(st.text(st.characters(), max_size=40), st.sampled_from(["utf-8", "ascii", "cp1252", "latin-1", "gbk", "utf-16"]))
def test_nothing_printed_raises(text: str, encoding: str) -> None:
    out = stream(encoding)
    out.write(printable(text, out))
    out.flush()
    json_line = json_text({"name": text}, stream=out)
    out.write(json_line)
    out.flush()
    assert json.loads(json_line) == {"name": text} or has_surrogates(text)


def test_json_is_one_line_for_everybody() -> None:
    for letter in "\x85\u2028\u2029\n\r":
        line = json_text({"path": f"a{letter}b"}, stream=stream("utf-8"))
        assert line.splitlines() == [line] and json.loads(line) == {"path": f"a{letter}b"}


def test_a_stream_without_an_encoding_takes_everything() -> None:
    assert printable(NAME, io.StringIO()) == NAME


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252", "ascii", "latin-1"])
def test_names_come_back_from_json(encoding: str) -> None:
    text = json_text({"path": NAME, "label": "挥手"}, stream=stream(encoding))
    assert json.loads(text.encode(encoding).decode(encoding)) == {"path": NAME, "label": "挥手"}
    assert ("挥手" in text) == (encoding == "utf-8")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_files_with_marks(encoding: str) -> None:
    assert decode_text("path\n挥手.mp4\n".encode(encoding)) == "path\n挥手.mp4\n"


def test_names_that_are_no_text() -> None:
    data = os.fsencode(NAME)
    assert decode_text(data, names=True) == NAME
    with pytest.raises(UnicodeDecodeError):
        decode_text(data)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("café".encode("cp1252"), "in Windows-1252 it would say 'café'"),
        ("path\na.mp4\n".encode("utf-16-le"), "UTF-16 without its mark"),
        (b"\x81\x8d", "not UTF-8: save the file"),
    ],
)
def test_other_encodings_are_named(data: bytes, said: str) -> None:
    assert said in describe_encoding(data)
