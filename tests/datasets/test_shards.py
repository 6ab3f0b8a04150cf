"""Writing shards and reading them back, here: the same videos in the same order, and what is wrong is named."""

import json
import os
import resource
import shutil
import signal
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from made_shards import index_in, location_of, make_videos, pack
from PIL import Image

from dualformer.datasets.clip_datasets import ViewClips
from dualformer.datasets.data_source import survey
from dualformer.datasets.samples import ArchivedSample, DatasetError, VideoList
from dualformer.datasets.shards.read_shards import PARTIAL, damaged_shards, find_shards, read_shards
from dualformer.datasets.shards.shard_index import INDEX
from dualformer.datasets.shards.write_shards import write_shards
from dualformer.datasets.splits import open_all_splits, open_splits, open_videos
from dualformer.video.file_slices import LocalFileSlice, SliceReader
from dualformer.video.preprocessing import kinetics
from dualformer.video.pyav_reader import PyAVReader
from dualformer.video.sequential_decoding import VideoError, decode_all


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_videos(tmp_path_factory.mktemp("videos"))


@pytest.fixture(scope="module")
def shards(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("packed") / "shards"
    pack(videos, out)
    return out


def copy_of(shards: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(shards, tmp_path / "copy"))


def assert_same_list(packed: VideoList, files: VideoList) -> None:
    assert packed.classes == files.classes
    assert packed.manifest_hash == files.manifest_hash
    assert [(s.name, s.label, s.fps) for s in packed.samples] == [(s.name, s.label, s.fps) for s in files.samples]
    for one, other in zip(packed.samples, files.samples, strict=True):
        with one.media.open("rb") as file:
            assert file.read() == other.path.read_bytes()


def test_a_window_reads_as_a_file_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "large"
    path.write_bytes(bytes(range(256)) * 8)
    piece = LocalFileSlice(path=tmp_path / "a.tar" / "b.mp4", size=700, file=path, offset=300)
    (tmp_path / "small").write_bytes(path.read_bytes()[300:1000])
    rng = np.random.default_rng(0)
    with piece.open_unbuffered() as window, (tmp_path / "small").open("rb", buffering=0) as plain:
        for _ in range(300):
            count = int(rng.integers(0, 200))
            assert window.read(count) == plain.read(count)
            whence = int(rng.integers(0, 3))
            offset = int(rng.integers(0, 900)) if whence == 0 else int(rng.integers(-100, 100)) if whence == 1 else -5
            if whence == 1 and plain.tell() + offset < 0:
                continue
            assert window.seek(offset, whence) == plain.seek(offset, whence)
            assert window.tell() == plain.tell()
        with pytest.raises(ValueError, match="cannot seek"):
            window.seek(-1)
    with piece.open() as file:
        assert file.read() == (tmp_path / "small").read_bytes()
    assert isinstance(piece.open_unbuffered(), SliceReader)


def test_a_video_inside_of_a_file_decodes_as_the_file_does(shared: Path, tmp_path: Path) -> None:
    around = tmp_path / "around"
    checked = 0
    for path in sorted((shared / "videos").iterdir()):
        data = path.read_bytes()
        if len(data) > 300_000 or path.name == "vp9_no_duration.webm":  # which take long
            continue
        around.write_bytes(b"before" * 100 + data + b"behind" * 100)
        piece = LocalFileSlice(path=tmp_path / "a.tar" / path.name, size=len(data), file=around, offset=600)
        try:
            info = decode_all(path)
        except VideoError as error:
            with pytest.raises(VideoError) as caught:
                decode_all(piece)
            assert caught.value.reason == error.reason
            assert str(caught.value).startswith(f"{tmp_path / 'a.tar' / path.name}: ")
        else:
            assert vars(decode_all(piece)) | {"path": ""} == vars(info) | {"path": ""}
            with PyAVReader(path) as plain, PyAVReader(piece) as reader:
                assert np.array_equal(reader.times, plain.times)
                every_third = np.arange(0, len(plain), 3)
                assert torch.equal(reader.read(every_third), plain.read(every_third))
        checked += 1
    assert checked > 9


def test_shards_hold_the_same_lists_in_the_same_order(videos: Path, shards: Path) -> None:
    before = open_splits(videos)
    after = open_splits(shards)
    assert_same_list(after.train, before.train)
    assert_same_list(after.val, before.val)
    assert_same_list(open_videos(shards), before.val)
    assert_same_list(open_videos(shards, on={"split": ("train",)}), before.train)
    sample = after.train.samples[0]
    assert isinstance(sample, ArchivedSample) and sample.original == "train/clap/v00.mp4"
    assert sample.path.parent.parent == shards.resolve() and sample.path.name == "000000000.mp4"
    assert f"shards {shards.resolve()}: 2 classes, videos: train 12, val 4; from test" in after.description
    for data in (f"shards:{shards}", shards / INDEX):
        assert len(open_splits(data).train) == 12
    pre = kinetics(4, 1, 16)
    for split in ("train", "val"):
        plain, packed = ViewClips(getattr(before, split), pre), ViewClips(getattr(after, split), pre)
        assert all(torch.equal(plain[i]["views"], packed[i]["views"]) for i in range(len(plain)))


def test_the_tar_files_are_webdatasets(videos: Path, shards: Path) -> None:
    index = index_in(shards)
    assert [shard.file for shard in index.shards] == [
        *(f"train-{number:06d}.tar" for number in range(5)),
        *(f"val-{number:06d}.tar" for number in range(2)),
    ]
    order: dict[str, list[int]] = {"train": [], "val": []}
    for shard in index.shards:
        with tarfile.open(shards / shard.file) as tar:
            members = tar.getmembers()
            for at, entry in enumerate(shard.entries):
                video, label, about = members[3 * at : 3 * at + 3]
                assert (video.name, video.offset_data, video.size) == (entry.member, entry.offset, entry.size)
                key = f"{entry.place:09d}"
                assert [m.name for m in (video, label, about)] == [f"{key}.mp4", f"{key}.cls", f"{key}.json"]
                said = {m.name: tar.extractfile(m) for m in (label, about)}
                texts = [file.read() for file in said.values() if file]
                assert texts[0] == str(entry.label).encode()
                assert json.loads(texts[1]) == {
                    "label": entry.label,
                    "class": ("clap", "wave")[entry.label],
                    "name": entry.name,
                    "index": entry.place,
                }
                order[shard.split].append(entry.place)
            assert len(members) == 3 * len(shard.entries)
        assert (shards / shard.file).stat().st_size == shard.bytes
    assert order["val"] == list(range(4))  # to judge by: read from start to end
    assert order["train"] != list(range(12)) == sorted(order["train"])
    sizes = [shard.bytes for shard in index.shards if shard.split == "train"]
    assert max(sizes) < 20_000 + 7_000 and min(sizes) > 10_000


def test_webdataset_reads_them(videos: Path, shards: Path) -> None:
    webdataset = pytest.importorskip("webdataset", reason="webdataset is not installed: it reads shards, too")
    files = [str(path) for path in sorted(shards.glob("train-*.tar"))]
    found = {s["__key__"]: s for s in webdataset.WebDataset(files, shardshuffle=False, empty_check=False)}
    splits = open_splits(videos)
    assert sorted(found) == [f"{i:09d}" for i in range(12)]
    for i, sample in enumerate(splits.train.samples):
        assert found[f"{i:09d}"]["mp4"] == sample.path.read_bytes()
        assert int(found[f"{i:09d}"]["cls"]) == sample.label


def test_images_and_folders_of_frames(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    rows = ["path,label,split,fps"]
    for number in range(6):
        folder = tmp_path / "frames" / f"clip.{number}"
        folder.mkdir(parents=True)
        for frame in range(3, 15):
            noise = rng.integers(0, 256, (9, 12, 3), dtype=np.uint8)
            Image.fromarray(noise).save(folder / f"img_{frame:05d}.png")
        rows.append(f"frames/clip.{number}/img_%05d.png,{'ab'[number % 2]},{('train', 'val')[number // 4]},12.5")
    Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8)).save(tmp_path / "still.png")
    rows.append("still.png,a,train,")
    (tmp_path / "list.csv").write_text("\n".join(rows) + "\n")
    pack(tmp_path / "list.csv", tmp_path / "shards", size=9_000)
    before, after = open_splits(tmp_path / "list.csv"), open_splits(tmp_path / "shards")
    pre = kinetics(4, 1, 8)
    for split in ("train", "val"):
        plain, packed = getattr(before, split), getattr(after, split)
        assert [(s.name, s.label, s.fps) for s in packed.samples] == [(s.name, s.label, s.fps) for s in plain.samples]
        assert packed.manifest_hash == plain.manifest_hash
        for i in range(len(plain)):
            assert torch.equal(ViewClips(plain, pre)[i]["views"], ViewClips(packed, pre)[i]["views"])
    members = sorted(p.samples[0].path.name for p in (after.train, after.val))
    assert members == ["000000000.img_%05d.png"] * 2
    # Shards are data like any other, too: they can be packed anew, in another size.
    pack(tmp_path / "shards", tmp_path / "again", size=10**9)
    again = open_splits(tmp_path / "again").train
    assert [s.name for s in again.samples] == [s.name for s in before.train.samples]
    assert torch.equal(ViewClips(again, pre)[4]["views"], ViewClips(before.train, pre)[4]["views"])


