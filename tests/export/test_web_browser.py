"""The web page in a real browser: as a file and from a server, it says what `predict` says, and asks nobody."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from browsers import CAMERA, NO_RUNTIME, RUNTIME, open_browser
from dualformer import Recognizer
from dualformer.datasets.rendered_draw import render
from dualformer.datasets.rendered_scene import ALL, Scene
from dualformer.export.export_data import rendered_clips
from dualformer.export.export_weights import export_weights
from dualformer.export.web_page import write_web_page
from dualformer.export.web_runtime import find_runtime
from dualformer.video.clip_reader import Views
from dualformer.weights.safetensors_file import load_weights

pytest.importorskip("playwright", reason="playwright is not installed")
pytest.importorskip("onnxscript", reason="the extra [export] is not installed")
pytest.importorskip("onnxruntime", reason="the extra [export] is not installed")

from playwright.sync_api import Browser, Page

if not RUNTIME.exists():
    pytest.skip(NO_RUNTIME, allow_module_level=True)

SECONDS = 60


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of the weights that come with the package."""
    model, card = load_weights("rendered")
    out = tmp_path_factory.mktemp("web") / "page"
    runtime = find_runtime(RUNTIME)

    def pack(path: Path, folder: Path) -> None:
        write_web_page(path, folder, name="rendered", views=Views(2, 1), runtime=runtime)

    clips = rendered_clips(card.preprocessing, count=2)
    return export_weights(model, card, out, format="onnx", batch=1, clips=clips, pack=pack).path


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A rendered motion in VP9, which every chromium plays, and its frames are not equally far apart."""
    return write_film(tmp_path_factory.mktemp("film") / "a <b>film.webm", frames=40)


def write_film(path: Path, *, frames: int) -> Path:
    pictures = render(Scene(size=128, frames=40, classes=ALL), 3, (0, 7)).frames[:frames]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libvpx-vp9", rate=25, options={"crf": "20", "deadline": "realtime"})
        stream.width, stream.height, stream.pix_fmt = 128, 128, "yuv420p"
        stream.codec_context.gop_size = 20
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.pts, frame.time_base = 40 * number + (number > 20) * 25, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    """Of a plain server of the folder."""

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder))) as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{serving.server_port}/"
        serving.shutdown()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_browser(*CAMERA) as started:
        yield started


@pytest.fixture(params=["file", "http"])
def page(request: pytest.FixtureRequest, browser: Browser, folder: Path) -> Iterator[Page]:
    url = (folder / "index.html").as_uri() if request.param == "file" else request.getfixturevalue("address")
    page = browser.new_page()
    asked: list[str] = []
    said: list[str] = []
    page.on("request", lambda one: asked.append(one.url))
    page.on("console", lambda one: said.append(one.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(url)
    wait_for(page, "statusLine.textContent.startsWith('Ready') || statusLine.className === 'wrong'")
    assert page.inner_text("#status") == "Ready."
    assert float(page.evaluate("checkLine.dataset.away")) < 1e-4
    loaded = len(asked)
    yield page
    page.close()
    home = url.removesuffix("index.html")
    assert loaded >= 10 and all(
        one.startswith((home, f"blob:{home.rstrip('/')}", "blob:null", "data:")) for one in asked
    )
    assert all(one.startswith("blob:") for one in asked[loaded:]), "once loaded, it reads what it is given and no more"
    assert [text for text in said if "adapter" not in text] == []


def wait_for(page: Page, condition: str) -> None:
    """Playwright's own way evaluates text in the page, which the page's policy forbids."""
    end = time.monotonic() + SECONDS
    while not page.evaluate(condition):
        assert time.monotonic() < end, page.inner_text("body")
        page.wait_for_timeout(50)


def answers(page: Page) -> dict[str, float]:
    lines = "[...labelList.children].map((line) => [line.dataset.label, Number(line.dataset.probability)])"
    found: Any = page.evaluate(lines)
    return dict(found)


def test_a_video_gets_the_labels_of_predict(page: Page, film: Path) -> None:
    expected = Recognizer.load("rendered", device="cpu", views="2x1")(film)
    page.set_input_files("#file", film)
    wait_for(page, "labelList.children.length > 0 || statusLine.className === 'wrong'")
    assert page.inner_text("#status") == "a <b>film.webm: the mean of 2 views of its 40 frames."
    found = answers(page)
    assert list(found) == [label for label, _ in expected.top(5)]
    assert list(found.values()) == pytest.approx([probability for _, probability in expected.top(5)], abs=1e-4)
    assert "WebAssembly, 1 thread" in page.inner_text("#speed")
    page.click("#live")
    wait_for(page, "statusLine.textContent.endsWith('live.')")
    assert len(answers(page)) == 5


def test_what_is_no_video_is_told_and_the_camera_goes_on(page: Page, tmp_path: Path) -> None:
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"<script>this is no video</script>" * 50)
    page.set_input_files("#file", bad)
    wait_for(page, "statusLine.className === 'wrong'")
    assert page.inner_text("#status").startswith("bad.mp4: this browser cannot play it")
    assert page.is_visible("#empty") and not page.is_visible("#video")
    page.click("#camera")
    wait_for(page, "statusLine.textContent === 'Camera: live.' && labelList.children.length === 5")
    page.click("#stop")
    assert page.inner_text("#status") == "Stopped." and answers(page) == {}
    assert page.evaluate("video.srcObject === null")
    assert page.is_visible("#empty") and not page.is_visible("#video")


def test_a_damaged_video_is_named_and_a_short_one_gets_the_note_of_predict(page: Page, tmp_path: Path) -> None:
    damaged = write_film(tmp_path / "damaged.webm", frames=40)
    content = damaged.read_bytes()
    end = len(content) // 3
    damaged.write_bytes(content[:end] + bytes(0x5A ^ byte for byte in content[end:]))
    page.set_input_files("#file", damaged)
    wait_for(page, "statusLine.className === 'wrong'")
    assert page.inner_text("#status").startswith("damaged.webm: this browser cannot decode it; it may be damaged (")
    assert page.is_visible("#empty") and not page.is_visible("#video")
    page.set_input_files("#file", short := write_film(tmp_path / "short.webm", frames=9))
    wait_for(page, "labelList.children.length > 0 || statusLine.className === 'wrong'")
    [note] = Recognizer.load("rendered", device="cpu")(short).notes
    assert page.inner_text("#status") == f"short.webm: the mean of 2 views of its 9 frames. Note: {note}."


def test_the_page_begins_with_the_camera_where_its_address_says_so(browser: Browser, address: str) -> None:
    page = browser.new_page()
    page.goto(f"{address}?camera")
    wait_for(page, "statusLine.textContent === 'Camera: live.' && labelList.children.length === 5")
    page.close()
