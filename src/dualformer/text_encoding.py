"""Text of any encoding in, and text for streams of any encoding out.

A file's name need not be text: Python holds its stray bytes as surrogates. They survive in files, as bytes in CSV and
as escapes in JSON, and are shown with a replacement. Nothing that is printed stops the work.
"""

import codecs
import json
import re
from collections.abc import Callable
from typing import Any, TextIO

_PLAIN = {"→": "->", "←": "<-", "–": "-", "—": "--", "…": "...", "×": "x", "·": "*", "✓": "ok", "✗": "no", "≥": ">="}
_PLAIN |= {"≤": "<=", "“": '"', "”": '"', "’": "'", "±": "+-", "│": "|", "─": "-", "•": "*", "\u00a0": " "}
_SURROGATE = re.compile("[\ud800-\udfff]")
_NO_LINE_OF_JSON = re.compile("[\ud800-\udfff\x85\u2028\u2029]")
"""What no encoding has, and what some programs end a line at."""
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16: its mark begins with that of UTF-16
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


def printable(text: str, stream: TextIO) -> str:
    """Returns ``text`` as the encoding of ``stream`` can write it.

    In UTF-8, surrogates become U+FFFD. In other encodings arrows, dashes and the like become ASCII, and what else there
    is not is escaped, as in ``\\u6325``.
    """
    encoding = getattr(stream, "encoding", None)
    if not encoding:
        return text
    text = without_surrogates(text)
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        plain = "".join(_PLAIN.get(letter, letter) if not _fits(letter, encoding) else letter for letter in text)
        return plain.replace("\ufffd", "?").encode(encoding, "backslashreplace").decode(encoding)
    except LookupError:
        return text
    return text


def without_surrogates(text: str) -> str:
    """Returns ``text`` with U+FFFD in place of what no encoding has, as it is shown."""
    return _SURROGATE.sub("\ufffd", text)


def has_surrogates(text: str) -> bool:
    """Returns whether a name is no text."""
    return _SURROGATE.search(text) is not None


def json_text(
    content: Any,
    *,
    stream: TextIO | None = None,
    indent: int | None = None,
    ensure_ascii: bool = False,
    default: Callable[[Any], Any] | None = None,
) -> str:
    """Returns ``content`` as JSON, with surrogates as escapes; in ASCII for a ``stream`` that is not in UTF-8."""
    if stream is not None:
        encoding = (getattr(stream, "encoding", None) or "utf-8").lower().replace("_", "-")
        ensure_ascii = ensure_ascii or encoding not in ("utf-8", "utf8", "utf-8-sig")
    text = json.dumps(content, indent=indent, ensure_ascii=ensure_ascii, default=default)
    return _NO_LINE_OF_JSON.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def decode_text(data: bytes, *, names: bool = False) -> str:
    """Returns the text of a file in UTF-8, or in UTF-16 or UTF-32 with a byte order mark, which is left out.

    ``names``: whether bytes that are no text may be there, as in names of files; they become surrogates. Raises
    ``UnicodeDecodeError``.
    """
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return data[len(mark) :].decode(encoding, "surrogateescape" if names and encoding == "utf-8" else "strict")
    return data.decode("utf-8", "surrogateescape" if names else "strict")


def describe_encoding(data: bytes) -> str:
    """Returns what bytes that are not UTF-8 seem to be, and the remedy."""
    if data[:512].count(b"\0") * 4 > len(data[:512]):
        return "not UTF-8 but, as it seems, UTF-16 without its mark: save the file in UTF-8"
    try:
        text = data.decode("cp1252")
    except UnicodeDecodeError:
        return "not UTF-8: save the file in that encoding"
    word = re.search(r"\w*[^\x00-\x7f]\w*", text)
    shown = f" (in Windows-1252 it would say {word[0][:40]!r})" if word else ""
    return f"not UTF-8: save the file in that encoding{shown}"


def _fits(letter: str, encoding: str) -> bool:
    try:
        letter.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True
