"""Does a frozen encoder help where labels are few? Nano with a probe's scores and features, and with labels alone.

`python benchmarks/encoder_teacher.py FOLDER [VIDEOS [EPOCHS [SEEDS]]]`: renders VIDEOS videos of each of four motions
to train on (16 frames of 32 pixels) and 40 to test on, has a scripted encoder teach as `dualformer teach --encoder`
does, and trains the same network on the same clips in the same order with and without. The encoder locates what moves
and says where it is and how fast, with noise, so that a probe on it is right on about 95 % of the test videos; it
never saw a label. Prints accuracy on the test videos, mean and range over the seeds, as a Markdown table. Called
again, it goes on.
"""

import json
import statistics
import sys
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from dualformer.datasets.clip_datasets import EpochSampler, TrainingClips, ViewClips
from dualformer.datasets.media_tree import walk_media
from dualformer.datasets.rendered import Scene, write_dataset
from dualformer.datasets.samples import Sample
from dualformer.datasets.splits import Splits, open_splits
from dualformer.encoders.frozen_encoder import Encoder
from dualformer.encoders.teach_from_encoder import LABELLED, teach_from_encoder
from dualformer.files import write_json
from dualformer.model.network import DualFormer
from dualformer.model.presets import create_model
from dualformer.training.objective import make_objective
from dualformer.training.optimizer import parameter_groups, schedule
from dualformer.training.settings.optimizer_settings import OptimizerSettings
from dualformer.training.settings.train_config import TrainConfig
from dualformer.video.augmentation import Augmentation
from dualformer.video.preprocessing import Preprocessing
from dualformer.video.transforms import normalize

CLASSES = ("right", "left", "up", "down")
STUDENT, BATCH, LR, NOISE = "dualformer_nano_conv", 4, 1e-3, 1.0
TEST_VIDEOS, UNLABELLED = 40, 15
PRE = Preprocessing(frames=8, stride=2, resize=32, crop=32, mean=(128.0, 128.0, 128.0), std=(64.0, 64.0, 64.0))
WAYS = {
    "labels alone": (False, None),
    "and the probe's scores": (False, "clip"),
    "and scores and features": (False, "both"),
    "and videos without labels, that the probe scored": (True, "clip"),
}
"""Whether videos without labels are trained on, and what is learnt from the probe."""
SETTINGS = OptimizerSettings(backbone_lr=1.0, weight_decay=0.05)


class MotionEncoder(Encoder):
    """At each time, where the middle of what moves is and how fast it goes, through random waves, with noise that is
    the clip's own."""

    def __init__(self) -> None:
        super().__init__("scripted", digest=f"motion, noise {NOISE}", preprocessing=PRE, grid=(7, 1, 1), width=64)
        self._waves = torch.randn(4, 64, generator=torch.Generator().manual_seed(0))

    def place(self, device: torch.device) -> None:
        self._waves = self._waves.to(device)

    def __call__(self, clips: Tensor) -> Tensor:
        grey = clips.float().mean(dim=4)  # n T H W
        moving = (grey - grey.median(dim=1, keepdim=True).values).abs().clamp_min(12) - 12 + 1e-3
        at = torch.linspace(-1, 1, 32)
        total = moving.sum(dim=(2, 3))
        middle = (
            torch.stack([(moving.sum(dim=2) * at).sum(-1), (moving.sum(dim=3) * at).sum(-1)], -1) / total[..., None]
        )
        speed = 8 * middle.diff(dim=1)
        known = torch.cat([middle[:, 1:], speed], dim=-1)  # n 7 4
        noise = torch.stack(
            [torch.randn(7, 64, generator=torch.Generator().manual_seed(int(clip.long().sum()))) for clip in clips]
        )
        return (torch.sin(known @ self._waves) + NOISE * noise)[:, :, None, None]


