"""The web page from below the browser: what its guard lets through, what its buttons answer, what it keeps."""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from html import unescape
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from urllib.parse import quote

import pytest

if find_spec("gradio") is None:  # importing it would settle where it keeps its files
    pytest.skip("the extra [web] is not installed", allow_module_level=True)

import httpx
from made_server import WAIT, Running, exported_recognizer, film, serving, small_recognizer, until
from starlette.types import Message

from dualformer.errors import DualFormerError
from dualformer.inference.recognizer import Prediction, Recognizer
from dualformer.segment import Segment
from dualformer.serving.app import make_app
from dualformer.serving.limits import Limits
from dualformer.serving.page import page_text
from dualformer.serving.page.examples import are_known, render_examples
from dualformer.serving.page.mount import remove_old
from dualformer.serving.page.request_filter import RequestFilter, folder_size
from dualformer.serving.server import bind, make_server
from dualformer.serving.service import Service

MOST = 100_000
API = "/gradio_api"


@contextmanager
def page_of(service: Service) -> Iterator[Running]:
    """The page in a thread."""
    listening = bind("127.0.0.1", 0)
    server = make_server(make_app(service, ui=True), service, grace=5)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        until(lambda: server.started)
        yield Running(service=service, port=listening.getsockname()[1], stop=lambda: None)
    finally:
        server.should_exit = True
        thread.join(WAIT)
        assert not thread.is_alive()


@pytest.fixture(scope="module")
def page() -> Iterator[Running]:
    limits = Limits(max_bytes=MOST, concurrency=3, upload_seconds=2)
    with serving(limits=limits, name="small") as service, page_of(service) as running:
        yield running


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return film(tmp_path_factory.mktemp("films") / "clip.mp4", frames=60)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/predict", "POST"),
        ("PUT", "/predict", "POST"),
        ("POST", "/health", "GET"),
        ("DELETE", "/metrics", "GET"),
    ],
)
def test_a_wrong_method_beside_the_page_is_told_the_right_one(
    page: Running, method: str, path: str, allowed: str
) -> None:
    response = httpx.request(method, f"{page.url}{path}")
    assert (response.status_code, response.headers["allow"]) == (405, allowed)
    assert httpx.options(f"{page.url}{path}").headers["allow"] == ", ".join(sorted({allowed, "OPTIONS"}))


@pytest.fixture
def trap() -> Iterator[tuple[int, list[bytes]]]:
    """A port of this machine, and what anybody says who comes to it."""
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def listen() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                with connection, suppress(ConnectionError):
                    heard.append(connection.recv(1000))

        threading.Thread(target=listen, daemon=True).start()
        yield listening.getsockname()[1], heard
        listening.shutdown(socket.SHUT_RDWR)


def kept(page: Running) -> set[str]:
    """What lies in the page's folder besides the examples, and a folder that Gradio makes when it starts."""
    return {path.name for path in (page.service.folder.path / "page").iterdir()} - {"examples", "vibe_edit_history"}


def upload(page: Running, content: bytes, name: str = "clip.mp4", field: str = "files") -> httpx.Response:
    return httpx.post(f"{page.url}{API}/upload", files={field: (name, content)}, timeout=WAIT)


def ask(page: Running, data: list[Any], outputs: int = 6, session: str = "a") -> Any:
    """What the page's event with so many outputs finally says of each, as its browser side would ask; or the code of a
    refusal."""
    config = httpx.get(f"{page.url}/config").json()
    (event,) = (each["id"] for each in config["dependencies"] if len(each["outputs"]) == outputs)
    question = {"data": data, "fn_index": event, "session_hash": session, "trigger_id": None, "event_data": None}
    joined = httpx.post(f"{page.url}{API}/queue/join", json=question)
    if joined.status_code != 200:
        return joined.json()["error"]["code"]
    said: dict[str, Any] = {}
    with httpx.stream("GET", f"{page.url}{API}/queue/data", params={"session_hash": session}, timeout=WAIT) as stream:
        for line in stream.iter_lines():
            message = json.loads(line.removeprefix("data:")) if line.startswith("data:") else {}
            if message.get("msg") == "process_completed":
                said = message
                break
    assert said["success"], said
    return said["output"]["data"]


def named(path: str, **more: Any) -> dict[str, Any]:
    return {"path": path, "orig_name": "clip.mp4", "meta": {"_type": "gradio.FileData"}, **more}


