"""``dualformer export``: weights become a model that runs elsewhere, held against the weights before it is done."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from dualformer.cli import shared_options as shared
from dualformer.text_encoding import json_text
from dualformer.training.settings.data_settings import DataSettings
from dualformer.video.preprocessing import DEFAULT_VIEWS

if TYPE_CHECKING:
    from dualformer.export.export_weights import ExportReport


@dataclass(frozen=True, kw_only=True)
class Options:
    weights: Annotated[tyro.conf.Positional[shared.Weights], tyro.conf.arg(metavar="WEIGHTS")]
    format: Literal["torch", "onnx", "openvino", "executorch", "web"]
    """torch: a .pt2 file for torch.export.load; onnx: an .onnx file for ONNX Runtime and others; openvino: a folder
    with model.xml and model.bin, the fastest on a CPU; executorch: a .pte file for ExecuTorch on phones and boards;
    web: a folder with a page that labels videos and the camera in any browser."""
    precision: Literal["fp32", "bf16", "int8"] = "fp32"
    """What it computes in. bf16: torch and openvino. int8: openvino, onnx and web; needs --data to find ranges on."""
    batch: str | None = None
    """Views that it takes at a time: any number (dynamic), or a fixed one (default: dynamic; of executorch, 1). Of web
    it is one."""
    out: Path | None = None
    """File or folder to write (default: beside the weights file, named after it)."""
    runtime: Path | None = None
    """web: ONNX Runtime Web as npm has it, the tarball or a folder with the package (default: from the npm registry,
    once, and then from the cache)."""
    data: str | None = None
    """Labelled videos as in `dualformer evaluate`. Both sides are run on some of them; int8 takes its ranges from the
    part to train on, and its accuracy is measured on the part to validate on."""
    on: str | None = None
    """Rows of a CSV file to validate on, as in batch=B; split=test of a benchmark or shards."""
    val_fraction: shared.ValFraction = DataSettings.val_fraction
    label_map: shared.LabelMap = None
    manifest: shared.Manifest = None
    videos: tuple[Path, ...] = ()
    """Video or image files to run both sides on. Without them and without --data it is rendered clips."""
    clips: int = 8
    """Clips of --data, or rendered ones, to run both sides on."""
    calibration_clips: int = 128
    """int8: clips that ranges are found on."""
    accuracy_videos: int = 500
    """int8: videos that its accuracy is measured on, at most; 0 leaves it out."""
    views: str = DEFAULT_VIEWS
    """Clips x crops of each video: of these of int8, and of those that the page of web is given."""
    seed: int = 0
    """int8: of the split that --val-fraction makes, and of which videos are taken."""
    tolerance: float | None = None
    """Largest difference of logits, as a part of the largest logit, up to which the model is written (default: 0.0001
    for fp32, 0.02 for bf16, 0.1 for int8)."""
    workers: shared.Workers = None
    json: shared.Json = False

    def __post_init__(self) -> None:
        if self.batch not in (None, "dynamic") and (not self.batch.isdecimal() or int(self.batch) < 1):
            raise ValueError(f"--batch must be dynamic or a number of at least 1, not {self.batch}")
        shared.must("be at least 1", self, "clips", "calibration_clips")
        shared.must("be 0 or more", self, "workers", "seed", "accuracy_videos", "tolerance")
        shared.must("lie between 0 and 1", self, "val_fraction")
        if self.precision == "int8" and self.data is None:
            raise ValueError(
                "--precision int8 needs --data: ranges are found, and accuracy is measured, on your videos"
            )
        if self.format == "web":
            if self.batch not in (None, "dynamic"):
                raise ValueError("--batch is for other formats: the page of --format web runs one view at a time")
            if self.precision == "bf16":
                raise ValueError("--format web --precision bf16: browsers do not compute in it; take fp32 or int8")
        elif self.runtime is not None:
            raise ValueError("--runtime is about --format web")
        if self.data is None and (given := [name for name in ("on", "manifest", "label_map") if getattr(self, name)]):
            raise ValueError(f"--{given[0].replace('_', '-')} is about --data: name that as well")


def run(options: Options) -> int:
    shared.refuse_exported(options.weights, "is exported already: export")
    from dualformer.cli.progress import Progress
    from dualformer.evaluation.label_matching import read_label_map
    from dualformer.export.export_comparison import compare_accuracy
    from dualformer.export.export_data import open_export_data
    from dualformer.export.export_weights import check_supported, default_output_path, export_weights
    from dualformer.export.web_page import check_web_folder, write_web_page
    from dualformer.export.web_runtime import find_runtime
    from dualformer.plurals import counted
    from dualformer.video.clip_reader import Views
    from dualformer.weights.safetensors_file import load_weights

    is_web = options.format == "web"
    graph = "onnx" if options.format == "web" else options.format
    fixed = options.batch or ("1" if options.format == "executorch" else "dynamic")
    batch = 1 if is_web else None if fixed == "dynamic" else int(fixed)
    check_supported(graph, options.precision, batch)
    views = Views.parse(options.views)
    label_map = read_label_map(options.label_map) if options.label_map else None
    workers = shared.decoding_processes(options.workers)
    model, card = load_weights(options.weights)
    out = options.out or default_output_path(options.weights, format=graph, precision=options.precision)
    pack = None
    if is_web:
        out = options.out or out.with_name(f"{out.name.removesuffix('.onnx')}-web")
        check_web_folder(out)
        say = (lambda line: None) if options.json else partial(print, flush=True)
        name, runtime = Path(options.weights).stem, find_runtime(options.runtime, say=say)
        pack = partial(write_web_page, name=name, views=views, runtime=runtime)
    pre = card.preprocessing
    if not options.json:
        print(
            f"exporting {options.weights} to {out}: {options.format}, {options.precision}, {card.config.num_classes} "
            f"classes, {'any number of views' if batch is None else counted(batch, 'view')} at a time of "
            f"{pre.frames}x{pre.crop}x{pre.crop}",
            flush=True,
        )
    material = open_export_data(
        card,
        int8=options.precision == "int8",
        data=options.data,
        on=shared.rows(options.on),
        bad=shared.bad_files(options.manifest),
        label_map=label_map,
        workers=workers,
        **shared.arguments(options, "val_fraction", "seed", "videos", "clips", "calibration_clips", "accuracy_videos"),
    )
    with Progress("judging", "videos judged, by both", quiet=options.json) as progress:
        progress.say(f"data: {material.how}")
        measure_accuracy = None
        if material.accuracy_videos is not None:
            measure_accuracy = partial(
                compare_accuracy,
                model,
                card=card,
                videos=material.accuracy_videos,
                views=views,
                workers=workers,
                label_map=label_map,
                progress=progress.show,
            )
        report = export_weights(
            model,
            card,
            out,
            batch=batch,
            clips=material.clips,
            calibration=material.calibration,
            measure_accuracy=measure_accuracy,
            format=graph,
            pack=pack,
            say=progress.say,
            **shared.arguments(options, "precision", "tolerance"),
        )
    if options.json:
        print(json_text(report.to_dict(), indent=2, stream=sys.stdout))
    else:
        _print(report)
    return 0


def _print(report: ExportReport) -> None:
    print(f"\nweights and exported model on {report.clips}; largest difference, tolerance {report.tolerance:g}:")
    print("views at a time   logits   of the largest logit   probabilities   same top-1")
    for row in report.comparisons:
        print(
            f"{row.batch:>15}  {row.logits:>7.1e}  {row.relative:>21.1e}  {row.probabilities:>14.1e}  "
            f"{row.agreement:>11.1%}"
        )
    if report.accuracy is not None:
        change = report.accuracy
        name = "top-1" if change.figure == "top1" else "mean average precision"
        print(f"\nranges found on {report.calibration}")
        print(
            f"{name} on {change.videos} videos of {change.source}, views {change.views}: {change.weights:.1%} of the "
            f"weights, {change.exported:.1%} exported ({100 * (change.exported - change.weights):+.1f}); they agree on "
            f"{change.agreement:.1%}"
        )
    print(f"\nexported: {report.path} ({report.bytes / 1e6:.1f} MB, took {report.seconds:.0f} s)")
    if report.path.is_dir() and (report.path / "index.html").is_file():
        print(f"next: open {report.path / 'index.html'} in a browser, or serve the folder")
    else:
        print(f"next: dualformer predict VIDEO --weights {shlex.quote(str(report.path))}")
