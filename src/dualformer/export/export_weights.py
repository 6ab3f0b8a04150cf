"""Exports weights to a file, after comparing it with them."""

import dataclasses
import importlib.metadata
import secrets
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor

from dualformer._version import __version__
from dualformer.errors import DualFormerError
from dualformer.export.executorch_program import import_executorch, to_executorch
from dualformer.export.export_comparison import TOLERANCES, AccuracyChange, Comparison, compare_logits, reference_logits
from dualformer.export.export_data import Clips
from dualformer.export.export_formats import make_program, to_onnx, to_openvino, write_onnx, write_openvino, write_torch
from dualformer.export.quantize import quantize
from dualformer.files import atomic_write
from dualformer.model.network import DualFormer
from dualformer.plurals import counted
from dualformer.weights.card import Card
from dualformer.weights.exported.export_card import ExportCard, ExportFormat, ExportPrecision
from dualformer.weights.exported.exported_files import CONSTANTS, GRAPH, format_of, size_of, write_digest
from dualformer.weights.exported.exported_network import ExportedNetwork, load_exported
from dualformer.weights.exported.runtime import import_extra

SUFFIXES: dict[ExportFormat, str] = {"torch": ".pt2", "onnx": ".onnx", "openvino": "-openvino", "executorch": ".pte"}
_MAKERS: dict[ExportFormat, tuple[str, ...]] = {
    "torch": (),
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "openvino": ("openvino",),
    "executorch": ("executorch",),
}
_DYNAMIC_BATCHES = (1, 2, 5)


class ExportError(DualFormerError):
    """An export that could not be made, or is too far from its weights."""


