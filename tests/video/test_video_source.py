"""A video may be handed over in many ways: the same frames to the bit, read as its file is, or a `ValueError`."""

import contextlib
import gzip
import io
import os
import tarfile
import tempfile
import threading
from collections.abc import Callable
from dataclasses import replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_videos import encoder
from PIL import Image

from dualformer import remote_files
from dualformer.video import video_source
from dualformer.video.clip_reader import Views, read_noted_views, read_views
from dualformer.video.container import VideoError
from dualformer.video.encode import write_image
from dualformer.video.memory_frames import MemoryFrames
from dualformer.video.open_video import open_video
from dualformer.video.playback import Playback
from dualformer.video.preprocessing import kinetics
from dualformer.video.pyav_reader import PyAVReader
from dualformer.video.video_source import BufferedFile, resolve_source, source_name

PRE = kinetics(frames=4, stride=2, size=32)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return encoder(tmp_path_factory.mktemp("source"))("a.mp4", frames=24, height=48, width=64)


@pytest.fixture(scope="module")
def frames(video: Path) -> np.ndarray:
    with PyAVReader(video) as reader:
        return reader.read(np.arange(len(reader))).numpy()


def views_of(source: Any, **how: Any) -> torch.Tensor:
    return read_noted_views(resolve_source(source, **how), PRE, Views(2, 3)).views


def piped(data: bytes) -> io.BufferedReader:
    """A file object that cannot seek."""
    reading, writing = os.pipe()

    def write() -> None:
        with contextlib.suppress(BrokenPipeError), os.fdopen(writing, "wb") as file:  # its reader may leave early
            file.write(data)

    threading.Thread(target=write, daemon=True).start()
    return os.fdopen(reading, "rb")


def temporary(data: bytes) -> Any:
    file = tempfile.TemporaryFile()  # noqa: SIM115 (the test reads it)
    file.write(data)  # its place is the end
    return file


def compressed(data: bytes) -> Any:
    return gzip.GzipFile(fileobj=io.BytesIO(gzip.compress(data)))


def tar_member(data: bytes) -> Any:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as out:
        entry = tarfile.TarInfo("a.mp4")
        entry.size = len(data)
        out.addfile(entry, io.BytesIO(data))
    archive.seek(0)
    return tarfile.open(fileobj=archive).extractfile("a.mp4")


FILES: dict[str, Callable[[Path], Any]] = {
    "path": lambda path: path,
    "text": str,
    "bytes": lambda path: path.read_bytes(),
    "bytearray": lambda path: bytearray(path.read_bytes()),
    "memoryview": lambda path: memoryview(path.read_bytes()),
    "BytesIO": lambda path: io.BytesIO(path.read_bytes()),
    "open file": lambda path: path.open("rb"),
    "unbuffered file": lambda path: path.open("rb", buffering=0),
    "pipe": lambda path: piped(path.read_bytes()),
    "temporary file at its end": lambda path: temporary(path.read_bytes()),
    "gzip": lambda path: compressed(path.read_bytes()),
    "tar member": lambda path: tar_member(path.read_bytes()),
    "descriptor": lambda path: descriptor(path),
    "file URL": lambda path: path.resolve().as_uri(),
}


def descriptor(path: Path) -> str:
    """The path of a pipe, as a shell gives it for ``<(cat a.mp4)``."""
    kept = piped(path.read_bytes())
    _OPEN.append(kept)
    return f"/dev/fd/{kept.fileno()}"


_OPEN: list[Any] = []


@pytest.mark.parametrize("way", FILES)
def test_a_file_gives_the_same_views_however_it_is_handed_over(video: Path, way: str) -> None:
    source = FILES[way](video)
    assert torch.equal(views_of(source), read_views(video, PRE, clips=2, crops=3))


