"""Teachers that are exported models: B 3 T H W, normalised, in, B classes out. Their insides are not seen."""

from __future__ import annotations

import importlib
import logging
import zipfile
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dualformer.model.config import Size3
from dualformer.training.teacher import Taught, Teacher, TeacherError, digest_of, fit_clips, match_classes
from dualformer.video.preprocessing import Preprocessing

_Shape = tuple[int | None, ...]
"""None: any length."""


class ExportedTeacher(Teacher):
    """``shape`` is that of its input. A length that is fixed there is kept to: clips are resized, frames repeated or
    left out, batches cut. Clips are normalised as the student's are, as nothing says how else.
    """

    def __init__(self, path: Path, shape: _Shape, *, classes: Sequence[str], clips: Preprocessing) -> None:
        super().__init__(str(path), digest_of(path))
        if len(shape) != 5 or shape[1] not in (None, 3):
            raise TeacherError(f"{path}: its input is {_written(shape)}, and clips are B 3 T H W: export it so")
        own = (clips.frames, clips.crop, clips.crop)
        wanted = [fixed or length for fixed, length in zip(shape[2:], own, strict=True)]
        self._size: Size3 = (wanted[0], wanted[1], wanted[2])
        self._at_once = shape[0]
        self._pre = clips
        self.device = torch.device("cpu")
        count = self._logits(torch.zeros((1, *self._size, 3), dtype=torch.uint8)).shape[1]
        _, note = match_classes((), count, classes, self.name)
        self.lines.append(f"teacher: {path}, an exported model of {count} classes{note}")
        fitted = "" if self._size == own else f" fitted to {_written(self._size)} (frames, height, width) and"
        self.lines.append(f"teacher: it is shown the same clips,{fitted} normalised as the student's are")

    @abstractmethod
    def run(self, video: Tensor) -> Tensor:
        """B 3 T H W → logits."""

    @torch.no_grad()
    def __call__(self, clips: Tensor, *, tokens: bool) -> Taught:
        assert not tokens
        return Taught(self._logits(clips), None)

    def _logits(self, clips: Tensor) -> Tensor:
        video = fit_clips(clips, self._pre, self._size)
        parts: list[Tensor] = []
        for part in video.split(self._at_once or len(video)):
            missing = (self._at_once or len(part)) - len(part)
            filled = torch.cat([part, part[-1:].expand(missing, *part.shape[1:])]) if missing else part
            scores = self.run(filled)
            if scores.dim() != 2 or len(scores) != len(filled):
                raise TeacherError(
                    f"{self.name}: it gives {_written(tuple(scores.shape))} for {len(filled)} clips, and not one row "
                    "of class scores for each: export it so"
                )
            parts.append(scores[: len(part)].float())
        return torch.cat(parts)


class ProgramTeacher(ExportedTeacher):
    """A program that ``torch.export.save`` wrote."""

    def __init__(self, path: Path, *, classes: Sequence[str], clips: Preprocessing) -> None:
        self._program = _load_program(path)
        self._run: Any = self._program.module()
        names = self._program.graph_signature.user_inputs
        inputs = [node for node in self._program.graph.nodes if node.op == "placeholder" and node.name in names]
        if len(inputs) != 1 or not isinstance(inputs[0].meta["val"], Tensor):
            raise TeacherError(f"{path}: it takes {len(names)} inputs, and a teacher takes clips only: export it so")
        if self._program.graph_signature.buffers_to_mutate or any(map(_drops, self._program.graph.nodes)):
            raise TeacherError(f"{path}: it was exported in training mode: call eval() on the model and export it anew")
        shape = tuple(length if isinstance(length, int) else None for length in inputs[0].meta["val"].shape)
        super().__init__(path, shape, classes=classes, clips=clips)

    def place(self, device: torch.device) -> None:
        from torch.export.passes import move_to_device_pass

        if device.type != "cpu":
            self._run = move_to_device_pass(self._program, device).module()
        self.device = device

    def run(self, video: Tensor) -> Tensor:
        # As it was exported, which is no place for other number formats to come in.
        with torch.autocast(video.device.type, enabled=False):
            return self._run(video)


class OnnxTeacher(ExportedTeacher):
    """A model for ONNX Runtime. It runs on a GPU where the runtime that is installed can."""

    def __init__(self, path: Path, *, classes: Sequence[str], clips: Preprocessing) -> None:
        self._path = path
        self._open(("CPUExecutionProvider",))
        inputs = self._session.get_inputs()
        if len(inputs) != 1 or inputs[0].type != "tensor(float)":
            what = ", ".join(f"{one.name} ({one.type})" for one in inputs)
            raise TeacherError(f"{path}: it takes {what}, and a teacher takes clips in float32 only: export it so")
        self._input = inputs[0].name
        shape = tuple(length if isinstance(length, int) else None for length in inputs[0].shape)
        super().__init__(path, shape, classes=classes, clips=clips)

    def _open(self, providers: tuple[str, ...]) -> None:
        try:
            self._runtime = importlib.import_module("onnxruntime")
            errors = importlib.import_module("onnxruntime.capi.onnxruntime_pybind11_state")
        except ImportError as error:
            raise TeacherError(
                f"{self._path}: ONNX Runtime is not installed ({error}): pip install 'dualformer[export]'"
            ) from error
        try:
            self._session = self._runtime.InferenceSession(str(self._path), providers=list(providers))
        except (errors.Fail, errors.InvalidProtobuf, errors.InvalidGraph, errors.NoSuchFile) as error:
            raise TeacherError(
                f"{self._path}: ONNX Runtime cannot read it ({_first_line(error)}); get it anew"
            ) from error

    def place(self, device: torch.device) -> None:
        if device.type == "cuda" and "CUDAExecutionProvider" in self._runtime.get_available_providers():
            self._open(("CUDAExecutionProvider", "CPUExecutionProvider"))
        self.device = device

    def run(self, video: Tensor) -> Tensor:
        (scores, *_) = self._session.run(None, {self._input: video.cpu().numpy()})
        return torch.from_numpy(np.asarray(scores)).to(self.device)


def open_exported(path: Path, *, classes: Sequence[str], clips: Preprocessing) -> ExportedTeacher:
    """Errors: ``FileNotFoundError``; `TeacherError` for what is no such model, or has another number of classes."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such exported model")
    kind = ProgramTeacher if path.suffix.lower() == ".pt2" else OnnxTeacher
    return kind(path, classes=classes, clips=clips)


def _load_program(path: Path) -> torch.export.ExportedProgram:
    if not zipfile.is_zipfile(path):
        raise TeacherError(f"{path}: not a file that torch.export.save wrote, or a damaged one; get it anew")
    log = logging.getLogger("torch.export")
    was = log.disabled
    log.disabled = True  # it prints a page of traceback before it raises
    try:
        return torch.export.load(path)
    except (RuntimeError, ValueError, KeyError, AssertionError, OSError) as error:
        raise TeacherError(
            f"{path}: not a program that this PyTorch ({torch.__version__}) can load ({_first_line(error)}); "
            "export it anew"
        ) from error
    finally:
        log.disabled = was


def _drops(node: torch.fx.Node) -> bool:
    """Whether it is dropout that drops."""
    name = str(node.target)
    return name.startswith("aten.native_dropout") or (
        name.startswith("aten.dropout") and len(node.args) > 2 and node.args[2] is True
    )


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), "").rstrip(". ") or type(error).__name__


def _written(shape: Sequence[int | None]) -> str:
    return "x".join("?" if length is None else str(length) for length in shape)
