"""An image is a video of one frame: every format as Pillow reads it, upright, and broken ones say why."""

import io
import shutil
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_images import opened, save, smooth, tiled
from made_videos import Encode
from PIL import Image

from dualformer.video.augmentation import Augmentation
from dualformer.video.clip_reader import read_training_clip, read_views
from dualformer.video.container import OpenVideo, VideoError
from dualformer.video.encode import write_image
from dualformer.video.file_formats import IMAGE_EXTENSIONS, is_media
from dualformer.video.preprocessing import kinetics
from dualformer.video.pyav_reader import PyAVReader
from dualformer.video.sequential_decoding import decode_all

# Name, mode, how it is saved, mean difference from Pillow in levels of 255: 0 where nothing is lost.
FORMATS: dict[str, tuple[str, str, dict[str, Any], float]] = {
    "jpeg": ("a.jpg", "RGB", {"quality": 95}, 1.5),
    "jpeg without subsampling": ("a.JPEG", "RGB", {"quality": 95, "subsampling": 0}, 1),
    "jpeg progressive": ("a.jpg", "RGB", {"progressive": True}, 2),
    "jpeg grey": ("a.jpg", "L", {}, 0.5),
    "jpeg of inks": ("a.jpg", "CMYK", {}, 1.5),
    "png": ("a.png", "RGB", {}, 0),
    "png grey": ("a.png", "L", {}, 0),
    "png grey and alpha": ("a.png", "LA", {}, 0),
    "png palette": ("a.png", "P", {}, 0),
    "png two colours": ("a.png", "1", {}, 0),
    "webp": ("a.webp", "RGB", {"quality": 95}, 2.5),
    "webp without loss": ("a.webp", "RGB", {"lossless": True}, 0),
    "bmp": ("a.bmp", "RGB", {}, 0),
    "bmp grey": ("a.bmp", "L", {}, 0),
    "tiff": ("a.tif", "RGB", {}, 0),
    "tiff lzw": ("a.tiff", "RGB", {"compression": "tiff_lzw"}, 0),
    "tiff palette": ("a.tif", "P", {}, 0),
    "ppm": ("a.ppm", "RGB", {}, 0),
    "pgm": ("a.pgm", "L", {}, 0),
    "avif": ("a.avif", "RGB", {"quality": 95}, 2.5),
    "gif": ("a.gif", "P", {}, 0),
}


@pytest.mark.parametrize("size", [(48, 64), (31, 47), (1, 1), (203, 5)], ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("kind", FORMATS)
def test_an_image_is_a_video_of_one_frame(kind: str, size: tuple[int, int], tmp_path: Path) -> None:
    name, mode, how, loss = FORMATS[kind]
    path = save(tmp_path / name, smooth(*size) if max(size) > 1 else np.full((1, 1, 3), 200, np.uint8), mode, **how)
    expected = opened(path)
    with PyAVReader(path) as reader:
        assert len(reader) == 1
        assert reader.times.tolist() == [0]
        frame = reader.read([0])[0].numpy()
        info = reader.info
        assert [seconds for seconds, _ in reader] == [0]
    assert frame.shape == expected.shape == (*size, 3)
    assert np.abs(frame.astype(int) - expected).mean() <= loss
    assert (info.frames, info.height, info.width, info.rotation) == (1, *size, 0)
    assert decode_all(path) == info
    if name != "a.gif":
        assert (info.fps, info.duration) == (0, 0)


def test_sixteen_bits_become_eight(tmp_path: Path) -> None:
    ramp = np.repeat(np.arange(0, 65536, 64, dtype=np.uint16)[None], 4, axis=0)
    for name in ("a.png", "a.tif"):
        Image.fromarray(ramp).save(tmp_path / name)
        with PyAVReader(tmp_path / name) as reader:
            frame = reader.read([0])[0].numpy()
        assert np.abs(frame - ramp[..., None] / 257).max() <= 1.5, name


@pytest.mark.parametrize("name", ["a.png", "a.webp"])
def test_transparency_is_left_out(name: str, tmp_path: Path) -> None:
    picture = np.dstack([smooth(24, 40), np.broadcast_to(np.linspace(0, 255, 40), (24, 40)).astype(np.uint8)])
    Image.fromarray(picture).save(tmp_path / name, lossless=True, exact=True)
    with PyAVReader(tmp_path / name) as reader:
        assert np.array_equal(reader.read([0])[0].numpy(), picture[..., :3])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("name", "how"), [
    ("a.jpg", {"subsampling": 0, "quality": 98}), ("a.png", {}), ("a.webp", {"lossless": True}), ("a.tif", {}),
])  # fmt: skip
def test_photos_are_turned_upright(name: str, how: dict[str, Any], orientation: int, tmp_path: Path) -> None:
    path = save(tmp_path / name, smooth(24, 40), orientation=orientation, **how)
    expected = opened(path)
    assert expected.shape == ((24, 40, 3) if orientation < 5 else (40, 24, 3))
    with PyAVReader(path) as reader:
        frame = reader.read([0])[0].numpy()
        assert (reader.info.height, reader.info.width) == expected.shape[:2]
    assert np.abs(frame.astype(int) - expected).max() <= 3


