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


@pytest.mark.parametrize(
    ("bfloat16", "reason"),
    [
        (0.5, "as asked"),
        (25.0, "as asked, though its matrix products are only 0.04 times as fast on this CPU"),
    ],
)
def test_what_is_asked_for_is_taken_and_said_to_be_slow(
    bfloat16: float, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "_seconds", {torch.float32: 1.0, torch.bfloat16: bfloat16}.__getitem__)
    assert precision.choose_precision("bfloat16", torch.device("cpu")) == ("bfloat16", reason)
    assert precision.choose_precision("float32", torch.device("cpu")) == ("float32", "as asked")


def test_a_cpu_without_bfloat16_is_not_timed_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    timed: list[torch.dtype] = []

    def seconds(dtype: torch.dtype) -> float:
        timed.append(dtype)
        return 0.5 if dtype == torch.bfloat16 else 0.005

    monkeypatch.setattr(precision, "_seconds", seconds)
    assert precision.choose_precision("auto", torch.device("cpu")).name == "float32"
    assert timed.count(torch.bfloat16) == 2
