"""What a film is: HDR, several streams, sizes that change, absurd shapes, text that is named like a video."""

import logging
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.stream
import numpy as np
import pytest
import torch
from kinds import two_sizes
from made_videos import encoder, picture

from dualformer.datasets.decode_check import check_into, check_videos
from dualformer.datasets.manifest import read_manifest
from dualformer.video import frame_converter
from dualformer.video.clip_reader import Views, read_noted_views, read_views
from dualformer.video.container import VideoError
from dualformer.video.hdr import to_sdr
from dualformer.video.playback import Playback
from dualformer.video.preprocessing import kinetics
from dualformer.video.pyav_reader import PyAVReader
from dualformer.video.sequential_decoding import decode_all
from dualformer.video.transforms import crop_views, cut_long, resize_frames
from dualformer.weights.errors import WeightsError
from dualformer.weights.safetensors_file import load_weights

PRE = kinetics(frames=4, stride=2, size=32)
PQ, HLG = 16, 18


def reference(code: float, transfer: str) -> int:
    """A grey code value of 0 to 1 in SDR, 0 to 255: the formula written out for one number."""
    if transfer == "PQ":
        m1, m2, c1, c2, c3 = 0.1593017578125, 78.84375, 0.8359375, 18.8515625, 18.6875
        light = 10000 * (max(code ** (1 / m2) - c1, 0) / (c2 - c3 * code ** (1 / m2))) ** (1 / m1)
    else:
        scene = code * code / 3 if code <= 0.5 else (np.exp((code - 0.55991073) / 0.17883277) + 0.28466892) / 12
        light = 1000 * scene**1.2
    x, p, j = light / 203, 1000 / 203, 0.5
    if x > j:
        a = -j * j * (p - 1) / (j * j - 2 * j + p)
        b = (j * j - 2 * j * p + p) / (p - 1)
        x = min(1, (b * b + 2 * b * j + j * j) / (b - a) * (x + a) / (x + b))
    return round(255 * x ** (1 / 2.4))


@pytest.mark.parametrize("transfer", ["PQ", "HLG"])
def test_greys_are_converted_by_the_formula(transfer: Any) -> None:
    codes = np.linspace(0, 1, 97)
    grey = np.rint(codes * 65535).astype(np.uint16)[None, :, None].repeat(3, axis=2)
    found = to_sdr(grey, transfer)[0].astype(int)
    expected = [reference(code, transfer) for code in codes]
    assert np.abs(found - np.array(expected)[:, None]).max() <= 1
    assert found[0].tolist() == [0, 0, 0] and found[-1].tolist() == [255, 255, 255]
    assert (np.diff(found[:, 0]) >= 0).all()


def test_sdr_white_of_pq_stays_bright_and_colours_stay_colours() -> None:
    white = round(65535 * 0.5807)  # 203 cd/m²
    assert 200 < to_sdr(np.full((1, 1, 3), white, np.uint16), "PQ")[0, 0, 0] < 240
    red = np.array([[[40000, 20000, 20000]]], np.uint16)
    r, g, b = to_sdr(red, "PQ")[0, 0].tolist()
    assert r > 2 * max(g, b)
    wide, narrow = to_sdr(red, "PQ")[0, 0], to_sdr(red, "PQ", wide=False)[0, 0]
    assert wide[1] < narrow[1]  # a red of BT.2020 is a redder one in BT.709


