"""Frames by number must be the frames that plain decoding gives, for every kind of file, real and made."""

import logging
from pathlib import Path

import av.video.stream
import numpy as np
import pytest
import torch
from kinds import B_FRAMES, COUNTED, COUNTED_IF_LARGE, KINDS, can_encode, make
from made_videos import Encode, naive, picture

from dualformer.video import pyav_reader
from dualformer.video.container import VideoError
from dualformer.video.pyav_reader import PyAVReader
from dualformer.video.sequential_decoding import decode_all


def check_reader(path: Path, *, reads: int = 8, threads: int | None = 1) -> None:
    """Random reads, a read of everything backwards and iteration, all against plain decoding."""
    truth = torch.from_numpy(naive(path))
    n = len(truth)
    rng = np.random.default_rng(0)
    draws = [rng.integers(0, n, size=rng.integers(1, 12)) for _ in range(reads)]
    draws += [np.arange(n)[::-1], np.array([n - 1]), np.arange(0, n, 3), np.array([0, n // 2, n - 1])]
    with PyAVReader(path, threads=threads) as reader:
        assert len(reader) == n == reader.info.frames
        assert reader.times[0] == 0
        assert (np.diff(reader.times) > 0).all()
        for indices in draws:
            assert torch.equal(reader.read(indices), truth[torch.from_numpy(indices.copy())]), indices
        times = reader.times
        for i, (seconds, frame) in enumerate(pairs := list(reader)):
            assert abs(seconds - times[i]) < 1e-9
            assert torch.equal(frame, truth[i])
        assert len(pairs) == n
        assert (reader.info.height, reader.info.width) == tuple(truth.shape[1:3])
    for indices in draws[: reads // 2]:  # a fresh reader has another decoder state
        with PyAVReader(path, threads=threads) as reader:
            assert torch.equal(reader.read(indices), truth[torch.from_numpy(indices.copy())])
    assert decode_all(path).frames == n


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("in_memory", [True, False], ids=["kept", "seeking"])
def test_random_access_is_plain_decoding(
    kind: str, in_memory: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not can_encode(kind):
        pytest.skip(f"this FFmpeg does not encode {kind}")
    path = make(kind, tmp_path)
    if not in_memory:
        monkeypatch.setattr(pyav_reader, "_KEEP_COMPRESSED", 0)
        monkeypatch.setattr(pyav_reader, "_KEEP_DECODED", 0)
    check_reader(path)
    with PyAVReader(path, threads=1) as reader:
        reader.read([len(reader) - 1])
        assert (reader._table is None) == (kind in COUNTED or (kind in COUNTED_IF_LARGE and not in_memory))


def test_random_access_with_threads(encode: Encode) -> None:
    check_reader(encode("a.mp4", options=B_FRAMES), threads=3)


REAL = [
    "header30_decodes25.mp4", "hevc_10bit.mp4", "hmdb51_wave.avi", "kinetics_arm_wrestling.mp4",
    "kinetics_cleaning_pool.mp4", "kinetics_flipping_pancake.mkv", "latin1_metadata.avi", "one_frame.mp4",
    "rotated_90_17frames.mp4", "rotated_minus90_3frames.mov", "ucf101_SoccerJuggling_g23_c01.avi",
    "variable_frame_rate.mp4", "vp9_no_duration.webm",
]  # fmt: skip


LARGE = {"latin1_metadata.avi", "vp9_no_duration.webm"}


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] if n in LARGE else []) for n in REAL])
@pytest.mark.parametrize("in_memory", [True, False], ids=["kept", "seeking"])
def test_random_access_on_real_files(name: str, in_memory: bool, shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not in_memory:
        monkeypatch.setattr(pyav_reader, "_KEEP_COMPRESSED", 0)
        monkeypatch.setattr(pyav_reader, "_KEEP_DECODED", 0)
    check_reader(shared / "videos" / name, reads=4 if in_memory else 2)


def test_every_real_file_that_decodes_is_among_them(shared: Path) -> None:
    def decodes(path: Path) -> bool:
        try:
            return decode_all(path).frames > 0
        except VideoError:
            return False

    assert sorted(path.name for path in (shared / "videos").iterdir() if decodes(path)) == REAL


@pytest.mark.parametrize("degrees", [90, 180, 270])
@pytest.mark.parametrize("flips", [(False, False), (True, False), (False, True)])
def test_display_orientation_is_applied(degrees: int, flips: tuple[bool, bool], encode: Encode) -> None:
    if not hasattr(av.video.stream.VideoStream, "set_display_rotation"):
        pytest.skip("this PyAV cannot write a rotation")
    turned = encode("turned.mp4", 3, turn=(degrees, *flips))
    expected = torch.from_numpy(naive(turned, upright=False))
    # As documented by the writer: turned counter-clockwise, then mirrored.
    expected = torch.rot90(expected, degrees // 90, (1, 2))
    expected = expected.flip(2) if flips[0] else expected
    expected = expected.flip(1) if flips[1] else expected
    with PyAVReader(turned) as reader:
        assert torch.equal(reader.read([0, 1, 2]), expected)
        assert (reader.info.height, reader.info.width) == tuple(expected.shape[1:3])


def turned_from_the_middle(encode: Encode, tmp_path: Path, turn: tuple[int, bool, bool]) -> Path:
    """8 frames as they are, then 8 that each say of themselves how they are to be shown: turned counter-clockwise by
    degrees, mirrored left to right, mirrored up and down."""
    degrees, across, upright = turn
    orientation = across << 22 | upright << 21 | (degrees * 2**16 // 360) << 5 | 0b01001
    said = b"\x06\x2f\x03" + orientation.to_bytes(3, "big") + b"\x80"  # H.264, D.1.27
    path = tmp_path / "turned.mp4"
    with av.open(str(encode("plain.mp4", 16, options={"bf": "0"}))) as old, av.open(str(path), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for number, packet in enumerate(packet for packet in old.demux(video=0) if packet.dts is not None):
            changed = packet
            if number >= 8:
                changed = av.Packet(len(said).to_bytes(4, "big") + said + bytes(packet))
                changed.pts, changed.dts, changed.time_base = packet.pts, packet.dts, packet.time_base
                changed.is_keyframe = packet.is_keyframe
            changed.stream = stream
            new.mux(changed)
    return path


@pytest.mark.parametrize(
    ("turn", "sides"), [((0, False, True), (1,)), ((0, True, False), (2,)), ((180, False, False), (1, 2))]
)
def test_orientation_that_changes_in_mid_stream(
    turn: tuple[int, bool, bool], sides: tuple[int, ...], encode: Encode, tmp_path: Path
) -> None:
    path = turned_from_the_middle(encode, tmp_path, turn)
    stored = torch.from_numpy(naive(path, upright=False))
    expected = torch.cat([stored[:8], stored[8:].flip(sides)])
    with PyAVReader(path) as reader:
        assert torch.equal(reader.read([12]), expected[12:13])
        assert torch.equal(reader.read([3]), expected[3:4])
        assert torch.equal(reader.read(range(16)), expected)
        assert torch.equal(torch.stack([frame for _, frame in reader]), expected)


def test_frames_on_their_side_among_others_are_refused(encode: Encode, tmp_path: Path) -> None:
    path = turned_from_the_middle(encode, tmp_path, (90, False, False))
    with PyAVReader(path) as reader, pytest.raises(VideoError, match="some of its frames lie on their side"):
        reader.read(range(16))
    with pytest.raises(VideoError, match=r"turned\.mp4: some of its frames lie on their side .*: convert it"):
        decode_all(path)


def two_sizes(encode: Encode, tmp_path: Path) -> Path:
    """20 frames of 48×64, then 20 of 96×128, in one stream."""
    path = tmp_path / "two.h264"
    small, large = encode("s.h264", 20), encode("l.h264", 20, height=96, width=128)
    path.write_bytes(small.read_bytes() + large.read_bytes())
    return path


def test_size_that_changes_in_mid_stream(encode: Encode, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = two_sizes(encode, tmp_path)
    with caplog.at_level(logging.WARNING, "dualformer"), PyAVReader(path) as reader:
        late = reader.read([35])
        frames = reader.read(range(len(reader)))
        one_by_one = torch.stack([frame for _, frame in reader])
    assert len(frames) == 40
    assert frames.shape[1:] == (48, 64, 3)
    assert torch.equal(late, frames[35:36])
    assert torch.equal(one_by_one, frames)
    # Scaled, not cropped: the dark or bright square fills the same quarter of the picture.
    for i in (5, 25):
        inner = frames[i, 4:20, 4:20].float()
        assert abs(float(inner.mean()) - float(picture(i % 20, 48, 64)[0, 0, 0])) < 12
    assert caplog.text.count("frame size changes from 64x48 to 128x96") == 1


def test_stream_cut_in_its_middle(encode: Encode, tmp_path: Path) -> None:
    """A recording that begins between key frames: what cannot be decoded is not counted."""
    data = encode("whole.ts", 60, options={"g": "20", "bf": "3"}).read_bytes()
    cut = tmp_path / "cut.ts"
    cut.write_bytes(data[188 * (len(data) // 188 // 6) :])
    with PyAVReader(cut, threads=1) as reader:
        frames = reader.read(range(len(reader)))
    assert 20 <= len(frames) <= 50
    whole = naive(tmp_path / "whole.ts")
    assert np.array_equal(frames.numpy(), whole[-len(frames) :])
    assert decode_all(cut).frames == len(frames)
