"""``dualformer train``: a data set, or a run to resume, to weights."""

from __future__ import annotations

from dataclasses import dataclass

from dualformer.training.config import TrainConfig


@dataclass(frozen=True, kw_only=True)
class Options(TrainConfig):
    json: bool = False
    """Print the result as one JSON object at the end, and nothing else to standard output."""


def run(options: Options) -> int:
    import dataclasses
    import json
    import sys

    from dualformer.datasets.shards.read import find_shards
    from dualformer.training.loop import Interrupted
    from dualformer.training.report import Reporter, clock
    from dualformer.training.run import CONFIG, SPLIT, train

    settings = {f.name: getattr(options, f.name) for f in dataclasses.fields(TrainConfig)}
    reporter = Reporter(sys.stderr if options.json else sys.stdout)
    try:
        result = train(TrainConfig(**settings), reporter=reporter)
    except Interrupted:
        reporter.say(f"go on with: dualformer train --resume --out {options.out}")
        return 130
    if options.json:
        print(json.dumps(dataclasses.asdict(result), default=str))
        return 0
    reporter.say(
        f"done in {clock(result.seconds)}: {result.best_top1:.1%} of the validation set right in epoch "
        f"{result.best_epoch}; {result.clips_per_second:.1f} clips/s"
    )
    reporter.say(f"weights: {result.weights}   curves: {result.out / 'curves.png'}")
    # Not the folder or file itself: where val was drawn from it, it holds the training videos too.
    if (result.out / SPLIT).is_file():
        reporter.say(f"next: dualformer evaluate {result.weights} --data {result.out / SPLIT} --on split=val")
    elif find_shards(data := TrainConfig.load(result.out / CONFIG).data):
        reporter.say(f"next: dualformer evaluate {result.weights} --data {data}")
    reporter.say(f"next: dualformer predict VIDEO --weights {result.weights}")
    return 0
