"""Makes the exported models that a measurement needs."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

from dualformer.bench.bench_settings import EXPORTED, PRECISIONS, Setting
from dualformer.bench.prepared_network import BenchError, network_of, random_views
from dualformer.export.export_data import Clips
from dualformer.export.export_weights import SUFFIXES, check_supported, export_weights
from dualformer.weights.card import Card
from dualformer.weights.errors import WeightsError
from dualformer.weights.exported.exported_files import is_exported

_CALIBRATION = 4  # clips; ranges that are a little off take as long to compute with


def make_exports(settings: Sequence[Setting], folder: Path, *, say: Callable[[str], None]) -> dict[Setting, Path]:
    """Returns the exported model of every setting that runs one: its own file, or one made in ``folder``.

    A model takes any batch, but of ExecuTorch, so that one serves several settings. It is calibrated on noise, so that
    its accuracy means nothing. Errors: those of `export_weights`, and `BenchError` where an extra is not installed.
    """
    wanted = [setting for setting in settings if setting.backend in EXPORTED]
    found = {setting: Path(setting.model) for setting in wanted if is_exported(setting.model)}
    missing = [setting for setting in wanted if setting not in found]
    for setting in missing:
        check_backend(setting)
    made: dict[tuple[object, ...], Path] = {}
    for setting in missing:
        key = (setting.model, setting.clip, setting.backend, setting.dtype, _fixed_batch(setting))
        if key not in made:
            say(f"exporting {setting.model} for {setting.backend} in {setting.dtype}")
            made[key] = _export(setting, folder / f"{len(made)}{SUFFIXES[EXPORTED[setting.backend]]}")
        found[setting] = made[key]
    return found


def check_backend(setting: Setting) -> None:
    """Raises `BenchError` where the extra that the backend needs is not installed, ``ValueError`` for views that no
    exported model takes."""
    try:
        check_supported(EXPORTED[setting.backend], PRECISIONS[setting.dtype], _fixed_batch(setting))
    except WeightsError as error:
        raise BenchError(str(error).replace("`format=", "`backend=")) from error
    _, height, width = setting.clip
    if height != width:
        raise ValueError(
            f"`backend={setting.backend}` takes square views only, not {height}x{width}: say another `clip`"
        )


def _export(setting: Setting, out: Path) -> Path:
    model, card = network_of(setting)
    export_weights(
        model,
        _cut_card(card, setting),
        out,
        format=EXPORTED[setting.backend],
        precision=PRECISIONS[setting.dtype],
        batch=_fixed_batch(setting),
        clips=Clips(views=random_views(setting.clip, 1), source="noise"),
        calibration=Clips(views=random_views(setting.clip, _CALIBRATION), source="noise")
        if setting.dtype == "int8"
        else None,
        tolerance=float("inf"),
    )
    return out


def _fixed_batch(setting: Setting) -> int | None:
    """Returns the views that an exported model takes at a time; None for any number."""
    return setting.batch if setting.backend == "executorch" else None


def _cut_card(card: Card, setting: Setting) -> Card:
    frames, side, _ = setting.clip
    pre = card.preprocessing
    if (pre.frames, pre.crop) == (frames, side):
        return card
    return dataclasses.replace(
        card, preprocessing=dataclasses.replace(pre, frames=frames, crop=side, resize=max(side, pre.resize))
    )
