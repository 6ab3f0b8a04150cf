"""ASGI middleware that checks the bearer token, counts requests and drains what a refused client still sends."""

import asyncio
import contextlib
import hmac
import logging
import time

from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dualformer.serving.metrics import Metrics
from dualformer.serving.request_error import RequestError, quoted

UNPROTECTED = frozenset({"/health", "/ready"})
"""Paths that need no token: orchestrators that probe a server have none."""
_DRAIN_SECONDS = 5.0
"""Seconds for which the rest of a refused upload is read and dropped. Closing at once would reset the connection, and
the client would lose the response that it has not read yet."""

_log = logging.getLogger("dualformer")


class AuthMiddleware:
    """Lets requests through that send ``token`` as ``Authorization: Bearer …``; with None, all of them."""

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
            if self._is_authorized(scope):
                await self._app(scope, exchange.receive, exchange.send)
            else:
                error = RequestError("unauthorized", "send the token of this server as Authorization: Bearer TOKEN")
                await error_response(error, scope)(scope, exchange.receive, exchange.send)
        except BaseException:  # an outer handler answers
            set_outcome(scope, "internal_error")
            raise
        finally:
            path = scope["path"]
            if path not in UNPROTECTED:
                label = path.removeprefix("/") if path in ("/predict", "/metrics") else "other"
                outcome = scope.get("state", {}).get("outcome") or _status_outcome(exchange.status)
                self._metrics.requests.labels(label, outcome).inc()
            if path == "/predict":
                self._metrics.latency.observe(time.monotonic() - begun)

    def _is_authorized(self, scope: Scope) -> bool:
        if self._token is None or scope["path"] in UNPROTECTED:
            return True
        given = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        kind, _, token = given.partition(b" ")
        # `&` and not `and`, so that the time of the check does not depend on where the two differ.
        return (kind.lower() == b"bearer") & hmac.compare_digest(token.strip(), self._token)


class _Exchange:
    """One request and its response: whether all of the body has arrived, and the status of the response."""

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
        end = time.monotonic() + _DRAIN_SECONDS
        with contextlib.suppress(asyncio.TimeoutError):
            while self._unread and (left := end - time.monotonic()) > 0:
                await asyncio.wait_for(self.receive(), left)
        await self._send({"type": "http.response.body", "body": b""})


def error_response(error: RequestError, scope: Scope) -> Response:
    """Returns the response to a refused request and writes a line to the log."""
    set_outcome(scope, error.code)
    log_error(error, scope.get("client"), f" {scope['method']} {quoted(scope['path'])}")
    return JSONResponse(error.to_dict(), error.status, error.headers)


def log_error(error: RequestError, client: tuple[str, int] | None, request: str = "") -> None:
    """Writes one line to the log, which nothing that a client has sent can break in two."""
    _log.info("refused %s%s %s %s: %s", client[0] if client else "-", request, error.status, error.code, error)


def set_outcome(scope: Scope, outcome: str) -> None:
    """Sets the outcome under which the request is counted."""
    scope.setdefault("state", {})["outcome"] = outcome


def _status_outcome(status: int) -> str:
    return "ok" if 200 <= status < 400 else "client_gone" if status == 0 else f"status_{status}"
