"""The paper's recipes for Kinetics (section 4.1, tables 2 and 5): clips of 32 frames, from ImageNet weights.

What holds for all of them: AdamW, the backbone at a tenth of the classifier's learning rate, warm-up for 2.5 epochs and
a cosine to 0, crops of 8 to 100 % of the frame, mirroring, 64 clips a step. Gradients are not clipped: the paper does
not speak of it, and the release does not.

The paper gives no hardware. The authors' repository says: all models on 8 A100 GPUs, Tiny on Kinetics-400 in about 31
hours, Base in about 3 days. Nothing here was run by this project; ``--dry-run`` measures how long your machine would
take.
"""

from __future__ import annotations

from typing import Any

from dualformer.training.recipes.recipe import Recipe

PAPER: dict[str, Any] = {
    "lr": 1e-3,
    "backbone_lr": 0.1,
    "weight_decay": 0.02,
    "clip_grad": 0.0,
    "batch_size": 64,
    "size": 224,
    "dropout": 0.5,
}
"""What all of the paper's recipes share."""

_KINETICS: dict[str, Any] = PAPER | {"epochs": 30, "warmup_epochs": 2.5, "frames": 32, "stride": 2, "flip": "on"}

_IMAGENET = (
    "ImageNet-1K weights of the same network, which were never published: train them on images (--frames 1), or say "
    "--from random, which is not what the paper did"
)
_TEACHER = "DualFormer-B trained on Kinetics-400 (kinetics400-base, or the released weights after `dualformer convert`)"
_TOKENS: dict[str, Any] = {"distill": "tokens", "distill_weight": 0.5, "teacher_topk": 5, "teacher_rest": "none"}


def kinetics400_tiny() -> Recipe:
    """DualFormer-T on Kinetics-400, without the paper's token labelling.

    Data: Kinetics-400, about 240,000 videos of 10 s to train on and 20,000 to validate on, 400 classes.
    Expected: 79.5 % top-1, 94.1 % top-5 (paper, table 2; there with token labelling on top, which is
        kinetics400-tiny-tokens; without it the paper gives no figure).
    Hardware: 8 A100 GPUs (authors' repository): --devices 8 --batch-size 8. On less, --accumulate keeps 64 clips a
        step: --batch-size 8 --accumulate 8.
    Time: about 31 hours there (authors' repository). Not run here.
    Command: dualformer train kinetics400-tiny --data kinetics400:K400 --from IMAGENET.safetensors
        dualformer evaluate runs/train/best.safetensors --data kinetics400:K400 --views 4x1
    The release: 3 epochs of warm-up; half precision; its groups made norms decay and let PEG learn at the head's rate.
    """
    return Recipe(
        data="Kinetics-400",
        expected="79.5 / 94.1 with tokens",
        views="4x1",
        needs={"from": _IMAGENET},
        settings=_KINETICS | {"model": "dualformer_tiny", "drop_path": 0.1},
    )


def kinetics400_small() -> Recipe:
    """DualFormer-S on Kinetics-400, without the paper's token labelling.

    Data: Kinetics-400, as in kinetics400-tiny.
    Expected: 80.6 % top-1, 94.9 % top-5 (paper, table 2; with token labelling, kinetics400-small-tokens).
    Hardware: 8 A100 GPUs (authors' repository): --devices 8 --batch-size 8.
    Time: nobody gives it; Tiny takes 31 hours there and Base 3 days. Not run here.
    Command: dualformer train kinetics400-small --data kinetics400:K400 --from IMAGENET.safetensors
        dualformer evaluate runs/train/best.safetensors --data kinetics400:K400 --views 4x1
    The release: 128 clips a step.
    """
    return Recipe(
        data="Kinetics-400",
        expected="80.6 / 94.9 with tokens",
        views="4x1",
        needs={"from": _IMAGENET},
        settings=_KINETICS | {"model": "dualformer_small", "drop_path": 0.2},
    )


