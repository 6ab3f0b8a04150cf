"""Checkpoints: what is in them, how many there are, and what becomes of a run that is stopped, killed or robbed."""

import json
import resource
import runpy
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import made_runs
import pytest
import torch
from made_runs import Noise
from safetensors.torch import load_file
from torch import Tensor

from dualformer.errors import DualFormerError
from dualformer.training.checkpoint import CHECKPOINTS, TrainingState, checkpoints
from dualformer.training.reporter import Reporter, SilentReporter, read_metrics
from dualformer.training.settings.train_config import TrainConfig
from dualformer.training.signals import TrainingInterrupted
from dualformer.training.train import train
from dualformer.weights.safetensors_file import read_card
from forked_verbs import ForkedVerb
from small_runs import RecordingReporter

ALL = {"batch_size": 4, "epochs": 3, "ema": 0.9, "mixup": 0.8, "accumulate": 2}
"""Three steps an epoch."""


def run(out: Path, reporter: Reporter | None = None, **changes: Any) -> None:
    made_runs.run(out, reporter=reporter or SilentReporter(), **(ALL | changes))


def assert_same(one: Path, other: Path, *names: str) -> None:
    for name in names or ("last", "best", "ema"):
        a, b = (load_file(out / f"{name}.safetensors") for out in (one, other))
        assert a.keys() == b.keys()
        assert all(torch.equal(a[key], b[key]) for key in a), name


def figures(out: Path) -> list[dict[str, Any]]:
    return [
        {key: value for key, value in epoch.items() if key not in ("seconds", "clips_per_second")}
        for epoch in read_metrics(out)
    ]


def losses(out: Path) -> list[float]:
    return [step["loss"] for step in json.loads(out.with_name(f"{out.name}.json").read_text())]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "run"
    run(out)
    return out


@pytest.mark.parametrize("steps", [1, 3, 5, 8])
def test_stopped_after_any_step_it_goes_on_to_the_same_bits(whole: Path, tmp_path: Path, steps: int):
    run(tmp_path / "run", max_steps=steps)
    assert checkpoints(tmp_path / "run")[0].name == f"step-{steps:07d}.pt"
    run(tmp_path / "run", resume=True)
    assert_same(whole, tmp_path / "run")
    assert figures(whole) == figures(tmp_path / "run")
    assert losses(whole) == losses(tmp_path / "run")


@pytest.mark.parametrize("accumulate", [3, 4, 5])  # of six batches an epoch none, two or one are left over
def test_stopped_in_the_last_step_of_an_epoch_it_goes_on_with_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, accumulate: int
):
    run(tmp_path / "whole", accumulate=accumulate)
    last, on_step = 6 // accumulate, made_runs.Losses.on_step

    def interrupt(watcher: made_runs.Losses, step: int, values: Mapping[str, float]) -> None:
        on_step(watcher, step, values)
        if step == last:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch, pytest.raises(TrainingInterrupted):
        patch.setattr(made_runs.Losses, "on_step", interrupt)
        run(tmp_path / "run", accumulate=accumulate)
    run(tmp_path / "run", accumulate=accumulate, resume=True)
    assert_same(tmp_path / "whole", tmp_path / "run")
    assert figures(tmp_path / "whole") == figures(tmp_path / "run")
    assert losses(tmp_path / "whole") == losses(tmp_path / "run")


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_the_steps_of_a_resumed_optimizer_lie_where_its_parameters_do(device: str):
    """AdamW's fused step wants them on their device, as it makes them."""
    layer = torch.nn.Linear(2, 2, device=device)
    state = TrainingState(objective=layer, optimizer=torch.optim.AdamW(layer.parameters()))
    state.allocate(
        {f"optimizer/{name}/{key}" for name in ("weight", "bias") for key in ("step", "exp_avg", "exp_avg_sq")}
    )
    assert {name: tensor.device.type for name, tensor in state.tensors().items()} == dict.fromkeys(
        state.tensors(), device
    )
    assert {tensor.dtype for tensor in state.tensors().values()} == {torch.float32}


