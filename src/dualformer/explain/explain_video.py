"""Explains a video: ``explain_video(recognizer, "clip.mp4").save("explained")``."""

from difflib import get_close_matches
from typing import get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dualformer.explain.explanation import Explanation, HeatMap, HeatMapPart, Method
from dualformer.explain.gradcam import Gradients, gradcam
from dualformer.explain.map_geometry import cells_box, hottest_token, normalised, to_pixels
from dualformer.explain.shown_clip import ClipChoice, ShownClip, read_shown_clip
from dualformer.explain.token_attention import SubBlockIndex, find_sub_block, stage_number, watch_sub_block
from dualformer.inference.recognizer import Recognizer
from dualformer.model.config import Size3
from dualformer.model.network import DualFormer
from dualformer.model.pyramid import resample_kernel
from dualformer.video.memory_frames import ChannelOrder
from dualformer.video.transforms import normalize
from dualformer.video.video_source import VideoSource, resolve_source, source_name


def explain_video(
    recognizer: Recognizer,
    video: VideoSource | ShownClip,
    *,
    label: str | None = None,
    method: Method = "gradcam",
    clip: int | None = None,
    at: float | None = None,
    stage: int | None = None,
    block: int | None = None,
    half: int | None = None,
    token: Size3 | None = None,
    gradients: Gradients = "each",
    fps: float | None = None,
    channel_order: ChannelOrder = "rgb",
) -> Explanation:
    """Explains the prediction for one clip of ``video``: anything that `VideoSource` lists, or a clip that was read
    before, for which ``clip``, ``at``, ``fps`` and ``channel_order`` are not used.

    ``label``: the class to explain; the clip's most likely one. ``clip``: a number from 0 of the recognizer's clips
    (``views``); ``at``: the clip around a moment, in seconds; neither: the clip in the middle.

    ``gradcam`` shows the evidence for the class, at the last half of ``stage`` (default: the last stage; of an earlier
    one, in its output), with every token's own gradient or their mean (``gradients``). ``attention`` and ``pyramid``
    show the attention of one ``token`` (t, y, x in the map of the stage, from 0) over its window, or over the global
    pyramid, in the half that ``stage``, ``block`` and ``half`` name, which count from 1. By default the token is the
    one at Grad-CAM's hottest place, and the half the last one whose stage has a pyramid. ``fps``: frames a second of
    frames in memory, where seconds matter. ``channel_order``: of arrays.

    While attention is watched, no other thread may use the network.
    Errors: ``ValueError`` for an exported model, which has no gradients, and for what does not exist;
    ``DualFormerError`` where captum is not installed; those of reading the video.
    """
    if method not in get_args(Method):
        raise ValueError(f"method must be {', '.join(get_args(Method))}, not {method!r}")
    _check_settings(method, block=block, half=half, token=token, gradients=gradients)
    model = _network(recognizer)
    if label is not None and label not in recognizer.labels:
        near = get_close_matches(label, recognizer.labels, 3, cutoff=0.4) or recognizer.labels[:3]
        listed = ", ".join(near) + (", …" if len(near) < len(recognizer.labels) else "")
        raise ValueError(f"{label!r} is none of the {len(recognizer.labels)} classes; there are {listed}")
    number = len(model.stages) - 1 if stage is None else stage_number(model.config, stage)
    sub_block = (
        None if method == "gradcam" else find_sub_block(model.config, method, stage=stage, block=block, half=half)
    )
    choice = ClipChoice(number=clip, count=recognizer.views.clips, seconds=at)
    shown = video
    if not isinstance(shown, ShownClip):
        source = resolve_source(shown, fps=fps, channel_order=channel_order)
        shown = read_shown_clip(source, recognizer.preprocessing, choice, fps=fps)

    probabilities = recognizer.predict_views(shown.view[None])[0]
    best = int(probabilities.argmax())
    target = best if label is None else recognizer.labels.index(label)
    pixels = normalize(shown.view[None].to(recognizer.device), recognizer.preprocessing)
    if sub_block is None:
        heat = _gradcam_map(model, pixels, target, number, gradients)
    else:
        if token is None:
            hot = _gradcam_map(model, pixels, target, len(model.stages) - 1, "each")
            token = hottest_token(torch.from_numpy(hot.map), *_grid(model, pixels, sub_block.stage))
        heat = _attention_map(model, pixels, sub_block, token)
    return Explanation(
        source=source_name(video),
        method=method,
        label=recognizer.labels[target],
        probability=float(probabilities[target]),
        predicted=(recognizer.labels[best], float(probabilities[best])),
        heat=heat,
        clip=shown,
    )


