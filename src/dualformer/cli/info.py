"""``dualformer info``: parameters, multiply-adds and tokens of a model or a weights file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from dualformer.cli.shared_options import Json
from dualformer.plurals import counted
from dualformer.video.preprocessing import DEFAULT_VIEWS

if TYPE_CHECKING:
    from dualformer.model.cost import Cost
    from dualformer.weights.card import Card
    from dualformer.weights.exported.export_card import ExportCard


@dataclass(frozen=True, kw_only=True)
class Options:
    model: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MODEL")]
    """A model's name (dualformer_tiny), a weights file, a folder with one, a hub id, or an exported model."""
    clip: str | None = None
    """Frames x height x width of a view, as 32x224x224; by default what the model is cut for."""
    views: str = DEFAULT_VIEWS
    """Clips x crops of a video that are averaged in a test, for the total."""
    json: Json = False


def run(options: Options) -> int:
    from dualformer.model.config import parse_clip
    from dualformer.model.cost import measure_cost
    from dualformer.model.presets import list_models, preset_config
    from dualformer.video.clip_reader import Views
    from dualformer.weights.exported.exported_files import is_exported, read_export_card
    from dualformer.weights.locate import resolve_weights
    from dualformer.weights.safetensors_file import read_card

    views = Views.parse(options.views)
    clip = parse_clip(options.clip) if options.clip else None
    card = exported = None
    if options.model in list_models():
        # A preset's grids follow its clip; weights are what they are, and only the map they are run on changes.
        config = preset_config(options.model, clip=clip)
    elif is_exported(options.model):
        exported = read_export_card(options.model)
        card = exported.card
        config = card.config
    else:
        try:
            path = resolve_weights(options.model)
        except FileNotFoundError as error:
            names = ", ".join(list_models())
            raise ValueError(f"{options.model!r} is no weights file, folder or hub id, nor one of {names}") from error
        card = read_card(path)
        config = card.config
    cost = measure_cost(config, clip)
    facts = {
        "name": options.model,
        "clip": list(clip or config.clip),
        "parameters": cost.parameters,
        "parameters_without_classifier": cost.parameters - cost.classifier,
        "gmacs_per_view": cost.macs / 1e9,
        "views": str(views),
        "gmacs": cost.macs / 1e9 * views.count,
    }
    if options.json:
        facts["cost"] = cost.to_dict()
        facts["card"] = json.loads(card.to_json()) if card else None
        if exported:
            facts["exported"] = {key: value for key, value in json.loads(exported.to_json()).items() if key != "card"}
        print(json.dumps(facts))
    else:
        _print(facts, cost, card, exported)
    return 0


def _print(facts: dict[str, Any], cost: Cost, card: Card | None, exported: ExportCard | None) -> None:
    from rich.console import Console
    from rich.table import Table

    from dualformer.datasets.video_digests import unpack_digests
    from dualformer.weights.errors import size_text

    print(f"{facts['name']}, clips of {size_text(facts['clip'])} (frames x height x width)")
    if exported is not None:
        views = "any number of views" if exported.batch is None else counted(exported.batch, "view")
        print(f"  exported     for {exported.format} in {exported.precision}, {views} at a time")
        print(f"               by {', '.join(f'{name} {version}' for name, version in exported.made_with.items())}")
    without = facts["parameters_without_classifier"] / 1e6
    print(f"  parameters   {cost.parameters / 1e6:.3f} M, {without:.3f} M without the classifier")
    views = f"{facts['gmacs_per_view']:.2f} a view, {facts['gmacs']:.2f} for views {facts['views']}"
    print(f"  GMACs        {views}, in 10⁹ multiply-adds")
    parts = ("linear", "attention", "convolution", "normalisation")
    print("               " + ", ".join(f"{part} {getattr(cost, part) / 1e9:.2f}" for part in parts))
    table = Table("stage", "map", "channels", "tokens", "windows", "pyramid tokens")
    for number, stage in enumerate(cost.stages, 1):
        counts = (stage.channels, stage.tokens, stage.windows, stage.pyramid_tokens)
        table.add_row(str(number), size_text(stage.size), *(f"{count:,}" for count in counts))
    Console().print(table)
    if card is None:
        return
    pre = card.preprocessing
    named = (
        f", {', '.join(card.labels[:3])}{', …' if len(card.labels) > 3 else ''}" if card.labels else ", without names"
    )
    if card.config.head == "temporal":
        print(f"  head         temporal: answers at {card.config.time_steps()} moments of a clip")
    several = "; a video may be of several" if card.multi_label else ""
    print(f"  classes      {card.config.num_classes}{named}{several}")
    print(f"  preprocess   {pre.describe()}")
    print(f"               mean {pre.mean}, std {pre.std}")
    if card.timeline is not None:
        known = (
            f"{name} {value:g}" for name, value in card.timeline.to_dict().items() if isinstance(value, (int, float))
        )
        print(f"  timelines    {', '.join(known)} (seconds, and a probability)")
    if card.trained_on:
        print(f"  trained on   {counted(len(unpack_digests(card.trained_on)), 'video')}")
    for name, value in card.metrics.items():
        print(f"  {name:<12} {value:g}")
    print(f"  provenance   {card.provenance}")
    print(f"  licence      {card.licence}")
