"""Frames that torchcodec gives are those that plain decoding gives, or there is an error: for every kind of file.

Runs where torchcodec can be imported, with the FFmpeg that it finds. What needs no torchcodec is in ``test_backend``.
"""

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from kinds import KINDS, can_encode, make
from made_videos import Encode

from dualformer.datasets.clip_datasets import Batches, TrainingClips
from dualformer.datasets.decode_check import check_videos
from dualformer.datasets.samples import Sample, VideoList
from dualformer.video.augmentation import Augmentation
from dualformer.video.backend import DecoderMissingError, decoder, import_torchcodec
from dualformer.video.container import VideoError
from dualformer.video.file_slices import LocalFileSlice
from dualformer.video.open_video import open_video
from dualformer.video.preprocessing import kinetics
from dualformer.video.pyav_reader import PyAVReader
from dualformer.video.torchcodec_reader import TorchcodecReader

try:
    import_torchcodec()
except DecoderMissingError as error:
    pytest.skip(f"torchcodec is optional, and not here: {error}", allow_module_level=True)

REFUSED = {
    "h264 in avi",
    "h264 interlaced",
    "h264 raw",
    "mpeg-4 in avi with B-frames",
    "mpeg-2 interlaced",
    "vp8 with hidden frames",
    "h264 transport stream",
    "h264 open groups in transport stream",
    "h264 variable rate in transport stream",
    "hevc transport stream",
    "mpeg-2 transport stream",
    "mpeg-2 program stream",
    "h264 clock that starts anew",
    "h264 two sizes",
}
"""Kinds that are not opened: packets that do not tell the frames, and streams in which torchcodec loses its way."""

PARTLY = {
    "h264 intra refresh",
    "h264 flash",
    "h264 no edit list",
    "h264 fragments",
    "hevc edit list within an open group",
    "mpeg-4 edit list",
    "vp9 edit list",
    "vp9 two sizes",
}
"""Kinds of which torchcodec gives some frames, and others in place of some, which is found. Versions differ."""

OTHER_PIXELS = {"h264 10 bit", "hevc 10 bit", "av1 10 bit", "vp9 odd size"}
"""Kinds whose colours are made RGB by another rule than PyAV's: a little different everywhere, more at edges."""


def frame_by_frame(path: Path, order: list[int]) -> tuple[dict[int, torch.Tensor], int]:
    """The frames that are given, and how often there was an error in place of one."""
    found: dict[int, torch.Tensor] = {}
    errors = 0
    with TorchcodecReader(path, threads=1) as reader:
        for index in order:
            try:
                frame = reader.read([index])[0]
            except VideoError as error:
                assert str(error).startswith(f"{path}: ")
                errors += 1
                continue
            assert frame.equal(found.setdefault(index, frame))
    return found, errors


@pytest.mark.parametrize("kind", KINDS)
def test_frames_are_those_of_plain_decoding_or_an_error(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    if not can_encode(kind):
        pytest.skip(f"this FFmpeg does not encode {kind}")
    path = make(kind, tmp_path)
    if kind in REFUSED:
        with pytest.raises(VideoError, match="torchcodec"):
            TorchcodecReader(path)
        return
    with caplog.at_level(logging.ERROR, "dualformer"), PyAVReader(path, threads=1) as plain:
        truth, info, times = plain.read(range(len(plain))), plain.info, plain.times
    n = len(truth)
    with TorchcodecReader(path, threads=1) as reader:
        assert (len(reader), reader.info, reader.times.tolist()) == (n, info, times.tolist())
    order = [*np.random.default_rng(0).integers(0, n, 30).tolist(), *range(n), *reversed(range(n))]
    found, errors = frame_by_frame(path, order)
    assert errors == 0 or kind in PARTLY
    assert len(found) > (0 if kind in PARTLY else n - 1)
    for index, frame in found.items():
        difference = (frame.int() - truth[index].int()).abs().float()
        assert difference.mean() < (4 if kind in OTHER_PIXELS else 1e-9)
        # Nearer to its own frame than to any other.
        apart = (truth.float() - frame.float()).abs().mean(dim=(1, 2, 3))
        assert apart[index] == apart.min()


@pytest.mark.parametrize(
    "name",
    [
        "hevc_10bit.mp4", "kinetics_flipping_pancake.mkv", "one_frame.mp4", "rotated_90_17frames.mp4",
        "rotated_minus90_3frames.mov", "ucf101_SoccerJuggling_g23_c01.avi", "variable_frame_rate.mp4",
    ],
)  # fmt: skip
def test_real_files(name: str, shared: Path) -> None:
    path = shared / "videos" / name
    with PyAVReader(path, threads=1) as plain, TorchcodecReader(path) as reader:
        indices = np.random.default_rng(0).integers(0, len(plain), 12)
        assert (len(reader), reader.info) == (len(plain), plain.info)
        difference = (reader.read(indices).int() - plain.read(indices).int()).abs().float()
    assert difference.mean() < (3.5 if name == "hevc_10bit.mp4" else 0.01)


def test_damage_is_an_error_with_the_path(shared: Path) -> None:
    path = shared / "videos" / "corrupt_after_28_of_50.mp4"
    with TorchcodecReader(path) as reader:
        assert reader.read([3]).shape[0] == 1
        with pytest.raises(VideoError, match=r"corrupt_after_28_of_50\.mp4: torchcodec does not decode frame 28 \(Cou"):
            reader.read(range(len(reader)))
    for name, reason in (("audio_only.mp4", "no video stream"), ("zero_bytes.webm", "empty")):
        with pytest.raises(VideoError, match=reason):
            TorchcodecReader(shared / "videos" / name)


def test_pieces_of_larger_files(encode: Encode, tmp_path: Path) -> None:
    path = encode("a: %03d.mp4", 20)
    data = path.read_bytes()
    (tmp_path / "larger").write_bytes(b"x" * 700 + data + b"y" * 300)
    piece = LocalFileSlice(path=tmp_path / "larger" / "a.mp4", size=len(data), file=tmp_path / "larger", offset=700)
    with open_video(piece, backend="torchcodec") as inside, open_video(path, backend="torchcodec") as whole:
        assert isinstance(inside, TorchcodecReader)
        assert inside.read([15, 3]).equal(whole.read([15, 3]))


def test_checks_and_clips_are_by_torchcodec(encode: Encode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DUALFORMER_DECODER", "torchcodec")
    path, stream = encode("a.mp4", 20, pixel_format="yuv420p10le"), encode("b.ts", 20)
    good, bad = check_videos([path, stream], workers=1)
    assert good.ok and good.frames == 20 and good.decoder == decoder() and decoder().startswith("torchcodec ")
    assert not bad.ok and "torchcodec does not find its way" in bad.reason and bad.decoder == decoder()
    videos = VideoList(classes=("a",), samples=(Sample(path=path, label=0),) * 4, source="here")

    def batches(workers: int) -> list[torch.Tensor]:
        clips = TrainingClips(videos, kinetics(4, 2, 24), seed=0, augmentation=Augmentation(flip=0.5))
        keys = [(0, i) for i in range(4)]
        return [batch["clip"] for batch in Batches(clips, batch_size=2, sampler=keys, num_workers=workers)]

    here, there = batches(0), batches(2)
    assert all(a.equal(b) for a, b in zip(here, there, strict=True))
    monkeypatch.delenv("DUALFORMER_DECODER")
    assert not here[0].equal(batches(0)[0])  # 10 bits are rounded in another way
