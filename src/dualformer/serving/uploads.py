"""Receives an uploaded file from a multipart form and writes it to disk as it arrives.

Frameworks hand a form over when all of it has arrived. Here the limits hold while it arrives, and the client's name for
the file goes into the response, never into a path.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from dualformer.serving.limits import Limits
from dualformer.serving.request_error import RequestError, quoted

FIELD = "video"
_FORM_OVERHEAD = 64 * 1024
"""Bytes of a form besides its file, at most."""
_MAX_HEADER = 8 * 1024
"""Bytes of the headers of a part, at most."""
_MAX_NAME = 120


def parse_boundary(headers: Mapping[str, str], limits: Limits) -> bytes:
    """Returns the boundary between the parts of a form, from the headers of its request.

    Raises ``RequestError`` for a body that is no form, is compressed, or announces that it is too large.
    """
    length = headers.get("content-length", "")
    if length.isdecimal() and int(length) > limits.max_bytes + _FORM_OVERHEAD:
        raise _too_large(limits)
    encoding = headers.get("content-encoding", "identity")
    if encoding.strip().lower() not in ("", "identity"):
        raise RequestError("unsupported_body", f"the body has Content-Encoding {quoted(encoding)}: send it as it is")
    content_type = headers.get("content-type", "")
    how = f"send the file as field {FIELD!r} of multipart/form-data"
    kind, options = parse_options_header(content_type)
    if kind != b"multipart/form-data":
        given = quoted(content_type) if content_type else "none"
        raise RequestError("unsupported_body", f"the body has Content-Type {given}: {how}")
    boundary = options.get(b"boundary", b"")
    if not 1 <= len(boundary) <= 70:  # RFC 2046
        how += ", and leave the header to your client"
        raise RequestError("bad_request", f"the Content-Type has no boundary: {how}")
    return boundary


async def receive_file(
    body: AsyncIterator[bytes], boundary: bytes, path: Path, limits: Limits, *, field: str = FIELD
) -> str:
    """Writes the one file of a form, in its ``field``, to ``path``, and returns the client's name for it.

    Raises ``RequestError`` where there is no file or there are several, where it is empty or too large, and where
    the body takes longer than it may; passes on what ``body`` raises.
    """

    async def receive(form: _Form) -> None:
        async for chunk in body:
            form.write(chunk)

    try:
        with path.open("xb") as file:
            form = _Form(boundary, file, limits, field)
            await asyncio.wait_for(receive(form), limits.upload_seconds)
    except asyncio.TimeoutError as error:
        slow = f"the upload took longer than {limits.upload_seconds:g} s: send a smaller file, or over a faster line"
        raise RequestError("upload_too_slow", slow) from error
    except FormParserError as error:
        raise RequestError("bad_request", "the body is no well-formed multipart/form-data") from error
    return form.finish()


def _too_large(limits: Limits) -> RequestError:
    most = limits.max_bytes
    return RequestError("file_too_large", f"the file has more than {most} bytes: cut it, or make it smaller")


class _Form:
    """Parses the bytes of a form and writes those of its file to ``file``."""

    def __init__(self, boundary: bytes, file: BinaryIO, limits: Limits, field: str) -> None:
        self._file, self._limits, self._field = file, limits, field
        self._received = self._written = self._header = 0
        self._name: str | None = None
        self._key = self._value = self._disposition = b""
        self._ended = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._on_part,
                "on_header_field": self._on_key,
                "on_header_value": self._on_value,
                "on_header_end": self._on_header,
                "on_headers_finished": self._on_headers,
                "on_part_data": self._on_data,
                "on_end": self._on_end,
            },
        )

    def write(self, chunk: bytes) -> None:
        self._received += len(chunk)
        if self._received > self._limits.max_bytes + _FORM_OVERHEAD:
            raise _too_large(self._limits)
        self._parser.write(chunk)

    def finish(self) -> str:
        """Returns the client's name for the file. Raises ``RequestError`` where there is no whole file."""
        if not self._ended:
            raise RequestError("bad_request", "the body ends before its form does: send it again")
        if self._name is None:
            raise RequestError("bad_request", f"the form has no file in its field {self._field!r}: send one")
        if not self._written:
            raise RequestError("bad_request", f"the file {quoted(self._name)} is empty (0 bytes)")
        return self._name

    def _on_part(self) -> None:
        self._header = 0
        self._key = self._value = self._disposition = b""

    def _on_key(self, data: bytes, start: int, end: int) -> None:
        self._key += self._counted(data[start:end])

    def _on_value(self, data: bytes, start: int, end: int) -> None:
        self._value += self._counted(data[start:end])

    def _counted(self, piece: bytes) -> bytes:
        self._header += len(piece)
        if self._header > _MAX_HEADER:
            raise RequestError("bad_request", "a part of the form has a header that is too long")
        return piece

    def _on_header(self) -> None:
        if self._key.lower() == b"content-disposition":
            self._disposition = self._value
        self._key = self._value = b""

    def _on_headers(self) -> None:
        _, options = parse_options_header(self._disposition)
        field, name = options.get(b"name", b""), options.get(b"filename")
        if field != self._field.encode() or name is None:
            what, send = quoted(field.decode("utf-8", "replace")), f"send one file as {self._field!r}, and nothing else"
            raise RequestError("bad_request", f"the form has a field {what}: {send}")
        if self._name is not None:
            raise RequestError("bad_request", f"the form has several files: send one as {self._field!r}")
        self._name = base_name(name.decode("utf-8", "replace"))

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        self._written += end - start
        if self._written > self._limits.max_bytes:
            raise _too_large(self._limits)
        self._file.write(data[start:end])

    def _on_end(self) -> None:
        self._ended = True


def base_name(name: str) -> str:
    """Returns a client's name for a file as one short line, without folders of any operating system."""
    last = PurePosixPath(name.replace("\\", "/")).name
    return re.sub(r"[^\w .,()+\-\[\]]", "_", last)[-_MAX_NAME:].strip(" .") or "unnamed"
