"""Checking files: verdicts on real bad files, files that hang or kill their process, manifests, the command."""

import json
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from dualformer.cli.check import Options, run
from dualformer.datasets import check
from dualformer.datasets.check import check_videos
from dualformer.datasets.files import Verdict, find_videos, read_manifest, write_manifest
from dualformer.datasets.samples import DatasetError
from dualformer.video.encode import write_video
from dualformer.video.sequential import VideoInfo, decode_all

BAD = {"corrupt_after_28_of_50.mp4", "truncated_no_moov.mp4", "zero_bytes.webm", "audio_only.mp4"}


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "good.mp4"
    write_video(path, np.zeros((10, 32, 48, 3), np.uint8), fps=25)
    return path


def stand_in(path: str) -> VideoInfo:
    """Decodes, but hangs or dies on request; runs in the worker process."""
    if Path(path).name.startswith("hang"):
        time.sleep(600)
    if Path(path).name.startswith("die"):
        os.kill(os.getpid(), signal.SIGKILL)
    return decode_all(path)


def serve_stand_in(connection) -> None:
    check.decode_all = stand_in
    check._serve(connection)


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


@pytest.mark.parametrize("workers", [1, 2])
def test_files_that_hang_or_kill(workers: int, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "_serve", serve_stand_in)
    names = ["0.mp4", "hang1.mp4", "die2.mp4", "3.mp4", "die4.mp4", "hang5.mp4", "6.mp4"]
    for name in names:
        (tmp_path / name).write_bytes(clip.read_bytes())
    begun = time.monotonic()
    verdicts = check_videos([tmp_path / name for name in names], seconds_limit=1, workers=workers)
    assert time.monotonic() - begun < 30
    assert [v.path.name for v in verdicts] == names
    assert [v.ok for v in verdicts] == [True, False, False, True, False, False, True]
    assert {verdicts[i].reason for i in (1, 5)} == {"it took longer than 1 s to decode"}
    assert {verdicts[i].reason for i in (2, 4)} == {"decoding it brings the process down"}
    assert verdicts[6].frames == 10


def test_nothing_and_missing_files(tmp_path: Path) -> None:
    assert check_videos([]) == []
    verdict = check_videos([tmp_path / "none.mp4"])[0]
    assert (verdict.ok, verdict.reason) == (False, "there is no such file")
    with pytest.raises(ValueError, match="seconds_limit"):
        check_videos([], seconds_limit=0)


def test_manifest_round_trip(tmp_path: Path) -> None:
    verdicts = [
        Verdict(
            path=tmp_path / "a, b.mp4", ok=True, frames=7, fps=29.97, width=4, height=2, duration=1.5, codec="h264"
        ),
        Verdict(path=tmp_path / 'q"\n.mp4', ok=False, reason='it says "no", twice'),
    ]
    write_manifest(tmp_path / "m.csv", verdicts)
    assert read_manifest(tmp_path / "m.csv") == verdicts
    header = (tmp_path / "m.csv").read_text().splitlines()[0]
    assert header == "path,verdict,frames,fps,width,height,duration,codec,reason"


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
    with pytest.raises(DatasetError, match="no video files"):
        find_videos(tmp_path / "empty")


def test_command(clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "good.mp4").write_bytes(clip.read_bytes())
    out = tmp_path / "m.csv"
    assert run(Options(data=data, out=out)) == 0
    text = capsys.readouterr().out
    assert "checking 1 files" in text
    assert "1 good (10 frames, 0.4 s of video), 0 bad" in text
    assert f"next: dualformer train --data {data}\n" in text
    (data / "bad.mp4").write_bytes(b"no video")
    assert run(Options(data=data, out=out)) == 1
    text = capsys.readouterr().out
    assert f"bad: {data / 'bad.mp4'}: it cannot be opened as a video" in text
    assert f"next: dualformer train --data {data} --manifest {out}" in text
    assert run(Options(data=data, out=out, json=True)) == 1
    result = json.loads(capsys.readouterr().out)
    assert (result["checked"], result["good"], result["bad"][0]["path"]) == (2, 1, str(data / "bad.mp4"))
    assert [v.ok for v in read_manifest(out)] == [False, True]
    with pytest.raises(FileNotFoundError, match="--out"):
        run(Options(data=data, out=tmp_path / "none" / "m.csv"))