def test_a_third_split_comes_along_and_what_is_missing_stays_known(videos: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(videos, tmp_path / "data"))
    shutil.copytree(data / "val", data / "test")
    pack(data, tmp_path / "shards")
    assert {shard.split for shard in index_in(tmp_path / "shards").shards} == {"train", "val", "test"}
    assert len(open_videos(tmp_path / "shards", on={"split": ("test",)})) == 4
    lists = data / "list.txt"
    lists.write_text("train/clap/v00.mp4 0\nval/clap/gone.mp4 0\n")
    judged = open_videos(f"list:{lists}", missing="wrong")
    write_shards({"test": judged}, tmp_path / "judge", made_from="list")
    with pytest.raises(DatasetError, match=r"1 of 2 videos are missing.*gone\.mp4"):
        open_videos(tmp_path / "judge")
    found = open_videos(tmp_path / "judge", missing="wrong")
    assert [(m.name, m.label, m.listed) for m in found.missing] == [(m.name, 0, m.listed) for m in judged.missing]
    assert len(found) == 1
    with pytest.raises(DatasetError, match="no training videos"):
        open_splits(tmp_path / "judge")


def test_bad_files_of_a_manifest_are_left_out(shards: Path) -> None:
    bad = open_splits(shards).train.samples[3].path
    left = open_splits(shards, bad={bad}).train
    assert len(left) == 11 and bad not in {sample.path for sample in left.samples}


