"""Renders how good timelines are as one HTML page: bars of truth and prediction, and clips of the longest errors."""

from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup

from dualformer.inference.timeline import format_time
from dualformer.report.mistake_clips import MOST_BYTES, MOST_BYTES_EACH, encode_small_video
from dualformer.report.page import page_policy, template_environment
from dualformer.segment import Segment
from dualformer.text_encoding import without_surrogates
from dualformer.timelines.evaluate_timelines import JudgedVideo, TimelineEvaluation
from dualformer.timelines.timeline_errors import ErrorStretch, error_stretches
from dualformer.timelines.timeline_picture import worst_first
from dualformer.timelines.timeline_text import settings_text
from dualformer.video.open_video import open_video
from dualformer.video.transforms import resize_short_side
from dualformer.video.video_segment import VideoSegment
