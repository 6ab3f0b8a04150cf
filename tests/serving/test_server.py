"""Clients that are slow, many, gone, or have no token; and a server that is told to stop."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from made_server import Running, film, form, part, read_all, refusal, running, serving, until

from dualformer.serving.app import make_app
from dualformer.serving.limits import Limits
from dualformer.serving.request_error import RequestError

TOKEN = "s3cret-tökèn"


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    """Gives clients little time."""
    limits = Limits(header_seconds=0.5, upload_seconds=1.0)
    with serving(limits=limits) as service, running(service) as server:
        yield server


@pytest.fixture(scope="module")
def patient() -> Iterator[Running]:
    """Takes two requests at once, and waits for them however busy the machine is."""
    with serving(limits=Limits(concurrency=2)) as service, running(service) as server:
        yield server


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return film(tmp_path_factory.mktemp("films") / "clip.mp4").read_bytes()


def request_of(body: bytes, *, length: int | None = None) -> bytes:
    length = len(body) if length is None else length
    head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: {form()[1]}\r\nContent-Length: {length}\r\n\r\n"
    return head.encode() + body


def split(text: str) -> tuple[int, str]:
    """The last answer in what was received, as status and code."""
    head, _, body = text[text.rindex("HTTP/1.1 ") :].partition("\r\n\r\n")
    return refusal(int(head.split()[1]), body)


@pytest.mark.parametrize(
    "before", ["", "GET /health HTTP/1.1\r\nHost: x\r\n\r\n"], ids=["first", "after another request"]
)
def test_a_head_that_does_not_end_is_given_up(before: str, server: Running) -> None:
    with server.connect() as connection:
        connection.sendall(f"{before}POST /predict HTTP/1.1\r\nHost: x\r\nX-Slow: ".encode())
        said = read_all(connection)
    assert split(said) == (408, "upload_too_slow")
    assert said.count("HTTP/1.1 200") == (1 if before else 0)


def test_who_says_nothing_is_hung_up_on(server: Running) -> None:
    with server.connect() as connection:
        assert read_all(connection) == ""


def test_a_head_in_pieces_is_fine(server: Running) -> None:
    with server.connect() as connection:
        for piece in (b"GET /hea", b"lth HTTP/1.1\r\nHo", b"st: x\r\nConnection: close\r\n\r\n"):
            connection.sendall(piece)
            threading.Event().wait(0.1)
        assert read_all(connection).endswith('{"status":"alive"}')


def test_what_is_no_http_is_told_so(server: Running) -> None:
    with server.connect() as connection:
        connection.sendall(b"\x16\x03\x01 hello\r\n\r\n")
        assert split(read_all(connection)) == (400, "bad_request")


def test_a_body_that_does_not_end_is_given_up(server: Running, clip: bytes) -> None:
    with server.connect() as connection:
        connection.sendall(request_of(form((part(), clip), end=False)[0], length=10**6))
        until(server.left)
        assert split(read_all(connection)) == (408, "upload_too_slow")
    until(lambda: not server.left())


def test_a_body_that_is_no_http_is_told_so(server: Running) -> None:
    with server.connect() as connection:
        connection.sendall(
            f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: {form()[1]}\r\nTransfer-Encoding: chunked\r\n\r\n"
            "5\r\nhello\r\nnonsense\r\n".encode()
        )
        assert split(read_all(connection)) == (400, "bad_request")
    until(lambda: not server.left())


def test_a_client_that_goes_leaves_nothing(patient: Running, clip: bytes) -> None:
    name = 'dualformer_requests_total{outcome="client_gone",path="predict"}'
    before = patient.metrics().get(name, 0)
    with patient.connect() as connection:
        connection.sendall(request_of(form((part(), clip), end=False)[0], length=10**6))
        until(patient.left)
        assert patient.metrics()["dualformer_requests_in_work"] == 1
    until(lambda: not patient.left() and patient.metrics()["dualformer_requests_in_work"] == 0)
    until(lambda: patient.metrics().get(name, 0) == before + 1)


def test_more_at_once_than_are_taken_are_told_when_to_come_back(patient: Running, clip: bytes) -> None:
    body = form((part(), clip))[0]
    with patient.connect() as one, patient.connect() as two:
        for connection in (one, two):
            connection.sendall(request_of(body)[:-10])
        until(lambda: patient.metrics()["dualformer_requests_in_work"] == 2)
        response = patient.predict(clip)
        assert patient.refusal(response) == (429, "too_many_requests")
        assert response.headers["retry-after"] == "1"
        assert httpx.get(f"{patient.url}/health").status_code == 200
        one.sendall(request_of(body)[-10:])
        assert one.recv(2**16).startswith(b"HTTP/1.1 200")
        two.sendall(request_of(body)[-10:])
        assert two.recv(2**16).startswith(b"HTTP/1.1 200")
    assert patient.predict(clip).status_code == 200


def test_without_the_token_nobody_gets_in(clip: bytes) -> None:
    with serving() as service, running(service, token=f"{TOKEN}\n") as server:  # as it is read from a file
        wrong = ("", f"Basic {TOKEN}", "Bearer", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", TOKEN)
        for headers in (authorization(each) for each in wrong):
            for path in ("/", "/metrics", "/openapi.json", "/nothing"):
                assert server.refusal(httpx.get(server.url + path, headers=headers)) == (401, "unauthorized")
            response = server.predict(clip, headers=headers)
            assert server.refusal(response) == (401, "unauthorized")
            assert response.headers["www-authenticate"] == "Bearer"
            for path in ("/health", "/ready"):
                assert httpx.get(server.url + path, headers=headers).status_code == 200
        for kind in ("Bearer", "bearer"):
            right = authorization(f"{kind} {TOKEN}")
            assert server.predict(clip, headers=right).status_code == 200
            assert httpx.get(f"{server.url}/metrics", headers=right).status_code == 200


def authorization(value: str) -> dict[bytes, bytes]:
    return {b"Authorization": value.encode()} if value else {}


def test_a_page_and_a_token_do_not_go_together() -> None:
    with serving() as service:
        with pytest.raises(ValueError, match="cannot ask for a token"):
            make_app(service, token=TOKEN, ui=True)
        with pytest.raises(ValueError, match="the token is empty"):
            make_app(service, token=" ")


def test_a_server_that_stops_finishes_what_it_has_begun(clip: bytes) -> None:
    with serving() as service, running(service) as server, ThreadPoolExecutor(1) as threads:
        body = form((part(), clip))[0]
        with server.connect() as connection:
            connection.sendall(request_of(body)[:-10])
            until(lambda: server.metrics()["dualformer_requests_in_work"] == 1)
            service.stop_accepting()
            response = httpx.get(f"{server.url}/ready")
            assert server.refusal(response) == (503, "shutting_down") and response.headers["retry-after"] == "5"
            refused = server.predict(clip)
            assert server.refusal(refused) == (503, "shutting_down")
            assert httpx.get(f"{server.url}/health").status_code == 200
            server.stop()
            answer = threads.submit(read_all, connection)
            connection.sendall(request_of(body)[-10:])
            assert answer.result().startswith("HTTP/1.1 200")
        until(lambda: not service.folder.path.exists())


def test_a_service_that_is_closed_refuses_who_still_waits(tmp_path: Path) -> None:
    path = film(tmp_path / "clip.mp4")

    async def waits() -> None:
        with serving() as service:
            (worker,) = service._decoders._workers
            os.kill(worker.pid, signal.SIGSTOP)
            asked = asyncio.create_task(service.predict(path))
            await asyncio.sleep(0.1)
            await service.close()
            with pytest.raises(RequestError) as refused:
                await asked
            assert refused.value.code == "shutting_down"
            assert not worker.is_alive and not service.folder.path.exists()
            with pytest.raises(RequestError, match="shutting down"):
                await service.predict(path)

    asyncio.run(waits())
