"""The page on which timelines are corrected: what stands in it, and in a browser the way round, from a prediction to
training on what was corrected."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dualformer.cli.main import main
from dualformer.datasets.segments.segment_formats import read_segments
from dualformer.report.segment_editor import EDITOR, EditorVideo, render_segment_editor, videos_to_correct
from dualformer.segment import Segment
from dualformer.timelines.evaluate_timelines import evaluate_timelines
from dualformer.video.encode import write_video
from dualformer.weights.segment_settings import SegmentSettings
from made_films import colour_recognizer, coloured, made_video
from small_runs import undrawn  # noqa: F401 - autouse

LABELS = ("red", "green", "</script><b>blue", "black")
NEW = 'dark, "3"'
"""A label that is no class."""
ODD = os.fsdecode(b'caf\xe9 "1" <b>&amp; 50%?.mp4')


def data_of(page: str) -> dict[str, Any]:
    [found] = re.findall(r'id="data">(.*?)</script>', page, flags=re.DOTALL)
    return json.loads(found)


def segments(*marked: tuple[float, float, str]) -> list[Segment]:
    return [Segment(start=start, end=end, label=label, probability=0.75) for start, end, label in marked]


def test_names_are_no_markup_and_films_are_found_from_the_page(tmp_path: Path) -> None:
    video = EditorVideo(path=tmp_path / "films" / ODD, seconds=9, predicted=segments((0, 1, LABELS[2])), error="<b>")
    frames = EditorVideo(path=tmp_path / "frames" / "%05d.jpg", seconds=9, predicted=[], true=segments((0, 1, "x")))
    page = render_segment_editor([video, frames], LABELS, folder=tmp_path / "out", title="<b>")
    page.encode()  # a name that is no text stands in it as an escape
    assert "<b>" not in page and page.count("</script>") == 2
    first, second = data_of(page)["films"]
    assert (first["name"], second["name"]) == (ODD, "%05d.jpg")
    assert first["source"] == "../films/caf%E9%20%221%22%20%3Cb%3E%26amp%3B%2050%25%3F.mp4"
    assert first["path"] == str(video.path) and first["true"] is None
    assert second["source"] is None and second["true"] == [{"start": 0, "end": 1, "label": "x"}]


def test_films_of_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    films = [EditorVideo(path=tmp_path / name / "1.mp4", seconds=9, predicted=[]) for name in ("a", "b/c")]
    page = render_segment_editor(films, LABELS, folder=tmp_path, title="two")
    assert [film["name"] for film in data_of(page)["films"]] == ["a/1.mp4", "c/1.mp4"]


def test_worst_films_of_an_evaluation_come_first_without_what_is_nothing(tmp_path: Path) -> None:
    good = made_video(tmp_path / "good.mp4", [("red", 40), ("green", 40)])
    bad = made_video(tmp_path / "bad.mp4", [("black", 30), ("red", 12), ("black", 30)], background="none")
    settings = SegmentSettings(threshold=0.3, background=("black",))
    evaluation = evaluate_timelines(colour_recognizer(), [good, bad], settings=settings)
    films = videos_to_correct(evaluation)
    assert [film.path.name for film in films] == [
        each.video.path.name for each in sorted(evaluation.videos, key=lambda each: each.figures.counts[-1].f1)
    ]
    [short] = [film for film in films if film.path == bad.path]
    assert short.true is not None and [each.label for each in short.true] == ["red"]
    assert short.fps == pytest.approx(25, rel=0.02) and short.seconds == pytest.approx(72 / 25, abs=0.05)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Two films, of which one has an odd name, and ``timelines.html``; ``gone.html``, of a film that is not there."""
    phases = [("red", 25), ("green", 25), ("black", 25)]
    for name in (ODD, "two.mp4"):
        write_video(tmp_path / name, coloured(phases, size=64), fps=25)
    told = segments((0.2, 1.4, "red"), (1.4, 2, "green"))
    films = [
        EditorVideo(
            path=tmp_path / ODD, seconds=3, predicted=told, true=segments((0, 1, "red"), (1, 2, "green")), fps=25
        ),
        EditorVideo(path=tmp_path / "two.mp4", seconds=3, predicted=[*told, *segments((2, 3, NEW))], fps=25),
    ]
    (tmp_path / EDITOR).write_text(render_segment_editor(films, LABELS, folder=tmp_path, title="two"))
    many = segments(*((7.2 * number, 7.2 * number + 4, LABELS[number % 3]) for number in range(1000)))
    gone = EditorVideo(path=tmp_path / "gone.mp4", seconds=7200, predicted=many, fps=25)
    (tmp_path / "gone.html").write_text(render_segment_editor([gone], LABELS, folder=tmp_path, title="gone"))
    return tmp_path


