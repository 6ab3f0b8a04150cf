"""Post-training quantisation to int8 by NNCF, for OpenVINO and ONNX."""

import contextlib
import io
from typing import Any

import torch
from torch import Tensor

from dualformer.export.export_formats import INPUT, quiet_exporters
from dualformer.weights.exported.runtime import import_extra

_FLOATING = {"openvino": ["GroupConvolution", "ScaledDotProductAttention"], "onnx": ["Conv"]}
"""Kinds of layers that stay in floating point, by the names that the formats have for them."""


def quantize(model: Any, calibration: Tensor, *, format: str, batch: int | None) -> Any:  # noqa: A002
    """Quantises a model of OpenVINO or ONNX to int8, with ranges found on ``calibration``, uint8 N T H W 3.

    ``batch``: views that the model takes at a time; None: any number.

    The classifier stays in floating point: features that are averaged over a clip differ little from one to another,
    and one range for all of them made logits wrong by up to a fifth. So do depth-wise convolutions, of which OpenVINO
    has none between int8 and bfloat16, and its attention, which was no faster in int8. Ranges are symmetric, and
    activations are not smoothed, which NNCF does for transformers by default and which gained nothing
    (docs/experiments.md). Weights take half of int8's range: on processors without VNNI sums of products overflow
    otherwise, which made logits wrong by 22 % where the limit is 10 %.
    """
    with quiet_exporters(), contextlib.redirect_stdout(io.StringIO()):  # its progress bars
        nncf = import_extra("nncf", "`precision=int8`")
        missing = -len(calibration) % (batch or 1)
        filled = torch.cat([calibration, calibration[:1].expand(missing, *calibration.shape[1:])])
        views = [part.numpy() for part in filled.split(batch or 1)]
        items = views if format == "openvino" else [{INPUT: view} for view in views]
        off = nncf.AdvancedSmoothQuantParameters(convolution=-1, matmul=-1)
        return nncf.quantize(
            model,
            nncf.Dataset(items),
            model_type=nncf.ModelType.TRANSFORMER,
            preset=nncf.QuantizationPreset.PERFORMANCE,
            subset_size=len(items),
            ignored_scope=nncf.IgnoredScope(
                types=_FLOATING[format], names=[_classifier(model, format)], validate=False
            ),
            advanced_parameters=nncf.AdvancedQuantizationParameters(
                smooth_quant_alphas=off, overflow_fix=nncf.OverflowFix.ENABLE
            ),
        )


def _classifier(model: Any, format: str) -> str:  # noqa: A002
    """Returns the name of the last matrix product."""
    if format == "openvino":
        return [op.get_friendly_name() for op in model.get_ordered_ops() if op.get_type_name() == "MatMul"][-1]
    return [node.name for node in model.graph.node if node.op_type in ("MatMul", "Gemm")][-1]
