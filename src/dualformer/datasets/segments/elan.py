"""Reads and writes segments as files of ELAN (.eaf): tiers of annotations with a text between two times, in XML."""

import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NoReturn
from xml.etree.ElementTree import Element, SubElement, TreeBuilder, indent, tostring
from xml.parsers import expat

from dualformer.datasets.samples import DatasetError, first_few
from dualformer.datasets.segments.annotated_video import AnnotatedVideo
from dualformer.datasets.segments.collect_segments import SegmentCollector
from dualformer.datasets.segments.video_finder import VideoFinder, names_in_url, path_in_file, write_each
from dualformer.moved_files import absolute
from dualformer.segment import Segment
from dualformer.text_encoding import has_surrogates
from dualformer.video.file_formats import is_media

_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_SCHEMA = "http://www.mpi.nl/tools/elan/EAFv3.0.xsd"


def read_elan(path: Path, videos: VideoFinder, *, tiers: Collection[str] = ()) -> list[AnnotatedVideo]:
    """Returns the video of a file: its first medium that is one, or the one that is called like the file.

    ``tiers``: the names of those that are read; all if none is named. The label is an annotation's text, or its tier's
    name where it has none. Annotations that refer to others have their times. Where the video was shifted against the
    others (``TIME_ORIGIN``), times are those of the video. Raises `DatasetError` with the line, also for a document
    type (DTD), which no file of ELAN has.
    """
    root, lines = _parse(path)
    if root.tag != "ANNOTATION_DOCUMENT":
        raise DatasetError(f"{path}:{lines[root]}: {root.tag!r} where ELAN has ANNOTATION_DOCUMENT: save it in ELAN")
    header = root.find("HEADER")
    if header is not None and header.get("TIME_UNITS", "milliseconds") != "milliseconds":
        raise DatasetError(f"{path}:{lines[header]}: times are not in milliseconds: save it in ELAN 2 or later")
    video, origin = _video(root, path, videos)
    found = SegmentCollector()
    found.add_video(video, str(path))
    named = [tier.get("TIER_ID", "") for tier in root.iter("TIER")]
    if unknown := [name for name in tiers if name not in named]:
        raise DatasetError(f"{path}: no tier is called {unknown[0]!r}: there is {first_few(named, most=10)}")
    times = _Times(root, path, lines)
    for tier in root.iter("TIER"):
        name = tier.get("TIER_ID", "")
        if tiers and name not in tiers:
            continue
        for annotation in tier.findall("ANNOTATION/*"):
            where = f"{path}:{lines[annotation]}"
            start, end = times.of(annotation, where)
            label = " ".join((annotation.findtext("ANNOTATION_VALUE") or "").split("\n")).strip() or name
            found.add_segment(video, where, Segment(label=label, start=start + origin, end=end + origin))
    return found.videos()


def write_elan(videos: Sequence[AnnotatedVideo], folder: Path) -> list[Path]:
    """Writes ``VIDEO.eaf`` for each video to ``folder``; returns the files. Segments that overlap are on several tiers.

    Raises `DatasetError` for a label that XML cannot hold.
    """
    return write_each(videos, folder, ".eaf", lambda video: _document(video, folder))


class _Times:
    """The times of annotations, in seconds."""

    def __init__(self, root: Element, path: Path, lines: dict[Element, int]) -> None:
        self._slots: dict[str, float | None] = {}
        for slot in root.iterfind("TIME_ORDER/TIME_SLOT"):
            value = slot.get("TIME_VALUE")
            if value is not None and re.fullmatch(r"[+-]?[0-9]{1,15}", value) is None:
                raise DatasetError(f"{path}:{lines[slot]}: the time {value[:60]!r} is no number of milliseconds")
            self._slots[slot.get("TIME_SLOT_ID", "")] = None if value is None else int(value) / 1000
        self._annotations = {each.get("ANNOTATION_ID", ""): each for each in root.iterfind("TIER/ANNOTATION/*")}

    def of(self, annotation: Element, where: str) -> tuple[float, float]:
        passed: set[Element] = set()
        while annotation.tag == "REF_ANNOTATION":
            passed.add(annotation)
            name = annotation.get("ANNOTATION_REF", "")
            other = self._annotations.get(name)
            if other is None or other in passed:
                raise DatasetError(
                    f"{where}: it refers to the annotation {name[:60]!r}, which has no times: correct it"
                )
            annotation = other
        start, end = (self._slot(annotation.get(f"TIME_SLOT_REF{place}", ""), where) for place in (1, 2))
        return start, end

    def _slot(self, name: str, where: str) -> float:
        if name not in self._slots:
            raise DatasetError(f"{where}: there is no time slot {name[:60]!r}: correct it")
        time = self._slots[name]
        if time is None:
            raise DatasetError(
                f"{where}: the time slot {name!r} has no time: align the annotation in ELAN, or leave its tier out"
            )
        return time


