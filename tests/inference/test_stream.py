"""Streams: labels of the newest clip, bounded lag, dropped frames that are counted, sources that vanish and return."""

import contextlib
import http.server
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch

from dualformer.inference.clip_buffer import ClipBuffer
from dualformer.inference.sliding_windows import SampledFrame
from dualformer.inference.stream import StreamEvent
from dualformer.inference.stream_reader import StreamReader
from dualformer.video.container import VideoError
from dualformer.video.encode import write_video
from dualformer.video.frame_converter import FrameConverter
from dualformer.video.live_source import LiveVideo, StreamSource
from dualformer.video.preprocessing import Preprocessing, kinetics
from dualformer.video.pyav_reader import PyAVReader
from made_films import colour_recognizer, coloured, write_transport_stream


@pytest.fixture(autouse=True)
def readers_end(tmp_path: Path) -> Iterator[None]:
    """Waits for the threads that read streams, abandoned ones among them, before what they read is gone."""
    yield
    for thread in threading.enumerate():
        if isinstance(thread, StreamReader):
            thread.join(timeout=60)
            assert not thread.is_alive()


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("films") / "film.mp4"
    write_video(path, coloured([("red", 60), ("green", 45), ("blue", 75), ("red", 300)]), fps=30)
    return path


@pytest.fixture(scope="module")
def broadcast(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Two seconds of green."""
    path = tmp_path_factory.mktemp("films") / "film.ts"
    return write_transport_stream(path, coloured([("green", 50)], size=64), fps=25, size=64)


def test_a_file_is_read_as_fast_as_the_network_works_and_nothing_is_left_out(film: Path) -> None:
    recognizer = colour_recognizer(frames=8, stride=2)
    labels = list(recognizer.stream(film, smoothing=0))
    with PyAVReader(film) as reader:
        assert len(labels) == (480 // 2 - 8) // 4 + 1
        for place in (0, 6, 12, 30):
            clip = reader.read(np.arange(place * 8, place * 8 + 16, 2))
            np.testing.assert_allclose(
                labels[place].prediction.probabilities, recognizer.predict_views(clip[None])[0], atol=1e-6
            )
            assert labels[place].seconds == pytest.approx((place * 8 + 14) / 30, abs=1e-3)
    counts = labels[-1].counts
    assert (counts.dropped, counts.missed, counts.reconnects) == (0, 0, 0)
    assert [label.label for label in labels if 4 < label.seconds < 5.9] == ["blue"] * 7


def test_a_temporal_head_answers_for_the_newer_half_of_a_clip(film: Path) -> None:
    """Where a clip shows two colours, half and half, it is sure of the newer one."""
    whole = {label.seconds: label for label in colour_recognizer().stream(film, smoothing=0.0)}
    newer = {label.seconds: label for label in colour_recognizer(head="temporal").stream(film, smoothing=0.0)}
    assert list(whole) == list(newer)
    assert sum(label.probability > 0.99 for label in newer.values()) > sum(
        label.probability > 0.99 for label in whole.values()
    )


def test_smoothing_keeps_a_part_of_what_was(film: Path) -> None:
    plain = [label.prediction.probabilities for label in colour_recognizer().stream(film, smoothing=0)]
    smooth = [label.prediction.probabilities for label in colour_recognizer().stream(film, smoothing=0.75)]
    mean = plain[0]
    for now, found in zip(plain, smooth, strict=True):
        mean = 0.75 * mean + 0.25 * now
        np.testing.assert_allclose(found, mean, atol=1e-5)
    assert smooth[0].dtype == np.float32


def test_a_film_shorter_than_a_clip_has_one_label(tmp_path: Path) -> None:
    write_video(tmp_path / "short.mp4", coloured([("blue", 7)]), fps=30)
    [label] = colour_recognizer(frames=8, stride=2).stream(tmp_path / "short.mp4")
    assert label.label == "blue"


@pytest.mark.parametrize(("frames", "hop"), [(47, None), (48, None), (33, None), (61, 5.0), (29, 0.9), (16, None)])
def test_the_end_of_a_film_has_a_label(tmp_path: Path, frames: int, hop: float | None) -> None:
    write_video(tmp_path / "film.mp4", coloured([("red", frames - 5), ("blue", 5)]), fps=30)
    recognizer = colour_recognizer(frames=8, stride=2)
    stream = recognizer.stream(tmp_path / "film.mp4", smoothing=0, hop=hop)
    labels = list(stream)
    last = (frames - 1) // 2 * 2  # the last frame that is sampled
    assert labels[-1].seconds == pytest.approx(last / 30, abs=1e-3)
    with PyAVReader(tmp_path / "film.mp4") as reader:
        clip = reader.read(np.arange(last - 14, last + 1, 2))
    np.testing.assert_allclose(labels[-1].prediction.probabilities, recognizer.predict_views(clip[None])[0], atol=1e-6)
    assert stream.counts.frames == frames
    seen: set[int] = set()
    for label in labels:
        end = round(label.seconds * 30)
        seen |= set(range(end - 14, end + 1))
        seen |= {end - 15} & set(range(frames)) if end >= 15 else set()
    unseen = set(range(last + 1)) - seen
    assert (stream.counts.dropped, stream.counts.missed) == (len(unseen), 0)
    assert len({label.seconds for label in labels}) == len(labels)


def test_frames_in_no_clip_count_as_dropped_where_a_source_breaks_off() -> None:
    buffer = ClipBuffer(kinetics(frames=8, stride=2, size=24), hop=None, blocking=False)
    for number in range(3):
        buffer.add(SampledFrame(number / 10, torch.zeros(1, 2, 2, 3, dtype=torch.uint8), 2), arrived=0.0)
    buffer.finish(VideoError("a", "it broke off"))
    assert buffer.counts.dropped == 6
    assert buffer.over and buffer.take(0.0) is None


def test_a_network_that_cannot_follow_is_never_far_behind_and_drops_frames(film: Path) -> None:
    recognizer = colour_recognizer(frames=16, stride=4, seconds=2.6)
    clip = 64 / 30
    labels = list(recognizer.stream(film, realtime=True, seconds=9.5, smoothing=0))
    assert len(labels) >= 2
    for label in labels:
        assert 2.6 <= label.latency < 2 * clip
    counts = labels[-1].counts
    assert counts.dropped > 0
    assert counts.missed >= len(labels) - 1
    assert counts.frames > 4 * 30
    for before, after in pairwise(labels):
        assert after.seconds - before.seconds > clip, "the newest clip is taken, not the next"


class Server(threading.Thread):
    """Sends bytes to whoever connects, ``times`` times, and is away for a while in between."""

    def __init__(self, send: Callable[[socket.socket], None], *, times: int = 1, away: float = 0.0) -> None:
        super().__init__(daemon=True)
        self._send, self._times, self._away = send, times, away
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]

    def run(self) -> None:
        for turn in range(self._times):
            connection, _ = self._listening.accept()
            self._listening.close()
            with connection, contextlib.suppress(ConnectionError):  # a client may leave early
                self._send(connection)
            time.sleep(self._away)
            if turn + 1 < self._times:
                self._listening = socket.create_server(("127.0.0.1", self.port))


def _slowly(data: bytes, connection: socket.socket) -> None:
    for part in range(0, len(data), len(data) // 10):
        connection.sendall(data[part : part + len(data) // 10])
        time.sleep(0.05)


def test_a_source_that_vanishes_and_returns_is_picked_up(broadcast: bytes) -> None:
    server = Server(partial(_slowly, broadcast), times=2, away=0.8)
    server.start()
    events: list[StreamEvent] = []
    stream = colour_recognizer(frames=4, stride=2).stream(
        f"tcp://127.0.0.1:{server.port}", on_event=events.append, timeout=5, give_up=20
    )
    before = after = 0
    for label in stream:
        assert label.label == "green"
        before, after = before + (label.counts.reconnects == 0), after + (label.counts.reconnects == 1)
        if after >= 2:
            break
    assert before >= 1 and after == 2
    kinds = [event.kind for event in events]
    assert kinds[:2] == ["open", "lost"] and kinds.count("open") == 2
    waits = [event.wait for event in events if event.kind == "lost"]
    assert waits == [0.5 * 2**i for i in range(len(waits))]


def test_a_pipe_whose_writer_comes_back_is_picked_up(broadcast: bytes, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    over = threading.Event()

    def write() -> None:
        while not over.wait(0.3):
            # Who opens a pipe just before its reader lets go of it; and after the test there is none.
            with contextlib.suppress(BrokenPipeError, FileNotFoundError):
                pipe.write_bytes(broadcast)

    threading.Thread(target=write, daemon=True).start()
    stream = colour_recognizer(frames=4, stride=2).stream(pipe, give_up=20)
    assert stream.source.kind == "pipe"
    for label in stream:
        assert label.label == "green"
        if label.counts.reconnects:
            break
    over.set()
    assert stream.counts.reconnects >= 1


@pytest.mark.parametrize("source", ["tcp://127.0.0.1:9", "rtsp://127.0.0.1:9/live", "/dev/video77"])
def test_a_source_that_is_not_there_is_tried_and_given_up(source: str) -> None:
    events: list[StreamEvent] = []
    with pytest.raises(VideoError, match=r"no frame has come for 0\.8 s \(`give_up`"):
        list(colour_recognizer().stream(source, give_up=0.8, on_event=events.append))
    assert events and events[0].kind == "lost" and "cannot be opened" in events[0].reason


def test_a_source_that_answers_and_says_nothing_counts_as_lost() -> None:
    server = Server(lambda connection: time.sleep(30))
    server.start()
    events: list[StreamEvent] = []
    with pytest.raises(VideoError, match="no frame has come"):
        url = f"tcp://127.0.0.1:{server.port}"
        list(colour_recognizer().stream(url, timeout=0.3, give_up=1.5, on_event=events.append))
    assert [event.kind for event in events[:1]] == ["lost"]


def test_a_pipe_that_nobody_writes_to_ends_when_told(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    stream = colour_recognizer().stream(tmp_path / "pipe", give_up=None)
    threading.Timer(0.4, stream.stop).start()
    assert list(stream) == []
    assert not any(thread.name == "receive" and thread.is_alive() for thread in threading.enumerate())
    assert list(colour_recognizer().stream(tmp_path / "pipe", seconds=0.3)) == []


class Files(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # its name in the base class
        """Says nothing."""


def test_a_film_at_a_url_is_read_like_a_file(film: Path) -> None:
    handler = partial(Files, directory=str(film.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        labels = list(colour_recognizer(seconds=0.02).stream(f"http://127.0.0.1:{server.server_port}/{film.name}"))
        server.shutdown()
    assert len(labels) == (480 // 2 - 8) // 4 + 1
    assert (labels[-1].counts.frames, labels[-1].counts.dropped) == (480, 0)


def test_a_driver_that_hangs_is_left_behind(monkeypatch: pytest.MonkeyPatch, broadcast: bytes, tmp_path: Path) -> None:
    (tmp_path / "green.ts").write_bytes(broadcast * 20)  # 40 seconds, so that it does not end before there is a label
    opened: list[StreamSource] = []
    forever = threading.Event()

    def open_camera(source: StreamSource, **settings: Any) -> LiveVideo:
        opened.append(source)
        if len(opened) == 1:
            forever.wait()
        return LiveVideo(StreamSource.parse(tmp_path / "green.ts"), **settings)

    monkeypatch.setattr("dualformer.inference.stream_reader.LiveVideo", open_camera)
    monkeypatch.setattr("dualformer.inference.stream._GRACE", 0.1)
    events: list[StreamEvent] = []
    stream = colour_recognizer(frames=4, stride=2).stream(
        "camera:0", realtime=True, timeout=2.0, give_up=60, on_event=events.append
    )
    label = next(iter(stream))
    forever.set()
    assert label.label == "green" and label.counts.reconnects == 1
    assert [(event.kind, event.reason) for event in events[:2]] == [("lost", "it does not answer"), ("open", "")]


def test_decoding_that_cannot_follow_leaves_out_frames_up_to_a_key_frame(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write_transport_stream(tmp_path / "film.ts", coloured([("red", 240)], size=64), fps=30, size=64)

    class Slow(FrameConverter):
        def __call__(self, frame: av.VideoFrame) -> torch.Tensor:
            time.sleep(0.08)
            return super().__call__(frame)

    monkeypatch.setattr("dualformer.inference.stream_reader.FrameConverter", Slow)
    labels = list(colour_recognizer(frames=4, stride=1).stream(tmp_path / "film.ts", realtime=True))
    assert labels[-1].seconds > 5
    assert max(label.latency for label in labels) < 4, "it would be 11 seconds at the end"
    assert labels[-1].counts.dropped > 60
    assert labels[-1].counts.frames <= 240


def test_damaged_data_costs_frames_and_not_the_stream(broadcast: bytes, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    data = bytearray(broadcast * 3)
    for place in rng.integers(len(broadcast) // 2, len(data), 60).tolist():
        data[place] ^= 0xFF
    (tmp_path / "damaged.ts").write_bytes(bytes(data))
    labels = list(colour_recognizer(frames=4, stride=2).stream(tmp_path / "damaged.ts"))
    assert len(labels) > 10


def test_a_file_that_is_no_video_and_settings_that_do_not_fit(tmp_path: Path, film: Path) -> None:
    (tmp_path / "no.mp4").write_bytes(b"no video" * 100)
    with pytest.raises(VideoError, match=r"no\.mp4: it cannot be opened"):
        list(colour_recognizer().stream(tmp_path / "no.mp4"))
    with pytest.raises(FileNotFoundError, match="camera:0"):
        colour_recognizer().stream("absent.mp4")
    for name, value in (("hop", 0.0), ("smoothing", 1.0), ("seconds", -1.0), ("timeout", 0.0)):
        with pytest.raises(ValueError, match=name):
            colour_recognizer().stream(film, **{name: value})
    stream = colour_recognizer().stream(film, seconds=0.01)
    list(stream)
    with pytest.raises(ValueError, match="once"):
        list(stream)


def test_sources_are_told_apart(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file.ts").write_bytes(b"")
    kinds = {
        name: StreamSource.parse(name).kind
        for name in ("-", "camera:0", "/dev/video3", "rtsp://a/b", "http://a/b.m3u8", "udp://@239.0.0.1:1234")
    }
    assert list(kinds.values()) == ["pipe", "camera", "camera", "url", "url", "url"]
    assert StreamSource.parse(tmp_path / "pipe").kind == "pipe"
    assert StreamSource.parse(tmp_path / "file.ts").kind == "file"
    assert StreamSource.parse("-").ends and not StreamSource.parse(tmp_path / "pipe").ends


def sample(index: int, frames: int = 2) -> SampledFrame:
    return SampledFrame(index / 10, torch.full((1, 2, 2, 3), index % 256, dtype=torch.uint8), frames)


def test_the_newest_clip_is_taken_and_what_no_clip_holds_is_counted() -> None:
    pre = Preprocessing(frames=4, resize=2, crop=2, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    latest = ClipBuffer(pre, hop=None, blocking=False)
    for index in range(3):
        latest.add(sample(index), index)
    assert latest.take(0) is None
    for index in range(3, 7):
        latest.add(sample(index), index)
    taken = latest.take(0)
    assert taken is not None and taken.is_first
    assert taken.views[0, :, 0, 0, 0].tolist() == [3, 4, 5, 6]
    assert (taken.arrived, taken.seconds, taken.counts.dropped) == (6, 0.6, 6), "0, 1 and 2, of two frames each"
    latest.add(sample(7), 7)
    assert latest.take(0) is None, "half a clip is not over"
    for index in range(8, 20):
        latest.add(sample(index), index)
    taken = latest.take(0)
    assert taken is not None and not taken.is_first
    assert taken.views[0, :, 0, 0, 0].tolist() == [16, 17, 18, 19]
    assert taken.counts.dropped == 6 + 2 * 9
    assert taken.counts.missed == 5, "13 samples are six hops of two, one of which is this"
    latest.reset()
    for index in range(20, 24):
        latest.add(sample(index), index)
    taken = latest.take(0)
    assert taken is not None and taken.is_first
    assert taken.counts.dropped == 24, "all that was there had been seen"
