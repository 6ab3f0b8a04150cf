"""Rewrites the tables and pictures of docs/results.md from the figures in docs/results.

    dualformer ablate --run --data relations --out runs/relations
    python benchmarks/relations_peers.py --out runs/relations
    dualformer bench dualformer_tiny dualformer_small dualformer_base dualformer_nano --json > bench.json
    dualformer ablate --run --data relations --out runs/longer --tasks both --train-clips 6400 --lr 1e-3 \\
        --variants LG LL GG narrow-last LL-narrow-last
    python benchmarks/results.py --relations runs/relations/results.json --longer runs/longer/results.json \\
        --bench bench.json

``--relations``, ``--longer`` and ``--bench`` copy figures in, with the date; without them the page is made again from
those that are there, to the same letters. Costs are counted anew each time, and the paper's figures are those of
`model.ablations`. What goes between ``<!-- table: NAME -->`` and ``<!-- end -->`` is made here, all else on the page is
written by hand.
"""

from __future__ import annotations

import datetime
import json
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

import results_pictures as pictures
import results_tables as tables
from dualformer.bench.machine_info import describe_machine
from dualformer.files import atomic_write

DOCS = Path(__file__).resolve().parents[1] / "docs"
RELATIONS, LONGER, BENCH, SOURCES = "relations.json", "longer.json", "bench.json", "sources.json"
MADE_BY = {
    RELATIONS: "dualformer ablate --run --data relations --out runs/relations, then "
    "python benchmarks/results.py --relations runs/relations/results.json",
    LONGER: "dualformer ablate --run --data relations --out runs/longer --tasks both --train-clips 6400 --lr 1e-3 "
    "--variants LG LL GG narrow-last LL-narrow-last, then "
    "python benchmarks/results.py --longer runs/longer/results.json",
    BENCH: "dualformer bench dualformer_tiny dualformer_small dualformer_base dualformer_nano --json > bench.json, "
    "then python benchmarks/results.py --bench bench.json",
}
DIALS = {RELATIONS: "relations.png", LONGER: "relations-longer.png"}
COST, SPEED = "results-cost.png", "results-speed.png"
_MARKED = re.compile(r"(<!-- table: ([a-z-]+) -->\n)(.*?)(<!-- end -->)", flags=re.DOTALL)


class ResultsError(ValueError):
    """What is missing or wrong, and the command that makes it."""


@dataclass(frozen=True, kw_only=True)
class Options:
    relations: Path | None = None
    """results.json of the experiment on the local × global bench, to be copied in; its accuracy.png lies beside it."""
    longer: Path | None = None
    """results.json of a second one with longer training, likewise."""
    bench: Path | None = None
    """What `dualformer bench --json` printed, to be copied in."""
    date: str | None = None
    """Of the figures that are copied in, YYYY-MM-DD (default: today)."""
    machine: str | None = None
    """Where the experiment ran (default: this machine); bench.json says so itself."""
    allow_missing: bool = False
    """Where figures are not there yet, say so on the page instead of stopping."""
    docs: Path = DOCS
    """The folder of results.md."""

    def __post_init__(self) -> None:
        if self.date is not None and not re.fullmatch(r"\d{4}-\d\d-\d\d", self.date):
            raise ResultsError(f"--date must be YYYY-MM-DD, not {self.date}")


def main(options: Options) -> None:
    folder = options.docs / "results"
    date = options.date or datetime.date.today().isoformat()
    if options.relations is not None:
        _copy_runs(options.relations, options.docs, RELATIONS, date=date, machine=options.machine)
    if options.longer is not None:
        _copy_runs(options.longer, options.docs, LONGER, date=date, machine=options.machine)
    if options.bench is not None:
        _copy_bench(options.bench, folder, date=date)
    missing = [name for name in MADE_BY if not (folder / name).is_file()]
    if missing and not options.allow_missing:
        raise ResultsError(f"{folder / missing[0]}: not there; make it by: {MADE_BY[missing[0]]}")
    page = options.docs / "results.md"
    text = rewritten(page.read_text(encoding="utf-8"), blocks(folder))
    draw(folder, options.docs / "images")
    atomic_write(page, lambda path: path.write_text(text, encoding="utf-8"))
    print(f"written: {page}" + (f"; not measured yet: {', '.join(missing)}" if missing else ""))


def _copy_runs(path: Path, docs: Path, name: str, *, date: str, machine: str | None) -> None:
    found = _read(path)
    picture, command = path.parent / "accuracy.png", MADE_BY[name].partition(", then")[0]
    if not found["runs"]:
        raise ResultsError(f"{path}: no run is done yet; make them by: {command}")
    if not picture.is_file():
        raise ResultsError(f"{picture}: not there; make it by: {command}")
    # Which clips were right is what the picture is made of, and most of the file.
    runs = [{key: value for key, value in run.items() if key != "right"} for run in found["runs"]]
    _write(docs / "results" / name, {"settings": found["settings"], "runs": runs})
    _note(docs / "results", name, {"date": date, "machine": machine or str(describe_machine())})
    atomic_write(docs / "images" / DIALS[name], lambda temporary: temporary.write_bytes(picture.read_bytes()))