def _parse(path: Path) -> tuple[Element, dict[Element, int]]:
    """Returns the root of an XML file, and the lines on which elements begin."""
    builder, parser, lines = TreeBuilder(), expat.ParserCreate(), dict[Element, int]()

    def start(tag: str, attributes: dict[str, str]) -> None:
        lines[builder.start(tag, attributes)] = parser.CurrentLineNumber

    def refuse(*_: object) -> NoReturn:  # what it defines could be any size, or name other files
        raise DatasetError(
            f"{path}:{parser.CurrentLineNumber}: a document type (DTD), which ELAN writes none of: delete it"
        )

    parser.StartElementHandler = start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = refuse
    parser.buffer_text = True
    try:
        parser.Parse(path.read_bytes(), True)
    except expat.ExpatError as error:
        raise DatasetError(
            f"{path}:{error.lineno}: not XML ({expat.ErrorString(error.code)}): save it in ELAN"
        ) from error
    except (LookupError, ValueError) as error:
        raise DatasetError(f"{path}:1: an encoding that cannot be read ({error}): save it in ELAN") from error
    return builder.close(), lines


def _video(root: Element, path: Path, videos: VideoFinder) -> tuple[Path, float]:
    """Returns the video, and its time where the file's times begin, in seconds."""
    for medium in root.iterfind("HEADER/MEDIA_DESCRIPTOR"):
        urls = (medium.get("RELATIVE_MEDIA_URL", ""), medium.get("MEDIA_URL", ""))
        names = [name for url in urls for name in names_in_url(url)]
        if any(is_media(Path(name)) for name in names) or medium.get("MIME_TYPE", "").startswith("video/"):
            origin = medium.get("TIME_ORIGIN", "0")
            if re.fullmatch(r"[+-]?[0-9]{1,15}", origin) is None:
                raise DatasetError(f"{path}: TIME_ORIGIN {origin[:60]!r} is no number of milliseconds: correct it")
            return videos.find([*names, path.stem], path, str(path)), int(origin) / 1000
    return videos.find([path.stem], path, str(path)), 0.0


def _document(video: AnnotatedVideo, folder: Path) -> str:
    root = Element(
        "ANNOTATION_DOCUMENT", {"AUTHOR": "dualformer", "DATE": "2000-01-01T00:00:00+00:00", "FORMAT": "3.0"}
    )
    root.set("VERSION", "3.0")
    root.set("xmlns:xsi", "http://www.w3.org/2001/XMLSchema-instance")
    root.set("xsi:noNamespaceSchemaLocation", _SCHEMA)
    header = SubElement(root, "HEADER", {"MEDIA_FILE": "", "TIME_UNITS": "milliseconds"})
    medium = SubElement(
        header, "MEDIA_DESCRIPTOR", {"MEDIA_URL": absolute(video.path).as_uri(), "MIME_TYPE": "video/mp4"}
    )
    name = path_in_file(video.path, folder)
    if not Path(name).is_absolute() and not has_surrogates(name) and not _NO_XML.search(name):
        medium.set("RELATIVE_MEDIA_URL", f"./{name}")
    times = sorted({round(time * 1000) for segment in video.segments for time in (segment.start, segment.end)})
    order = SubElement(root, "TIME_ORDER")
    for number, time in enumerate(times, 1):
        SubElement(order, "TIME_SLOT", {"TIME_SLOT_ID": f"ts{number}", "TIME_VALUE": str(time)})
    slots = {time: f"ts{number}" for number, time in enumerate(times, 1)}
    tiers: list[tuple[Element, int]] = []
    placed = sorted(zip(video.segments, video.lines, strict=True), key=lambda pair: (pair[0].start, pair[0].end))
    for number, (segment, line) in enumerate(placed, 1):
        if wrong := _NO_XML.search(segment.label):
            raise DatasetError(f"{line}: XML cannot hold {wrong[0]!r} of {segment.label!r}: rename the label")
        start, end = round(segment.start * 1000), round(segment.end * 1000)
        place = next((place for place, (_, until) in enumerate(tiers) if until <= start), len(tiers))
        if place == len(tiers):
            called = "label" if not tiers else f"label {place + 1}"
            tiers.append((SubElement(root, "TIER", {"LINGUISTIC_TYPE_REF": "default-lt", "TIER_ID": called}), 0))
        tier = tiers[place][0]
        tiers[place] = tier, end
        refs = {"ANNOTATION_ID": f"a{number}", "TIME_SLOT_REF1": slots[start], "TIME_SLOT_REF2": slots[end]}
        annotation = SubElement(SubElement(tier, "ANNOTATION"), "ALIGNABLE_ANNOTATION", refs)
        SubElement(annotation, "ANNOTATION_VALUE").text = segment.label
    kind = {"GRAPHIC_REFERENCES": "false", "LINGUISTIC_TYPE_ID": "default-lt", "TIME_ALIGNABLE": "true"}
    SubElement(root, "LINGUISTIC_TYPE", kind)
    indent(root, "    ")
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + tostring(root, encoding="unicode") + "\n"
