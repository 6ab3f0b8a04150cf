"""Peak memory of `dualformer predict --timeline` on films of 1, 10 and 60 minutes, each in a process of its own.

    python benchmarks/timeline_memory.py  # 320x240 at 30 frames a second: some 10 minutes on two cores
    python benchmarks/timeline_memory.py --minutes 1 60 --size 1280x720 --weights WEIGHTS.safetensors

The films are those of long_video_memory.py. Beside the peak of the whole process stands what the film adds to that of
the shortest one. Linux only (/proc).
"""

import argparse
import json
import tempfile
from pathlib import Path

from long_video_memory import FPS, make_film
from own_process import run_dualformer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", nargs="+", type=int, default=[1, 10, 60])
    parser.add_argument("--size", default="320x240")
    parser.add_argument("--mbit", type=float, default=1.0, help="a second")
    parser.add_argument("--weights", default="rendered")
    parser.add_argument("--hop", type=float, help="seconds between clips; half a clip if not given")
    parser.add_argument("--burn", action="store_true", help="write the film with its labels as well")
    options = parser.parse_args()
    width, height = map(int, options.size.split("x"))
    print("| minutes | frames | file, MB | clips | seconds | peak, MiB | added, MiB |\n|---|---|---|---|---|---|---|")
    shortest: float | None = None
    with tempfile.TemporaryDirectory() as folder:
        for minutes in options.minutes:
            film = Path(folder) / f"{minutes}.mp4"
            make_film(film, minutes, (width, height), options.mbit)
            arguments = ["predict", str(film), "--timeline", "--out", folder, "--json", "--device", "cpu"]
            arguments += ["--weights", options.weights, *(["--burn"] if options.burn else [])]
            arguments += ["--hop", str(options.hop)] if options.hop else []
            printed, peak, seconds = run_dualformer(*arguments)
            shortest = peak if shortest is None else shortest
            clips, size = json.loads(printed)["clips"], film.stat().st_size / 1e6
            print(
                f"| {minutes} | {minutes * 60 * FPS:,} | {size:.0f} | {clips:,} | {seconds:.1f} | {peak:.0f} "
                f"| {peak - shortest:+.1f} |",
                flush=True,
            )
            film.unlink()


if __name__ == "__main__":
    main()
