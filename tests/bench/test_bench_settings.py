"""Which settings a call stands for."""

from __future__ import annotations

from typing import get_args

import pytest
import torch

from dualformer.bench.bench_settings import EXPORTED, Setting, benchmark_grid, supported_dtypes
from dualformer.weights.exported.export_card import ExportFormat


def test_every_combination_once_in_order() -> None:
    settings, missing = benchmark_grid(
        ["dualformer_nano", "dualformer_nano"],
        clips=[(4, 32, 32), (8, 32, 32)],
        batches=[1, 2],
        backends=["eager", "openvino"],
        dtypes=["float32", "int8"],
        threads=[1, 2],
    )
    assert missing == ["eager in int8"]
    assert len(settings) == len(set(settings)) == 2 * 2 * 3 * 2
    assert [(s.backend, s.dtype) for s in settings[::2][:3]] == [
        ("eager", "float32"),
        ("openvino", "float32"),
        ("openvino", "int8"),
    ]
    assert [s.threads for s in settings[:4]] == [1, 2, 1, 2]
    assert [s.clip for s in settings].index((8, 32, 32)) == 12


def test_without_sizes_each_model_is_measured_on_its_own() -> None:
    settings, _ = benchmark_grid(["dualformer_nano", "dualformer_tiny"])
    assert [s.clip for s in settings] == [(16, 112, 112), (32, 224, 224)]
    assert {s.threads for s in settings} == {torch.get_num_threads()}


def test_ways_that_there_are_not() -> None:
    assert supported_dtypes(["eager", "onnx"], ["bfloat16"]) == ([("eager", "bfloat16")], ["onnx in bfloat16"])
    with pytest.raises(ValueError, match="there is no eager in int8 and no torch in int8: choose another"):
        supported_dtypes(["eager", "torch"], ["int8"])


def test_every_format_of_exports_is_a_backend() -> None:
    assert set(EXPORTED.values()) == set(get_args(ExportFormat))
    settings, missing = benchmark_grid(["dualformer_nano"], backends=["executorch"], dtypes=["float32", "int8"])
    assert [(setting.backend, setting.dtype) for setting in settings] == [("executorch", "float32")]
    assert missing == ["executorch in int8"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch": 0}, "`batch` must be at least 1, not 0"),
        ({"threads": 0}, "`threads` must be at least 1, not 0"),
        ({"clip": (0, 32, 32)}, "`clip` needs at least 1 frame, row and column, not 0x32x32"),
        ({"dtype": "int8"}, "`backend=eager` does not compute in int8, but in float32, bfloat16"),
    ],
)
def test_wrong_settings(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Setting(**{"model": "dualformer_nano", "clip": (4, 32, 32), **changes})  # type: ignore[arg-type]


def test_an_unknown_model_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"'dualformer_huge' is no weights file.*dualformer_nano"):
        benchmark_grid(["dualformer_huge"])
