"""The page that trains in a real browser, whose camera plays rendered gestures: from nothing to a live recogniser."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from zipfile import ZipFile

import av
import numpy as np
import pytest

if find_spec("gradio") is None:  # importing it would settle where it keeps its files
    pytest.skip("the extra [web] is not installed", allow_module_level=True)
pytest.importorskip("playwright", reason="playwright is not installed")
pytest.importorskip("onnxscript", reason="the extra [export] is not installed")
pytest.importorskip("onnxruntime", reason="the extra [export] is not installed")

from playwright.sync_api import Browser, Page, expect

from browsers import CAMERA, NO_RUNTIME, RUNTIME, open_browser
from dualformer.datasets.rendered import ALL, Difficulty, Scene, render
from dualformer.inference.recognizer import Recognizer
from dualformer.video.encode import write_video
from made_web_runtime import package

SECONDS = 300
"""After which what should happen does not."""
SCENE = Scene(size=128, classes=ALL, difficulty=Difficulty.at(0.2), wrap=True)
GESTURES = ("left-right", "up-down", "right")


def gesture(name: str, number: int) -> np.ndarray:
    """Two seconds of it, T H W 3."""
    return render(SCENE, ALL.index(name), (7, number)).frames


def write_camera(path: Path, name: str, numbers: range) -> None:
    """Writes what the browser takes for its camera when that is opened next: gestures one after another, in a loop."""
    with path.open("wb") as file:
        file.write(f"YUV4MPEG2 W{SCENE.size} H{SCENE.size} F{SCENE.fps}:1 Ip A1:1 C420jpeg\n".encode())
        for number in numbers:
            for frame in gesture(name, number):
                picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
                file.write(b"FRAME\n" + picture.reformat(format="yuv420p").to_ndarray().tobytes())


@pytest.fixture(scope="module")
def camera(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("camera") / "camera.y4m"
    write_camera(path, GESTURES[0], range(1))
    return path


@pytest.fixture(scope="module")
def browser(camera: Path) -> Iterator[Browser]:
    with open_browser(*CAMERA, f"--use-file-for-fake-video-capture={camera}") as started:
        yield started


@contextmanager
def page_of(browser: Browser, folder: Path, runtime: Path) -> Iterator[Page]:
    """The page of a server of its own, and what went wrong in it."""
    words = ["serve", "--weights", "rendered", "--ui", "--train", str(folder), "--runtime", str(runtime)]
    process = subprocess.Popen(
        [sys.executable, "-m", "dualformer", *words, "--port", "0", "--workers", "1", "--device", "cpu"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(folder.parent)},
    )
    assert process.stdout is not None
    try:
        process.stdout.readline()
        said = process.stdout.readline()
        address = re.search(r"http://[\d.:]+/train/", said)
        assert address is not None, said
        page = browser.new_page(viewport={"width": 1100, "height": 1400})
        page.set_default_timeout(1000 * SECONDS)
        expect.set_options(timeout=1000 * SECONDS)
        wrong: list[str] = []
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda one: wrong.append(one.text) if "Content Security" in one.text else None)
        page.goto(address[0].removesuffix("train/"))
        expect(page.locator("#heading a")).to_have_css("padding", "0px")
        page.click("a[href='train/']")
        yield page
        page.context.close()
        assert wrong == []
    finally:
        process.terminate()
        process.wait(60)


def add_class(page: Page, name: str) -> None:
    page.fill("#name", name)
    page.click("#add button")


def card(page: Page, name: str) -> str:
    return f".class[data-name='{name}']"


def expect_clips(page: Page, name: str, count: int) -> None:
    expect(page.locator(card(page, name))).to_have_attribute("data-clips", str(count))


def record(page: Page, name: str, count: int, seconds: int) -> None:
    page.select_option("#seconds", str(seconds))
    page.select_option("#count", str(count))
    page.click(f"{card(page, name)} button:has-text('Record')")
    expect_clips(page, name, count)


def expect_stage(page: Page, stage: str) -> None:
    expect(page.locator("#status")).to_have_attribute("data-stage", re.compile(f"{stage}|failed"))
    assert page.get_attribute("#status", "data-stage") == stage, page.inner_text("#status")


def test_clips_are_dropped_and_recorded_and_trained_on(browser: Browser, tmp_path: Path) -> None:
    for number in range(2):
        write_video(tmp_path / f"{number}.mp4", gesture("up-down", number)[::4, ::4, ::4], fps=4)
    (tmp_path / "bad.mp4").write_bytes(b"<b>no video</b>" * 50)
    folder = tmp_path / "page"
    with page_of(browser, folder, package(tmp_path / "runtime")) as page:
        add_class(page, "a/b")
        expect(page.locator("#clips-error")).to_contain_text("holds '/'")
        add_class(page, "up & down")
        expect(page.locator(card(page, "up & down"))).to_be_visible()
        add_class(page, "up & down")
        expect(page.locator("#clips-error")).to_contain_text("there is a class 'up & down' already")
        films = [tmp_path / name for name in ("0.mp4", "bad.mp4", "1.mp4")]
        page.set_input_files(f"{card(page, 'up & down')} input", films)
        expect_clips(page, "up & down", 2)
        refused = page.locator(f"{card(page, 'up & down')} .wrong")
        expect(refused).to_contain_text("bad.mp4: the video: it cannot be opened as a video")
        expect(page.locator("#train")).to_be_disabled()
        add_class(page, "left")
        record(page, "left", 4, 1)
        for count in (3, 2):
            page.click(f"{card(page, 'left')} .clip button >> nth=0")
            expect_clips(page, "left", count)
        names = [line.split()[0] for line in page.locator(".class h3").all_inner_texts()]
        assert names == ["left", "up"], "by name, as after a reload"
        page.set_viewport_size({"width": 400, "height": 800})
        boxes = [button.bounding_box() for button in page.locator(f"{card(page, 'left')} .controls button").all()]
        assert len({box["y"] for box in boxes if box}) == 1, "in a row of their own"
        page.fill("#epochs", "1")
        page.click("#train")
        expect_stage(page, "done")
        expect(page.locator("#score")).to_contain_text("of 2 clips that were not trained on are right")
        assert page.locator("#confusion th[scope=col]").all_inner_texts() == ["left", "up & down"]
        log = page.locator("#log").text_content() or ""
        assert "--from rendered   (" in log and "`start" not in log
        with page.expect_download() as download:
            page.click("a[href=weights]")
        download.value.save_as(tmp_path / "mine.safetensors")
        with page.expect_download() as download:
            page.click("a[href='web.zip']")
        download.value.save_as(tmp_path / "web.zip")
    assert Recognizer.load(tmp_path / "mine.safetensors").labels == ("left", "up & down")
    assert "web/index.html" in ZipFile(tmp_path / "web.zip").namelist()
    assert len([*folder.glob("clips/left/*.webm")]) == 2


@pytest.mark.slow
@pytest.mark.skipif(not RUNTIME.exists(), reason=NO_RUNTIME)
def test_from_nothing_to_a_live_recogniser_of_three_gestures(browser: Browser, camera: Path, tmp_path: Path) -> None:
    with page_of(browser, tmp_path / "page", RUNTIME) as page:
        for place, name in enumerate(GESTURES):
            add_class(page, name)
            write_camera(camera, name, range(10 * place, 10 * place + 10))
            record(page, name, 4, 2)
            page.click("#camera")  # so that it is opened anew
        page.click("#train")
        expect_stage(page, "done")
        expect(page.locator("#score")).to_contain_text("of 3 clips")
        page.click("#live")
        live = page.frame_locator("#recogniser")
        expect(live.locator("#status")).to_have_text("Camera: live.")
        live.locator("#stop").click()
        for name in GESTURES:
            write_camera(camera, name, range(50, 55))
            live.locator("#camera").click()
            expect(live.locator("#status")).to_have_text("Camera: live.")
            page.wait_for_timeout(4000)  # until the clip holds this gesture alone, twice over
            seen = Counter[str]()
            for _ in range(16):
                seen[live.locator("#labels .name").first.inner_text()] += 1
                page.wait_for_timeout(250)
            assert seen[name] > 8, (name, seen)
            live.locator("#stop").click()
