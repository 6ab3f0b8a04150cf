"""What is sent to /predict, good and bad: the answers, and that nothing is left behind."""

from __future__ import annotations

import gzip
import io
import json
import logging
import threading
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
from made_server import (
    LABELS,
    Running,
    exported_recognizer,
    film,
    form,
    part,
    running,
    samples,
    serving,
    small_recognizer,
    until,
)

from dualformer.serving.limits import Limits
from dualformer.serving.request_error import STATUS
from dualformer.serving.uploads import base_name

MOST = 300_000


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    limits = Limits(max_bytes=MOST, max_seconds=20, concurrency=8)
    with serving(limits=limits, name="small") as service, running(service) as server:
        yield server


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return film(tmp_path_factory.mktemp("films") / "clip.mp4")


@pytest.fixture(autouse=True)
def nothing_is_left(server: Running) -> Iterator[None]:
    yield
    until(lambda: not server.left() and server.metrics()["dualformer_requests_in_work"] == 0)


def test_a_video_is_labelled_as_the_recognizer_labels_it(server: Running, clip: Path) -> None:
    said = server.predict(clip.read_bytes(), name="some clip.mp4", params={"top": 3}).json()
    expected = small_recognizer()(clip)
    assert [each["label"] for each in said["top"]] == [label for label, _ in expected.top(3)]
    assert [each["probability"] for each in said["top"]] == pytest.approx([p for _, p in expected.top(3)], abs=1e-5)
    assert (said["label"], said["source"], said["model"]) == (expected.label, "some clip.mp4", "small")
    assert said["probability"] == pytest.approx(expected.probability, abs=1e-5)
    assert (said["frames"], said["seconds"], said["above"]) == (24, pytest.approx(0.96), None)
    assert set(said["timing"]) == {"upload", "decode", "wait", "network"} and min(said["timing"].values()) >= 0


def test_of_several_labels_those_above_the_threshold_are_named(clip: Path) -> None:
    recognizer = small_recognizer(multi_label=True)
    (_, second), (_, third) = recognizer(clip).top(3)[1:]
    with serving(recognizer) as service, running(service) as server:
        said = server.predict(clip.read_bytes(), params={"threshold": (second + third) / 2}).json()
    expected = recognizer(clip).top(2)
    assert [(each["label"], pytest.approx(each["probability"], abs=1e-5)) for each in said["above"]] == expected


def test_of_one_label_those_above_a_threshold_are_named_as_predict_names_them(server: Running, clip: Path) -> None:
    (_, first), (_, second), *_ = small_recognizer()(clip).top()
    for threshold in ((first + second) / 2, (first + 1) / 2, 0):
        said = server.predict(clip.read_bytes(), params={"threshold": threshold}).json()["above"]
        expected = small_recognizer()(clip).above(threshold)
        assert [(each["label"], pytest.approx(each["probability"], abs=1e-5)) for each in said] == expected


def test_exported_models_answer(clip: Path) -> None:
    with serving(exported_recognizer()) as service, running(service) as server:
        said = server.predict(clip.read_bytes()).json()
    assert said["probability"] == pytest.approx(small_recognizer()(clip).probability, abs=1e-5)


def test_requests_that_come_together_go_through_the_network_together(server: Running, clip: Path) -> None:
    expected = small_recognizer()(clip).probability
    begin, enough = threading.Event(), threading.Event()
    predict = server.service._batcher._predict

    def held_up(views: torch.Tensor) -> np.ndarray:
        begin.set()
        assert enough.wait(30)
        return predict(views)

    before = server.metrics()
    server.service._batcher._predict = held_up
    try:
        with ThreadPoolExecutor(8) as threads:
            answers = [threads.submit(server.predict, clip.read_bytes())]
            begin.wait(30)
            answers += [threads.submit(server.predict, clip.read_bytes()) for _ in range(4)]
            # Four more videos of two views wait now, and the server answers others meanwhile.
            until(lambda: server.metrics()["dualformer_queue_views"] == 8)
            assert httpx.get(f"{server.url}/health").json() == {"status": "alive"}
            assert httpx.get(f"{server.url}/ready").json() == {"status": "ready"}
            enough.set()
            probabilities = [answer.result().json()["probability"] for answer in answers]
    finally:
        server.service._batcher._predict = predict
    assert probabilities == pytest.approx([expected] * 5, abs=1e-5)
    after = server.metrics()
    assert after["dualformer_batch_views_count"] - before["dualformer_batch_views_count"] == 2
    assert after["dualformer_batch_views_sum"] - before["dualformer_batch_views_sum"] == 10


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("../../etc/passwd", "passwd"),
        ("..\\..\\windows\\win.ini", "win.ini"),
        ("/etc/shadow", "shadow"),
        ("http://127.0.0.1:1/x.mp4", "x.mp4"),
        ("a%0Ab\u2028c\x7f.mp4", "a_0Ab_c_.mp4"),
        ("..", "unnamed"),
        ("é" * 300 + ".mp4", "é" * 116 + ".mp4"),
    ],
)
def test_a_name_is_never_a_path(name: str, shown: str, server: Running, clip: Path) -> None:
    assert base_name(name) == shown
    body, kind = form((part(filename=name), clip.read_bytes()))
    response = httpx.post(f"{server.url}/predict", content=body, headers={"Content-Type": kind}, timeout=30)
    assert response.status_code == 200, response.text
    assert response.json()["source"] == shown


