"""The number format of a run, and the reason in words."""

import pytest
import torch

from dualformer.training import precision


@pytest.mark.parametrize(
    ("bfloat16", "expected"),
    [
        (0.5, ("bfloat16", "its matrix products are 2.0 times as fast on this CPU")),
        (25.0, ("float32", "bfloat16 matrix products are only 0.04 times as fast on this CPU")),
        (0.75, ("float32", "bfloat16 matrix products are only 1.3 times as fast on this CPU")),
    ],
)
def test_the_reason_has_two_digits(bfloat16: float, expected: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "_seconds", {torch.float32: 1.0, torch.bfloat16: bfloat16}.__getitem__)
    assert precision.choose_precision("auto", torch.device("cpu")) == expected
