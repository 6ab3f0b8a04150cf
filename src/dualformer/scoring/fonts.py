"""Finds fonts for what matplotlib's own has no characters for, in the pictures and burnt films of all rooms."""

import logging
import unicodedata
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import matplotlib
from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font
from matplotlib.text import Text

_log = logging.getLogger("dualformer")

PLAIN_FONT = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
"""The file of the font that comes with matplotlib."""
_FANCY = ("bold", "italic", "oblique", "black", "light", "thin", "condensed", "mono")


def font_files(text: str) -> list[Path]:
    """Returns the files of fonts that have the characters of ``text`` between them, matplotlib's own first.

    What no font of this machine has is drawn as boxes, which the log says once, with what to install.
    """
    files, lacking = [PLAIN_FONT], list[str]()
    for letter in dict.fromkeys(text):
        if not is_drawn(letter) or any(has_letter(file, letter) for file in files):
            continue
        if (found := _font_with(letter)) is not None:
            files.append(found)
        else:
            lacking.append(letter)
    if lacking:
        _tell_lacking()
    return files


def has_letter(file: Path, letter: str) -> bool:
    """Returns whether a font has a character."""
    return ord(letter) in _letters(file)


def runs(text: str) -> list[tuple[Path, str]]:
    """Returns ``text`` in pieces, each with the file of a font that has its characters where one has."""
    files, pieces = font_files(text), list[tuple[Path, str]]()
    for letter in text:
        before = pieces[-1][0] if pieces else PLAIN_FONT
        file = before
        if is_drawn(letter):  # marks stay with what they are on
            file = next((each for each in files if has_letter(each, letter)), before)
        if pieces and file == before:
            pieces[-1] = (file, pieces[-1][1] + letter)
        else:
            pieces.append((file, letter))
    return pieces


@contextmanager
def fonts_for(figure: Figure) -> Iterator[None]:
    """Gives the texts of a figure fonts that have their characters, and saving it within no warnings of those that
    nobody has, or has in another weight alone."""
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        if not text.get_text().isascii():
            others = [_family(file) for file in font_files(text.get_text()) if file != PLAIN_FONT]
            if others:
                text.set_fontfamily([*text.get_fontfamily(), *others])
    finding = logging.getLogger("matplotlib.font_manager")
    finding.addFilter(_is_of_no_weight)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=r"Glyph \d+ .* missing from", category=UserWarning)
            yield
    finally:
        finding.removeFilter(_is_of_no_weight)


def _is_of_no_weight(record: logging.LogRecord) -> bool:
    """Returns whether a line of matplotlib's log is another one than that a font is not there as bold as asked."""
    return "Failed to find font weight" not in record.getMessage()


def is_drawn(letter: str) -> bool:
    """Returns whether a character has a picture of its own: not joiners, marks and blanks."""
    return unicodedata.category(letter) not in {"Cf", "Cc", "Zs", "Zl", "Zp", "Mn"}


@cache
def _letters(file: Path) -> frozenset[int]:
    """Returns the characters of a font; none of one that cannot be read, or is a set of pictures of one size."""
    try:
        font = FT2Font(str(file))
        return frozenset(font.get_charmap()) if font.scalable else frozenset()
    except (RuntimeError, OSError, ValueError):
        return frozenset()


@cache
def _font_with(letter: str) -> Path | None:
    return next((file for file in _installed() if has_letter(file, letter)), None)


@cache
def _installed() -> tuple[Path, ...]:
    """Returns the fonts of this machine, plain ones first; not matplotlib's list, which is as old as its cache."""

    def rank(file: Path) -> tuple[int, str]:
        name = file.stem.lower()
        fancy = any(word in name for word in _FANCY)
        return 4 * fancy + 2 * ("noto" not in name) + ("serif" in name), name

    return tuple(sorted(map(Path, font_manager.findSystemFonts()), key=rank))


@cache
def _family(file: Path) -> str:
    """Returns the family of a font, which matplotlib knows from then on."""
    font_manager.fontManager.addfont(str(file))
    return font_manager.FontProperties(fname=str(file)).get_name()


@cache
def _tell_lacking() -> None:
    _log.warning(
        "no font of this machine has some characters of the labels, which are drawn as boxes: install one; Debian has "
        "fonts-noto-cjk, fonts-noto-core for other scripts and fonts-symbola for emoji, fonts.google.com/noto all"
    )
