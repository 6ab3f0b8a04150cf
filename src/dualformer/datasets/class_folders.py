"""Reads a folder per class: ``DATA/class/clip.mp4``, or ``DATA/train/class/clip.mp4`` and ``DATA/val/class/clip.mp4``.

Images may lie wherever videos may.
"""

import logging
from pathlib import Path

from dualformer.datasets.media_tree import MediaFolder, walk_media
from dualformer.datasets.samples import DatasetError, Sample, VideoList, first_few, ordered_classes, unify_spellings
from dualformer.datasets.split_names import SPLIT_OF
from dualformer.plurals import counted
from dualformer.remote_paths import as_path

_log = logging.getLogger("dualformer")

_UNLABELLED = "_unlabeled"
"""The folder in which FiftyOne leaves videos without a label beside the classes."""
_LAYOUT = "expected one folder per class with its videos or images inside, or train/ and val/ above such folders"


def read_folder(root: str | Path, *, log_left_out: bool = True, fewest: int = 2) -> dict[str, VideoList]:
    """Returns the videos below ``root`` by split: train, val, test where such folders exist, else all of them as "all".

    A class is the name of the folder that a video or image lies in; spellings of a name that Unicode calls equal are
    one class. All splits share one list of classes: that of train. What is no data, by `walk_media`, is left out and
    counted in the log, unless ``log_left_out`` is false.
    Raises ``FileNotFoundError`` where there is no such folder, `DatasetError` for any other layout, an empty
    class, ``fewest`` classes not reached, or a class in val or test that train lacks.
    """
    root = as_path(root)
    if not root.is_dir():
        raise FileNotFoundError(f"no such folder: {root}")
    tree = walk_media(root)
    if log_left_out:
        tree.log_left_out()
    splits: dict[str, MediaFolder] = {}
    for folder in tree.root.folders:
        key = SPLIT_OF.get(folder.path.name.lower())
        # A class may be called "train", too: then files lie in it, and not folders.
        if key and folder.folders and not folder.files:
            if key in splits:
                first = splits[key].path.name
                raise DatasetError(f"{root}: {first}/ and {folder.path.name}/ both look like {key}: keep one")
            splits[key] = folder
    if splits:
        others = [f.path.name for f in tree.root.folders if f not in splits.values()]
        if others:
            _log.warning("%s: folders beside the splits left out: %s", root, first_few(others))
    else:
        splits = {"all": tree.root}
    found = {key: _classes_below(folder) for key, folder in splits.items()}
    first = "train" if "train" in found else next(iter(found))
    spelled = unify_spellings(name for by_class in found.values() for name, _ in by_class)
    lists: dict[str, dict[str, list[Path]]] = {key: {} for key in found}
    for key, by_class in found.items():
        for name, paths in by_class:
            lists[key].setdefault(spelled[name], []).extend(paths)
    classes = ordered_classes(lists["train"] if "train" in lists else [c for each in lists.values() for c in each])
    for key, by_class in lists.items():
        if unknown := sorted(set(by_class) - set(classes)):
            raise DatasetError(
                f"{splits[key].path}: class {first_few(unknown)} is not in {splits[first].path.name}/: add or remove it"
            )
    if len(classes) < fewest:
        raise DatasetError(
            f"{splits[first].path}: only one class ({''.join(classes)}), and telling apart takes two; {_LAYOUT}"
        )
    label = {name: i for i, name in enumerate(classes)}
    return {
        key: VideoList(
            classes=classes,
            samples=tuple(
                Sample(path=path, label=label[name]) for name in classes if name in by_class for path in by_class[name]
            ),
            source=f"folder {splits[key].path}",
        )
        for key, by_class in lists.items()
    }


def _classes_below(folder: MediaFolder) -> list[tuple[str, list[Path]]]:
    """Returns the names of class folders and the files in them."""
    found: list[tuple[str, list[Path]]] = []
    deeper: list[Path] = []
    for inside in folder.folders:
        if inside.path.name == _UNLABELLED:
            _log.warning("%s: left out, as its videos have no label", inside.path)
            continue
        below = [path for each in inside.folders for deep in each.walk() for path in deep.files]
        if not inside.files:
            where = " (folders inside it are not searched)" if inside.folders else ""
            remedy = "add some or remove the folder" + (", or list the deeper ones in a CSV file" if below else "")
            raise DatasetError(f"{inside.path}: no video or image in this class{where}: {remedy}; {_LAYOUT}")
        found.append((inside.path.name, inside.files))
        deeper += below
    if not found:
        what = "it holds no class folders"
        if loose := len(folder.files):
            lie = counted(loose, "file lies", "files lie")
            what = f"{lie} in it without a class (if the folder is itself one, name the folder above it)"
        raise DatasetError(f"{folder.path}: {what}; {_LAYOUT}")
    for files, where in ((folder.files, "outside the classes"), (deeper, "in folders inside a class")):
        if files:
            names = first_few(path.name for path in sorted(files))
            what = counted(len(files), "file that lies", "files that lie")
            _log.warning("%s: %s %s left out: %s", folder.path, what, where, names)
    return found