HEAD = part()
FORM = {"Content-Type": form()[1]}
BODIES: dict[str, tuple[bytes, dict[str, str], tuple[int, str]]] = {
    "no file": (form((part("other"), b"x"))[0], FORM, (400, "bad_request")),
    "a field in place of a file": (form((part(filename=None), b"x"))[0], FORM, (400, "bad_request")),
    "two files": (form((HEAD, b"x"), (HEAD, b"x"))[0], FORM, (400, "bad_request")),
    "a file and a field": (form((HEAD, b"x"), (part("a", None), b"x"))[0], FORM, (400, "bad_request")),
    "an empty file": (form((HEAD, b""))[0], FORM, (400, "bad_request")),
    "an empty form": (b"--xyz--\r\n", FORM, (400, "bad_request")),
    "no body": (b"", FORM, (400, "bad_request")),
    "a form that breaks off": (form((HEAD, b"x" * 1000), end=False)[0], FORM, (400, "bad_request")),
    "no form": (b"hello" * 100, FORM, (400, "bad_request")),
    "no boundary": (b"hello", {"Content-Type": "multipart/form-data"}, (400, "bad_request")),
    "a long header": (form((HEAD + "\r\nX-Long: " + "x" * 9000, b"x"))[0], FORM, (400, "bad_request")),
    "JSON": (b"{}", {"Content-Type": "application/json"}, (415, "unsupported_body")),
    "a bare video": (b"\0" * 100, {"Content-Type": "video/mp4"}, (415, "unsupported_body")),
    "no content type": (b"\0" * 100, {}, (415, "unsupported_body")),
    "compressed": (
        gzip.compress(form((HEAD, b"\0" * 10_000_000))[0]),
        {**FORM, "Content-Encoding": "gzip"},
        (415, "unsupported_body"),
    ),
}


@pytest.mark.parametrize("what", BODIES)
def test_bodies_that_are_no_form_with_one_file(what: str, server: Running) -> None:
    body, headers, expected = BODIES[what]
    response = httpx.post(f"{server.url}/predict", content=body, headers=headers, timeout=30)
    assert server.refusal(response) == expected


def _zip_of_zeros() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.mp4", b"\0" * 50_000_000)
    return file.getvalue()


@pytest.mark.parametrize(
    "content",
    [b"#!/bin/sh\nrm -rf x\n", b"\0" * 5000, b"GET / HTTP/1.1\r\n\r\n", gzip.compress(b"\0" * 10**7), _zip_of_zeros()],
    ids=["script", "zeros", "text", "gzip", "zip"],
)
def test_files_that_are_no_video(content: bytes, server: Running) -> None:
    assert server.refusal(server.predict(content)) == (415, "unsupported_file")


