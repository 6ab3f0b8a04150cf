"""What decodes is chosen by one variable, named by its versions, and never another one than was chosen."""

import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
import torch
from av.video.stream import VideoStream
from made_videos import Encode

from dualformer.datasets.clip_datasets import Batches, TrainingClips, ViewClips
from dualformer.datasets.decode_check import check_videos
from dualformer.datasets.samples import Sample, VideoList
from dualformer.video.augmentation import Augmentation
from dualformer.video.backend import DecoderMissingError, chosen_backend, decoder, import_torchcodec
from dualformer.video.encode import write_image
from dualformer.video.frame_reader import FrameFolderReader
from dualformer.video.open_video import open_video
from dualformer.video.preprocessing import kinetics
from dualformer.video.pyav_reader import PyAVReader
from dualformer.video.torchcodec_reader import TorchcodecReader

VARIABLE = "DUALFORMER_DECODER"


@pytest.fixture(autouse=True)
def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)


@pytest.fixture
def missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """torchcodec is asked for and cannot be imported."""
    monkeypatch.setenv(VARIABLE, "torchcodec")
    monkeypatch.setitem(sys.modules, "torchcodec", None)


def test_pyav_is_named_by_its_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    assert re.fullmatch(rf"PyAV {re.escape(av.__version__)}, FFmpeg \S.*", decoder())
    monkeypatch.delattr(av, "ffmpeg_version_info", raising=False)
    assert re.fullmatch(r"PyAV \S+, FFmpeg libavcodec \d+\.\d+\.\d+", decoder())


