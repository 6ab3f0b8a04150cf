"""Data sets of other programs at URLs, through all verbs: of a table no more is fetched than is asked for."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
import torch
from made_foreign import Film, films_in, hub, lerobot, tars
from made_shards import make_videos

from dualformer import remote_files
from dualformer.cli.main import main
from dualformer.datasets.clip_datasets import ViewClips
from dualformer.datasets.decode_check import check_into
from dualformer.datasets.foreign.layouts import ForeignData, find_foreign
from dualformer.datasets.samples import DatasetError
from dualformer.datasets.splits import open_splits, open_videos, read_bad_videos
from dualformer.remote_paths import as_path
from dualformer.video import table_cells
from dualformer.video.open_video import open_video
from dualformer.video.preprocessing import kinetics
from dualformer.video.remote_video import open_remote
from range_server import range_server
from small_weights import save_small_weights

pa = pytest.importorskip("pyarrow", reason="Parquet takes the extra parquet")

PRE = kinetics(4, 1, 16)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_files, "_PAUSES", (0.0,))


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> list[Film]:
    return films_in(make_videos(tmp_path_factory.mktemp("foreign") / "films", train=4, val=2))


@pytest.fixture(scope="module")
def here(films: list[Film], tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("layouts")
    for write, name in ((hub, "hub"), (tars, "tars"), (lerobot, "robot")):
        write(films, root / name)
    return root


@pytest.fixture
def memory(here: Path) -> Iterator[str]:
    store = fsspec.filesystem("memory")
    for path in here.rglob("*"):
        if path.is_file():
            store.pipe_file(f"/sets/{path.relative_to(here)}", path.read_bytes())
    yield "memory://sets"
    store.rm("/sets", recursive=True)


@pytest.mark.parametrize("layout", ["hub", "tars", "robot"])
def test_a_layout_at_a_url_is_the_one_here(layout: str, here: Path, memory: str) -> None:
    own, there = open_splits(here / layout), open_splits(f"{memory}/{layout}")
    assert there.train.manifest_hash == own.train.manifest_hash
    for one, other in ((own.train, there.train), (own.val, there.val)):
        assert [sample.label for sample in one.samples] == [sample.label for sample in other.samples]
        assert all(torch.equal(ViewClips(one, PRE)[i]["views"], ViewClips(other, PRE)[i]["views"]) for i in (0, 1))


def test_numbers_in_braces_are_several_files(here: Path, memory: str) -> None:
    own = open_splits(here / "tars")
    for folder in (str(here), memory):
        some = open_splits(f"{folder}/tars/kinetics-train-{{000000..000001}}.tar", val_fraction=0.5)
        assert {sample.name for part in (some.train, some.val) for sample in part.samples} == {
            sample.name for sample in own.train.samples
        }
    with pytest.raises(FileNotFoundError, match=r"kinetics-train-000002\.tar"):
        open_videos(here / "tars" / "kinetics-train-{000001..000002}.tar")


def test_of_a_table_at_a_url_only_what_is_needed_is_fetched(films: list[Film], tmp_path: Path) -> None:
    from pyarrow import parquet

    noise = [{"bytes": os.urandom(2**20), "path": f"{i}.mp4"} for i in range(12)]
    noise[9]["bytes"] = films[0].path.read_bytes() + bytes(2**20)
    table = pa.table({"video": noise, "label": ["a", "b"] * 6})
    parquet.write_table(table, tmp_path / "large.parquet", row_group_size=6)
    with range_server({"/large.parquet": (tmp_path / "large.parquet").read_bytes()}, login="me:opensesame") as server:
        url = f"{server.url.replace('://', '://me:opensesame@')}/large.parquet"
        videos = open_videos(url)
        assert len(videos) == 12 and server.bytes_given < 4 * 2**20
        name = f"parquet://video/9/9.mp4::{server.url}/large.parquet"
        assert str(videos.samples[9].path) == name and "opensesame" not in repr(videos)
        with open_video(name) as reader:
            assert len(reader) == 6
        assert server.bytes_given < 11 * 2**20  # one of two row groups of 6 MB more
        with pytest.raises(
            DatasetError, match=rf"{server.url}/large\.parquet: no column .*columns@label=NAME:{server.url}"
        ):
            open_videos(f"columns@label=verb:{url}")


def test_few_row_groups_are_kept_and_no_file_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also by a process that ends at once, as workers of a loader do, and which reads what was unpacked before."""
    from pyarrow import parquet

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(table_cells, "_KEPT", 5000)
    table = pa.table({"video": [os.urandom(2000) for _ in range(20)]})
    parquet.write_table(table, tmp_path / "rows.parquet", row_group_size=1)

    def read(row: int) -> bytes:
        cell = open_remote(as_path(f"parquet://video/{row}/x.mp4::{tmp_path / 'rows.parquet'}"))  # type: ignore[arg-type]
        with cell.open() as file:
            return file.read()

    for row in range(20):
        assert read(row) == table["video"][row].as_py()
        assert len(table_cells._unpacked._groups) <= 2
    if not (child := os.fork()):
        os._exit([read(row) == table["video"][row].as_py() for row in (19, 18, 3)] != [True] * 3)
    assert os.waitpid(child, 0)[1] == 0 and read(19) == table["video"][19].as_py()
    assert not list((tmp_path / "temporary").iterdir())