def _check_settings(
    method: Method, *, block: int | None, half: int | None, token: Size3 | None, gradients: Gradients
) -> None:
    if gradients not in get_args(Gradients):
        raise ValueError(f"gradients must be each or mean, not {gradients!r}")
    if method != "gradcam":
        if gradients != "each":
            raise ValueError(f"{method} has no gradients: gradients={gradients!r} goes with gradcam")
        return
    for name, value in (("block", block), ("half", half), ("token", token)):
        if value is not None:
            raise ValueError(f"gradcam takes no {name}: it goes with attention and pyramid")


def _network(recognizer: Recognizer) -> DualFormer:
    if not isinstance(recognizer.network, DualFormer):
        raise ValueError(
            f"{recognizer.network.name} is an exported model, which cannot explain: it has neither gradients nor "
            "attention to look at; explain with the weights that it was made from"
        )
    return recognizer.network


def _gradcam_map(model: DualFormer, pixels: Tensor, target: int, stage: int, gradients: Gradients) -> HeatMap:
    tokens = gradcam(model, pixels, target, stage=stage, gradients=gradients)[0].cpu()
    reduction, _ = _grid(model, pixels, stage)
    heat = normalised(to_pixels(tokens, reduction, _size(pixels), smooth=True)).numpy()
    name = "Grad-CAM" if gradients == "each" else "Grad-CAM with the mean gradient"
    return HeatMap(
        about=f"{name}, {'last half of ' if stage == len(model.stages) - 1 else ''}stage {stage + 1}",
        map=heat,
        parts=(HeatMapPart(title="speaks for it", map=heat),),
        tokens=tokens.numpy(),
        stage=stage + 1,
        block=model.config.stages[stage].depth,
        half=len(model.config.stages[stage].kinds),
    )


def _attention_map(model: DualFormer, pixels: Tensor, index: SubBlockIndex, token: Size3) -> HeatMap:
    found = watch_sub_block(model, pixels, index, token)
    tokens = found.of_token(token)[0].cpu()
    reduction, size = _grid(model, pixels, index.stage)[0], _size(pixels)

    def drawn(tokens: Tensor) -> NDArray[np.float32]:
        return normalised(to_pixels(tokens, reduction, size, smooth=False)).numpy()

    heat, window_box = drawn(tokens), None
    title = "all tokens"
    if found.window is not None:
        t, h, w = (at // step * step for at, step in zip(token, found.window, strict=True))
        title, window_box = f"window {_joined(found.window)}", cells_box((t, h, w), found.window, reduction, size)
    parts = (HeatMapPart(title=title, map=heat),)
    if found.priors:  # the weight of each is spread evenly over the tokens of its cell
        scales = [resample_kernel(scale[0], found.size).cpu() for scale in found.of_token_per_scale(token)]
        parts = tuple(
            HeatMapPart(title=f"pyramid {_joined(grid)}: {float(scale.sum()):.0%} of its attention", map=drawn(scale))
            for grid, scale in zip(found.grids, scales, strict=True)
        )
    return HeatMap(
        about=f"where token {','.join(map(str, token))} of {_joined(found.size)} looks, stage {index.stage + 1} block "
        f"{index.block + 1} half {index.half + 1}",
        map=heat,
        parts=parts,
        tokens=tokens.numpy(),
        stage=index.stage + 1,
        block=index.block + 1,
        half=index.half + 1,
        token=token,
        token_box=cells_box(token, (1, 1, 1), reduction, size),
        window_box=window_box,
    )


def _grid(model: DualFormer, pixels: Tensor, stage: int) -> tuple[Size3, Size3]:
    """Returns the pixels (t, h, w) of a token of a stage, and T' H' W' of its map."""
    return model.feature_info[stage].reduction, model.config.map_sizes(_size(pixels))[stage]


def _size(pixels: Tensor) -> Size3:
    return pixels.shape[2], pixels.shape[3], pixels.shape[4]


def _joined(size: Size3) -> str:
    return "×".join(map(str, size))
