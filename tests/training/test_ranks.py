"""Several processes (gloo, on a CPU) learn what one would, agree on everything, and start and stop together."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import made_runs
import pytest
import torch
from made_runs import CONFIG
from safetensors.torch import load_file

from dualformer.training.checkpoint import checkpoints
from dualformer.training.distributed import Processes, processes
from dualformer.training.reporter import SilentReporter, read_metrics
from dualformer.training.settings.train_config import TrainConfig
from dualformer.training.train import train
from dualformer.weights.safetensors_file import load_weights, save_weights
from small_runs import RecordingReporter

# Mixed batches, one clip that cannot be read, clipped gradients, an average: 6 batches an epoch, 24 steps.
EVERYTHING = {"mixup": 0.8, "broken": [5], "ema": 0.9}
ACCUMULATED = {"plain": True, "broken": [5], "ema": 0.9}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One process' runs with batches of 4, and those of two processes with batches of 2 each."""
    folder = tmp_path_factory.mktemp("runs")
    silent = SilentReporter()
    made_runs.run(folder / "one", batch_size=4, reporter=silent, **EVERYTHING)
    made_runs.run(folder / "half", batch_size=4, max_steps=10, reporter=silent, **EVERYTHING)
    made_runs.run(folder / "one-plain", batch_size=4, accumulate=2, reporter=silent, **ACCUMULATED)
    taught = {
        **EVERYTHING,
        "epochs": 1,
        "class_weights": [0.5, 1.0, 3.0],
        "teacher": str(folder / "teacher.safetensors"),
    }
    save_weights(taught["teacher"], made_runs.DualFormer(CONFIG, seed=1), made_runs.card(CONFIG))
    made_runs.run(folder / "one-taught", batch_size=4, reporter=silent, **taught)
    for clips in (1, 5):
        uneven = {**EVERYTHING, "epochs": 2, "val_clips": clips}
        made_runs.run(folder / f"one-uneven-{clips}", batch_size=4, reporter=silent, **uneven)
    made_runs.run(folder / "one-frozen", batch_size=4, epochs=1, freeze="backbone", reporter=silent)
    two = {
        "ddp": {"batch_size": 2, **EVERYTHING},
        "fsdp": {"batch_size": 2, "strategy": "fsdp", "max_steps": 10, "checkpointing": True, **EVERYTHING},
        "half": {"batch_size": 2, "strategy": "fsdp", "resume": True, **EVERYTHING},
        "accumulated": {"batch_size": 2, "accumulate": 2, **ACCUMULATED},
        "taught-ddp": {"batch_size": 2, **taught},
        "taught-fsdp": {"batch_size": 2, "strategy": "fsdp", **taught},
        "frozen": {"batch_size": 2, "epochs": 1, "freeze": "backbone"},
        "patience": {"batch_size": 2, "epochs": 12, "lr": 0.03, "patience": 2, "select": "best"},
        "bad": {"batch_size": 2, "epochs": 1, "broken_val": [3]},
        "bad-fsdp": {"batch_size": 2, "epochs": 1, "strategy": "fsdp", "broken_val": [3]},
        "uneven-5": {"batch_size": 2, "strategy": "fsdp", "val_clips": 5, **EVERYTHING, "epochs": 2},
        "uneven-1": {"batch_size": 2, "strategy": "fsdp", "val_clips": 1, **EVERYTHING, "epochs": 2},
    }
    script = Path(made_runs.__file__)
    done = subprocess.run(
        [sys.executable, script, folder, json.dumps(two)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    (folder / "said.txt").write_text(done.stdout)
    made_runs.run(folder / "fsdp", batch_size=4, resume=True, reporter=silent, **EVERYTHING)
    return folder


def environment() -> dict[str, str]:
    """Without what a process that was started by others has in it."""
    started = ("LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    return {name: value for name, value in os.environ.items() if name not in started} | {"OMP_NUM_THREADS": "1"}


def losses(path: Path) -> list[float]:
    return [step["loss"] for step in json.loads(path.read_text())]


def assert_equal_runs(folder: Path, one: str, other: str, *, most: float = 1e-5) -> None:
    """Loss curves, and weights to ``most``. The bias before BatchNorm has no gradient but rounding errors, which Adam
    enlarges; BatchNorm takes the same off again."""
    a, b = losses(folder / f"{one}.json"), losses(folder / f"{other}.json")
    assert len(a) == len(b)
    assert a == pytest.approx(b, abs=1e-5)
    for file in ("last", "ema"):
        x, y = (load_file(folder / run / f"{file}.safetensors") for run in (one, other))
        assert x.keys() == y.keys()
        for name in x:
            without_gradient = name.endswith(("1.space.bias", "1.norm.running_mean"))
            assert (x[name].float() - y[name].float()).abs().max() < (5e-5 if without_gradient else most), name
    epochs = [read_metrics(folder / run) for run in (one, other)]
    for before, after in zip(*epochs, strict=True):
        figures = [key for key in before if key not in ("seconds", "clips_per_second")]
        assert [before[key] for key in figures] == pytest.approx([after[key] for key in figures], abs=1e-5)


def test_two_processes_with_ddp_equal_one_with_twice_the_batch(runs: Path):
    assert len(losses(runs / "one.json")) == 24
    curve = [epoch["train_loss"] for epoch in read_metrics(runs / "one")]
    assert curve[-1] < curve[0] - 0.1
    assert_equal_runs(runs, "one", "ddp")
    assert [epoch["left_out"] for epoch in read_metrics(runs / "ddp")] == [1, 1, 0, 1]
    (found,) = checkpoints(runs / "ddp")[:1]
    assert found.name == "step-0000024.pt"


def test_shares_of_two_processes_go_on_in_one(runs: Path):
    names = [path.name for path in checkpoints(runs / "fsdp")]
    assert names == ["step-0000024.pt", "step-0000018.pt"]
    assert_equal_runs(runs, "one", "fsdp")


def test_a_checkpoint_of_one_process_goes_on_in_shares_of_two(runs: Path):
    newest, before = checkpoints(runs / "half")
    assert newest.is_dir() and before.is_dir()
    assert sum(path.suffix == ".distcp" for path in newest.iterdir()) == 2
    assert_equal_runs(runs, "one", "half")
    _, card = load_weights(runs / "half" / "best.safetensors")
    assert card.config == CONFIG


@pytest.mark.parametrize(("clips", "passes"), [(5, 2), (1, 1)])
def test_shares_are_validated_as_they_are(runs: Path, clips: int, passes: int):
    """Of 5 clips one process has two batches and the other one, of 1 clip one has none: figures are those of one
    process, and none ever has the whole network, but the first to save it."""
    assert_equal_runs(runs, f"one-uneven-{clips}", f"uneven-{clips}")
    epochs = read_metrics(runs / f"uneven-{clips}")
    assert all("ema_loss" in epoch and epoch["ema_loss"] != epoch["val_loss"] for epoch in epochs)
    parameters = list(made_runs.DualFormer(CONFIG, seed=0).parameters())
    numbers, largest = sum(map(torch.Tensor.numel, parameters)), max(map(torch.Tensor.numel, parameters))
    first, second = (json.loads((runs / f"uneven-{clips}-whole-{rank}.json").read_text()) for rank in (0, 1))
    # Two epochs, by both weights, through a convolutional half block, and two blocks of two halves each.
    assert first["passes"] == second["passes"] == 2 * 2 * passes * 5
    assert 0 < first["computing"] < numbers / 2 and 0 < second["computing"] < numbers / 2
    assert first["gathered"] >= numbers
    assert 0 < second["gathered"] <= 2 * largest


def test_accumulated_over_batches_and_processes(runs: Path):
    assert len(losses(runs / "one-plain.json")) == 12
    assert_equal_runs(runs, "one-plain", "accumulated")


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_class_weights_and_a_teacher_in_two_processes(runs: Path, strategy: str):
    """Batches of different weight on each process; the teacher's second head is trained beside the network."""
    assert len(losses(runs / "one-taught.json")) == 6
    assert {"loss_clip", "loss_tokens", "loss_teacher"} <= read_metrics(runs / "one-taught")[0].keys()
    # One weight of a convolution before BatchNorm has hardly any gradient, and Adam enlarges its rounding errors.
    assert_equal_runs(runs, "one-taught", f"taught-{strategy}", most=2e-4)


def test_a_frozen_backbone_in_two_processes(runs: Path):
    one, two = (load_file(runs / name / "last.safetensors") for name in ("one-frozen", "frozen"))
    assert (one["head.weight"] - two["head.weight"]).abs().max() < 1e-6
    started = made_runs.DualFormer(CONFIG, seed=0).state_dict()
    assert {name for name in two if not two[name].equal(started[name])} == {"head.weight", "head.bias"}


def test_processes_stop_early_together(runs: Path):
    epochs = read_metrics(runs / "patience")
    ranks = [(epoch["val_top1"], -epoch["val_loss"]) for epoch in epochs]
    assert len(epochs) < 12 and "stopped" in epochs[-1]
    assert ranks.index(max(ranks)) == len(epochs) - 3
    assert (runs / "said.txt").read_text().count(f"stopped after epoch {len(epochs)} of 12: validation has not") == 1


def test_what_one_process_cannot_read_is_said_once_and_stops_all(runs: Path):
    said = (runs / "said.txt").read_text()
    assert said.count("left out, as it cannot be read: clip-5.mp4: it is noise") == 8  # one of each run
    errors = [(runs / f"bad-rank-{rank}.txt").read_text() for rank in (0, 1)]
    assert errors[0] == errors[1]
    assert errors[0].startswith("clip-3.mp4: it is noise; find all such files with `dualformer check`")
    assert errors == [(runs / f"bad-fsdp-rank-{rank}.txt").read_text() for rank in (0, 1)]


def command(settings: TrainConfig, *extra: str) -> list[str]:
    return [
        *("train", "--data", settings.data, "--out", settings.out, "--frames", "4", "--size", "32", "--flip", "off"),
        *("--workers", "0", "--precision", "float32", "--from", "random", "--lr", "0.001", *extra),
    ]


def test_a_signal_to_one_process_stops_both_and_one_goes_on(settings: TrainConfig):
    run = subprocess.Popen(
        [
            *(sys.executable, "-m", "dualformer"),
            *command(settings, "--epochs", "300", "--devices", "2", "--batch-size", "2", "--scale-lr", "linear"),
        ],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert run.stdout is not None
    lines: list[str] = []
    for line in run.stdout:
        lines.append(line)
        if line.startswith("epoch 1/300"):
            (other,) = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
            os.kill(int(other), signal.SIGTERM)
            break
    lines += run.stdout.readlines()
    assert run.wait(timeout=60) == 130, lines
    assert sum("stopped by SIGTERM; saved at step" in line for line in lines) == 1, lines
    assert sum(line.startswith("go on with: dualformer train --resume") for line in lines) == 1
    assert any("computing on cpu, 2 processes (DDP) in float32" in line for line in lines)
    assert any("steps of 4 clips" in line and "learning rate 6.25e-05 (0.001 × 4/64)" in line for line in lines)
    step = int(checkpoints(Path(settings.out))[0].name[5:12])
    reporter = RecordingReporter()
    train(TrainConfig(out=settings.out, resume=True, devices=1, max_steps=step + 2), reporter=reporter)
    assert any("saved by 2 and resumed by 1 process:" in line for line in reporter.lines)
    assert any("steps of 4 clips" in line for line in reporter.lines)
    with pytest.raises(
        ValueError, match="its batches of 4 clips cannot be dealt evenly to the 3 processes of `devices`"
    ):
        train(TrainConfig(out=settings.out, resume=True, devices=3))


def test_torchrun_starts_shares_and_the_first_prints(settings: TrainConfig):
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "dualformer"]
    options = ("--epochs", "1", "--batch-size", "2", "--strategy", "fsdp", "--json")
    done = subprocess.run(
        [*start, *command(settings, *options)], env=environment(), capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("computing on cpu, 2 processes (weights cut into shares) in float32") == 1
    assert json.loads(done.stdout)["epochs"] == 1
    assert [path.name for path in checkpoints(Path(settings.out))] == ["step-0000003", "step-0000000"]


def test_who_starts_processes_is_found_out(monkeypatch: pytest.MonkeyPatch):
    for name in ("LOCAL_RANK", "WORLD_SIZE", "SLURM_NTASKS"):
        monkeypatch.delenv(name, raising=False)
    assert processes(None, None, accelerator="cpu") == Processes(1, 1)
    assert processes(3, 2, accelerator="cpu") == Processes(3, 2)
    assert processes("all", None, accelerator="cpu") == Processes(1, 1)
    with monkeypatch.context() as torchrun:
        for name, value in {"TORCHELASTIC_RUN_ID": "1", "LOCAL_WORLD_SIZE": "2", "WORLD_SIZE": "4"}.items():
            torchrun.setenv(name, value)
        assert processes(None, None, accelerator="cpu") == Processes(2, 2)
        with pytest.raises(ValueError, match="ask for 4 processes on each of 2 machines, and 2 processes on each of 2"):
            processes(4, None, accelerator="cpu")
    with monkeypatch.context() as slurm:
        for name, value in {"NTASKS": "8", "NTASKS_PER_NODE": "4", "NNODES": "2", "JOB_NAME": "run"}.items():
            slurm.setenv(f"SLURM_{name}", value)
        assert processes(None, None, accelerator="cpu") == Processes(4, 2)
        with pytest.raises(ValueError, match="ask for 2 processes, and 4 processes on each of 2 machines were started"):
            processes(2, 1, accelerator="cpu")
        slurm.delenv("SLURM_NTASKS_PER_NODE")
        with pytest.raises(ValueError, match="say --ntasks-per-node=4 instead"):
            processes(None, None, accelerator="cpu")
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert processes(None, None, accelerator="cpu") == Processes(2, 1)
