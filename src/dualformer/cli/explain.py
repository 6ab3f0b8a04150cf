"""``dualformer explain``: show what a network goes by in a clip of a video."""

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro

from dualformer.cli.option_names import OptionNames
from dualformer.cli.shared_options import Device, Json, arguments, refuse_exported
from dualformer.text_encoding import json_text
from dualformer.video.preprocessing import DEFAULT_VIEWS


@dataclass(frozen=True, kw_only=True)
class Options:
    video: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="VIDEO")]
    """A video or an image."""
    weights: str
    """A weights file, a folder with model.safetensors, a hub id (owner/name), or rendered. An exported model cannot
    explain."""
    label: str | None = None
    """The class to explain (default: the most likely one)."""
    method: Literal["gradcam", "attention", "pyramid"] = "gradcam"
    """gradcam: what speaks for the class. attention: what one token looks at within its window. pyramid: what it looks
    at in the global pyramid, scale by scale."""
    clip: int | None = None
    """Which of the clips of --views to explain, counted from 0 (default: the one in the middle of the video)."""
    at: float | None = None
    """Explain the clip around this moment, in seconds."""
    views: str = DEFAULT_VIEWS
    """Clips x crops that predict looks at; --clip counts these clips."""
    stage: int | None = None
    """Of the network, 1 to 4 (default: for gradcam the last; for the others the last with a pyramid). Earlier ones have
    finer maps."""
    block: int | None = None
    """Of the stage, counted from 1, for attention and pyramid (default: the last)."""
    half: int | None = None
    """Of the block, 1 or 2, for attention and pyramid (default: the first of the kind)."""
    token: str | None = None
    """t,y,x of the token that looks, in the map of the stage, counted from 0 (default: at Grad-CAM's hottest place)."""
    gradients: Literal["each", "mean"] = "each"
    """For gradcam: every token's own gradient, or the mean over all tokens, as in the original Grad-CAM."""
    check: bool = False
    """For gradcam: delete the hottest tenth of the clip, and a tenth at random places, and say what becomes of the
    class's probability."""
    out: Path | None = None
    """Folder for the files (default: explained/NAME)."""
    device: Device = "auto"
    json: Json = False

    def __post_init__(self) -> None:
        self.place()
        if self.check and self.method != "gradcam":
            raise ValueError(f"--check goes with --method gradcam: {self.method} shows no evidence to delete")

    def place(self) -> tuple[int, int, int] | None:
        """Returns ``token`` as numbers."""
        if self.token is None:
            return None
        try:
            t, y, x = map(int, self.token.split(","))
        except ValueError as error:
            raise ValueError(f"--token is three whole numbers t,y,x, as in 4,3,3, not {self.token!r}") from error
        return t, y, x


def run(options: Options) -> int:
    refuse_exported(options.weights, "cannot explain, as it has no gradients: explain with")
    from dualformer.explain.deletion_check import check_deletion
    from dualformer.explain.explain_video import explain_video
    from dualformer.inference.recognizer import Recognizer

    recognizer = Recognizer.load(options.weights, device=options.device, views=options.views)
    out = options.out or Path("explained") / options.video.stem
    if not options.json:
        print(f"explaining {options.video} by {options.method} with {options.weights} on {recognizer.device}")
    explanation = explain_video(
        recognizer,
        options.video,
        token=options.place(),
        **arguments(options, "label", "method", "clip", "at", "stage", "block", "half", "gradients"),
    )
    if options.check:
        explanation = replace(explanation, check=check_deletion(recognizer, explanation))
    files = explanation.save(out)
    if options.json:
        written = {"files": {kind: str(path) for kind, path in files.items()}}
        print(json_text({**explanation.to_dict(), **written}, stream=sys.stdout))
        return 0

    heat, clip = explanation.heat, explanation.clip
    when = "" if clip.times is None else f", {clip.times[0]:.1f} to {clip.times[-1]:.1f} s"
    frames = f"{clip.numbers[0]} to {clip.numbers[-1]}"
    print(f"{explanation.label}  {explanation.probability:.1%} for the clip of frames {frames}{when}")
    if explanation.predicted[0] != explanation.label:
        print(f"the most likely class is {explanation.predicted[0]} ({explanation.predicted[1]:.1%})")
    print(f"{heat.about}: a map of {'x'.join(map(str, heat.tokens.shape))} tokens")
    if not explanation.map.any():
        print("nothing in this clip speaks for the class: the map is empty")
    elif explanation.check is not None:
        verdict = "the map shows what the network goes by" if explanation.check.passed else "this map says little"
        print(f"check: {explanation.check}: {verdict}")
    for kind, path in files.items():
        print(f"  {kind:<5}  {path}")
    coarse = options.method == "gradcam" and max(heat.tokens.shape[1:]) < 4 and heat.stage > 2
    checking = options.method == "gradcam" and not options.check
    left_out = ("json", "method", "check", "block", "half", "token", "gradients")
    left_out = (*left_out, "stage") if coarse or not checking else left_out
    again = OptionNames(Options).command("explain", options, leave_out=left_out)
    if coarse:
        print(f"next: {again} --stage 2   (a finer map: for clips this small, that of the last stage is coarse)")
    elif checking:
        print(f"next: {again} --check   (does the class depend on the hot places?)")
    else:
        print(f"next: {again} --method {'gradcam' if options.method != 'gradcam' else 'pyramid'}")
    return 0