@pytest.mark.parametrize("value", [None, "", "pyav", " PyAV "])
def test_pyav_is_what_decodes_unless_it_is_said_otherwise(value: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    if value is not None:
        monkeypatch.setenv(VARIABLE, value)
    assert chosen_backend() == "pyav"
    monkeypatch.setenv(VARIABLE, "torchcodec")
    assert chosen_backend() == "torchcodec"


def test_a_wrong_name_is_refused_with_the_right_ones(monkeypatch: pytest.MonkeyPatch, encode: Encode) -> None:
    path = encode("a.mp4", 3)
    monkeypatch.setenv(VARIABLE, "decord")
    for call in (chosen_backend, decoder, lambda: open_video(path)):
        with pytest.raises(ValueError, match=r"^DUALFORMER_DECODER=decord is no decoder: set it to pyav or torchcodec"):
            call()


@pytest.mark.usefixtures("missing")
def test_a_missing_decoder_is_told_once_and_early(encode: Encode) -> None:
    path = encode("a.mp4", 3)
    videos = VideoList(classes=("a",), samples=(Sample(path=path, label=0),), source="here")
    pre = kinetics(2, 1, 24)
    for call in (
        decoder,
        lambda: open_video(path),
        lambda: TrainingClips(videos, pre, seed=0, augmentation=Augmentation(flip=0)),
        lambda: ViewClips(videos, pre),
        lambda: check_videos([path]),
    ):
        with pytest.raises(DecoderMissingError, match=r"^DUALFORMER_DECODER=torchcodec: .*pip install") as said:
            call()
        assert "FFmpeg's shared libraries, or unset the variable" in str(said.value)
        assert "\n" not in str(said.value)
    assert open_video(path, backend="pyav").read([0, 2]).shape == (2, 48, 64, 3)


@pytest.mark.usefixtures("missing")
def test_pyav_reads_images_whatever_is_chosen(tmp_path: Path) -> None:
    for i in range(2):
        write_image(tmp_path / f"img_{i}.png", np.full((8, 12, 3), 40 * i, np.uint8))
    with open_video(tmp_path / "img_1.png") as image, open_video(tmp_path / "img_%d.png") as frames:
        assert isinstance(image, PyAVReader) and isinstance(frames, FrameFolderReader)
        assert image.read([0]).unique().tolist() == frames.read([1]).unique().tolist() == [40]


class Decoder:
    """Stands in for torchcodec's: decodes with PyAV from start to end, then spoils it as a test asks for."""

    def __init__(self, source: Any, **options: Any) -> None:
        type(self).opened.append((source, options))
        with av.open(source) as container:
            frames = [(frame.time, frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]
        self._frames = type(self).spoil(frames)
        self.metadata = SimpleNamespace(rotation=type(self).rotation)

    def __len__(self) -> int:
        return len(self._frames)

    def get_frame_at(self, index: int) -> Any:
        seconds, picture = self._frames[index]
        if picture is None:
            raise RuntimeError("decodeAVFrame, /src/Single.cpp:1436, Could not push packet: Invalid data.\nStack: 1")
        return SimpleNamespace(pts_seconds=seconds, data=torch.from_numpy(np.ascontiguousarray(picture)))

    opened: list[tuple[Any, dict[str, Any]]]
    spoil: Any
    rotation: float | None


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> type[Decoder]:
    """The class of decoders of a torchcodec that is there."""

    class Fresh(Decoder):
        pass

    Fresh.opened, Fresh.spoil, Fresh.rotation = [], staticmethod(list), None
    module, decoders = ModuleType("torchcodec"), ModuleType("torchcodec.decoders")
    module.__dict__.update(__version__="0.12.0", ffmpeg_major_version=7, decoders=decoders)
    decoders.__dict__.update(VideoDecoder=Fresh)
    monkeypatch.setitem(sys.modules, "torchcodec", module)
    monkeypatch.setitem(sys.modules, "torchcodec.decoders", decoders)
    monkeypatch.setenv(VARIABLE, "torchcodec")
    return Fresh


@pytest.mark.usefixtures("fake")
def test_torchcodec_is_named_by_its_versions() -> None:
    assert decoder().startswith(f"torchcodec 0.12.0, FFmpeg 7 (images: PyAV {av.__version__}, FFmpeg ")
    versions = {"ffmpeg_version": "7.1.1"}
    import_torchcodec().__dict__["_core"] = SimpleNamespace(get_ffmpeg_library_versions=lambda: versions)
    assert decoder().startswith("torchcodec 0.12.0, FFmpeg 7.1.1 (images: PyAV ")


def test_torchcodec_is_asked_for_exact_frames(fake: type[Decoder], encode: Encode) -> None:
    path = encode("a b.mp4", 10)
    with open_video(path) as reader, open_video(path, backend="pyav") as plain:
        assert isinstance(reader, TorchcodecReader)
        assert (len(reader), reader.info, reader.times.tolist()) == (10, plain.info, plain.times.tolist())
        for indices in ([7, 2, 2, 9], [], range(10)):
            assert reader.read(indices).equal(plain.read(indices))
        assert [i for i, _ in reader.frames([5, 1, 5])] == [1, 5]
        assert [seconds for seconds, _ in reader] == plain.times.tolist()
        with pytest.raises(ValueError, match=r"frame 10 is outside .* which has 10 frames"):
            reader.read([10])
    ((source, options),) = fake.opened
    assert source == f"file:{path}"
    assert options == {
        "stream_index": 0, "dimension_order": "NHWC", "num_ffmpeg_threads": 1, "device": "cpu", "seek_mode": "exact"
    }  # fmt: skip
    large = encode("large.mp4", 3, height=256, width=340)
    for threads in (None, 1, 3):
        TorchcodecReader(large, threads=threads).close()
    assert [options["num_ffmpeg_threads"] for _, options in fake.opened[1:]] == [0, 1, 3]


def neighbour(frames: list[Any]) -> list[Any]:
    return [*frames[:4], frames[5], *frames[5:]]


def smaller(frames: list[Any]) -> list[Any]:
    return [(t, picture[:32] if i == 4 else picture) for i, (t, picture) in enumerate(frames)]


def undecodable(frames: list[Any]) -> list[Any]:
    return [(t, None if i == 4 else picture) for i, (t, picture) in enumerate(frames)]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (neighbour, r"torchcodec gives the frame at 0\.200 s for frame 4, which is at 0\.160 s; PyAV may read it"),
        (smaller, "its frame size changes from 64x48 to 64x32, and torchcodec does not scale it"),
        (undecodable, r"torchcodec does not decode frame 4 \(Could not push packet: Invalid data\); PyAV may"),
    ],
)
def test_another_frame_than_the_one_asked_for_is_an_error(
    spoil: Any, message: str, fake: type[Decoder], encode: Encode
) -> None:
    path = encode("a.mp4", 10)
    fake.spoil = staticmethod(spoil)
    with open_video(path) as reader:
        assert reader.read([3, 5]).equal(open_video(path, backend="pyav").read([3, 5]))
        with pytest.raises(RuntimeError, match=rf"a\.mp4: {message}"):
            reader.read([3, 4])


