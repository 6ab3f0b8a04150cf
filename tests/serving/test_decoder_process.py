"""Files that want to do harm, or are more than is taken: what they are refused for, and what becomes of the others."""

from __future__ import annotations

import asyncio
import os
import signal
import struct
import threading
import zlib
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import av
import numpy as np
import pytest
from made_server import exported_recognizer, film, serving, small_recognizer

from dualformer.inference.timeline import Timeline
from dualformer.serving.limits import Limits
from dualformer.serving.request_error import RequestError
from dualformer.serving.service import Service
from dualformer.video.clip_reader import read_views
from dualformer.video.container import FileLimitError, FileLimits, OpenVideo, VideoError, limit_files
from dualformer.weights.segment_settings import SegmentSettings


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    limits = Limits(max_pixels=128 * 128, max_frames=90, max_seconds=3)
    with serving(limits=limits) as service:
        yield service


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("films")
    film(folder / "good.mp4")
    return folder


def refusal(service: Service, path: Path) -> str:
    """The code with which a file is refused, whatever is asked about it."""
    codes = set()
    for ask in (service.predict, service.timeline, lambda path: service.explain(path, None, path.parent)):
        with pytest.raises(RequestError) as refused:
            asyncio.run(ask(path))
        assert str(path.parent) not in str(refused.value) and "\n" not in str(refused.value)
        codes.add(refused.value.code)
    assert len(codes) == 1, codes
    return codes.pop()


def test_limits_are_checked() -> None:
    for name in ("max_bytes", "max_seconds", "concurrency", "decode_seconds"):
        with pytest.raises(ValueError, match=f"{name} must be a positive number, not 0"):
            Limits(**{name: 0})
    with pytest.raises(ValueError, match="max_seconds must be a positive number, not nan"):
        Limits(max_seconds=float("nan"))
    with pytest.raises(ValueError, match="the bound on frames must be positive"):
        FileLimits(pixels=1, frames=0, seconds=1)


def test_what_the_header_says_is_held_against_the_limits(service: Service, films: Path) -> None:
    assert refusal(service, film(films / "wide.mp4", width=512, height=64)) == "too_many_pixels"
    assert refusal(service, film(films / "long.mp4", frames=100)) == "too_long"
    assert refusal(service, _fast(films / "many.mp4", 100)) == "too_many_frames"


def test_what_the_header_hides_is_held_against_the_limits_all_the_same(service: Service, films: Path) -> None:
    whole = film(films / "whole.mkv", frames=100)
    with av.open(str(whole)) as container:
        assert container.duration == 4_000_000
    data = whole.read_bytes()
    place = data.index(b"\x44\x89\x88")  # Matroska's duration, 8 bytes
    lie = films / "lie.mkv"
    lie.write_bytes(data[: place + 3] + struct.pack(">d", 500.0) + data[place + 11 :])
    with av.open(str(lie)) as container:
        assert container.duration == 500_000
    assert refusal(service, lie) == "too_long"

    # A stream that is small at first: FFmpeg itself does not take memory for the frames that come later.
    grown = films / "grows.ts"
    grown.write_bytes(b"".join(_remuxed(film(films / f"{n}.mp4", height=n, width=n), "mpegts") for n in (64, 512)))
    with (
        limit_files(FileLimits(pixels=128 * 128, frames=60, seconds=3)),
        pytest.raises(VideoError, match="does not decode"),
    ):
        read_views(grown, small_recognizer().preprocessing)
    assert len(read_views(grown, small_recognizer().preprocessing)) == 1
    with pytest.raises(RequestError) as refused:
        asyncio.run(service.predict(grown))
    assert refused.value.code == "does_not_decode"
    timeline = asyncio.run(service.timeline(grown))  # as of any file that breaks off: what came before
    assert timeline.frames < 48 and timeline.error and "does not decode" in timeline.error


def test_a_small_file_with_enormous_frames_is_refused(service: Service, films: Path) -> None:
    (films / "bomb.png").write_bytes(_png(30_000, 30_000))
    assert (films / "bomb.png").stat().st_size < 1000
    assert refusal(service, films / "bomb.png") in ("too_many_pixels", "does_not_decode")
    (films / "bomb.gif").write_bytes(
        b"GIF89a" + struct.pack("<HH", 65_535, 65_535) + b"\x80\0\0\0\0\0\xff\xff\xff,"
        + struct.pack("<HHHH", 0, 0, 65_535, 65_535) + b"\0\x02\x02\x44\x01\0;"
    )  # fmt: skip
    assert refusal(service, films / "bomb.gif") in ("too_many_pixels", "does_not_decode")


