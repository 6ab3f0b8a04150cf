"""Writes segments as subtitles, WebVTT (.vtt) and SubRip (.srt), and reads them: each cue is a segment."""

import html
import re
from collections.abc import Iterable

from dualformer.segment import Segment
from dualformer.timestamps import parse_time, timestamp

_LINE_BREAK = re.compile(r"\r\n|\n|\r")
_PROBABILITY = re.compile(r"\(([0-9]{1,3}(?:[.,][0-9]+)?) ?%\)$")
_TAG = re.compile(r"<[^>]*>")


class SubtitleError(ValueError):
    """Text that is no subtitles. ``line``: where, counted from 1."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line


def web_vtt(segments: Iterable[Segment]) -> str:
    """Returns subtitles, one for each segment: its label and probability."""
    parts = ["WEBVTT\n"]
    for number, segment in enumerate(segments, 1):
        text = _one_line(segment.label).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        times = " --> ".join(timestamp(seconds) for seconds in (segment.start, segment.end))
        parts.append(f"{number}\n{times}\n{text} ({segment.probability:.0%})\n")
    return "\n".join(parts)


def sub_rip(segments: Iterable[Segment]) -> str:
    """Returns the same subtitles as `web_vtt` in the form of SubRip (.srt)."""
    parts: list[str] = []
    for number, segment in enumerate(segments, 1):
        times = " --> ".join(timestamp(seconds).replace(".", ",") for seconds in (segment.start, segment.end))
        parts.append(f"{number}\n{times}\n{_one_line(segment.label)} ({segment.probability:.0%})\n")
    return "\n".join(parts)


def read_web_vtt(text: str) -> list[tuple[int, Segment]]:
    """Returns the cues of WebVTT as segments, each with the line of its times.

    A label is a cue's text without tags, its lines joined by a blank; a probability is what stands in brackets at its
    end, as in ``walk (93%)``, else 1. Notes, styles, regions and the places of cues are left out. Raises
    `SubtitleError`.
    """
    blocks = _blocks(text)
    if not blocks or re.fullmatch(r"WEBVTT(?:[ \t].*)?", blocks[0][0][1]) is None:
        raise SubtitleError(1, "not WebVTT: its first line must be WEBVTT")
    header = blocks[0][1:]
    cues = [*([header] if any("-->" in line for _, line in header) else []), *blocks[1:]]
    found: list[tuple[int, Segment]] = []
    for block in cues:
        if re.match(r"(?:NOTE|STYLE|REGION)(?:[ \t]|$)", block[0][1]) and "-->" not in block[0][1]:
            continue
        line, start, end, words = _cue(block)
        found.append((line, _segment(html.unescape(_TAG.sub("", words)), start, end)))
    return found


def read_sub_rip(text: str) -> list[tuple[int, Segment]]:
    """Returns the cues of SubRip as segments, as `read_web_vtt`; tags stay in the labels. Raises `SubtitleError`."""
    cues = (_cue(block) for block in _blocks(text))
    return [(line, _segment(words, start, end)) for line, start, end, words in cues]


def _one_line(label: str) -> str:
    return " ".join(part.strip() for part in _LINE_BREAK.split(label)).strip()


def _blocks(text: str) -> list[list[tuple[int, str]]]:
    """Returns numbered lines in groups that blank lines separate."""
    blocks: list[list[tuple[int, str]]] = [[]]
    for number, line in enumerate(_LINE_BREAK.split(text.removeprefix("\ufeff")), 1):
        if line.strip():
            blocks[-1].append((number, line))
        elif blocks[-1]:
            blocks.append([])
    return [block for block in blocks if block]


def _cue(block: list[tuple[int, str]]) -> tuple[int, float, float, str]:
    """Returns the line of the times, start, end and text of a cue, which may begin with a name or number."""
    place = next((place for place, (_, line) in enumerate(block[:2]) if "-->" in line), None)
    if place is None:
        raise SubtitleError(
            block[0][0], f"{block[0][1][:60]!r} where the times of a cue must be, as in 00:01 --> 00:02"
        )
    number, line = block[place]
    before, _, after = line.partition("-->")
    try:
        start, end = parse_time(before), parse_time((after.split() or [""])[0])
    except ValueError as error:
        raise SubtitleError(number, str(error)) from error
    return number, start, end, " ".join(words.strip() for _, words in block[place + 1 :])


def _segment(words: str, start: float, end: float) -> Segment:
    label, probability = words.strip(), 1.0
    found = _PROBABILITY.search(label)
    if found and (percent := float(found[1].replace(",", "."))) <= 100:
        label, probability = label[: found.start()].strip(), percent / 100
    return Segment(label=label, start=start, end=end, probability=probability)
