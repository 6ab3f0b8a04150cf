"""Limits the time in which a client must send the headers of a request, in uvicorn's HTTP/1.1 protocol.

uvicorn alone waits without end for a client that sends its headers byte by byte, or nothing at all. A few hundred such
clients take all the connections that a process may have.
"""

import asyncio
import json
from http import HTTPStatus
from typing import ClassVar

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from dualformer.serving.auth import log_error
from dualformer.serving.request_error import RequestError


class HeaderTimeoutProtocol(H11Protocol):
    """A connection whose client has ``head_seconds`` for the head of each request, from the connection or from the
    head's first byte. One that is idle between two requests is uvicorn's to close."""

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


def header_timeout_protocol(head_seconds: float) -> type[HeaderTimeoutProtocol]:
    """Returns a protocol class with this limit: uvicorn makes the connections from the class."""
    return type("HeaderTimeoutProtocol", (HeaderTimeoutProtocol,), {"head_seconds": head_seconds})
