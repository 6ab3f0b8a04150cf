"""Writes a small data set in the layouts of other programs, as these publish them."""

from __future__ import annotations

import csv
import io
import json
import tarfile
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av

VIDEOS = "train", "val"
CLASSES = ["wave", "clap"]  # not by letters, as the numbers of labels need not be


class Film(NamedTuple):
    path: Path
    label: str
    split: str


def films_in(root: Path) -> list[Film]:
    """The films of `make_videos`, in order."""
    return [Film(path, path.parts[-2], path.parts[-3]) for path in sorted(root.rglob("*.mp4"))]


def parquet_table(films: Sequence[Film], *, features: bool = True, names: bool = True) -> Any:
    """A table as ``datasets`` writes one with a feature Video and one ClassLabel."""
    import pyarrow as pa

    columns = {
        "video": [{"bytes": film.path.read_bytes(), "path": film.path.name if names else None} for film in films],
        "label": [CLASSES.index(film.label) for film in films] if features else [film.label for film in films],
        "take": list(range(len(films))),
    }
    about = {"video": {"_type": "Video"}, "label": {"names": CLASSES, "_type": "ClassLabel"}}
    table = pa.table(columns)
    if not features:
        return table
    return table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": about}})})


def hub(films: Sequence[Film], root: Path) -> Path:
    """Parquet files of a data set of the hub, several row groups each."""
    from pyarrow import parquet

    (root / "data").mkdir(parents=True)
    (root / "README.md").write_text("a data set")
    for split, name in (("train", "train"), ("val", "validation")):
        own = [film for film in films if film.split == split]
        parquet.write_table(parquet_table(own), root / "data" / f"{name}-00000-of-00001.parquet", row_group_size=5)
    return root


def saved(films: Sequence[Film], root: Path) -> Path:
    """What ``DatasetDict.save_to_disk`` writes."""
    import pyarrow as pa

    for split in VIDEOS:
        (root / split).mkdir(parents=True)
        table = parquet_table([film for film in films if film.split == split])
        with pa.ipc.new_stream(str(root / split / "data-00000-of-00001.arrow"), table.schema) as out:
            out.write_table(table, max_chunksize=4)
        (root / split / "state.json").write_text(json.dumps({"_split": split}))
        (root / split / "dataset_info.json").write_text("{}")
    (root / "dataset_dict.json").write_text(json.dumps({"splits": VIDEOS}))
    return root


def video_folder(films: Sequence[Film], root: Path, *, kind: str = "csv") -> Path:
    """A folder with metadata.csv or metadata.jsonl beside the videos of each split."""
    for split in VIDEOS:
        (root / split).mkdir(parents=True)
        rows = []
        for film in films:
            if film.split == split:
                (root / split / film.path.name).write_bytes(film.path.read_bytes())
                rows.append({"file_name": film.path.name, "label": film.label, "take": "1"})
        with (root / split / f"metadata.{kind}").open("w", newline="") as file:
            if kind == "csv":
                writer = csv.DictWriter(file, rows[0])
                writer.writeheader()
                writer.writerows(rows)
            else:
                file.writelines(f"{json.dumps(row)}\n" for row in rows)
    return root


def tar_of(members: dict[str, bytes], path: Path) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return path


