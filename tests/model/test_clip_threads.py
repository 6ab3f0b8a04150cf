"""Clips on threads of their own give what the plain pass gives, wherever that is allowed."""

import multiprocessing
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor

from dualformer.model import clip_threads, threads
from dualformer.model.network import DualFormer
from dualformer.model.presets import create_model

pytestmark = pytest.mark.usefixtures("two_threads")

PLAIN: Any = DualFormer.forward_features
PLAIN = PLAIN.__wrapped__


@pytest.fixture(scope="module")
def model() -> DualFormer:
    return create_model("dualformer_nano_conv", clip=(4, 32, 32), num_classes=5, seed=0).eval()


def clips(count: int) -> Tensor:
    return torch.randn(count, 3, 4, 32, 32, generator=torch.Generator().manual_seed(count))


@pytest.mark.parametrize("count", [2, 3, 4, 7])
@pytest.mark.parametrize("bfloat16", [False, True])
def test_the_features_are_those_of_the_plain_pass(model: DualFormer, count: int, bfloat16: bool) -> None:
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        plain = PLAIN(model, clips(count))
        assert clip_threads.usable(model, clips(count))
        features = model.forward_features(clips(count))
    assert features.dtype == plain.dtype and features.shape == plain.shape
    torch.testing.assert_close(features, plain, atol=3e-2 if bfloat16 else 1e-5, rtol=0)
    assert torch.get_num_threads() == 2


def test_each_piece_computes_on_one_thread_in_the_modes_of_the_caller(model: DualFormer) -> None:
    seen: list[tuple[int, int, bool, bool, bool]] = []

    class Watched:
        def forward_features(self, video: Tensor) -> Tensor:
            modes = torch.is_inference_mode_enabled(), torch.is_grad_enabled(), torch.is_autocast_enabled("cpu")
            seen.append((len(video), torch.get_num_threads(), *modes))
            return video

    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(clip_threads.forward_features(Watched(), clips(5)), clips(5))
    assert sorted(seen) == [(1, 2, False, False, True), (2, 1, False, False, True), (2, 1, False, False, True)]


def test_where_it_is_not_allowed(model: DualFormer) -> None:
    with torch.no_grad():
        assert clip_threads.usable(model, clips(2))
        assert not clip_threads.usable(model, clips(1))
        assert not clip_threads.usable(model, clips(2).to("meta"))
        hook = model.stages[0].register_forward_hook(lambda *_: None)
        assert not clip_threads.usable(model, clips(2))
        hook.remove()
        torch.set_num_threads(1)
        assert not clip_threads.usable(model, clips(2))
        torch.set_num_threads(2)
    assert not clip_threads.usable(model, clips(2))  # with gradients
    with torch.no_grad():
        assert not clip_threads.usable(model.train(), clips(2))
    model.eval()


def test_an_error_of_a_clip_arrives(model: DualFormer) -> None:
    with torch.no_grad(), pytest.raises(ValueError, match="3 channels"):
        model.forward_features(torch.zeros(4, 2, 4, 32, 32))
    with torch.no_grad():
        assert model(clips(4)).shape == (4, 5)


def test_several_callers_share_the_threads(model: DualFormer) -> None:
    def run(count: int) -> Tensor:
        torch.set_num_threads(2)
        with torch.no_grad():
            return model(clips(count))

    expected = [run(count) for count in (2, 4, 6)]
    with ThreadPoolExecutor(3) as callers:
        for found, wanted in zip(callers.map(run, (2, 4, 6)), expected, strict=True):
            torch.testing.assert_close(found, wanted, atol=3e-6, rtol=0)


def _count_in_a_child(connection: Any) -> None:
    connection.send(list(threads._single_threads(2, os.getpid()).map(abs, (-1, -2, -3))))


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this system cannot fork")
def test_a_forked_process_has_threads_of_its_own() -> None:
    threads._single_threads(2, os.getpid())
    ours, theirs = multiprocessing.Pipe()
    child = multiprocessing.get_context("fork").Process(target=_count_in_a_child, args=(theirs,))
    child.start()
    assert ours.poll(60) and ours.recv() == [1, 2, 3]
    child.join()
