"""Programs for ExecuTorch: rewritten to the same numbers in operations that XNNPACK has, and run by its own runtime.

What runs them needs the extra [executorch]; that they are rewritten exactly does not.
"""

import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from made_exports import LABELS, PRE, card_of, convolutional_network, noise, small_network

from dualformer.cli.main import main
from dualformer.export import executorch_program
from dualformer.export.executorch_program import for_xnnpack
from dualformer.export.export_data import Clips
from dualformer.export.export_formats import make_program
from dualformer.export.export_weights import ExportReport, check_supported, export_weights
from dualformer.inference.recognizer import Recognizer
from dualformer.model.config import Stage
from dualformer.model.network import DualFormer
from dualformer.video.transforms import normalize
from dualformer.weights.errors import WeightsError
from dualformer.weights.exported.exported_files import has_card, read_export_card
from dualformer.weights.exported.exported_network import load_exported
from dualformer.weights.safetensors_file import save_weights


def whole_network() -> DualFormer:
    """Windows that stick out, a pyramid, depth-wise convolutions, full attention, and a head that answers at steps."""
    config = small_network().config
    first = replace(config.stages[0], patch=(1, 4, 4))
    second = Stage(channels=64, depth=1, patch=(2, 2, 2), kinds="CG", convolution="depthwise")
    model = DualFormer(config.replace(stages=(first, second), head="temporal"), seed=3)
    model.state_dict()["head.weight"].mul_(30)
    model.state_dict()["temporal.conv.weight"].normal_(generator=torch.Generator().manual_seed(0))
    return model.eval()


@pytest.mark.parametrize("network", [convolutional_network, whole_network])
def test_rewritten_programs_say_the_same(network: Any) -> None:
    program = make_program(network(), PRE, batch=2)
    rewritten = for_xnnpack(program)
    for ours, theirs in zip(_outputs(rewritten, noise(2)), _outputs(program, noise(2)), strict=True):
        assert float((ours - theirs).abs().max()) < 2e-6 * float(theirs.abs().max())
    calls = [node for node in rewritten.graph.nodes if node.op == "call_function"]
    names = {str(node.target) for node in calls}
    assert names & {"aten.conv2d.default", "aten.conv3d.default"} == {"aten.conv2d.default"}
    assert not names & {"aten.scaled_dot_product_attention.default", "aten.arange.default", "aten.matmul.default"}
    assert max(node.meta["val"].dim() for node in calls) <= 6
    kernels = [node.args[1] for node in calls if "conv2d" in str(node.target)]
    assert {kernel.op for kernel in kernels} == {"placeholder"}


def _outputs(program: torch.export.ExportedProgram, views: torch.Tensor) -> list[torch.Tensor]:
    with torch.no_grad():
        outputs = program.module()(views)
    return [outputs] if isinstance(outputs, torch.Tensor) else list(outputs)


@given(data=st.data(), groups=st.sampled_from([1, 2, 4]))
def test_a_convolution_over_time_is_a_sum_over_frames(data: st.DataObject, groups: int) -> None:
    kernel, stride, padding, dilation = (
        data.draw(st.tuples(*[st.integers(least, most)] * 3)) for least, most in ((1, 3), (1, 3), (0, 2), (1, 2))
    )
    x, weight, bias = torch.randn(2, 4, 6, 7, 5), torch.randn(8, 4 // groups, *kernel), torch.randn(8)
    options: Any = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    expected = torch.nn.functional.conv3d(x, weight, bias, **options)
    assert torch.allclose(executorch_program._conv3d(x, weight, bias, **options), expected, atol=1e-4)


@given(dims=st.permutations(range(7)))
def test_permutations_of_many_axes_are_moves(dims: list[int]) -> None:
    x = torch.arange(2 * 3 * 1 * 2 * 2 * 3 * 2).view(2, 3, 1, 2, 2, 3, 2)
    assert torch.equal(executorch_program._permute(x, dims), x.permute(dims))


def test_what_there_is_not_for_executorch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match=r"`format=executorch` `precision=int8`: .* computes in float32; take `prec"):
        check_supported("executorch", "int8", 1)
    with pytest.raises(ValueError, match="`format=executorch` needs a `batch`: memory is planned for so many views"):
        check_supported("executorch", "fp32")
    model = small_network()
    save_weights(tmp_path / "best.safetensors", model, card_of(model))
    call = ["export", str(tmp_path / "best.safetensors"), "--format", "executorch"]
    assert main([*call, "--batch", "dynamic"]) == 2
    assert "--format executorch needs a --batch" in capsys.readouterr().err
    assert main([*call, "--precision", "bf16"]) == 2
    assert "computes in float32; take --precision fp32, or --format openvino" in capsys.readouterr().err


