"""Options that several verbs have, with one help and one default each, and the checks that verbs share."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import arg

from dualformer.cores import available_cores
from dualformer.training.settings.data_settings import DataSettings

if TYPE_CHECKING:
    from dualformer.inference.recognizer import Recognizer
    from dualformer.model.compiling import CompileMode
    from dualformer.scoring.view_scores import Precision

Weights = Annotated[
    str,
    arg(
        help="A weights file, a folder with model.safetensors, a hub id (owner/name), or rendered: the small ones that "
        "come with the package."
    ),
]
WEIGHTS_OR_EXPORT = (
    "A weights file, a folder with model.safetensors, a hub id (owner/name), an exported model, or rendered: the small "
    "ones that come with the package."
)
WeightsOrExport = Annotated[str, arg(help=WEIGHTS_OR_EXPORT)]
Views = Annotated[
    str,
    arg(
        help="Views of each video, clips x crops (1 or 3 crops; of padded pictures all 3 are the same); their "
        "probabilities or features are averaged."
    ),
]
Device = Annotated[str, arg(help="auto (the GPU where there is one), cpu, cuda, cuda:1, …")]
LabelMap = Annotated[
    Path | None,
    arg(
        help="Where class names differ: a JSON object or a CSV file (class,label) from the data's names to the "
        "weights'."
    ),
]
Manifest = Annotated[Path | None, arg(help="Manifest that `dualformer check` wrote: files it calls bad are left out.")]
ValFraction = Annotated[float, arg(help="Part of each class to validate on where the data has no split of its own.")]
Workers = Annotated[int | None, arg(help="Processes that decode (default: one less than there are cores, at most 8).")]
Json = Annotated[bool, arg(help="Print the result as one JSON object, and nothing else.")]


@dataclass(frozen=True, kw_only=True)
class InferenceOptions:
    """What the network is run on and in."""

    device: Device = "auto"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Auto is float32, or what an exported model computes in. bfloat16 is faster where the processor computes in it."""
    compile: Literal["no", "default", "reduce-overhead", "max-autotune"] = "no"
    """Compile the network by torch.compile, in this mode, which takes minutes: for many files on a GPU, where
    reduce-overhead uses CUDA graphs; what it gains there is not measured."""

    @property
    def chosen_precision(self) -> Precision | None:
        """The precision, None for the network's own."""
        return None if self.precision == "auto" else self.precision

    @property
    def compile_mode(self) -> CompileMode | None:
        return None if self.compile == "no" else self.compile

    def load(self, weights: str, **settings: Any) -> Recognizer:
        """Returns `Recognizer.load` of ``weights``, with these options and more ``settings`` of it."""
        from dualformer.inference.recognizer import Recognizer

        return Recognizer.load(
            weights, device=self.device, precision=self.chosen_precision, compile_mode=self.compile_mode, **settings
        )


@dataclass(frozen=True, kw_only=True)
class SplitOptions:
    """Which rows of a data set are trained and validated on, without those of bad files."""

    train_on: str | None = None
    """Rows of a CSV or benchmark to train on, as in split=train. This and the four below mean what they mean to
    `dualformer train`; give both the same."""
    val_on: str | None = None
    """Rows to validate on."""
    val_fraction: ValFraction = DataSettings.val_fraction
    seed: int = 0
    """Of that split."""
    manifest: Manifest = None

    def __post_init__(self) -> None:
        must("lie between 0 and 1", self, "val_fraction")
        must("be 0 or more", self, "seed")

    def split(self) -> dict[str, Any]:
        """Returns these options as arguments of `open_splits` and `open_all_splits`."""
        return {
            "train_on": rows(self.train_on),
            "val_on": rows(self.val_on),
            "val_fraction": self.val_fraction,
            "seed": self.seed,
            "bad": bad_files(self.manifest),
        }


def arguments(options: object, *names: str) -> dict[str, Any]:
    """Returns the options of these ``names``, to be handed on as arguments that are called the same."""
    return {name: getattr(options, name) for name in names}


def only(kind: type, options: object, **changes: Any) -> dict[str, Any]:
    """Returns those of the options that are fields of the dataclass ``kind``, which they inherit from."""
    return arguments(options, *(field.name for field in fields(kind))) | changes


def rows(text: str | None) -> dict[str, tuple[str, ...]] | None:
    """Returns the columns and values of ``split=test``, None for no text."""
    from dualformer.datasets.row_filter import parse_row_filter

    return parse_row_filter(text) if text else None


def bad_files(manifest: Path | None) -> Collection[Path]:
    """Returns the files that a manifest calls bad; without one, none."""
    from dualformer.datasets.splits import read_bad_videos

    return read_bad_videos(manifest) if manifest else ()


def refuse_exported(weights: str, remedy: str) -> None:
    """Raises ``ValueError``, which ends in the ``remedy``, for an exported model, before anything is loaded."""
    from dualformer.weights.exported.exported_files import is_exported

    if is_exported(weights):
        raise ValueError(f"{weights} is an exported model, which {remedy} the weights that it was made from")


def decoding_processes(workers: int | None) -> int:
    """Returns ``workers`` or, where it is None, one less than there are cores, at most 8."""

    return min(8, available_cores() - 1) if workers is None else workers


_BOUNDS: dict[str, Callable[[float], bool]] = {
    "be at least 1": lambda value: value >= 1,
    "be positive": lambda value: value > 0,
    "be 0 or more": lambda value: value >= 0,
    "lie between 0 and 1": lambda value: 0 < value < 1,
}


def must(what: str, options: object, *names: str) -> None:
    """Raises ``ValueError`` where an option that is set does not do ``what``, such as ``be at least 1``."""
    for name in names:
        value = getattr(options, name)
        if value is not None and not _BOUNDS[what](value):
            raise ValueError(f"`{name}` must {what}, not {value}")