def tars(films: Sequence[Film], root: Path, *, label: Callable[[Film], dict[str, bytes]] | None = None) -> Path:
    """Tar files of WebDataset, two of each split; beside each video what ``label`` gives by its ending."""
    root.mkdir()
    label = label or (lambda film: {"cls": film.label.encode()})
    for split in VIDEOS:
        own = [film for film in films if film.split == split]
        for part, some in enumerate((own[: len(own) // 2], own[len(own) // 2 :])):
            members: dict[str, bytes] = {}
            for film in some:
                members[f"./{film.path.stem}.mp4"] = film.path.read_bytes()
                members |= {f"./{film.path.stem}.{ending}": data for ending, data in label(film).items()}
            tar_of(members, root / f"kinetics-{split}-{part:06d}.tar")
    return root


def joined(films: Sequence[Path], out: Path, *, fps: int = 25) -> list[tuple[float, float]]:
    """Writes one film of several, without encoding them anew, as LeRobot does; returns when each begins and ends."""
    times: list[tuple[float, float]] = []
    with av.open(str(out), "w") as target:
        stream, begins = None, Fraction(0)
        for path in films:
            with av.open(str(path)) as source:
                stream = stream or target.add_stream_from_template(source.streams.video[0])
                count = 0
                for packet in source.demux(video=0):
                    if packet.dts is None:
                        continue
                    assert packet.pts is not None and packet.time_base is not None
                    shift = round(begins / packet.time_base)
                    packet.pts, packet.dts, packet.stream = packet.pts + shift, packet.dts + shift, stream
                    target.mux(packet)
                    count += 1
            times.append((float(begins), float(begins + Fraction(count, fps))))
            begins += Fraction(count, fps)
    return times


def lerobot(films: Sequence[Film], root: Path, *, cameras: Sequence[str] = ("observation.images.top",)) -> Path:
    """LeRobot 3: a film of all episodes of each split and camera."""
    import pyarrow as pa
    from pyarrow import parquet

    rows: list[dict[str, Any]] = []
    for camera in cameras:
        (root / "videos" / camera / "chunk-000").mkdir(parents=True)
    for number, split in enumerate(VIDEOS):
        own = [film for film in films if film.split == split]
        name = f"chunk-000/file-{number:03d}.mp4"
        (times, *_) = [joined([each.path for each in own], root / "videos" / camera / name) for camera in cameras]
        for each, (start, end) in zip(own, times, strict=True):
            row: dict[str, Any] = {"episode_index": len(rows), "tasks": [each.label], "length": 6}
            row |= {"data/chunk_index": 0, "data/file_index": 0, "stats/action/min": [0.0]}
            for camera in cameras:
                where = f"videos/{camera}"
                row |= {f"{where}/chunk_index": 0, f"{where}/file_index": number}
                row |= {f"{where}/from_timestamp": start, f"{where}/to_timestamp": end}
            rows.append(row)
    for folder in ("meta/episodes/chunk-000", "data/chunk-000"):
        (root / folder).mkdir(parents=True)
    parquet.write_table(pa.Table.from_pylist(rows), root / "meta/episodes/chunk-000/file-000.parquet")
    tasks = {"task_index": list(range(len(CLASSES))), "task": CLASSES}
    parquet.write_table(pa.table(tasks), root / "meta/tasks.parquet")
    parquet.write_table(pa.table({"episode_index": [0], "timestamp": [0.0]}), root / "data/chunk-000/file-000.parquet")
    train = sum(film.split == "train" for film in films)
    info = {
        "codebase_version": "v3.0",
        "fps": 25,
        "splits": {"train": f"0:{train}", "val": f"{train}:{len(films)}"},
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
        "features": {camera: {"dtype": "video", "shape": [36, 48, 3]} for camera in cameras}
        | {"action": {"dtype": "float32", "shape": [2]}},
    }
    (root / "meta" / "info.json").write_text(json.dumps(info, indent=4))
    return root


def lerobot_2(films: Sequence[Film], root: Path) -> Path:
    """LeRobot 2.1: a film for each episode."""
    folder = root / "videos" / "chunk-000" / "observation.images.top"
    folder.mkdir(parents=True)
    (root / "meta").mkdir()
    lines: list[str] = []
    for number, film in enumerate(films):
        (folder / f"episode_{number:06d}.mp4").write_bytes(film.path.read_bytes())
        lines.append(json.dumps({"episode_index": number, "tasks": [film.label], "length": 6}))
    (root / "meta" / "episodes.jsonl").write_text("\n".join(lines))
    train = sum(film.split == "train" for film in films)
    info = {
        "codebase_version": "v2.1",
        "chunks_size": 1000,
        "splits": {"train": f"0:{train}", "val": f"{train}:{len(films)}"},
        "video_path": "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
        "features": {"observation.images.top": {"dtype": "video"}},
    }
    (root / "meta" / "info.json").write_text(json.dumps(info))
    return root


def fiftyone(films: Sequence[Film], root: Path) -> Path:
    """FiftyOneDataset: samples.json, metadata.json and data/."""
    (root / "data").mkdir(parents=True)
    samples: list[dict[str, Any]] = []
    for number, film in enumerate(films):
        (root / "data" / film.path.name).with_stem(f"{film.split}-{film.path.stem}").write_bytes(film.path.read_bytes())
        samples.append(
            {
                "_id": {"$oid": f"{number:024x}"},
                "filepath": f"data/{film.split}-{film.path.name}",
                "tags": ["mine", {"val": "validation"}.get(film.split, film.split)],
                "_media_type": "video",
                "metadata": {"_cls": "VideoMetadata", "total_frame_count": 6, "frame_rate": 25.0},
                "ground_truth": {"_id": {"$oid": "0"}, "_cls": "Classification", "tags": [], "label": film.label},
                "take": number,
            }
        )
    (root / "samples.json").write_text(json.dumps({"samples": samples}))
    (root / "metadata.json").write_text(json.dumps({"name": "made", "media_type": "video"}))
    return root
