"""The names that `import dualformer` gives: training by keywords, and a recogniser that explains."""

from pathlib import Path

import numpy as np
import pytest

import dualformer
from dualformer.explain.explain_video import explain_video
from dualformer.inference import recognizer as inference
from dualformer.video.encode import write_video
from small_weights import save_small_weights


def test_train_takes_settings_as_keywords_or_a_config(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"train has no setting 'epoch'; did you mean .*epochs"):
        dualformer.train(data="videos", epoch=3)
    with pytest.raises(ValueError, match=r"no setting 'zzzzz'$"):
        dualformer.train(data="videos", zzzzz=3)
    with pytest.raises(FileNotFoundError, match="absent"):
        dualformer.train(data=str(tmp_path / "absent"), out=str(tmp_path / "run"))
    from dualformer.training.settings.train_config import TrainConfig

    config = TrainConfig(data=str(tmp_path / "absent"), out=str(tmp_path / "run"))
    with pytest.raises(FileNotFoundError, match="absent"):
        dualformer.train(config)
    with pytest.raises(ValueError, match="settings go into the config"):
        dualformer.train(config, epochs=3)


def test_a_recogniser_explains(tmp_path: Path) -> None:
    pytest.importorskip("captum", reason="the extra [explain] is not installed")
    save_small_weights(tmp_path / "nano.safetensors", ("a", "b", "c"))
    film = np.random.default_rng(0).integers(0, 256, (24, 48, 64, 3), dtype=np.uint8)
    write_video(tmp_path / "a.mp4", film, fps=25)
    recognizer = dualformer.Recognizer.load(tmp_path / "nano.safetensors", device="cpu")
    assert isinstance(recognizer, inference.Recognizer)
    explained = recognizer.explain(tmp_path / "a.mp4", label="b", method="gradcam")
    assert np.array_equal(explained.map, explain_video(recognizer, tmp_path / "a.mp4", label="b").map)
    assert explained.label == "b"


def test_every_name_of_the_package_is_there() -> None:
    for name in dualformer.__all__:
        assert getattr(dualformer, name) is not None
    assert callable(dualformer.train)
