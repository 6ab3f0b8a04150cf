"""Figures as Markdown, which is readable on a terminal as well."""

from __future__ import annotations

from collections.abc import Sequence

from dualformer.bench.bench_settings import Setting
from dualformer.bench.end_to_end import EndToEnd
from dualformer.bench.measurement import Measurement

_HEAD = (
    *("model", "clip", "batch", "dtype", "backend", "threads", "GMACs", "p50, ms", "p95, ms", "clips/s"),
    *("memory, MB", "of peak"),
)
_FILE_HEAD = (
    *(
        "model",
        "batch",
        "dtype",
        "backend",
        "threads",
        "views",
        "decode, ms",
        "preprocess, ms",
        "network, ms",
        "whole, ms",
    ),
    *("p95, ms", "videos/s"),
)


def markdown(measured: Measurement, *, command: str) -> str:
    """Machine, command, and one or two tables. Memory is in 10⁶ bytes."""
    devices = " and ".join(dict.fromkeys(figures.device for figures in measured.figures))
    allocator = ", the allocator keeps freed memory" if measured.keeps_freed else ""
    lines = [
        f"Machine: {measured.machine}{allocator}.",
        f"Command: `{command}`, on {devices}, {measured.rounds} rounds in turn.",
        "",
        *rows(_HEAD, [_row(measured, number) for number in range(len(measured.figures))]),
    ]
    peaks = {(f.setting.dtype, f.setting.threads, f.device): f.peak for f in measured.figures if f.peak is not None}
    if peaks:
        told = (
            f"{peak / 1e9:,.0f} GFLOP/s in {dtype} with {threads} thread{'s' if threads > 1 else ''}"
            for (dtype, threads, _), peak in peaks.items()
        )
        lines += ["", f"Matrix-multiply peak: {'; '.join(told)}."]
    if measured.files:
        cells = [_file_row(file) for file in measured.files]
        lines += ["", f"From the file {measured.video} to its label:", "", *rows(_FILE_HEAD, cells)]
    return "\n".join(lines) + "\n"


def rows(head: Sequence[str], cells: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table with columns of even width; the first column is flush left, the others as their cells are."""
    table = [tuple(head), *map(tuple, cells)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = [
        "| " + " | ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)) + " |" for row in table
    ]
    return [lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]]


def _row(measured: Measurement, number: int) -> tuple[str, ...]:
    figures = measured.figures[number]
    setting = figures.setting
    return (
        setting.model,
        _clip(setting),
        str(setting.batch),
        setting.dtype,
        setting.backend,
        str(setting.threads),
        f"{figures.macs / 1e9:.2f}",
        _ms(figures.p50),
        _ms(figures.p95),
        f"{figures.clips_per_second:.3g}",
        "–" if figures.memory is None else f"{figures.memory / 1e6:.0f}",
        "–" if figures.share is None else f"{figures.share:.0%}",
    )


def _file_row(file: EndToEnd) -> tuple[str, ...]:
    setting = file.setting
    total = file.decode + file.preprocess + file.network
    parts = (f"{_ms(part)} ({part / total:.0%})" for part in (file.decode, file.preprocess, file.network))
    return (
        setting.model,
        str(setting.batch),
        setting.dtype,
        setting.backend,
        str(setting.threads),
        file.views,
        *parts,
        _ms(file.whole),
        _ms(file.p95),
        f"{1 / file.whole:.3g}",
    )


def _clip(setting: Setting) -> str:
    return "×".join(map(str, setting.clip))


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.3g}" if seconds < 1 else f"{1000 * seconds:.0f}"