def test_bounds_hold_only_where_they_are_set(films: Path) -> None:
    with limit_files(FileLimits(pixels=100, frames=60, seconds=3)), pytest.raises(FileLimitError) as error:
        OpenVideo(films / "good.mp4", 1)
    assert error.value.what == "pixels" and "64x48" in error.value.reason
    OpenVideo(films / "good.mp4", 1).close()


def test_what_names_other_files_is_not_followed(service: Service, films: Path) -> None:
    asked: list[str] = []

    class Listening(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

    server = HTTPServer(("127.0.0.1", 0), Listening)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url, good = f"http://127.0.0.1:{server.server_port}", films / "good.mp4"
    try:
        for number, target in enumerate((f"file://{good}", str(good), f"{url}/a.mp4", "/etc/passwd")):
            lists = {
                "m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{target}\n#EXT-X-ENDLIST\n",
                "ffconcat": f"ffconcat version 1.0\nfile '{target}'\n",
                "mpd": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentation'
                f'Duration="PT10S"><Period><AdaptationSet><Representation id="1" mimeType="video/mp4" bandwidth="1">'
                f"<BaseURL>{target}</BaseURL></Representation></AdaptationSet></Period></MPD>",
                "txt": target,
            }
            for kind, text in lists.items():
                path = films / f"list{number}.{kind}"
                path.write_text(text)
                assert refusal(service, path) == "unsupported_file"
        (films / "stream.sdp").write_text(
            "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n"
            "a=rtpmap:96 H264/90000\n"
        )
        assert refusal(service, films / "stream.sdp") == "unsupported_file"
    finally:
        server.shutdown()
        server.server_close()
    assert asked == []
    assert asyncio.run(service.predict(good)).label


def test_a_file_that_takes_too_long_costs_itself_alone(films: Path) -> None:
    with serving(limits=Limits(decode_seconds=1)) as service:
        good = films / "good.mp4"
        expected = asyncio.run(service.predict(good)).probability
        (worker,) = service._decoders._workers
        os.kill(worker.pid, signal.SIGSTOP)  # as if it had met a file that it never gets done with
        with pytest.raises(RequestError, match="longer than 1 s") as refused:
            asyncio.run(service.predict(good))
        assert refused.value.code == "too_slow_to_decode" and refused.value.status == 422
        assert asyncio.run(service.predict(good)).probability == expected
        assert service._decoders._workers.isdisjoint({worker}) and not worker.is_alive
        assert b"dualformer_decoders_replaced_total 1.0" in service.metrics.text()


@pytest.mark.parametrize("job", ["predict", "timeline"])
def test_a_process_that_dies_at_work_costs_one_request(job: str, films: Path) -> None:
    with serving() as service:
        (worker,) = service._decoders._workers
        os.kill(worker.pid, signal.SIGSTOP)
        timer = threading.Timer(0.2, worker.kill)
        timer.start()
        with pytest.raises(RequestError) as refused:
            asyncio.run(getattr(service, job)(films / "good.mp4"))
        timer.join()
        assert refused.value.code == "decoder_died"
        asyncio.run(getattr(service, job)(films / "good.mp4"))


def test_a_process_that_died_while_nobody_asked_costs_nothing(films: Path) -> None:
    with serving() as service:
        (worker,) = service._decoders._workers
        worker._process.kill()
        worker._process.join()
        assert asyncio.run(service.predict(films / "good.mp4")).label


def test_a_file_that_takes_too_much_memory_costs_itself_alone(films: Path) -> None:
    large = film(films / "large.mp4", height=1024, width=1024, frames=16)
    with serving(limits=Limits(decode_bytes=24 * 2**20)) as service:
        with pytest.raises(RequestError) as refused:
            asyncio.run(service.predict(large))
        # FFmpeg does not always say why it fails.
        assert refused.value.code in ("too_much_memory", "decoder_died", "does_not_decode")
        assert asyncio.run(service.predict(films / "good.mp4")).label
    with serving() as service:
        assert asyncio.run(service.predict(large)).label


@pytest.mark.parametrize("temporal", [False, True])
def test_a_service_says_what_the_recognizer_says(films: Path, temporal: bool) -> None:
    good, recognizer = films / "good.mp4", small_recognizer(temporal=temporal)
    assert recognizer.answers_steps == temporal
    with serving(recognizer) as service:
        prediction = asyncio.run(service.predict(good))
        timeline: Timeline = asyncio.run(service.timeline(good))
    assert prediction.source == "good.mp4"
    np.testing.assert_allclose(prediction.probabilities, recognizer(good).probabilities, atol=1e-6)
    expected = recognizer.timeline(good)
    np.testing.assert_array_equal(timeline.bounds, expected.bounds)
    np.testing.assert_allclose(timeline.probabilities, expected.probabilities, atol=1e-6)
    assert timeline.window == expected.window
    assert (timeline.frames, timeline.clips, timeline.source) == (24, expected.clips, "good.mp4")
    assert [s.label for s in timeline.segments] == [s.label for s in expected.segments]


def test_timelines_go_by_the_settings_of_the_weights(films: Path) -> None:
    recognizer = small_recognizer()
    found = SegmentSettings(hop=0.1, window=0.5, threshold=0.05, shortest=0.0)
    recognizer.card = replace(recognizer.card, timeline=found)
    expected = recognizer.timeline(films / "good.mp4")
    with serving(recognizer) as service:
        timeline: Timeline = asyncio.run(service.timeline(films / "good.mp4"))
    assert timeline.settings == found
    np.testing.assert_array_equal(timeline.bounds, expected.bounds)
    assert (timeline.window, timeline.clips) == (0.5, expected.clips)


def test_an_explanation_is_a_video_and_exported_models_have_none(service: Service, films: Path, tmp_path: Path) -> None:
    pytest.importorskip("captum", reason="the extra [explain] is not installed")
    path = asyncio.run(service.explain(films / "good.mp4", "left", tmp_path))
    with av.open(str(path)) as container:
        assert path.parent == tmp_path and len(list(container.decode(video=0))) == 4
    with pytest.raises(RequestError, match="none that the weights know"):
        asyncio.run(service.explain(films / "good.mp4", "sideways", tmp_path))
    with serving(exported_recognizer()) as exported, pytest.raises(RequestError, match="cannot explain") as refused:
        asyncio.run(exported.explain(films / "good.mp4", None, tmp_path))
    assert refused.value.status == 422 and "/a/model" not in str(refused.value)


def test_another_decoder_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DUALFORMER_DECODER", "torchcodec")
    with pytest.raises(ValueError, match="unset DUALFORMER_DECODER"):
        Service(small_recognizer())


def test_real_files(shared: Path) -> None:
    """Those that predict reads are answered, the others refused."""
    bad = {
        "audio_only.mp4": "unsupported_file",
        "corrupt_after_28_of_50.mp4": "does_not_decode",
        "truncated_no_moov.mp4": "unsupported_file",
        "zero_bytes.webm": "unsupported_file",
    }
    with serving() as service:
        for path in sorted((shared / "videos").iterdir()):
            try:
                said = asyncio.run(service.predict(path))
            except RequestError as refused:
                assert refused.code == bad.pop(path.name), path.name
            else:
                np.testing.assert_allclose(said.probabilities, small_recognizer()(path).probabilities, atol=1e-5)
    assert bad == {}


def _fast(path: Path, frames: int) -> Path:
    """So many frames in a second."""
    with av.open(str(film(path.with_suffix(".slow.mp4"), frames=frames))) as old, av.open(str(path), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(video=0):
            if packet.pts is not None and packet.dts is not None:
                packet.pts, packet.dts, packet.duration = packet.pts // 8, packet.dts // 8, packet.duration // 8
                packet.stream = stream
                new.mux(packet)
    return path


def _remuxed(source: Path, kind: str) -> bytes:
    target = source.with_suffix(f".{kind}")
    with av.open(str(source)) as old, av.open(str(target), "w", format=kind) as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                new.mux(packet)
    return target.read_bytes()


def _png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        chunk(kind, data)
        for kind, data in ((b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 100_000)), (b"IEND", b""))
    )
