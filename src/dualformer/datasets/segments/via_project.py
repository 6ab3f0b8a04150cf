"""Reads and writes segments as projects of VIA 3, the VGG Image Annotator for video and sound, in JSON.

A project has files, views of them, attributes, and metadata: each with a view (``vid``), times (``z``) and the values
of attributes (``av``). Two times are a segment, one is a moment; metadata of regions of the picture (``xy``) is let be.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from dualformer.datasets.samples import DatasetError, first_few, ordered_classes
from dualformer.datasets.segments.annotated_video import AnnotatedVideo
from dualformer.datasets.segments.collect_segments import SegmentCollector
from dualformer.datasets.segments.located_json import JsonObject, LocatedJson, expect, field, number
from dualformer.datasets.segments.video_finder import VideoFinder, names_in_url, path_in_file
from dualformer.files import write_json
from dualformer.segment import Segment

_IMAGE, _VIDEO = 2, 4  # kinds of files
_RELATIVE, _FILE_URL = 2, 3  # where files are
_CHECKBOX, _SELECT = 2, 4  # kinds of attributes
_OF_SEGMENTS, _OF_MOMENTS = "FILE1_Z2_XY0", "FILE1_Z1_XY0"


def read_via(path: Path, videos: VideoFinder, *, tiers: Collection[str] = ()) -> list[AnnotatedVideo]:
    """Returns the videos of a project.

    ``tiers``: names of the attributes whose values are labels; all of segments and moments if none is named. Raises
    `DatasetError` with the line, or with the place in a file of one line.
    """
    project, found = LocatedJson(path), SegmentCollector()
    content = expect(project.content, JsonObject, str(path), "the file")
    attributes = _attributes(content, tiers, str(path))
    of_view: dict[str, Path] = {}
    views = field(content, "view", JsonObject, str(path))
    for name, item in views.items():
        view = expect(item, JsonObject, str(path), f"view {name!r}")
        where = project.where(view, f"view {name!r}")
        files = [_file(content, each, where) for each in field(view, "fid_list", list, where)]
        if any(file.get("type") == _IMAGE for file in files):
            continue
        if len(files) != 1:
            raise DatasetError(f"{where}: a view of {len(files)} files: segments are of one video")
        texts = (expect(files[0].get(key) or "", str, where, repr(key)) for key in ("src", "fname"))
        names = [name for text in texts for name in names_in_url(text)]
        of_view[name] = videos.find(names or [""], path, where)
        found.add_video(of_view[name], where)
    for name, item in field(content, "metadata", JsonObject, str(path)).items():
        metadata = expect(item, JsonObject, str(path), f"metadata {name!r}")
        where = project.where(metadata, f"metadata {name!r}")
        times = [number(time, where, "a time") for time in field(metadata, "z", list, where)]
        view_name = str(metadata.get("vid"))
        if metadata.get("xy") or len(times) not in (1, 2):
            continue
        if view_name not in views:
            raise DatasetError(f"{where}: there is no view {view_name[:60]!r}: correct 'vid'")
        if view_name in of_view:
            for label in _labels(metadata, attributes, where, all_of_them=not tiers):
                segment = Segment(label=label, start=times[0], end=times[-1])
                found.add_segment(of_view[view_name], where, segment)
    return found.videos()


def write_via(videos: Sequence[AnnotatedVideo], path: Path) -> None:
    """Writes a project with one attribute, whose options are the labels."""
    labels = ordered_classes(segment.label for video in videos for segment in video.segments)
    ids = [str(number) for number in range(1, len(videos) + 1)]
    files: dict[str, dict[str, object]] = {}
    for fid, video in zip(ids, videos, strict=True):
        name = path_in_file(video.path, path.parent)
        below = not Path(name).is_absolute()
        place = {"loc": _RELATIVE, "src": name} if below else {"loc": _FILE_URL, "src": Path(name).as_uri()}
        files[fid] = {"fid": fid, "fname": Path(name).name, "type": _VIDEO, **place}
    metadata = {
        f"{fid}_{number}": {
            "vid": fid,
            "flg": 0,
            "z": [round(segment.start, 3), round(segment.end, 3)],
            "xy": [],
            "av": {"1": segment.label},
        }
        for fid, video in zip(ids, videos, strict=True)
        for number, segment in enumerate(video.segments)
    }
    shown = {f"{what}_metadata_editor_visible": True for what in ("file", "spatial", "temporal_segment")}
    write_json(
        path,
        {
            "project": {
                "pid": "__VIA_PROJECT_ID__",
                "rev": "__VIA_PROJECT_REV_ID__",
                "rev_timestamp": "__VIA_PROJECT_REV_TIMESTAMP__",
                "pname": path.stem,
                "creator": "dualformer",
                "created": 0,
                "data_format_version": "3.1.1",
                "vid_list": ids,
            },
            "config": {
                "file": {"loc_prefix": {str(place): "" for place in range(1, 5)}},
                "ui": {
                    "file_content_align": "center",
                    **shown,
                    "spatial_region_label_attribute_id": "",
                    "gtimeline_visible_row_count": "4",
                },
            },
            "attribute": {
                "1": {
                    "aname": "label",
                    "anchor_id": _OF_SEGMENTS,
                    "type": _SELECT,
                    "desc": "What happens",
                    "options": {label: label for label in labels},
                    "default_option_id": "",
                }
            },
            "file": files,
            "metadata": metadata,
            "view": {fid: {"fid_list": [fid]} for fid in ids},
        },
    )


@dataclass(frozen=True, kw_only=True)
class _Attribute:
    several: bool
    """Whether a value is a list of options."""
    options: JsonObject


def _attributes(content: JsonObject, tiers: Collection[str], where: str) -> dict[str, _Attribute]:
    """Returns the attributes whose values are labels, by their ids. Raises `DatasetError` for ``tiers`` that are
    none."""
    found: dict[str, _Attribute] = {}
    known: list[str] = []
    for identity, item in expect(content.get("attribute", JsonObject()), JsonObject, where, "'attribute'").items():
        attribute = expect(item, JsonObject, where, f"attribute {identity!r}")
        name = str(attribute.get("aname") or identity)
        if attribute.get("anchor_id") not in (_OF_SEGMENTS, _OF_MOMENTS):
            continue
        known.append(name)
        if not tiers or name in tiers:
            options = expect(attribute.get("options") or JsonObject(), JsonObject, where, f"'options' of {name!r}")
            found[identity] = _Attribute(several=attribute.get("type") == _CHECKBOX, options=options)
    if unknown := [name for name in tiers if name not in known]:
        raise DatasetError(f"{where}: no attribute of segments is called {unknown[0]!r}: there is {first_few(known)}")
    return found


def _file(content: JsonObject, identity: object, where: str) -> JsonObject:
    files = field(content, "file", JsonObject, where)
    return expect(files.get(str(identity)), JsonObject, where, f"file {str(identity)[:60]!r}")


def _labels(metadata: JsonObject, attributes: dict[str, _Attribute], where: str, *, all_of_them: bool) -> list[str]:
    """Returns the labels of a segment. Raises `DatasetError` where ``all_of_them`` are none."""
    labels: list[str] = []
    for identity, item in expect(metadata.get("av", JsonObject()), JsonObject, where, "'av'").items():
        if (attribute := attributes.get(identity)) is not None:
            value = expect(item, str, where, f"the value of attribute {identity[:60]!r}")
            chosen = value.split(",") if attribute.several else [value]
            texts = (attribute.options.get(each, each) for each in chosen if each.strip())
            labels += [expect(text, str, where, "an option").strip() for text in texts]
    if not labels and all_of_them:
        raise DatasetError(f"{where}: a segment without a label: give it one, or delete it")
    return labels
