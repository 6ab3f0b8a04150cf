"""A stand-in for an encoder, whose answers are known: it sees where something moves to, and when."""

import torch
from torch import Tensor

from dualformer.encoders.frozen_encoder import Encoder
from dualformer.video.preprocessing import Preprocessing

PRE = Preprocessing(
    frames=4,
    stride=2,
    resize=32,
    crop=32,
    mean=(128.0, 128.0, 128.0),
    std=(64.0, 64.0, 64.0),
    sampling="segments",
)


class ScriptedEncoder(Encoder):
    """Features are the mean brightness of each column's part in time, so that motion to a side is a moving bump.

    ``calls`` counts clips; after ``fails_after`` of them it raises KeyboardInterrupt.
    """

    def __init__(self, *, width: int = 16, fails_after: int | None = None, digest: str = "scripted") -> None:
        super().__init__("scripted", digest=digest, preprocessing=PRE, grid=(4, 1, 1), width=width)
        self.calls, self.fails_after, self.most = 0, fails_after, 0

    def place(self, device: torch.device) -> None:
        assert device.type == "cpu"

    def __call__(self, clips: Tensor) -> Tensor:
        assert clips.dtype == torch.uint8 and clips.shape[1:] == (4, 32, 32, 3)
        self.calls += len(clips)
        self.most = max(self.most, len(clips))
        if self.fails_after is not None and self.calls > self.fails_after:
            raise KeyboardInterrupt
        grey = clips.float().mean(dim=(2, 4))  # n T W
        moved = (grey - grey.mean(dim=1, keepdim=True)).abs() / 32
        features = moved.unflatten(2, (self.width, -1)).mean(dim=3)
        return features[:, :, None, None, :]
