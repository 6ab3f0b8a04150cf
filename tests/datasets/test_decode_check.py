"""Checking files: verdicts on real bad files, files that hang or kill their process, manifests, the command."""

import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from dualformer.cli.check import Options, run
from dualformer.datasets import decode_check
from dualformer.datasets.decode_check import _check_file as decode_one
from dualformer.datasets.decode_check import check_into, check_videos, journal_of
from dualformer.datasets.manifest import Verdict, find_videos, read_manifest, write_manifest
from dualformer.datasets.samples import DatasetError
from dualformer.video.backend import decoder
from dualformer.video.encode import write_image, write_video

BAD = {"corrupt_after_28_of_50.mp4", "truncated_no_moov.mp4", "zero_bytes.webm", "audio_only.mp4"}


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "good.mp4"
    write_video(path, np.zeros((10, 32, 48, 3), np.uint8), fps=25)
    return path


def stand_in(path: Path) -> Verdict:
    """Decodes, but hangs or dies on request; runs in the worker process."""
    if path.name.startswith("hang"):
        time.sleep(600)
    if path.name.startswith("spin"):
        re.match("(a+)+b", "a" * 60)  # for years, in C: no signal is heard meanwhile but the one that kills
    if path.name.startswith("die"):
        os.kill(os.getpid(), signal.SIGKILL)
    return decode_one(path)


def test_real_files(shared: Path) -> None:
    paths = find_videos(shared / "videos")
    assert len(paths) == 17
    seen: list[Verdict] = []
    verdicts = check_videos(paths, seconds_limit=60, progress=seen.append)
    assert [v.path for v in verdicts] == paths
    assert {v.path.name for v in verdicts if not v.ok} == BAD
    assert sorted(seen, key=lambda v: v.path) == verdicts
    frames = {v.path.name: v.frames for v in verdicts}
    assert frames["header30_decodes25.mp4"] == 25
    assert frames["hmdb51_wave.avi"] == 72
    assert frames["one_frame.mp4"] == 1
    rotated = next(v for v in verdicts if v.path.name == "rotated_90_17frames.mp4")
    assert (rotated.width, rotated.height, rotated.frames) == (270, 480, 17)


def test_files_that_hang_or_kill(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode_check, "_check_file", stand_in)
    names = ["0.mp4", "hang1.mp4", "die2.mp4", "3.mp4", "spin4.mp4", "5.mp4"]
    for name in names:
        (tmp_path / name).write_bytes(clip.read_bytes())
    verdicts = check_videos([tmp_path / name for name in names], seconds_limit=1, workers=2)
    assert [v.path.name for v in verdicts] == names
    assert [v.ok for v in verdicts] == [True, False, False, True, False, True]
    assert verdicts[1].reason == verdicts[4].reason == "it took longer than 1 s to decode"
    assert verdicts[2].reason == "decoding it brings the process down"
    assert verdicts[3].frames == verdicts[5].frames == 10
    assert not multiprocessing.active_children()


def test_nothing_and_missing_files(tmp_path: Path) -> None:
    assert check_videos([]) == []
    verdict = check_videos([tmp_path / "none.mp4"])[0]
    assert (verdict.ok, verdict.reason) == (False, "there is no such file")
    with pytest.raises(ValueError, match="seconds_limit"):
        check_videos([], seconds_limit=0)


def test_manifest_round_trip(tmp_path: Path) -> None:
    verdicts = [
        Verdict(
            path=tmp_path / "a, b.mp4",
            ok=True,
            frames=7,
            fps=29.97,
            width=4,
            height=2,
            duration=1.5,
            codec="h264",
            bytes=99,
            modified=1_700_000_000_123_456_789,
            decoder="PyAV 18, FFmpeg 8",
        ),
        Verdict(path=tmp_path / 'q"\n.mp4', ok=False, reason='it says "no", twice'),
    ]
    write_manifest(tmp_path / "m.csv", verdicts)
    assert read_manifest(tmp_path / "m.csv") == verdicts
    header = (tmp_path / "m.csv").read_text().splitlines()[0]
    assert header == "path,verdict,frames,fps,width,height,duration,codec,reason,bytes,modified,decoder,notes"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.replace("verdict", "judgement"), "no manifest"),
        (lambda s: s.replace(",ok,", ",fine,"), ":2: verdict 'fine'"),
        (lambda s: s.replace(",7,", ",seven,"), ":2: this line"),
        (lambda s: s + "short,ok\n", ":3: this line"),
    ],
)
def test_broken_manifests(change, message: str, tmp_path: Path) -> None:
    write_manifest(tmp_path / "m.csv", [Verdict(path=tmp_path / "a.mp4", ok=True, frames=7)])
    (tmp_path / "m.csv").write_text(change((tmp_path / "m.csv").read_text()))
    with pytest.raises(DatasetError, match=message):
        read_manifest(tmp_path / "m.csv")


