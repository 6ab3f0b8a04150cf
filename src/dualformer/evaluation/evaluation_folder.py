"""Writes the results of an evaluation into a folder: figures, tables and pictures."""

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dualformer.datasets.samples import SEPARATOR, name_of
from dualformer.evaluation.contact_sheet import ContactRow, draw_contact_sheet
from dualformer.evaluation.evaluate import Evaluation, apply_control
from dualformer.evaluation.metrics import ClassFigures, confusion_matrix, per_class
from dualformer.files import lock_for_writing, write_csv, write_json
from dualformer.scoring.multilabel import LabelFigures, per_label
from dualformer.scoring.plots import draw_confusion
from dualformer.video.clip_reader import read_views
from dualformer.weights.locate import TENSORS_FILE

_NAMED = 5  # classes that predictions.csv names for each video

_Table = tuple[list[str], Iterable[list[str]]]
"""Header and rows of a CSV file."""


@dataclass(frozen=True, kw_only=True)
class EvaluationFiles:
    """The files that `write_evaluation` writes."""

    figures: Path
    """Everything that is one number, as JSON."""
    per_class: Path
    """One line per class, CSV."""
    predictions: Path
    """One line per video: path, label, predicted, correct, p_predicted, p_label, and the runners-up, CSV. Nothing is
    predicted for a video that is missing. Of several labels a video: path, labels, predicted (which may be none),
    correct (all of them), and the likeliest classes. Last come
    ``notes``: whether it is shorter than a clip, changes its size, or is HDR."""
    confusion: Path | None
    """None where videos may have several labels: no class is taken for another there."""
    contact_sheet: Path


FIGURES = "figures.json"


def folder_beside(weights: str) -> Path:
    """Returns where reports on weights go: beside them; of weights from the hub, here."""
    path = Path(weights)
    if not path.exists():
        return Path()
    return path if (path / TENSORS_FILE).is_file() else path.parent


def report_folder(home: Path, name: str, *, weights: str, asked: Mapping[str, Any], figures: str = FIGURES) -> Path:
    """Returns the folder ``name`` in ``home``, or the first of NAME-2, NAME-3, … where that has another report.

    Another one is of weights of another name, or differs in the entries ``asked`` of its file ``figures``.
    """
    for number in itertools.count(1):
        folder = home / (name if number == 1 else f"{name}-{number}")
        try:
            found = json.loads((folder / figures).read_text(encoding="utf-8"))
            same = all(found.get(key) == value for key, value in asked.items())
            if same and Path(found["weights"]).name == Path(weights).name:
                return folder
        except (FileNotFoundError, NotADirectoryError):
            return folder
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            pass  # nothing of ours, which is not written over either
    raise AssertionError("unreachable")


def write_evaluation(
    folder: Path, evaluation: Evaluation, *, extra: Mapping[str, Any] | None = None, rows: int = 12, frames: int = 8
) -> EvaluationFiles:
    """Writes the files of an evaluation into ``folder``, made if needed; each file appears whole or not at all.

    ``extra``: more entries for figures.json, such as where the weights come from. ``rows`` and ``frames``: videos in
    the contact sheet and frames of each.
    Raises ``ValueError`` for an extra figure that exists already, `FileWriteError` if a file cannot be written,
    ``VideoError`` if a video for the contact sheet can no longer be read, `InUseError` while another process writes
    to the folder.
    """
    with lock_for_writing(folder, folder=True):
        return _write_evaluation(folder, evaluation, extra or {}, rows, frames)


def _write_evaluation(
    folder: Path, evaluation: Evaluation, extra: Mapping[str, Any], rows: int, frames: int
) -> EvaluationFiles:
    if twice := sorted(set(extra) & set(evaluation.figures)):
        raise ValueError(f"figures would be overwritten: {', '.join(twice)}")
    files = EvaluationFiles(
        figures=folder / FIGURES,
        per_class=folder / "per_class.csv",
        predictions=folder / "predictions.csv",
        confusion=None if evaluation.targets is not None else folder / "confusion.png",
        contact_sheet=folder / "contact_sheet.png",
    )
    figures = evaluation.figures
    write_json(files.figures, {**figures, **extra})
    control = "" if evaluation.control == "none" else f", control {evaluation.control}"
    counted = f" and {figures['missing']} missing ones" if figures["missing"] else ""
    write_csv(files.per_class, *_class_table(class_figures(evaluation)))
    write_csv(files.predictions, *_predictions_table(evaluation))
    if evaluation.targets is not None:
        (folder / "confusion.png").unlink(missing_ok=True)  # an earlier evaluation's
        title = f"mAP {figures['mean_average_precision']:.1%}, {figures['videos']} videos{counted}{control}"
    else:
        matrix = confusion_matrix(evaluation.probabilities, evaluation.labels)
        title = f"top-1 {figures['top1']:.1%} of {figures['videos']} videos{counted}{control}"
        assert files.confusion is not None
        draw_confusion(files.confusion, matrix, evaluation.classes, title=title)
    draw_contact_sheet(
        files.contact_sheet,
        contact_rows(evaluation, rows=rows, frames=frames),
        title=f"{title}; the surest mistakes first" if surest_mistakes(evaluation) else title,
    )
    return files


