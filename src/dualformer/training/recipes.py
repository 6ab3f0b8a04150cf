"""Recipes: settings of runs whose results the paper or this project states, with text on data, hardware and time.

The paper's (section 4.1, tables 2, 3 and 5) share AdamW, the backbone at a tenth of the classifier's learning rate, a
twelfth or so of warm-up and a cosine to 0, crops of 8 to 100 % of the frame, and 64 clips a step. Gradients are not
clipped: the paper does not speak of it, and the release does not. The smaller data sets start from weights trained on
Kinetics-400; the released weights were trained with another normalisation (mean 104, 117, 128, standard deviation 1),
here it is that of the starting weights.

The paper gives no hardware. The authors' repository says: all models on 8 A100 GPUs, Tiny on Kinetics-400 in about 31
hours, Base in about 3 days. Hours for the smaller data sets are reckoned from that, by multiply-adds and clips, and
rounded. The project itself has run rendered-nano alone; `dry_run` measures how long a machine would take.
"""

import dataclasses
import textwrap
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from dualformer.training.settings.data_settings import RENDERED
from dualformer.training.settings.network_settings import RANDOM
from dualformer.training.settings.settings_file import read_settings
from dualformer.training.settings.train_config import TrainConfig

HEADINGS = ("Data", "Expected", "Hardware", "Time", "Command")
"""What every recipe's text tells."""
MODERN = "-modern"
"""End of the name of a paper's recipe with what has become usual for video transformers since."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Settings of a run, what they are for, and what is to be expected of them."""

    name: str
    text: str
    """A line on what it is, and a paragraph for each of `HEADINGS`."""
    data: str
    """The data set, in a few words."""
    expected: str
    """Top-1, or top-1 / top-5, in percent; a dash where nobody has measured it."""
    views: str
    """Test views, clips x crops."""
    needs: Mapping[str, str]
    """Settings that only the user can give, and what they have to name, in words."""
    settings: Mapping[str, Any]
    """Fields of `TrainConfig`; what is not there has its default."""

    @property
    def batch(self) -> int:
        """Clips of an optimizer step, over all devices."""
        return self.settings["batch_size"] * self.settings.get("accumulate", TrainConfig.accumulate)

    def check_given(self, given: Collection[str]) -> None:
        """Raises ``ValueError`` where no setting in ``given`` begins with the name of one that the recipe needs."""
        for setting, words in self.needs.items():
            if not any(name.startswith(setting) for name in given):
                raise ValueError(f"the recipe {self.name} needs `{setting}`: {words}")

    def settings_from(self, start: str | None) -> dict[str, Any]:
        """The settings for these starting weights: a slow backbone is for one that has learnt something before."""
        return {**self.settings, **({"backbone_lr": None} if start == RANDOM else {})}

    def config(self, **changes: Any) -> TrainConfig:
        """A run by this recipe. ``changes`` must name the data, where the recipe does not."""
        return TrainConfig(**(self.settings_from(changes.get("start")) | changes))

    def note_on_batch(self, clips: int) -> str | None:
        """A line about a run whose steps take another number of ``clips``, None where they take as many as here."""
        if clips == self.batch:
            return None
        remedy = "change `batch_size`, `accumulate` or `devices`"
        if clips < self.batch and self.batch % clips == 0:
            remedy = f"`accumulate`, times {self.batch // clips}, makes up for it"
        return (
            f"the recipe {self.name} takes {self.batch} clips a step, this run {clips}, at the learning rate for "
            f"{self.batch}: {remedy}"
        )


def recipes() -> list[Recipe]:
    """All of them: the paper's, each followed by its modern variant, those with token labels, and the project's own."""
    return [each for recipe in PAPER for each in (recipe, modern(recipe))] + list(OTHERS)


def find_recipe(name_or_file: str) -> Recipe | dict[str, Any]:
    """Returns the recipe of this name, or the settings in a JSON file.

    Errors: ``ValueError`` for a name that there is not (those that there are, are listed); else as `read_settings`.
    """
    known = {recipe.name: recipe for recipe in recipes()}
    if recipe := known.get(name_or_file):
        return recipe
    path = Path(name_or_file)
    if path.suffix == ".json" or path.is_file():
        return read_settings(path)
    near = get_close_matches(name_or_file, known, n=3)
    guess = f"; did you mean {' or '.join(near)}?" if near else ";"
    listed = ", ".join(name for name in known if not name.endswith(MODERN))
    raise ValueError(
        f"there is no recipe {name_or_file!r}{guess} there are {listed}, and most with {MODERN} behind; or name "
        "a JSON file of settings"
    )


