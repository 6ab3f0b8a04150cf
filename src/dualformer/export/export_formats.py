"""Makes a program of a network and its normalisation, and writes it as a file of PyTorch, ONNX or OpenVINO.

What ExecuTorch needs is in `executorch_program`.
"""

import contextlib
import copy
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dualformer.model.network import DualFormer
from dualformer.video.preprocessing import Preprocessing
from dualformer.video.transforms import normalize
from dualformer.weights.exported.export_card import ExportCard
from dualformer.weights.exported.exported_files import CARD_KEY, GRAPH
from dualformer.weights.exported.runtime import EXECUTORCH_LOGGERS, import_extra, quiet

INPUT, OUTPUT, STEP_OUTPUT = "views", "logits", "step_logits"
"""Names in the exported models. Those of networks with a temporal head have both outputs, others the first."""


class ViewNetwork(nn.Module):
    """Turns uint8 views B T H W 3 into logits float32 B classes, in the precision of the network's weights.

    Of a network with a temporal head it returns these and the logits of each step in time, B T' classes.
    """

    def __init__(self, network: DualFormer, pre: Preprocessing) -> None:
        super().__init__()
        self.network = network
        self._pre = pre

    def forward(self, views: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        video = normalize(views, self._pre, dtype=self.network.norm.weight.dtype)
        if self.network.temporal is None:
            return self.network(video).float()
        steps = self.network.step_scores(self.network.forward_features(video)).float()
        return steps.mean(1), steps


def make_program(
    model: DualFormer, pre: Preprocessing, *, dtype: torch.dtype = torch.float32, batch: int | None = None
) -> torch.export.ExportedProgram:
    """Makes a program of a copy of a network. ``batch``: views that it takes at a time; None: any number."""
    network = copy.deepcopy(model).fold().to("cpu", dtype).requires_grad_(False)
    # Two views stand for any number: PyTorch takes a length of one for a constant.
    views = torch.zeros((batch or 2, pre.frames, pre.crop, pre.crop, 3), dtype=torch.uint8)
    shapes = None if batch else ({0: torch.export.Dim("batch")},)
    with torch.no_grad():
        return torch.export.export(ViewNetwork(network, pre).eval(), (views,), dynamic_shapes=shapes)


def write_torch(program: torch.export.ExportedProgram, path: Path) -> None:
    """Writes a ``.pt2`` file; `write_digest` adds the card."""
    program.example_inputs = None  # as large as two views, and of no use to anybody
    with path.open("wb") as file:  # given a name, it would write that of the temporary file inside
        torch.export.save(program, file)


def to_onnx(program: torch.export.ExportedProgram) -> Any:
    """Returns the program as an ``onnx.ModelProto``."""
    import_extra("onnxscript", "`format=onnx`")
    with quiet_exporters():
        outputs = [OUTPUT, STEP_OUTPUT][: len(program.graph_signature.user_outputs)]
        made = torch.onnx.export(program, dynamo=True, verbose=False, input_names=[INPUT], output_names=outputs)
    assert made is not None
    return made.model_proto


def write_onnx(model: Any, card: ExportCard, path: Path) -> None:
    """Writes an ``onnx.ModelProto`` with the card in its metadata."""
    onnx = import_extra("onnx", path)
    onnx.helper.set_model_props(model, {CARD_KEY: card.to_json()})
    onnx.save(model, str(path))


def to_openvino(program: torch.export.ExportedProgram, *, batch: int | None) -> Any:
    """Returns the program as an ``openvino.Model``, without the way through ONNX, which would give a slower graph."""
    openvino = import_extra("openvino", "`format=openvino`")
    shape = next(node.meta["val"].shape for node in program.graph.nodes if node.name == INPUT)
    with quiet_exporters():
        model = openvino.convert_model(program)
    model.reshape([batch or -1, *(int(length) for length in shape[1:])])
    model.inputs[0].get_tensor().set_names({INPUT})
    for output, name in zip(model.outputs, (OUTPUT, STEP_OUTPUT), strict=False):
        output.get_tensor().set_names({name})
    return model


def write_openvino(model: Any, card: ExportCard, folder: Path) -> None:
    """Writes an ``openvino.Model`` with the card in its ``rt_info``."""
    openvino = import_extra("openvino", folder)
    model.set_rt_info(card.to_json(), [CARD_KEY])
    openvino.save_model(model, str(folder / GRAPH), compress_to_fp16=False)


@contextlib.contextmanager
def quiet_exporters() -> Iterator[None]:
    """Silences the logs and warnings of exporters, and declines the telemetry of OpenVINO and NNCF."""
    with contextlib.suppress(ImportError):
        from openvino_telemetry.utils import opt_in_checker

        opt_in_checker.OptInChecker.check = lambda *_, **__: opt_in_checker.ConsentCheckResult.DECLINED
    handlers = logging.root.handlers.copy()
    try:
        with quiet("torch.onnx", "torch.export", "onnxscript", "onnx_ir", "nncf", *EXECUTORCH_LOGGERS):
            yield
    finally:
        logging.root.handlers[:] = handlers  # ExecuTorch adds one