def test_an_upload_is_answered_with_labels_a_timeline_and_an_explanation(page: Running, clip: Path) -> None:
    (path,) = upload(page, clip.read_bytes()).json()
    assert Path(path).read_bytes() == clip.read_bytes()
    said = ask(page, [named(path)])
    prediction = small_recognizer()(clip)
    status, labels, note, choice, shown, timeline = said
    bars = {each["label"]: each["confidence"] for each in labels["value"]["confidences"]}
    assert bars == pytest.approx(dict(prediction.top(5)), abs=1e-5)
    assert "small: " in status and "2 clips × 1 crop of 4 frames at 32×32" in status
    assert note["visible"] is False
    assert choice["value"] == prediction.label and len(choice["choices"]) == 5
    assert shown["value"].startswith('<video src="data:video/mp4;base64,')
    assert timeline["visible"] and "data:image/png;base64," in timeline["value"]
    [within] = re.findall(r'srcdoc="([^"]*)"', timeline["value"])
    [data] = re.findall(r'id="data">(.*?)</script>', unescape(within), flags=re.DOTALL)
    [shown_film] = json.loads(data)["films"]
    assert shown_film["path"] == "clip.mp4" and len(shown_film["predicted"]) == len(
        small_recognizer().timeline(clip).segments
    )
    assert httpx.get(f"{page.url}/{shown_film['source']}").content == clip.read_bytes()
    assert kept(page) == {Path(path).parent.name}, "what was made for the answer is in the answer"


def test_another_class_is_explained(page: Running, clip: Path) -> None:
    (path,) = upload(page, clip.read_bytes()).json()
    said = ask(page, [named(path), "still"], outputs=2)
    assert "what speaks for still" in said[1]["value"]


def test_a_bad_file_gets_one_line_and_the_next_one_is_answered(page: Running, clip: Path) -> None:
    (bad,) = upload(page, b"<script>alert(1)</script>" * 9, name="<b>.mp4").json()
    status, *others = ask(page, [named(bad)])
    assert re.fullmatch(r'<p class="refused" role="alert">[^<>]*cannot be opened[^<>]*</p>', status)
    assert "Traceback" not in status and str(page.service.folder.path) not in status
    assert not any(component["visible"] for component in others)
    (good,) = upload(page, clip.read_bytes()).json()
    assert ask(page, [named(good)])[1]["visible"]
    assert "Drop a video" in ask(page, [None])[0]


def test_files_of_the_server_are_out_of_reach(page: Running) -> None:
    folder = page.service.folder.path
    (folder / "secret").write_text("no")
    outside = [
        "/etc/passwd",
        "/proc/self/environ",
        str(folder / "secret"),
        str(folder / "page" / ".." / "secret"),
        str(folder / "page"),
        "../../../../etc/passwd",
        "x\0y",
        "/" + "a" * 5000,
    ]
    for name in outside:
        assert httpx.get(f"{page.url}{API}/file={quote(name)}").status_code == 404, name
        assert httpx.head(f"{page.url}{API}/file={quote(name, safe='')}").status_code == 404, name
        assert ask(page, [named(name)]) == "not_found", name
        assert ask(page, [[{"video": named(name)}]]) == "not_found", name
    assert ask(page, [{"path": 7}]) == ask(page, [{"path": ["/etc/passwd"]}]) == "bad_request"
    (folder / "secret").unlink()


def test_a_link_in_the_folder_leads_nowhere(page: Running) -> None:
    link = page.service.folder.path / "page" / "link"
    link.symlink_to("/etc/passwd")
    assert httpx.get(f"{page.url}{API}/file={link}").status_code == 404
    link.unlink()


def test_addresses_that_a_client_names_are_not_asked(page: Running, clip: Path, trap: tuple[int, list[bytes]]) -> None:
    port, heard = trap
    before = kept(page)
    for url in (f"http://127.0.0.1:{port}/a.mp4", f"http://localhost:{port}/a.mp4", "https://example.com/a.mp4"):
        for route in (f"file={url}", f"file={quote(url, safe='')}", f"proxy={url}"):
            assert httpx.get(f"{page.url}{API}/{route}").status_code == 404, route
        assert ask(page, [named(url)]) == ask(page, [named(url, url=url)]) == "not_found"
    assert kept(page) == before
    (path,) = upload(page, clip.read_bytes()).json()
    assert ask(page, [named(path, url=f"http://127.0.0.1:{port}/a.mp4")])[1]["visible"]
    assert heard == []


