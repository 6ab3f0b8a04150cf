"""Writes a program as a file of PyTorch, ONNX or OpenVINO."""

import contextlib
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from dualformer.export.view_network import INPUT, OUTPUT
from dualformer.weights.exported.export_card import ExportCard
from dualformer.weights.exported.exported_files import GRAPH, KEY
from dualformer.weights.exported.runtime import import_extra


def write_torch(program: torch.export.ExportedProgram, path: Path) -> None:
    """The card comes into it when it is sealed."""
    program.example_inputs = None  # as large as two views, and of no use to anybody
    with path.open("wb") as file:  # given a name, it would write that of the temporary file inside
        torch.export.save(program, file)


def to_onnx(program: torch.export.ExportedProgram) -> Any:
    """→ ``onnx.ModelProto``."""
    import_extra("onnxscript", "`format=onnx`")
    with quiet():
        made = torch.onnx.export(program, dynamo=True, verbose=False, input_names=[INPUT], output_names=[OUTPUT])
    assert made is not None
    return made.model_proto


def write_onnx(model: Any, card: ExportCard, path: Path) -> None:
    """``model``: an ``onnx.ModelProto``, with the card in its metadata from now on."""
    onnx = import_extra("onnx", path)
    onnx.helper.set_model_props(model, {KEY: card.to_json()})
    onnx.save(model, str(path))


def to_openvino(program: torch.export.ExportedProgram, *, batch: int | None) -> Any:
    """→ ``openvino.Model``. It comes from the program itself: by way of ONNX its graph would be a worse one."""
    openvino = import_extra("openvino", "`format=openvino`")
    shape = next(node.meta["val"].shape for node in program.graph.nodes if node.name == INPUT)
    with quiet():
        model = openvino.convert_model(program)
    model.reshape([batch or -1, *(int(length) for length in shape[1:])])
    model.inputs[0].get_tensor().set_names({INPUT})
    model.outputs[0].get_tensor().set_names({OUTPUT})
    return model


def write_openvino(model: Any, card: ExportCard, folder: Path) -> None:
    """``model``: an ``openvino.Model``, with the card in its ``rt_info`` from now on."""
    openvino = import_extra("openvino", folder)
    model.set_rt_info(card.to_json(), [KEY])
    openvino.save_model(model, str(folder / GRAPH), compress_to_fp16=False)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without what exporters say of their own insides, and without telling anybody that they were used.

    OpenVINO and NNCF report to their makers unless the user has declined; here nobody was asked.
    """
    _decline_telemetry()
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir", "nncf")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _decline_telemetry() -> None:
    try:
        from openvino_telemetry.utils import opt_in_checker
    except ImportError:
        return
    opt_in_checker.OptInChecker.check = lambda *_, **__: opt_in_checker.ConsentCheckResult.DECLINED