def modern(paper: Recipe) -> Recipe:
    """The paper's recipe with what has become usual since."""
    text = {
        "Data": f"{paper.data}, as in {paper.name}.",
        "Expected": f"nobody has measured it. The paper's recipe: {paper.expected} (%). Strong augmentation pays in "
        "long runs: try two or three times the epochs as well.",
        "Hardware": f"as for {paper.name}.",
        "Time": f"as for {paper.name}; changing the pixels takes a third more of the loaders' time "
        "(docs/experiments.md). Not run here.",
        "Command": f"that of {paper.name}, with {paper.name}{MODERN} in its place",
    }
    title = (
        f"The recipe {paper.name} with RandAugment, erasing, mixup and CutMix, label smoothing, averaged weights, "
        "layer-wise decay."
    )
    return dataclasses.replace(
        paper,
        name=paper.name + MODERN,
        expected="–",
        settings={
            **paper.settings,
            "randaugment": "7x4x0.5",
            "erasing": 0.25,
            "mixup": 0.8,
            "cutmix": 1.0,
            "label_smoothing": 0.1,
            "layer_decay": 0.8,
            # The mean over Tiny's ten depths is 0.45, over the thirteen of Small and Base 0.36: blocks learn at a rate
            # around the paper's tenth on average, the last ones faster and the first ones more slowly.
            "backbone_lr": 0.2,
            **_default("clip_grad"),
            # For the 110,000 steps of Kinetics, and for the 900 to 3,800 of the small sets.
            "ema": 0.9999 if paper.settings["epochs"] > 16 else 0.995,
        },
        text=_text(title, text),
    )


def _text(title: str, paragraphs: Mapping[str, str]) -> str:
    """The title, a blank line, and each paragraph behind its heading, its lines indented from the second on."""
    lines = [
        textwrap.fill(line, 116, initial_indent="    " * (number > 0), subsequent_indent="    ", break_on_hyphens=False)
        for heading, paragraph in paragraphs.items()
        for number, line in enumerate(f"{heading}: {paragraph}".splitlines())
    ]
    return "\n".join([textwrap.fill(title, 116, subsequent_indent="    ", break_on_hyphens=False), "", *lines])


def _default(*names: str) -> dict[str, Any]:
    """Settings that a recipe states though they are the default."""
    return {name: getattr(TrainConfig, name) for name in names}


_SIZES: dict[str, dict[str, Any]] = {
    "tiny": {"model": "dualformer_tiny", **_default("drop_path", "weight_decay")},
    "small": {"model": "dualformer_small", "drop_path": 0.2, **_default("weight_decay")},
    "base": {"model": "dualformer_base", "drop_path": 0.3, "weight_decay": 0.05},
}
_SHARED: dict[str, Any] = {
    "lr": 1e-3,
    "backbone_lr": 0.1,
    "clip_grad": 0.0,
    "batch_size": 64,
    "size": 224,
    **_default("dropout"),
}
_TOKENS = _default("distill", "distill_weight", "teacher_topk", "teacher_rest")
_IMAGENET = (
    "ImageNet-1K weights of the same network, which were never published: train them on images (`frames=1`), or say "
    "`start=random`, which is not what the paper did"
)
_TEACHER = "DualFormer-B trained on Kinetics-400 (kinetics400-base, or the released weights after `dualformer convert`)"
_A100 = "8 A100 GPUs (authors' repository)"
_EIGHT = f"{_A100}: `devices=8` `batch_size=8`"
_AS_TINY = "Kinetics-400, as in kinetics400-tiny."
_MACS = "nobody gives it. The teacher's forward pass comes on top: 268 multiply-adds (10⁹) a clip, where"


def _paper(
    name: str,
    title: str,
    expected: str,
    *,
    source: tuple[str, str],
    weights: Mapping[str, str],
    views: str,
    needs: Mapping[str, str],
    settings: Mapping[str, Any],
    text: tuple[str, ...],
) -> Recipe:
    """``source`` is the data set's name and ``data`` in commands, ``weights`` the files named there, ``text`` all
    paragraphs but the command."""
    given = "\n    ".join(f"--{option} {file}.safetensors" for option, file in weights.items())
    command = (
        f"dualformer train {name} --data {source[1]} {given}\n"
        f"dualformer evaluate runs/train/best.safetensors --data {source[1]} --views {views}"
    )
    told = _text(title, dict(zip((*HEADINGS, "The release"), (*text[:4], command, text[4]), strict=True)))
    settings = {**_SHARED, **_SIZES[name.split("-")[1]], **settings}
    return Recipe(name=name, text=told, data=source[0], expected=expected, views=views, needs=needs, settings=settings)


