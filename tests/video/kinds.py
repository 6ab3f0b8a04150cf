"""One small file of every kind that a reader must get right: codecs, containers, and what containers do to them."""

from __future__ import annotations

import os
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.packet
from av.codec.codec import UnknownCodecError
from made_videos import encoder, picture, remux

os.environ.setdefault("SVT_LOG", "1")  # the encoder of AV1 would tell its settings

B_FRAMES = {"bf": "3", "g": "12", "b-pyramid": "normal"}
UNEVEN = [40 * i + (i % 7) ** 2 for i in range(60)]
X264, X265 = "open-gop=1:bframes=3", "log-level=none:keyint=12:bframes=3"
VP9 = {"g": "20", "lag-in-frames": "10", "cpu-used": "8"}
AV1 = {"preset": "12", "g": "20", "svtav1-params": "lp=1"}

ENCODED: dict[str, tuple[str, dict[str, Any]]] = {
    "h264 mp4": ("a.mp4", {"options": B_FRAMES}),
    "h264 one key frame": ("a.mp4", {"options": {"bf": "3", "g": "1000"}}),
    "h264 long pyramid": ("a.mkv", {"options": {"bf": "16", "b-pyramid": "normal", "refs": "6", "g": "50"}}),
    "h264 open groups": ("a.mp4", {"options": {"g": "12", "x264-params": X264}}),
    "h264 intra refresh": ("a.mp4", {"options": {"x264-params": "intra-refresh=1:keyint=12:bframes=2"}}),
    "h264 transport stream": ("a.ts", {"options": B_FRAMES}),
    "h264 open groups in transport stream": ("a.ts", {"options": {"g": "12", "x264-params": X264}}),
    "h264 matroska": ("a.mkv", {"options": B_FRAMES}),
    "h264 quicktime": ("a.mov", {"options": B_FRAMES}),
    "h264 flash": ("a.flv", {"options": B_FRAMES}),
    "h264 in avi": ("a.avi", {"options": B_FRAMES}),
    "h264 interlaced": ("a.mp4", {"options": {"x264-params": "tff=1", **B_FRAMES}, "height": 64}),
    "h264 raw": ("a.h264", {"options": B_FRAMES}),
    "h264 odd size 4:4:4": ("a.mp4", {"height": 47, "width": 61, "pixel_format": "yuv444p", "options": B_FRAMES}),
    "h264 4:2:2": ("a.mp4", {"pixel_format": "yuv422p", "options": B_FRAMES}),
    "h264 10 bit": ("a.mp4", {"pixel_format": "yuv420p10le", "options": B_FRAMES}),
    "h264 variable rate": ("a.mp4", {"options": B_FRAMES, "times": UNEVEN}),
    "h264 variable rate in transport stream": ("a.ts", {"options": B_FRAMES, "times": UNEVEN}),
    "h264 one frame": ("a.mp4", {"frames": 1}),
    "hevc open groups": ("a.mp4", {"codec": "libx265", "options": {"x265-params": X265}}),
    "hevc closed groups": ("a.mkv", {"codec": "libx265", "options": {"x265-params": f"{X265}:no-open-gop=1"}}),
    "hevc transport stream": ("a.ts", {"codec": "libx265", "options": {"x265-params": X265}}),
    "hevc 10 bit": (
        "a.mp4", {"codec": "libx265", "pixel_format": "yuv420p10le", "options": {"x265-params": X265}}
    ),
    "hevc 4:4:4": ("a.mkv", {"codec": "libx265", "pixel_format": "yuv444p", "options": {"x265-params": X265}}),
    "av1 webm": ("a.webm", {"codec": "libsvtav1", "options": AV1}),
    "av1 mp4": ("a.mp4", {"codec": "libsvtav1", "options": AV1}),
    "av1 10 bit": ("a.mkv", {"codec": "libsvtav1", "pixel_format": "yuv420p10le", "options": AV1}),
    "mpeg-4 in avi with B-frames": ("a.avi", {"codec": "mpeg4", "max_b_frames": 2, "gop_size": 12}),
    "mpeg-4 in avi": ("a.avi", {"codec": "mpeg4", "gop_size": 12}),
    "mpeg-4 in mp4 with B-frames": ("a.mp4", {"codec": "mpeg4", "max_b_frames": 2, "gop_size": 12}),
    "mpeg-2 transport stream": ("a.ts", {"codec": "mpeg2video", "max_b_frames": 2, "gop_size": 12}),
    "mpeg-2 program stream": ("a.mpg", {"codec": "mpeg2video", "max_b_frames": 2, "gop_size": 12}),
    "mpeg-2 interlaced": (
        "a.ts", {"codec": "mpeg2video", "max_b_frames": 2, "gop_size": 12, "options": {"flags": "+ildct+ilme"}}
    ),
    "vp8 with hidden frames": (
        "a.webm", {"codec": "libvpx", "options": {"auto-alt-ref": "1", "lag-in-frames": "12", "g": "30"}}
    ),
    "vp9": ("a.webm", {"codec": "libvpx-vp9", "options": VP9}),
    "vp9 variable rate": ("a.webm", {"codec": "libvpx-vp9", "options": VP9, "times": UNEVEN}),
    "vp9 odd size": ("a.mp4", {"codec": "libvpx-vp9", "height": 47, "width": 61, "options": VP9}),
    "vp9 one frame": ("a.webm", {"codec": "libvpx-vp9", "frames": 1, "options": VP9}),
    "wmv": ("a.wmv", {"codec": "wmv2", "gop_size": 12}),
    "prores": ("a.mov", {"codec": "prores_ks", "pixel_format": "yuv422p10le"}),
    "motion jpeg": ("a.avi", {"codec": "mjpeg", "pixel_format": "yuvj420p"}),
    "gif": ("a.gif", {"codec": "gif", "pixel_format": "rgb8"}),
    "gif one frame": ("a.gif", {"codec": "gif", "pixel_format": "rgb8", "frames": 1}),
}  # fmt: skip

