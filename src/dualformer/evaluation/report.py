"""The folder that an evaluation leaves behind: figures, tables and pictures."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from dualformer.datasets.samples import name_of
from dualformer.evaluation.drawing import ContactRow, draw_confusion, draw_contact_sheet
from dualformer.evaluation.evaluate import Evaluation, apply_control
from dualformer.evaluation.metrics import ClassFigures, confusion_matrix, per_class
from dualformer.video.clips import read_views
from dualformer.weights.atomic import atomic_write

_NAMED = 5  # classes that predictions.csv names for each video


@dataclass(frozen=True, kw_only=True)
class Report:
    """The files of a report."""

    figures: Path
    """Everything that is one number, as JSON."""
    per_class: Path
    """One line per class, CSV."""
    predictions: Path
    """One line per video: path, label, predicted, correct, p_predicted, p_label, and the runners-up, CSV. Nothing is
    predicted for a video that is missing."""
    confusion: Path
    contact_sheet: Path


def write_report(
    folder: Path, evaluation: Evaluation, *, extra: Mapping[str, Any] | None = None, rows: int = 12, frames: int = 8
) -> Report:
    """Writes a report into ``folder``, which is made where it is missing; every file appears whole or not at all.

    ``extra``: more entries for figures.json, such as where the weights come from. ``rows`` and ``frames``: videos in
    the contact sheet and frames of each.
    Raises ``ValueError`` for an extra figure that exists already, ``WeightsError`` if a file cannot be written,
    ``VideoError`` if a video for the contact sheet can no longer be read.
    """
    extra = extra or {}
    if twice := sorted(set(extra) & set(evaluation.figures)):
        raise ValueError(f"figures would be overwritten: {', '.join(twice)}")
    report = Report(
        figures=folder / "figures.json",
        per_class=folder / "per_class.csv",
        predictions=folder / "predictions.csv",
        confusion=folder / "confusion.png",
        contact_sheet=folder / "contact_sheet.png",
    )
    figures = evaluation.figures
    matrix = confusion_matrix(evaluation.probabilities, evaluation.labels)
    _write(report.figures, json.dumps({**figures, **extra}, indent=2, ensure_ascii=False) + "\n")
    absent = np.asarray([missing.label for missing in evaluation.missing], dtype=np.int64)
    _write(report.per_class, _class_table(per_class(matrix, evaluation.classes, missing=absent)))
    _write(report.predictions, _prediction_table(evaluation))
    control = "" if evaluation.control == "none" else f", control {evaluation.control}"
    counted = f" and {figures['missing']} missing ones" if figures["missing"] else ""
    title = f"top-1 {figures['top1']:.1%} of {figures['videos']} videos{counted}{control}"
    draw_confusion(report.confusion, matrix, evaluation.classes, title=title)
    draw_contact_sheet(
        report.contact_sheet,
        contact_rows(evaluation, rows=rows, frames=frames),
        title=f"{title}; the surest mistakes first",
    )
    return report


def contact_rows(evaluation: Evaluation, *, rows: int = 12, frames: int = 8) -> list[ContactRow]:
    """Videos to look at, as `chosen_videos` picks them: frames of the clip in their middle, as the model saw it."""
    shown: list[ContactRow] = []
    predicted = evaluation.probabilities.argmax(axis=1)
    for index in chosen_videos(evaluation, rows):
        view = read_views(evaluation.paths[index], evaluation.preprocessing, fps=evaluation.rates[index])
        clip = apply_control(view, evaluation.control, seed=evaluation.seed, index=index)[0].numpy()
        places = np.unique(np.linspace(0, len(clip) - 1, min(frames, len(clip))).round().astype(int))
        shown.append(
            ContactRow(
                frames=clip[places],
                label=evaluation.classes[evaluation.labels[index]],
                predicted=evaluation.classes[predicted[index]],
                probability=float(evaluation.probabilities[index].max()),
                note=name_of(evaluation.paths[index]),
            )
        )
    return shown


def chosen_videos(evaluation: Evaluation, rows: int) -> list[int]:
    """Which videos to look at: the surest mistakes in half of the rows, then right ones from all over the list.

    Where one kind does not fill its rows, the other takes them.
    """
    if rows < 1:
        raise ValueError(f"a contact sheet needs at least one row, not {rows}")
    confidence = evaluation.probabilities.max(axis=1)
    right = evaluation.probabilities.argmax(axis=1) == evaluation.labels
    mistakes = np.flatnonzero(~right)
    mistakes = mistakes[np.argsort(-confidence[mistakes], kind="stable")]
    successes = np.flatnonzero(right)
    first = min(len(mistakes), max(rows // 2, rows - len(successes)))
    rest = min(len(successes), rows - first)
    spread = np.linspace(0, max(0, len(successes) - 1), rest).round().astype(int)
    return [*mistakes[:first].tolist(), *successes[spread].tolist()]


def _class_table(rows: list[ClassFigures]) -> str:
    names = [field.name for field in fields(ClassFigures)]
    return _table(["class", *names[1:]], ([_cell(getattr(row, name)) for name in names] for row in rows))


def _prediction_table(evaluation: Evaluation) -> str:
    named = min(_NAMED, len(evaluation.classes))
    header = ["path", "label", "predicted", "correct", "p_predicted", "p_label"]
    header += [f"{what}_{rank}" for rank in range(2, named + 1) for what in ("predicted", "p")]

    def lines() -> Iterable[list[str]]:
        for path, label, row in zip(evaluation.paths, evaluation.labels, evaluation.probabilities, strict=True):
            order = np.argsort(-row, kind="stable")[:named].tolist()
            names = [evaluation.classes[i] for i in order]
            line = [str(path), evaluation.classes[label], names[0], str(int(order[0] == label))]
            line += [_cell(float(row[order[0]])), _cell(float(row[label]))]
            for name, i in zip(names[1:], order[1:], strict=True):
                line += [name, _cell(float(row[i]))]
            yield line
        for missing in evaluation.missing:
            told = [str(missing.path), evaluation.classes[missing.label], "", "0"]
            yield told + [""] * (len(header) - len(told))

    return _table(header, lines())


def _cell(value: str | int | float | None) -> str:
    if value is None:
        return ""
    return f"{value:.6f}" if isinstance(value, float) else str(value)


def _table(header: list[str], lines: Iterable[list[str]]) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(lines)
    return text.getvalue()


def _write(path: Path, text: str) -> None:
    atomic_write(path, lambda temporary: temporary.write_text(text, encoding="utf-8", newline="\n"))
