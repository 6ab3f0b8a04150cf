"""Starts, stops and watches the process that trains on the page's clips: one at a time."""

import json
import shutil
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from dualformer.serving.limits import ClipLimits
from dualformer.serving.request_error import RequestError
from dualformer.serving.train_page.class_clips import ClassClips

CLIPS, RUN, RECOGNISER = "clips", "run", "recogniser"
"""Folders in that of the page: of the classes, of the newest run, and of what the last whole run has given."""
WEIGHTS, WEB, RESULT = "weights.safetensors", "web", "result.json"
"""In ``recogniser``: the weights, the page that runs them in a browser, and how well they did."""
TRAINED_ON = "trained-on.json"
"""Beside them: the clips of the newest run."""
_INCOMING = ".incoming"
_PROCESS = "dualformer.serving.train_page.training_process"
_MOST_EPOCHS = 1000
_MOST_LINES = 200
_STOP_SECONDS = 20.0
"""Seconds that a training has to save when the server ends."""

Stage = Literal["none", "starting", "training", "judging", "exporting", "stopping", "stopped", "failed", "done"]
_RUNNING: tuple[Stage, ...] = ("starting", "training", "judging", "exporting", "stopping")


@dataclass(frozen=True, kw_only=True)
class TrainingJob:
    """What the process does: the settings that a visitor chooses, and those of the server."""

    folder: Path
    resume: bool = False
    epochs: int | None = None
    """None: as `train` proposes."""
    flip: bool = False
    """Whether a mirrored clip is of the same class."""
    accelerator: str
    runtime: Path | None = None
    """ONNX Runtime Web, as `find_runtime` takes it."""

    def command(self) -> list[str]:
        """Returns the command line of the process."""
        settings = {name: str(value) if isinstance(value, Path) else value for name, value in asdict(self).items()}
        return [sys.executable, "-m", _PROCESS, json.dumps(settings)]

    @classmethod
    def parse(cls, text: str) -> "TrainingJob":
        """Returns the job of the last word of a command line."""
        settings: dict[str, Any] = json.loads(text)
        folder, runtime = settings.pop("folder"), settings.pop("runtime")
        return cls(folder=Path(folder), runtime=Path(runtime) if runtime else None, **settings)


class Trainer:
    """The page's ``folder``: its clips, the training on them, and what it has given.

    ``folder`` is made if needed. What a server left there that was killed is gone on with: the clips, the recogniser
    and the checkpoints of a run. ``accelerator`` and ``runtime``: those of `TrainingJob`. ``spell`` words what the
    training says, which names Python arguments. All methods may be called from any thread. Close it at the end.
    """

    def __init__(
        self,
        folder: Path,
        *,
        limits: ClipLimits | None = None,
        accelerator: str,
        runtime: Path | None = None,
        spell: Callable[[str], str] = str,
    ) -> None:
        self.folder = folder = folder.absolute()
        self.clips = ClassClips(folder / CLIPS, limits)
        self.incoming = folder / _INCOMING
        """For uploads that are not whole yet, on the disk that they will lie on."""
        shutil.rmtree(self.incoming, ignore_errors=True)
        self.incoming.mkdir()
        self._accelerator, self._runtime, self._spell = accelerator, runtime, spell
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._watching: threading.Thread | None = None
        self._said: dict[str, Any] = {"stage": "stopped" if self._can_go_on() else "none"}
        self._log: deque[str] = deque(maxlen=_MOST_LINES)

    @property
    def recogniser(self) -> Path:
        """The folder of what the last whole run has given, which may not exist."""
        return self.folder / RECOGNISER

    @property
    def is_running(self) -> bool:
        return self._said["stage"] in _RUNNING

    def state(self) -> dict[str, Any]:
        """Returns everything that the page shows, ready for JSON."""
        with self._lock:
            training = {**self._said, "log": list(self._log)}
        training["running"] = training["stage"] in _RUNNING
        training["can_go_on"] = not training["running"] and self._can_go_on()
        return {"classes": self.clips.to_dict(), "training": training, "result": _read(self.recogniser / RESULT)}

    def start(self, *, epochs: int | None = None, flip: bool = False, resume: bool = False) -> None:
        """Starts a training, anew or where the newest one stopped, which keeps its settings.

        ``epochs`` and ``flip``: those of `TrainingJob`. Raises ``RequestError`` where that cannot be.
        """
        if epochs is not None and not 1 <= epochs <= _MOST_EPOCHS:
            raise RequestError(
                "bad_request", f"epochs are 1 to {_MOST_EPOCHS}, not {epochs}: leave them open, or change them"
            )
        self.clips.check_trainable()
        with self._lock:
            if self.is_running:
                raise RequestError("conflict", "a training runs already: stop it first, or wait for its end")
            if resume and not self._can_go_on():
                raise RequestError("conflict", "no training was stopped with these very clips: start a new one")
            if not resume:
                shutil.rmtree(self.folder / RUN, ignore_errors=True)
            job = TrainingJob(
                folder=self.folder,
                resume=resume,
                epochs=epochs,
                flip=flip,
                accelerator=self._accelerator,
                runtime=self._runtime,
            )
            self._said = {"stage": "starting"}
            self._log.clear()
            # In a session of its own: Ctrl-C is the server's, which then asks for the end.
            self._process = subprocess.Popen(
                job.command(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
            )
            self._watching = threading.Thread(target=self._watch, args=(self._process,), name="training")
            self._watching.start()

    def stop(self) -> None:
        """Asks the training to save and end; asked once more, it is ended at once. Raises ``RequestError`` where there
        is none."""
        with self._lock:
            if not self.is_running or self._process is None or self._process.stdin is None:
                raise RequestError("conflict", "no training runs")
            if self._said["stage"] == "stopping":
                self._process.kill()
            self._said["stage"] = "stopping"
            self._process.stdin.close()

    def close(self) -> None:
        """Ends the training, which saves. A second call does nothing."""
        with self._lock:
            process, watching = self._process, self._watching
            self._process = None
        if process is None or watching is None:
            return
        if process.stdin is not None:
            process.stdin.close()
        watching.join(_STOP_SECONDS)
        process.kill()
        watching.join()

    def _watch(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            told = json.loads(line)
            told |= {what: self._spell(said) for what, said in told.items() if isinstance(said, str)}
            with self._lock:
                if "log" in told:
                    self._log.append(told.pop("log"))
                if self._said["stage"] == "stopping" and told.get("stage") in _RUNNING:
                    del told["stage"]  # it has not heard of it yet
                self._said |= told
        code = process.wait()
        with self._lock:
            if self.is_running:
                stopped = self._said["stage"] == "stopping"
                self._said["stage"] = "stopped" if stopped else "failed"
                if not stopped:
                    self._said["error"] = f"the process that trains was ended from outside, or broke down (code {code})"

    def _can_go_on(self) -> bool:
        """Returns whether a run was stopped that has the clips of now; one that is whole has no checkpoints left."""
        from dualformer.training.checkpoint import has_checkpoint  # which takes long to import

        return has_checkpoint(self.folder / RUN) and _read(self.folder / TRAINED_ON) == self.clips.to_dict()


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
