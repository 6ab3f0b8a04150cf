"""Runs the application with uvicorn and shuts it down gracefully."""

import os
import signal
import socket
from collections.abc import Callable
from types import FrameType

import uvicorn
from fastapi import FastAPI

from dualformer.serving.header_timeout import header_timeout_protocol
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
    config = uvicorn.Config(
        app,
        http=header_timeout_protocol(service.limits.header_seconds),
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
