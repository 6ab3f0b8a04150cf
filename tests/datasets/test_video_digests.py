"""Digests of videos follow what is in them, wherever they lie and whatever they are called."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from made_shards import make_videos, pack, served
from PIL import Image

from dualformer.datasets.shards.storage import ShardCache
from dualformer.datasets.splits import open_all_splits
from dualformer.datasets.video_digests import pack_digests, unpack_digests, video_digest, video_digests


def digests_of(data: Path | str, split: str = "train", cache: ShardCache | None = None) -> set[bytes | None]:
    videos = open_all_splits(data, cache=cache)[0][split]
    return set(video_digests(sample.file for sample in videos.samples))


def frame_folder(folder: Path, pictures: np.ndarray) -> Path:
    folder.mkdir(parents=True)
    for number, picture in enumerate(pictures, 1):
        Image.fromarray(picture).save(folder / f"img_{number:05d}.png")
    return folder / "img_%05d.png"


def test_copies_have_the_digest_and_others_do_not(tmp_path: Path) -> None:
    data = make_videos(tmp_path / "data")
    videos = sorted(data.rglob("*.mp4"))
    found = video_digests(videos)
    assert None not in found and len(set(found)) == len(videos) == 16
    copy = tmp_path / "elsewhere" / "another name.mp4"
    copy.parent.mkdir()
    shutil.copy(videos[3], copy)
    assert video_digest(copy) == found[3]


@pytest.mark.parametrize("size", [1, 1000, 49_152, 49_153, 5_000_000])
def test_large_files_are_told_apart_by_samples(tmp_path: Path, size: int) -> None:
    content = np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8)
    path = tmp_path / "video.avi"
    path.write_bytes(content.tobytes())
    before = video_digest(path)
    for place in (size // 4, size // 2, size * 3 // 4):
        changed = content.copy()
        changed[place] += 1
        path.write_bytes(changed.tobytes())
        assert video_digest(path) != before
    path.write_bytes(content.tobytes() + b"\0")
    assert video_digest(path) != before


def test_folders_of_frames(tmp_path: Path) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)
    one = video_digest(frame_folder(tmp_path / "a", pictures))
    assert video_digest(frame_folder(tmp_path / "b" / "c", pictures)) == one
    assert video_digest(frame_folder(tmp_path / "shorter", pictures[:4])) != one
    for place in (0, 2, 4):
        changed = pictures.copy()
        changed[place] = 0
        assert video_digest(frame_folder(tmp_path / f"changed-{place}", changed)) != one


def test_videos_in_shards_have_the_digests_of_their_files(tmp_path: Path) -> None:
    data = make_videos(tmp_path / "data")
    frames = np.random.default_rng(1).integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
    for name in ("clap", "wave"):
        for number in range(2):
            frame_folder(data / "frames" / name / str(number), frames + number)
    listed = tmp_path / "list.csv"
    rows = [f"{path},{path.parent.name},train" for path in sorted(data.rglob("train/*/*.mp4"))]
    rows += [f"{data}/frames/{name}/{n}/img_%05d.png,{name},train" for name in ("clap", "wave") for n in range(2)]
    rows += [f"{path},{path.parent.name},val" for path in sorted(data.rglob("val/*/*.mp4"))]
    listed.write_text("\n".join(["path,label,split", *rows]) + "\n")
    pack(listed, tmp_path / "shards")
    assert digests_of(tmp_path / "shards") == digests_of(listed)
    assert digests_of(tmp_path / "shards", "val") == digests_of(listed, "val")


def test_shards_at_a_url_are_not_fetched_for_it(tmp_path: Path) -> None:
    pack(make_videos(tmp_path / "data"), tmp_path / "shards")
    cache = ShardCache(folder=tmp_path / "cache", limit=10**9)
    with served(tmp_path / "shards") as (url, requests):
        assert digests_of(url, cache=cache) == digests_of(tmp_path / "data")
        assert sum(path.endswith(".tar") for path, _ in requests) >= 12
    assert not (tmp_path / "cache").exists()


def test_what_cannot_be_read_has_none(tmp_path: Path) -> None:
    good = tmp_path / "good.mp4"
    good.write_bytes(b"a")
    found = video_digests([tmp_path / "absent.mp4", good, tmp_path / "absent" / "%d.png"])
    assert found == [None, video_digest(good), None]


def test_packed_they_are_the_same_in_any_order() -> None:
    many = [bytes([number % 7, 0, 255, number // 7, 1]) for number in range(40)]
    assert pack_digests([*reversed(many), None, many[3]]) == pack_digests(many)
    assert unpack_digests(pack_digests(many)) == set(many)
    assert (pack_digests([]), unpack_digests("")) == ("", frozenset())
