"""``dualformer stream``: label what a camera, a URL, a pipe or a file shows now."""

import signal
import sys
import time
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

import tyro

from dualformer.cli.shared_options import InferenceOptions, WeightsOrExport, arguments, must
from dualformer.plurals import counted
from dualformer.text_encoding import json_text


@dataclass(frozen=True, kw_only=True)
class Options(InferenceOptions):
    source: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="SOURCE")]
    """camera:0 or /dev/video0, a URL (rtsp://…, http://…), - for standard input, a named pipe, or a file."""
    weights: WeightsOrExport
    hop: float | None = None
    """Seconds between two labels; half a clip if not given."""
    smoothing: float = 0.5
    """How much of the label before is kept, 0 to less than 1."""
    realtime: bool = False
    """Play no faster than the source's own clock, as a camera would show it: for files."""
    seconds: float | None = None
    """Stop after this time."""
    timeout: float = 10.0
    """Seconds that a source may be silent before it counts as lost and is opened again."""
    give_up: float = 60.0
    """Seconds without a frame after which it ends with an error; 0 for never."""
    option: tuple[str, ...] = ()
    """KEY=VALUE for FFmpeg, such as video_size=640x480 of a camera or rtsp_transport=udp."""
    top: int = 3
    """Classes to name in JSON."""
    json: bool = False
    """Print one JSON object for each label, and for each time that the source is opened or lost, and nothing else."""

    def __post_init__(self) -> None:
        must("be positive", self, "hop", "seconds", "timeout")
        if not self.give_up >= 0:
            raise ValueError(f"--give-up must not be negative, not {self.give_up}")
        if not 0 <= self.smoothing < 1:
            raise ValueError(f"--smoothing must be at least 0 and less than 1, not {self.smoothing}")
        must("be at least 1", self, "top")
        if wrong := [text for text in self.option if "=" not in text]:
            raise ValueError(f"--option is written KEY=VALUE, not {wrong[0]!r}")


def run(options: Options) -> int:
    from dualformer.inference.stream import StreamEvent
    from dualformer.inference.timeline import format_time
    from dualformer.video.live_source import StreamSource

    StreamSource.parse(options.source)  # a wrong name shows before anything is loaded
    recognizer = options.load(options.weights)

    def say(content: dict[str, object], line: str) -> None:
        now = datetime.now().astimezone()
        if options.json:
            print(json_text({"time": now.isoformat(timespec="milliseconds"), **content}, stream=sys.stdout), flush=True)
        else:
            print(f"{now:%H:%M:%S}  {line}", flush=True)

    def tell(event: StreamEvent) -> None:
        if event.kind == "lost":
            content = {"event": "lost", "reason": event.reason, "retry_in": event.wait}
            say(content, f"lost: {event.reason}; trying again in {event.wait:g} s")
        else:
            say({"event": event.kind}, f"open: {stream.source}")

    stream = recognizer.stream(
        options.source,
        **arguments(options, "hop", "smoothing", "realtime", "seconds", "timeout"),
        give_up=options.give_up or None,
        options=dict(text.split("=", 1) for text in options.option),
        on_event=tell,
    )
    latencies: list[float] = []
    before = {number: signal.signal(number, lambda *_: stream.stop()) for number in (signal.SIGINT, signal.SIGTERM)}
    begun = time.monotonic()
    try:
        if not options.json:
            print(f"labelling {stream.source} with {options.weights} on {recognizer.device}; Ctrl-C stops", flush=True)
        for label in stream:
            counts = label.counts
            latencies = [*latencies[-999:], label.latency]
            say(
                {
                    "seconds": round(label.seconds, 3),
                    "label": label.label,
                    "probability": round(label.probability, 6),
                    "labels": [
                        {"label": name, "probability": round(p, 6)} for name, p in label.prediction.top(options.top)
                    ],
                    "latency": round(label.latency, 4),
                    "frames": counts.frames,
                    "dropped": counts.dropped,
                    "missed": counts.missed,
                    "reconnects": counts.reconnects,
                },
                f"{label.probability:6.1%}  {label.label}   (latency {label.latency:.2f} s, {counts.dropped} dropped)",
            )
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if not options.json:
        counts = stream.counts
        middle = sorted(latencies)[len(latencies) // 2] if latencies else 0.0
        print(
            f"{counted(counts.frames, 'frame')} in {format_time(time.monotonic() - begun)}: {counts.dropped} dropped, "
            f"{counted(counts.missed, 'label')} missed, {counted(counts.reconnects, 'reconnect')}; latency "
            f"{middle:.2f} s (median), {max(latencies, default=0.0):.2f} s at most"
        )
    return 0