FRAMES: dict[str, tuple[Callable[[np.ndarray], Any], dict[str, Any]]] = {
    "array": (lambda x: x, {}),
    "tensor": (torch.from_numpy, {}),
    "OpenCV's colours": (lambda x: x[..., ::-1].copy(), {"channel_order": "bgr"}),
    "OpenCV's colours, turned by a view": (lambda x: x[..., ::-1].copy()[..., ::-1], {}),
    "tensor in BGR": (lambda x: torch.from_numpy(x).flip(3), {"channel_order": "bgr"}),
    "planes": (lambda x: np.ascontiguousarray(x.transpose(0, 3, 1, 2)).transpose(0, 2, 3, 1), {}),
    "every second of twice as many": (lambda x: x.repeat(2, axis=0)[::2], {}),
    "backwards twice": (lambda x: x[::-1].copy()[::-1], {}),
    "upside down by a view": (lambda x: x[:, ::-1].copy()[:, ::-1], {}),
    "read-only": (lambda x: np.frombuffer(x.tobytes(), np.uint8).reshape(x.shape), {}),
    "list of arrays": (list, {}),
    "list of BGR arrays": (lambda x: [one[..., ::-1] for one in x], {"channel_order": "bgr"}),
    "tuple of tensors": (lambda x: tuple(torch.from_numpy(x)), {}),
    "generator": (lambda x: (one for one in x), {}),
    "PIL images": (lambda x: [Image.fromarray(one) for one in x], {}),
    "PIL images with transparency": (lambda x: [Image.fromarray(one).convert("RGBA") for one in x], {}),
    "something like an array": (lambda x: ArrayLike(x), {}),
    "frames with their rate": (lambda x: MemoryFrames(frames=x, fps=25), {}),
}


class ArrayLike:
    def __init__(self, content: np.ndarray) -> None:
        self.content = content

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return self.content


@pytest.mark.parametrize("way", FRAMES)
def test_frames_give_the_views_of_their_file(video: Path, frames: np.ndarray, way: str) -> None:
    make, how = FRAMES[way]
    assert torch.equal(views_of(make(frames), **how), read_views(video, PRE, clips=2, crops=3))


@pytest.mark.parametrize(
    "wrong",
    [
        3, None, {}, [], [1], ["a.mp4", "b.mp4"], io.StringIO("text"), np.array(["a.mp4"]), [Image.new("I", (8, 8))],
        np.zeros((4, 8, 8, 3)), np.zeros((8, 8), np.uint8), np.zeros((4, 3, 8, 8), np.uint8),
        np.zeros((4, 8, 8, 4), np.uint8), np.zeros((0, 8, 8, 3), np.uint8), [np.zeros((8, 8, 3), np.float32)],
        [np.zeros((8, 8, 3), np.uint8), np.zeros((8, 9, 3), np.uint8)],
    ],
)  # fmt: skip
def test_what_is_no_video_is_a_wrong_call(wrong: Any) -> None:
    with pytest.raises(ValueError, match=r".+") as raised:
        resolve_source(wrong)
    assert "\n" not in str(raised.value)


def test_a_rate_and_an_order_of_colours_are_for_frames(video: Path, frames: np.ndarray) -> None:
    for source in (video, video.read_bytes(), io.BytesIO(video.read_bytes())):
        with pytest.raises(ValueError, match="fps is for frames in memory"):
            resolve_source(source, fps=25)
        with pytest.raises(ValueError, match="channel_order is for arrays"):
            resolve_source(source, channel_order="bgr")
    for rate in (0, -1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="fps must be positive"):
            resolve_source(frames, fps=rate)
    with pytest.raises(ValueError, match="channel_order must be rgb or bgr"):
        resolve_source(frames, channel_order="gbr")  # type: ignore[arg-type]  # what is tested
    with pytest.raises(ValueError, match="knows the order of its colours"):
        resolve_source([Image.fromarray(frames[0])], channel_order="bgr")
    with pytest.raises(ValueError, match="opened as text"):
        resolve_source(video.open(encoding="latin-1"))  # type: ignore[arg-type]  # what is tested
    closed = video.open("rb")
    closed.close()
    with pytest.raises(ValueError, match="closed"):
        resolve_source(closed)


def test_frames_that_are_resampled_in_time_need_their_rate(video: Path, frames: np.ndarray) -> None:
    pre = replace(PRE, fps=10.0, stride=1)
    expected = read_views(video, pre, clips=2)
    assert torch.equal(read_views(resolve_source(list(frames), fps=25), pre, clips=2), expected)
    with pytest.raises(ValueError, match="fps="):
        read_views(resolve_source(frames), pre)