@pytest.fixture
def hdr(tmp_path: Path) -> dict[str, Path]:
    """The same grey ramp of 10 bits, tagged as PQ, as HLG and not at all."""
    found: dict[str, Path] = {}
    for name, transfer in (("PQ", PQ), ("HLG", HLG), ("SDR", 1)):
        path = tmp_path / f"{name}.mkv"
        with av.open(str(path), "w") as container:
            stream: Any = container.add_stream("ffv1", rate=Fraction(25))
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p10le"
            stream.codec_context.color_trc, stream.codec_context.color_primaries = transfer, 9
            stream.codec_context.colorspace = 9
            for _ in range(12):
                frame = av.VideoFrame(64, 48, "yuv420p10le")
                luma = np.linspace(64, 940, 64).round().astype("<u2")
                rows = np.zeros((48, frame.planes[0].line_size // 2), "<u2")
                rows[:, :64] = luma
                frame.planes[0].update(rows.tobytes())
                for plane in frame.planes[1:]:
                    plane.update(np.full(plane.buffer_size // 2, 512, "<u2").tobytes())
                frame.color_trc, frame.color_primaries, frame.colorspace = transfer, 9, 9
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        found[name] = path
    return found


def test_hdr_films_are_converted_and_it_is_said_once(
    hdr: dict[str, Path], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frame_converter._told_hdr, "value", False)
    codes = (np.linspace(64, 940, 64).round() - 64) / 876
    with caplog.at_level(logging.WARNING, "dualformer"):
        for name in ("PQ", "HLG"):
            with PyAVReader(hdr[name]) as reader:
                found = reader.read([3])[0, 20, :, 0].numpy().astype(int)
                said = f"HDR ({name}) is converted to SDR: 203 cd/m² is white, brighter light is compressed"
                assert reader.notes == (said,)
            assert np.abs(found - [reference(code, name) for code in codes]).max() <= 2
            with Playback(hdr[name]) as playing:
                shown = next(iter(playing))[1]()
            assert np.array_equal(shown[20, :, 0].numpy(), found)
            assert decode_all(hdr[name]).notes == read_noted_views(hdr[name], PRE, Views(1, 1)).notes
    assert sum("HDR" in record.message for record in caplog.records) == 1
    with PyAVReader(hdr["SDR"]) as reader:
        plain = reader.read([3])[0, 20, :, 0].numpy().astype(int)
        assert np.abs(plain - np.rint(255 * codes)).max() <= 4
        assert reader.notes == ()


def several_streams(
    path: Path, sizes: list[tuple[int, int, int]], *, dispositions: dict[int, str] | None = None
) -> Path:
    """A file with a stream of each (width, height, frames); the red of all pixels of stream i is 40 · i."""
    with av.open(str(path), "w") as container:
        streams: list[Any] = []
        for width, height, _ in sizes:
            stream: Any = container.add_stream("mpeg4", rate=Fraction(25))
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            streams.append(stream)
        for number, name in (dispositions or {}).items():
            streams[number].disposition = getattr(av.stream.Disposition, name)
        for number, (stream, (width, height, frames)) in enumerate(zip(streams, sizes, strict=True)):
            for _ in range(frames):
                image = np.full((height, width, 3), 40 * number, np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            container.mux(stream.encode())
    return path


@pytest.mark.parametrize(
    ("sizes", "chosen"),
    [
        ([(32, 32, 20), (96, 64, 20)], 1),  # a thumbnail of every frame in front of the film
        ([(96, 64, 20), (32, 32, 20)], 0),
        ([(128, 96, 1), (96, 64, 20)], 1),  # a single large picture
        ([(96, 64, 20), (96, 64, 20)], 0),  # two alike: the default one
        ([(32, 32, 20), (64, 64, 1), (96, 64, 20)], 2),
    ],
)
def test_of_several_streams_the_film_is_taken(tmp_path: Path, sizes: list[tuple[int, int, int]], chosen: int) -> None:
    path = several_streams(tmp_path / "a.mp4", sizes)
    with PyAVReader(path) as reader:
        width, height, frames = sizes[chosen]
        assert (reader.info.width, reader.info.height, len(reader)) == (width, height, frames)
        assert abs(int(reader.read([0])[0, 8, 8, 0]) - 40 * chosen) <= 4
    info = decode_all(path)
    assert (info.width, info.frames) == (width, frames)


def test_sizes_that_change_are_seen_by_the_check_and_by_answers(tmp_path: Path) -> None:
    path = two_sizes(tmp_path / "a.ts", "libx264", bf="0")
    plain = encoder(tmp_path)("b.mp4", frames=9)
    once = "frame size changes once, from 64x48 to 128x96; frames are scaled to the first"
    assert decode_all(path).notes == (once,)
    result = check_into(tmp_path / "m.csv", [path, plain], workers=1)
    assert [verdict.notes for verdict in result.verdicts] == [once, ""]
    assert [verdict.notes for verdict in read_manifest(tmp_path / "m.csv")] == [once, ""]
    kept = check_into(tmp_path / "m.csv", [path, plain], workers=1)
    assert kept.kept == 2 and kept.verdicts[0].notes == once
    lines = (tmp_path / "m.csv").read_text().splitlines()
    earlier = [line.rsplit(",", 1)[0].split(',"frame')[0] for line in lines]  # as before there were notes
    (tmp_path / "earlier.csv").write_text("\n".join(earlier) + "\n")
    assert [verdict.frames for verdict in read_manifest(tmp_path / "earlier.csv")] == [60, 9]
    assert read_noted_views(path, PRE, Views(4, 1)).notes == (once.replace(" once,", ""),)


@pytest.mark.parametrize("name", ["a.mkv", "a.ts", "a.avi"])
def test_bad_files_show_what_decoded_before_the_damage(tmp_path: Path, name: str) -> None:
    codec = "mpeg4" if name == "a.avi" else "libx264"
    path = encoder(tmp_path)(name, frames=50, codec=codec)
    data = bytearray(path.read_bytes())
    middle = len(data) * 2 // 3
    data[middle : middle + 4000] = np.random.default_rng(0).bytes(4000)
    path.write_bytes(data[: len(data) * 9 // 10])
    [verdict] = check_videos([path], workers=1)
    if verdict.ok:
        pytest.skip("this FFmpeg conceals the damage")
    assert 0 < verdict.frames < 50
    assert (verdict.width, verdict.height, verdict.codec) == (64, 48, "h264" if codec == "libx264" else "mpeg4")


TEXTS = {
    "a Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0000\nsize 12345\n",
    "an HTML page": b"\n<!DOCTYPE html>\n<html><head><title>Sign in</title></head></html>",
    "a text file": "Größe: 3 KB, bitte später erneut versuchen\n".encode() * 20,
}


@pytest.mark.parametrize("what", TEXTS)
def test_text_is_called_what_it_is(tmp_path: Path, what: str) -> None:
    for name in ("a.mp4", "a.webm", "a.jpg"):
        (tmp_path / name).write_bytes(TEXTS[what])
        with pytest.raises(VideoError, match=rf"{name}: it cannot be opened .*: it is {what}"):
            read_views(tmp_path / name, PRE)
        assert f": it is {what}" in check_videos([tmp_path / name], workers=1)[0].reason
    (tmp_path / "a.safetensors").write_bytes(TEXTS[what])
    with pytest.raises(WeightsError, match=rf"a\.safetensors: {what}"):
        load_weights(tmp_path / "a.safetensors")


def test_damage_is_not_called_text(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(np.random.default_rng(0).bytes(5000))
    with pytest.raises(VideoError, match="it cannot be opened as a video or image") as raised:
        read_views(tmp_path / "a.mp4", PRE)
    assert "H.264" not in str(raised.value)


@pytest.mark.parametrize(("height", "width"), [(2, 8192), (8192, 2), (3, 4000)])
def test_absurd_shapes_are_cut_before_they_are_resized(height: int, width: int) -> None:
    frames = torch.randint(0, 256, (3, height, width, 3), dtype=torch.uint8)
    short = min(height, width)
    middle = cut_long(frames)
    assert sorted(middle.shape[1:3]) == [short, 16 * short]
    top, left = (height - middle.shape[1]) // 2, (width - middle.shape[2]) // 2
    assert torch.equal(middle, frames[:, top : top + middle.shape[1], left : left + middle.shape[2]])
    assert resize_frames(frames, PRE).numel() <= 3 * 3 * 16 * PRE.resize**2
    assert torch.equal(crop_views(resize_frames(frames, PRE), PRE, 3), crop_views(frames, PRE, 3))
    usual = torch.zeros(1, 10, 160, 3, dtype=torch.uint8)
    assert cut_long(usual) is usual


def test_absurd_shapes_take_bounded_memory(tmp_path: Path) -> None:
    """A process that may take no more than 1.5 GiB more than it has labels, plays and trains on 2×8192 pixels."""
    pytest.importorskip("resource", reason="a process is given limits as Unix does it")
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("ffv1", rate=Fraction(25))
        stream.width, stream.height, stream.pix_fmt = 8192, 2, "yuv444p"
        for i in range(40):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(i, 2, 8192), format="rgb24")))
        container.mux(stream.encode())
    code = f"""
import resource, dataclasses, numpy as np
from dualformer.inference.sliding_windows import WindowReader
from dualformer.video.augmentation import Augmentation
from dualformer.video.clip_reader import read_training_clip, read_views
from dualformer.video.playback import Playback
from dualformer.video.preprocessing import kinetics
import torch
torch.set_num_threads(1)
pre = kinetics(frames=16, stride=2, size=224)
padded = dataclasses.replace(pre, crop_mode="pad", resize=224)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for each in (pre, padded):
    read_views({str(path)!r}, each, clips=4, crops=3 if each is pre else 1)
    read_training_clip({str(path)!r}, each, np.random.default_rng(0), Augmentation(flip=0.5))
    with Playback({str(path)!r}) as playing:
        list(WindowReader(playing, each, crops=1))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) < 1000  # MiB
