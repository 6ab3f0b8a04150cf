"""The web page in a real browser, served by a process of its own; the browser may ask no other host for anything."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

import pytest

if find_spec("gradio") is None:  # importing it would settle where it keeps its files
    pytest.skip("the extra [web] is not installed", allow_module_level=True)
pytest.importorskip("playwright", reason="playwright is not installed")

from playwright.sync_api import Browser, Page, Request, Route, expect

from browsers import CAMERA, open_browser
from dualformer.datasets.segments.segment_formats import read_segments
from dualformer.serving.page.examples import render_examples

SECONDS = 30
expect.set_options(timeout=SECONDS * 1000)
PLAYS = "() => {const v = document.querySelector('#clip video'); return v && v.readyState >= 2 && v.videoWidth > 0}"


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """By name: rendered motions, several of them one after another, and what is no video."""
    folder = tmp_path_factory.mktemp("films")
    found = render_examples(folder)
    found["bad"] = folder / "bad.mp4"
    found["bad"].write_bytes(b"<script>this is no video</script>" * 50)
    return found


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[subprocess.Popen[str], str, Path]]:
    """The process, its address and where its temporary files are."""
    temp = tmp_path_factory.mktemp("temp")
    words = ["serve", "--weights", "rendered", "--ui", "--port", "0", "--workers", "1", "--device", "cpu"]
    process = subprocess.Popen(
        [sys.executable, "-m", "dualformer", *words],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": str(temp)},
    )
    assert process.stdout is not None
    try:
        said = process.stdout.readline()
        address = re.search(r"http://[\d.:]+", said)
        assert address is not None, said
        yield process, address[0], temp
    finally:
        process.kill()
        process.wait()


@dataclass
class Asked:
    """What the browser wanted from whom."""

    host: str
    elsewhere: list[str] = field(default_factory=list)

    def __call__(self, route: Route, request: Request) -> None:
        parts = urlsplit(request.url)
        if parts.scheme in ("http", "https", "ws", "wss") and parts.netloc != self.host:
            self.elsewhere.append(request.url)
            route.abort()
        else:
            route.continue_()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_browser(*CAMERA) as started:
        yield started


@pytest.fixture
def page(browser: Browser, server: tuple[subprocess.Popen[str], str, Path]) -> Iterator[Page]:
    url = server[1]
    asked = Asked(urlsplit(url).netloc)
    page = browser.new_page(viewport={"width": 1280, "height": 850})
    page.set_default_timeout(SECONDS * 1000)
    page.context.route("**/*", asked)
    page.goto(url)
    page.wait_for_selector("#recognise")
    yield page
    text = page.inner_text("body")
    page.context.close()
    assert asked.elsewhere == []
    assert "Traceback" not in text


def give(page: Page, film: Path) -> None:
    page.set_input_files("#video input[type=file]", film)


def expect_answer(page: Page, label: str) -> None:
    expect(page.locator("#labels h2")).to_have_text(label)
    expect(page.locator("#clip video")).to_have_attribute(
        "aria-label", f"The clip, and beside it what speaks for {label}"
    )
    page.wait_for_function(PLAYS)


def test_a_video_gets_its_label_and_an_explanation_that_plays(page: Page, films: dict[str, Path]) -> None:
    give(page, films["left-right"])
    expect_answer(page, "left-right")
    bars = page.locator("#labels meter")
    assert bars.count() == 5 and float(bars.first.get_attribute("value") or 0) > 0.9
    assert "4 clips × 1 crop of 16 frames at 64×64" in page.inner_text("#status")
    assert not page.is_visible("#timeline"), "the video is one clip long"
    page.click("#class input")
    page.click("ul[role=listbox] li >> nth=1")
    second = page.locator("#labels dt").nth(1).inner_text()
    expect(page.locator("#clip video")).to_have_attribute("aria-label", re.compile(f"speaks for {second}$"))
    page.wait_for_function(PLAYS)


def test_a_bad_file_gets_a_message_and_the_next_one_its_label(page: Page, films: dict[str, Path]) -> None:
    give(page, films["bad"])
    refused = page.locator("#status .refused")
    expect(refused).to_contain_text("it cannot be opened as a video")
    assert not any(page.is_visible(each) for each in ("#labels", "#clip", "#class", "#timeline"))
    assert "Traceback" not in page.inner_text("body")
    page.click("#video button[aria-label=Clear]")
    expect(page.locator("#status")).to_contain_text("Drop a video")
    give(page, films["up-down-up"])
    page.click("#recognise")  # as it may be while the page has begun by itself
    expect_answer(page, "up-down-up")
    assert refused.count() == 0


def test_a_longer_video_has_a_timeline_also_on_a_phone(page: Page, films: dict[str, Path]) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.click("#examples >> text=one after another")
    rows = page.frame_locator("#timeline iframe").locator(".row")
    expect(rows.last.locator(".segment")).to_have_count(3)
    page.wait_for_function(PLAYS)
    page.wait_for_function("() => document.querySelector('#timeline img').naturalWidth > 600")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.evaluate("document.querySelector('.timeline div').clientWidth") <= 390
    hint = page.evaluate("getComputedStyle(document.querySelector('.timeline div'), '::before').content")
    assert hint == '"Scroll the picture sideways →"'


def test_segments_are_played_corrected_and_saved(page: Page, films: dict[str, Path], tmp_path: Path) -> None:
    film = tmp_path / "my & 'film' 50%.mp4"
    shutil.copy(films["three, one after another"], film)
    give(page, film)
    editor = page.frame_locator("#timeline iframe")
    predicted, corrected = (editor.locator(".row").nth(number).locator(".segment") for number in range(2))
    expect(predicted).to_have_count(3)
    player = editor.locator("#player")
    expect(player).to_have_js_property("videoWidth", 64)
    page.wait_for_function(PLAYS)  # the last that the page answers
    # A click plays the second segment to its end, where the third one begins.
    predicted.nth(1).click()
    predicted.nth(2).click()
    third = float(editor.locator("#start").input_value())
    predicted.nth(1).click()
    expect(player).to_have_js_property("paused", False)
    expect(player).to_have_js_property("paused", True)
    assert player.evaluate("player => player.currentTime") == pytest.approx(third, abs=0.1)
    # The first is called otherwise and ends earlier, the last one goes.
    corrected.first.click()
    editor.locator("#label").select_option("left")
    editor.locator("#end").fill("1")
    editor.locator("#end").press("Enter")
    corrected.last.click()
    editor.locator("#remove").click()
    with page.expect_download() as download:
        editor.locator("#save").click()
    saved = tmp_path / "corrected.csv"
    download.value.save_as(saved)
    [video] = read_segments(saved)
    assert video.path == film  # which lies beside it
    assert [(each.label, each.start, each.end) for each in video.segments] == [("left", 0, 1), ("up", 1, third)]


def test_a_recording_from_the_camera_gets_labels(page: Page) -> None:
    page.click("#video button[aria-label='Capture from camera']")
    page.click("#video button:has-text('Access Webcam')")
    page.wait_for_function("() => (document.querySelector('#video video') || {}).videoWidth > 0")
    record = page.locator("#video button[aria-label='start recording']")
    stop = page.locator("#video button:has-text('Stop')")
    end = time.monotonic() + SECONDS
    while not stop.is_visible():  # the first press may come before the camera is there
        assert time.monotonic() < end
        record.click()
        page.wait_for_timeout(500)
    page.wait_for_timeout(1500)
    stop.click()
    expect(page.locator("#labels h2")).not_to_be_empty(timeout=SECONDS * 1000)
    page.wait_for_function(PLAYS)
    source = page.get_attribute("#video video", "src")
    assert source is not None and source.endswith(".webm")


def test_the_page_is_no_reason_not_to_stop(page: Page, server: tuple[subprocess.Popen[str], str, Path]) -> None:
    """The last one: the server has thirty seconds for what is in work, and an open page is not."""
    process, _, temp = server
    assert list(temp.glob("*/page/examples/*.mp4"))
    begun = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(SECONDS) == 0
    assert time.monotonic() - begun < 10
    assert list(temp.iterdir()) == []
