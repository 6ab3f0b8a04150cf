"""Parts of a film, each read by a reader of its own, have the timeline of one pass over it, to the bit."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dualformer.inference.film_parts import FilmPlan, join_parts, plan_film, read_part
from dualformer.inference.recognizer import Recognizer
from dualformer.inference.timeline import Timeline, timeline_settings
from dualformer.model.config import Head
from dualformer.video.encode import write_video
from dualformer.video.open_video import open_video
from dualformer.video.video_source import resolve_source
from made_films import moving, write_transport_stream, write_variable
from small_weights import small_network

PHASES = [(1, 0, 40), (0, 1, 25), (-1, 0, 30), (0, -1, 20)]


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same 115 frames as an MP4, with frames of unequal length, as a transport stream, and damaged."""
    home = tmp_path_factory.mktemp("films")
    frames = list(moving(PHASES, size=48))
    write_video(home / "even.mp4", frames, fps=25)
    rng = np.random.default_rng(0)
    write_variable(home / "uneven.mkv", frames, np.cumsum(rng.integers(20, 90, len(frames))) / 1000)  # type: ignore[arg-type]
    write_transport_stream(home / "stream.ts", iter(frames), fps=25, size=48)
    whole = bytearray((home / "even.mp4").read_bytes())
    middle = len(whole) // 2
    whole[middle : middle + 400] = bytes(400)
    (home / "damaged.mp4").write_bytes(whole)
    return home


def recognizer(*, fps: float | None = None, views: str = "4x1", head: Head = "pooled") -> Recognizer:
    model, card = small_network(("a", "b", "c"), head=head)
    card = replace(card, preprocessing=replace(card.preprocessing, fps=fps))
    return Recognizer(model, card, device="cpu", views=views)


def in_parts(using: Recognizer, film: Path | str, part_seconds: float, **given: Any) -> Timeline | FilmPlan | None:
    """Returns the timeline by parts, each read by a fresh reader, last ones first; what there is in place of one."""
    settings, source, clock = (
        timeline_settings(using, **given),
        resolve_source(film),
        using.preprocessing.fps is not None,
    )
    with open_video(source, clock=clock) as reader:
        plan = plan_film(reader, using, hop=settings.hop, part_seconds=part_seconds)
    if plan is None:
        return None
    rows: list[Any] = []
    for part in reversed(plan.parts):
        with open_video(source, clock=clock) as reader:
            rows.insert(0, read_part(reader, using, part))
    if any(each is None for each in rows):
        return plan
    return join_parts(using, plan, rows, settings, source=str(film))


@pytest.mark.parametrize(
    ("film", "how", "given"),
    [
        ("even.mp4", {}, {}),
        ("even.mp4", {"fps": 10.0, "views": "1x3"}, {"hop": 0.3}),
        ("even.mp4", {"fps": 60.0}, {}),
        ("even.mp4", {"head": "temporal"}, {"window": 0.5}),
        ("even.mp4#t=1,4", {}, {"threshold": 0.2}),
        ("uneven.mkv", {"fps": 15.0}, {"shortest": 0.2}),
        ("uneven.mkv", {}, {"hop": 0.2}),
        ("stream.ts", {}, {}),
    ],
)
def test_parts_have_the_timeline_of_one_pass(films: Path, film: str, how: Any, given: Any) -> None:
    using = recognizer(**how)
    alone = using.timeline(films / film, **given)
    joined = in_parts(using, films / film, 0.9, **given)
    assert isinstance(joined, Timeline)
    for name in ("bounds", "probabilities"):
        assert getattr(joined, name).tobytes() == getattr(alone, name).tobytes()
    for name in ("segments", "settings", "window", "clip", "frames", "clips", "error", "source"):
        assert getattr(joined, name) == getattr(alone, name)


def test_parts_hold_all_clips_once_and_all_frames(films: Path) -> None:
    using = recognizer()
    with open_video(films / "even.mp4") as reader:
        plan = plan_film(reader, using, hop=None, part_seconds=1)
        assert plan is not None
        assert plan_film(reader, using, hop=None, part_seconds=4.56) is None
    assert len(plan.parts) == 4
    assert [len(part.numbers) % using.views_per_batch for part in plan.parts[:-1]] == [0] * 3
    assert sum(len(part.numbers) for part in plan.parts) == using.timeline(films / "even.mp4").clips
    assert {frame for part in plan.parts for frame in range(part.first, part.end)} == set(range(115))


def test_what_does_not_decode_is_left_to_one_pass(films: Path) -> None:
    using = recognizer()
    assert using.timeline(films / "damaged.mp4").error is not None
    assert isinstance(in_parts(using, films / "damaged.mp4", 0.9), FilmPlan)


def test_a_film_whose_end_is_missing_is_not_divided(films: Path, tmp_path: Path) -> None:
    """An MP4 that lists its frames in front says how many there should be."""
    import av

    with (
        av.open(str(films / "even.mp4")) as source,
        av.open(str(tmp_path / "front.mp4"), "w", options={"movflags": "faststart"}) as target,
    ):
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    data = (tmp_path / "front.mp4").read_bytes()
    (tmp_path / "front.mp4").write_bytes(data[: len(data) * 3 // 4])
    using = recognizer()
    assert using.timeline(tmp_path / "front.mp4").error is not None
    assert in_parts(using, tmp_path / "front.mp4", 0.9) is None
