"""Reads a folder per class: ``DATA/class/clip.mp4``, or ``DATA/train/class/clip.mp4`` and ``DATA/val/class/clip.mp4``.

Images may lie wherever videos may.
"""

import logging
from pathlib import Path

from dualformer.datasets.samples import DatasetError, Sample, VideoList, first_few, ordered_classes
from dualformer.video.file_formats import is_media

_log = logging.getLogger("dualformer")

_SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
_LAYOUT = "expected one folder per class with its videos or images inside, or train/ and val/ above such folders"


def read_folder(root: str | Path) -> dict[str, VideoList]:
    """Returns the videos below ``root`` by split: train, val, test where such folders exist, else all of them as "all".

    A class is the name of the folder that a video or image lies in. All splits share one list of classes: that of
    train. Other files are left out and counted in the log; hidden ones are ignored.
    Raises ``FileNotFoundError`` where there is no such folder, `DatasetError` for any other layout, an empty
    class, fewer than two classes, or a class in val or test that train lacks.
    """
    root = Path(root)
    if not root.is_dir():
        raise FileNotFoundError(f"no such folder: {root}")
    folders = _folders(root)
    splits = {}
    for folder in folders:
        key = _SPLITS.get(folder.name.lower())
        # A class may be called "train", too: then files lie in it, and not folders.
        if key and _folders(folder) and not any(is_media(p) for p in folder.iterdir()):
            if key in splits:
                raise DatasetError(f"{root}: {splits[key].name}/ and {folder.name}/ both look like {key}: keep one")
            splits[key] = folder
    if splits:
        others = [f for f in folders if f not in splits.values()]
        if others:
            _log.warning("%s: folders beside the splits left out: %s", root, first_few(f.name for f in others))
    else:
        splits = {"all": root}
    found = {key: _classes_below(folder) for key, folder in splits.items()}
    first = "train" if "train" in found else next(iter(found))
    classes = ordered_classes(found["train"] if "train" in found else [c for f in found.values() for c in f])
    for key, by_class in found.items():
        if unknown := sorted(set(by_class) - set(classes)):
            raise DatasetError(
                f"{splits[key]}: class {first_few(unknown)} is not in {splits[first].name}/: add or remove it"
            )
    if len(classes) < 2:
        raise DatasetError(
            f"{splits[first]}: only one class ({''.join(classes)}), and telling apart takes two; {_LAYOUT}"
        )
    label = {name: i for i, name in enumerate(classes)}
    return {
        key: VideoList(
            classes=classes,
            samples=tuple(
                Sample(path=path, label=label[name]) for name in classes if name in by_class for path in by_class[name]
            ),
            source=f"folder {splits[key]}",
        )
        for key, by_class in found.items()
    }


def _classes_below(folder: Path) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    left_out: list[Path] = []
    loose = [p for p in folder.iterdir() if p.is_file() and is_media(p)]
    for class_folder in _folders(folder):
        inside = sorted(p for p in class_folder.iterdir() if not p.name.startswith("."))
        videos = [p for p in inside if p.is_file() and is_media(p)]
        if not videos:
            deeper = " (folders inside it are not searched)" if any(p.is_dir() for p in inside) else ""
            raise DatasetError(
                f"{class_folder}: no video or image in this class{deeper}: add some or remove the folder; {_LAYOUT}"
            )
        found[class_folder.name] = videos
        left_out += [p for p in inside if p not in set(videos)]
    if not found:
        what = f"{len(loose)} files lie in it without a class" if loose else "it holds no class folders"
        raise DatasetError(f"{folder}: {what}; {_LAYOUT}")
    if loose:
        _log.warning("%s: %d files that lie outside the classes left out: %s", folder, len(loose), _names(loose))
    if left_out:
        _log.warning(
            "%s: %d files that are neither videos nor images left out: %s", folder, len(left_out), _names(left_out)
        )
    return found


def _folders(root: Path) -> list[Path]:
    return sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))


def _names(paths: list[Path]) -> str:
    return first_few(p.name for p in sorted(paths))
