"""``dualformer serve``: answer requests over HTTP, and show a web page."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from dualformer.cli.option_names import OptionNames
from dualformer.cli.shared_options import InferenceOptions, arguments, must
from dualformer.serving.limits import ClipLimits, Limits
from dualformer.video.preprocessing import DEFAULT_VIEWS

if TYPE_CHECKING:
    from dualformer.serving.train_page.trainer import Trainer

_MIB = 2**20


@dataclass(frozen=True, kw_only=True)
class Options(InferenceOptions):
    weights: str
    """A weights file, a folder with model.safetensors, a hub id (owner/name), rendered, or an exported model."""
    host: str = "127.0.0.1"
    """Address to listen at; 0.0.0.0 is every one of this machine."""
    port: int = 8000
    """0 is any that is free."""
    ui: bool = False
    """Show a web page at /. It cannot ask for a token."""
    train: Path | None = None
    """With --ui: a folder for another page, at /train/, on which visitors record clips of their own classes, train on
    them, see them recognised live, and download the recogniser. A folder of before is gone on with."""
    train_mib: float = ClipLimits.bytes / _MIB
    """MiB of all clips of --train."""
    runtime: Path | None = None
    """With --train: ONNX Runtime Web as npm has it, the tarball or a folder with the package (default: from the npm
    registry, once, and then from the cache)."""
    cors: tuple[str, ...] = ()
    """Origins whose pages may use the server in a browser, as in https://example.org, or * for all (default: none)."""
    token_file: Path | None = None
    """File with the token that clients must send as Authorization: Bearer TOKEN. Or set DUALFORMER_TOKEN."""
    views: str = DEFAULT_VIEWS
    """Clips x crops of each video that are looked at."""
    batch: int = 8
    """Views that go through the network together, at most."""
    batch_ms: float = 10.0
    """Milliseconds for which a batch waits for more."""
    workers: int | None = None
    """Processes that decode (default: one for each core, eight at most)."""
    max_mib: float = Limits.max_bytes / _MIB
    """MiB of an upload."""
    max_seconds: float = Limits.max_seconds
    """Of a video."""
    max_frames: int = Limits.max_frames
    """Of a video."""
    max_pixels: int = Limits.max_pixels
    """Of a frame: width times height."""
    header_seconds: float = Limits.header_seconds
    """For the head of a request to arrive."""
    upload_seconds: float = Limits.upload_seconds
    """For the whole of an upload to arrive."""
    decode_seconds: float = Limits.decode_seconds
    """For a video to be read."""
    decode_mib: float = Limits.decode_bytes / _MIB
    """MiB of address space for a video to be read in (on Linux)."""
    concurrency: int = Limits.concurrency
    """Requests that are worked on at once. Others are told to come back."""
    grace: float = 30.0
    """Seconds that requests have to be finished when the server is told to stop."""
    temp: Path | None = None
    """Where the folder for temporary files is made (default: the system's)."""

    def __post_init__(self) -> None:
        if not 0 <= self.port < 65536:
            raise ValueError(f"--port must be 0 to 65535, not {self.port}")
        must("be at least 1", self, "batch", "workers")
        if not 0 <= self.batch_ms < math.inf:
            raise ValueError(f"--batch-ms must be a number of 0 or more, not {self.batch_ms}")
        if not 1 <= self.grace < math.inf:
            raise ValueError(f"--grace must be a number of at least 1, not {self.grace}")
        for name in ("max_mib", "decode_mib", "train_mib"):
            if not 1 / _MIB <= (value := getattr(self, name)) < math.inf:
                raise ValueError(f"`{name}` must be a number of at least a byte, not {value}")
        if self.train is not None and not self.ui:
            raise ValueError("`train` is a page: it goes with `ui`")
        if self.runtime is not None and self.train is None:
            raise ValueError("`runtime` is about `train`")
        self.limits()

    def limits(self) -> Limits:
        same = {field.name: getattr(self, field.name) for field in fields(Limits) if hasattr(self, field.name)}
        return Limits(**same, max_bytes=round(self.max_mib * _MIB), decode_bytes=round(self.decode_mib * _MIB))

    def token(self) -> str | None:
        """Returns what clients must send; None: nothing."""
        if self.token_file is not None:
            token, where = self.token_file.read_text(encoding="utf-8").strip(), f"--token-file {self.token_file}"
        else:
            token, where = os.environ.get("DUALFORMER_TOKEN"), "DUALFORMER_TOKEN"
        if token is not None and not token.strip():
            raise ValueError(f"{where} holds no token: write one of many random characters, or leave it out")
        return None if token is None else token.strip()


def run(options: Options) -> int:
    from dualformer.serving import require_web_extra

    require_web_extra()
    from dualformer.serving.app import check_origins

    check_origins(options.cors)
    token = options.token()
    if options.ui and token is not None:
        raise ValueError("--ui cannot ask for a token: leave one of them out, or let a proxy ask")
    with _trainer(options) as trainer:
        return _serve(options, token, trainer)


@contextmanager
def _trainer(options: Options) -> Iterator[Trainer | None]:
    """Holds the folder of ``train``, so that one server at a time uses it."""
    if options.train is None:
        yield None
        return
    from dualformer.cli import train
    from dualformer.export.export_weights import check_supported
    from dualformer.export.web_runtime import find_runtime
    from dualformer.files import InUseError, lock_for_writing
    from dualformer.serving.train_page.trainer import Trainer

    check_supported("onnx", "fp32")
    find_runtime(options.runtime, say=partial(print, flush=True))  # what is missing shows now, not after a training
    with ExitStack() as held:
        try:
            held.enter_context(lock_for_writing(options.train, folder=True))
        except InUseError as error:
            raise InUseError(str(error).replace("run is", "server is").replace("`out`", "`train`")) from None
        trainer = Trainer(
            options.train,
            limits=ClipLimits(bytes=round(options.train_mib * _MIB)),
            accelerator=options.device.partition(":")[0],
            runtime=options.runtime,
            spell=OptionNames(train.Options).spell,
        )
        try:
            yield trainer
        finally:
            trainer.close()


def _serve(options: Options, token: str | None, trainer: Trainer | None) -> int:
    from dualformer.serving.app import make_app
    from dualformer.serving.server import bind, make_server, run_server
    from dualformer.serving.service import Service

    listening = bind(options.host, options.port)  # a port that is taken shows before anything is loaded
    with listening:
        recognizer = options.load(options.weights, views=options.views, views_per_batch=options.batch)
        service = Service(
            recognizer,
            options.limits(),
            name=Path(options.weights).name,
            **arguments(options, "batch", "batch_ms", "workers", "temp"),
        )
        try:
            app = make_app(service, token=token, ui=options.ui, trainer=trainer, cors=options.cors)
            host, port = listening.getsockname()[:2]

            def started() -> None:
                url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
                print(f"serving {options.weights} on {recognizer.device} at {url}; Ctrl-C stops", flush=True)
                if trainer is not None:
                    print(f"training on clips of visitors in {options.train}: {url}/train/", flush=True)
                if token is None and not host.startswith("127.") and host != "::1":
                    print("note: whoever reaches this address may use it; --token-file asks for a token", flush=True)

            run_server(make_server(app, service, grace=options.grace, on_start=started), listening)
        finally:
            service.close_now()  # where it was stopped at once, or did not start
    print("stopped", flush=True)
    return 0