def test_find_videos(clip: Path, tmp_path: Path) -> None:
    for name in ("a/1.mp4", "a/b/2.AVI", "a/notes.txt", ".hidden/3.mp4", "a/.4.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "a" / "b" / "up").symlink_to(tmp_path)  # a circle
    found = find_videos(tmp_path)
    assert [p.relative_to(tmp_path).as_posix() for p in found] == ["a/1.mp4", "a/b/2.AVI"]
    assert find_videos(clip) == [clip]
    (tmp_path / "list.csv").write_text("path,label\na/1.mp4,x\nnone.mp4,y\n")
    assert [p.name for p in find_videos(tmp_path / "list.csv")] == ["1.mp4", "none.mp4"]
    with pytest.raises(FileNotFoundError):
        find_videos(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="no video or image files"):
        find_videos(tmp_path / "empty")


def test_command(clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "good.mp4").write_bytes(clip.read_bytes())
    out = tmp_path / "m.csv"
    assert run(Options(data=str(data), out=out)) == 0
    text = capsys.readouterr().out
    assert "1 file lies in it without a class" in text and "next:" not in text  # it cannot be trained on
    for name in ("a/1.mp4", "a/2.mp4", "b/1.mp4", "b/2.mp4"):
        (data / name).parent.mkdir(exist_ok=True)
        (data / name).write_bytes(clip.read_bytes())
    (data / "good.mp4").unlink()
    assert run(Options(data=str(data), out=out)) == 0
    text = capsys.readouterr().out
    assert "checking 4 files" in text
    assert "4 good (40 frames, 1.6 s of video), 0 bad" in text
    assert f"by {decoder()}" in text
    assert f"next: dualformer train --data {data}\n" in text
    (data / "b" / "bad.mp4").write_bytes(b"no video")
    assert run(Options(data=str(data), out=out)) == 1
    text = capsys.readouterr().out
    assert f"bad: {data / 'b' / 'bad.mp4'}: it cannot be opened as a video" in text
    assert f"next: dualformer train --data {data} --manifest {out}" in text
    assert run(Options(data=str(data), out=out, json=True)) == 1
    result = json.loads(capsys.readouterr().out)
    assert (result["checked"], result["good"], result["bad"][0]["path"]) == (5, 4, str(data / "b" / "bad.mp4"))
    assert (result["known"], result["decoder"]) == (4, decoder())
    assert [v.ok for v in read_manifest(out)] == [True, True, True, True, False]
    with pytest.raises(FileNotFoundError, match="--out"):
        run(Options(data=str(data), out=tmp_path / "none" / "m.csv"))


def several(folder: Path, clip: Path, count: int) -> list[Path]:
    folder.mkdir()
    paths = [folder / f"{i}.mp4" for i in range(count)]
    for path in paths:
        path.write_bytes(clip.read_bytes())
    return paths


def test_only_what_is_new_or_changed_is_decoded_again(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths, manifest = several(tmp_path / "data", clip, 5), tmp_path / "m.csv"
    paths[3].write_bytes(b"no video")
    first = check_into(manifest, paths, workers=1)
    assert (first.kept, [v.ok for v in first.verdicts]) == (0, [True, True, True, False, True])
    assert {(v.bytes, v.decoder) for v in first.verdicts if v.ok} == {(clip.stat().st_size, decoder())}
    assert read_manifest(manifest) == first.verdicts
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data", "m.csv"]
    seen: list[Verdict] = []
    # 0 is another file now, 1 has another size, 3 was bad, 5 is new; 2 and 4 are as they were.
    os.utime(paths[0], ns=(1, 1))
    paths[1].write_bytes(clip.read_bytes() + b" ")
    paths[3].write_bytes(clip.read_bytes())
    new = paths[0].with_name("5.mp4")
    new.write_bytes(clip.read_bytes())
    monkeypatch.chdir(tmp_path)
    relative = [Path("data", path.name) for path in [*paths, new]]
    again = check_into(manifest, relative, workers=1, progress=seen.append)
    assert again.kept == 2
    assert [v.path for v in seen[:2]] == [relative[2], relative[4]]
    assert [v.ok for v in again.verdicts] == [True] * 6
    assert [v.path for v in again.verdicts] == relative
    assert again.verdicts[0].modified == 1
    assert check_into(manifest, relative, workers=1).kept == 6
    assert check_into(manifest, relative[:2], workers=1, fresh=True).kept == 0
    assert len(read_manifest(manifest)) == 2
    # What another decoder found says nothing about this one.
    manifest.write_text(manifest.read_text().replace(decoder(), "PyAV 9, FFmpeg 4"))
    assert check_into(manifest, relative[:2], workers=1).kept == 0


def test_a_check_that_was_killed_goes_on(clip: Path, tmp_path: Path) -> None:
    data, manifest = tmp_path / "data", tmp_path / "m.csv"
    paths = several(data, clip, 40)
    command = [sys.executable, "-m", "dualformer", "check", str(data), "--out", str(manifest), "--workers", "1"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        journal = journal_of(manifest)
        deadline = time.monotonic() + 60
        while not (journal.is_file() and journal.read_bytes().count(b"{") >= 2) and time.monotonic() < deadline:
            time.sleep(0.001)
        process.kill()
    done = journal.read_bytes().count(b"}\n")
    assert done >= 1
    assert not manifest.exists()
    with journal.open("ab") as file:
        file.write(b'\n{"path": "/cut sh')  # as if it had died while writing
    result = check_into(manifest, paths, workers=1)
    assert result.kept == done
    assert len(result.verdicts) == 40
    assert all(v.ok for v in result.verdicts)
    assert not journal.exists()


def test_a_stopped_check_says_how_to_go_on(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data, manifest = tmp_path / "data", tmp_path / "m.csv"
    several(data, clip, 3)
    plain = decode_check.check_videos

    def stopped(paths, **how):
        plain(paths[:2], **how)
        raise KeyboardInterrupt

    monkeypatch.setattr(decode_check, "check_videos", stopped)
    with pytest.raises(KeyboardInterrupt):
        run(Options(data=str(data), out=manifest, workers=1))
    assert f"stopped; the same command goes on from what {manifest}.partial keeps" in capsys.readouterr().out
    monkeypatch.undo()
    assert run(Options(data=str(data), out=manifest, workers=1)) == 0
    assert "3 good (30 frames, 1.2 s of video) (2 were known and have not changed), 0 bad" in capsys.readouterr().out


def test_another_file_is_not_taken_for_a_manifest(clip: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels.csv"
    labels.write_text(f"path,label\n{clip},a\n")
    with pytest.raises(DatasetError, match=r"labels\.csv:1: this is no manifest .*; choose another `out`"):
        check_into(labels, [clip])
    assert labels.read_text().startswith("path,label")


@pytest.mark.parametrize("fresh", [False, True])
def test_folders_of_frames_are_known_by_their_frames(fresh: bool, tmp_path: Path) -> None:
    pattern, manifest = tmp_path / "clip" / "%d.png", tmp_path / "m.csv"
    pattern.parent.mkdir()
    for i in range(3):
        write_image(pattern.parent / f"{i}.png", np.full((8, 8, 3), i, np.uint8))
    assert check_into(manifest, [pattern], workers=1).verdicts[0].frames == 3
    assert check_into(manifest, [pattern], workers=1, fresh=fresh).kept == (not fresh)
    write_image(pattern.parent / "3.png", np.zeros((8, 8, 3), np.uint8))
    again = check_into(manifest, [pattern], workers=1)
    assert (again.kept, again.verdicts[0].frames) == (0, 4)
