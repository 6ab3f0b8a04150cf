"""``dualformer quickstart``: the whole way from videos to a tested recogniser, on videos that it renders."""

import json
import sys
from dataclasses import dataclass

from dualformer.cli.shared_options import only
from dualformer.quickstart import QuickstartConfig


@dataclass(frozen=True, kw_only=True)
class Options(QuickstartConfig):
    json: bool = False
    """Print the figures as one JSON object at the end, and nothing else to standard output."""


def run(options: Options) -> int:
    from dualformer.quickstart.pipeline import quickstart
    from dualformer.training.reporter import Reporter
    from dualformer.training.signals import TrainingInterrupted

    reporter = Reporter(sys.stderr if options.json else sys.stdout)
    try:
        result = quickstart(QuickstartConfig(**only(QuickstartConfig, options)), reporter=reporter)
    except TrainingInterrupted:
        reporter.log("the same command goes on from here")
        return 130
    figures = result.figures
    if options.json:
        print(json.dumps(figures))
        return 0
    reporter.log("")
    reporter.log(f"top-1 on videos it was not trained on   {figures['top1']:6.1%}")
    if figures["from_scratch_top1"] is not None:
        reporter.log(f"  the same, from random weights         {figures['from_scratch_top1']:6.1%}")
    for name, line in (("one_frame", "one frame, repeated"), ("shuffled", "frames shuffled    ")):
        reporter.log(f"  control: {line}          {figures['controls'][name]:6.1%}")
    reporter.log(f"  guessing                              {figures['chance']:6.1%}")
    reporter.log(f"{figures['example']['file']}: {result.example.label} ({result.example.probability:.1%})")
    reporter.log(f"report: {result.report}   weights: {result.weights}")
    reporter.log("")
    reporter.log("now your own videos, one folder per class:")
    reporter.log("  dualformer check MY_VIDEOS")
    reporter.log("  dualformer train --data MY_VIDEOS")
    reporter.log("  dualformer evaluate runs/train/best.safetensors --data runs/train/split.csv --on split=val")
    reporter.log("  dualformer predict CLIP.mp4 --weights runs/train/best.safetensors")
    return 0