def test_a_file_may_have_so_many_bytes(server: Running, clip: Path) -> None:
    whole = clip.read_bytes()
    padded = whole + b"\0\0\0\x08free" * ((MOST - len(whole)) // 8)  # boxes of MP4 that mean nothing
    assert MOST - 8 < len(padded) <= MOST
    assert server.predict(padded).status_code == 200
    assert server.refusal(server.predict(padded + b"\0" * 16)) == (413, "file_too_large")
    assert server.refusal(server.predict(padded * 20)) == (413, "file_too_large")


def test_so_many_bytes_whatever_the_header_says(server: Running) -> None:
    head = form((part(), b""), end=False)[0]

    def chunks() -> Iterator[bytes]:  # chunked: no length is said at all
        yield head
        for _ in range(100):
            yield b"\0" * 10_000

    response = httpx.post(f"{server.url}/predict", content=chunks(), headers=FORM, timeout=30)
    assert server.refusal(response) == (413, "file_too_large")
    # What is around the file counts as well.
    response = httpx.post(f"{server.url}/predict", content=b"\r\n" * MOST, headers=FORM, timeout=30)
    assert response.status_code in (400, 413)


def test_who_sends_too_much_hears_so_while_sending(server: Running) -> None:
    with server.connect() as connection:
        connection.sendall(
            b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=xyz\r\n"
            b"Content-Length: 99999999\r\n\r\n"
        )
        connection.sendall(b"\0" * 1000)
        assert connection.recv(2**16).startswith(b"HTTP/1.1 413")
        connection.sendall(b"\0" * 1000)  # the connection is not reset under its hands


def test_other_paths_and_methods(server: Running) -> None:
    assert server.refusal(httpx.get(f"{server.url}/nothing")) == (404, "not_found")
    assert server.refusal(httpx.get(f"{server.url}/docs")) == (404, "not_found")
    assert server.refusal(httpx.get(f"{server.url}/predict")) == (405, "method_not_allowed")
    assert httpx.get(f"{server.url}/predict").headers["allow"] == "POST"
    response = httpx.post(f"{server.url}/predict", params={"top": 0})
    assert server.refusal(response) == (400, "bad_request") and "top" in response.text
    about = httpx.get(f"{server.url}/").json()
    assert (about["model"], about["classes"], about["limits"]["max_bytes"]) == ("small", len(LABELS), MOST)


@pytest.mark.parametrize("path", ["/predict", "/health", "/ready", "/metrics", "/openapi.json", "/"])
def test_unknown_query_parameters_are_named_wherever_they_are_sent(path: str, server: Running) -> None:
    method = "POST" if path == "/predict" else "GET"
    assert path == "/" or path in httpx.get(f"{server.url}/").json()["paths"]
    response = httpx.request(method, f"{server.url}{path}?speed=3&b")
    assert server.refusal(response) == (400, "bad_request")
    assert "unknown query parameter 'speed', 'b': " in response.text and path in response.text


def test_unknown_query_parameters_have_near_misses(server: Running, clip: Path) -> None:
    for wrong, right in (("tpo", "top"), ("Threshhold", "threshold")):
        response = server.predict(clip.read_bytes(), params={wrong: 2})
        assert server.refusal(response) == (400, "bad_request")
        said = response.json()["error"]["message"]
        assert said == (
            f"unknown query parameter {wrong!r}, perhaps you meant {right}: /predict takes top and threshold"
        )


def test_the_log_has_one_line_for_each_refusal(server: Running, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="dualformer")
    httpx.get(f"{server.url}/a%0Arefused%0D%0A{'b' * 200}")
    body, kind = form((part("fie\x0bld\u2028"), b"x"))
    httpx.post(f"{server.url}/predict", content=body, headers={"Content-Type": kind})
    lines = [record.getMessage() for record in caplog.records if record.name == "dualformer"]
    assert len(lines) == 2
    for line, said in zip(lines, ("GET '/a\\nrefused\\r\\nb", "POST '/predict' 400 bad_request: "), strict=True):
        assert line.startswith("refused 127.0.0.1 ") and said in line
        assert len(line.splitlines()) == 1 and len(line) < 300


def test_metrics_count_what_happened(server: Running, clip: Path) -> None:
    before = server.metrics()
    assert server.predict(clip.read_bytes()).status_code == 200
    server.predict(b"no video")
    httpx.get(f"{server.url}/nothing")
    text = httpx.get(f"{server.url}/metrics")
    assert text.headers["content-type"].startswith("text/plain; version=")
    after = samples(text.text)

    def more(name: str) -> float:
        return after[name] - before.get(name, 0.0)

    assert more('dualformer_requests_total{outcome="ok",path="predict"}') == 1
    assert more('dualformer_requests_total{outcome="unsupported_file",path="predict"}') == 1
    assert more('dualformer_requests_total{outcome="not_found",path="other"}') == 1
    assert more("dualformer_request_seconds_count") == 2
    assert more("dualformer_decode_seconds_count") == more("dualformer_network_seconds_count") == 1
    assert more("dualformer_batch_views_sum") == 2


def test_openapi_documents_every_answer(server: Running) -> None:
    document = httpx.get(f"{server.url}/openapi.json").json()
    predict = document["paths"]["/predict"]["post"]
    assert set(predict["responses"]) == {"200", *(str(status) for status in {*STATUS.values()} - {404, 405, 409})}
    for status, said in predict["responses"].items():
        schema = said["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
        assert schema == ("Labels" if status == "200" else "Failure")
    codes = [code for code, status in STATUS.items() if status not in (404, 405, 409)]
    text = json.dumps(predict["responses"])
    assert all(code in text for code in codes)
    assert list(predict["requestBody"]["content"]) == ["multipart/form-data"]


def test_a_fault_of_the_server_tells_the_client_nothing(server: Running, clip: Path) -> None:
    def broken(views: torch.Tensor) -> np.ndarray:
        raise RuntimeError("secret /path/of/weights")

    before = server.metrics()
    predict, server.service._batcher._predict = server.service._batcher._predict, broken
    try:
        response = server.predict(clip.read_bytes())
    finally:
        server.service._batcher._predict = predict
    assert server.refusal(response) == (500, "internal_error")
    assert "secret" not in response.text
    name = 'dualformer_requests_total{outcome="internal_error",path="predict"}'
    assert server.metrics()[name] == before.get(name, 0) + 1
    assert server.predict(clip.read_bytes()).status_code == 200
