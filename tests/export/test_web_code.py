"""The page's own code against the package: which frames, which pixels, which labels; and the times in containers."""

import base64
import dataclasses
import itertools
import platform
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from web_code import run_page_code

from dualformer.datasets.rendered_draw import render
from dualformer.datasets.rendered_scene import ALL, Scene
from dualformer.inference.sliding_windows import FrameSampler
from dualformer.inference.view_classifier import Prediction
from dualformer.video.clip_reader import short_note
from dualformer.video.encode import write_video
from dualformer.video.frame_converter import FrameConverter
from dualformer.video.open_video import open_video
from dualformer.video.preprocessing import Preprocessing
from dualformer.video.sampling import even_clips
from dualformer.video.transforms import crop_views

MEAN, STD = (103.5, 116.4, 123.6), (58.0, 57.0, 57.0)


def preprocessing(**settings: Any) -> Preprocessing:
    return Preprocessing(**{"frames": 4, "resize": 40, "crop": 32, "mean": MEAN, "std": STD, **settings})


def test_clips_have_the_frames_that_predict_takes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    cases: list[tuple[np.ndarray, Preprocessing, int]] = []
    choices = itertools.product(
        (None, 7.5, 25.0),
        ("stride", "segments"),
        ("ends", "middles"),
        ("repeat", "loop"),
        (1, 3),
        (1, 2, 5),
        (1, 9, 60),
    )
    for fps, sampling, placement, short, stride, clips, count in choices:
        times = 1.5 + np.cumsum(rng.choice([0.04, 0.0334, 0.2], count))
        pre = preprocessing(
            stride=stride, fps=fps, sampling=sampling, placement=placement, short_video=short, frames=int(clips + 3)
        )
        cases.append((times, pre, clips))
    given = [[times.tolist(), dataclasses.asdict(pre), clips] for times, pre, clips in cases]
    made = run_page_code(
        ["sampling.js"], "return given.map(([times, pre, clips]) => evenClips(times, pre, clips));", given, tmp_path
    )
    for (times, pre, clips), numbers in zip(cases, made, strict=True):
        assert numbers == even_clips(times, pre, clips).tolist(), (pre, clips, len(times))


def test_videos_shorter_than_a_clip_get_the_note_of_predict(tmp_path: Path) -> None:
    choices = itertools.product((None, 7.5, 25.0), ("stride", "segments"), ("repeat", "loop"), (1, 3), (1, 2, 8, 22))
    cases = [
        (
            np.arange(count).astype(np.float64) / 25,
            preprocessing(stride=stride, fps=fps, sampling=sampling, short_video=short),
        )
        for fps, sampling, short, stride, count in choices
    ]
    given = [[times.tolist(), dataclasses.asdict(pre)] for times, pre in cases]
    made = run_page_code(["sampling.js"], "return given.map(([times, pre]) => shortNote(times, pre));", given, tmp_path)
    assert made == [short_note(times, pre) for times, pre in cases]
    assert 20 < made.count("") < 80


def test_pictures_become_the_views_that_the_package_cuts(tmp_path: Path) -> None:
    """To the last bit: PyTorch's resize of bytes is one of whole numbers."""
    rng = np.random.default_rng(1)
    sizes = [(40, 40), (48, 64), (97, 61), (33, 20), (480, 640), (20, 700), (361, 24), (40, 53)]
    cases = []
    for (height, width), antialias, mode in itertools.product(sizes, (True, False), ("center", "pad")):
        rough = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        cases.append((rough, preprocessing(antialias=antialias, crop_mode=mode), 3 if width > 60 else 1))
    given = [
        {
            "picture": base64.b64encode(np.dstack([rough, np.full_like(rough[..., :1], 255)]).tobytes()).decode(),
            "size": rough.shape[:2],
            "pre": dataclasses.asdict(pre),
            "crops": crops,
        }
        for rough, pre, crops in cases
    ]
    body = """return given.map(({ picture, size, pre, crops }) => viewsOfPicture(
        { height: size[0], width: size[1], data: new Uint8Array(Buffer.from(picture, 'base64')) }, pre, crops,
      ).map((view) => Buffer.from(view).toString('base64')));"""
    made = run_page_code(["sampling.js", "pixels.js"], body, given, tmp_path)
    for (rough, pre, crops), views in zip(cases, made, strict=True):
        ours = np.stack([np.frombuffer(base64.b64decode(view), np.uint8) for view in views])
        theirs = crop_views(torch.from_numpy(rough)[None], pre, crops)[:, 0].numpy()
        assert np.array_equal(ours.reshape(theirs.shape), theirs), (rough.shape, pre)


