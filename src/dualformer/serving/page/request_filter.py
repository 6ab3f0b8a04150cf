"""An ASGI application in front of Gradio's that lets through only the requests that the page needs.

Gradio is made for demonstrations. It has some seventy routes, downloads from any URL in a request, and, mounted in
another application, takes any path on the server for an upload. The page needs a dozen of the routes, and the files
that were uploaded to it or that it made. Everything else is refused here, before Gradio sees it. Uploads are received
here, by the same code and under the same limits as those of /predict. A Content-Security-Policy keeps the browser from
other hosts.
"""

import asyncio
import json
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dualformer.serving.auth import error_response
from dualformer.serving.request_error import RequestError
from dualformer.serving.service import Service
from dualformer.serving.uploads import parse_boundary, receive_file

_API = "/gradio_api"
_READ = frozenset({"/", "/config", "/theme.css", "/favicon.ico", "/manifest.json"}) | {
    f"{_API}/{name}" for name in ("info", "queue/data", "startup-events", "app_id")
}
_READ_BELOW = ("/assets/", "/static/", "/svelte/")
_FILE = f"{_API}/file="
_HEARTBEAT = f"{_API}/heartbeat/"
_UPLOAD = f"{_API}/upload"
_WRITE = frozenset(f"{_API}/{name}" for name in ("queue/join", "cancel", "reset"))

_FIELD = "files"
"""The field of the form in which Gradio's page sends a file."""
_MAX_BODY = 64 * 1024
"""Bytes of a JSON body. The page sends the name of a file and a label."""
_MAX_NAME = 200
"""Bytes of a file's name; file systems take 255."""
_POLL_SECONDS = 0.5
"""Seconds between two checks whether the server stops."""

_POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:",  # Gradio's settings are an inline script
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "media-src 'self' data: blob:",
        "connect-src 'self' data: blob:",
        "font-src 'self' data:",
        "worker-src 'self' blob:",
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
        "frame-ancestors 'self'",
    )
)
_HEADERS = {
    b"content-security-policy": _POLICY.encode(),
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
}