def test_routes_that_the_page_does_not_need_are_closed(page: Running) -> None:
    for method, path in (
        ("POST", f"{API}/run/predict"),
        ("POST", f"{API}/run/_recognise"),
        ("POST", f"{API}/api/predict"),
        ("POST", f"{API}/call/_recognise"),
        ("POST", f"{API}/call/v2/_recognise"),
        ("POST", f"{API}/component_server"),
        ("POST", f"{API}/process_recording"),
        ("POST", f"{API}/vibe-edit"),
        ("POST", f"{API}/stream/x"),
        ("GET", f"{API}/vibe-code"),
        ("GET", f"{API}/runs"),
        ("GET", f"{API}/openapi.json"),
        ("GET", f"{API}/custom_component/x/client/y/z"),
        ("GET", f"{API}/deep_link"),
        ("GET", f"{API}/upload_progress?upload_id=x"),
        ("GET", f"{API}/dev/reload"),
        ("GET", "/monitoring"),
        ("POST", "/login"),
        ("GET", "/docs"),
        ("DELETE", "/"),
        ("POST", "/"),
    ):
        assert httpx.request(method, f"{page.url}{path}", json={}).status_code in (404, 405), path


def test_what_is_no_upload_is_refused_and_leaves_nothing(page: Running) -> None:
    before = kept(page)
    refused = upload(page, b"0" * (MOST + 1))
    assert (
        refused.status_code == 413
        and refused.text == f"the file has more than {MOST} bytes: cut it, or make it smaller"
    )
    assert upload(page, b"").status_code == 400
    assert upload(page, b"0" * 9, field="video").status_code == 400
    two = [("files", ("a.mp4", b"1")), ("files", ("b.mp4", b"2"))]
    assert httpx.post(f"{page.url}{API}/upload", files=two).status_code == 400
    assert httpx.post(f"{page.url}{API}/upload", json={}).status_code == 415
    assert kept(page) == before


def test_a_slow_upload_is_given_up(page: Running) -> None:
    before = kept(page)
    head = b"POST /gradio_api/upload HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n"
    with page.connect() as connection:
        connection.sendall(head + b"Content-Type: multipart/form-data; boundary=xyz\r\n\r\n--xyz\r\n")
        assert connection.recv(1000).startswith(b"HTTP/1.1 408 ")
    assert kept(page) == before


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "..\\..\\x.mp4", "..", ".hidden", "/etc/passwd", "é" * 300, "a\nb"]
)
def test_what_a_client_calls_its_file_is_no_path(page: Running, name: str) -> None:
    body = f'--xyz\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\nx\r\n--xyz--\r\n'
    kind = {"Content-Type": "multipart/form-data; boundary=xyz"}
    answer = httpx.post(f"{page.url}{API}/upload", content=body.encode(), headers=kind)
    if answer.status_code == 400:
        assert name == "a\nb"
        return
    (path,) = answer.json()
    assert Path(path).resolve().parent.parent == (page.service.folder.path / "page").resolve()
    assert Path(path).read_bytes() == b"x" and not Path(path).name.startswith(".")


def test_questions_are_small_json_objects(page: Running) -> None:
    join = f"{page.url}{API}/queue/join"
    for content in (b"{", b"[]", b"7", b'"x"', b"[" * 60_000):
        assert httpx.post(join, content=content).json()["error"]["code"] == "bad_request"
    for depth in (600, 980):  # which can be read
        nested = b'{"data": ' + b"[" * depth + b"]" * depth + b"}"
        assert httpx.post(join, content=nested).status_code < 500
    assert httpx.post(join, content=b" " * 70_000).json()["error"]["code"] == "file_too_large"


def test_uploads_wait_where_too_much_is_kept(page: Running) -> None:
    large = page.service.folder.path / "page" / "large"
    with large.open("wb") as file:
        file.truncate(3 * MOST + 1)
    assert folder_size(large.parent) > 3 * MOST
    assert upload(page, b"0").status_code == 429
    large.unlink()
    with page.service.slot(), page.service.slot(), page.service.slot():
        busy = upload(page, b"0")
    assert busy.status_code == 429 and busy.headers["retry-after"] == "1"
    assert upload(page, b"0").status_code == 200


def test_the_browser_is_told_to_ask_nobody_else(page: Running) -> None:
    for path in ("/", "/config", "/theme.css", f"{API}/file=/nowhere"):
        answer = httpx.get(f"{page.url}{path}")
        policy = dict(
            rule.split(" ", 1) for rule in answer.headers.get("content-security-policy", "").split("; ") if rule
        )
        if answer.status_code == 200:
            assert policy["default-src"] == "'self'" and policy["connect-src"] == "'self' data: blob:"
            assert not any("http" in rule or "*" in rule for rule in policy.values())
    html = httpx.get(f"{page.url}/").text
    assert not re.findall(r"<(?:script|link|img|iframe)\b[^>]*(?:src|href)=[\"']?(?:https?:)?//", html)
    css = httpx.get(f"{page.url}/theme.css").text
    assert "system-ui" in css and "@import" not in css and not re.search(r"url\([\"']?(?:https?:)?//", css)