@dataclass(frozen=True, kw_only=True)
class ExportReport:
    """What was exported, and how far it is from the weights."""

    path: Path
    format: ExportFormat
    precision: ExportPrecision
    batch: int | None
    """Views that it takes at a time; None: any number."""
    bytes: int
    digest: str
    clips: str
    """The clips that the weights and the exported model were compared on."""
    comparisons: tuple[Comparison, ...]
    tolerance: float
    calibration: str | None
    """The clips that ranges of int8 were found on."""
    accuracy: AccuracyChange | None
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields, ready for JSON."""
        return {**dataclasses.asdict(self), "path": str(self.path)}


def default_output_path(weights: str, *, format: ExportFormat, precision: ExportPrecision) -> Path:  # noqa: A002
    """Returns where an export goes by default: beside the weights file, named after it and its precision."""
    path = Path(weights)
    place = Path(path.name)  # weights of the package or the hub: here
    if path.exists():
        place = path / "model" if path.is_dir() else path.with_suffix("")
    fp32 = precision == "fp32"
    return place.with_name(f"{place.name}{'' if fp32 else f'-{precision}'}{SUFFIXES[format]}")


def check_supported(format: ExportFormat, precision: ExportPrecision, batch: int | None = None) -> None:  # noqa: A002
    """Raises ``ValueError`` for a format or precision that is not supported, ``WeightsError`` for a missing extra."""
    if format not in get_args(ExportFormat) or precision not in get_args(ExportPrecision):
        raise ValueError(f"there is no export to {format} in {precision}")
    if batch is not None and batch < 1:
        raise ValueError(f"`batch` must be dynamic or at least 1, not {batch}")
    if (format, precision) == ("onnx", "bf16"):
        raise ValueError(
            "`format=onnx` `precision=bf16`: ONNX Runtime has neither products nor convolutions in bfloat16 on a CPU; "
            "take `format=openvino` or torch for bf16, or `precision=fp32`"
        )
    if (format, precision) == ("torch", "int8"):
        raise ValueError("`format=torch` `precision=int8`: int8 is for models that another runtime runs; take "
                         "`format=openvino` (the fastest) or onnx")  # fmt: skip
    if format == "executorch" and precision != "fp32":
        raise ValueError(
            f"`format=executorch` `precision={precision}`: a program for ExecuTorch computes in float32; take "
            "`precision=fp32`, or `format=openvino`"
        )
    if format == "executorch" and batch is None:
        raise ValueError("`format=executorch` needs a `batch`: memory is planned for so many views, such as 1")
    for module in _packages(format, precision):
        import_extra(module, f"`format={format}`")
    if format == "executorch":
        import_executorch()


def export_weights(
    model: DualFormer,
    card: Card,
    out: Path,
    *,
    format: ExportFormat,  # noqa: A002 (the option's name)
    precision: ExportPrecision = "fp32",
    batch: int | None = None,
    clips: Clips,
    calibration: Clips | None = None,
    tolerance: float | None = None,
    measure_accuracy: Callable[[ExportedNetwork], AccuracyChange] | None = None,
    pack: Callable[[Path, Path], None] | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> ExportReport:
    """Exports a network, compares it with the weights on ``clips``, and writes the file only if they agree.

    ``out``: a ``.pt2``, ``.onnx`` or ``.pte`` file, or a folder for OpenVINO. ``batch``: views that it takes at a time;
    None: any number. ``calibration``: clips for the ranges of int8. ``tolerance``: largest difference of logits
    relative to the largest logit (None: `TOLERANCES`). ``measure_accuracy`` is called with the exported model.
    ``pack`` is called with the file that was compared and the path of a folder to make of it, which is then what stands
    at ``out``. ``say`` is called with lines of progress.
    Errors: ``ValueError`` for a choice that there is not; `ExportError` where the two differ by more than the
    tolerance, and nothing is written then; ``WeightsError`` for a missing extra or a path that cannot be written.
    """
    begun = time.monotonic()
    check_supported(format, precision, batch)
    if pack is None:
        _check_target(out, format)
    if (calibration is None) == (precision == "int8"):
        raise ValueError("calibration clips belong to int8, and int8 to calibration clips")
    export_card = ExportCard(
        card=card,
        format=format,
        precision=precision,
        batch=batch,
        options={"INFERENCE_PRECISION_HINT": "f32" if precision == "fp32" else "bf16"} if format == "openvino" else {},
        made_with={
            "dualformer": __version__,
            **{name: importlib.metadata.version(name) for name in ("torch", *_packages(format, precision))},
        },
    )
    model = model.eval()
    reference = reference_logits(model, clips.views, card.preprocessing)
    limit = TOLERANCES[precision] if tolerance is None else tolerance
    finished = temporary = out.with_name(f".{secrets.token_hex(4)}-{out.name}")
    if pack is not None:
        temporary = temporary.with_name(f"{temporary.name}{SUFFIXES[format]}")
    try:
        say("making the program")
        _write(model, export_card, temporary, calibration.views if calibration else None, say)
        exported = write_digest(temporary, export_card)
        say("running both sides")
        network = load_exported(temporary)
        batches = (batch,) if batch else _DYNAMIC_BATCHES
        compared = network.at_steps() if network.answers_steps else network
        comparisons = compare_logits(compared, clips.views, reference, batches=batches, multi_label=card.multi_label)
        worst = max(comparison.relative for comparison in comparisons)
        if not worst <= limit:
            raise ExportError(
                f"{out}: not written, as its logits are {worst:.2g} of the largest one away from those of the weights, "
                f"and the tolerance of {precision} is {limit:g}: choose another `precision`, or say `tolerance`"
            )
        accuracy = measure_accuracy(network) if measure_accuracy else None
        del network  # it may hold the files open
        if pack is not None:
            say("packing it")
            pack(temporary, finished)
        _replace(finished, out)
    finally:
        for path in {temporary, finished}:
            shutil.rmtree(path, ignore_errors=True)
            path.unlink(missing_ok=True)
    return ExportReport(
        path=out,
        format=format,
        precision=precision,
        batch=batch,
        bytes=size_of(out) if pack is None else sum(file.stat().st_size for file in out.iterdir()),
        digest=exported.digest,
        clips=clips.source,
        comparisons=tuple(comparisons),
        tolerance=limit,
        calibration=calibration.source if calibration else None,
        accuracy=accuracy,
        seconds=time.monotonic() - begun,
    )


def _write(
    model: DualFormer, export_card: ExportCard, out: Path, calibration: Tensor | None, say: Callable[[str], None]
) -> None:
    # OpenVINO computes a float32 model in bfloat16 by itself.
    dtype = torch.bfloat16 if (export_card.format, export_card.precision) == ("torch", "bf16") else torch.float32
    program = make_program(model, export_card.card.preprocessing, dtype=dtype, batch=export_card.batch)
    say(f"translating it for {export_card.format}" if export_card.format != "torch" else "writing it")
    if export_card.format == "torch":
        atomic_write(out, lambda path: write_torch(program, path))
        return
    if export_card.format == "executorch":
        lowered = to_executorch(program, export_card)
        atomic_write(out, lambda path: path.write_bytes(lowered))
        return
    made = to_onnx(program) if export_card.format == "onnx" else to_openvino(program, batch=export_card.batch)
    if calibration is not None:
        say(f"quantising it on {counted(len(calibration), 'clip')}")
        made = quantize(made, calibration, format=export_card.format, batch=export_card.batch)
    if export_card.format == "onnx":
        atomic_write(out, lambda path: write_onnx(made, export_card, path))
    else:
        out.mkdir(parents=True)
        write_openvino(made, export_card, out)


def _check_target(out: Path, format: ExportFormat) -> None:  # noqa: A002
    """Raises ``ValueError`` for a name that is not one of this format, or a folder of other things."""
    if format != "openvino":
        if out.suffix.lower() != SUFFIXES[format]:
            raise ValueError(f"`out={out}`: a model for {format} is a file that ends in {SUFFIXES[format]}")
        if out.is_dir():
            raise ValueError(f"`out={out}`: there is a folder of that name; choose another")
        return
    if format_of(out) not in (None, "openvino") or out.is_file():
        raise ValueError(f"`out={out}`: a model for openvino is a folder, of another name")
    others = [path.name for path in out.iterdir() if path.name not in (GRAPH, CONSTANTS)] if out.is_dir() else []
    if others:
        raise ValueError(f"`out={out}`: there is {others[0]} in this folder; choose a new or empty one")


def _replace(made: Path, out: Path) -> None:
    if made.is_file():
        made.replace(out)
        return
    old = made.with_name(f"{made.name}-old")
    if out.is_dir():
        out.rename(old)
    made.rename(out)
    shutil.rmtree(old, ignore_errors=True)


def _packages(format: ExportFormat, precision: ExportPrecision) -> tuple[str, ...]:  # noqa: A002
    """Returns the packages of the extras that an export needs."""
    return *_MAKERS[format], *(("nncf",) if precision == "int8" else ())