H264 = {"options": B_FRAMES}
HEVC: dict[str, Any] = {"codec": "libx265", "options": {"x265-params": X265}}
EDITS = {"avoid_negative_ts": "disabled", "use_editlist": "1"}


def remuxed(
    folder: Path, name: str, change: Callable[[av.packet.Packet], None], how: dict[str, Any], **options: str
) -> Path:
    """60 frames, encoded as ``how`` says, their packets changed on the way into ``name``."""
    source = encoder(folder)(f"whole-{name}", **how)
    return remux(source, folder / name, change, **options)


def earlier(frames: int) -> Callable[[av.packet.Packet], None]:
    """Moves packets of 25 a second by that many frames."""

    def change(packet: av.packet.Packet) -> None:
        assert packet.pts is not None and packet.dts is not None and packet.time_base is not None
        ticks = round(frames / 25 / packet.time_base)
        packet.pts, packet.dts = packet.pts - ticks, packet.dts - ticks

    return change


def unchanged(packet: av.packet.Packet) -> None:
    pass


def late(packet: av.packet.Packet) -> None:
    """So late that a clock of 33 bits starts anew a second later."""
    assert packet.pts is not None and packet.dts is not None
    packet.pts, packet.dts = packet.pts + 2**33 - 90_000, packet.dts + 2**33 - 90_000


def two_sizes(path: Path, codec: str, **options: str) -> Path:
    """30 frames of 64×48, then 30 of 128×96, in one stream whose times go on."""
    shapes = ((48, 64), (96, 128))
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=Fraction(25), options=options)
        stream.height, stream.width = shapes[0]
        stream.codec_context.thread_count = 1
        for part, (height, width) in enumerate(shapes):
            encoder: Any = stream
            if part:
                encoder = av.CodecContext.create(codec, "w")
                encoder.height, encoder.width, encoder.pix_fmt = height, width, "yuv420p"
                encoder.time_base, encoder.framerate = Fraction(1, 25), Fraction(25)
                encoder.thread_count, encoder.options = 1, options
            for i in [*range(30 * part, 30 * part + 30), None]:
                frame = None
                if i is not None:
                    frame = av.VideoFrame.from_ndarray(picture(i, height, width), format="rgb24").reformat(
                        format="yuv420p"
                    )
                    frame.pts, frame.time_base = i, Fraction(1, 25)
                for packet in encoder.encode(frame):
                    packet.stream = stream
                    container.mux(packet)
    return path


MADE: dict[str, Callable[[Path], Path]] = {
    # An edit list says which part of what an MP4 stores is shown: cut in the middle of a group of pictures or not.
    "h264 edit list within a group": lambda folder: remuxed(folder, "a.mp4", earlier(17), H264, **EDITS),
    "h264 edit list at a group": lambda folder: remuxed(folder, "a.mov", earlier(7), H264, **EDITS),
    "h264 edit list that waits": lambda folder: remuxed(folder, "a.mp4", earlier(-20), H264, **EDITS),
    "h264 no edit list": lambda folder: remuxed(folder, "a.mp4", unchanged, H264, use_editlist="0"),
    "h264 fragments": lambda folder: remuxed(folder, "a.mp4", unchanged, H264, movflags="frag_keyframe+empty_moov"),
    "hevc edit list within an open group": lambda folder: remuxed(folder, "a.mp4", earlier(15), HEVC, **EDITS),
    "mpeg-4 edit list": lambda folder: remuxed(
        folder, "a.mp4", earlier(15), {"codec": "mpeg4", "max_b_frames": 2, "gop_size": 12}, **EDITS
    ),
    "vp9 edit list": lambda folder: remuxed(
        folder, "a.mp4", earlier(15), {"codec": "libvpx-vp9", "options": VP9}, **EDITS
    ),
    "h264 clock that starts anew": lambda folder: remuxed(folder, "a.ts", late, H264, avoid_negative_ts="disabled"),
    "h264 two sizes": lambda folder: two_sizes(folder / "a.ts", "libx264", **B_FRAMES),
    "vp9 two sizes": lambda folder: two_sizes(folder / "a.webm", "libvpx-vp9", **VP9),
}

KINDS = (*ENCODED, *MADE)

COUNTED = {
    "h264 in avi",
    "h264 intra refresh",
    "h264 interlaced",
    "h264 raw",
    "mpeg-4 in avi with B-frames",
    "mpeg-2 interlaced",
    "vp8 with hidden frames",
}
"""Kinds whose packets do not tell which frames there are. Of all others a frame is found without decoding the file."""

COUNTED_IF_LARGE = {"mpeg-2 program stream"}
"""Likewise where the packets are not kept in memory: after a seek their times are other ones."""


def make(kind: str, folder: Path) -> Path:
    """A file of that kind in ``folder``."""
    if kind in MADE:
        return MADE[kind](folder)
    name, how = ENCODED[kind]
    return encoder(folder)(name, **how)


def can_encode(kind: str) -> bool:
    """Whether this FFmpeg has the encoder; those of HEVC and AV1 are not everywhere."""
    codec = ENCODED[kind][1].get("codec", "libx264") if kind in ENCODED else "libx264"
    try:
        av.Codec(codec, "w")
    except UnknownCodecError:
        return False
    return True
