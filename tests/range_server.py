"""A web server in the test's own process: it serves parts of files, counts what it gives, and fails as it is told."""

from __future__ import annotations

import base64
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote, unquote


@dataclass
class RangeServer:
    """``files``: by path. What a test does not set is as good servers have it."""

    files: dict[str, bytes]
    url: str = ""
    ranges: bool = True
    login: str = ""
    """``user:password`` that it asks for."""
    query: str = ""
    """That it asks for, as of a signed URL."""
    failures: list[int | str] = field(default_factory=list)
    """Of the next requests of files, one after another: a status, ``cut`` in the middle, ``silent``, ``trickle``."""
    retry_after: str | None = None
    given: list[tuple[str, int]] = field(default_factory=list)
    """Path and bytes of each answer with a body."""
    refused: int = 0
    put: bool = False
    """Whether files may be written."""

    @property
    def bytes_given(self) -> int:
        return sum(count for _, count in self.given)


@contextmanager
def range_server(files: dict[str, bytes], **how: object) -> Iterator[RangeServer]:
    state = RangeServer(files, **how)  # type: ignore[arg-type]  # what a test gives
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(state))
    server.daemon_threads = True
    server.block_on_close = False
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(state: RangeServer) -> Callable[..., BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # as it is called there
            pass

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def do_PUT(self) -> None:
            data = self.rfile.read(int(self.headers["Content-Length"])) if "Content-Length" in self.headers else b""
            while self.headers.get("Transfer-Encoding") == "chunked" and (size := int(self.rfile.readline(), 16)):
                data += self.rfile.read(size)
                self.rfile.readline()
            if not state.put or not self._is_let_in():
                self._status(403 if state.put else 405)
                return
            state.files[unquote(self.path.split("?")[0])] = data
            self._status(201)

        def _is_let_in(self) -> bool:
            wanted = base64.b64encode(state.login.encode()).decode()
            if state.login and self.headers.get("Authorization") != f"Basic {wanted}":
                return False
            return not state.query or self.path.partition("?")[2] == state.query

        def _status(self, status: int) -> None:
            state.refused += 1
            self.send_response(status)
            if state.retry_after is not None:
                self.send_header("Retry-After", state.retry_after)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def _answer(self, *, body: bool) -> None:
            path = unquote(self.path.split("?")[0])
            if not self._is_let_in():
                self._status(403)
                return
            if (data := state.files.get(path)) is None:
                self._list(path, body=body)
                return
            failure = state.failures.pop(0) if state.failures else None
            if isinstance(failure, int):
                self._status(failure)
                return
            if failure == "silent":
                time.sleep(2)
            first, last = 0, len(data)
            asked = self.headers.get("Range", "") if state.ranges else ""
            if asked:
                start, _, end = asked.removeprefix("bytes=").partition("-")
                first, last = int(start), min(int(end) + 1 if end else last, last)
            self.send_response(206 if asked else 200)
            if asked:
                self.send_header("Content-Range", f"bytes {first}-{last - 1}/{len(data)}")
            self.send_header("Content-Length", str(last - first))
            self.send_header("ETag", f'"{hash(data)}"')
            self.end_headers()
            if not body:
                return
            state.given.append((path, last - first))
            with suppress(OSError):  # who asked has enough
                if failure == "cut":
                    self.wfile.write(data[first : (first + last) // 2])
                    self.wfile.flush()
                    self.connection.shutdown(socket.SHUT_RDWR)
                elif failure == "trickle":
                    for place in range(first, min(first + 20, last)):
                        self.wfile.write(data[place : place + 1])
                        time.sleep(0.1)
                else:
                    self.wfile.write(data[first:last])

        def _list(self, path: str, *, body: bool) -> None:
            """Answers with the links of a folder, if there is one."""
            above = path.rstrip("/") + "/"
            inside = sorted({name.removeprefix(above).partition("/") for name in state.files if name.startswith(above)})
            names = sorted({f"{name}{'/' if slash else ''}" for name, slash, _ in inside})
            if not names:
                self._status(404)
                return
            page = "".join(f'<a href="{quote(name)}">{name}</a>\n' for name in names).encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(page)))
            self.end_headers()
            if body:
                self.wfile.write(page)

    return Handler
