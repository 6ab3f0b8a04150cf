"""The process that trains on visitors' clips, judges and exports: ``python -m …training_process JOB``.

It is the ordinary training by `train`, with what that proposes for few videos. What it does goes to standard output, a
JSON object a line; it stops, and saves, when its standard input is closed, which a server does that is told to, and
which the system does for one that was killed.
"""

from __future__ import annotations

import _thread
import contextlib
import json
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TextIO
from zipfile import ZipFile

from dualformer.datasets.splits import open_videos
from dualformer.errors import DualFormerError
from dualformer.evaluation.evaluate import Evaluation, evaluate
from dualformer.evaluation.evaluation_folder import surest_mistakes
from dualformer.evaluation.metrics import confusion_matrix
from dualformer.export.export_data import rendered_clips
from dualformer.export.export_weights import export_weights
from dualformer.export.web_page import write_web_page
from dualformer.export.web_runtime import find_runtime
from dualformer.files import write_json
from dualformer.serving.train_page.class_clips import ClassClips
from dualformer.serving.train_page.trainer import CLIPS, RECOGNISER, RESULT, RUN, TRAINED_ON, WEB, WEIGHTS, TrainingJob
from dualformer.training.callbacks import Callback
from dualformer.training.checkpoint import remove_checkpoints
from dualformer.training.reporter import Reporter
from dualformer.training.run_folder import SPLIT
from dualformer.training.settings.train_config import TrainConfig
from dualformer.training.train import train
from dualformer.video.clip_reader import Views
from dualformer.video.preprocessing import DEFAULT_VIEWS
from dualformer.weights.safetensors_file import load_weights

_UNFINISHED = ".recogniser"
_COMPARED_CLIPS = 4

Tell = Callable[[Mapping[str, Any]], None]


def run(job: TrainingJob, tell: Tell) -> None:
    """Trains, judges on the clips that were not trained on, exports, and replaces the recogniser of before.

    ``tell`` is called with what changes: ``stage``, ``line``, ``log``, ``step`` and ``steps``. Errors: those of
    `train`, `evaluate`, `find_runtime` and `export_weights`.
    """
    folder = job.folder
    runtime = find_runtime(job.runtime, say=lambda line: tell({"log": line}))  # what is missing shows before training
    tell({"stage": "training"})
    if not job.resume:
        write_json(folder / TRAINED_ON, ClassClips(folder / CLIPS).to_dict())
    config = TrainConfig(
        data=str(folder / CLIPS),
        out=str(folder / RUN),
        resume=job.resume,
        epochs=job.epochs,
        flip="on" if job.flip else "off",
        accelerator=job.accelerator,  # type: ignore[arg-type]  # checked by the config
    )
    result = train(config, reporter=_TellingReporter(tell), callbacks=[_TellingCallback(tell)])
    tell({"stage": "judging"})
    model, card = load_weights(result.weights)
    evaluation = evaluate(model, card, open_videos(folder / RUN / SPLIT, on={"split": ("val",)}))
    made = folder / _UNFINISHED
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir()
    shutil.copyfile(result.weights, made / WEIGHTS)
    write_json(made / RESULT, _summary(evaluation, folder / CLIPS) | {"made": time.strftime("%Y-%m-%d %H:%M:%S")})
    tell({"stage": "exporting"})
    export_weights(
        model.cpu(),
        card,
        made / WEB,
        format="onnx",
        batch=1,
        clips=rendered_clips(card.preprocessing, count=_COMPARED_CLIPS),
        pack=partial(
            write_web_page, name=", ".join(card.class_names), views=Views.parse(DEFAULT_VIEWS), runtime=runtime
        ),
        say=lambda line: tell({"line": line}),
    )
    with ZipFile(made / f"{WEB}.zip", "w") as archive:  # what it holds is compressed already
        for path in sorted((made / WEB).iterdir()):
            archive.write(path, f"{WEB}/{path.name}")
    old = folder / RECOGNISER
    shutil.rmtree(old, ignore_errors=True)
    made.rename(old)
    remove_checkpoints(folder / RUN)  # there is nothing to go on with


def _summary(evaluation: Evaluation, clips: Path) -> dict[str, Any]:
    """Returns the figures, the confusion matrix (rows are true classes) and the mistakes, the surest one first."""
    names, probabilities = evaluation.classes, evaluation.probabilities
    mistakes = [
        {
            "clip": Path(str(evaluation.paths[index])).name,
            "class": names[evaluation.labels[index]],
            "taken_for": names[int(probabilities[index].argmax())],
            "probability": float(probabilities[index].max()),
        }
        for index in surest_mistakes(evaluation)
    ]
    return {
        "classes": names,
        "videos": len(evaluation.paths),
        "top1": evaluation.figures["top1"],
        "interval": evaluation.figures["top1_interval"],
        "confusion": confusion_matrix(probabilities, evaluation.labels).tolist(),
        "mistakes": mistakes,
    }


class _TellingReporter(Reporter):
    """Passes the lines of a run on."""

    def __init__(self, tell: Tell) -> None:
        super().__init__()
        self._tell = tell

    def log(self, line: str) -> None:
        self._tell({"log": line})

    def progress(self, line: str, *, last: bool = False) -> None:
        self._tell({"log": line} if last else {"line": line})


class _TellingCallback(Callback):
    """Passes the steps of a run on."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell

    def on_start(self, step: int, steps: int) -> None:
        self._tell({"step": step, "steps": steps})

    def on_step(self, step: int, values: Mapping[str, float]) -> None:
        self._tell({"step": step})


def _interrupt_when_closed() -> None:
    while os.read(sys.stdin.fileno(), 1):  # a file object would be locked while the process ends
        pass
    _thread.interrupt_main()  # as Ctrl-C would


def tell_to(out: TextIO) -> Tell:
    """Returns a function that writes a line of JSON. Where nobody reads any more, as the server was killed, it does
    nothing: the run is to save, which the closed standard input asks for."""

    def tell(what: Mapping[str, Any]) -> None:
        with contextlib.suppress(BrokenPipeError):
            print(json.dumps(what), file=out, flush=True)

    return tell


def main() -> int:
    """Runs the job of the command line; says at the end how it ended."""
    tell = tell_to(sys.stdout)
    sys.stdout = sys.stderr  # what libraries print is nothing that the server reads
    threading.Thread(target=_interrupt_when_closed, daemon=True).start()
    try:
        run(TrainingJob.parse(sys.argv[-1]), tell)
    except KeyboardInterrupt:
        tell({"stage": "stopped"})
        return 130
    except (DualFormerError, ValueError, OSError) as error:
        tell({"stage": "failed", "error": str(error)})
        return 1
    tell({"stage": "done"})
    return 0


if __name__ == "__main__":
    sys.exit(main())
