"""Files to labels: the same answer by every way, views that differ, bad files that stop nothing."""

import dataclasses
import io
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from dualformer.errors import DualFormerError
from dualformer.evaluation.view_sweep import read_view_sweep
from dualformer.explain.explain_video import explain_video
from dualformer.explain.shown_clip import ClipChoice, read_shown_clip
from dualformer.inference import view_classifier
from dualformer.inference.recognizer import Prediction, Recognizer
from dualformer.inference.sliding_windows import FrameSampler, SlidingWindow
from dualformer.inference.view_classifier import choose_device, open_on
from dualformer.model.network import DualFormer
from dualformer.model.presets import create_model
from dualformer.video import transforms
from dualformer.video.clip_reader import Views, read_views, views_of_frames
from dualformer.video.container import VideoError
from dualformer.video.encode import write_video
from dualformer.video.memory_frames import MemoryFrames
from dualformer.video.preprocessing import kinetics
from dualformer.video.pyav_reader import PyAVReader
from dualformer.weights.card import Card
from dualformer.weights.safetensors_file import save_weights

LABELS = ("up", "down", "left", "right", "round", "still", "blink")


def card_of(model: DualFormer, labels: tuple[str, ...] = LABELS) -> Card:
    return Card(config=model.config, labels=labels, preprocessing=PRE, provenance="a test", licence="")


PRE = kinetics(frames=4, stride=2, size=32)


@pytest.fixture(scope="module")
def model() -> DualFormer:
    model = create_model("dualformer_nano", clip=(4, 32, 32), num_classes=len(LABELS), seed=3)
    model.state_dict()["head.weight"].mul_(30)  # so that videos differ in what the random network says of them
    return model