def test_the_other_routes_are_there_beside_the_page(page: Running, clip: Path) -> None:
    assert page.predict(clip.read_bytes()).json()["label"] == small_recognizer()(clip).label
    assert httpx.get(f"{page.url}/health").json() == {"status": "alive"}
    assert httpx.get(f"{page.url}/").headers["content-type"].startswith("text/html")


def test_an_exported_model_labels_and_says_that_it_cannot_explain(clip: Path) -> None:
    with serving(exported_recognizer()) as service, page_of(service) as page:
        (path,) = upload(page, clip.read_bytes()).json()
        status, labels, note, choice, shown, timeline = ask(page, [named(path)])
        assert "an exported model (torch)" in status and labels["visible"] and timeline["visible"]
        assert "cannot explain" in note["value"]
        assert not choice["visible"] and not shown["visible"]


def test_an_open_page_does_not_keep_a_server_from_stopping() -> None:
    """A page holds a connection that never ends by itself."""
    service = SimpleNamespace(is_ready=True)
    heard: list[Message] = []

    async def never_ends(scope: Any, receive: Any, send: Any) -> None:
        heard.append(await receive())

    async def silent() -> Message:
        await asyncio.sleep(WAIT)
        return {"type": "http.request"}

    async def run() -> float:
        guard = RequestFilter(never_ends, cast(Service, service), Path())
        asyncio.get_running_loop().call_later(0.2, lambda: setattr(service, "is_ready", False))
        begun = time.monotonic()
        scope = {"type": "http", "method": "GET", "path": f"{API}/heartbeat/x", "headers": []}
        await guard(scope, silent, silent)  # type: ignore[arg-type]
        return time.monotonic() - begun

    assert asyncio.run(run()) < 2
    assert heard == [{"type": "http.disconnect"}]


def test_old_files_are_removed_and_the_examples_stay(tmp_path: Path) -> None:
    for name in ("old/a", "new/a", "examples/a"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    (tmp_path / "half an upload").touch()
    for name in ("old", "examples", "half an upload"):
        os.utime(tmp_path / name, (time.time() - 100, time.time() - 100))
    (tmp_path / "gone").symlink_to(tmp_path / "absent")  # as what somebody else removes while it is looked at
    remove_old(tmp_path, 60)
    assert {path.name for path in tmp_path.iterdir()} == {"new", "examples", "gone"}


def test_the_examples_are_what_they_are_called(tmp_path: Path) -> None:
    recognizer = Recognizer.load("rendered", device="cpu")
    *single, (_, several) = render_examples(tmp_path).items()
    for name, path in single:
        prediction = recognizer(path)
        assert (prediction.label, prediction.probability > 0.9) == (name, True)
    timeline = recognizer.timeline(several)
    assert [segment.label for segment in timeline.segments] == ["right", "up", "left-right"]
    assert are_known(recognizer.labels) and not are_known(("clap", "wave"))


def test_what_comes_from_users_is_escaped() -> None:
    evil = "<img src=x onerror=alert(1)>\"'&"
    recognizer = small_recognizer()
    service = cast(Service, SimpleNamespace(recognizer=recognizer, name=evil, limits=Limits()))
    prediction = replace(
        recognizer.prediction_of("x", recognizer.predict_views(_no_views())[0]),
        labels=(evil, *"bcde"),
        multi_label=True,
    )
    timeline = SimpleNamespace(
        seconds=3.0, error=evil, segments=(Segment(label=evil, start=0.0, end=3.0, probability=0.5),)
    )
    said = [
        page_text.result_html(service, cast(Prediction, prediction), 1.0),
        page_text.error_html(str(DualFormerError(evil))),
        page_text.working_html(evil),
        page_text.note_html(evil),
        page_text.film_html(b"", evil),
        page_text.timeline_html(cast(Any, timeline), evil, b""),
    ]
    for html in said:
        assert "&lt;img src=x" in html
        assert "<img src=x" not in html and "\"'&" not in html


def _no_views() -> Any:
    import torch

    return torch.zeros(1, 4, 32, 32, 3, dtype=torch.uint8)