def test_a_picture_is_a_video_of_one_frame(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    write_image(tmp_path / "a.png", picture)
    data = (tmp_path / "a.png").read_bytes()
    expected = read_views(tmp_path / "a.png", PRE)
    for source in (data, io.BytesIO(data), Image.open(tmp_path / "a.png"), Image.fromarray(picture), picture[None]):
        assert torch.equal(read_views(resolve_source(source), PRE), expected)


def test_pil_images_are_turned_upright(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    Image.fromarray(picture).save(tmp_path / "a.png", exif=exif)
    with Image.open(tmp_path / "a.png") as image:
        video = MemoryFrames(frames=[image])
        assert np.array_equal(video.frame(0).numpy(), np.rot90(picture, -1))
        assert np.array_equal(open_video(tmp_path / "a.png").read([0])[0].numpy(), np.rot90(picture, -1))


def test_a_file_object_is_left_where_it_was(video: Path) -> None:
    file = io.BytesIO(video.read_bytes())
    file.seek(100)
    resolve_source(file)
    assert file.tell() == 100
    with video.open("rb") as opened:
        assert resolve_source(opened) == video


def test_what_is_large_is_kept_in_a_file_without_a_name(
    video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(video_source, "_KEPT_IN_MEMORY", 1000)
    monkeypatch.setattr(video_source, "_AT_ONCE", 300)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    source = resolve_source(piped(video.read_bytes()))
    assert isinstance(source, BufferedFile) and not isinstance(source.data, bytes)
    assert not list(tmp_path.iterdir()), "a process that is killed leaves nothing"
    assert torch.equal(read_views(source, PRE), read_views(video, PRE))
    with source.open() as one, source.open() as other:
        assert one.read(10) + one.read() == other.read() == video.read_bytes()


def test_sources_are_named_without_being_read(video: Path) -> None:
    assert source_name(video) == str(video)
    assert source_name("https://host/a.mp4") == source_name(Path("https://host/a.mp4")) == "https://host/a.mp4"
    assert source_name(b"") == source_name(memoryview(b"")) == "bytes"
    assert source_name(io.BytesIO()) == "file"
    assert source_name(np.zeros(3)) == source_name([]) == "frames"
    with video.open("rb") as file:
        assert source_name(file) == str(video)


def test_nothing_and_damage_are_errors_with_the_name(video: Path) -> None:
    for source in (b"", io.BytesIO(), piped(b"")):
        with pytest.raises(VideoError, match="the file is empty"):
            views_of(source)
    for source in (b"no video", io.BytesIO(b"no video")):
        with pytest.raises(VideoError, match=r"^(bytes|file): it cannot be opened .*: it is a text file$"):
            views_of(source)
    with pytest.raises(VideoError, match=r"^bytes: "):
        views_of(video.read_bytes()[:2000])
    reading, writing = os.pipe()
    os.close(writing)
    with os.fdopen(reading, "rb") as empty, pytest.raises(VideoError, match=r"/dev/fd/\d+: the file is empty"):
        views_of(f"/dev/fd/{empty.fileno()}")


def test_standard_input_is_a_source(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Input:
        buffer = piped(video.read_bytes())

    monkeypatch.setattr("sys.stdin", Input)
    assert torch.equal(views_of("-"), read_views(video, PRE, clips=2, crops=3))
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(ValueError, match="standard input"):
        resolve_source("-")


def test_a_named_pipe_is_a_source(video: Path, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.mp4"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(video.read_bytes()), daemon=True)
    writer.start()
    assert torch.equal(views_of(pipe), read_views(video, PRE, clips=2, crops=3))
    writer.join()


@pytest.fixture
def server(video: Path, monkeypatch: pytest.MonkeyPatch):
    class Quiet(SimpleHTTPRequestHandler):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args, directory=str(video.parent))

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (as it is called there)
            pass

    monkeypatch.setattr(remote_files, "_PAUSES", (0.0, 0.0, 0.0))
    with ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def test_urls_are_fetched(video: Path, server: str) -> None:
    expected = read_views(video, PRE, clips=2, crops=3)
    url = f"{server}/a.mp4?token=%20d"
    for source in (url, Path(url)):  # a path makes one slash of two
        assert torch.equal(views_of(source), expected)
    assert str(resolve_source(url)) == f"{server}/a.mp4"
    with open_video(url) as reader, Playback(url) as playing:
        assert len(reader) == 24 == len(list(playing))
    for absent in (f"{server}/absent.mp4", Path(f"{server}/absent.mp4")):
        with pytest.raises(VideoError, match=rf"^{server}/absent\.mp4: there is no such file$"):
            resolve_source(absent)


def test_urls_that_cannot_be_read_say_what_they_need(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_files, "_PAUSES", (0.0, 0.0, 0.0))
    for url, remedy in (
        ("gs://bucket/a.mp4", "pip install gcsfs"),
        ("az://bucket/a.mp4", "pip install adlfs"),
        ("rtsp://camera/live", "`dualformer stream`"),
        ("http://127.0.0.1:9/a.mp4", "it cannot be read in 2 tries"),
    ):
        for source in (url, Path(url)):
            with pytest.raises(VideoError) as raised:
                resolve_source(source)
            assert str(raised.value).startswith(f"{url}: ") and remedy in str(raised.value)