def _copy_bench(path: Path, folder: Path, *, date: str) -> None:
    _write(folder / BENCH, _read(path))
    _note(folder, BENCH, {"date": date})


def _note(folder: Path, name: str, about: dict[str, str]) -> None:
    sources = _read(folder / SOURCES) if (folder / SOURCES).is_file() else {}
    _write(folder / SOURCES, {**sources, name: about})


def _about(folder: Path, name: str) -> dict[str, str]:
    """Date and machine of figures. Errors: `ResultsError` where they did not come in by this command."""
    try:
        return _read(folder / SOURCES)[name]
    except KeyError as error:
        option = name.partition(".")[0]
        raise ResultsError(f"{folder / SOURCES}: no date of {name}; copy it in with --{option}") from error


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ResultsError(f"{path}: no such file")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ResultsError(f"{path}: not JSON: {error}") from error


def _write(path: Path, value: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(value, indent=1, ensure_ascii=False, sort_keys=True) + "\n"
    atomic_write(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def blocks(folder: Path) -> dict[str, str]:
    """Text of every marked place, by its name, from the figures in ``folder``."""
    return {name: make(folder) for name, make in _BLOCKS.items()}


def _speed(folder: Path) -> str:
    if not (folder / BENCH).is_file():
        return tables.NOT_MEASURED
    text = tables.speed(_read(folder / BENCH), date=_about(folder, BENCH)["date"])
    return f"{text}\n\n![Milliseconds against multiply-adds of the presets](images/{SPEED})"


def _of_runs(make: Callable[[tables.Runs], str]) -> Callable[[Path], str]:
    def made(folder: Path) -> str:
        path = folder / RELATIONS
        return make(_read(path)["runs"]) if path.is_file() else tables.NOT_MEASURED

    return made


def _kinds(folder: Path) -> str:
    path = folder / RELATIONS
    if not path.is_file():
        return tables.NOT_MEASURED
    found = _read(path)
    return tables.kinds(found["runs"], found["settings"]["test_clips"])


def _longer(folder: Path) -> str:
    path = folder / LONGER
    if not path.is_file():
        return tables.NOT_MEASURED
    found, about = _read(path), _about(folder, LONGER)
    said = tables.source(
        found["settings"], found["runs"], date=about["date"], machine=about["machine"], out="runs/longer"
    )
    table = tables.kinds(found["runs"], found["settings"]["test_clips"], less=True)
    pairs = (("LL", "GG"), ("narrow-last", "GG"), ("narrow-last", "LL-narrow-last"))
    beside = tables.differences(found["runs"], "both", pairs)
    picture = f"![Accuracy against each dial after the longer training](images/{DIALS[LONGER]})"
    return "\n\n".join((table, beside, said, picture))


def _bench(folder: Path) -> str:
    """Where the figures of the local × global bench come from, and their two pictures."""
    if not (folder / RELATIONS).is_file():
        return tables.NOT_MEASURED
    found, about = _read(folder / RELATIONS), _about(folder, RELATIONS)
    lines = [tables.source(found["settings"], found["runs"], date=about["date"], machine=about["machine"])]
    if (task := _pictured(found["runs"])) is not None:
        lines.append(f"![Accuracy on {task} against multiply-adds](images/{COST})")
    lines.append(f"![Accuracy against each dial of the bench](images/{DIALS[RELATIONS]})")
    return "\n\n".join(lines)


_BLOCKS: Mapping[str, Callable[[Path], str]] = {
    "ratios": lambda _: tables.ratios(),
    "costs": lambda _: tables.costs(),
    "speed": _speed,
    "directions": _of_runs(tables.directions),
    "kinds": _kinds,
    "longer": _longer,
    "controls": _of_runs(tables.controls),
    "bench": _bench,
}


def draw(folder: Path, images: Path) -> None:
    """The pictures of the figures that are there."""
    if (folder / RELATIONS).is_file():
        runs = _read(folder / RELATIONS)["runs"]
        if (task := _pictured(runs)) is not None:
            pictures.draw_cost(images / COST, runs, task=task)
    if (folder / BENCH).is_file():
        pictures.draw_speed(images / SPEED, _read(folder / BENCH))


def _pictured(runs: tables.Runs) -> str | None:
    """The task that takes both kinds of attention, where it was run."""
    return "both" if "both" in tables.tasks_of(runs) else None


def rewritten(page: str, texts: Mapping[str, str]) -> str:
    """``page`` with every marked place holding its text. Errors: `ResultsError` unless each is marked once."""
    marked = [found[2] for found in _MARKED.finditer(page)]
    if sorted(marked) != sorted(texts):
        raise ResultsError(f"results.md: the marked tables are {', '.join(marked)}, not {', '.join(texts)}")
    return _MARKED.sub(lambda found: f"{found[1]}\n{texts[found[2]]}\n\n{found[4]}", page)


if __name__ == "__main__":
    try:
        main(tyro.cli(Options, description=__doc__))
    except ResultsError as error:
        sys.exit(str(error))
