"""``dualformer bench``: how fast networks are on this machine, and how near to what it can do."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from dualformer.cli.option_names import OptionNames
from dualformer.cli.shared_options import Device, Json, arguments, must
from dualformer.video.preprocessing import DEFAULT_VIEWS

PARAMETERS = {"format": "backend"}
"""Exporting calls it otherwise."""


@dataclass(frozen=True, kw_only=True)
class Options:
    models: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="MODELS…")] = (
        "dualformer_nano",
        "dualformer_tiny",
    )
    """Models by name, weights files, folders, hub ids, or exported models, which know what they compute in."""
    clip: tuple[str, ...] = ()
    """Frames x height x width of a view, one or more, as 32x224x224; by default what each model is made for."""
    batch: tuple[int, ...] = (1,)
    """Views that go through the network together, one or more numbers."""
    dtype: tuple[Literal["float32", "bfloat16", "int8"], ...] = ("float32", "bfloat16")
    """Number formats. int8 is for onnx and openvino, and executorch computes in float32."""
    backend: tuple[Literal["eager", "compile", "torch", "onnx", "openvino", "executorch"], ...] = ("eager",)
    """PyTorch as it is; compiled, which takes a minute or two before the first run; or exported for the occasion."""
    threads: tuple[int, ...] = ()
    """Numbers of threads; by default as many as PyTorch takes."""
    device: Device = "auto"
    video: Path | None = None
    """A video file, to be labelled from file to label as well: decoding, resizing, network."""
    views: str = DEFAULT_VIEWS
    """Views of the video, clips x crops."""
    seconds: float = 20.0
    """About how long to measure times; there are three rounds at least. Memory comes on top."""
    rounds: int | None = None
    """How often each setting has its turn, instead of --seconds."""
    memory: bool = True
    """Measure how much memory each setting takes beyond the weights, in a process of its own."""
    keep_freed: bool = True
    """Have the C library keep freed memory, as the verbs that run networks do; it makes a difference on a CPU."""
    out: Path | None = None
    """A file to write the tables to, as Markdown."""
    json: Json = False

    def __post_init__(self) -> None:
        if not self.models:
            raise ValueError("name at least one model")
        if not self.seconds > 0:
            raise ValueError(f"--seconds must be more than 0, not {self.seconds:g}")
        must("be at least 1", self, "rounds")


def run(options: Options) -> int:
    from dualformer.bench.bench_settings import benchmark_grid
    from dualformer.bench.machine_info import describe_machine
    from dualformer.bench.measurement import measure
    from dualformer.bench.table import to_markdown
    from dualformer.cli.progress import Progress
    from dualformer.files import write_text
    from dualformer.model.config import parse_clip

    settings, left_out = benchmark_grid(
        options.models,
        clips=[parse_clip(clip) for clip in options.clip],
        batches=options.batch,
        backends=options.backend,
        dtypes=options.dtype,
        threads=options.threads,
    )
    with Progress("measuring", "seconds", quiet=options.json) as progress:
        progress.say(f"{describe_machine()}")
        for setting in settings:
            progress.say(f"  {setting}")
        if left_out:
            progress.say(f"left out: {', '.join(left_out)}, which there is not")
        measured = measure(
            settings,
            **arguments(options, "device", "rounds", "seconds", "memory", "keep_freed", "video", "views"),
            say=progress.say,
            progress=lambda done, total: progress.show(round(done), max(1, round(total))),
        )
    text = to_markdown(measured, command=command_of(options))
    print(json.dumps(measured.to_dict()) if options.json else f"\n{text}")
    if options.out is not None:
        write_text(options.out, text)
        if not options.json:
            print(f"written: {options.out}")
    if not options.json:
        print("next: dualformer bench --help   (other sizes, batches and ways to compute)")
    return 0


def command_of(options: Options) -> str:
    """Returns the command line that asks for the same measurement; what is printed and written where is left out."""
    return OptionNames(Options).command("bench", options, leave_out=("out", "json"))
