"""Convolution beside attention: a stem in place of patches, and C halves in place of attention (not in the paper).

They are meant for few videos: convolutions need not learn that neighbours belong together. Every convolution has an
odd kernel, zeros around the map, and BatchNorm behind it.
"""

from torch import Tensor, nn

from dualformer.model import tiles
from dualformer.model.block import DropPath
from dualformer.model.config import Convolution, Size3
from dualformer.model.kernels.channels_last import channels_last
from dualformer.model.kernels.dense_convolution import DenseConv3d
from dualformer.model.kernels.depthwise import DepthwiseConv3d
from dualformer.model.kernels.dispatch import computed_by


class ConvolutionalStem(nn.Module):
    """Makes tokens of overlapping patches: strided convolutions, a projection to the stage's channels and LayerNorm.

    The first convolution halves height and width where a patch has 4 pixels or more, the second takes what is left of
    the patch's stride; a patch of fewer pixels has the second alone.
    """

    def __init__(self, in_channels: int, channels: int, patch: Size3, *, in_time: bool) -> None:
        super().__init__()
        self.patch = patch
        width, layers = in_channels, []
        for step, stride in enumerate(stem_strides(patch)):
            kernel, wider = _kernel(stride, in_time), channels * 3 // 4 << step
            layers += [_conv_norm(width, wider, kernel, stride), nn.ReLU()]
            width = wider
        self.convs = nn.Sequential(*layers)
        self.proj = nn.Conv3d(width, channels, 1)
        self.norm = nn.LayerNorm(channels)

    @computed_by(tiles.convolve_clips, when=tiles.usable)
    def forward(self, x: Tensor) -> Tensor:
        """B C T H W → B T' H' W' C'; zeros surround the map, so that T' is T / stride rounded up."""
        return self.convolve(channels_last(x))

    def convolve(self, x: Tensor) -> Tensor:
        """B C T H W → B T' H' W' C', all clips at once."""
        return self.norm(self.proj(self.convs(x)).permute(0, 2, 3, 4, 1))


class ConvolutionSubBlock(nn.Module):
    """A C half: ``x += convolutions(x)``, each with BatchNorm behind it and ReLU between two.

    ``full`` is the residual block of ResNet, two convolutions of 3×3×3 taps. ``depthwise`` is the inverted residual of
    MobileNetV2: channels are expanded by ``ratio``, each is convolved alone, and they are projected back.
    """

    def __init__(self, channels: int, convolution: Convolution, *, ratio: int, in_time: bool, drop_path: float) -> None:
        super().__init__()
        kernel = _kernel((1, 1, 1), in_time)
        if convolution == "full":
            layers = [_conv_norm(channels, channels, kernel), nn.ReLU(), _conv_norm(channels, channels, kernel)]
        else:
            wide = ratio * channels
            each_alone = ConvNorm(DepthwiseConv3d(wide, kernel, padding=_half(kernel), bias=False))
            expand, project = _conv_norm(channels, wide, (1, 1, 1)), _conv_norm(wide, channels, (1, 1, 1))
            layers = [expand, nn.ReLU(), each_alone, nn.ReLU(), project]
        self.branch = nn.Sequential(*layers)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """B T H W C → B T H W C."""
        return x + self.drop_path(self.branch(x.permute(0, 4, 1, 2, 3)).permute(0, 2, 3, 4, 1))


class ConvNorm(nn.Module):
    """A convolution and the BatchNorm behind it, which `fold_layers` makes one."""

    def __init__(self, conv: nn.Conv3d) -> None:
        super().__init__()
        self.conv = conv
        self.norm: nn.Module = nn.BatchNorm3d(conv.out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """B C T H W → B C' T' H' W'."""
        return self.norm(self.conv(x))


def _conv_norm(width: int, wider: int, kernel: Size3, stride: Size3 = (1, 1, 1)) -> ConvNorm:
    return ConvNorm(DenseConv3d(width, wider, kernel, stride, padding=_half(kernel), bias=False))


def stem_strides(patch: Size3) -> list[Size3]:
    """Strides of the stem's convolutions; together they are the ``patch``."""
    t, h, w = patch
    first = (1, 2 if h % 4 == 0 else 1, 2 if w % 4 == 0 else 1)
    rest = (t, h // first[1], w // first[2])
    return [rest] if first == (1, 1, 1) else [first, rest]


def _kernel(stride: Size3, in_time: bool) -> Size3:
    """3 taps an axis, or as many as it takes to leave no pixel out; one in time where a clip has one frame."""
    t, h, w = (max(3, step | 1) for step in stride)
    return (t if in_time else 1, h, w)


def _half(kernel: Size3) -> Size3:
    t, h, w = (taps // 2 for taps in kernel)
    return t, h, w