def _kinetics(
    name: str, title: str, expected: str, *, data: str, result: str, hardware: str = _EIGHT, time: str, release: str
) -> Recipe:
    taught, classes = name.endswith("-tokens"), "600" if "600" in name else "400"
    images = ("IMAGENET21K", _IMAGENET.replace("1K", "21K")) if name.endswith("in21k") else ("IMAGENET", _IMAGENET)
    return _paper(
        name,
        title,
        expected,
        source=(f"Kinetics-{classes}", f"kinetics{classes}:K{classes}"),
        weights={"from": images[0], **({"teacher": "BASE-K400"} if taught else {})},
        views="4x1",
        needs={"start": images[1], **({"teacher": _TEACHER} if taught else {})},
        settings={
            "epochs": 30,
            "warmup_epochs": 2.5,
            "frames": 32,
            "stride": 2,
            "flip": "on",
            **(_TOKENS if taught else {}),
        },
        text=(data, result, f"{hardware}.", time, release),
    )


def _transfer(
    name: str, data: str, path: str, expected: str, beside: str, *, videos: str, hours: str, release: str = ""
) -> Recipe:
    """``path``: what ``data`` is in commands; ``beside``: what the paper gives with 4x1 views too (Small), or from
    ImageNet-1K alone (Tiny)."""
    if small := name.endswith("small"):
        title, views, batches = f"DualFormer-S on {data}.", "4x3", "`batch_size=8` `accumulate=8`"
        figures, rates = f"(paper, table 3, 4x3 views; {beside} % with 4x1)", ("0.1", "0.3")
    else:
        title, views, batches = f"DualFormer-T with 16 frames on {data}.", "4x1", "`batch_size=16` `accumulate=4`"
        figures, rates = f"(paper, table 3, 4x1 views); from ImageNet-1K alone {beside} %", ("0.05", "0.2")
    kind = "DualFormer-S" if small else "DualFormer-T"
    return _paper(
        name,
        title,
        expected,
        source=(f"{data}, split 1" if "@1" in path else data, path),
        weights={"from": "SMALL-K400" if small else "TINY-K400"},
        views=views,
        needs={"start": f"{kind} trained on Kinetics-400; the released weights go through `dualformer convert` first"},
        settings={
            "epochs": 16,
            "warmup_epochs": 1.0,
            "frames": 32 if small else 16,
            "stride": 4,
            "flip": "on" if "@1" in path else "off",
        },
        text=(
            f"{videos}.",
            f"{expected} % top-1 {figures}.",
            f"{_A100}; any GPU does, with {batches}.",
            f"reckoned, {hours} on 8 A100 GPUs. Not run here.",
            release or "weight decay {}, drop path {}, 512 clips a step.".format(*rates),
        ),
    )


