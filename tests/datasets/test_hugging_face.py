"""What Hugging Face's ``datasets`` writes and gives is read: saved folders, Parquet, records of bytes and path."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from made_foreign import CLASSES, Film, films_in
from made_shards import make_videos

from dualformer.datasets.clip_datasets import ViewClips
from dualformer.datasets.splits import open_videos
from dualformer.video.clip_reader import read_views
from dualformer.video.preprocessing import kinetics
from dualformer.video.video_source import resolve_source, source_name

hugging_face = pytest.importorskip("datasets", reason="Hugging Face's datasets are not installed")

PRE = kinetics(4, 1, 16)


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> list[Film]:
    return films_in(make_videos(tmp_path_factory.mktemp("hugging") / "films", train=4, val=2))


@pytest.fixture(scope="module")
def dataset(films: list[Film]) -> Any:
    hugging_face.disable_progress_bars()
    types = {"video": hugging_face.Video(decode=False), "label": hugging_face.ClassLabel(names=CLASSES)}
    columns = {"video": [str(film.path) for film in films], "label": [film.label for film in films]}
    return hugging_face.Dataset.from_dict(columns, features=hugging_face.Features(types))


@pytest.mark.parametrize("kind", ["save_to_disk", "to_parquet"])
def test_what_is_saved_is_read(kind: str, dataset: Any, films: list[Film], tmp_path: Path) -> None:
    out = tmp_path / ("saved" if kind == "save_to_disk" else "saved.parquet")
    getattr(dataset.select(range(len(films))[::-1]), kind)(str(out))
    videos = open_videos(out)
    assert [videos.names_of(sample) for sample in videos.samples] == [film.label for film in films[::-1]]
    for number, film in enumerate(films[::-1]):
        assert torch.equal(ViewClips(videos, PRE)[number]["views"], read_views(film.path, PRE))


def test_records_and_streams_are_videos(dataset: Any, films: list[Film], tmp_path: Path) -> None:
    record = {"bytes": films[0].path.read_bytes(), "path": "v00.mp4"}
    own = read_views(films[0].path, PRE)
    for row in (record, record | {"path": None}, next(iter(dataset.to_iterable_dataset()))["video"]):
        assert torch.equal(read_views(resolve_source(row), PRE), own)
    assert [source_name(row) for row in (record, record | {"path": None})] == ["v00.mp4", "bytes"]
    with pytest.raises(ValueError, match="a record of a video has bytes or a path, and this one has label"):
        resolve_source({"label": 1})
