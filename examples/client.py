"""Labels a video by asking a server, and comes back when the server is busy. Needs Python alone.

    dualformer serve --weights rendered                                  # the server
    python examples/client.py CLIP.mp4 OTHER.mp4 --url http://127.0.0.1:8000

Prints a line of JSON for each file. A server that answers 429 or 503 says with Retry-After when to try again, and a
connection that breaks is tried again as well; anything else is final. Ends with 1 if a file has no answer.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import random
import secrets
import sys
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

AGAIN = (429, 503)
"""Answers that mean: not now."""


class NoAnswer(Exception):
    """The server refused for good, or was not there for too long."""


def labels_of(
    path: Path, url: str, *, token: str | None = None, top: int = 5, patience: float = 120.0, timeout: float = 300.0
) -> dict[str, Any]:
    """What the server says about a file.

    ``patience``: seconds for which it is asked again. ``timeout``: seconds that one answer may take.
    Raises `NoAnswer`, and ``FileNotFoundError``.
    """
    size = path.stat().st_size
    end = time.monotonic() + patience
    wait = 0.5
    while True:
        try:
            status, retry_after, body = _ask(path, size, url, token=token, top=top, timeout=timeout)
        except (OSError, http.client.HTTPException) as error:
            said, pause = f"no answer ({error or type(error).__name__})", wait
        else:
            if status == 200:
                return json.loads(body)
            said = _message(status, body)
            if status not in AGAIN:
                raise NoAnswer(said)
            pause = max(float(retry_after), wait) if retry_after.isdecimal() else wait
        # Clients that were refused together must not all come back together.
        pause *= random.uniform(1.0, 1.5)
        if time.monotonic() + pause > end:
            raise NoAnswer(f"{said}; gave up after {patience:g} s")
        time.sleep(pause)
        wait = min(2 * wait, 30.0)


def _ask(path: Path, size: int, url: str, *, token: str | None, top: int, timeout: float) -> tuple[int, str, bytes]:
    """Status, Retry-After and body of one answer. The file is read as it is sent, not before."""
    parts = urllib.parse.urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    boundary = secrets.token_hex(16)
    name = path.name.replace("\\", "_").replace('"', "_").replace("\r", "_").replace("\n", "_")
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="video"; filename="{name}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    ).encode("utf-8", "replace")
    tail = f"\r\n--{boundary}--\r\n".encode()
    headers = {
        "Content-Type": f"multipart/form-data; boundary={boundary}",
        "Content-Length": str(len(head) + size + len(tail)),
    }
    if token:
        headers["Authorization"] = f"Bearer {token}"

    def body() -> Iterator[bytes]:
        yield head
        with path.open("rb") as file:
            while chunk := file.read(2**16):
                yield chunk
        yield tail

    connection = kind(parts.netloc, timeout=timeout)
    try:
        # Broken where it refuses before all was sent; it says why all the same.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.request("POST", f"{parts.path.rstrip('/')}/predict?top={top}", body(), headers)
        answer = connection.getresponse()
        return answer.status, answer.getheader("Retry-After", ""), answer.read()
    finally:
        connection.close()


def _message(status: int, body: bytes) -> str:
    try:
        return f"{status}: {json.loads(body)['error']['message']}"
    except (ValueError, KeyError, TypeError):
        return f"{status}: {http.client.responses.get(status, 'no reason given')}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", nargs="+", type=Path)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--top", type=int, default=5, help="classes to name")
    parser.add_argument("--patience", type=float, default=120.0, help="seconds to go on asking")
    options = parser.parse_args()
    failed = 0
    for path in options.video:
        try:
            answer = labels_of(
                path,
                options.url,
                token=os.environ.get("DUALFORMER_TOKEN"),
                top=options.top,
                patience=options.patience,
            )
        except (NoAnswer, FileNotFoundError) as error:
            answer, failed = {"error": str(error), "source": path.name}, 1
        print(json.dumps(answer, ensure_ascii=False), flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())