def accuracy(model: DualFormer, splits: Splits) -> float:
    model.eval()
    right = total = 0
    with torch.inference_mode():
        for batch in DataLoader(ViewClips(splits.val, PRE), batch_size=16, generator=torch.Generator()):
            logits = model(normalize(batch["views"].flatten(0, 1), PRE))
            right += int((logits.argmax(dim=1) == batch["label"]).sum())
            total += len(logits)
    return right / total


def trained(splits: Splits, scores: Path, distill: str | None, *, steps: int, seed: int) -> float:
    """The accuracy of a network that was trained in a way."""
    taught = {"teacher_scores": str(scores), "distill": distill} if distill else {}
    config = TrainConfig(data="videos", seed=seed, label_smoothing=0.0, **taught)  # type: ignore[arg-type]
    model = create_model(STUDENT, clip=(8, 32, 32), num_classes=len(CLASSES), seed=seed, dropout=0.2, drop_path=0.0)
    objective = make_objective(config, False, model, PRE, classes=splits.train.classes).train()
    augmentation = Augmentation(flip=0.0, area=(0.6, 1.0))
    clips = objective.wrap_clips(
        TrainingClips(splits.train, PRE, seed=seed, augmentation=augmentation, cache_bytes=10**9)
    )
    optimizer = torch.optim.AdamW(parameter_groups(model, SETTINGS, lr=LR, extra=objective.extra))
    sampler = EpochSampler(len(splits.train), seed=seed)
    loader = DataLoader(clips, batch_size=BATCH, sampler=sampler, drop_last=True, generator=torch.Generator())
    torch.manual_seed(seed)
    step = 0
    while step < steps:
        for batch in loader:
            objective(batch).loss.backward()
            torch.nn.utils.clip_grad_norm_(objective.parameters(), 1.0)
            factor = schedule(step, steps=steps, warmup=steps // 12)
            for group in optimizer.param_groups:
                group["lr"] = group["peak_lr"] * factor
            optimizer.step()
            optimizer.zero_grad()
            step += 1
        sampler.at(step * BATCH // len(splits.train))
    return accuracy(model, splits)


def of_seed(folder: Path, seed: int, *, videos: int, epochs: int) -> dict[str, float]:
    """The accuracy of each way."""
    here = folder / f"seed-{seed}-of-{videos}-videos"
    scene = Scene(size=32, frames=16, classes=CLASSES)
    if not (here / "videos" / "val").is_dir():
        write_dataset(here / "videos", scene, clips_per_class={"train": videos, "val": TEST_VIDEOS}, seed=seed)
    if not (here / "more" / "more").is_dir():
        write_dataset(here / "more", scene, clips_per_class={"more": UNLABELLED}, seed=1000 + seed)
    splits = open_splits(here / "videos")
    more = [Sample(path=path, label=0) for path in walk_media(here / "more").files]
    taught = teach_from_encoder(
        MotionEncoder(), splits.train, splits.val, here / "scores", seed=seed, unlabelled=more
    ).figures
    print(f"seed {seed}: {taught.text}; {taught.unseen:.1%} of unseen training videos", flush=True)
    found: dict[str, float] = {}
    for name, (further, distill) in WAYS.items():
        path = here / f"{'more-' if further else ''}{distill or 'labels'}-{epochs}-epochs.json"
        if not path.is_file():
            data = open_splits(here / "scores" / LABELLED) if further else splits
            steps = epochs * (len(splits.train) // BATCH)
            write_json(path, trained(data, here / "scores", distill, steps=steps, seed=seed))
        found[name] = json.loads(path.read_text())
        print(f"seed {seed}, {name}: {found[name]:.1%}", flush=True)
    return found


def main(folder: Path, videos: int = 3, epochs: int = 60, seeds: int = 3) -> None:
    found = [of_seed(folder, seed, videos=videos, epochs=epochs) for seed in range(seeds)]
    print(f"| learnt from {videos * len(CLASSES)} videos | test accuracy |\n|---|---|")
    for name in WAYS:
        values = [each[name] for each in found]
        print(f"| {name} | {statistics.fmean(values):.1%} ({min(values):.1%} to {max(values):.1%}) |")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