def test_a_missing_extra_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "executorch", None)
    model = small_network()
    save_weights(tmp_path / "best.safetensors", model, card_of(model))
    assert main(["export", str(tmp_path / "best.safetensors"), "--format", "executorch"]) == 1
    error = capsys.readouterr().err
    assert "--format executorch: ExecuTorch is not installed" in error and len(error.splitlines()) == 1
    assert "pip install 'dualformer[executorch]'" in error


def test_a_package_that_lacks_another_is_one_line_before_anything_is_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "executorch").mkdir()
    (tmp_path / "executorch" / "exir.py").write_text("import absent_requirement")
    for name in [name for name in sys.modules if name.split(".")[0] == "executorch"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    assert main(["export", "rendered", "--format", "executorch", "--out", str(tmp_path / "x.pte")]) == 1
    said = capsys.readouterr()
    told = "--format executorch: ExecuTorch is incomplete (No module named 'absent_requirement'): pip install "
    assert said.err == f"dualformer: {told}'dualformer[executorch]' adds what it lacks\n" and not said.out


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ExportReport]:
    pytest.importorskip("executorch.exir", reason="the extra [executorch] is not installed")
    model = whole_network()
    out = tmp_path_factory.mktemp("executorch") / "network.pte"
    clips = Clips(views=noise(3), source="noise")
    yield export_weights(model, card_of(model), out, format="executorch", batch=2, clips=clips)


def test_its_runtime_says_the_same(exported: ExportReport) -> None:
    """For clips and their steps, at every number of views."""
    [row] = exported.comparisons
    assert row.batch == 2 and row.relative < 1e-5
    model, network = whole_network(), load_exported(exported.path)
    assert (network.format, network.precision, network.export_card.batch) == ("executorch", "fp32", 2)
    for count in (1, 2, 5):
        views = noise(count, seed=count)
        with torch.no_grad():
            expected = model(normalize(views, PRE))
            steps = model.step_scores(model.forward_features(normalize(views, PRE)))
        assert float(expected.abs().max()) > 1
        assert torch.allclose(network(views), expected, atol=1e-4)
        assert torch.allclose(network.at_steps()(views), steps, atol=1e-4)
    with pytest.raises(ValueError, match="is a model for executorch, which runs on the CPU only: say cpu"):
        network.place("cuda")
    with pytest.raises(ValueError, match=r"network\.pte: other programs for ExecuTorch run on `threads="):
        load_exported(exported.path, threads=torch.get_num_threads() + 1)


def test_a_recognizer_takes_it_like_weights(exported: ExportReport, capfd: pytest.CaptureFixture[str]) -> None:
    theirs = Recognizer.load(exported.path)
    assert capfd.readouterr().err == ""
    model = whole_network()
    ours = Recognizer(model, card_of(model), device="cpu")
    assert (theirs.labels, theirs.preprocessing, theirs.precision) == (LABELS, PRE, "float32")
    film = noise(8, seed=7).flatten(0, 1).numpy()
    shown, same = (each.timeline(film, fps=25, threshold=0.2, shortest=0.0).segments for each in (ours, theirs))
    assert len(shown) > 3
    assert [(each.label, each.start) for each in same] == [(each.label, each.start) for each in shown]
    np.testing.assert_allclose(theirs.predict_views(noise(3)), ours.predict_views(noise(3)), atol=1e-4)


def test_the_file_tells_its_labels_without_this_package(exported: ExportReport) -> None:
    runtime = pytest.importorskip("executorch.runtime").Runtime.get()
    [text] = runtime.load_program(exported.path).load_method("dualformer").execute([])
    assert text == read_export_card(exported.path).to_json()


def test_changed_and_broken_programs_are_noticed(exported: ExportReport, tmp_path: Path) -> None:
    content = exported.path.read_bytes()
    path = tmp_path / "network.pte"

    def written(changed: bytes) -> Path:
        path.write_bytes(changed)
        return path

    for changed in (content.replace(b"blink", b"black"), content[:-5] + bytes([content[-5] ^ 1]) + content[-4:]):
        with pytest.raises(WeightsError, match=r"network\.pte: its weights, labels or preprocessing were changed"):
            load_exported(written(changed))
    for broken in (content[: len(content) // 2], b"", b"no program"):
        with pytest.raises(WeightsError, match=r"network\.pte: not a program of ExecuTorch, or a damaged one; get it"):
            load_exported(written(broken))
    assert not has_card(written(content.replace(b'{"card": {', b'{"cord": {')))
    shutil.copyfile(exported.path, path)
    assert load_exported(path).export_card.digest == exported.digest
