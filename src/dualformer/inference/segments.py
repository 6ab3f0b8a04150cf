"""Finds segments in probabilities over time: a label with a start and an end.

Legend: n stretches of time, one behind the other, between n + 1 bounds; C classes.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from dualformer.segment import Segment
from dualformer.weights.segment_settings import SegmentSettings

_NOTHING = -1
"""The code of stretches in which nothing happens."""


def find_segments(
    bounds: NDArray[np.float64],
    probabilities: NDArray[np.floating],
    labels: Sequence[str],
    settings: SegmentSettings,
    *,
    multi_label: bool = False,
) -> list[Segment]:
    """Returns segments in the order of their starts, of probabilities (n, C) between ``bounds`` (n + 1,).

    One label at a time: the most probable class, where it reaches the threshold. With ``multi_label`` every class by
    itself, so that segments overlap. A stretch in which nothing lasts as long as ``settings.shortest`` is divided
    between the label before it and the one after it where their probabilities change over; one that is itself longer
    goes to the class that is the most probable over all of it, if that reaches the threshold.

    With a background and one label at a time, something happens where all other classes together reach the threshold,
    so that doubt between two of them is not taken for nothing, and what happens is the most probable of them.
    Raises ``ValueError`` for shapes that do not fit together and for a background that is none of the labels.
    """
    if probabilities.shape != (len(bounds) - 1, len(labels)):
        raise ValueError(
            f"probabilities {probabilities.shape} do not fit {len(bounds)} bounds and {len(labels)} labels"
        )
    settings.check_labels(labels)
    quiet = np.array([name in settings.background for name in labels])
    lengths = np.diff(bounds)
    found: list[Segment] = []
    runs: list[tuple[int, int, int]] = []
    tracks: list[tuple[NDArray[np.int64], list[int]]] = []
    if multi_label:
        tracks = [
            (np.where(probabilities[:, c] >= settings.threshold, c, _NOTHING), [c])
            for c in np.flatnonzero(~quiet).tolist()
        ]
    elif quiet.any() and not quiet.all():
        runs = _acting_runs(probabilities, quiet, lengths, settings)
    else:
        best = probabilities.argmax(axis=1)
        happens = (probabilities.max(axis=1) >= settings.threshold) & ~quiet[best]
        tracks = [(np.where(happens, best, _NOTHING), np.flatnonzero(~quiet).tolist())]
    for codes, candidates in tracks:
        runs += _runs(_without_short_runs(codes, probabilities, lengths, candidates, settings))
    for code, a, b in runs:
        if code != _NOTHING:
            mean = float(np.average(probabilities[a:b, code], weights=lengths[a:b]))
            found.append(Segment(label=labels[code], start=float(bounds[a]), end=float(bounds[b]), probability=mean))
    return sorted(found, key=lambda segment: (segment.start, segment.end))


def _acting_runs(
    probabilities: NDArray[np.floating],
    quiet: NDArray[np.bool_],
    lengths: NDArray[np.float64],
    settings: SegmentSettings,
) -> list[tuple[int, int, int]]:
    """Returns the runs in which something happens, divided by what that is: among the classes that are not ``quiet``
    the most probable one, as if one of them were certain."""
    something = 1 - probabilities[:, quiet].sum(axis=1, keepdims=True)
    happens = np.where(something[:, 0] >= settings.threshold, 0, _NOTHING)
    classes, certain = np.flatnonzero(~quiet), replace(settings, threshold=0.0)
    found: list[tuple[int, int, int]] = []
    for code, a, b in _runs(_without_short_runs(happens, something, lengths, [0], settings)):
        if code != _NOTHING:
            shares = probabilities[a:b] / something[a:b].clip(min=1e-6)
            best = classes[shares[:, classes].argmax(axis=1)]
            settled = _without_short_runs(best, shares, lengths[a:b], classes.tolist(), certain)
            found += [(label, a + first, a + end) for label, first, end in _runs(settled)]
    return found


def _runs(codes: NDArray[np.int64]) -> list[tuple[int, int, int]]:
    """Returns (code, first, one behind the last) of stretches of equal codes."""
    edges = [0, *(np.flatnonzero(np.diff(codes)) + 1).tolist(), len(codes)]
    return [(int(codes[a]), a, b) for a, b in pairwise(edges) if a < b]


def _without_short_runs(
    codes: NDArray[np.int64],
    probabilities: NDArray[np.floating],
    lengths: NDArray[np.float64],
    candidates: list[int],
    settings: SegmentSettings,
) -> NDArray[np.int64]:
    """Returns the codes without runs that are too short."""
    settled, shortest = codes.copy(), settings.shortest or 0.0
    runs = _runs(codes)
    lasting = [_reaches(lengths[a:b], shortest) for _, a, b in runs]
    place = 0
    while place < len(runs):
        if lasting[place]:
            place += 1
            continue
        end = place
        while end < len(runs) and not lasting[end]:
            end += 1
        a, b = runs[place][1], runs[end - 1][2]
        before = runs[place - 1][0] if place else None
        after = runs[end][0] if end < len(runs) else None
        if (before is None and after is None) or _reaches(lengths[a:b], shortest):
            settled[a:b] = _likeliest(probabilities[a:b], lengths[a:b], candidates, settings.threshold)
        else:
            before, after = (after if before is None else before), (before if after is None else after)
            assert before is not None and after is not None
            split = a + _change_point(
                _probability_of(before, probabilities[a:b], settings.threshold),
                _probability_of(after, probabilities[a:b], settings.threshold),
                lengths[a:b],
            )
            settled[a:split], settled[split:b] = before, after
        place = end
    return settled


def _reaches(lengths: NDArray[np.float64], shortest: float) -> bool:
    return float(lengths.sum()) >= shortest - 1e-6


def _likeliest(
    probabilities: NDArray[np.floating], lengths: NDArray[np.float64], candidates: list[int], threshold: float
) -> int:
    """Returns the class that is the most probable on average."""
    if not candidates:
        return _NOTHING
    means = np.average(probabilities[:, candidates], axis=0, weights=lengths)
    return candidates[int(means.argmax())] if means.max() >= threshold else _NOTHING


def _probability_of(code: int, probabilities: NDArray[np.floating], threshold: float) -> NDArray[np.floating]:
    """Returns the probability of a code; that nothing happens is as likely as what would just count."""
    return np.full(len(probabilities), threshold) if code == _NOTHING else probabilities[:, code]


def _change_point(before: NDArray[np.floating], after: NDArray[np.floating], lengths: NDArray[np.float64]) -> int:
    """Returns how many stretches belong to what is before, so that the sum of probabilities is the largest; of several
    such numbers the middle one."""
    gain = np.concatenate(([0.0], np.cumsum((before - after) * lengths)))
    best = np.flatnonzero(gain >= gain.max() - 1e-9)
    return int(best[len(best) // 2])
