"""Small files of segments, laid out as each program writes them, with what is read of each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dualformer.datasets.segments.segment_format_name import SegmentFormatName


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A file, the videos that lie beside it, and the segments of each: label, start, end, probability, place."""

    format: SegmentFormatName
    name: str
    text: str
    videos: tuple[str, ...]
    segments: dict[str, list[tuple[str, float, float, float, str]]]
    settings: dict[str, Any]

    def lay_out(self, folder: Path) -> Path:
        """Writes the file and empty videos; returns the file."""
        for video in self.videos:
            (folder / video).parent.mkdir(parents=True, exist_ok=True)
            (folder / video).touch()
        path = folder / self.name
        path.write_bytes(self.text.encode())
        return path


def sample(
    format_name: SegmentFormatName,
    name: str,
    text: str,
    videos: tuple[str, ...],
    segments: dict[str, list[tuple[str, float, float, float, str]]],
    **settings: Any,
) -> Sample:
    return Sample(format=format_name, name=name, text=text, videos=videos, segments=segments, settings=settings)


CSV = sample(
    "csv",
    "marks.csv",
    "path;start;end;label;note;split;fps\r\n"
    'day 1/film.mp4;12,5;00:15.25;"take, ""it""";x;train;25\r\n'
    "day 1/film.mp4;1:00:00.5;1:00:00.5;hit;;train;\r\n"
    "\r\n"
    "empty.mp4;;;;;;\r\n",
    ("day 1/film.mp4", "empty.mp4"),
    {
        "day 1/film.mp4": [('take, "it"', 12.5, 15.25, 1, ":2"), ("hit", 3600.5, 3600.5, 1, ":3")],
        "empty.mp4": [],
    },
)
CSV_OF_FRAMES = sample(
    "csv",
    "frames.csv",
    "path,start,end,label,probability\nfilm.mp4,50,75,walk,0.5\nfilm.mp4,0:04.5,125,run,\n",
    ("film.mp4",),
    {"film.mp4": [("walk", 2, 3, 0.5, ":2"), ("run", 4.5, 5, 1, ":3")]},
    frames_per_second=25,
)
TIMELINE = sample(
    "csv",
    "film.csv",
    "start,end,label,probability\n0.000,1.500,push & pull,0.876000\n",
    ("film.mp4",),
    {"film.mp4": [("push & pull", 0, 1.5, 0.876, ":2")]},
)
EPIC = sample(
    "epic-kitchens",
    "EPIC_100_validation.csv",
    "narration_id,participant_id,video_id,narration_timestamp,start_timestamp,stop_timestamp,start_frame,stop_frame,"
    "narration,verb,verb_class,noun,noun_class,all_nouns,all_noun_classes\n"
    "P01_11_0,P01,P01_11,00:00:00.560,00:00:00.00,00:00:01.89,1,113,take plate,take,0,plate,2,['plate'],[2]\n"
    "P02_12_1,P02,P02_12,00:00:02.000,01:00:02.00,01:00:03.50,1,2,\"put-down 'it', there\",put-down,1,cup,13,"
    "\"['cup', 'box']\",\"[13, 4]\"\n",
    ("P01/videos/P01_11.MP4", "P02/videos/P02_12.MP4"),
    {
        "P01/videos/P01_11.MP4": [("take plate", 0, 1.89, 1, ":2")],
        "P02/videos/P02_12.MP4": [("put-down cup", 3602, 3603.5, 1, ":3")],
    },
)
EPIC_NOUNS = sample(
    "epic-kitchens",
    "nouns.csv",
    EPIC.text,
    EPIC.videos,
    {
        "P01/videos/P01_11.MP4": [("2", 0, 1.89, 1, ":2")],
        "P02/videos/P02_12.MP4": [("13", 3602, 3603.5, 1, ":3")],
    },
    label_columns=("noun_class",),
)
ACTIVITYNET = sample(
    "activitynet",
    "activity_net.v1-3.min.json",
    '{"database": {"---9CpRcKoU": {"duration": 14.07, "subset": "training", "resolution": "320x240", "url": '
    '"https://www.youtube.com/watch?v=---9CpRcKoU", "annotations": [{"segment": [0.01, 12.644405017160688], "label": '
    '"Drinking beer"}]}, "--0edUL8zmA": {"duration": 92.18, "subset": "testing", "annotations": []}}, "taxonomy": '
    '[{"parentName": "Root", "nodeName": "Drinking beer", "nodeId": 1}], "version": "VERSION 1.3"}',
    ("train/v_---9CpRcKoU.mp4", "test/v_--0edUL8zmA.mkv"),
    {
        "train/v_---9CpRcKoU.mp4": [
            ("Drinking beer", 0.01, 12.644405017160688, 1, ": '---9CpRcKoU', annotation 0"),
        ],
        "test/v_--0edUL8zmA.mkv": [],
    },
)
THUMOS_JSON = sample(
    "activitynet",
    "thumos14.json",
    """{
    "version": "Thumos14-30fps",
    "database": {
        "video_validation_0000690": {
            "subset": "Validation",
            "duration": 16.73,
            "fps": 30.0,
            "annotations": [
                {
                    "label": "BaseballPitch",
                    "segment": [0.2, 1.1],
                    "segment(frames)": [6.0, 33.0],
                    "label_id": 0
                },
                {"label": "BaseballPitch", "segment": [4, 5], "score": 0.25}
            ]
        }
    }
}
""",
    ("video_validation_0000690.mp4",),
    {
        "video_validation_0000690.mp4": [
            ("BaseballPitch", 0.2, 1.1, 1, ":9"),
            ("BaseballPitch", 4, 5, 0.25, ":15"),
        ]
    },
)
THUMOS = sample(
    "thumos",
    "BaseballPitch_val.txt",
    "video_validation_0000266  72.80  76.40\r\nvideo_validation_0000681 44.00 50.90 \r\n\r\n"
    "video_validation_0000266  80.1  90\r\n",
    ("validation/video_validation_0000266.mp4", "validation/video_validation_0000681.mp4"),
    {
        "validation/video_validation_0000266.mp4": [
            ("BaseballPitch", 72.8, 76.4, 1, ":1"),
            ("BaseballPitch", 80.1, 90, 1, ":4"),
        ],
        "validation/video_validation_0000681.mp4": [("BaseballPitch", 44, 50.9, 1, ":2")],
    },
)
LABEL_STUDIO = sample(
    "label-studio",
    "project-3-at-2026-03-01.json",
    """[
  {
    "id": 11,
    "annotations": [
      {
        "id": 7,
        "completed_by": 1,
        "result": [
          {
            "original_length": 20.0,
            "value": {"ranges": [{"start": 1, "end": 50}], "timelinelabels": ["Walk", "Outdoors"]},
            "id": "a1", "from_name": "timelineLabels", "to_name": "video", "type": "timelinelabels", "origin": "manual"
          },
          {
            "value": {"ranges": [{"start": 76, "end": 76}], "timelinelabels": ["Hit"]},
            "id": "a2", "from_name": "timelineLabels", "to_name": "video", "type": "timelinelabels", "origin": "manual"
          },
          {
            "value": {"framesCount": 500, "duration": 20.0, "sequence": [{"frame": 1, "x": 1}], "labels": ["Man"]},
            "id": "a3", "from_name": "box", "to_name": "video", "type": "videorectangle", "origin": "manual"
          },
          {"value": {"choices": ["good"]}, "id": "a4", "from_name": "choice", "to_name": "video", "type": "choices"}
        ],
        "was_cancelled": false,
        "ground_truth": false
      },
      {"id": 8, "result": [], "was_cancelled": true, "ground_truth": false}
    ],
    "predictions": [{"result": [{"type": "timelinelabels", "value": {}}]}],
    "data": {"video": "/data/upload/3/0a1b2c3d-film_1.mp4", "fps": 25}
  },
  {
    "id": 12,
    "annotations": [
      {
        "result": [
          {
            "original_length": 12.0,
            "value": {"start": 0.5, "end": 3.25, "channel": 0, "labels": ["Speech"]},
            "id": "b1", "from_name": "label", "to_name": "audio", "type": "labels"
          }
        ]
      }
    ],
    "data": {"url": "/data/local-files/?d=day%202/film%202.mp4", "text": "in the kitchen"}
  },
  {
    "id": 13,
    "annotations": [],
    "predictions": [
      {"model_version": "one", "score": 0.9, "result": [
        {"type": "timelinelabels", "score": 0.75,
          "value": {"ranges": [{"start": 26, "end": 50}], "timelinelabels": ["Walk"]}}
      ]}
    ],
    "data": {"video": "https://videos.example.org/a/film%203.mp4?token=x", "fps": 25}
  },
  {"id": 14, "annotations": [], "predictions": [], "data": {"video": "nobody.mp4"}}
]
""",
    ("film_1.mp4", "day 2/film 2.mp4", "film 3.mp4"),
    {
        "film_1.mp4": [
            ("Walk", 0, 2, 1, ":9"),
            ("Outdoors", 0, 2, 1, ":9"),
            ("Hit", 3, 3, 1, ":14"),
        ],
        "day 2/film 2.mp4": [("Speech", 0.5, 3.25, 1, ":37")],
        "film 3.mp4": [("Walk", 1, 2, 0.75, ":52")],
    },
)
VIA = sample(
    "via",
    "via_project.json",
    """{
 "project": {"pid": "__VIA_PROJECT_ID__", "rev": "__VIA_PROJECT_REV_ID__", "rev_timestamp":
  "__VIA_PROJECT_REV_TIMESTAMP__", "pname": "Unnamed VIA Project", "created": 1586260400000, "vid_list": ["1", "2"]},
 "config": {"file": {"loc_prefix": {"1": "", "2": "", "3": "", "4": ""}}, "ui": {"file_content_align": "center"}},
 "attribute": {
  "1": {"aname": "TEMPORAL-SEGMENTS", "anchor_id": "FILE1_Z2_XY0", "type": 4, "desc": "added by default",
   "options": {"default": "Default", "w": "walk"}, "default_option_id": ""},
  "2": {"aname": "manner", "anchor_id": "FILE1_Z2_XY0", "type": 2, "options": {"0": "fast", "1": "loud"}},
  "3": {"aname": "object", "anchor_id": "FILE1_Z1_XY1", "type": 1, "options": {}}
 },
 "file": {
  "1": {"fid": "1", "fname": "film 1.mp4", "type": 4, "loc": 1, "src": ""},
  "2": {"fid": "2", "fname": "film.ogv", "type": 4, "loc": 2, "src": "https://example.org/media/film%202.ogv"},
  "3": {"fid": "3", "fname": "picture.jpg", "type": 2, "loc": 1, "src": ""}
 },
 "metadata": {
  "1_a": {"vid": "1", "flg": 0, "z": [0.5, 2.25], "xy": [], "av": {"1": "w"}},
  "1_b": {"vid": "1", "flg": 0, "z": [3, 4], "xy": [], "av": {"1": "run", "2": "0,1", "3": "x"}},
  "1_c": {"vid": "1", "flg": 0, "z": [4], "xy": [2, 10, 10, 50, 50], "av": {"3": "cup"}},
  "1_d": {"vid": "1", "flg": 0, "z": [5], "xy": [], "av": {"1": "w"}},
  "1_e": {"vid": "1", "flg": 0, "z": [], "xy": [], "av": {"3": "all of the film"}},
  "3_a": {"vid": "3", "flg": 0, "z": [], "xy": [2, 1, 1, 5, 5], "av": {"3": "cup"}}
 },
 "view": {"1": {"fid_list": ["1"]}, "2": {"fid_list": [2]}, "3": {"fid_list": ["3"]}}
}
""",
    ("film 1.mp4", "film 2.ogv"),
    {
        "film 1.mp4": [
            ("walk", 0.5, 2.25, 1, ":17"),
            ("run", 3, 4, 1, ":18"),
            ("fast", 3, 4, 1, ":18"),
            ("loud", 3, 4, 1, ":18"),
            ("walk", 5, 5, 1, ":20"),
        ],
        "film 2.ogv": [],
    },
)
VIA_MANNER = sample(
    "via",
    "via_manner.json",
    VIA.text,
    VIA.videos,
    {"film 1.mp4": [("fast", 3, 4, 1, ":18"), ("loud", 3, 4, 1, ":18")], "film 2.ogv": []},
    tiers=("manner",),
)
ELAN = sample(
    "elan",
    "session.eaf",
    """<?xml version="1.0" encoding="UTF-8"?>
<ANNOTATION_DOCUMENT AUTHOR="" DATE="2026-02-03T10:00:00+01:00" FORMAT="3.0" VERSION="3.0"
    xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
    xsi:noNamespaceSchemaLocation="http://www.mpi.nl/tools/elan/EAFv3.0.xsd">
    <LICENSE LICENSE_URL=""/>
    <HEADER MEDIA_FILE="" TIME_UNITS="milliseconds">
        <MEDIA_DESCRIPTOR MEDIA_URL="file:///D:/films/sound.wav" MIME_TYPE="audio/x-wav"
            RELATIVE_MEDIA_URL="./sound.wav"/>
        <MEDIA_DESCRIPTOR MEDIA_URL="file:///D:/films/my film.mp4" MIME_TYPE="video/mp4"
            RELATIVE_MEDIA_URL="../elsewhere/my film.mp4" TIME_ORIGIN="1000"/>
        <PROPERTY NAME="lastUsedAnnotationId">4</PROPERTY>
    </HEADER>
    <TIME_ORDER>
        <TIME_SLOT TIME_SLOT_ID="ts1" TIME_VALUE="500"/>
        <TIME_SLOT TIME_SLOT_ID="ts2" TIME_VALUE="500"/>
        <TIME_SLOT TIME_SLOT_ID="ts3" TIME_VALUE="2250"/>
        <TIME_SLOT TIME_SLOT_ID="ts4"/>
    </TIME_ORDER>
    <TIER LINGUISTIC_TYPE_REF="default-lt" TIER_ID="action">
        <ANNOTATION>
            <ALIGNABLE_ANNOTATION ANNOTATION_ID="a1" TIME_SLOT_REF1="ts1" TIME_SLOT_REF2="ts3">
                <ANNOTATION_VALUE>pick &amp; place</ANNOTATION_VALUE>
            </ALIGNABLE_ANNOTATION>
        </ANNOTATION>
        <ANNOTATION>
            <ALIGNABLE_ANNOTATION ANNOTATION_ID="a2" TIME_SLOT_REF1="ts1" TIME_SLOT_REF2="ts2">
                <ANNOTATION_VALUE></ANNOTATION_VALUE>
            </ALIGNABLE_ANNOTATION>
        </ANNOTATION>
    </TIER>
    <TIER LINGUISTIC_TYPE_REF="note-lt" PARENT_REF="action" TIER_ID="note">
        <ANNOTATION>
            <REF_ANNOTATION ANNOTATION_ID="a3" ANNOTATION_REF="a1">
                <ANNOTATION_VALUE>left
hand</ANNOTATION_VALUE>
            </REF_ANNOTATION>
        </ANNOTATION>
    </TIER>
    <LINGUISTIC_TYPE GRAPHIC_REFERENCES="false" LINGUISTIC_TYPE_ID="default-lt" TIME_ALIGNABLE="true"/>
    <CONSTRAINT DESCRIPTION="1-1 association with a parent annotation" STEREOTYPE="Symbolic_Association"/>
</ANNOTATION_DOCUMENT>
""",
    ("my film.mp4", "sound.mp4"),
    {
        "my film.mp4": [
            ("pick & place", 1.5, 3.25, 1, ":21"),
            ("action", 1.5, 1.5, 1, ":26"),
            ("left hand", 1.5, 3.25, 1, ":33"),
        ]
    },
)
ELAN_TIER = sample(
    "elan",
    "tier.eaf",
    ELAN.text,
    ELAN.videos,
    {"my film.mp4": [("left hand", 1.5, 3.25, 1, ":33")]},
    tiers=("note",),
)
AUDACITY = sample(
    "audacity",
    "film.mp4.txt",
    '2.150000\t2.150000\tpoint\n\\\t6928.456055\t6928.456055\n3.400000\t6.100000\ta "region", long\n',
    ("film.mp4",),
    {"film.mp4": [("point", 2.15, 2.15, 1, ":1"), ('a "region", long', 3.4, 6.1, 1, ":3")]},
)
VTT = sample(
    "vtt",
    "film.vtt",
    "WEBVTT - made by hand\n\nNOTE nothing\n\nintro\n00:01.500 --> 00:02.000 align:start\n<v Ann>walk &amp;\nrun</v>\n"
    "\n"
    "01:00:00.000 --> 01:00:01.000\njump (93 %)\n",
    ("film.mkv",),
    {"film.mkv": [("walk & run", 1.5, 2, 1, ":6"), ("jump", 3600, 3601, 0.93, ":10")]},
)
SRT = sample(
    "srt",
    "film.srt",
    "\ufeff1\r\n00:00:01,500 --> 00:00:02,000\r\nwalk,\r\nslowly\r\n\r\n"
    "2\r\n01:00:00,000 --> 01:00:00,000\r\nhit (7%)\r\n",
    ("film.mkv",),
    {"film.mkv": [("walk, slowly", 1.5, 2, 1, ":2"), ("hit", 3600, 3600, 0.07, ":7")]},
)

SAMPLES = (
    *(CSV, CSV_OF_FRAMES, TIMELINE, EPIC, EPIC_NOUNS, ACTIVITYNET, THUMOS_JSON, THUMOS),
    *(LABEL_STUDIO, VIA, VIA_MANNER, ELAN, ELAN_TIER, AUDACITY, VTT, SRT),
)
