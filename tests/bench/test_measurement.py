"""Settings measured: what the figures follow from, end to end, and as a table. No test asserts a time."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from dualformer.bench import measurement as module
from dualformer.bench.bench_settings import Setting, benchmark_grid
from dualformer.bench.end_to_end import EndToEnd, measure_file
from dualformer.bench.exports import make_exports
from dualformer.bench.measurement import Figures, Measurement, measure
from dualformer.bench.prepared_network import BenchError, prepare_network, random_views
from dualformer.bench.table import markdown_table, to_markdown
from dualformer.inference.recognizer import Recognizer
from dualformer.model.config import Config, Stage
from dualformer.model.cost import measure_cost
from dualformer.model.network import DualFormer
from dualformer.model.presets import create_model, preset_config
from dualformer.video.encode import write_video
from dualformer.video.preprocessing import kinetics
from dualformer.weights.card import Card
from dualformer.weights.errors import WeightsError
from dualformer.weights.safetensors_file import save_weights

pytestmark = pytest.mark.usefixtures("small_products")

NANO = Setting(model="dualformer_nano", clip=(4, 32, 32))
BF16 = Setting(model="dualformer_nano", clip=(4, 32, 32), batch=2, dtype="bfloat16")


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return saved(create_model("dualformer_nano", clip=(4, 32, 32), num_classes=3, seed=0), tmp_path)


@pytest.fixture
def weights_of_one_stage(tmp_path: Path) -> Path:
    """Of a network that is exported in a second or two."""
    stages = (Stage(channels=32, depth=1, patch=(2, 8, 8)),)
    return saved(DualFormer(Config(stages=stages, clip=(4, 32, 32), num_classes=3), seed=0), tmp_path)


def saved(model: DualFormer, folder: Path) -> Path:
    card = Card(
        config=model.config,
        labels=("a", "b", "c"),
        preprocessing=kinetics(frames=4, size=32),
        provenance="a test",
        licence="",
    )
    save_weights(folder / "w.safetensors", model, card)
    return folder / "w.safetensors"


@pytest.fixture
def video(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (24, 6, 8, 3), dtype=np.uint8).repeat(8, axis=1).repeat(8, axis=2)
    write_video(tmp_path / "clip.mp4", frames, fps=25)
    return tmp_path / "clip.mp4"


def test_figures_follow_from_the_times(monkeypatch: pytest.MonkeyPatch) -> None:
    def turns(works, *, between, **options):  # type: ignore[no-untyped-def]
        for work in works.values():
            work()
        between()
        between()
        return {NANO: [0.5, 0.25, 4.0], BF16: [0.125] * 20}

    peaks = iter((1e9, 4e9, 3e9, 8e9))  # float32, bfloat16, and again
    monkeypatch.setattr(module, "time_interleaved", turns)
    monkeypatch.setattr(module, "matmul_peak", lambda dtype, threads, device, seconds: next(peaks))
    measured = measure([NANO, BF16], device="cpu", memory=False)
    one, two = measured.figures
    cost = measure_cost(preset_config("dualformer_nano", clip=(4, 32, 32)))
    assert measured.rounds == 2
    assert (one.p50, one.p95, one.runs, one.clips_per_second) == (0.5, 4.0, 3, 2.0)
    assert (two.p50, two.clips_per_second) == (0.125, 16.0)
    assert one.macs == two.macs == cost.macs and one.parameters == cost.parameters
    assert one.flops == 2 * cost.macs / 0.5 and two.flops == 2 * cost.macs * 2 / 0.125
    assert one.peak == 2e9 and two.peak == 6e9
    assert one.share == one.flops / 2e9
    assert one.memory is None and one.device == "cpu"


def test_threads_are_as_before_and_nothing_is_refused() -> None:
    before = torch.get_num_threads()
    measure([Setting(model="dualformer_nano", clip=(4, 32, 32), threads=before + 1)], rounds=1, memory=False)
    assert torch.get_num_threads() == before
    with pytest.raises(ValueError, match="nothing to measure"):
        measure([])


def test_what_is_timed_is_what_prediction_computes(weights: Path) -> None:
    setting = Setting(model=str(weights), clip=(4, 32, 32), batch=3)
    prepared = prepare_network(setting, device="cpu")
    assert prepared.views.shape == (3, 4, 32, 32, 3) and prepared.views.dtype == torch.uint8
    assert torch.equal(prepared.views[:2], random_views((4, 32, 32), 3)[:2])
    sizes: list[int] = []
    prepared.recognizer.model.register_forward_pre_hook(lambda network, inputs: sizes.append(len(inputs[0])))
    prepared.run()
    assert sizes == [3]
    own = Recognizer.load(weights, device="cpu").predict_views(prepared.views)
    np.testing.assert_allclose(prepared.recognizer.predict_views(prepared.views), own, atol=1e-6)
    network = prepared.recognizer.model
    tensors = {tensor.data_ptr(): tensor for tensor in [*network.parameters(), *network.buffers()]}
    assert prepared.weight_bytes == sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def test_an_exported_model_is_made_once_and_answers_as_its_weights(weights_of_one_stage: Path, tmp_path: Path) -> None:
    weights = weights_of_one_stage
    settings = [
        Setting(model=str(weights), clip=(6, 48, 48), batch=batch, backend="torch", threads=1) for batch in (1, 2)
    ]
    said: list[str] = []
    exports = make_exports([*settings, NANO], tmp_path, say=said.append)
    assert said == [f"exporting {weights} for torch in float32"]
    assert set(exports) == set(settings) and len(set(exports.values())) == 1
    prepared = prepare_network(settings[1], device="cpu", exported=exports[settings[1]])
    expected = Recognizer.load(weights, device="cpu").predict_views(prepared.views)
    np.testing.assert_allclose(prepared.recognizer.predict_views(prepared.views), expected, atol=1e-5)
    # An exported model that is named is taken as it is.
    [named], _ = benchmark_grid([str(exports[settings[0]])], backends=["eager"], dtypes=["bfloat16"])
    assert (named.clip, named.backend, named.dtype) == ((6, 48, 48), "torch", "float32")
    with pytest.raises(ValueError, match="takes views of 6x48x48 only, not of 4x32x32: leave `clip` out"):
        benchmark_grid([str(exports[settings[0]])], clips=[(4, 32, 32)])
    assert make_exports([named], tmp_path / "none", say=said.append) == {named: exports[settings[0]]}
    assert len(said) == 1


def test_a_program_for_executorch_is_made_for_each_batch(
    weights_of_one_stage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whose memory is planned for one; what makes it need not be installed here."""
    made: dict[Path, int] = {}
    monkeypatch.setattr(
        "dualformer.bench.exports.export_weights", lambda *given, batch, **settings: made.update({given[2]: batch})
    )
    for name in ("import_extra", "import_executorch"):
        monkeypatch.setattr(f"dualformer.export.export_weights.{name}", lambda *named: None)
    settings = [
        Setting(model=str(weights_of_one_stage), clip=(4, 32, 32), batch=batch, backend="executorch", threads=threads)
        for batch in (1, 3)
        for threads in (1, 2)
    ]
    exports = make_exports(settings, tmp_path, say=lambda line: None)
    assert [made[exports[setting]] for setting in settings] == [1, 1, 3, 3] and len(made) == 2


