"""Exported models say what their weights say, in every format and at every number of views, or are not written."""

from pathlib import Path

import numpy as np
import pytest
import torch
from made_exports import LABELS, PRE, WAYS, Made, card_of, noise, small_network

from dualformer.datasets.rendered_scene import ALL
from dualformer.export.export_comparison import TOLERANCES, compare_accuracy, compare_logits
from dualformer.export.export_data import Clips, clips_of_files, open_export_data, rendered_clips
from dualformer.export.export_weights import (
    ExportError,
    ExportReport,
    check_supported,
    default_output_path,
    export_weights,
)
from dualformer.model.presets import create_model
from dualformer.video.preprocessing import kinetics
from dualformer.video.transforms import normalize
from dualformer.weights.card import Card
from dualformer.weights.exported.export_card import ExportFormat, ExportPrecision
from dualformer.weights.exported.exported_network import load_exported
from dualformer.weights.safetensors_file import load_weights

ids = "-".join


@pytest.mark.parametrize("fixture", ["made", "made_of_convolutions"])
@pytest.mark.parametrize("way", WAYS, ids=ids)
def test_logits_are_those_of_the_weights_at_every_number_of_views(
    request: pytest.FixtureRequest, fixture: str, way: tuple[ExportFormat, ExportPrecision]
) -> None:
    made: Made = request.getfixturevalue(fixture)
    report = made.reports[way]
    assert [row.batch for row in report.comparisons] == [1, 2, 5]
    assert all(0 <= row.relative <= TOLERANCES[way[1]] == report.tolerance for row in report.comparisons)
    network = load_exported(report.path)
    assert (network.format, network.precision, network.card) == (*way, made.card)
    views = noise(7)
    with torch.no_grad():
        expected = made.model(normalize(views, PRE))
    scale = float(expected.abs().max())
    assert scale > 1  # a network that says the same of everything would agree with any other
    for count in (1, 3, 7):
        logits = network(views[:count])
        assert logits.dtype == torch.float32 and logits.shape == (count, len(LABELS))
        assert float((logits - expected[:count]).abs().max()) <= TOLERANCES[way[1]] * scale
    if way[1] != "fp32" and not (way == ("openvino", "bf16") and not openvino_has_bf16()):
        assert not torch.allclose(network(views), expected, atol=1e-5)  # it does compute in another precision


def openvino_has_bf16() -> bool:
    """Whether this processor has instructions for bfloat16; on others OpenVINO computes such models in float32."""
    core = pytest.importorskip("openvino").Core()
    return "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def test_smaller_precisions_make_smaller_files(made: Made) -> None:
    size = {way: report.bytes for way, report in made.reports.items()}
    weights = 4 * sum(parameter.numel() for parameter in made.model.parameters())
    assert size["torch", "fp32"] - size["torch", "bf16"] > 0.4 * weights
    assert size["onnx", "fp32"] - size["onnx", "int8"] > 0.3 * weights
    assert size["openvino", "fp32"] - size["openvino", "int8"] > 0.3 * weights


@pytest.mark.parametrize("kind", ["torch", "onnx", "openvino"])
def test_a_fixed_number_of_views_is_filled_up(made: Made, tmp_path: Path, kind: ExportFormat) -> None:
    out = tmp_path / made.reports[kind, "fp32"].path.name
    clips = rendered_clips(PRE, count=4)
    report = export_weights(made.model, made.card, out, format=kind, batch=3, clips=clips)
    assert [row.batch for row in report.comparisons] == [3]
    network = load_exported(out)
    assert network.export_card.batch == 3
    views = noise(5)
    with torch.no_grad():
        expected = made.model(normalize(views, PRE))
    assert torch.allclose(network(views), expected, atol=1e-4)
    with pytest.raises(ValueError, match=r"takes uint8 views B 4 36 36 3, not torch.uint8 \(5, 2, 36, 36, 3\)"):
        network(views[:, :2])
    with pytest.raises(ValueError, match=r"not torch.float32"):
        network(views.float())


def test_what_is_too_far_off_is_not_written(made: Made, tmp_path: Path) -> None:
    clips = Clips(views=noise(3), source="noise")
    with pytest.raises(ExportError, match=r"small.pt2: not written, .* the tolerance of bf16 is 1e-07: .* `tolerance`"):
        export_weights(
            made.model, made.card, tmp_path / "small.pt2", format="torch", precision="bf16", clips=clips, tolerance=1e-7
        )
    assert list(tmp_path.iterdir()) == []


