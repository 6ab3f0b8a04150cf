"""Labels in any script: drawn where a font is there, told once where none is, and never a warning."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from dualformer.inference.timeline_drawing import _Banner
from dualformer.scoring import fonts
from dualformer.scoring.plots import draw_confusion
from dualformer.segment import Segment

SCRIPTS = ("挥手", "跳跃", "चलना", "المشي", "เดิน", "👋 wave", "걷기", "walk é")


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """What is known of fonts is asked anew."""
    caches = (fonts._font_with, fonts._installed, fonts._tell_lacking)
    for each in caches:
        each.cache_clear()
    yield
    for each in caches:
        each.cache_clear()


def draw(path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw_confusion(path, np.eye(len(SCRIPTS), dtype=np.int64), SCRIPTS, title="挥手")


def test_without_a_font_it_is_said_once_and_nothing_warns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(fonts.font_manager, "findSystemFonts", list)
    with caplog.at_level(logging.WARNING, "dualformer"):
        draw(tmp_path / "a.png")
        draw(tmp_path / "b.png")
        _Banner((Segment(start=0, end=1, label="挥手", probability=0.5),)).over(np.zeros((64, 96, 3), np.uint8), 0.5)
    assert (tmp_path / "b.png").is_file()
    assert caplog.text.count("are drawn as boxes: install one") == 1
    assert all(package in caplog.text for package in ("fonts-noto-cjk", "fonts-noto-core", "fonts-symbola"))


@pytest.mark.parametrize("label", SCRIPTS)
def test_where_a_font_is_there_the_label_is_drawn_with_it(label: str) -> None:
    files = fonts.font_files(label)
    if any(fonts.is_drawn(letter) and not any(fonts.has_letter(file, letter) for file in files) for letter in label):
        pytest.skip(f"no font of this machine has {label}")
    pieces = fonts.runs(f"{label}  50%")
    assert "".join(text for _, text in pieces) == f"{label}  50%"
    assert pieces[-1][0] == fonts.PLAIN_FONT and pieces[-1][1].endswith("50%")
    for file, text in pieces:
        assert all(fonts.has_letter(file, letter) for letter in text if fonts.is_drawn(letter))
    figure = Figure()
    drawn = figure.text(0.5, 0.5, label)
    with fonts.fonts_for(figure):
        families = drawn.get_fontfamily()
    assert len(families) == len(files)


def test_a_font_that_is_not_there_in_bold_is_no_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def draw_bold(weight: str, *, within: bool) -> str:
        figure = Figure()
        figure.text(0.5, 0.5, "é", fontweight=weight, fontfamily="DejaVu Sans Display")  # which has one weight
        caplog.clear()
        with caplog.at_level(logging.WARNING, "matplotlib"), fonts.fonts_for(figure) if within else nullcontext():
            figure.savefig(tmp_path / "a.png")
        return caplog.text

    assert draw_bold("bold", within=True) == ""
    assert "Failed to find font weight heavy" in draw_bold("heavy", within=False)


def test_plain_labels_keep_their_font(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fonts.font_manager, "findSystemFonts", lambda: pytest.fail("looked for fonts"))
    assert fonts.runs("wave – é 50%") == [(fonts.PLAIN_FONT, "wave – é 50%")]
    figure = Figure()
    text = figure.text(0, 0, "wave → é")
    before = text.get_fontfamily()
    with fonts.fonts_for(figure):
        assert text.get_fontfamily() == before


def test_a_file_that_is_no_font_has_no_characters(tmp_path: Path) -> None:
    (tmp_path / "x.ttf").write_bytes(b"no font")
    assert not fonts.has_letter(tmp_path / "x.ttf", "a")
    assert not fonts.has_letter(tmp_path / "none.ttf", "a")
