"""Long rendered films: their actions happen when the file says, and the rest of the time the actor rests."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dualformer.cli.main import main
from dualformer.datasets.rendered import Difficulty, Scene
from dualformer.datasets.rendered_draw import render
from dualformer.datasets.rendered_films import SEGMENTS, film_segments, plan_film, write_films
from dualformer.datasets.segments.segment_csv import read_segment_csv
from dualformer.datasets.segments.video_finder import VideoFinder
from dualformer.video.open_video import open_video

SCENE = Scene(size=32, frames=16, classes=("right", "left-right"), difficulty=Difficulty.at(0.3), wrap=True)


def test_an_actor_that_rests_stays_where_it_is() -> None:
    clip = render(replace(SCENE, difficulty=Difficulty.at(0.0)), 0, (1, 2), still=(6, 9))
    assert clip.frames.shape == (31, 32, 32, 3)
    assert (clip.frames[:6] == clip.frames[0]).all() and (clip.frames[-9:] == clip.frames[-1]).all()
    changes = [(a != b).any() for a, b in zip(clip.frames[6:22], clip.frames[7:22], strict=False)]
    assert all(changes)
    plain = render(replace(SCENE, difficulty=Difficulty.at(0.0)), 0, (1, 2))
    assert np.array_equal(clip.frames[6:22], plain.frames)


def test_all_else_goes_on_while_it_rests() -> None:
    clip = render(replace(SCENE, difficulty=Difficulty.at(1.0)), 0, (1, 2), still=(6, 0))
    assert all((a != b).any() for a, b in zip(clip.frames[:5], clip.frames[1:6], strict=True))
    assert np.abs(clip.velocity[1:5]).max() < 1.0  # of what drifts, in pixels a frame: the actor's is larger


def test_films_and_their_segments(tmp_path: Path) -> None:
    assert write_films(tmp_path / "a", SCENE, films={"train": 1, "test": 1}, seconds=12, seed=4) == 2
    videos = read_segment_csv(tmp_path / "a" / SEGMENTS, VideoFinder(tmp_path / "a"))
    assert [(video.path.name, video.split) for video in videos] == [
        ("film_0000.mp4", "train"),
        ("film_0000.mp4", "test"),
    ]
    for video in videos:
        with open_video(video.path) as reader:
            lasts = len(reader) / SCENE.fps
        assert 12 <= lasts < 12 + 6
        before = 0.0
        for segment in video.segments:
            assert segment.label in SCENE.classes
            assert segment.start - before >= 0.5 - 1 / 16
            assert 0.75 <= segment.end - segment.start <= 1.5
            before = segment.end
        assert lasts - before >= 0.5 - 1 / 16
    train, test = ([(s.label, s.start) for s in video.segments] for video in videos)
    assert train != test
    assert write_films(tmp_path / "a", SCENE, films={"train": 1, "test": 1}, seconds=12, seed=4) == 0
    write_films(tmp_path / "b", SCENE, films={"train": 1}, seconds=12, seed=4, workers=2)
    name = "train/film_0000.mp4"
    assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_the_plan_is_what_the_segments_say() -> None:
    shots = plan_film(SCENE, 20, (3, 1))
    assert plan_film(SCENE, 20, (3, 1)) == shots != plan_film(SCENE, 20, (3, 2))
    first, second = film_segments(SCENE, shots)[:2]
    assert first.start == shots[0].before / 16
    assert first.end - first.start == shots[0].action / 16
    assert second.start == (shots[0].frames + shots[1].before) / 16


def test_what_no_films_can_be_made_of(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="films show videos for more than 0 s"):
        write_films(tmp_path / "a", SCENE, films={"train": 0}, seconds=10, seed=0)
    with pytest.raises(ValueError, match="films show videos"):
        write_films(tmp_path / "a", SCENE, films={"train": 1}, seconds=0, seed=0)
    write_films(tmp_path / "a", SCENE, films={"train": 1}, seconds=4, seed=0)
    with pytest.raises(ValueError, match="another seconds"):
        write_films(tmp_path / "a", SCENE, films={"train": 1}, seconds=5, seed=0)


def test_the_verb_renders_films(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "films")
    assert main(["render", out, "--seconds", "3", "--train", "1", "--val", "0", "--test", "1", "--size", "32"]) == 0
    printed = capsys.readouterr().out
    assert "2 films written, 0 were there already" in printed
    assert f"next: dualformer train --data {out}/segments.csv --head temporal" in printed
    videos = read_segment_csv(Path(out) / SEGMENTS, VideoFinder())
    assert [video.split for video in videos] == ["train", "test"]
    for wrong in (["--seconds", "0"], ["--seconds", "3", "--classes", "people"]):
        assert main(["render", str(tmp_path / "x"), *wrong]) == 2
    assert "--seconds makes films of motions, not of --classes people" in capsys.readouterr().err