def test_stopped_while_writing_it_goes_on_to_the_same_bytes(videos: Path, shards: Path, tmp_path: Path) -> None:
    lists = open_all_splits(videos)[0]
    out = tmp_path / "stopped"

    class Stop(KeyboardInterrupt):
        pass

    def stop_late(done: int, total: int) -> None:
        if done > 0.6 * total:
            raise Stop

    with pytest.raises(Stop):
        write_shards(lists, out, made_from="test", size=20_000, progress=stop_late)
    complete = sorted(path.name for path in out.glob("*.tar"))
    assert 2 <= len(complete) <= 5 and not list(out.glob(".*"))
    with pytest.raises(DatasetError, match="not complete: give the command again"):
        open_splits(out)
    times = {name: (out / name).stat().st_mtime_ns for name in complete}
    (out / complete[0]).write_bytes(b"half")  # as a file system may leave it after a power cut
    with (out / PARTIAL).open("a") as record:
        record.write('{"file": "train-0000')
    written = write_shards(lists, out, made_from="test", size=20_000)
    assert (written.shards, written.found, written.samples) == (7, len(complete) - 1, {"train": 12, "val": 4})
    assert sorted(p.name for p in out.iterdir()) == sorted(p.name for p in shards.iterdir())
    assert all((out / p.name).read_bytes() == p.read_bytes() for p in shards.iterdir())
    assert all((out / name).stat().st_mtime_ns == times[name] for name in complete[1:])
    again = write_shards(lists, out, made_from="test", size=20_000)
    assert (again.found, again.bytes) == (7, written.bytes)
    (out / complete[1]).unlink()
    assert write_shards(lists, out, made_from="test", size=20_000).found == 6
    assert (out / complete[1]).read_bytes() == (shards / complete[1]).read_bytes()