def test_the_weights_are_left_as_they_were(made: Made) -> None:
    """After they were exported in every way."""
    before = small_network().state_dict()
    assert all(torch.equal(tensor, before[key]) for key, tensor in made.model.state_dict().items())
    assert all(parameter.requires_grad for parameter in made.model.parameters())


def test_differences_are_the_largest_ones() -> None:
    reference = torch.tensor([[4.0, -8.0], [1.0, 1.5]])
    wrong = torch.tensor([[4.0, -7.5], [1.25, 1.0]])
    [row] = compare_logits(lambda views: wrong[views[:, 0, 0, 0, 0].long()], _numbered(2), reference, batches=[1])
    assert (row.logits, row.relative, row.agreement) == (0.5, 0.0625, 0.5)
    assert row.probabilities == pytest.approx(float((wrong.softmax(1) - reference.softmax(1)).abs().max()), abs=1e-6)
    [row] = compare_logits(lambda views: wrong, _numbered(2), reference, batches=[2], multi_label=True)
    assert row.agreement == 1.0
    broken = torch.full((2, 2), torch.nan)
    [row] = compare_logits(lambda views: broken, _numbered(2), reference, batches=[2])
    assert row.relative == float("inf")


def _numbered(count: int) -> torch.Tensor:
    return torch.arange(count, dtype=torch.uint8)[:, None, None, None, None].expand(count, 1, 1, 1, 3)


def test_int8_is_judged_on_labelled_videos(made: Made, videos: Path) -> None:
    material = open_export_data(
        made.card, int8=True, data=str(videos / "data.csv"), on={"batch": ("B",)}, clips=2, calibration_clips=5
    )
    assert material.calibration is not None and material.accuracy_videos is not None
    assert len(material.calibration.views) == 5 and len(material.clips.views) == 2
    assert {sample.path.name for sample in material.accuracy_videos.samples} == {"2.mp4"} and len(
        material.accuracy_videos
    ) == 6
    network = load_exported(made.reports["openvino", "int8"].path)
    shown: list[tuple[int, int]] = []
    change = compare_accuracy(
        made.model,
        network,
        made.card,
        material.accuracy_videos,
        views="1x1",
        progress=lambda done, total: shown.append((done, total)),
    )
    assert (change.figure, change.videos, change.views) == ("top1", 6, "1x1")
    assert shown[-1] == (12, 12)
    right = {"weights": 0, "exported": 0, "both alike": 0}
    for i, sample in enumerate(material.accuracy_videos.samples):
        views = clips_of_files([sample.path], PRE).views
        with torch.no_grad():
            ours = int(made.model(normalize(views, PRE)).argmax())
        theirs = int(network(views).argmax())
        right["weights"] += ours == i
        right["exported"] += theirs == i
        right["both alike"] += ours == theirs
    assert [change.weights, change.exported, change.agreement] == [count / 6 for count in right.values()]


def test_material_without_data_is_rendered_and_fits_any_card() -> None:
    for pre in (PRE, kinetics(frames=1, stride=1, size=30), kinetics(frames=18, stride=3, size=50)):
        clips = rendered_clips(pre, count=3)
        assert clips.views.shape == (3, pre.frames, pre.crop, pre.crop, 3)
        assert len({view.numpy().tobytes() for view in clips.views}) == 3
        assert torch.equal(clips.views, rendered_clips(pre, count=3).views)
    with pytest.raises(ValueError, match="int8 needs data"):
        open_export_data(card_of(small_network()), int8=True)


def test_several_labels_a_video_are_told_apart_by_sigmoid(made: Made, tmp_path: Path) -> None:
    card = card_of(made.model, multi_label=True)
    report = export_weights(
        made.model, card, tmp_path / "several.pt2", format="torch", clips=Clips(views=noise(3), source="noise")
    )
    assert report.comparisons[0].agreement == 1.0
    assert load_exported(tmp_path / "several.pt2").card.multi_label


