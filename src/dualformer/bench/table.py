"""Figures as Markdown, which is readable on a terminal as well."""

from collections.abc import Callable, Sequence

from dualformer.bench.bench_settings import Setting
from dualformer.bench.end_to_end import EndToEnd
from dualformer.bench.measurement import Figures, Measurement

_SETTING_COLUMNS: dict[str, Callable[[Setting], str]] = {
    "model": lambda setting: setting.model,
    "clip": lambda setting: "×".join(map(str, setting.clip)),
    "batch": lambda setting: str(setting.batch),
    "dtype": lambda setting: setting.dtype,
    "backend": lambda setting: setting.backend,
    "threads": lambda setting: str(setting.threads),
}
_COLUMNS: dict[str, Callable[[Figures], str]] = {
    "GMACs": lambda figures: f"{figures.macs / 1e9:.2f}",
    "p50, ms": lambda figures: _ms(figures.p50),
    "p95, ms": lambda figures: _ms(figures.p95),
    "clips/s": lambda figures: f"{figures.clips_per_second:.3g}",
    "memory, MB": lambda figures: "–" if figures.memory is None else f"{figures.memory / 1e6:.0f}",
    "of peak": lambda figures: "–" if figures.share is None else f"{figures.share:.0%}",
}
_FILE_COLUMNS: dict[str, Callable[[EndToEnd], str]] = {
    "views": lambda file: file.views,
    "decode, ms": lambda file: _part(file, file.decode),
    "preprocess, ms": lambda file: _part(file, file.preprocess),
    "network, ms": lambda file: _part(file, file.network),
    "whole, ms": lambda file: _ms(file.whole),
    "p95, ms": lambda file: _ms(file.p95),
    "videos/s": lambda file: f"{1 / file.whole:.3g}",
}


def to_markdown(measured: Measurement, *, command: str) -> str:
    """Returns machine, command, and one or two tables. Memory is in 10⁶ bytes."""
    devices = " and ".join(dict.fromkeys(figures.device for figures in measured.figures))
    allocator = ", the allocator keeps freed memory" if measured.keeps_freed else ""
    cells = [
        [*(show(row.setting) for show in _SETTING_COLUMNS.values()), *(show(row) for show in _COLUMNS.values())]
        for row in measured.figures
    ]
    lines = [
        f"Machine: {measured.machine}{allocator}.",
        f"Command: `{command}`, on {devices}, {measured.rounds} rounds in turn.",
        "",
        *markdown_table([*_SETTING_COLUMNS, *_COLUMNS], cells),
    ]
    peaks = {(f.setting.dtype, f.setting.threads, f.device): f.peak for f in measured.figures if f.peak is not None}
    if peaks:
        told = (
            f"{peak / 1e9:,.0f} GFLOP/s in {dtype} with {threads} thread{'s' if threads > 1 else ''}"
            for (dtype, threads, _), peak in peaks.items()
        )
        lines += ["", f"Matrix-multiply peak: {'; '.join(told)}."]
    if measured.files:
        columns = {name: show for name, show in _SETTING_COLUMNS.items() if name != "clip"}
        cells = [
            [*(show(row.setting) for show in columns.values()), *(show(row) for show in _FILE_COLUMNS.values())]
            for row in measured.files
        ]
        table = markdown_table([*columns, *_FILE_COLUMNS], cells)
        lines += ["", f"From the file {measured.video} to its label:", "", *table]
    return "\n".join(lines) + "\n"


def markdown_table(head: Sequence[str], cells: Sequence[Sequence[str]]) -> list[str]:
    """Returns the lines of a Markdown table with columns of even width, all flush left."""
    table = [tuple(head), *map(tuple, cells)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = [
        "| " + " | ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)) + " |" for row in table
    ]
    return [lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]]


def _part(file: EndToEnd, seconds: float) -> str:
    return f"{_ms(seconds)} ({seconds / (file.decode + file.preprocess + file.network):.0%})"


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.3g}" if seconds < 1 else f"{1000 * seconds:.0f}"