def test_resumed_with_other_workers_real_videos_and_dropout_give_the_same_bits(settings: TrainConfig, tmp_path: Path):
    """With clips cut at random, dropout and stochastic depth."""
    settings = settings.replace(mixup=0.8, ema=0.9)
    train(settings, reporter=SilentReporter())
    stopped = settings.replace(out=str(tmp_path / "stopped"), workers=2)
    train(stopped.replace(max_steps=1), reporter=SilentReporter())
    train(stopped.replace(resume=True, max_steps=4, workers=0), reporter=SilentReporter())
    train(stopped.replace(resume=True, workers=1), reporter=SilentReporter())
    assert_same(Path(settings.out), tmp_path / "stopped")
    assert figures(Path(settings.out)) == figures(tmp_path / "stopped")


@pytest.mark.slow
def test_killed_four_times_it_ends_in_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    script = Path(__file__).resolve().parents[2] / "benchmarks" / "kill_and_resume.py"
    kill_and_resume = runpy.run_path(str(script))["main"]
    monkeypatch.setitem(kill_and_resume.__globals__, "start", ForkedVerb)
    monkeypatch.setattr("sys.argv", [script.name, "--kills", "4", "--folder", str(tmp_path)])
    code, said = kill_and_resume(), capsys.readouterr().out
    assert code == 0, said
    assert "after 4 kills the weights (last.safetensors, best.safetensors, ema.safetensors)" in said
    assert "the same to the last bit" in said


def test_the_newest_are_kept(tmp_path: Path):
    run(tmp_path / "run", save_minutes=1e-9, keep=3)
    assert [path.name for path in checkpoints(tmp_path / "run")] == [f"step-{step:07d}.pt" for step in (9, 8, 7)]


def test_a_damaged_checkpoint_is_skipped_and_named(whole: Path, tmp_path: Path):
    run(tmp_path / "run", max_steps=5, save_minutes=1e-9)
    newest, before = checkpoints(tmp_path / "run")
    newest.write_bytes(newest.read_bytes()[:1000])
    lines = RecordingReporter()
    run(tmp_path / "run", lines, resume=True)
    said = [line for line in lines.lines if "not a readable checkpoint" in line]
    assert len(said) == 1
    assert said[0].startswith(f"{newest}: not a readable checkpoint (")
    assert said[0].endswith("; going on from the one before")
    assert before.name == "step-0000004.pt"
    assert_same(whole, tmp_path / "run")
    for path in checkpoints(tmp_path / "run"):
        path.write_bytes(b"no checkpoint")
    with pytest.raises(
        DualFormerError, match=r"step-0000009\.pt: not a readable checkpoint \(.*\); start anew elsewhere"
    ):
        run(tmp_path / "run", resume=True)


def test_a_run_without_a_checkpoint_begins(settings: TrainConfig, tmp_path: Path):
    """As one does that was killed between its config and its first checkpoint."""
    settings = settings.replace(epochs=1)
    train(settings, reporter=SilentReporter())
    young = tmp_path / "young"
    young.mkdir()
    shutil.copy(Path(settings.out) / "config.json", young)
    lines = RecordingReporter()
    train(TrainConfig(out=str(young), resume=True), reporter=lines)
    assert f"{young} has no checkpoint yet: the run begins" in lines.lines
    assert_same(Path(settings.out), young, "last")


def test_a_run_that_has_come_nowhere_may_be_started_anew(settings: TrainConfig):
    with pytest.raises(DualFormerError, match=r"became \S+ in step 2, .* \(step-0000000\.pt is from before\)"):
        train(settings.replace(lr=1e30, clip_grad=0.0), reporter=SilentReporter())
    train(settings.replace(max_steps=1), reporter=SilentReporter())
    with pytest.raises(ValueError, match="already holds a run"):
        train(settings, reporter=SilentReporter())


def test_half_written_files_of_a_killed_run_are_removed(tmp_path: Path):
    run(tmp_path / "run", max_steps=2)
    left = [
        tmp_path / "run" / ".last.safetensors.1a2b3c4d.tmp",
        tmp_path / "run" / CHECKPOINTS / ".step-0000003.pt.00.tmp",
    ]
    for path in left:
        path.write_bytes(b"half")
    (tmp_path / "run" / "mine.tmp").write_bytes(b"not of the run")
    run(tmp_path / "run", resume=True, max_steps=3)
    assert not any(path.exists() for path in left)
    assert (tmp_path / "run" / "mine.tmp").exists()


