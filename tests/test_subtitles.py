"""Subtitles are written as players take them, and read from what programs write."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualformer.segment import Segment
from dualformer.subtitles import SubtitleError, read_sub_rip, read_web_vtt, sub_rip, web_vtt

SEGMENTS = [
    Segment(label="push & pull", start=0, end=1.5, probability=0.876),
    Segment(label="a --> b\n<i>", start=3599.9996, end=3661.25, probability=1),
]


def test_what_is_written() -> None:
    assert web_vtt(SEGMENTS) == (
        "WEBVTT\n\n1\n00:00:00.000 --> 00:00:01.500\npush &amp; pull (88%)\n\n"
        "2\n01:00:00.000 --> 01:01:01.250\na --&gt; b &lt;i&gt; (100%)\n"
    )
    assert sub_rip(SEGMENTS) == (
        "1\n00:00:00,000 --> 00:00:01,500\npush & pull (88%)\n\n2\n01:00:00,000 --> 01:01:01,250\na --> b <i> (100%)\n"
    )
    assert web_vtt([]) == "WEBVTT\n"
    assert sub_rip([]) == ""


labels = st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")), min_size=1).map(str.strip).filter(bool)


@given(st.lists(st.tuples(labels, st.integers(0, 10**7), st.integers(0, 10**6), st.integers(0, 100))))
def test_what_is_written_is_read(drawn: list[tuple[str, int, int, int]]) -> None:
    segments = [
        Segment(label=label, start=start / 1000, end=(start + lasts) / 1000, probability=percent / 100)
        for label, start, lasts, percent in drawn
    ]
    assert [segment for _, segment in read_web_vtt(web_vtt(segments))] == segments
    assert [segment for _, segment in read_sub_rip(sub_rip(segments))] == segments


def test_web_vtt_as_other_programs_write_it() -> None:
    text = (
        "\ufeffWEBVTT - made by hand\r\nKind: captions\r\n\r\nSTYLE\r\n::cue { color: red }\r\n\r\nNOTE nothing\r\n\r\n"
        "00:01.5 --> 00:02.000 position:10% align:start\r\n<v Ann>walk &amp;\r\n<b>run</b>\r\n\r\n"
        "intro\r\n01:00:00.000 --> 01:00:01.000\r\njump (93 %)\r\n\r\nNOTEBOOK\r\n1:00 --> 1:01\r\n(7,5%) x"
    )
    assert read_web_vtt(text) == [
        (9, Segment(label="walk & run", start=1.5, end=2)),
        (14, Segment(label="jump", start=3600, end=3601, probability=0.93)),
        (18, Segment(label="(7,5%) x", start=60, end=61)),
    ]
    assert read_web_vtt("WEBVTT\n0:01 --> 0:02\na (101%)\n") == [(2, Segment(label="a (101%)", start=1, end=2))]


def test_sub_rip_as_other_programs_write_it() -> None:
    text = "\n\n7\n00:00:01,000 --> 00:00:02,000 X1:0\nwalk,\n  slowly (7,5 %)\n\n\n00:00:03,000 --> 00:00:03,000\nhit"
    assert read_sub_rip(text) == [
        (4, Segment(label="walk, slowly", start=1, end=2, probability=0.075)),
        (9, Segment(label="hit", start=3, end=3)),
    ]


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("", 1, "not WebVTT"),
        ("WEBVTTX\n", 1, "not WebVTT"),
        ("\nWEBVTT\n\n1\nwalk\n", 4, "'1' where the times of a cue must be"),
        ("WEBVTT\n\n0:01 --> 0:99\nwalk\n", 3, "'0:99' is no time"),
        ("WEBVTT\n\n0:01 -->\nwalk\n", 3, "'' is no time"),
    ],
)
def test_text_that_is_no_subtitles(text: str, line: int, message: str) -> None:
    with pytest.raises(SubtitleError, match=message) as caught:
        read_web_vtt(text)
    assert caught.value.line == line