@pytest.mark.parametrize("name", ["shot_%03d.png", "shot_*.jpg", "sh?t.bmp", "[a-z]{1,2}.webp", "100%.tif", "a:b.gif"])
def test_names_are_read_literally(name: str, tmp_path: Path) -> None:
    """FFmpeg would read files called shot_001.png and so on instead."""
    suffix = Path(name).suffix
    wrong = save(tmp_path / f"shot_001{suffix}", np.zeros((16, 16, 3), np.uint8))
    for other in (f"shot_000{suffix}", f"shut{suffix}", f"a{suffix}"):
        shutil.copyfile(wrong, tmp_path / other)
    path = save(tmp_path / name, np.full((24, 32, 3), 200, np.uint8))
    with PyAVReader(path) as reader:
        assert len(reader) == 1
        frame = reader.read([0])[0]
    assert frame.shape == (24, 32, 3)
    assert abs(float(frame.float().mean()) - 200) < 2
    assert abs(float(read_views(path, kinetics(1, 1, 24)).float().mean()) - 200) < 2


def test_an_image_sequence_cannot_name_other_files(tmp_path: Path) -> None:
    save(tmp_path / "shot_001.png", smooth(16, 16))
    with pytest.raises(FileNotFoundError, match=r"shot_%03d\.png"):
        PyAVReader(tmp_path / "shot_%03d.png")
    (tmp_path / "drawing.png").write_text('<svg xmlns="http://www.w3.org/2000/svg"><image href="shot_001.png"/></svg>')
    with pytest.raises(VideoError, match="cannot be opened"):
        PyAVReader(tmp_path / "drawing.png")