def test_files_that_torchcodec_sees_otherwise_are_refused(fake: type[Decoder], encode: Encode) -> None:
    path = encode("a.mp4", 10)
    for rotation in (0.0, None):
        fake.rotation = rotation
        open_video(path)
    fake.rotation = -90.0
    with pytest.raises(RuntimeError, match="torchcodec turns it by 270 degrees, and it says 0"):
        open_video(path)
    fake.rotation = None
    fake.spoil = staticmethod(lambda frames: frames[:-1])
    with pytest.raises(RuntimeError, match="torchcodec finds 9 frames in it, and its packets are those of 10"):
        open_video(path)

    def closed(_: list[Any]) -> list[Any]:
        raise ValueError("No valid stream found in input file.")

    fake.spoil = staticmethod(closed)
    with pytest.raises(RuntimeError, match=r"torchcodec does not open it \(No valid stream found in input file\)"):
        open_video(path)


def test_what_torchcodec_does_not_read_right_is_refused_before_it_is_asked(
    fake: type[Decoder], encode: Encode, tmp_path: Path
) -> None:
    raw = encode("a.h264", 10)
    with pytest.raises(RuntimeError, match="packets do not tell which frames there are, and torchcodec goes by them"):
        open_video(raw)
    with pytest.raises(RuntimeError, match="does not find its way in MPEG transport and program streams"):
        open_video(encode("a.ts", 10))
    with pytest.raises(RuntimeError, match="it is an image with the name of a video"):
        write_image(tmp_path / "a.png", np.zeros((8, 8, 3), np.uint8))
        open_video((tmp_path / "a.png").rename(tmp_path / "image.mp4"))
    with pytest.raises(FileNotFoundError):
        open_video(tmp_path / "none.mp4")
    if hasattr(VideoStream, "set_display_rotation"):
        with pytest.raises(RuntimeError, match="its frames are to be mirrored, which torchcodec does not do"):
            open_video(encode("mirrored.mp4", 3, turn=(90, True, False)))
    assert fake.opened == []


def test_loader_workers_decode_with_what_was_chosen(fake: type[Decoder], encode: Encode) -> None:
    path = encode("a.mp4", 10)
    videos = VideoList(classes=("a",), samples=(Sample(path=path, label=0),) * 4, source="here")
    fake.spoil = staticmethod(lambda frames: [(t, 255 - picture) for t, picture in frames])

    def batches(workers: int) -> list[Any]:
        context = "fork" if workers else None  # what stands in is not there in a process that is started anew
        clips = ViewClips(videos, kinetics(4, 2, 24))
        loader = Batches(clips, batch_size=2, num_workers=workers, multiprocessing_context=context)
        return [batch["views"] for batch in loader]

    here, there = batches(0), batches(2)
    assert all(a.equal(b) for a, b in zip(here, there, strict=True))
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(VARIABLE)
        plain = batches(0)
    assert not here[0].equal(plain[0])
    assert abs((255.0 - here[0].float()) - plain[0].float()).max() <= 2  # rounded twice