def kinetics400_base() -> Recipe:
    """DualFormer-B on Kinetics-400.

    Data: Kinetics-400, as in kinetics400-tiny.
    Expected: 81.1 % top-1, 95.0 % top-5; from ImageNet-21K 82.9 % and 95.5 % (paper, table 2).
    Hardware: 8 A100 GPUs (authors' repository): --devices 8 --batch-size 8, with --grad-checkpointing if it does not
        fit.
    Time: about 3 days there (authors' repository). Not run here.
    Command: dualformer train kinetics400-base --data kinetics400:K400 --from IMAGENET.safetensors
        dualformer evaluate runs/train/best.safetensors --data kinetics400:K400 --views 4x1
    The release: 128 clips a step.
    """
    return Recipe(
        data="Kinetics-400",
        expected="81.1 / 95.0",
        views="4x1",
        needs={"from": _IMAGENET},
        settings=_KINETICS | {"model": "dualformer_base", "drop_path": 0.3, "weight_decay": 0.05},
    )


def kinetics600_base_in21k() -> Recipe:
    """DualFormer-B on Kinetics-600, from ImageNet-21K.

    Data: Kinetics-600, about 370,000 videos of 10 s to train on and 28,000 to validate on, 600 classes.
    Expected: 85.2 % top-1, 96.6 % top-5 (paper, table 2).
    Hardware: 8 A100 GPUs (authors' repository): --devices 8 --batch-size 8.
    Time: nobody gives it; by the number of videos one and a half times that of kinetics400-base. Not run here.
    Command: dualformer train kinetics600-base-in21k --data kinetics600:K600 --from IMAGENET21K.safetensors
        dualformer evaluate runs/train/best.safetensors --data kinetics600:K600 --views 4x1
    The release: learning rate 5e-4, 128 clips a step.
    """
    return Recipe(
        data="Kinetics-600",
        expected="85.2 / 96.6",
        views="4x1",
        needs={"from": _IMAGENET.replace("ImageNet-1K", "ImageNet-21K")},
        settings=_KINETICS | {"model": "dualformer_base", "drop_path": 0.3, "weight_decay": 0.05},
    )


def kinetics400_tiny_tokens() -> Recipe:
    """DualFormer-T on Kinetics-400 with token labels from DualFormer-B: the paper's.

    Data: Kinetics-400, as in kinetics400-tiny.
    Expected: 79.5 % top-1, 94.1 % top-5 (paper, table 2).
    Hardware: 8 A100 GPUs (authors' repository): --devices 8 --batch-size 8.
    Time: nobody gives it. The teacher's forward pass comes on top: 268 multiply-adds (10⁹) a clip, where Tiny's forward
        and backward pass are 180. `dualformer teach` stores its scores once instead (--teacher-scores). Not run here.
    Command: dualformer train kinetics400-tiny-tokens --data kinetics400:K400 --from IMAGENET.safetensors
            --teacher BASE-K400.safetensors
        dualformer evaluate runs/train/best.safetensors --data kinetics400:K400 --views 4x1
    The release: scores outside of the top 5 became zero before the softmax (--teacher-rest zero), the teacher was put
        back into training mode every epoch, and frames that lie half a clip apart were averaged where tokens were too
        many.
    """
    plain = kinetics400_tiny()
    return Recipe(
        data=plain.data,
        expected="79.5 / 94.1",
        views=plain.views,
        needs={**plain.needs, "teacher": _TEACHER},
        settings={**plain.settings, **_TOKENS},
    )


def kinetics400_small_tokens() -> Recipe:
    """DualFormer-S on Kinetics-400 with token labels from DualFormer-B: the paper's.

    Data: Kinetics-400, as in kinetics400-tiny.
    Expected: 80.6 % top-1, 94.9 % top-5 (paper, table 2).
    Hardware: 8 A100 GPUs (authors' repository): --devices 8 --batch-size 8.
    Time: nobody gives it. The teacher's forward pass comes on top: 268 multiply-adds (10⁹) a clip, where Small's
        forward and backward pass are 476. Not run here.
    Command: dualformer train kinetics400-small-tokens --data kinetics400:K400 --from IMAGENET.safetensors
            --teacher BASE-K400.safetensors
        dualformer evaluate runs/train/best.safetensors --data kinetics400:K400 --views 4x1
    The release: as for kinetics400-tiny-tokens, and 128 clips a step.
    """
    plain = kinetics400_small()
    return Recipe(
        data=plain.data,
        expected="80.6 / 94.9",
        views=plain.views,
        needs={**plain.needs, "teacher": _TEACHER},
        settings={**plain.settings, **_TOKENS},
    )