class Opened:
    """The page in a browser."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.boxes = page.locator(".editable .segment")

    def until(self, script: str) -> None:
        """Waits; the page's policy lets no other program wait in it."""
        for _ in range(600):
            if self.page.evaluate(script):
                return
            self.page.wait_for_timeout(50)
        raise AssertionError(
            f"{script}: {self.boxes.count()} segments, {self.page.evaluate('Object.entries(localStorage)')}"
        )

    def drag(self, start: tuple[float, float], to: float) -> None:
        """Drags from a place of the page to the right or left."""
        mouse = self.page.mouse
        mouse.move(*start)
        mouse.down()
        mouse.move((start[0] + to) / 2, start[1])
        mouse.move(to, start[1])
        mouse.up()
        self.drawn()

    def drawn(self) -> None:
        """Waits until the rows are drawn, with the next frame."""
        self.page.evaluate("new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)))")

    def kept(self) -> None:
        """Waits until a window that is opened now finds what this one has kept: a page that is loaded anew may be in
        another process, and a busy browser hands it over late."""
        found = None
        for _ in range(100):
            other = self.page.context.new_page()
            other.goto(self.page.url)
            found = other.evaluate("JSON.stringify(localStorage)")
            other.close()
            if found == self.page.evaluate("JSON.stringify(localStorage)"):
                return
        raise AssertionError(f"a new window finds {found}")

    def times(self) -> tuple[float, float]:
        return float(self.page.input_value("#start")), float(self.page.input_value("#end"))


@pytest.fixture
def opened(browser: Any, home: Path) -> Iterator[Opened]:
    context = browser.new_context(viewport={"width": 1200, "height": 900})
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto((home / EDITOR).as_uri())
    yield Opened(page)
    context.close()
    assert [each for each in complaints if "ERR_FILE_NOT_FOUND" not in each] == []


def test_a_prediction_is_corrected_saved_read_and_trained_on(opened: Opened, home: Path) -> None:
    page = opened.page
    opened.until("document.querySelector('video').videoWidth === 64")
    assert page.locator(".row").count() == 3 and page.locator(".segment").count() == 6
    left, right = (opened.boxes.nth(number).bounding_box() for number in range(2))
    second = (right["x"] - left["x"]) / 1.2
    middle = left["y"] + left["height"] / 2

    # The edge between the two is 0.4 s late. Both move, and the player shows the frame.
    opened.drag((right["x"] - 2, middle), right["x"] - 2 - 0.4 * second)
    assert opened.times() == (0.2, 1)
    opened.until("Math.abs(document.querySelector('video').currentTime - 1) < 0.05")
    # By the field the first begins where it shall; a third is added where nothing is, with a name of its own.
    page.fill("#start", "0")
    page.press("#start", "Enter")
    opened.drag((left["x"] + 2 * second, middle), left["x"] + 2.6 * second)
    page.select_option("#label", label="another …")
    page.fill("#another", "a;b")
    page.press("#another", "Enter")
    assert "separates labels" in page.inner_text("#problem")
    page.fill("#another", NEW)
    page.press("#another", "Enter")
    assert opened.boxes.count() == 3
    # Deleted, and there again.
    page.focus("#timeline")
    page.keyboard.press("Delete")
    page.keyboard.press("Control+z")
    opened.until("document.querySelectorAll('.editable .segment').length === 3")
    opened.kept()
    page.reload()
    opened.until("document.querySelectorAll('.editable .segment').length === 3")  # nothing is lost

    def saved() -> Path:
        with page.expect_download() as download:
            page.get_by_role("button", name="Download CSV").click()
        download.value.save_as(home / download.value.suggested_filename)
        return home / download.value.suggested_filename

    assert [film.path.name for film in read_segments(saved())] == [ODD, "two.mp4"]
    page.get_by_label("the 1 looked through").check()
    [film] = read_segments(saved())
    assert film.path == home / ODD
    found = [(each.label, each.start, each.end) for each in film.segments]
    assert found[:2] == [("red", 0, 1), ("green", 1, 2)]
    assert found[2][0] == NEW and found[2][1:] == pytest.approx((2.2, 2.8), abs=0.05)

    page.get_by_label("all 2").check()
    size = ["--model", "dualformer_nano", "--frames", "4", "--size", "32", "--epochs", "1", "--batch-size", "2"]
    how = ["--workers", "0", "--precision", "float32", "--val-fraction", "0.5", "--out", str(home / "run")]
    assert main(["train", "--data", str(saved()), *size, *how]) == 0


