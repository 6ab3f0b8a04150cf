"""What every request passes through: the token, the counting, and an end that the client hears.

An ASGI application in front of the other.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import time

from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dualformer.serving.metrics import Metrics
from dualformer.serving.request_error import RequestError

OPEN = frozenset({"/health", "/ready"})
"""Paths that need no token: what starts and watches a server has none."""
_LINGER = 5.0
"""Seconds for which what a refused client sends is thrown away. Closing at once would reset the connection, and the
client would lose the answer that it had not read yet."""

_log = logging.getLogger("dualformer")


class AuthMiddleware:
    """``token``: who does not send it, as ``Authorization: Bearer …``, gets no further. None: everybody does."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics, token: str | None) -> None:
        self._app, self._metrics = app, metrics
        self._token = None if token is None else token.strip().encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope, receive, send)
        begun = time.monotonic()
        try:
            if self._lets_in(scope):
                await self._app(scope, exchange.receive, exchange.send)
            else:
                refused = RequestError("unauthorized", "send the token of this server as Authorization: Bearer TOKEN")
                await answer(refused, scope)(scope, exchange.receive, exchange.send)
        except BaseException:  # what is outside of this answers
            note_outcome(scope, "internal_error")
            raise
        finally:
            path = scope["path"]
            if path not in OPEN:
                named = path.removeprefix("/") if path in ("/predict", "/metrics") else "other"
                self._metrics.requests.labels(named, outcome_of(scope) or _plain(exchange.status)).inc()
            if path == "/predict":
                self._metrics.latency.observe(time.monotonic() - begun)

    def _lets_in(self, scope: Scope) -> bool:
        if self._token is None or scope["path"] in OPEN:
            return True
        given = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        kind, _, token = given.partition(b" ")
        # Both in every case: how long it takes says nothing of where they differ.
        return (kind.lower() == b"bearer") & hmac.compare_digest(token.strip(), self._token)


class _Exchange:
    """One request with its answer: whether all of the body has come, and what was answered."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._receive, self._send = receive, send
        self.status = 0
        # Without either header there is no body.
        self._unread = any(
            (name == b"content-length" and value != b"0") or name == b"transfer-encoding"
            for name, value in scope["headers"]
        )

    async def receive(self) -> Message:
        message = await self._receive()
        if not message.get("more_body", False):
            self._unread = False
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            if self._unread:
                message = {**message, "headers": [*message.get("headers", ()), (b"connection", b"close")]}
        last = message["type"] == "http.response.body" and not message.get("more_body", False)
        if not (last and self._unread and self.status != 408):
            await self._send(message)
            return
        await self._send({**message, "more_body": True})
        await self._throw_away()
        await self._send({"type": "http.response.body", "body": b""})

    async def _throw_away(self) -> None:
        end = time.monotonic() + _LINGER
        while self._unread and (left := end - time.monotonic()) > 0:
            try:
                await asyncio.wait_for(self.receive(), left)
            except asyncio.TimeoutError:
                return


def answer(refused: RequestError, scope: Scope) -> Response:
    """The answer to a request that is refused, for which the log gets a line."""
    note_outcome(scope, refused.code)
    log_refusal(refused, scope.get("client"), f" {scope['method']} {_quoted(scope['path'])}")
    return JSONResponse(refused.to_dict(), refused.status, refused.headers)


def log_refusal(refused: RequestError, client: tuple[str, int] | None, request: str = "") -> None:
    """One line, which nothing that a client has said breaks in two."""
    _log.info("refused %s%s %s %s: %s", client[0] if client else "-", request, refused.status, refused.code, refused)


def _quoted(path: str) -> str:
    """A path of a request in one line, and not too long a one."""
    return repr(path if len(path) <= 100 else f"{path[:100]}…")


def note_outcome(scope: Scope, outcome: str) -> None:
    scope.setdefault("state", {})["outcome"] = outcome


def outcome_of(scope: Scope) -> str | None:
    return scope.get("state", {}).get("outcome")


def _plain(status: int) -> str:
    return "ok" if 200 <= status < 400 else "client_gone" if status == 0 else f"status_{status}"
