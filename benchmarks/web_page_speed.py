"""How many clips a second the page of ``export --format web`` takes in chromium, by the page's own display of speed.

    python benchmarks/web_page_speed.py                                # Nano at its own clip size, two threads and one
    python benchmarks/web_page_speed.py --models dualformer_nano_conv --threads 2
    python benchmarks/web_page_speed.py --models WEIGHTS.safetensors --runtime onnxruntime-web-1.30.0.tgz

A row for each network, precision and number of threads: with two and more the page's server isolates it, so that
threads may share memory. A film is labelled by eight views, ``--rounds`` times; the page shows the median of its last
ten clips. Then the browser's own test picture is its camera, of 30 frames a second, and the page counts its answers,
which are at most eight while the frames of a clip go by. Networks by name have random weights, and ranges of int8 are
found on noise: neither changes the speed. Needs the extras ``export`` and ``dev``, and chromium.
"""

import argparse
import itertools
import re
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import torch
from playwright.sync_api import Browser, sync_playwright

from dualformer.datasets.rendered_draw import render
from dualformer.datasets.rendered_scene import ALL, Scene
from dualformer.export.export_data import Clips, rendered_clips
from dualformer.export.export_weights import export_weights
from dualformer.export.web_page import write_web_page
from dualformer.export.web_runtime import RuntimeFiles, find_runtime
from dualformer.model.network import DualFormer
from dualformer.model.presets import create_model, list_models
from dualformer.video.clip_reader import Views
from dualformer.video.encode import write_video
from dualformer.video.preprocessing import KINETICS_MEAN, KINETICS_STD, Preprocessing
from dualformer.weights.card import Card
from dualformer.weights.safetensors_file import load_weights

_SECONDS = 300
"""That anything on the page may take."""
_LIVE_SECONDS = 10
_CAMERA = ("--use-fake-device-for-media-stream=fps=30", "--use-fake-ui-for-media-stream")


def open_network(name: str) -> tuple[DualFormer, Card]:
    """Returns the network of a weights file, or a new one by its name with a card for its own clip size."""
    if name not in list_models():
        return load_weights(name)
    model = create_model(name, seed=0, num_classes=10).eval()
    frames, size, _ = model.config.clip
    return model, Card(
        config=model.config,
        labels=tuple("abcdefghij"),
        preprocessing=Preprocessing(frames=frames, resize=size, crop=size, mean=KINETICS_MEAN, std=KINETICS_STD),
        provenance="random weights",
        licence="",
    )


def write_page(name: str, precision: str, folder: Path, runtime: RuntimeFiles) -> Path:
    model, card = open_network(name)
    pre = card.preprocessing
    generator = torch.Generator().manual_seed(0)
    noise = torch.randint(0, 256, (8, pre.frames, pre.crop, pre.crop, 3), dtype=torch.uint8, generator=generator)
    return export_weights(
        model,
        card,
        folder / f"{Path(name).stem}-{precision}",
        format="onnx",
        precision=precision,  # pyright: ignore[reportArgumentType]
        batch=1,
        clips=rendered_clips(pre, count=2),
        calibration=Clips(views=noise, source="noise") if precision == "int8" else None,
        tolerance=1.0 if precision == "int8" else None,  # the logits of random weights are small
        pack=lambda path, out: write_web_page(path, out, name=name, views=Views(8, 1), runtime=runtime),
    ).path


@contextmanager
def served(folder: Path, *, isolated: bool) -> Iterator[str]:
    """Yields the address of a server of the folder, which ``isolated`` lets the page share memory among threads."""

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

        def end_headers(self) -> None:
            if isolated:
                self.send_header("Cross-Origin-Opener-Policy", "same-origin")
                self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
            super().end_headers()

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def measure(browser: Browser, address: str, film: Path, *, threads: int, rounds: int) -> tuple[float, str, str, str]:
    """Returns milliseconds per clip, seconds until the page is ready, what it shows of its speed, and live answers a
    second."""
    page = browser.new_page()
    page.add_init_script(f"Object.defineProperty(navigator, 'hardwareConcurrency', {{get: () => {threads}}})")
    begun = time.monotonic()
    page.goto(address)

    def wait_for(condition: str) -> None:
        end = time.monotonic() + _SECONDS
        while not page.evaluate(condition):
            if time.monotonic() > end or page.evaluate("statusLine.className === 'wrong'"):
                raise SystemExit(f"{address}: {page.inner_text('#status')}")
            page.wait_for_timeout(50)

    wait_for("statusLine.textContent.startsWith('Ready')")
    ready = time.monotonic() - begun
    for _ in range(rounds):
        page.set_input_files("#file", [])  # the same file again would be no change
        page.set_input_files("#file", film)
        wait_for("statusLine.textContent.includes('the mean of 8 views')")
        page.evaluate("statusLine.textContent = ''")
    shown = page.inner_text("#speed")
    milliseconds = float(page.evaluate("speedLine.dataset.milliseconds"))
    page.click("#camera")
    wait_for("statusLine.textContent === 'Camera: live.'")
    page.wait_for_timeout(1000 * _LIVE_SECONDS)
    live = re.search(r"([\d.]+) answers a second", page.inner_text("#speed"))
    page.close()
    return milliseconds, f"{ready:.1f}", shown, live[1] if live else "–"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["dualformer_nano"], help="presets or weights")
    parser.add_argument("--precisions", nargs="+", default=["fp32", "int8"])
    parser.add_argument("--threads", nargs="+", type=int, default=[2, 1])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--runtime", type=Path, help="as of `dualformer export`")
    parser.add_argument("--chromium", default=shutil.which("chromium") or shutil.which("google-chrome"))
    parser.add_argument("--pages", type=Path, help="a folder to keep the pages in, and to take them from")
    options = parser.parse_args()
    torch.set_num_threads(1)
    runtime = find_runtime(options.runtime, say=print)
    with tempfile.TemporaryDirectory() as temporary, sync_playwright() as playwright:
        home = options.pages or Path(temporary)
        home.mkdir(parents=True, exist_ok=True)
        film = Path(temporary) / "film.mp4"
        frames = render(Scene(size=128, frames=64, classes=ALL), 3, (0, 5)).frames
        write_video(film, frames, fps=25)
        choices = list(itertools.product(options.models, options.precisions))
        pages = {choice: home / f"{Path(choice[0]).stem}-{choice[1]}" for choice in choices}
        for choice, page in pages.items():
            if not page.exists():
                write_page(*choice, home, runtime)
        browser = playwright.chromium.launch(executable_path=options.chromium, args=["--no-sandbox", *_CAMERA])
        print(
            "| network | precision | threads | ms per clip | clips a second | live answers a second | MiB | ready, s |"
        )
        print("|---|---|---|---|---|---|---|---|")
        for name, precision, threads in itertools.product(options.models, options.precisions, options.threads):
            with served(pages[name, precision], isolated=threads > 1) as address:
                milliseconds, ready, shown, live = measure(
                    browser, address, film, threads=threads, rounds=options.rounds
                )
            found = re.search(r"(\d+) MiB.*WebAssembly, (\d+) thread", shown)
            if found is None or int(found[2]) != threads:
                raise SystemExit(f"{threads} threads were asked for, and the page says: {shown}")
            print(
                f"| {Path(name).stem} | {precision} | {threads} | {milliseconds:.0f} | {1000 / milliseconds:.1f} | "
                f"{live} | {found[1]} | {ready} |",
                flush=True,
            )
        browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