def test_a_full_disk_loses_nothing_and_the_run_goes_on_later(whole: Path, tmp_path: Path):
    out = tmp_path / "run"
    run(out, max_steps=3)
    before = {path: path.read_bytes() for path in checkpoints(out)}
    size = max(map(len, before.values()))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, limits[1]))
        with pytest.raises(DualFormerError, match="could not be written") as caught:
            run(out, resume=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert "\n" not in str(caught.value)
    assert {path: path.read_bytes() for path in checkpoints(out)} == before
    assert not list(out.glob("**/.*.tmp"))
    run(out, resume=True)
    assert_same(whole, out)


def test_a_deleted_folder_is_made_anew_and_the_run_goes_on(settings: TrainConfig, tmp_path: Path):
    settings = settings.replace(epochs=4, ema=0.9)
    train(settings, reporter=SilentReporter())
    out = tmp_path / "robbed"
    lines = RecordingReporter({"epoch 2": lambda: shutil.rmtree(out)})
    result = train(settings.replace(out=str(out)), reporter=lines)
    said = [line for line in lines.lines if "was deleted or moved" in line]
    assert said == [
        f"{out} was deleted or moved: the run goes on in a new one; what was the best epoch's is in the old"
    ]
    assert_same(Path(settings.out), out, "last", "ema")
    assert figures(out) == figures(Path(settings.out))
    assert TrainConfig.load(out / "config.json") == TrainConfig.load(Path(settings.out) / "config.json").replace(
        out=str(out)
    )
    assert (out / "split.csv").is_file()
    assert result.best_epoch in (3, 4) and read_card(result.weights).metrics["epoch"] == result.best_epoch
    assert [path.name for path in checkpoints(out)] == ["step-0000012.pt", "step-0000009.pt"]


def test_other_settings_are_refused_by_name(tmp_path: Path):
    run(tmp_path / "run", max_steps=1)
    for name, value in {"ema": 0.8, "lr": 0.1, "weight_decay": 0.5, "freeze_stages": 1, "batch_size": 2}.items():
        with pytest.raises(DualFormerError, match=f"started with another .*{name}"):
            run(tmp_path / "run", resume=True, **{name: value})


class Poisoned(Noise):
    """From some clip on, a value that comes with the clips is no number."""

    def __getitem__(self, key: int | tuple[int, int]) -> dict[str, Tensor]:
        item = super().__getitem__(key)
        epoch, number = key if isinstance(key, tuple) else (0, key)
        return item | {"target": torch.full((3,), float("nan" if (epoch, number) == (1, 5) else 1 / 3))}


def test_data_that_is_no_number_is_named_and_the_checkpoint_is_from_before(tmp_path: Path):
    with pytest.raises(DualFormerError) as caught:
        run(tmp_path / "run", clips=Poisoned(26), mixup=0.0)
    message = str(caught.value)
    assert f"{tmp_path / 'run'}: the loss became nan in step" in message
    assert ", epoch 2, batch " in message and "clip-5.mp4" in message
    assert (
        "; the data's 'target' holds values that are no numbers: look at them (step-0000003.pt is from before)"
        in message
    )
    (newest, _) = checkpoints(tmp_path / "run")
    tensors = torch.load(newest, weights_only=True)["tensors"]
    assert all(tensor.isfinite().all() for tensor in tensors.values())


def test_a_gradient_that_is_no_number_stops_before_the_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    model = made_runs.DualFormer(made_runs.CONFIG, seed=0)
    model.head.bias.register_hook(lambda grad: grad * float("inf"))  # pyright: ignore
    with pytest.raises(DualFormerError, match=r"gradient's norm became (nan|inf) in step 1, epoch 1, batch 2 \(clip-"):
        run(tmp_path / "run", model=model)
    assert all(parameter.isfinite().all() for parameter in model.parameters())


def test_starting_weights_that_are_no_numbers_stop_before_the_first_step(settings: TrainConfig, tmp_path: Path):
    from dualformer.weights.safetensors_file import load_weights, save_weights

    train(settings.replace(max_steps=1), reporter=SilentReporter())
    model, card = load_weights(Path(settings.out) / "last.safetensors")
    with torch.no_grad():
        model.norm.weight.fill_(float("nan"))
    save_weights(tmp_path / "nan.safetensors", model, card)
    with pytest.raises(
        DualFormerError, match=r"nan\.safetensors: it holds values that are no numbers \(in norm\.weight\)"
    ):
        train(
            settings.replace(out=settings.out + "2", start=str(tmp_path / "nan.safetensors")), reporter=SilentReporter()
        )
    assert not Path(settings.out + "2").exists()
