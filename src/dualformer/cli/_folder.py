"""What ``predict --out`` and ``embed`` share: which files, over a cluster or not, progress, and the last lines."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dualformer.inference.batch_runner import Answered, Work
    from dualformer.inference.ray_cluster import Kind, Recipe

_ADDRESS = re.compile(r"auto|local|ray://.+|[\w.-]+:\d+")
_LISTS = (".csv", ".txt")


def with_address(arguments: Sequence[str]) -> list[str]:
    """``--ray`` may stand alone, for this machine."""
    out: list[str] = []
    for place, word in enumerate(arguments):
        out.append(word)
        following = arguments[place + 1] if place + 1 < len(arguments) else ""
        if word == "--ray" and not _ADDRESS.fullmatch(following):
            out.append("local")
    return out


def named_files(named: Sequence[Path]) -> list[Path]:
    """The files that a folder, a list (.csv with a column path, .txt with a path on each line) or a file stand for,
    each once. Paths in a list are relative to it."""
    from dualformer.datasets.manifest import find_videos

    found: list[Path] = []
    for path in named:
        if path.suffix.lower() == ".txt" and path.is_file():
            lines = path.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
            found += [path.parent / line.strip() for line in lines if line.strip()]
        elif path.is_dir() or (path.suffix.lower() in _LISTS and path.is_file()):
            found += find_videos(path)
        else:
            found.append(path)
    return list(dict.fromkeys(found))


def answer_folder(
    out: Path,
    files: Sequence[Path],
    work: Work,
    *,
    fresh: bool,
    retry: bool,
    quiet: bool,
) -> Answered:
    """Shows how many are done and how long it still takes, and every file that fails."""
    import time

    from dualformer.cli._progress import Progress
    from dualformer.inference.batch_runner import answer_into, journal_of
    from dualformer.inference.subtitles import clock

    begun = told = time.monotonic()
    with Progress("answering", "files done", quiet=quiet) as progress:

        def show(done: int, total: int, row: dict | None) -> None:
            nonlocal told
            if row is not None and row.get("error"):
                progress.say(f"failed: {row['path']}: {row['error']}")
            if not total or not done:
                return
            now = time.monotonic()
            if now - told >= 30:  # on a terminal, the bar says so as well
                told = now
                left = (now - begun) / done * (total - done)
                progress.say(f"{done} of {total}, about {clock(left, digits=0)} left")
            progress.show(done, total)

        try:
            return answer_into(out, files, work, fresh=fresh, retry=retry, progress=show)
        except KeyboardInterrupt:
            progress.say(f"stopped; the same command goes on from what {journal_of(out)} keeps")
            raise


def run_folder(
    out: Path,
    named: Sequence[Path],
    recipe: Recipe,
    *,
    ray: str | None,
    actors: int | None,
    fresh: bool,
    retry: bool,
    json: bool,
) -> int:
    """Answers for all files that are named; the exit code."""
    import contextlib
    import json as json_module
    import time

    from dualformer.inference.ray_cluster import ClusterWork

    files = named_files(named)
    if not json:
        where = f" over Ray ({ray})" if ray else ""
        print(f"{_DOING[recipe.kind]} {len(files)} files with {recipe.weights}{where}, views {recipe.views}")
    begun = time.monotonic()
    with contextlib.ExitStack() as stack:
        if ray:
            cluster = ClusterWork(recipe, address=None if ray == "local" else ray, actors=actors)
            work: Work = stack.enter_context(cluster)
        else:
            work = recipe.work()
        result = answer_folder(out, files, work, fresh=fresh, retry=retry, quiet=json)
    if json:
        content = {
            "out": str(out),
            "files": result.files,
            "known": result.known,
            "failed": result.failed,
            "seconds": round(time.monotonic() - begun, 3),
        }
        print(json_module.dumps(content))
    else:
        known = f" ({result.known} were known and have not changed)" if result.known else ""
        print(
            f"{result.files - result.failed} answered{known}, {result.failed} failed; "
            f"took {time.monotonic() - begun:.1f} s"
        )
        print(f"answers: {out}")
        if result.failed:
            print("next: the same with --retry   (tries those again that failed)")
    return 1 if result.failed else 0


_DOING: dict[Kind, str] = {"labels": "labelling", "features": "computing features of"}