class RequestFilter:
    """Passes requests that the page needs on to ``app``, Gradio's. ``folder`` holds all files of the page.

    Any other request raises ``RequestError``, which the application around it answers.
    """

    def __init__(self, app: ASGIApp, service: Service, folder: Path) -> None:
        self._app, self._service, self._folder = app, service, folder.resolve()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"the page speaks HTTP, not {scope['type']}")
        method = scope["method"]
        route = scope["path"].removeprefix(scope.get("root_path", "")) or "/"  # below the mount point
        send = _with_headers(send)
        if method == "POST" and route == _UPLOAD:
            await self._upload(scope, receive, send)
        elif method == "POST" and route in _WRITE:
            body = self._sanitized(await self._read_body(Request(scope, receive)))
            others = [pair for pair in scope["headers"] if pair[0] not in (b"content-length", b"transfer-encoding")]
            scope = {**scope, "headers": [*others, (b"content-length", str(len(body)).encode())]}
            await self._app(scope, _replay(body, receive), send)
        elif method in ("GET", "HEAD") and route.startswith(_FILE):
            self._own_file(route.removeprefix(_FILE))
            await self._app(scope, receive, send)
        elif method == "GET" and route.startswith(_HEARTBEAT):
            await self._app(scope, _until_stopped(receive, lambda: not self._service.is_ready), send)
        elif method in ("GET", "HEAD") and (route in _READ or route.startswith(_READ_BELOW)):
            await self._app(scope, receive, send)
        else:
            raise RequestError("not_found", "the page has nothing there")

    async def _upload(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Responds with the path of the file, as Gradio does, or with an error as plain text, which the page shows."""
        try:
            path = await self._received(Request(scope, receive))
        except RequestError as error:
            headers = error_response(error, scope).headers  # and the log has its line
            response = PlainTextResponse(str(error), error.status)
            response.headers.update({k: v for k, v in headers.items() if k == "retry-after"})
        else:
            response = JSONResponse([str(path)])
        await response(scope, receive, send)

    async def _received(self, request: Request) -> Path:
        boundary = parse_boundary(request.headers, self._service.limits)
        with self._service.slot(), _removed_on_error(self._folder / secrets.token_hex(16)) as folder:
            await asyncio.to_thread(self._check_room)
            path = folder / "upload"
            name = await receive_file(request.stream(), boundary, path, self._service.limits, field=_FIELD)
            return path.rename(folder / _file_name(name))

    def _check_room(self) -> None:
        """Raises ``RequestError`` while too many uploads are kept, which are deleted by age."""
        limits = self._service.limits
        if folder_size(self._folder) > limits.concurrency * limits.max_bytes:
            raise RequestError("too_many_requests", "too many videos are kept at the moment: try again in some minutes")

    async def _read_body(self, request: Request) -> bytes:
        async def read() -> bytes:
            body = b""
            async for part in request.stream():
                body += part
                if len(body) > _MAX_BODY:
                    raise RequestError("file_too_large", f"a question has at most {_MAX_BODY} bytes")
            return body

        try:
            return await asyncio.wait_for(read(), self._service.limits.upload_seconds)
        except ClientDisconnect as error:
            raise RequestError("bad_request", "the question broke off") from error
        except asyncio.TimeoutError as error:
            raise RequestError("upload_too_slow", "the question took too long to arrive: try again") from error

    def _sanitized(self, body: bytes) -> bytes:
        """Returns the JSON body without URLs, with paths of the page's own files only."""
        try:
            asked = json.loads(body)
            if not isinstance(asked, dict):
                raise RequestError("bad_request", "the question is no JSON object")
            return json.dumps(self._without_urls(asked)).encode()
        except (ValueError, RecursionError) as error:  # nested values may parse and yet be too deep to walk
            raise RequestError("bad_request", "the question is no JSON") from error

    def _without_urls(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._without_urls(each) for each in value]
        if not isinstance(value, Mapping):
            return value
        if "path" in value:
            if not isinstance(value["path"], str):
                raise RequestError("bad_request", "a file is named by its path")
            self._own_file(value["path"])
        # A file's URL is the browser's own, made up from the path; Gradio would rather believe it than the path.
        return {key: self._without_urls(each) for key, each in value.items() if key != "url"}

    def _own_file(self, name: str) -> None:
        """Raises ``RequestError`` for all but existing files in the folder."""
        try:
            path = Path(name).resolve()
            known = path.is_relative_to(self._folder) and path.is_file()
        except (OSError, ValueError):  # longer than a path can be; with a null byte
            known = False
        if not known:
            raise RequestError("not_found", "there is no such file: it may be too old, choose it again")


def folder_size(folder: Path) -> int:
    """Returns the bytes of all files in a folder, from which files may vanish meanwhile."""
    size = 0
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):
            size += path.stat().st_size
    return size


@contextmanager
def _removed_on_error(folder: Path) -> Iterator[Path]:
    """Makes a folder and removes it again on an error."""
    folder.mkdir()
    try:
        yield folder
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _file_name(name: str) -> str:
    """Returns a client's name for a file, which has no folders in it, as a valid file name."""
    short = name.encode()[-_MAX_NAME:].decode(errors="ignore")
    return f"video{short}" if short.startswith(".") else short or "video"


def _with_headers(send: Send) -> Send:
    """Adds the security headers to every response."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            others = [(name, value) for name, value in message.get("headers", ()) if name.lower() not in _HEADERS]
            message = {**message, "headers": [*others, *_HEADERS.items()]}
        await send(message)

    return sending


def _replay(body: bytes, receive: Receive) -> Receive:
    """Replays a body that was read already, and then passes on what the client sends."""
    read: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replaying() -> Message:
        return read.pop() if read else await receive()

    return replaying


def _until_stopped(receive: Receive, stopped: Callable[[], bool]) -> Receive:
    """Reports the client as gone when the server stops, since an open page keeps its connection without end."""

    async def receiving() -> Message:
        waiting = asyncio.ensure_future(receive())
        try:
            while not stopped():
                done, _ = await asyncio.wait({waiting}, timeout=_POLL_SECONDS)
                if done:
                    return waiting.result()
        finally:
            waiting.cancel()
        return {"type": "http.disconnect"}

    return receiving