def test_no_exported_model_takes_oblong_views(weights: Path, tmp_path: Path) -> None:
    oblong = Setting(model=str(weights), clip=(4, 32, 48), backend="torch")
    with pytest.raises(ValueError, match="`backend=torch` takes square views only, not 32x48"):
        make_exports([oblong], tmp_path, say=lambda line: None)


def test_a_backend_that_is_not_installed_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def missing(*choice: object) -> None:
        raise WeightsError("`format=openvino`: OpenVINO is not installed (No module): pip install 'dualformer[export]'")

    monkeypatch.setattr("dualformer.bench.exports.check_supported", missing)
    setting = Setting(model="dualformer_nano", clip=(4, 32, 32), backend="openvino")
    with pytest.raises(BenchError, match=r"^`backend=openvino`: OpenVINO is not installed .*pip install"):
        make_exports([setting], tmp_path, say=lambda line: None)


def test_a_file_is_labelled_part_by_part(weights: Path, video: Path) -> None:
    setting = Setting(model=str(weights), clip=(4, 32, 32), threads=1)
    ready = {setting: prepare_network(setting, device="cpu", views="2x3")}
    [measured] = measure_file(ready, video, rounds=1)
    assert measured.setting == setting and measured.views == "2x3"
    assert min(measured.decode, measured.network, measured.whole) > 0
    assert measured.preprocess >= 0 and measured.p95 >= measured.whole and measured.runs >= 1
    other = Setting(model=str(weights), clip=(8, 32, 32))
    with pytest.raises(ValueError, match="reads files as 4x32x32: measure them with that `clip`"):
        measure_file({other: prepare_network(other, device="cpu")}, video, rounds=1)


def test_a_table_and_its_json(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = measure([NANO], rounds=1, memory=False).machine
    figures = Figures(
        setting=BF16, device="cpu", parameters=2_000_000, macs=1.5e9, runs=7, p50=0.0125, p95=1.25,
        clips_per_second=160.0, memory=12_345_678, flops=4.8e11, peak=9.6e11,
    )  # fmt: skip
    file = EndToEnd(setting=BF16, views="4x1", decode=0.01, preprocess=0.01, network=0.02, whole=0.05, p95=0.08, runs=3)
    measured = Measurement(
        machine=machine, keeps_freed=True, rounds=7, figures=(figures,), video="clip.mp4", files=(file,)
    )
    text = to_markdown(measured, command="dualformer bench dualformer_nano")
    lines = text.splitlines()
    assert lines[0] == f"Machine: {machine}, the allocator keeps freed memory."
    assert "`dualformer bench dualformer_nano`, on cpu, 7 rounds" in lines[1]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| dualf")]
    assert cells[0] == [
        *("dualformer_nano", "4×32×32", "2", "bfloat16", "eager", "1", "1.50", "12.5", "1250", "160", "12", "50%"),
    ]
    assert cells[1] == [
        *(
            "dualformer_nano",
            "2",
            "bfloat16",
            "eager",
            "1",
            "4x1",
            "10 (25%)",
            "10 (25%)",
            "20 (50%)",
            "50",
            "80",
            "20",
        ),
    ]
    assert "Matrix-multiply peak: 960 GFLOP/s in bfloat16 with 1 thread." in lines
    content = json.loads(json.dumps(measured.to_dict()))
    assert content["figures"][0]["share"] == 0.5
    assert content["figures"][0]["setting"]["clip"] == [4, 32, 32]
    assert content["files"][0]["whole"] == 0.05 and content["machine"]["torch"] == torch.__version__


def test_columns_are_even() -> None:
    assert markdown_table(["a", "long"], [["wide cell", "b"]]) == [
        "| a         | long |",
        "|-----------|------|",
        "| wide cell | b    |",
    ]