@pytest.mark.parametrize(("colorspace", "matrix"), [(1, "bt709"), (6, "smpte170m"), (5, "bt470bg")])
def test_planes_become_the_colours_that_the_package_decodes(tmp_path: Path, colorspace: int, matrix: str) -> None:
    """To the last bit on x86, whose FFmpeg cuts off; on others it may round."""
    rng = np.random.default_rng(3)
    frame = av.VideoFrame(64, 48, "yuv420p")
    frame.colorspace, frame.color_range = colorspace, 1
    for plane in frame.planes:
        plane.update(rng.bytes(plane.buffer_size))
    rgb = FrameConverter(tmp_path, (48, 64), lambda: (48, 64))(frame).numpy().astype(int)
    planes = [
        np.frombuffer(bytes(plane), np.uint8).reshape(-1, plane.line_size)[:, : plane.width] for plane in frame.planes
    ]
    mixed = np.stack(planes[1:], axis=-1)
    given = {
        "I420": (np.concatenate([plane.ravel() for plane in planes]), [(0, 64), (3072, 32), (3840, 32)]),
        "NV12": (np.concatenate([planes[0].ravel(), mixed.ravel()]), [(0, 64), (3072, 64)]),
    }
    asked = [
        {
            "bytes": base64.b64encode(values.tobytes()).decode(),
            "format": name,
            "layout": [{"offset": offset, "stride": stride} for offset, stride in layout],
            "width": 64,
            "height": 48,
            "matrix": matrix,
            "rotation": rotation,
        }
        for name, (values, layout) in given.items()
        for rotation in (0, 90, 180, 270)
    ]
    body = """return given.map((one) => pictureOfPlanes({ ...one, bytes: Buffer.from(one.bytes, 'base64') }))
      .map(({ data, width, height }) => [Buffer.from(data).toString('base64'), width, height]);"""
    for one, (data, width, height) in zip(asked, run_page_code(["colours.js"], body, asked, tmp_path), strict=True):
        found = np.frombuffer(base64.b64decode(data), np.uint8).reshape(height, width, 4)
        expected = np.rot90(rgb, -one["rotation"] // 90)
        assert found.shape[:2] == expected.shape[:2] and (found[..., 3] == 255).all()
        away = np.abs(found[..., :3].astype(int) - expected).max()
        assert away <= (0 if platform.machine() in ("x86_64", "AMD64") else 3)


@pytest.mark.parametrize("fps", [None, 10.0])
def test_a_camera_s_frames_are_sampled_as_a_stream_s(tmp_path: Path, fps: float | None) -> None:
    pre = preprocessing(frames=16, stride=2, fps=fps, resize=1, crop=1)
    times = np.cumsum(np.random.default_rng(2).uniform(0.01, 0.3, 62)).tolist()
    sampler = FrameSampler(pre)
    samples = [
        sample.views[0, 0, 0, 0].item()
        for number, seconds in enumerate(times)
        for sample in sampler.add(seconds, lambda number=number: torch.full((1, 1, 3), number, dtype=torch.uint8))
    ]
    body = """const newest = new NewestClip(given.pre, (number) => Uint8Array.of(number)); const clips = [];
      given.times.forEach((seconds, number) => { newest.add(seconds, number); const clip = newest.take();
        if (clip) clips.push([newest.passed, ...clip.map((view) => view[0])]); });
      return [...clips, newest.finish().map((view) => view[0])];"""
    *made, last = run_page_code(["sampling.js"], body, {"pre": dataclasses.asdict(pre), "times": times}, tmp_path)
    parts, made = [part for part, *_ in made], [clip for _, *clip in made]
    assert last == samples[-16:] if fps is None else last[-1] == 61
    [short] = run_page_code(["sampling.js"], body, {"pre": dataclasses.asdict(pre), "times": times[:1]}, tmp_path)
    assert short == 16 * [0]
    if fps is None:  # with a clock several samples may come at once, and the newest clip is taken
        assert made == [samples[at : at + 16] for at in range(0, len(samples) - 15, 2)]
        assert parts == [1] + [1 / 8] * (len(made) - 1)
    assert len(made) > 5
    places = [[samples[at : at + 16] for at in range(len(samples))].index(clip) for clip in made]
    assert parts[1:] == [step / 16 for step in np.diff(places)]


@pytest.mark.parametrize(
    ("multi_label", "thresholds"), [(False, ()), (True, ()), (True, (0.2, 0.9, 0.5, 0.5, 0.1, 0.6))]
)
def test_labels_are_those_of_a_prediction(tmp_path: Path, multi_label: bool, thresholds: tuple[float, ...]) -> None:
    logits = torch.tensor([0.5, 2.0, -1.0, -3.0, -2.0, 0.5])
    labels = tuple("abcdef")
    card = {"labels": labels, "multi_label": multi_label, "thresholds": thresholds}
    body = "return best(toProbabilities(given.logits, given.card.multi_label), given.card, 3);"
    made = run_page_code(["scores.js"], body, {"logits": logits.tolist(), "card": card}, tmp_path)
    probabilities = logits.sigmoid() if multi_label else logits.softmax(0)
    prediction = Prediction(
        labels=labels, probabilities=probabilities.numpy(), source="", multi_label=multi_label, thresholds=thresholds
    )
    assert [one["label"] for one in made if one["counts"]] == [label for label, _ in prediction.above()]
    assert [(one["label"], pytest.approx(one["probability"], abs=1e-6)) for one in made[:3]] == prediction.top(3)


def film(path: Path, times: list[int], *, codec: str, options: dict[str, str] | None = None, b_frames: int = 0) -> Path:
    """A film whose frames are shown at these milliseconds."""
    with av.open(str(path), "w", options=options or {}) as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        if b_frames:
            stream.codec_context.max_b_frames = b_frames
        stream.codec_context.gop_size = 6
        for number, shown in enumerate(times):
            frame = av.VideoFrame.from_ndarray(np.full((32, 48, 3), number * 9 % 256, np.uint8), format="rgb24")
            frame.pts, frame.time_base = shown, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def test_containers_say_when_frames_are_shown(tmp_path: Path) -> None:
    uneven = np.cumsum([0, 40, 40, 80, 33, 33, 34, 200, 40, 40, 40, 40, 7, 40, 33, 60]).tolist()
    scene = Scene(size=64, frames=16, classes=ALL)
    write_video(tmp_path / "written.mp4", render(scene, 0, (0, 0)).frames, fps=12.5)
    fragmented = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
    films = [
        tmp_path / "written.mp4",
        film(tmp_path / "b.mp4", uneven, codec="libx264", b_frames=3),
        film(tmp_path / "b.mov", uneven, codec="libx264", b_frames=3),
        film(tmp_path / "fragments.mp4", uneven, codec="libx264", options=fragmented, b_frames=2),
        film(tmp_path / "vp9.webm", uneven, codec="libvpx-vp9"),
        film(tmp_path / "vp8.mkv", uneven, codec="libvpx"),
        film(tmp_path / "live.webm", uneven, codec="libvpx-vp9", options={"live": "1"}),
    ]
    other = tmp_path / "other.avi"
    film(other, list(range(0, 400, 40)), codec="mpeg4")
    cut = tmp_path / "cut.mp4"
    cut.write_bytes((tmp_path / "b.mp4").read_bytes()[:-200])
    body = "return Promise.all(given.map(async (path) => frameTimes(new Blob([fs.readFileSync(path)]))));"
    made = run_page_code(["containers.js"], body, [str(path) for path in [*films, other, cut]], tmp_path)
    for path, found in zip(films, made, strict=False):
        with open_video(path, clock=True) as reader:
            times = np.asarray(reader.times)
        assert found["size"] == ([64, 64] if path.name == "written.mp4" else [48, 32])
        assert np.asarray(found["times"]) - found["times"][0] == pytest.approx(times - times[0], abs=1e-6), path.name
    assert made[len(films) :] == [None, None]


def test_a_camera_with_a_temporal_head_is_labelled_by_the_newer_half_of_a_clip(tmp_path: Path) -> None:
    steps = torch.randn(5, 3, generator=torch.Generator().manual_seed(0)) * 3
    given = {"logits": steps.mean(0).tolist(), "steps": steps.flatten().tolist()}
    body = "return newestProbabilities(given, false);"
    newer = run_page_code(["scores.js"], body, given, tmp_path)
    assert newer == pytest.approx(steps[2:].softmax(1).mean(0).tolist(), abs=1e-6)
    whole = run_page_code(["scores.js"], body, {**given, "steps": None}, tmp_path)
    assert whole == pytest.approx(steps.mean(0).softmax(0).tolist(), abs=1e-6)