def jpeg(picture: np.ndarray, **how: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", **how)
    return file.getvalue()


def test_pictures_behind_the_first_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Phones append gain maps, depth and whole videos to their photos."""
    photo, small = smooth(48, 64), np.zeros((12, 16, 3), np.uint8)
    for number, appended in enumerate((jpeg(small), jpeg(smooth(48, 64)), b"\0\0\0\x18ftypmp42" + bytes(1000), b"x")):
        path = tmp_path / f"{number}.jpg"
        path.write_bytes(jpeg(photo) + appended)
        with PyAVReader(path) as reader:
            assert len(reader) == 1
            assert np.array_equal(reader.read([0])[0].numpy(), _frame(tmp_path, jpeg(photo)))
        assert decode_all(path).frames == 1
    assert not caplog.records


def test_the_preview_inside_is_not_the_photo(tmp_path: Path) -> None:
    preview = jpeg(np.zeros((12, 16, 3), np.uint8))
    first = struct.pack("<HHHIII", 1, 0x112, 3, 1, 1, 26)
    second = struct.pack("<HHHIIHHIII", 2, 0x201, 4, 1, 56, 0x202, 4, 1, len(preview), 0)
    exif = b"Exif\0\0II*\0" + struct.pack("<I", 8) + first + second + preview
    photo = jpeg(smooth(48, 64))
    segment = b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif
    frame = _frame(tmp_path, photo[:2] + segment + photo[2:])
    assert np.array_equal(frame, _frame(tmp_path, photo))


def _frame(folder: Path, data: bytes) -> np.ndarray:
    path = folder / "frame.jpg"
    path.write_bytes(data)
    with PyAVReader(path) as reader:
        return reader.read([0])[0].numpy()


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.bmp", "a.tif", "a.ppm"])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.97])
def test_a_truncated_image_is_bad(name: str, share: float, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)  # something that takes space
    path = save(tmp_path / name, noise)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    reason = r"frame 0 does not decode \(FFmpeg: Invalid data found"
    if name == "a.jpg":
        reason = rf"it ends early|{reason}"
    for read in (decode_all, lambda path: PyAVReader(path).read([0])):
        with pytest.raises(VideoError, match=reason) as caught:
            read(path)
        assert str(caught.value).startswith(f"{path}: ")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
def test_damage_in_the_middle_is_noticed(name: str, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = save(tmp_path / name, noise)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 64] = np.random.default_rng(1).bytes(64)
    path.write_bytes(data)
    with pytest.raises(VideoError, match="frame 0 does not decode"):
        decode_all(path)


@pytest.mark.parametrize("extension", sorted(IMAGE_EXTENSIONS))
def test_what_is_no_image_says_so(extension: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{extension}"
    path.write_bytes(b"")
    with pytest.raises(VideoError, match=r"the file is empty \(0 bytes\)"):
        PyAVReader(path)
    path.write_text("This is a text.\n" * 20)
    with pytest.raises(VideoError, match=r"it cannot be opened as a video or image \(FFmpeg: Invalid data found"):
        PyAVReader(path)


def test_headers_that_are_odd_but_right(tmp_path: Path) -> None:
    photo = jpeg(smooth(48, 64))
    plain = _frame(tmp_path, photo)
    marker = photo.index(b"\xff\xdb")
    broken_exif = b"\xff\xe1\0\x28Exif\0\0" + b"\x99" * 32
    for odd in (
        photo[:marker] + b"\xff\xff" + photo[marker:],
        photo[:marker] + b"\xff\xd9\xab" + photo[marker:],
        photo[:2] + broken_exif + photo[2:],
        photo + bytes(1000),
    ):
        assert np.array_equal(_frame(tmp_path, odd), plain)


def test_a_file_that_may_not_be_read_says_so(encode: Encode, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any) -> None:
        raise PermissionError(13, "Permission denied")

    path = encode("a.mp4", 2)
    monkeypatch.setattr(Path, "open", refused)
    with pytest.raises(VideoError, match=r"a\.mp4: it cannot be read \(Permission denied\)"):
        PyAVReader(path)


def test_pictures_that_would_come_out_wrong_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "tiles.avif"
    tile = save(tmp_path / "tile.avif", smooth(64, 64), quality=95)
    path.write_bytes(tiled(tile.read_bytes(), 2, 64))
    assert opened(path).shape == (64, 128, 3)
    with pytest.raises(VideoError, match="put together from tiles"):
        PyAVReader(path)
    for compression in ("jpeg", "raw"):
        save(tmp_path / "scan.tif", smooth(64, 64), compression=compression)
        if compression == "jpeg":
            with pytest.raises(VideoError, match="TIFF with JPEG inside"):
                PyAVReader(tmp_path / "scan.tif")
        else:
            assert decode_all(tmp_path / "scan.tif").codec == "tiff"


def test_an_animated_png_is_a_video(tmp_path: Path) -> None:
    frames = [Image.fromarray(np.roll(smooth(32, 32), 4 * i, axis=1)) for i in range(5)]
    frames[0].save(tmp_path / "a.png", save_all=True, append_images=frames[1:], duration=100)
    with PyAVReader(tmp_path / "a.png") as reader:
        assert np.array_equal(reader.read(range(5)).numpy(), np.stack([np.asarray(frame) for frame in frames]))
        assert reader.times == pytest.approx([0, 0.1, 0.2, 0.3, 0.4], abs=1e-3)


def test_a_video_named_like_an_image_is_still_a_video(encode: Encode, tmp_path: Path) -> None:
    path = encode("a.mp4", 6).rename(tmp_path / "a.jpg")
    with PyAVReader(path) as reader:
        assert len(reader) == 6


def test_every_file_is_closed(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", smooth(8, 8))
    video = OpenVideo(path, None)
    assert not isinstance(video._source, str)
    video.close()
    assert video._source.closed


def test_a_picture_is_written_whole_and_read_back_to_the_bit(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (33, 47, 3), dtype=np.uint8)
    path = tmp_path / "a.png"
    write_image(path, picture)
    assert np.array_equal(opened(path), picture)
    with PyAVReader(path) as reader:
        assert np.array_equal(reader.read([0])[0].numpy(), picture)
    first = path.read_bytes()
    write_image(path, picture)
    assert path.read_bytes() == first
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]
    with pytest.raises(ValueError, match=r"writes \.png, not a\.jpg"):
        write_image(tmp_path / "a.jpg", picture)
    for wrong in (picture[..., 0], picture.astype(np.float32), picture[:0]):
        with pytest.raises(ValueError, match="must be uint8"):
            write_image(path, wrong)  # type: ignore[arg-type]  # wrong types are what this is about


def test_clips_and_views_of_an_image_repeat_it(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", smooth(96, 160))
    one = read_views(path, kinetics(1, 1, 64), clips=1, crops=3)
    assert one.shape == (3, 1, 64, 64, 3)
    many = read_views(path, kinetics(8, 2, 64), clips=4, crops=3)
    assert many.shape == (12, 8, 64, 64, 3)
    assert torch.equal(many, one.repeat(4, 8, 1, 1, 1))
    clip = read_training_clip(path, kinetics(8, 2, 64), np.random.default_rng(5), Augmentation(flip=0.5)).frames
    still = read_training_clip(path, kinetics(1, 2, 64), np.random.default_rng(5), Augmentation(flip=0.5)).frames
    assert still.shape == (1, 64, 64, 3)
    assert torch.equal(clip, still.expand(8, -1, -1, -1))
    resampled = kinetics(4, 2, 64)
    resampled = type(resampled)(**{**vars(resampled), "fps": 12.5})
    assert torch.equal(read_views(path, resampled), one[1:2].repeat(1, 4, 1, 1, 1))


def test_one_frame_of_a_video_is_any_of_its_frames(encode: Encode) -> None:
    path = encode("a.mp4", 6, options={"crf": "0"})
    with PyAVReader(path) as reader:
        frames = reader.read(range(6))
    seen = set()
    for seed in range(60):
        whole = Augmentation(flip=0, area=(1, 1), ratio=(1, 1))
        clip = read_training_clip(path, kinetics(1, 2, 48), np.random.default_rng(seed), whole).frames
        centre = frames[:, :, 8:56]
        seen.add(next(i for i in range(6) if torch.equal(clip[0], centre[i])))
    assert seen == set(range(6))


def test_names() -> None:
    names = ("a.jpg", "b.JPEG", "c.tiff", "d.mp4", "e.webp", ".hidden.png", "notes.txt", "f.heic", "Thumbs.db")
    assert [name for name in names if is_media(Path(name))] == ["a.jpg", "b.JPEG", "c.tiff", "d.mp4", "e.webp"]