PAPER: tuple[Recipe, ...] = (
    _kinetics(
        "kinetics400-tiny",
        "DualFormer-T on Kinetics-400, without the paper's token labelling.",
        "79.5 / 94.1 with tokens",
        data="Kinetics-400, about 240,000 videos of 10 s to train on and 20,000 to validate on, 400 classes.",
        result="79.5 % top-1, 94.1 % top-5 (paper, table 2; there with token labelling on top, which is "
        "kinetics400-tiny-tokens; without it the paper gives no figure).",
        hardware=f"{_EIGHT}. On less, `accumulate` keeps 64 clips a step: `batch_size=8` `accumulate=8`",
        time="about 31 hours there (authors' repository). Not run here.",
        release="3 epochs of warm-up; half precision; its groups made norms decay and let PEG learn at the head's "
        "rate.",
    ),
    _kinetics(
        "kinetics400-small",
        "DualFormer-S on Kinetics-400, without the paper's token labelling.",
        "80.6 / 94.9 with tokens",
        data=_AS_TINY,
        result="80.6 % top-1, 94.9 % top-5 (paper, table 2; with token labelling, kinetics400-small-tokens).",
        time="nobody gives it; Tiny takes 31 hours there and Base 3 days. Not run here.",
        release="128 clips a step.",
    ),
    _kinetics(
        "kinetics400-base",
        "DualFormer-B on Kinetics-400.",
        "81.1 / 95.0",
        data=_AS_TINY,
        result="81.1 % top-1, 95.0 % top-5; from ImageNet-21K 82.9 % and 95.5 % (paper, table 2).",
        hardware=f"{_EIGHT}, with `grad_checkpointing` if it does not fit",
        time="about 3 days there (authors' repository). Not run here.",
        release="128 clips a step.",
    ),
    _kinetics(
        "kinetics600-base-in21k",
        "DualFormer-B on Kinetics-600, from ImageNet-21K.",
        "85.2 / 96.6",
        data="Kinetics-600, about 370,000 videos of 10 s to train on and 28,000 to validate on, 600 classes.",
        result="85.2 % top-1, 96.6 % top-5 (paper, table 2).",
        time="nobody gives it; by the number of videos one and a half times that of kinetics400-base. Not run here.",
        release="learning rate 5e-4, 128 clips a step.",
    ),
    _transfer(
        *("diving48-small", "Diving-48", "diving48:Diving48", "81.8", "81.2"),
        videos="Diving-48, about 18,000 videos of 48 kinds of dives, which differ in how the body moves; version 2 of "
        "the lists. Mirroring is off, as it should be wherever turns tell classes apart; `flip=on` is what the release "
        "did",
        hours="about 3 hours",
        release="30 epochs, mirrored clips.",
    ),
    _transfer(
        *("hmdb51-small", "HMDB-51", "hmdb51@1:HMDB51", "76.4", "76.2"),
        videos="HMDB-51, split 1: 3,570 videos to train on and 1,530 to test on, 51 classes",
        hours="40 minutes",
    ),
    _transfer(
        *("ucf101-small", "UCF-101", "ucf101@1:UCF101", "97.5", "97.4"),
        videos="UCF-101, split 1: 9,537 videos to train on and 3,783 to test on, 101 classes",
        hours="under 2 hours",
    ),
    _transfer(
        *("ucf101-tiny", "UCF-101", "ucf101@1:UCF101", "96.6", "96.3"),
        videos="UCF-101, split 1, as in ucf101-small",
        hours="20 minutes",
    ),
    _transfer(
        *("hmdb51-tiny", "HMDB-51", "hmdb51@1:HMDB51", "75.0", "74.6"),
        videos="HMDB-51, split 1, as in hmdb51-small",
        hours="7 minutes",
    ),
    _transfer(
        *("diving48-tiny", "Diving-48", "diving48:Diving48", "75.9", "75.4"),
        videos="Diving-48, version 2 of the lists, without mirroring, as in diving48-small",
        hours="half an hour",
    ),
)
OTHERS: tuple[Recipe, ...] = (
    _kinetics(
        "kinetics400-tiny-tokens",
        "DualFormer-T on Kinetics-400 with token labels from DualFormer-B: the paper's.",
        "79.5 / 94.1",
        data=_AS_TINY,
        result="79.5 % top-1, 94.1 % top-5 (paper, table 2).",
        time=f"{_MACS} Tiny's forward and backward pass are 180. `dualformer teach` stores its scores once instead "
        "(`teacher_scores`). Not run here.",
        release="scores outside of the top 5 became zero before the softmax (`teacher_rest=zero`), the teacher was put "
        "back into training mode every epoch, and frames that lie half a clip apart were averaged where tokens were "
        "too many.",
    ),
    _kinetics(
        "kinetics400-small-tokens",
        "DualFormer-S on Kinetics-400 with token labels from DualFormer-B: the paper's.",
        "80.6 / 94.9",
        data=_AS_TINY,
        result="80.6 % top-1, 94.9 % top-5 (paper, table 2).",
        time=f"{_MACS} Small's forward and backward pass are 476. Not run here.",
        release="as for kinetics400-tiny-tokens, and 128 clips a step.",
    ),
    Recipe(
        name="rendered-nano",
        text=_text(
            "The run behind the weights that come with the package, which `start=rendered` starts from.",
            {
                "Data": "64,000 rendered clips of all 16 motions, 16 frames (stride 2) of 64x64 pixels, each shown "
                "once, from plain to hard over the first half. Loss: the class, and for every token what of it moves "
                "where to.",
                "Expected": "98 % of 320 validation clips of any difficulty right (chance: 6 %).",
                "Hardware": "one core of a server CPU with bfloat16.",
                "Time": "45 minutes.",
                "Command": "dualformer train rendered-nano --out runs/rendered\n"
                "(python benchmarks/rendered_weights.py also stores the weights as the package has them)",
            },
        ),
        data="rendered videos",
        expected="98",
        views="1x1",
        needs={},
        settings={
            "data": RENDERED,
            "start": RANDOM,
            "model": "dualformer_nano",
            "frames": 16,
            "stride": 2,
            "size": 64,
            **_default("rendered_clips"),
            "epochs": 20,
            "batch_size": 32,
            "lr": 1e-3,
            "weight_decay": 0.05,
            "drop_path": 0.0,
            "dropout": 0.0,
            "flip": "off",
            "licence": "Apache-2.0",
        },
    ),
)