def contact_rows(evaluation: Evaluation, *, rows: int = 12, frames: int = 8) -> list[ContactRow]:
    """Returns rows for the videos of `chosen_videos`: frames of the clip in their middle, as the model saw it."""
    shown: list[ContactRow] = []
    for index in chosen_videos(evaluation, rows):
        view = read_views(evaluation.paths[index], evaluation.preprocessing_of(index), fps=evaluation.rates[index])
        clip = apply_control(view, evaluation.control, seed=evaluation.seed, index=index)[0].numpy()
        places = np.unique(np.linspace(0, len(clip) - 1, min(frames, len(clip))).round().astype(int))
        label, predicted, probability = _verdict(evaluation, index)
        note = name_of(evaluation.paths[index])
        shown.append(
            ContactRow(frames=clip[places], label=label, predicted=predicted, probability=probability, note=note)
        )
    return shown


def class_figures(evaluation: Evaluation) -> Sequence[ClassFigures | LabelFigures]:
    """Returns the figures of every class, in order: `LabelFigures` where videos may have several labels."""
    scores, targets, classes = evaluation.probabilities, evaluation.targets, evaluation.classes
    if targets is not None:
        absent_targets = evaluation.missing_targets
        return per_label(scores, targets, classes, missing=absent_targets, thresholds=evaluation.thresholds)
    absent = np.asarray([missing.label for missing in evaluation.missing], dtype=np.int64)
    return per_class(confusion_matrix(scores, evaluation.labels), classes, missing=absent)


def chosen_videos(evaluation: Evaluation, rows: int) -> list[int]:
    """Returns indices of videos to look at: the surest mistakes in half of the rows, then right ones from everywhere.

    Of several labels a video, it is the surest of all its wrong yes and no that counts. Where one kind does not fill
    its rows, the other takes them.
    """
    if rows < 1:
        raise ValueError(f"a contact sheet needs at least one row, not {rows}")
    mistakes = surest_mistakes(evaluation)
    successes = np.setdiff1d(np.arange(len(evaluation.paths)), mistakes)
    first = min(len(mistakes), max(rows // 2, rows - len(successes)))
    rest = min(len(successes), rows - first)
    spread = np.linspace(0, max(0, len(successes) - 1), rest).round().astype(int)
    return [*mistakes[:first], *successes[spread].tolist()]


def surest_mistakes(evaluation: Evaluation) -> list[int]:
    """Returns indices of videos that are not labelled right, the surest mistake first; see `chosen_videos`."""
    if evaluation.targets is None:
        confidence = evaluation.probabilities.max(axis=1)
        right = evaluation.probabilities.argmax(axis=1) == evaluation.labels
    else:
        confidence = np.abs(evaluation.probabilities - evaluation.targets).max(axis=1)
        said = evaluation.probabilities >= evaluation.thresholds
        right = (said == evaluation.targets).all(axis=1)  # all labels of a video
    wrong = np.flatnonzero(~right)
    return wrong[np.argsort(-confidence[wrong], kind="stable")].tolist()


def _verdict(evaluation: Evaluation, index: int) -> tuple[str, str, float | None]:
    """Returns the true label, the predicted one, and its probability; None for videos of several labels."""
    row, classes = evaluation.probabilities[index], evaluation.classes
    if evaluation.targets is None:
        return classes[evaluation.labels[index]], classes[row.argmax()], float(row.max())
    said = _names(classes, row >= evaluation.thresholds, ", ") or "none of the classes"
    return _names(classes, evaluation.targets[index], ", "), said, None


def _names(classes: tuple[str, ...], which: NDArray[np.bool_], separator: str) -> str:
    return separator.join(classes[i] for i in np.flatnonzero(which).tolist())


def _class_table(rows: Sequence[ClassFigures | LabelFigures]) -> _Table:
    names = [field.name for field in fields(rows[0])]
    return ["class", *names[1:]], ([_cell(getattr(row, name)) for name in names] for row in rows)


def _predictions_table(evaluation: Evaluation) -> _Table:
    """Returns a line for each video, the missing ones last."""
    classes, targets, scores = evaluation.classes, evaluation.targets, evaluation.probabilities
    named = min(_NAMED, len(classes))
    if targets is None:
        header, what, first = ["path", "label", "predicted", "correct", "p_predicted", "p_label"], "predicted", 2
        truths = [classes[label] for label in evaluation.labels]
        absent = [classes[missing.label] for missing in evaluation.missing]
    else:
        header, what, first = ["path", "labels", "predicted", "correct"], "class", 1
        truths = [_names(classes, truth, SEPARATOR) for truth in targets]
        absent = [_names(classes, truth, SEPARATOR) for truth in evaluation.missing_targets]
    header += [f"{each}_{rank}" for rank in range(first, named + 1) for each in (what, "p")]
    header.append("notes")
    notes = evaluation.notes or ("",) * len(evaluation.paths)

    def lines() -> Iterable[list[str]]:
        for index, (path, truth, row) in enumerate(zip(evaluation.paths, truths, scores, strict=True)):
            order = np.argsort(-row, kind="stable")[:named].tolist()
            ranked = [(classes[i], _cell(float(row[i]))) for i in order]
            if targets is None:
                (best, p), label = ranked[0], evaluation.labels[index]
                verdict = [best, str(int(order[0] == label)), p, _cell(float(row[label]))]
            else:
                right = ((row >= evaluation.thresholds) == targets[index]).all()
                verdict = [_names(classes, row >= evaluation.thresholds, SEPARATOR), str(int(right))]
            yield [str(path), truth, *verdict, *itertools.chain(*ranked[first - 1 :]), notes[index]]
        for missing, truth in zip(evaluation.missing, absent, strict=True):
            yield [str(missing.path), truth, "", "0", *[""] * (len(header) - 4)]

    return header, lines()


def _cell(value: str | int | float | None) -> str:
    if value is None:
        return ""
    return f"{value:.6f}" if isinstance(value, float) else str(value)
