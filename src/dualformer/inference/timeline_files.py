"""Writes timelines: tables and JSON for programs, subtitles (WebVTT) for players."""

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import numpy as np

from dualformer.files import csv_text, write_text
from dualformer.inference.segments import Segment
from dualformer.inference.timeline import Timeline

_BEST = 3
"""Classes that are written down for every stretch of time."""


def format_time(seconds: float, *, digits: int = 1) -> str:
    """Returns seconds as ``1:02:03.4``; hours only where there are any."""
    units = round(max(0.0, seconds) * 10**digits)
    whole, part = divmod(units, 10**digits)
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    start = f"{hours}:{minutes:02d}" if hours else f"{minutes}"
    return f"{start}:{rest:02d}" + (f".{part:0{digits}d}" if digits else "")


def web_vtt(segments: Iterable[Segment]) -> str:
    """Returns subtitles, one for each segment: its label and probability."""
    parts = ["WEBVTT\n"]
    for number, segment in enumerate(segments, 1):
        text = " ".join(segment.label.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        times = " --> ".join(_stamp(seconds) for seconds in (segment.start, segment.end))
        parts.append(f"{number}\n{times}\n{text} ({segment.probability:.0%})\n")
    return "\n".join(parts)


def segments_csv(segments: Iterable[Segment]) -> str:
    """Returns a CSV table with columns start, end (seconds), label, probability."""
    rows = ([f"{s.start:.3f}", f"{s.end:.3f}", s.label, f"{s.probability:.6f}"] for s in segments)
    return csv_text(["start", "end", "label", "probability"], rows)


def windows_csv(timeline: Timeline) -> str:
    """Returns a CSV table of what segments were made from: the likeliest classes of every stretch of time, smoothed."""
    best = min(_BEST, len(timeline.labels))
    header = ["start", "end"]
    for place in range(1, best + 1):
        header += ["label", "probability"] if place == 1 else [f"label_{place}", f"probability_{place}"]

    def rows() -> Iterable[list[str]]:
        for i, row in enumerate(timeline.probabilities):
            order = np.argsort(-row, kind="stable")[:best].tolist()
            answers = [text for c in order for text in (timeline.labels[c], f"{row[c]:.6f}")]
            yield [f"{timeline.bounds[i]:.3f}", f"{timeline.bounds[i + 1]:.3f}", *answers]

    return csv_text(header, rows())


def timeline_json(timeline: Timeline) -> dict[str, object]:
    """Returns the segments and how they were found, without the probabilities of every stretch."""
    return {
        "source": timeline.source,
        "seconds": round(timeline.seconds, 3),
        "frames": timeline.frames,
        "clips": timeline.clips,
        "clip_seconds": round(timeline.clip, 3),
        "window_seconds": round(timeline.window, 3),
        "threshold": timeline.settings.threshold,
        "shortest_seconds": round(timeline.settings.shortest or 0.0, 3),
        "background": list(timeline.settings.background),
        "multi_label": timeline.multi_label,
        "error": timeline.error,
        "segments": [
            asdict(s) | {"start": round(s.start, 3), "end": round(s.end, 3), "probability": round(s.probability, 6)}
            for s in timeline.segments
        ],
    }


def write_timeline_files(timeline: Timeline, folder: Path, stem: str) -> list[Path]:
    """Writes ``STEM.csv``, ``STEM.json``, ``STEM.windows.csv`` and ``STEM.vtt``; each appears whole or not at all."""
    texts = {
        ".csv": segments_csv(timeline.segments),
        ".json": json.dumps(timeline_json(timeline), indent=2, ensure_ascii=False) + "\n",
        ".windows.csv": windows_csv(timeline),
        ".vtt": web_vtt(timeline.segments),
    }
    for ending, text in texts.items():
        write_text(folder / f"{stem}{ending}", text)
    return [folder / f"{stem}{ending}" for ending in texts]


def _stamp(seconds: float) -> str:
    thousandths = round(seconds * 1000)
    minutes, rest = divmod(thousandths, 60_000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest // 1000:02d}.{rest % 1000:03d}"