@pytest.fixture(scope="module")
def weights(model: DualFormer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "nano.safetensors"
    save_weights(path, model, card_of(model))
    return path


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("videos")
    paths = [folder / f"{i}.mp4" for i in range(4)]
    for i, path in enumerate(paths):
        rng = np.random.default_rng(i)
        frames = rng.integers(0, 256, (24, 6, 8, 3), dtype=np.uint8).repeat(8, axis=1).repeat(8, axis=2)
        write_video(path, frames, fps=25)
    return paths


@pytest.fixture(scope="module")
def recognizer(weights: Path) -> Recognizer:
    return Recognizer.load(weights, device="cpu", views="3x3")


def test_weights_are_folded_before_they_go_to_their_device(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that all devices have the same ones, and tables that were begun on one go on on another."""
    fold, folded_on = DualFormer.fold, list[torch.device]()

    def noted(model: DualFormer) -> DualFormer:
        folded_on.extend({parameter.device for parameter in model.parameters()})
        return fold(model)

    monkeypatch.setattr(DualFormer, "fold", noted)
    monkeypatch.setattr(view_classifier, "choose_device", lambda _: torch.device("meta"))
    model, _, _ = open_on(weights)
    assert isinstance(model, DualFormer) and folded_on == [torch.device("cpu")]
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}


def test_a_prediction_is_the_mean_of_the_softmax_of_every_view(
    recognizer: Recognizer, model: DualFormer, videos: list[Path]
) -> None:
    prediction = recognizer(videos[0])
    views = read_views(videos[0], PRE, clips=3, crops=3)
    expected = np.zeros(len(LABELS))
    with torch.no_grad():
        for view in views:
            pixels = (view.double() - torch.tensor(PRE.mean)) / torch.tensor(PRE.std)
            expected += model.eval()(pixels.permute(3, 0, 1, 2)[None].float())[0].double().softmax(0).numpy() / 9
    np.testing.assert_allclose(prediction.probabilities, expected, atol=1e-5)
    assert prediction.probabilities.dtype == np.float32
    assert prediction.probabilities.sum() == pytest.approx(1, abs=1e-5)
    assert prediction.source == str(videos[0])
    assert prediction.label == LABELS[int(expected.argmax())]
    assert prediction.probability == pytest.approx(expected.max(), abs=1e-5)


def test_views_are_distinct_and_so_are_their_probabilities(recognizer: Recognizer, videos: list[Path]) -> None:
    views = read_views(videos[0], PRE, clips=3, crops=3)
    probabilities = recognizer.predict_views(views)
    assert probabilities.shape == (9, len(LABELS))
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    for a in range(9):
        for b in range(a):
            assert not torch.equal(views[a], views[b])
            assert np.abs(probabilities[a] - probabilities[b]).max() > 1e-4


def test_batches_of_views_give_what_single_views_give(
    weights: Path, recognizer: Recognizer, videos: list[Path]
) -> None:
    views = read_views(videos[1], PRE, clips=5)
    single = np.concatenate([recognizer.predict_views(view[None]) for view in views])
    for at_once in (1, 2, 3, 8):
        other = Recognizer.load(weights, device="cpu", views_per_batch=at_once)
        np.testing.assert_allclose(other.predict_views(views), single, atol=1e-5)


def test_frames_in_memory_give_what_their_file_gives(recognizer: Recognizer, videos: list[Path]) -> None:
    with PyAVReader(videos[2]) as reader:
        frames = reader.read(np.arange(len(reader)))
    from_file = recognizer(videos[2]).probabilities
    assert np.array_equal(recognizer(frames).probabilities, from_file)
    assert np.array_equal(recognizer(frames.numpy()).probabilities, from_file)
    assert recognizer(frames).source == "frames"


def test_frames_in_memory_are_resampled_like_those_of_a_file(videos: list[Path]) -> None:
    pre = dataclasses.replace(PRE, fps=10.0, stride=1)
    with PyAVReader(videos[2]) as reader:
        frames = reader.read(np.arange(len(reader)))
    views = views_of_frames(frames, pre, Views(2, 3), fps=25)
    assert torch.equal(views, read_views(videos[2], pre, clips=2, crops=3))
    with pytest.raises(ValueError, match="fps="):
        views_of_frames(frames, pre, Views(2, 3))


def test_padded_views_are_the_same_in_every_path(videos: list[Path]) -> None:
    pre = dataclasses.replace(PRE, fps=12.5, stride=1, crop_mode="pad")
    with PyAVReader(videos[2]) as reader:
        frames, times = reader.read(np.arange(len(reader))), reader.times
    views = read_views(videos[2], pre, clips=1)
    mean = torch.tensor([124, 116, 104], dtype=torch.uint8)
    assert torch.equal(views[0, :, :4], mean.expand(4, 4, 32, 3))  # 48 by 64 pixels become 24 by 32
    assert torch.equal(views[0, :, 28:], mean.expand(4, 4, 32, 3))
    small = transforms.resize(frames, 24, 32)
    assert all((small == row[4:28]).flatten(1).all(1).any() for row in views[0])
    assert torch.equal(views_of_frames(frames, pre, Views(1, 1), fps=25), views)
    assert torch.equal(read_view_sweep(videos[2], pre, [Views(1, 1), Views(2, 1)]).views[:1], views)
    for shown in (
        read_shown_clip(videos[2], pre, ClipChoice()),
        read_shown_clip(MemoryFrames(frames=frames, fps=25), pre, ClipChoice()),
    ):
        assert torch.equal(shown.view, views[0])
        height, width = shown.frames.shape[1:3]
        assert height == width and shown.box == (0, 0, height, width)
    sampler, window = FrameSampler(pre), SlidingWindow(pre)
    found = [window.add(s) for n, t in enumerate(times) for s in sampler.add(float(t), lambda n=n: frames[n])]
    first = next(clip for clip in found if clip is not None)
    assert torch.equal(first.views[0], transforms.crop_views(frames[[0, 2, 4, 6]], pre)[0])


@pytest.mark.parametrize(("frames", "stride"), [(4, 2), (16, 3)], ids=["long enough", "looped"])
def test_views_as_the_release_takes_them_are_the_same_in_every_path(
    videos: list[Path], frames: int, stride: int
) -> None:
    pre = dataclasses.replace(
        PRE, frames=frames, stride=stride, placement="middles", short_video="loop", antialias=False
    )
    with PyAVReader(videos[2]) as reader:
        pictures, times = reader.read(np.arange(len(reader))), reader.times
    views = read_views(videos[2], pre, clips=2)
    part = max(0, len(times) - frames * stride + 1) / 2
    numbers = [[(int(part / 2 + i * part) + k * stride) % len(times) for k in range(frames)] for i in range(2)]
    planes = pictures.permute(0, 3, 1, 2).float()
    small = torch.nn.functional.interpolate(planes, size=(32, 43), mode="bilinear")[..., 5:37].permute(0, 2, 3, 1)
    assert (views.float() - small[torch.tensor(numbers)]).abs().max() <= 1
    assert not torch.equal(views, read_views(videos[2], dataclasses.replace(pre, antialias=True), clips=2))
    assert torch.equal(views_of_frames(pictures, pre, Views(2, 1), fps=25), views)
    sweep = read_view_sweep(videos[2], pre, [Views(2, 1), Views(3, 1)])
    assert torch.equal(sweep.views[sweep.places[0]], views)
    for number in range(2):
        choice = ClipChoice(number=number, count=2)
        for source in (videos[2], MemoryFrames(frames=pictures, fps=25)):
            assert torch.equal(read_shown_clip(source, pre, choice).view, views[number])


def test_a_window_of_a_looped_video_shows_its_sampled_frames_again() -> None:
    pre = dataclasses.replace(PRE, short_video="loop")
    pictures = torch.arange(5, dtype=torch.uint8)[:, None, None, None].expand(5, 32, 32, 3) * 40
    sampler, window = FrameSampler(pre), SlidingWindow(pre)
    for number in range(5):
        for sample in sampler.add(number / 25, lambda number=number: pictures[number]):
            assert window.add(sample) is None
    found = window.finish()
    assert found is not None and found.views[0, :, 0, 0, 0].tolist() == [0, 80, 160, 0]


def test_every_source_is_labelled_embedded_explained_and_timed_as_its_file_is(
    recognizer: Recognizer, videos: list[Path]
) -> None:
    pytest.importorskip("captum", reason="the extra [explain] is not installed")
    path = videos[2]
    with PyAVReader(path) as reader:
        frames = reader.read(np.arange(len(reader))).numpy()
    probabilities, features = recognizer(path).probabilities, recognizer.embed(path)
    timeline, explained = recognizer.timeline(path, threshold=0.0), explain_video(recognizer, path)
    assert features.shape == (recognizer.model.num_features,)
    bgr = np.ascontiguousarray(frames[..., ::-1])
    sources: dict[str, tuple[Callable[[], Any], dict[str, Any]]] = {
        "bytes": (path.read_bytes, {}),
        "file": (lambda: io.BytesIO(path.read_bytes()), {}),
        str(path): (lambda: path.open("rb"), {}),
        "frames": (lambda: bgr[..., ::-1], {"fps": 25}),
        "frames ": (lambda: bgr, {"fps": 25, "channel_order": "bgr"}),
        "frames  ": (lambda: [Image.fromarray(frame) for frame in frames], {"fps": 25}),
    }
    for name, (make, how) in sources.items():
        assert np.array_equal(recognizer(make(), **how).probabilities, probabilities), name
        assert recognizer(make(), **how).source == name.strip()
        assert np.array_equal(recognizer.embed(make(), **how), features), name
        found = recognizer.timeline(make(), threshold=0.0, **how)
        assert found.source == name.strip() and found.frames == timeline.frames
        assert np.array_equal(found.probabilities, timeline.probabilities), name
        np.testing.assert_allclose(found.bounds, timeline.bounds, atol=1e-6)
        assert np.array_equal(explain_video(recognizer, make(), **how).map, explained.map), name
    several: list[Any] = [path.read_bytes(), path, [Image.fromarray(frame) for frame in frames]]
    found = list(recognizer.many(several))
    assert [source for source, _ in found] == several
    for _, outcome in found:
        assert isinstance(outcome, Prediction)
        assert np.array_equal(outcome.probabilities, probabilities)


def test_notes_say_what_is_to_be_known_of_a_video(recognizer: Recognizer, videos: list[Path]) -> None:
    assert recognizer(videos[0]).notes == ()
    short = "3 frames are shorter than a clip of 4 frames × stride 2: its last frame is repeated"
    frames = np.zeros((3, 40, 40, 3), dtype=np.uint8)
    assert recognizer(frames).notes == (short,)
    assert recognizer(list(frames)).notes == (short,)  # also where it was said before
    [(_, outcome)] = recognizer.many([frames])
    assert isinstance(outcome, Prediction) and outcome.notes == (short,)


@pytest.mark.parametrize(
    "frames", [np.zeros((4, 8, 8, 3), np.float32), np.zeros((4, 8, 8), np.uint8), np.zeros((0, 8, 8, 3), np.uint8)]
)
def test_other_arrays_are_refused(recognizer: Recognizer, frames: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"uint8 \(T, H, W, 3\)"):
        recognizer(frames)


def test_many_goes_on_after_a_bad_file_and_keeps_the_order(
    recognizer: Recognizer, videos: list[Path], tmp_path: Path
) -> None:
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"not a video" * 100)
    absent = tmp_path / "absent.mp4"
    paths = [videos[0], bad, videos[1], absent, videos[2]]
    found = list(recognizer.many(paths, ahead=1))
    assert [path for path, _ in found] == paths
    for path, outcome in found:
        if path in (bad, absent):
            assert isinstance(outcome, VideoError)
            assert outcome.path == str(path)
            assert "\n" not in str(outcome)
        else:
            assert isinstance(outcome, Prediction)
            assert np.array_equal(outcome.probabilities, recognizer(path).probabilities)
    assert str(found[3][1]).endswith("there is no such file")


def test_many_reads_no_further_ahead_than_asked(recognizer: Recognizer, videos: list[Path]) -> None:
    taken = 0

    def endless() -> Iterator[Path]:
        nonlocal taken
        while True:
            taken += 1
            yield videos[taken % 4]

    results = recognizer.many(endless(), ahead=2)
    for _ in range(3):
        next(results)
    assert isinstance(results, Generator)
    results.close()
    assert taken == 5


def test_many_of_nothing_is_nothing(recognizer: Recognizer) -> None:
    assert list(recognizer.many([])) == []
    with pytest.raises(ValueError, match="ahead"):
        recognizer.many([], ahead=0)


def test_top_names_the_best_first_and_no_more_than_there_are() -> None:
    p = np.array([0.1, 0.4, 0.1, 0.4], dtype=np.float32)
    prediction = Prediction(labels=("a", "b", "c", "d"), probabilities=p, source="x")
    assert [label for label, _ in prediction.top(3)] == ["b", "d", "a"]
    assert len(prediction.top(10)) == 4
    assert prediction.top(1)[0][1] == pytest.approx(0.4)
    with pytest.raises(ValueError, match="at least 1"):
        prediction.top(0)


def test_classes_without_names_are_numbered(model: DualFormer) -> None:
    assert Recognizer(model, card_of(model, ()), device="cpu").labels == ("0", "1", "2", "3", "4", "5", "6")


def test_a_network_that_cannot_label_is_refused(model: DualFormer) -> None:
    headless = create_model("dualformer_nano", clip=(4, 32, 32), num_classes=0, seed=0)
    with pytest.raises(ValueError, match="no classifier"):
        Recognizer(headless, card_of(headless, ()), device="cpu")
    with pytest.raises(ValueError, match="another network"):
        Recognizer(headless, card_of(model), device="cpu")


def test_bfloat16_is_close_to_float32(weights: Path, recognizer: Recognizer, videos: list[Path]) -> None:
    other = Recognizer.load(weights, device="cpu", views="3x3", precision="bfloat16")
    difference = np.abs(other(videos[0]).probabilities - recognizer(videos[0]).probabilities).max()
    assert 0 < difference < 0.1


def test_scores_that_are_no_numbers_are_an_error(model: DualFormer, videos: list[Path]) -> None:
    broken = create_model("dualformer_nano", clip=(4, 32, 32), num_classes=len(LABELS), seed=0)
    assert isinstance(broken.head, nn.Linear)
    with torch.no_grad():
        broken.head.bias[2] = torch.nan
    with pytest.raises(DualFormerError, match="not finite"):
        Recognizer(broken, card_of(broken), device="cpu")(videos[0])


def test_views_are_parsed_and_checked() -> None:
    assert Views.parse("4x3") == Views(4, 3)
    assert Views.parse(Views(2, 1)) == Views(2, 1)
    assert str(Views(4, 3)) == "4x3"
    assert Views(4, 3).count == 12
    for text in ("4", "4x", "x1", "4x2", "0x1", "4x1x1", "-4x1", "four"):
        with pytest.raises(ValueError, match="as in 4x1"):
            Views.parse(text)


def test_devices_are_named_as_pytorch_names_them() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    for name in ("gpu", "meta", "cuda:99"):
        with pytest.raises(ValueError, match=r"auto or cpu|computes nothing"):
            choose_device(name)


def test_every_decodable_shared_file_is_labelled(shared: Path, recognizer: Recognizer) -> None:
    paths = sorted(path for path in (shared / "videos").iterdir() if path.is_file())
    outcomes = dict(recognizer.many(paths))
    failed = {Path(path).name for path, outcome in outcomes.items() if isinstance(outcome, VideoError)}
    assert failed == {"audio_only.mp4", "corrupt_after_28_of_50.mp4", "truncated_no_moov.mp4", "zero_bytes.webm"}
    assert len(outcomes) == 17