def test_a_full_disk_leaves_no_half_shard(videos: Path, tmp_path: Path) -> None:
    lists = open_all_splits(videos)[0]
    out = tmp_path / "full"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (8_000, limits[1]))
        with pytest.raises(DatasetError, match=r"full.*: cannot be written \(File too large\); make room, and give"):
            write_shards(lists, out, made_from="test", size=20_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert [path.name for path in out.iterdir()] == [PARTIAL]
    assert write_shards(lists, out, made_from="test", size=20_000).found == 0
    assert len(open_splits(out).train) == 12


def test_a_folder_of_something_else_is_left_alone(videos: Path, shards: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not empty, and what is in it are no shards"):
        pack(videos, videos)
    with pytest.raises(ValueError, match="shards of other data, or written with other options"):
        pack(videos, shards, size=30_000)
    with pytest.raises(ValueError, match="shards of other data"):
        pack(videos, shards, seed=1)
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="is a file: name a folder"):
        pack(videos, tmp_path / "file")
    with pytest.raises(ValueError, match="upload it as it is"):
        write_shards(open_all_splits(videos)[0], "s3://bucket/shards", made_from="test")
    with pytest.raises(ValueError, match="must be positive"):
        pack(videos, tmp_path / "none", size=0)


def test_a_video_that_changes_or_cannot_be_read_is_named(videos: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(videos, tmp_path / "data"))
    lists = open_all_splits(data)[0]
    path = data / "train" / "clap" / "v00.mp4"

    def grow(done: int, total: int) -> None:
        for sample in lists["train"].samples:
            with sample.path.open("ab") as file:
                file.write(b"more")

    with pytest.raises(DatasetError, match=r"v\d\d\.mp4: it is not as large as a moment ago: give the command again"):
        write_shards(lists, tmp_path / "out", made_from="test", progress=grow)
    path.unlink()
    with pytest.raises(DatasetError, match=r"v00\.mp4: it cannot be read \(No such file or directory\); leave it out"):
        write_shards(lists, tmp_path / "other", made_from="test")


def test_damage_is_named_with_its_remedy(shards: Path, tmp_path: Path) -> None:
    copy = copy_of(shards, tmp_path)
    shard = copy / "train-000001.tar"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-1000])
    lost = len(whole) - 1000
    with pytest.raises(DatasetError, match=rf"train-000001\.tar: {lost} bytes, where {len(whole)} were .*: copy this"):
        open_splits(copy)
    shard.unlink()
    with pytest.raises(DatasetError, match=r"train-000001\.tar: this shard is missing: copy it here"):
        open_videos(copy)
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    shard.write_bytes(flipped)
    open_splits(copy)
    damaged = damaged_shards(location_of(copy))
    assert damaged == {"train-000001.tar": "its checksum is not that of the shard that was written: copy it again"}
    assert damaged_shards(location_of(shards)) == {}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            ('"version": 1', '"version": 3'),
            r"another version of dualformer \(its layout is 3, this one reads up to 2\)",
        ),
        (('"samples": 3', '"samples": 4'), "damaged one .*lists 3 of 4 samples"),
        (("train-000001.tar", "../train-000001.tar"), "damaged one .*lead elsewhere"),
        (('"clap"', '"clap", "jump"'), None),
        (('"classes"', '"glasses"'), "damaged one .*'classes' is missing"),
        (('"manifest_hash"', "manifest_hash"), "no index of shards, or a damaged one .*copy it again"),
        (('"wave"\n', '"wave", 3]\n'), "no index of shards, or a damaged one"),
    ],
)
def test_an_index_of_another_version_or_a_damaged_one(
    shards: Path, tmp_path: Path, change: tuple[str, str], message: str | None
) -> None:
    copy = copy_of(shards, tmp_path)
    text = (copy / INDEX).read_text()
    assert change[0] in text
    (copy / INDEX).write_text(text.replace(*change, 1))
    if message is None:
        assert read_shards(location_of(copy)).classes == ("clap", "jump", "wave")
        return
    with pytest.raises(DatasetError, match=message) as caught:
        read_shards(location_of(copy))
    assert str(caught.value).startswith(f"{copy / INDEX}: ") and "\n" not in str(caught.value)


def test_an_index_that_lacks_samples(shards: Path, tmp_path: Path) -> None:
    copy = copy_of(shards, tmp_path)
    data = json.loads((copy / INDEX).read_text())
    del data["shards"][2]
    (copy / INDEX).write_text(json.dumps(data))
    with pytest.raises(DatasetError, match="samples of train are missing or there twice"):
        read_shards(location_of(copy))


def test_what_is_taken_for_shards(videos: Path, shards: Path, tmp_path: Path) -> None:
    assert find_shards(videos) is None
    assert find_shards(tmp_path / "list.csv") is None
    assert find_shards("ucf101:/data/ucf101") is None
    assert find_shards("list@root=/data:/data/list.txt") is None
    assert find_shards(shards) == find_shards(f"shards:{shards / INDEX}")
    for url in ("shards:s3://bucket/a/shards", "shards:s3://bucket/a/shards/", "s3://bucket/a/shards/index.json"):
        assert str(find_shards(url)) == "s3://bucket/a/shards"  # which asks no server
    assert str(find_shards(Path("s3://bucket/a/shards/index.json"))) == "s3://bucket/a/shards"
    assert find_shards("memory://no/index/there") is None
    with pytest.raises(FileNotFoundError, match=r"no shards at .*videos\d+: there is no index\.json"):
        open_splits(f"shards:{videos}")
    (videos / "index.json").write_text('{"format": "something else"}')
    try:
        assert find_shards(videos) is None and len(open_splits(videos).train) == 12
    finally:
        (videos / "index.json").unlink()


def test_survey_finds_every_video(shards: Path) -> None:
    found = survey(shards)
    assert len(found.paths) == 16 and found.manifest_hash == open_splits(shards).train.manifest_hash
    assert os.path.commonpath([str(path) for path in found.paths]) == str(shards.resolve())


def test_an_open_file_goes_with_its_video(shards: Path) -> None:
    """Descriptors are given back, also of videos that do not decode."""
    samples = open_splits(shards).train.samples
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    for sample in samples:
        with PyAVReader(sample.media) as reader:
            reader.read([0])
    broken = LocalFileSlice(path=shards / "x.tar" / "x.mp4", size=100, file=shards / INDEX, offset=0)
    with pytest.raises(VideoError, match="cannot be opened"):
        PyAVReader(broken)
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
