"""Small encoders of every kind, of random weights, saved to folders as the hub's are."""

import json
from pathlib import Path
from typing import Any

import torch

SMALL: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "image_size": 32,
}
NORMALISED = {"do_normalize": True, "image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.25, 0.3]}
CROPPED = {"size": {"shortest_edge": 40}, "do_center_crop": True, "crop_size": {"height": 32, "width": 32}}
SQUASHED = {"size": {"height": 32, "width": 32}, "do_center_crop": None}
RESCALED = {"do_rescale": True, "rescale_factor": 1 / 255}

KINDS: dict[str, tuple[str, str, dict[str, Any], dict[str, Any]]] = {
    "videomae": (
        "VideoMAEConfig",
        "VideoMAEModel",
        SMALL | {"patch_size": 8, "num_frames": 4, "tubelet_size": 2},
        CROPPED | NORMALISED | RESCALED,
    ),
    "vjepa2": (
        "VJEPA2Config",
        "VJEPA2Model",
        {
            "hidden_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "patch_size": 8,
            "crop_size": 32,
            "frames_per_clip": 4,
            "pred_hidden_size": 48,
            "pred_num_attention_heads": 2,
            "pred_num_hidden_layers": 1,
        },
        CROPPED | NORMALISED | RESCALED,
    ),
    "vivit": (
        "VivitConfig",
        "VivitModel",
        SMALL | {"num_frames": 4, "tubelet_size": [2, 8, 8]},
        CROPPED | NORMALISED | {"do_rescale": True, "rescale_factor": 1 / 127.5, "offset": True},
    ),
    "timesformer": (
        "TimesformerConfig",
        "TimesformerModel",
        SMALL | {"patch_size": 8, "num_frames": 4},
        CROPPED | NORMALISED | RESCALED,
    ),
    "videoprism_vision_model": (
        "VideoPrismVisionConfig",
        "VideoPrismVisionModel",
        SMALL | {"tubelet_size": [1, 8, 8], "num_frames": 4, "num_spatial_layers": 2, "num_temporal_layers": 1},
        SQUASHED | RESCALED | {"do_normalize": False},
    ),
    "siglip_vision_model": (
        "SiglipVisionConfig",
        "SiglipVisionModel",
        SMALL | {"patch_size": 8},
        SQUASHED | NORMALISED | RESCALED,
    ),
    "siglip2_vision_model": (
        "Siglip2VisionConfig",
        "Siglip2VisionModel",
        {key: value for key, value in SMALL.items() if key != "image_size"} | {"patch_size": 8, "num_patches": 16},
        {"max_num_patches": 16, "patch_size": 8} | NORMALISED | RESCALED,
    ),
    "dinov3_vit": (
        "DINOv3ViTConfig",
        "DINOv3ViTModel",
        SMALL | {"patch_size": 8, "num_register_tokens": 3},
        SQUASHED | NORMALISED | RESCALED,
    ),
    "dinov2": ("Dinov2Config", "Dinov2Model", SMALL | {"patch_size": 8}, CROPPED | NORMALISED | RESCALED),
    "dinov2_with_registers": (
        "Dinov2WithRegistersConfig",
        "Dinov2WithRegistersModel",
        SMALL | {"patch_size": 8, "num_register_tokens": 2},
        CROPPED | NORMALISED | RESCALED,
    ),
    "clip_vision_model": (
        "CLIPVisionConfig",
        "CLIPVisionModel",
        SMALL | {"patch_size": 8},
        CROPPED | NORMALISED | RESCALED,
    ),
}


def save_encoder(folder: Path, kind: str, *, processor: str = "preprocessor_config.json") -> Any:
    """Writes an encoder of a kind to ``folder`` and returns the model of ``transformers``, in eval mode."""
    import transformers

    config, model, settings, shown = KINDS[kind]
    torch.manual_seed(0)
    made = getattr(transformers, model)(getattr(transformers, config)(**settings)).eval()
    with torch.no_grad():
        for parameter in made.parameters():  # no weight that is zero or one, as those of a new network
            parameter.add_(0.1 * torch.randn_like(parameter))
    made.save_pretrained(folder)
    (folder / processor).write_text(json.dumps(shown))
    return made