def test_a_segment_is_played_to_its_end_and_keys_go_round(opened: Opened) -> None:
    page = opened.page
    opened.until("document.querySelector('video').readyState >= 2")
    page.locator(".row").first.locator(".segment").nth(1).click()
    opened.until("document.querySelector('video').currentTime >= 1 && document.querySelector('video').paused")
    opened.until("document.querySelector('video').currentTime >= 1.9 && document.querySelector('video').paused")
    assert page.evaluate("document.querySelector('video').currentTime") == pytest.approx(2, abs=0.1)
    for key, said in (
        ("ArrowLeft", "true, 1 of 2: red, 0:00.00 to 0:01.00"),
        ("ArrowDown", "predicted, 1 of 2: red, 0:00.20 to 0:01.40 (75.0 %)"),
        ("ArrowDown", "corrected, 1 of 2: red, 0:00.20 to 0:01.40"),
        ("ArrowRight", "corrected, 2 of 2: green, 0:01.40 to 0:02.00"),
    ):
        page.keyboard.press(key)
        assert page.inner_text("#said") == said
    for key in (".", ".", "["):
        page.keyboard.press(key)
    assert opened.times() == (1.48, 2)
    # The neighbour came along; undone, both are where they were.
    page.keyboard.press("ArrowLeft")
    assert opened.times() == (0.2, 1.48)
    page.keyboard.press("Control+z")
    opened.drawn()
    # What is drawn too short, or left by Escape, is nothing.
    box = opened.boxes.last.bounding_box()
    place = (box["x"] + box["width"] + 40, box["y"] + 15)
    opened.drag(place, place[0] + 5)
    page.mouse.move(box["x"] + box["width"] - 2, place[1])
    page.mouse.down()
    page.mouse.move(*place)
    assert opened.times()[1] > 2
    page.keyboard.press("Escape")
    page.mouse.up()
    assert opened.times() == (1.4, 2) and page.get_by_role("button", name="Undo").is_disabled()


def test_a_film_that_is_not_there_is_corrected_and_loaded(opened: Opened, home: Path) -> None:
    page = opened.page
    page.goto((home / "gone.html").as_uri())
    page.get_by_text("The film does not play here").wait_for()
    assert 0 < opened.boxes.count() < 100  # of 1,000 those that are seen
    page.keyboard.press("Tab")
    opened.boxes.first.click()
    assert opened.times() == (0, 4)
    page.get_by_role("button", name="Whole film").click()
    opened.until("document.querySelectorAll('.editable .segment').length === 1000")
    page.set_input_files("#files", home / "two.mp4")
    opened.until("document.querySelector('video').videoWidth === 64")
    assert page.get_by_text("The film does not play here").is_hidden()
