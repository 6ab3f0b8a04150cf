"""Runs the application with uvicorn, limits the time for the headers of a request, and shuts down gracefully."""

import asyncio
import json
import os
import signal
import socket
from collections.abc import Callable
from http import HTTPStatus
from types import FrameType
from typing import ClassVar

import h11
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from dualformer.serving.auth import log_error
from dualformer.serving.request_error import RequestError
from dualformer.serving.service import Service


def bind(host: str, port: int) -> socket.socket:
    """Returns a socket bound to an address; port 0 is any free one. Clients can connect once a server runs on it.

    Raises ``OSError`` for an address that is taken, or is none of this machine's.
    """
    try:
        family, kind, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise OSError(error.errno, f"{error.strerror}: choose another `host`", f"{host}:{port}") from error
    listening = socket.socket(family, kind)
    try:
        if os.name == "posix":
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # after a server that has just ended
        listening.bind(address)
    except OSError as error:
        listening.close()
        raise OSError(error.errno, f"{error.strerror}: choose another `host` or `port`", f"{host}:{port}") from error
    return listening


def make_server(
    app: FastAPI, service: Service, *, grace: float = 30.0, on_start: Callable[[], None] = lambda: None
) -> uvicorn.Server:
    """Returns a server whose ``run(sockets=[…])`` answers until SIGTERM, SIGINT or ``should_exit = True``.

    ``on_start`` is called when clients can connect. When it is told to stop, it takes no more requests, gives the
    running ones ``grace`` seconds and closes the service. A second SIGINT stops it at once.
    """
    head_seconds = service.limits.header_seconds
    config = uvicorn.Config(
        app,
        # uvicorn makes connections from a class, so that the limit is a field of one
        http=type("HeaderTimeoutProtocol", (HeaderTimeoutProtocol,), {"head_seconds": head_seconds}),
        ws="none",
        loop="asyncio",
        lifespan="on",
        log_config=None,
        log_level="error",  # of requests that are no HTTP, our own log tells
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=max(1, round(grace)),
        h11_max_incomplete_event_size=32 * 1024,
    )
    return _Server(config, service, on_start)


def run_server(server: uvicorn.Server, listening: socket.socket) -> None:
    """Runs the server in the main thread. The signals that end it end nothing else."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    # When uvicorn has stopped it raises anew what stopped it, and the process would end by that.
    before = [signal.signal(number, lambda *_: None) for number in numbers]
    try:
        server.run(sockets=[listening])
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, service: Service, on_start: Callable[[], None]) -> None:
        super().__init__(config)
        self._service, self._on_start = service, on_start

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_start()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._service.stop_accepting()
        super().handle_exit(sig, frame)


class HeaderTimeoutProtocol(H11Protocol):
    """A connection whose client has ``head_seconds`` for the head of each request, from the connection or from the
    head's first byte; uvicorn closes one that is idle between two requests.

    uvicorn alone waits without end for a client that sends its headers byte by byte, or nothing at all. A few hundred
    such clients take all the connections that a process may have.
    """

    head_seconds: ClassVar[float] = 10.0
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self._start_timer()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._update_timer()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._update_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def _update_timer(self) -> None:
        """Lets the timer run while only a part of a head has arrived."""
        if self.conn.their_state is not h11.IDLE:
            self._stop_timer()
        elif self._timer is None and self.conn.trailing_data[0]:
            self._start_timer()

    def _start_timer(self) -> None:
        self._timer = self.loop.call_later(self.head_seconds, self._on_timeout)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_timeout(self) -> None:
        self._timer = None
        if self.transport.is_closing():
            return
        if self.conn.trailing_data[0]:
            self._send_error(RequestError("upload_too_slow", "the head of the request took too long to arrive"))
        else:  # a client that has sent nothing gets no response
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """Answers bytes that are no HTTP, as uvicorn has it, in the JSON of all other errors."""
        self._send_error(RequestError("bad_request", "this is no HTTP request that is understood"))

    def _send_error(self, error: RequestError) -> None:
        """Answers a request that never reached the application, and closes the connection."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            body = json.dumps(error.to_dict()).encode()
            headers = {"content-type": "application/json", "content-length": str(len(body)), "connection": "close"}
            reason = HTTPStatus(error.status).phrase
            log_error(error, self.client)
            for event in (
                h11.Response(status_code=error.status, headers=list(headers.items()), reason=reason),
                h11.Data(data=body),
                h11.EndOfMessage(),
            ):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()
