"""Segments that are written as letters."""

from dualformer.segment import Segment


def of_text(text: str) -> list[Segment]:
    """A segment for each run of a letter, one second a letter; dots are gaps."""
    found, start = [], 0
    for i in range(1, len(text) + 1):
        if i == len(text) or text[i] != text[start]:
            if text[start] != ".":
                found.append(Segment(label=text[start], start=start, end=i))
            start = i
    return found
