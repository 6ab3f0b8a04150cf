"""A recogniser that also explains what it says: ``Recognizer.load("weights.safetensors").explain("clip.mp4")``."""

from typing import Any

from dualformer.explain.explain_video import explain_video
from dualformer.explain.explanation import Explanation
from dualformer.explain.shown_clip import ShownClip
from dualformer.inference import recognizer
from dualformer.video.video_source import VideoSource


class Recognizer(recognizer.Recognizer):
    """Labels, embeds and explains videos: `dualformer.inference.recognizer.Recognizer` with `explain`."""

    def explain(self, video: VideoSource | ShownClip, **settings: Any) -> Explanation:
        """Explains the prediction for one clip of a video: see `explain_video`, also for the settings."""
        return explain_video(self, video, **settings)