def test_choices_that_there_are_not(made: Made, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="neither products nor convolutions in bfloat16 on a CPU; take `format"):
        check_supported("onnx", "bf16")
    with pytest.raises(ValueError, match=r"`format=torch` `precision=int8`: .* take `format=openvino`"):
        check_supported("torch", "int8")
    clips = Clips(views=noise(1), source="noise")

    def attempt(name: str, kind: ExportFormat, precision: ExportPrecision = "fp32") -> None:
        export_weights(made.model, made.card, tmp_path / name, format=kind, precision=precision, clips=clips)

    with pytest.raises(ValueError, match=r"a model for onnx is a file that ends in \.onnx"):
        attempt("model.pt2", "onnx")
    with pytest.raises(ValueError, match="a model for openvino is a folder, of another name"):
        attempt("model.onnx", "openvino")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("precious")
    with pytest.raises(ValueError, match=r"there is thesis\.txt in this folder"):
        attempt("full", "openvino")
    with pytest.raises(ValueError, match="calibration clips belong to int8"):
        attempt("model", "openvino", "int8")


def test_onnx_runtime_has_no_bfloat16_products_yet() -> None:
    """Where this fails, ONNX in bfloat16 need not be refused any more."""
    onnx = pytest.importorskip("onnx", reason="the extra [export] is not installed")
    runtime = pytest.importorskip("onnxruntime", reason="the extra [export] is not installed")
    names = {"a": [2, 4], "b": [4, 3], "y": [2, 3]}
    kinds = {name: onnx.helper.make_tensor_value_info(name, onnx.TensorProto.BFLOAT16, names[name]) for name in names}
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("MatMul", ["a", "b"], ["y"])], "product", [kinds["a"], kinds["b"]], [kinds["y"]]
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 22)], ir_version=10)
    with pytest.raises(Exception, match="Could not find an implementation for MatMul"):
        runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def test_names_beside_the_weights(tmp_path: Path) -> None:
    (tmp_path / "best.safetensors").touch()
    weights = str(tmp_path / "best.safetensors")
    assert default_output_path(weights, format="torch", precision="fp32") == tmp_path / "best.pt2"
    assert default_output_path(weights, format="onnx", precision="int8") == tmp_path / "best-int8.onnx"
    assert default_output_path(weights, format="openvino", precision="bf16") == tmp_path / "best-bf16-openvino"
    assert default_output_path(str(tmp_path), format="onnx", precision="fp32") == tmp_path / "model.onnx"
    assert default_output_path("somebody/tiny.v2", format="torch", precision="fp32") == Path("tiny.v2.pt2")


def test_an_export_takes_the_place_of_an_older_one(made: Made, exchanged: dict[ExportFormat, ExportReport]) -> None:
    for kind, second in exchanged.items():
        assert made.reports[kind, "fp32"].digest != second.digest == load_exported(second.path).export_card.digest
    folder = exchanged["torch"].path.parent
    assert sorted(path.name for path in folder.iterdir()) == ["model", "model.pt2"]


@pytest.mark.slow
def test_trained_weights_agree_in_int8(made: Made, tmp_path: Path) -> None:
    model, card = load_weights("rendered")
    shown = rendered_clips(card.preprocessing, count=112)
    calibration = Clips(views=shown.views[-16:], source="rendered clips")
    clips = Clips(views=shown.views[:96], source="96 rendered clips")
    report = export_weights(
        model,
        card,
        tmp_path / "int8",
        format="openvino",
        precision="int8",
        clips=clips,
        calibration=calibration,
        batch=4,
    )
    [row] = report.comparisons
    assert row.agreement >= 0.99 and row.relative < 0.06
    named = load_exported(tmp_path / "int8")(clips.views).argmax(dim=1).tolist()
    right = [card.labels[place] == ALL[number % len(ALL)] for number, place in enumerate(named)]
    assert np.mean(right) >= 0.95


def test_networks_of_the_presets_can_be_exported(tmp_path: Path) -> None:
    model = create_model("dualformer_nano", clip=(4, 32, 32), num_classes=4, seed=0)
    pre = kinetics(frames=4, size=32)
    card = Card(config=model.config, labels=(), preprocessing=pre, provenance="", licence="")
    report = export_weights(model, card, tmp_path / "nano.pt2", format="torch", clips=rendered_clips(pre, count=2))
    assert max(row.relative for row in report.comparisons) < 1e-5
