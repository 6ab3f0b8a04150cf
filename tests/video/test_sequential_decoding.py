"""Decoding from start to end: headers that lie, damaged files, and what a reader keeps open."""

import gc
import os
import pickle
from pathlib import Path

import av
import av.error
import av.video.stream
import numpy as np
import pytest
import torch
from made_videos import Encode, naive

from dualformer.video import sequential_decoding
from dualformer.video.clip_reader import read_views
from dualformer.video.container import FrameCountError, OpenVideo, VideoError
from dualformer.video.preprocessing import kinetics
from dualformer.video.pyav_reader import PyAVReader
from dualformer.video.sequential_decoding import decode_all
from dualformer.video.transforms import crop_views


@pytest.mark.parametrize(("name", "frames"), [("header30_decodes25.mp4", 25), ("hmdb51_wave.avi", 72)])
def test_headers_are_not_believed(name: str, frames: int, shared: Path) -> None:
    path = shared / "videos" / name
    with av.open(str(path)) as container:
        assert container.streams.video[0].frames > frames
    with PyAVReader(path) as reader:
        assert len(reader) == frames
        with pytest.raises(ValueError, match=f"frame {frames} is outside"):
            reader.read([frames])


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("audio_only.mp4", "no video stream"),
        ("zero_bytes.webm", "0 bytes"),
        ("truncated_no_moov.mp4", "FFmpeg: Invalid data"),
        ("corrupt_after_28_of_50.mp4", "frame 28 does not decode .FFmpeg: Invalid data"),
    ],
)
def test_bad_files_say_why(name: str, reason: str, shared: Path) -> None:
    path = shared / "videos" / name
    with pytest.raises(VideoError, match=reason) as caught:
        decode_all(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    again = pickle.loads(pickle.dumps(caught.value))  # the way out of a loader worker
    assert (again.path, again.reason, str(again)) == (str(path), caught.value.reason, str(caught.value))


def test_frames_before_the_damage_are_right(shared: Path) -> None:
    path = shared / "videos" / "corrupt_after_28_of_50.mp4"
    truth = []
    with av.open(str(path)) as container, pytest.raises(av.error.InvalidDataError):
        truth.extend(frame.to_ndarray(format="rgb24") for frame in container.decode(video=0))
    with PyAVReader(path, threads=1) as reader:
        assert np.array_equal(reader.read([5, 20]).numpy(), np.stack([truth[5], truth[20]]))
        with pytest.raises(VideoError, match="frame 28"):
            reader.read([5, 40])


def test_no_file_is_a_wrong_call(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no such video or image file: .*none\.mp4"):
        PyAVReader(tmp_path / "none.mp4")
    with pytest.raises(VideoError, match="is a folder"):
        PyAVReader(tmp_path)


def test_playlists_cannot_name_other_files(encode: Encode, tmp_path: Path) -> None:
    video = encode("a.ts", 10)
    playlist = tmp_path / "list.mp4"
    playlist.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{video}\n#EXT-X-ENDLIST\n")
    concat = tmp_path / "concat.mp4"
    concat.write_text(f"ffconcat version 1.0\nfile '{video.name}'\n")
    for path in (playlist, concat):
        with pytest.raises(VideoError, match="cannot be opened as a video"):
            PyAVReader(path)


def test_names_with_colons_and_odd_letters(encode: Encode, tmp_path: Path) -> None:
    path = encode("a.mp4", 5)
    odd = path.rename(tmp_path / "http: ümläut 100%.mp4")
    with PyAVReader(odd) as reader:
        assert len(reader) == 5


@pytest.mark.parametrize("indices", [[-1], [60], [0, 99]])
def test_frames_outside_are_a_wrong_call(indices: list[int], encode: Encode) -> None:
    with PyAVReader(encode("a.mp4")) as reader, pytest.raises(ValueError, match="which has 60 frames"):
        reader.read(indices)


def test_reading_nothing(encode: Encode) -> None:
    with PyAVReader(encode("a.mp4", 5)) as reader:
        assert reader.read([]).shape == (0, 48, 64, 3)


def test_variable_times(encode: Encode) -> None:
    times = [0, 100, 140, 400, 1000, 1040]
    with PyAVReader(encode("a.mp4", 6, times=times)) as reader:
        assert np.abs(reader.times - np.array(times) / 1000).max() < 1e-3
        assert reader.info.fps == pytest.approx(5 / 1.04, rel=1e-3)


def test_mp4_that_ends_early_is_bad(encode: Encode, tmp_path: Path) -> None:
    data = encode("whole.mp4", 60, options={"g": "10"}, height=96, width=128).read_bytes()
    # Put the table of contents in front, so that the file opens; then lose the tail.
    front = tmp_path / "front.mp4"
    with (
        av.open(str(tmp_path / "whole.mp4")) as source,
        av.open(str(front), "w", options={"movflags": "faststart"}) as to,
    ):
        stream = to.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                to.mux(packet)
    data = front.read_bytes()
    front.write_bytes(data[: len(data) * 2 // 3])
    with pytest.raises(VideoError):
        decode_all(front)


def test_decoding_has_a_time_limit(encode: Encode) -> None:
    with pytest.raises(VideoError, match="longer than 1e-09 s"):
        decode_all(encode("a.mp4"), seconds_limit=1e-9)


def lying(encode: Encode, tmp_path: Path) -> Path:
    """60 packets with good times, of which the 31st is an MPEG-4 frame that says "not coded": 59 frames decode."""
    path = tmp_path / "lying.mp4"
    with av.open(str(encode("honest.mp4", codec="mpeg4", gop_size=12))) as source, av.open(str(path), "w") as to:
        stream = to.add_stream_from_template(source.streams.video[0])
        for i, packet in enumerate(source.demux(video=0)):
            if packet.dts is None:
                continue
            if i == 30:
                empty = av.Packet(bytes.fromhex("000001b650cf"))
                empty.pts, empty.dts, empty.time_base = packet.pts, packet.dts, packet.time_base
                empty.duration = packet.duration
                packet = empty
            packet.stream = stream
            to.mux(packet)
    return path


def test_packets_that_promise_too_much(encode: Encode, tmp_path: Path) -> None:
    path = lying(encode, tmp_path)
    truth = naive(path)
    assert len(truth) == 59
    with PyAVReader(path) as reader:
        promised = len(reader)
        assert promised == 60
        with pytest.raises(FrameCountError, match=f"promise {promised} frames, but {len(truth)} decode"):
            list(reader.frames([30, 31]))
        assert len(reader) == len(truth)  # it has counted them meanwhile
        assert np.array_equal(reader.read(range(len(truth))).numpy(), truth)
    with PyAVReader(path) as reader:
        assert np.array_equal(reader.read(range(len(truth))).numpy(), truth)
    with PyAVReader(path) as reader, pytest.raises(VideoError, match="promise"):
        reader.read([30, promised - 1])
    for threads in (1, 2):
        pre = kinetics(frames=40, stride=1, size=32)
        views = read_views(path, pre, threads=threads)
        indices = np.arange(9, 49)  # the centre of 59 frames, where that of 60 begins at 10
        assert torch.equal(views[0], crop_views(torch.from_numpy(truth[indices]), pre)[0])


def test_corrupt_flag_is_an_error(encode: Encode, tmp_path: Path) -> None:
    """A transport stream that lost packets: FFmpeg flags what follows the gap as corrupt."""
    data = bytearray(encode("a.ts", 60, options={"g": "60", "crf": "4"}, height=96, width=128).read_bytes())
    packets = len(data) // 188
    del data[188 * (packets // 2) : 188 * (packets // 2 + 3)]
    broken = tmp_path / "broken.ts"
    broken.write_bytes(data)
    with av.open(str(broken)) as container:
        flags = [frame.is_corrupt for frame in container.decode(video=0)]
    assert any(flags)
    with pytest.raises(VideoError, match=f"frame {flags.index(True)} is damaged"):
        decode_all(broken)
    with PyAVReader(broken, threads=1) as reader, pytest.raises(VideoError, match="is damaged"):
        reader.read([flags.index(True)])


def test_reads_skip_what_nobody_needs(encode: Encode, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last frames of a long file cost a group of pictures, not the file."""
    path = encode("a.mp4", 240, options={"g": "12", "bf": "2"})
    fed = 0
    plain = PyAVReader._packets_from

    def counting(self: PyAVReader, start: int):
        nonlocal fed
        for packet in plain(self, start):
            fed += 1
            yield packet

    monkeypatch.setattr(PyAVReader, "_packets_from", counting)
    with PyAVReader(path, threads=1) as reader:
        reader.read([3, 230])
    assert fed < 40


def test_the_container_is_closed(encode: Encode, monkeypatch: pytest.MonkeyPatch, shared: Path) -> None:
    closed: list[Path] = []
    plain = OpenVideo.close
    monkeypatch.setattr(OpenVideo, "close", lambda self: (closed.append(self.path), plain(self)))
    path = encode("a.mp4", 20)
    reader = PyAVReader(path)
    for _ in reader:
        break
    assert closed == [path]  # the one that iterating opened
    reader.close()
    assert closed == [path, path]
    bad = shared / "videos" / "corrupt_after_28_of_50.mp4"
    with pytest.raises(VideoError):
        decode_all(bad)
    assert closed[-1] == bad


def test_loader_workers_decode_on_one_thread(encode: Encode) -> None:
    dataset = _Threads(encode("large.mp4", 4, height=360, width=480))
    assert list(torch.utils.data.DataLoader(dataset, batch_size=None, num_workers=1, timeout=60)) == ["NONE 1"]
    if len(os.sched_getaffinity(0)) > 1:
        assert dataset[0] != "NONE 1"


def test_workers_do_not_hang_on_decoders_of_their_parent(encode: Encode) -> None:
    """Freeing, in a forked child, a decoder whose threads stayed in the parent waits for ever."""
    path = encode("large.mp4", 30, height=360, width=480)
    gc.disable()
    try:
        with PyAVReader(path, threads=3) as reader:
            reader.read([3, 20])
        del reader
        loader = torch.utils.data.DataLoader(_Threads(path), batch_size=None, num_workers=1, timeout=30)
        assert list(loader) == ["NONE 1"]
    finally:
        gc.enable()


class _Threads(torch.utils.data.Dataset[str]):
    """Says how a reader that is opened here decodes, after collecting what garbage there is."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> str:
        if index:
            raise IndexError
        gc.collect()
        with PyAVReader(self.path) as reader:
            return f"{reader._video.codec.thread_type.name} {reader._video.codec.thread_count}"


def test_sequential_imports_no_torch() -> None:
    """Checking files starts processes often; torch would make each take seconds."""
    import subprocess
    import sys

    code = f"import sys; import {sequential_decoding.__name__}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
