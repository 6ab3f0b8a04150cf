"""Video recognition with DualFormer, a transformer that reads a video by local windows and a global pyramid.

    import dualformer

    result = dualformer.train(data="videos")
    model = dualformer.create_model("dualformer_tiny", num_classes=400)
    model = dualformer.load_model("weights.safetensors")
    recognizer = dualformer.Recognizer.load("weights.safetensors")
    recognizer("clip.mp4").top(5)

Names are imported on first use: ``import dualformer`` by itself loads nothing, not even PyTorch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from dualformer._version import __version__
from dualformer.errors import DualFormerError

if TYPE_CHECKING:
    from dualformer.explain.explaining_recognizer import Recognizer
    from dualformer.inference.recognizer import Prediction
    from dualformer.model.config import Config
    from dualformer.model.network import DualFormer
    from dualformer.model.presets import create_model, list_models
    from dualformer.training.train import train
    from dualformer.video.preprocessing import Preprocessing
    from dualformer.weights.resize_clip import inflate
    from dualformer.weights.safetensors_file import load_model, save_weights

__all__ = [
    "Config",
    "DualFormer",
    "DualFormerError",
    "Prediction",
    "Preprocessing",
    "Recognizer",
    "__version__",
    "create_model",
    "inflate",
    "list_models",
    "load_model",
    "save_weights",
    "train",
]

_HOMES = {
    "Config": "dualformer.model.config",
    "DualFormer": "dualformer.model.network",
    "Prediction": "dualformer.inference.recognizer",
    "Preprocessing": "dualformer.video.preprocessing",
    "Recognizer": "dualformer.explain.explaining_recognizer",
    "create_model": "dualformer.model.presets",
    "inflate": "dualformer.weights.resize_clip",
    "list_models": "dualformer.model.presets",
    "load_model": "dualformer.weights.safetensors_file",
    "save_weights": "dualformer.weights.safetensors_file",
    "train": "dualformer.training.train",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'dualformer' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
