"""Features on disk: of every clip, once, in a memory that does not depend on how many videos there are."""

import gc
import shutil
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scripted_encoder import PRE, ScriptedEncoder

from dualformer.datasets.per_video_files import video_key
from dualformer.datasets.samples import DatasetError, Sample
from dualformer.datasets.splits import Splits, open_splits
from dualformer.encoders.feature_store import (
    ENCODER,
    FeatureCard,
    Kind,
    StoredFeatures,
    WrittenFeatures,
    feature_file,
    write_features,
)
from dualformer.encoders.frozen_encoder import EncoderError
from dualformer.video.clip_reader import read_even_clips, read_views
from dualformer.video.sampling import even_clips


def write(encoder: ScriptedEncoder, splits: Splits, out: Path, **settings: Any) -> WrittenFeatures:
    return write_features(encoder, [*splits.train.samples, *splits.val.samples], out, controls=keys(splits), **settings)


def keys(splits: Splits) -> list[str]:
    return [video_key(sample) for sample in splits.val.samples]


def stored(out: Path, sample: Sample, kind: Kind = "clips") -> StoredFeatures:
    return StoredFeatures(feature_file(out, kind, sample))


def test_features_are_those_of_the_same_clips_and_of_clips_without_motion(splits: Splits, tmp_path: Path) -> None:
    encoder = ScriptedEncoder()
    written = write(encoder, splits, tmp_path, clips=3)
    assert (written.videos, written.found, written.bad) == (14, 0, [])
    assert encoder.calls == 3 * (10 + 4 * 3)  # videos to validate on three times
    for sample in (splits.train.samples[3], splits.val.samples[1]):
        views = read_views(sample.file, PRE, clips=3)
        expected = ScriptedEncoder()(views)
        found = stored(tmp_path, sample)
        assert torch.allclose(found.clips(), expected, atol=2e-3) and expected.std() > 0.1
        assert torch.equal(found.clip(1), found.clips()[1]) and found.clips().dtype == torch.float32
    sample = splits.val.samples[1]
    assert stored(tmp_path, sample, "still").clips().std(dim=1).max() == 0  # nothing moves
    shuffled = stored(tmp_path, sample, "shuffled").clips()
    orders = [order for order in permutations(range(4)) if order != (0, 1, 2, 3)]
    assert any(torch.allclose(ScriptedEncoder()(views[:, order]), shuffled, atol=2e-3) for order in orders)
    assert not feature_file(tmp_path, "still", splits.train.samples[0]).exists()


def test_clips_know_when_they_are(splits: Splits) -> None:
    pre = replace(PRE, sampling="stride")
    sample = splits.train.samples[0]
    clips, spans = read_even_clips(sample.file, pre, clips=3)
    assert clips.shape == (3, 4, 32, 32, 3)
    frame = 1 / 16
    assert spans.tolist() == pytest.approx(np.array([[0, 7], [5, 12], [9, 16]]) * frame, abs=1e-3)
    assert even_clips(np.arange(16) * frame, pre, 3)[:, 0].tolist() == [0, 5, 9]
    assert torch.equal(clips, read_views(sample.file, pre, clips=3))


def test_a_call_that_was_stopped_goes_on_and_a_second_one_computes_nothing(splits: Splits, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        write(ScriptedEncoder(fails_after=25), splits, tmp_path / "out")
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.safetensors")}
    assert len(kept) == 6 and not list((tmp_path / "out").rglob("*.tmp"))
    second = ScriptedEncoder()
    assert write(second, splits, tmp_path / "out", workers=1).found == 6
    assert second.calls == 4 * (4 + 4 * 3)
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in kept.items())
    whole = tmp_path / "whole"
    write(ScriptedEncoder(), splits, whole, at_once=1)
    for sample in splits.val.samples:
        for kind in ("clips", "still", "shuffled"):
            assert torch.equal(stored(tmp_path / "out", sample, kind).clips(), stored(whole, sample, kind).clips())
    third = ScriptedEncoder()
    assert write(third, splits, tmp_path / "out").found == 14 and third.calls == 0


def test_moved_data_is_found(splits: Splits, data: Path, tmp_path: Path) -> None:
    write(ScriptedEncoder(), splits, tmp_path / "out")
    moved = open_splits(shutil.copytree(data, tmp_path / "elsewhere"))
    encoder = ScriptedEncoder()
    assert write(encoder, moved, tmp_path / "out").found == 14 and encoder.calls == 0


def test_no_more_than_the_clips_of_a_video_are_held(splits: Splits, tmp_path: Path) -> None:
    held: list[int] = []

    class Counting(ScriptedEncoder):
        def __call__(self, clips: torch.Tensor) -> torch.Tensor:
            tensors = [one for one in gc.get_objects() if type(one) is torch.Tensor and one.dtype == torch.uint8]
            stores = {one.untyped_storage().data_ptr(): one.untyped_storage().nbytes() for one in tensors}
            held.append(sum(stores.values()))
            return super().__call__(clips)

    encoder = Counting()
    write(encoder, splits, tmp_path / "out", clips=5, at_once=2)
    assert encoder.most == 2
    of_a_video = 5 * 4 * 32 * 32 * 3
    assert of_a_video <= min(held) and max(held) <= held[0] + 2 * of_a_video


def test_other_features_are_not_mixed_in(splits: Splits, tmp_path: Path) -> None:
    write(ScriptedEncoder(), splits, tmp_path / "out")
    assert FeatureCard.read(tmp_path / "out").grid == (3, 1, 1)
    with pytest.raises(DatasetError, match=r"holds features with another encoder \(those of scripted\)"):
        write(ScriptedEncoder(digest="another"), splits, tmp_path / "out")
    with pytest.raises(DatasetError, match="with another number of clips"):
        write(ScriptedEncoder(), splits, tmp_path / "out", clips=2)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a").touch()
    with pytest.raises(ValueError, match="is not empty and holds no features"):
        write(ScriptedEncoder(), splits, tmp_path / "full")
    (tmp_path / "out" / ENCODER).write_text("{}")
    with pytest.raises(DatasetError, match="not features of this version"):
        write(ScriptedEncoder(), splits, tmp_path / "out")
    with pytest.raises(ValueError, match="must be 1 or more"):
        write(ScriptedEncoder(), splits, tmp_path / "new", clips=0)


def test_what_cannot_be_read_or_counted_is_said(splits: Splits, tmp_path: Path) -> None:
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"no video at all")
    samples = [Sample(path=bad, label=0), *splits.train.samples[:2]]
    written = write_features(ScriptedEncoder(), samples, tmp_path / "out")
    assert written.videos == 2 and [str(error).split(":")[0] for error in written.bad] == [str(bad)]
    path = feature_file(tmp_path / "out", "clips", samples[1])
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(DatasetError, match=r"stored features that cannot be read .*: delete the file and go on with"):
        StoredFeatures(path).clip(0)

    class Broken(ScriptedEncoder):
        def __call__(self, clips: torch.Tensor) -> torch.Tensor:
            return super().__call__(clips) / 0

    with pytest.raises(EncoderError, match="its features are no numbers"):
        write_features(Broken(), samples[1:], tmp_path / "broken")
