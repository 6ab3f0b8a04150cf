"""The page that trains, from below the browser: names and bounds of clips, its requests, and its training process."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest

pytest.importorskip("fastapi", reason="the extra [web] is not installed")

from fastapi.testclient import TestClient
from made_server import film, serving, until
from PIL import Image

from dualformer.cli.option_names import OptionNames
from dualformer.cli.train import Options as TrainOptions
from dualformer.datasets.class_folders import read_folder
from dualformer.inference.recognizer import Recognizer
from dualformer.serving.app import make_app
from dualformer.serving.limits import ClipLimits
from dualformer.serving.request_error import RequestError
from dualformer.serving.train_page.class_clips import ClassClips, checked_class_name
from dualformer.serving.train_page.routes import train_routes
from dualformer.serving.train_page.trainer import Trainer, TrainingJob
from made_web_runtime import package

PAGE = {"X-Dualformer-Page": "train"}


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "has no name"),
        ("  ", "has no name"),
        ("a/b", "holds '/'"),
        ("..", "begins with a dot"),
        (".hidden", "begins with a dot"),
        ("_unlabeled", "begins with a dot or an underscore"),
        ("end.", "ends with a dot"),
        ("a\\b", "not every file system"),
        ("a;b", "holds ';'"),
        ("com1.txt", "device of Windows"),
        ("line\nbreak", "not one line"),
        ("nul\0l", "not one line"),
        ("x" * 61, "more than 60 letters"),
        ("🖖" * 60, "200 bytes"),
    ],
)
def test_names_that_no_folder_should_have_are_refused(name: str, why: str) -> None:
    with pytest.raises(RequestError, match=why):
        checked_class_name(name)


def test_names_are_kept_as_they_are_but_for_blanks_and_spelling() -> None:
    assert checked_class_name(" Hände hoch 👋 ") == "Hände hoch 👋"
    assert checked_class_name("re\u0301sume\u0301") == "résumé"


def test_clips_are_an_ordinary_folder_per_class(tmp_path: Path) -> None:
    clips = ClassClips(tmp_path / "clips")
    for name in ("wave", "clap"):
        for number in range(2):
            upload = tmp_path / "upload"
            upload.write_bytes(bytes([number]))
            clips.add(name, upload, "C:\\a\\My Clip.WEBM")
            assert not upload.exists()
    assert {name: len(paths) for name, paths in clips.classes().items()} == {"clap": 2, "wave": 2}
    assert read_folder(tmp_path / "clips")["all"].classes == ("clap", "wave")
    clips.check_trainable()
    first = clips.classes()["wave"][0]
    clips.remove("wave", first.name)
    with pytest.raises(RequestError, match=r"at least 2 clips of each class.*add some to wave"):
        clips.check_trainable()
    clips.remove("wave")
    with pytest.raises(RequestError, match="at least 2 classes"):
        clips.check_trainable()
    for gone in (lambda: clips.remove("wave"), lambda: clips.clip("..", "clips"), lambda: clips.remove("clap", "../x")):
        with pytest.raises(RequestError, match="there is no such"):
            gone()


def test_clips_are_bounded(tmp_path: Path) -> None:
    clips = ClassClips(tmp_path / "clips", ClipLimits(bytes=100, clips=3, classes=2))

    def add(name: str, size: int = 1) -> None:
        (tmp_path / "upload").write_bytes(bytes(size))
        clips.add(name, tmp_path / "upload", "a.mp4")

    add("a")
    with pytest.raises(RequestError, match="'A' differs from 'a' by capitals alone"):
        add("A")
    with pytest.raises(RequestError, match="there is a class 'a' already"):
        clips.add_class("a")
    add("b")
    with pytest.raises(RequestError, match="there are 2 classes, the most"):
        add("c")
    add("b")
    with pytest.raises(RequestError, match="there are 3 clips, the most"):
        add("b")
    clips.remove("b")
    add("b", 100)
    with pytest.raises(RequestError, match="MiB, the most they may"):
        add("b")
    with pytest.raises(ValueError, match="clips must be a positive number"):
        ClipLimits(clips=0)


SCRIPT = """
import json, sys, time
say = lambda **what: print(json.dumps(what), flush=True)
say(stage="training"); say(log="begun with `epochs=3`"); say(steps=4, step=0); say(step=1, line="epoch 1")
job = json.loads(sys.argv[-1])
if job["resume"]: say(stage="done"); sys.exit(0)
if job["epochs"]: sys.exit(9)
sys.stdin.read()
say(step=2)
say(stage="stopped")
"""


@pytest.fixture
def trainer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Trainer]:
    """With two clips of two classes; its process only says what it would do, and waits to be stopped."""
    command = TrainingJob.command
    monkeypatch.setattr(TrainingJob, "command", lambda job: [sys.executable, "-c", SCRIPT, *command(job)[3:]])
    made = Trainer(tmp_path / "page", accelerator="cpu", spell=OptionNames(TrainOptions).spell)
    for name in ("a", "b"):
        for number in range(2):
            film(tmp_path / "film.mp4", seed=number).rename(made.incoming / "clip")
            made.clips.add(name, made.incoming / "clip", "clip.mp4")
    yield made
    made.close()


def training(trainer: Trainer) -> dict[str, Any]:
    return trainer.state()["training"]


def leave_checkpoint(trainer: Trainer) -> None:
    (trainer.folder / "run" / "checkpoints" / "step-0000001.pt").mkdir(parents=True)
    (trainer.folder / "trained-on.json").write_text(json.dumps(trainer.clips.to_dict()))


def test_one_training_at_a_time_is_watched_stopped_and_gone_on_with(trainer: Trainer) -> None:
    assert training(trainer) == {"stage": "none", "log": [], "running": False, "can_go_on": False}
    with pytest.raises(RequestError, match="no training runs"):
        trainer.stop()
    with pytest.raises(RequestError, match="no training was stopped"):
        trainer.start(resume=True)
    with pytest.raises(RequestError, match="epochs are 1 to 1000, not 0"):
        trainer.start(epochs=0)
    trainer.start(flip=True)
    until(lambda: training(trainer).get("line"))
    assert training(trainer) == {
        "stage": "training",
        "log": ["begun with --epochs 3"],
        "steps": 4,
        "step": 1,
        "line": "epoch 1",
        "running": True,
        "can_go_on": False,
    }
    with pytest.raises(RequestError, match="runs already"):
        trainer.start()
    leave_checkpoint(trainer)
    trainer.stop()
    until(lambda: training(trainer)["stage"] == "stopped")
    assert training(trainer)["step"] == 2 and training(trainer)["can_go_on"]
    again = Trainer(trainer.folder, accelerator="cpu")  # as after a server that was killed
    assert training(again)["stage"] == "stopped" and training(again)["can_go_on"]
    again.start(resume=True)
    until(lambda: training(again)["stage"] == "done")


def test_a_process_that_breaks_down_is_told(trainer: Trainer) -> None:
    leave_checkpoint(trainer)
    trainer.start(epochs=3)
    assert not training(trainer)["can_go_on"], "a new run has nothing of the old one"
    until(lambda: training(trainer)["stage"] == "failed")
    assert "(code 9)" in training(trainer)["error"]
    trainer.start()
    trainer.close()
    assert training(trainer)["stage"] == "stopped"


@pytest.fixture
def client(trainer: Trainer) -> Iterator[TestClient]:
    with serving() as service:
        app = make_app(service, ui=False)
        app.include_router(train_routes(service, trainer))
        yield TestClient(app, headers=PAGE)


def error(response: Any, status: int) -> str:
    assert response.status_code == status, response.text
    return response.json()["error"]["message"]


def test_clips_are_taken_where_they_decode(client: TestClient, trainer: Trainer, tmp_path: Path) -> None:
    def send(path: Path, name: str | None = None, to: str = "a%20b") -> Any:
        return client.post(f"/train/classes/{to}/clips", files={"video": (name or path.name, path.read_bytes())})

    taken = send(film(tmp_path / "good.mp4", frames=24)).json()
    assert taken["frames"] == 24 and taken["seconds"] == pytest.approx(0.96)
    sent = client.get(f"/train/classes/a%20b/clips/{taken['clip']}")
    assert sent.content == (tmp_path / "good.mp4").read_bytes() and sent.headers["content-type"] == "video/mp4"
    (tmp_path / "bad.mp4").write_bytes(b"no video" * 99)
    Image.new("RGB", (32, 32)).save(tmp_path / "still.png")
    assert "it cannot be opened as a video" in error(send(tmp_path / "bad.mp4"), 415)
    assert "no name of a video" in error(send(tmp_path / "still.png"), 415)
    assert "single picture" in error(send(tmp_path / "still.png", "still.mp4"), 415)
    assert "holds ':'" in error(send(tmp_path / "good.mp4", to="a%3Ab"), 400)
    assert [len(each["clips"]) for each in client.get("/train/state").json()["classes"]] == [2, 1, 2]
    assert list(trainer.incoming.iterdir()) == []
    assert client.delete(f"/train/classes/a%20b/clips/{taken['clip']}").status_code == 200
    assert client.delete("/train/classes/a%20b").status_code == 200
    assert "no such class" in error(client.delete("/train/classes/a%20b"), 404)


def test_the_training_and_what_it_gives(client: TestClient, trainer: Trainer) -> None:
    assert "nothing was trained yet" in error(client.get("/train/weights"), 404)
    assert client.post("/train/start", json={"epochs": None, "flip": True}).json() == {"started": True}
    assert "runs already" in error(client.post("/train/start", json={}), 409)
    assert "a training uses the clips" in error(client.delete("/train/classes/a"), 409)
    assert client.post("/train/stop").json() == {"stopping": True}
    until(lambda: not client.get("/train/state").json()["training"]["running"])
    web = trainer.recogniser / "web"
    web.mkdir(parents=True)
    (web / "index.html").write_text("live")
    (trainer.recogniser / "weights.safetensors").write_bytes(b"weights")
    (trainer.recogniser / "result.json").write_text(json.dumps({"top1": 1.0}))
    assert client.get("/train/state").json()["result"] == {"top1": 1.0}
    live = client.get("/train/live/index.html")
    assert live.text == "live" and "content-security-policy" not in live.headers
    for elsewhere in ("..%2Fresult.json", "%2E%2E", "nothing", ""):
        assert client.get(f"/train/live/{elsewhere}").status_code == 404
    weights = client.get("/train/weights")
    assert weights.content == b"weights"
    assert weights.headers["content-disposition"] == 'attachment; filename="weights.safetensors"'


def test_only_the_page_changes_anything_and_it_loads_from_nowhere_else(client: TestClient, trainer: Trainer) -> None:
    page = client.get("/train", follow_redirects=True)
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    for name in ("page.js", "page.css", "element.js", "palette.css"):
        assert name in page.text and client.get(f"/train/{name}").status_code == 200
    del client.headers["X-Dualformer-Page"]
    for method, path in (("POST", "start"), ("POST", "stop"), ("POST", "classes"), ("DELETE", "classes/a")):
        assert "needs a header" in error(client.request(method, f"/train/{path}"), 400)
    assert len(trainer.clips.classes()) == 2 and not trainer.is_running


def test_the_page_goes_with_the_page(trainer: Trainer) -> None:
    with serving() as service, pytest.raises(ValueError, match="`ui=True`"):
        make_app(service, trainer=trainer)


def test_a_process_whose_server_was_killed_says_nothing_and_goes_on_to_save() -> None:
    from dualformer.serving.train_page.training_process import tell_to

    reading, writing = os.pipe()
    out = os.fdopen(writing, "w")
    tell_to(out)({"step": 1})
    assert json.loads(os.read(reading, 100)) == {"step": 1}
    os.close(reading)
    tell_to(out)({"step": 2})
    with pytest.raises(BrokenPipeError):
        out.close()


@pytest.mark.usefixtures("blank_pictures")
def test_the_process_trains_judges_and_exports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped after its first step, and gone on with. The test in a browser has the export, which takes long."""
    from dualformer.serving.train_page import training_process
    from dualformer.serving.train_page.training_process import run

    def export(model: object, card: object, out: Path, **settings: object) -> None:
        out.mkdir()
        (out / "index.html").write_text("page")

    monkeypatch.setattr(training_process, "export_weights", export)
    for number, name in enumerate(("red", "blue", "red", "blue")):
        (tmp_path / "clips" / name).mkdir(parents=True, exist_ok=True)
        film(tmp_path / "clips" / name / f"{number}.mp4", frames=16, height=32, width=32, seed=number)
    job = TrainingJob(folder=tmp_path, epochs=1, accelerator="cpu", runtime=package(tmp_path / "runtime"))
    assert TrainingJob.parse(job.command()[-1]) == job
    said: list[Mapping[str, Any]] = []

    def tell(what: Mapping[str, Any]) -> None:
        said.append(what)
        if what == {"step": 1}:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run(job, tell)
    trainer = Trainer(tmp_path, accelerator="cpu")
    assert trainer.state()["training"]["can_go_on"] and trainer.state()["result"] is None
    extra = film(tmp_path / "clips" / "red" / "more.mp4")
    assert not trainer.state()["training"]["can_go_on"], "the clips are others"
    extra.unlink()
    assert any("stopped by Ctrl-C" in what.get("log", "") for what in said)
    said.clear()
    run(replace(job, resume=True, epochs=None), said.append)
    assert {"step": 1, "steps": 2} in said and {"step": 2} in said
    assert [what["stage"] for what in said if "stage" in what] == ["training", "judging", "exporting"]
    result = trainer.state()["result"]
    assert result["classes"] == ["blue", "red"] and result["videos"] == 2
    assert sum(map(sum, result["confusion"])) == 2
    assert len(result["mistakes"]) == 2 - result["confusion"][0][0] - result["confusion"][1][1]
    assert not trainer.state()["training"]["can_go_on"]
    assert Recognizer.load(trainer.recogniser / "weights.safetensors").labels == ("blue", "red")
    with ZipFile(trainer.recogniser / "web.zip") as archive:
        assert archive.namelist() == ["web/index.html"]
