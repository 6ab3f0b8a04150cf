"""A stand-in for an encoder, whose answers are known: it sees where something is and where it moves to."""

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
    """Features are waves of the column in which the middle of what moves lies, and of how far it goes until the next
    frame.

    ``calls`` counts clips, ``most`` those of the largest call; after ``fails_after`` clips it raises KeyboardInterrupt.
    """

    def __init__(self, *, fails_after: int | None = None, digest: str = "scripted") -> None:
        super().__init__("scripted", digest=digest, preprocessing=PRE, grid=(3, 1, 1), width=16)
        self.calls, self.fails_after, self.most = 0, fails_after, 0
        self._waves = torch.randn(2, 16, generator=torch.Generator().manual_seed(0))

    def place(self, device: torch.device) -> None:
        assert device.type == "cpu"

    def __call__(self, clips: Tensor) -> Tensor:
        assert clips.dtype == torch.uint8 and clips.shape[1:] == (4, 32, 32, 3)
        self.calls += len(clips)
        self.most = max(self.most, len(clips))
        if self.fails_after is not None and self.calls > self.fails_after:
            raise KeyboardInterrupt
        grey = clips.float().mean(dim=4)
        moving = (grey - grey.median(dim=1, keepdim=True).values).abs().clamp_min(12) - 12 + 1e-3
        columns = moving.sum(dim=2)  # n T W
        middle = (columns * torch.linspace(-1, 1, 32)).sum(dim=2) / columns.sum(dim=2)
        known = torch.stack([middle[:, 1:], 4 * middle.diff(dim=1)], dim=-1)
        return torch.sin(known @ self._waves)[:, :, None, None]