def test_all_verbs_take_it(
    here: Path,
    films: list[Film],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """check finds what is damaged, which training leaves out; predict and embed answer for each row."""
    from pyarrow import parquet

    data = [{"bytes": film.path.read_bytes(), "path": film.path.name} for film in films]
    data[3]["bytes"] = b"no film"
    columns = {"video": data, "verb": [film.label for film in films], "who": list("aabbcc")}
    parquet.write_table(pa.table(columns), tmp_path / "films.parquet", row_group_size=4)
    said, manifest = f"columns@label=verb:{tmp_path / 'films.parquet'}", tmp_path / "manifest.csv"
    assert main(["check", said, "--out", str(manifest), "--workers", "1"]) == 1
    told = capsys.readouterr()
    assert f"bad: parquet://video/3/{films[3].path.name}::{tmp_path / 'films.parquet'}: " in told.out + told.err
    again = check_into(manifest, [row.video for row in find_foreign(said).rows()], workers=1)  # type: ignore[union-attr]
    assert again.kept == 5
    videos = open_videos(said, bad=read_bad_videos(manifest))
    assert len(videos) == 5 and films[3].path.name not in [sample.name for sample in videos.samples[2:4]]

    weights = tmp_path / "weights.safetensors"
    save_small_weights(weights, ("clap", "wave"))
    assert main(["predict", said, "--weights", str(weights), "--views", "1x1", "--json"]) == 1
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert ["error" in answer for answer in answers] == [False, False, False, True, False, False]
    assert answers[5]["path"] == f"parquet://video/5/{films[5].path.name}::{tmp_path / 'films.parquet'}"
    robot, out = str(here / "robot"), str(tmp_path / "features.jsonl")
    listings: list[str] = []
    read = ForeignData.rows
    monkeypatch.setattr(ForeignData, "rows", lambda data: (listings.append(str(data.asked.path)), read(data))[1])
    assert main(["embed", robot, "--weights", str(weights), "--views", "1x1", "--out", out]) == 0
    rows = [json.loads(line) for line in Path(out).read_text().splitlines()]
    assert [row["label"] for row in rows] == [film.label for film in films] and rows[0]["path"].endswith("#t=0,0.24")
    assert listings == [robot]


def test_without_pyarrow_one_line_says_what_to_install(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(
        DatasetError, match=r"parquet: reading Parquet and Arrow takes pyarrow: pip install 'dualformer\["
    ):
        open_videos(here / "hub")
    with pytest.raises(Exception, match=r"^parquet://video/0/x\.mp4::.*: reading Parquet and Arrow takes pyarrow"):
        open_video(f"parquet://video/0/x.mp4::{here}/hub/data/train-00000-of-00001.parquet")


def test_what_signs_the_address_of_a_table_opens_its_cells_and_is_nowhere_told(here: Path) -> None:
    names = ("hub/data/train-00000-of-00001.parquet", "tars/kinetics-val-000000.tar")
    files = {f"/{name}": (here / name).read_bytes() for name in names}
    with range_server(files, query="sig=tokentoken") as server:
        for name in names:
            videos = open_videos(f"{server.url}/{name}?sig=tokentoken")
            own = open_videos(here / name)
            assert torch.equal(ViewClips(videos, PRE)[0]["views"], ViewClips(own, PRE)[0]["views"])
            assert "tokentoken" not in repr(videos) + videos.source
            with pytest.raises(DatasetError, match="no column 'verb' of the label; ") as raised:
                open_videos(f"columns@label=verb:{server.url}/{name}?sig=tokentoken")
            assert "tokentoken" not in str(raised.value)
