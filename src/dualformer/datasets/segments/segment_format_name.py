"""The names of the formats of segments, for options. Imports nothing heavy."""

from typing import Literal

SegmentFormatName = Literal[
    "csv", "activitynet", "thumos", "epic-kitchens", "label-studio", "via", "elan", "audacity", "vtt", "srt"
]
